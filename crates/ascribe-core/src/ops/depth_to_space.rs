//! Rearranging channels into space.

use candle_core::Tensor;

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Moves blocks of channels into space: `[N, C·b², H, W]` to `[N, C, H·b, W·b]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct DepthToSpace {
    /// Side `b` of a block.
    pub block: usize,
    /// How the input's channels count: as `(C, row, column)` if set (ONNX's mode `CRD`, PyTorch's
    /// `PixelShuffle`), as `(row, column, C)` if not (`DCR`, ONNX's default).
    pub column_row_first: bool,
}

impl DepthToSpace {
    /// The six axes that the input is split into, and the order that makes them the output's.
    fn split(self, [n, c, h, w]: [usize; 4]) -> ([usize; 6], [usize; 6]) {
        let b = self.block;
        let depth = c / (b * b);
        if self.column_row_first {
            ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3])
        } else {
            ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2])
        }
    }
}

fn four(shape: &[usize]) -> Result<[usize; 4]> {
    shape.try_into().map_err(|_| Error::invalid("input", format!("has shape {shape:?}"), "[N, C, H, W]"))
}

impl Operator for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        let [n, c, h, w] = four(x)?;
        let b = self.block;
        match b.checked_mul(b).filter(|&square| square > 0 && c % square == 0) {
            Some(square) => Ok(vec![n, c / square, h * b, w * b]),
            None => Err(Error::invalid(
                "input",
                format!("has {c} channels"),
                format!("a multiple of the squared block size {b}, which is at least 1"),
            )),
        }
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let (split, order) = self.split(four(x.dims())?);
        let shape = self.output_shape(&[x.dims()])?;
        Ok(x.reshape(split.as_slice())?.permute(order)?.contiguous()?.reshape(shape)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let (split, order) = self.split(four(x.dims())?);
        let mut inverse = [0; 6];
        order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        let grad = args.grad.reshape(order.map(|axis| split[axis]).as_slice())?;
        Ok(vec![Some(grad.permute(inverse)?.contiguous()?.reshape(x.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]
        #[test]
        fn derivatives(
            sides in (1_usize..3, 1_usize..4, 1_usize..4, 1_usize..4),
            block in 1_usize..4,
            column_row_first in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let (n, c, h, w) = sides;
            let x = random(&[n, c * block * block, h, w], -1.0, 1.0, seed);
            check(&DepthToSpace { block, column_row_first }, &[x], &[true], seed);
        }
    }

    fn rows(column_row_first: bool) -> Vec<f32> {
        let x = Tensor::arange(0.0_f32, 8.0, &Device::Cpu).unwrap().reshape((1, 8, 1, 1)).unwrap();
        let op = DepthToSpace { block: 2, column_row_first };
        op.forward(&[&x], Backend::Auto).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn orders_as_onnx_defines_them() {
        assert_eq!(rows(false), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(rows(true), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }

    #[test]
    fn channels_must_fill_blocks() {
        for block in [0, 3, usize::MAX] {
            let op = DepthToSpace { block, column_row_first: false };
            assert!(op.output_shape(&[&[1, 8, 2, 2]]).unwrap_err().to_string().contains("8 channels"));
        }
    }
}
