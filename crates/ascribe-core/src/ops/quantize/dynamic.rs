//! Quantisation whose scale follows from the values themselves.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::ops::pointwise::Pointwise;

/// Largest level of eight bits.
const LEVELS: f64 = 255.0;

/// Where the samples are in a value: an axis of length `outer · samples · inner`, in this order in memory.
///
/// A value `[samples, …]` has axis 0 and `outer = inner = 1`; a scalar is a single sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SampleAxis {
    /// The axis.
    pub axis: usize,
    /// Number of positions along the axis that come before the sample.
    pub outer: usize,
    /// Number of positions along the axis that come after the sample.
    pub inner: usize,
}

impl SampleAxis {
    /// A value of this shape as `[before, samples, after]`.
    fn view(&self, shape: &[usize]) -> Result<[usize; 3]> {
        let Some(&side) = shape.get(self.axis) else {
            return match shape {
                [] => Ok([1, 1, 1]),
                _ => Err(Error::invalid(
                    "input",
                    format!("has shape {shape:?}"),
                    format!("an axis {}", self.axis),
                )),
            };
        };
        let each = self.outer * self.inner;
        if each == 0 || !side.is_multiple_of(each) {
            let expected = format!("a multiple of {each} values along axis {}", self.axis);
            return Err(Error::invalid("input", format!("has shape {shape:?}"), expected));
        }
        let before: usize = shape[..self.axis].iter().product();
        let after: usize = shape[self.axis + 1..].iter().product();
        Ok([before * self.outer, side / each, self.inner * after])
    }

    /// The value as `[before, samples, after]`, with scale and zero point `[1, samples, 1]`.
    fn quantisation(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let [before, samples, after] = self.view(x.dims())?;
        let x = x.reshape((before, samples, after))?;
        let rows = x.transpose(0, 1)?.contiguous()?.reshape((samples, before * after))?;
        let zeros = Tensor::zeros((samples, 1), x.dtype(), x.device())?;
        let high = rows.max_keepdim(1)?.maximum(&zeros)?;
        let low = rows.min_keepdim(1)?.minimum(&zeros)?;
        let scale = ((&high - &low)? / LEVELS)?;
        let scale = high.eq(&low)?.where_cond(&scale.ones_like()?, &scale)?;
        let zero = low.div(&scale)?.neg()?.clamp(0.0, LEVELS)?;
        let zero = Pointwise::Round.forward(&[&zero], Backend::Portable)?;
        let shape = (1, samples, 1);
        Ok([x, scale.reshape(shape)?, zero.reshape(shape)?])
    }
}

/// Rounds each sample to 256 levels between its smallest and its largest value (both widened to include 0):
/// `y = (clamp(round(x / scale) + zero, 0, 255) − zero) · scale` with `scale = (max − min) / 255` and
/// `zero = round(−min / scale)`, as ONNX's `DynamicQuantizeLinear` quantises a batch of one. Halves are rounded to the
/// even integer.
///
/// The gradient passes unchanged (straight-through estimator): all values are within the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DynamicQuantize {
    /// Where the samples are.
    pub samples: SampleAxis,
}

/// The scale or the zero point of [`DynamicQuantize`], one for each sample: `[samples]`. No gradient passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DynamicLevels {
    /// Where the samples are.
    pub samples: SampleAxis,
    /// Whether to compute the zero point, otherwise the scale.
    pub zero_point: bool,
}

impl Operator for DynamicQuantize {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Activation
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        self.samples.view(x)?;
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let [values, scale, zero] = self.samples.quantisation(x)?;
        let ratio = values.broadcast_div(&scale)?;
        let level = Pointwise::Round.forward(&[&ratio], Backend::Portable)?.broadcast_add(&zero)?;
        let level = level.clamp(0.0, LEVELS)?;
        Ok(level.broadcast_sub(&zero)?.broadcast_mul(&scale)?.reshape(x.shape())?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![args.wants(0).then(|| args.grad.clone())])
    }
}

impl Operator for DynamicLevels {
    fn name(&self) -> &'static str {
        if self.zero_point { "DynamicZeroPoint" } else { "DynamicScale" }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Blocking
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        Ok(vec![self.samples.view(x)?[1]])
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let [_, scale, zero] = self.samples.quantisation(input(inputs, 0)?)?;
        Ok(if self.zero_point { zero } else { scale }.flatten_all()?)
    }

    fn vjp(&self, _: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![None])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::random;

    fn numbers(t: &Tensor) -> Vec<f64> {
        t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_example_of_the_specification() {
        let samples = SampleAxis { axis: 0, outer: 1, inner: 1 };
        // In single precision: −2.5 and 0.5 are halfway between levels.
        let x = Tensor::new(&[[0.0_f32, 2.0, -3.0, -2.5, 1.34, 0.5]], &Device::Cpu).unwrap();
        let of = |zero_point| DynamicLevels { samples, zero_point }.forward(&[&x], Backend::Auto).unwrap();
        let scale = numbers(&of(false))[0];
        assert!((scale - 5.0 / 255.0).abs() < 1e-8);
        assert_eq!(numbers(&of(true)), [153.0]);
        let y = DynamicQuantize { samples }.forward(&[&x], Backend::Auto).unwrap();
        let expected = [153.0, 255.0, 0.0, 26.0, 221.0, 179.0].map(|level| (level - 153.0) * scale);
        assert!(numbers(&y).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
        // A constant sample of zeros keeps a usable scale.
        let zeros = x.zeros_like().unwrap();
        let scale = DynamicLevels { samples, zero_point: false }.forward(&[&zeros], Backend::Auto).unwrap();
        assert_eq!(numbers(&scale), [1.0]);
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(32))]

        /// Wherever the samples are, each gives what it gives alone, and is at most half a level away.
        #[test]
        fn samples_do_not_mix(
            before in 1_usize..3, outer in 1_usize..3, count in 1_usize..4, inner in 1_usize..3, after in 1_usize..4,
            seed: u64,
        ) {
            let samples = SampleAxis { axis: 1, outer, inner };
            let x = random(&[before, outer * count * inner, after], -2.0, 3.0, seed);
            let y = DynamicQuantize { samples }.forward(&[&x], Backend::Auto).unwrap();
            let scale = DynamicLevels { samples, zero_point: false }.forward(&[&x], Backend::Auto).unwrap();
            let view = |t: &Tensor| t.reshape((before * outer, count, inner * after)).unwrap();
            for (i, scale) in numbers(&scale).into_iter().enumerate() {
                let own = |t: &Tensor| view(t).narrow(1, i, 1).unwrap().contiguous().unwrap();
                let alone = DynamicQuantize { samples: SampleAxis { axis: 1, outer: 1, inner: 1 } };
                let alone = alone.forward(&[&own(&x)], Backend::Auto).unwrap();
                prop_assert_eq!(numbers(&alone), numbers(&own(&y)));
                let far = numbers(&own(&x)).into_iter().zip(numbers(&alone)).any(|(a, b)| (a - b).abs() > scale * 0.5001);
                prop_assert!(!far);
            }
        }
    }
}
