//! The inverse of maximum pooling.

use candle_core::{Shape, Tensor};

use super::{ScatterReduction, index_tensor, integers, resolve, sources, write};
use crate::error::{Error, Result};
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};

/// Puts values back to where a maximum pooling took them from: inputs `x [N, C, …]` and integers `index` of the same
/// shape; the output `[N, C, sides…]` is zero except at the places of the index, which count values of the whole output
/// in row-major order, as those of [`MaxPoolIndices`](super::super::MaxPoolIndices) do. Only the place within the plane
/// of a channel is used, so that samples do not mix. Of several values for one place the last one stays.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MaxUnpool {
    /// Sides of the output after the channels.
    pub sides: Vec<usize>,
}

impl MaxUnpool {
    fn positions(&self, index: &Tensor) -> Result<Vec<u32>> {
        let plane: usize = self.sides.iter().product();
        let own: usize = index.dims()[2..].iter().product();
        let place = |(i, at): (usize, i64)| {
            if at < 0 {
                resolve(at, 2, 0)?;
            }
            Ok((i / own.max(1) * plane + at as usize % plane.max(1)) as u32)
        };
        integers(index)?.into_iter().enumerate().map(place).collect()
    }
}

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, index] = shapes(inputs)?;
        if x.len() < 3 || x != index || self.sides.len() + 2 != x.len() || self.sides.contains(&0) {
            let problem = format!("have shapes {x:?} and {index:?} for the sides {:?}", self.sides);
            return Err(Error::invalid(
                "inputs",
                problem,
                "the same shape [N, C, …], with as many axes as sides",
            ));
        }
        Ok([&x[..2], &self.sides].concat())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (x, index) = (input(inputs, 0)?, input(inputs, 1)?);
        let shape = self.output_shape(&[x.dims(), index.dims()])?;
        let zeros = Tensor::zeros(Shape::from(shape), x.dtype(), x.device())?;
        write(&zeros, self.positions(index)?, x, ScatterReduction::Replace)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None, None]);
        }
        let (x, positions) = (args.input(0)?, self.positions(args.input(1)?)?);
        let grad = args.grad.contiguous()?.flatten_all()?;
        let count = grad.elem_count();
        let sources = index_tensor(sources(count, &positions), grad.device())?;
        let both = Tensor::zeros(count + positions.len(), grad.dtype(), grad.device())?;
        let both = both.index_add(&sources, &grad, 0)?.narrow(0, count, positions.len())?;
        Ok(vec![Some(both.contiguous()?.reshape(x.shape())?), None])
    }
}
