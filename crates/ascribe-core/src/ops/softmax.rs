//! Softmax and its logarithm.

use candle_core::Tensor;

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// `yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ}` along an axis, or its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Softmax {
    /// The axis along which the values sum to one.
    pub axis: usize,
    /// Whether to return logarithms.
    pub log: bool,
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Softmax
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        match x.get(self.axis) {
            Some(&side) if side > 0 => Ok(x.to_vec()),
            _ => Err(Error::invalid(
                "input",
                format!("has shape {x:?}"),
                format!("at least one value along axis {}", self.axis),
            )),
        }
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        Ok(match self.log {
            true => candle_nn::ops::log_softmax(x, self.axis)?,
            // One pass over each row instead of five over the tensor.
            false if self.axis + 1 == x.rank() => candle_nn::ops::softmax_last_dim(&x.contiguous()?)?,
            false => candle_nn::ops::softmax(x, self.axis)?,
        })
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let (y, grad) = (args.output, args.grad);
        let dx = if self.log {
            (grad - y.exp()?.broadcast_mul(&grad.sum_keepdim(self.axis)?)?)?
        } else {
            (y * grad.broadcast_sub(&(grad * y)?.sum_keepdim(self.axis)?)?)?
        };
        Ok(vec![Some(dx)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, distance, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn gradients(shape in prop::collection::vec(1_usize..5, 1..4), axis in 0_usize..3, log: bool, seed: u64) {
            let op = Softmax { axis: axis % shape.len(), log };
            check(&op, &[random(&shape, -3.0, 3.0, seed)], &[true], seed);
        }
    }

    #[test]
    fn large_values_do_not_overflow() {
        let x = Tensor::new(&[[1e3_f64, -1e3, 1e3]], &candle_core::Device::Cpu).unwrap();
        let y = Softmax { axis: 1, log: false }.forward(&[&x], Backend::Auto).unwrap();
        assert_eq!(y.to_vec2::<f64>().unwrap(), [[0.5, 0.0, 0.5]]);
        let y = Softmax { axis: 1, log: true }.forward(&[&x], Backend::Auto).unwrap();
        assert_eq!(y.to_vec2::<f64>().unwrap(), [[-f64::ln(2.0), -2000.0 - f64::ln(2.0), -f64::ln(2.0)]]);
    }

    #[test]
    fn logarithm_of_softmax_is_log_softmax() {
        let x = random(&[2, 3, 4], -2.0, 2.0, 1);
        let plain = Softmax { axis: 1, log: false }.forward(&[&x], Backend::Auto).unwrap();
        let log = Softmax { axis: 1, log: true }.forward(&[&x], Backend::Auto).unwrap();
        assert!(distance(&plain.log().unwrap(), &log) < 1e-14);
    }

    #[test]
    fn bad_axis_is_named() {
        let error = Softmax { axis: 2, log: false }.output_shape(&[&[2, 3]]).unwrap_err();
        assert!(error.to_string().contains("axis 2"), "{error}");
    }
}
