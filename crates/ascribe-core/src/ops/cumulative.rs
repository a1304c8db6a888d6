//! Running sums.

use candle_core::Tensor;

use super::fast;
use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Sums along an axis up to each position: `yᵢ = Σ_{j ≤ i} xⱼ`, in the shape of `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CumSum {
    /// The axis.
    pub axis: usize,
    /// Whether each sum leaves its own position out.
    pub exclusive: bool,
    /// Whether sums run from the end.
    pub reverse: bool,
}

impl CumSum {
    fn sums(&self, x: &Tensor, backend: Backend) -> Result<Tensor> {
        let x = fast::contiguous(x, backend)?;
        let len = x.dim(self.axis)?;
        let order = |i: usize| if self.reverse { len - 1 - i } else { i };
        fast::dispatch!(backend, [&x], T => {
            let inner: usize = x.dims()[self.axis + 1..].iter().product();
            let from = fast::slice::<T>(&x)?;
            let mut y = vec![<T as fast::Element>::zero_(); from.len()];
            for (from, to) in from.chunks(len * inner).zip(y.chunks_mut(len * inner)) {
                for k in 0..inner {
                    let mut sum = <T as fast::Element>::zero_();
                    for i in 0..len {
                        let at = order(i) * inner + k;
                        let next = sum + from[at];
                        to[at] = if self.exclusive { sum } else { next };
                        sum = next;
                    }
                }
            }
            return fast::tensor(y, x.dims());
        });
        let mut sum = x.narrow(self.axis, 0, 1)?.zeros_like()?;
        let mut parts = Vec::with_capacity(len);
        for i in 0..len {
            let next = (&sum + x.narrow(self.axis, order(i), 1)?)?;
            parts.push(if self.exclusive { sum } else { next.clone() });
            sum = next;
        }
        if self.reverse {
            parts.reverse();
        }
        Ok(Tensor::cat(&parts, self.axis)?)
    }
}

impl Operator for CumSum {
    fn name(&self) -> &'static str {
        "CumSum"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Sum
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        if x.get(self.axis).is_some_and(|&side| side > 0) && !x.contains(&0) {
            return Ok(x.to_vec());
        }
        let expected = format!("at least one value along axis {}", self.axis);
        Err(Error::invalid("input", format!("has shape {x:?}"), expected))
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        self.sums(input(inputs, 0)?, backend)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let back = Self { reverse: !self.reverse, ..*self };
        Ok(vec![Some(back.sums(args.grad, args.backend)?)])
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
            shape in prop::collection::vec(1_usize..5, 1..4),
            axis in 0_usize..4,
            exclusive: bool,
            reverse: bool,
            seed: u64,
        ) {
            let op = CumSum { axis: axis % shape.len(), exclusive, reverse };
            check(&op, &[random(&shape, -1.0, 1.0, seed)], &[true], seed);
        }
    }

    /// The examples of the ONNX specification.
    #[test]
    fn directions() {
        let x = Tensor::new(&[1.0, 2.0, 3.0], &Device::Cpu).unwrap();
        let integers = Tensor::new(&[1_i64, 2, 3], &Device::Cpu).unwrap();
        let cases = [
            (false, false, [1.0, 3.0, 6.0]),
            (true, false, [0.0, 1.0, 3.0]),
            (false, true, [6.0, 5.0, 3.0]),
            (true, true, [5.0, 3.0, 0.0]),
        ];
        for (exclusive, reverse, expected) in cases {
            let op = CumSum { axis: 0, exclusive, reverse };
            assert_eq!(op.forward(&[&x], Backend::Auto).unwrap().to_vec1::<f64>().unwrap(), expected);
            let whole = op.forward(&[&integers], Backend::Auto).unwrap().to_vec1::<i64>().unwrap();
            assert!(whole.iter().zip(expected).all(|(&a, b)| a as f64 == b));
        }
    }
}
