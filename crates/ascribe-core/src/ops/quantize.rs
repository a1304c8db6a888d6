//! Rounding to the levels of a quantisation.

mod dynamic;

use candle_core::Tensor;

pub use self::dynamic::{DynamicLevels, DynamicQuantize, SampleAxis};
use super::binary::broadcast_shape;
use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use super::pointwise::Pointwise;
use crate::error::{Error, Result};

/// Quantises and de-quantises: inputs `x`, `scale` and `zero_point`, which broadcast to `x`;
/// `y = (clamp(round(x / scale) + zero_point, low, high) − zero_point) · scale`, where halves are rounded to the even
/// integer.
///
/// The gradient passes unchanged where the level is within the bounds (straight-through estimator), and is zero
/// elsewhere. Scale and zero point receive none.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FakeQuantize {
    /// Smallest level.
    pub low: f64,
    /// Largest level.
    pub high: f64,
}

impl FakeQuantize {
    /// The level before it is clamped.
    fn level(inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, scale, zero) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
        let ratio = x.broadcast_div(scale)?;
        Ok(Pointwise::Round.forward(&[&ratio], Backend::Portable)?.broadcast_add(zero)?)
    }
}

impl Operator for FakeQuantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Activation
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, scale, zero] = shapes(inputs)?;
        for (what, other) in [("scale", scale), ("zero point", zero)] {
            if broadcast_shape(x, other)? != x {
                let expected = format!("a shape that broadcasts to {x:?}");
                return Err(Error::invalid(what, format!("has shape {other:?}"), expected));
            }
        }
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let level = Self::level(inputs)?.clamp(self.low, self.high)?;
        Ok(level.broadcast_sub(input(inputs, 2)?)?.broadcast_mul(input(inputs, 1)?)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None, None, None]);
        }
        let level = Self::level(args.inputs)?;
        let inside = level.ge(self.low)?.minimum(&level.le(self.high)?)?;
        Ok(vec![Some(inside.where_cond(args.grad, &args.grad.zeros_like()?)?), None, None])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn levels_are_rounded_and_clamped_and_gradients_pass_inside() {
        let row = |values: &[f64]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
        let x = row(&[0.24, 0.25, 0.75, -0.9, 1.3, -3.0]);
        let (scale, zero) = (row(&[0.5]), row(&[1.0]));
        let op = FakeQuantize { low: 0.0, high: 3.0 };
        let inputs = [&x, &scale, &zero];
        assert_eq!(op.output_shape(&[&[1, 6], &[1, 1], &[1, 1]]).unwrap(), [1, 6]);
        // The levels are 1, 1 (½ rounds to 0), 3 (1½ rounds to 2), −1, 4 and −5 before they are clamped to 0 to 3.
        let y = op.forward(&inputs, Backend::Auto).unwrap();
        assert_eq!(y.to_vec2::<f64>().unwrap()[0], [0.0, 0.0, 1.0, -0.5, 1.0, -0.5]);
        let grad = row(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let args = Vjp {
            inputs: &inputs,
            output: &y,
            grad: &grad,
            needs: &[true, false, false],
            backend: Backend::Auto,
        };
        let dx = op.vjp(&args).unwrap().remove(0).unwrap();
        assert_eq!(dx.to_vec2::<f64>().unwrap()[0], [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn each_channel_can_have_its_own_scale() {
        let x = Tensor::new(&[[1.0, 1.0], [0.4, -0.4]], &Device::Cpu).unwrap();
        let scale = Tensor::new(&[[1.0, 0.3]], &Device::Cpu).unwrap();
        let y = FakeQuantize { low: -128.0, high: 127.0 }
            .forward(&[&x, &scale, &scale.zeros_like().unwrap()], Backend::Auto)
            .unwrap();
        let expected = [1.0, 0.3 * 3.0, 0.0, -0.3];
        let found = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
        let wide = FakeQuantize { low: 0.0, high: 1.0 }.output_shape(&[&[2, 1], &[1, 2], &[]]);
        assert!(wide.unwrap_err().to_string().contains("scale"));
    }
}
