//! The rectifier with a learned slope.

use candle_core::Tensor;

use super::binary::{broadcast_shape, sum_to};
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// `x` where positive, `slope · x` elsewhere (He 2015): inputs `x` and `slope`, which broadcasts to the shape of
/// `x` as in numpy (one slope per channel of an image is `[C, 1, 1]`). The derivative at 0 is `slope`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PRelu;

impl Operator for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        match dynamic {
            [_, true, ..] => Kind::Product,
            _ => Kind::Activation,
        }
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        [Slot::Data, Slot::Weight].get(slot).copied().unwrap_or(Slot::Other)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, slope] = shapes(inputs)?;
        if broadcast_shape(x, slope).is_ok_and(|shape| shape == x) {
            return Ok(x.to_vec());
        }
        Err(Error::invalid(
            "slope",
            format!("has shape {slope:?}"),
            format!("one that broadcasts to the input's {x:?}"),
        ))
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (x, slope) = (input(inputs, 0)?, input(inputs, 1)?);
        Ok(x.gt(0.0)?.where_cond(x, &x.broadcast_mul(slope)?)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, slope) = (args.input(0)?, args.input(1)?);
        let positive = x.gt(0.0)?;
        let dx = if args.wants(0) {
            Some(positive.where_cond(args.grad, &args.grad.broadcast_mul(slope)?)?)
        } else {
            None
        };
        let dslope = if args.wants(1) {
            let own = positive.where_cond(&x.zeros_like()?, &(args.grad * x)?)?;
            Some(sum_to(&own, slope.dims())?)
        } else {
            None
        };
        Ok(vec![dx, dslope])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]

        #[test]
        fn gradients(n in 1_usize..3, c in 1_usize..4, side in 1_usize..4, form in 0_usize..4, seed: u64) {
            let slope: &[usize] = match form {
                0 => &[c, 1, 1],
                1 => &[1, c, side, 1],
                2 => &[1],
                _ => &[],
            };
            // Away from the kink, where there is no derivative.
            let x = random(&[n, c, side, 2], -1.0, 1.0, seed);
            let x = (&x + (x.sign().unwrap() * 0.01).unwrap()).unwrap();
            check(&PRelu, &[x, random(slope, -1.0, 1.0, seed ^ 1)], &[true, true], seed);
        }
    }

    #[test]
    fn slope_holds_at_zero() {
        let x = Tensor::new(&[[0.0_f64, -2.0, 3.0]], &candle_core::Device::Cpu).unwrap();
        let slope = Tensor::new(&[0.25_f64], x.device()).unwrap();
        let output = PRelu.forward(&[&x, &slope], Backend::Auto).unwrap();
        assert_eq!(output.to_vec2::<f64>().unwrap(), [[0.0, -0.5, 3.0]]);
        let args = Vjp {
            inputs: &[&x, &slope],
            output: &output,
            grad: &x.ones_like().unwrap(),
            needs: &[true, true],
            backend: Backend::Auto,
        };
        let grads = PRelu.vjp(&args).unwrap();
        assert_eq!(grads[0].as_ref().unwrap().to_vec2::<f64>().unwrap(), [[0.25, 0.25, 1.0]]);
        assert_eq!(grads[1].as_ref().unwrap().to_vec1::<f64>().unwrap(), [-2.0]);
    }

    #[test]
    fn slope_may_not_enlarge_the_input() {
        let error = PRelu.output_shape(&[&[2, 1, 4], &[3, 1]]).unwrap_err();
        assert!(error.to_string().contains("slope"), "{error}");
    }
}
