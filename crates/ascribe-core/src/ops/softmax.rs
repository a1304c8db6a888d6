//! Softmax and its logarithm.

use ascribe_kernels::Float;
use candle_core::Tensor;
use rayon::prelude::*;

use super::fast::{self, Element};
use super::lanes::{largest, sum_pairs};
use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use super::single;
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

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        if !self.log && self.axis + 1 == x.rank() {
            let x = fast::contiguous(x, backend)?;
            fast::dispatch!(backend, [&x], T => { return rows::<T>(&x); });
        }
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
        if !self.log && self.axis + 1 == y.rank() {
            let (y, grad) = (y.contiguous()?, grad.contiguous()?);
            fast::dispatch!(args.backend, [&y, &grad], T => { return Ok(vec![Some(rows_grad::<T>(&y, &grad)?)]); });
        }
        let dx = if self.log {
            (grad - y.exp()?.broadcast_mul(&grad.sum_keepdim(self.axis)?)?)?
        } else {
            (y * grad.broadcast_sub(&(grad * y)?.sum_keepdim(self.axis)?)?)?
        };
        // Where the gradient is zero so is the result, also if all values are masked and the softmax is not defined.
        let asked = grad.ne(0.0)?.max_keepdim(self.axis)?.broadcast_as(dx.shape())?;
        Ok(vec![Some(asked.where_cond(&dx, &dx.zeros_like()?)?)])
    }
}

/// The exponential of an element type.
trait Exponential: Element {
    fn exponential(self) -> Self;
}

impl Exponential for f32 {
    #[inline]
    fn exponential(self) -> Self {
        single::exp(self)
    }
}

impl Exponential for f64 {
    #[inline]
    fn exponential(self) -> Self {
        self.exp()
    }
}

/// Smallest number of values per parallel task.
const TASK: usize = 8 * 1024;

/// Softmax along the last axis.
fn rows<T: Exponential>(x: &Tensor) -> Result<Tensor> {
    let values = fast::slice::<T>(x)?;
    let (values, len): (&[T], usize) = (&values, x.dims()[x.rank() - 1]);
    let mut y = vec![T::zero_(); values.len()];
    let rows = y.par_chunks_mut(len).zip(values.par_chunks(len));
    rows.with_min_len(TASK.div_ceil(len)).for_each(|(y, x)| {
        let most = largest(x);
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - most).exponential());
        let inverse = <T as Float>::from_f64(1.0) / sum_pairs(y, y, |y, _| y);
        for y in y {
            *y *= inverse;
        }
    });
    fast::tensor(y, x.dims())
}

/// `dx = y (g − Σ g y)` along the last axis; zero where `g` is, also if all values are masked and `y` is not defined.
fn rows_grad<T: Element>(y: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (values, grads) = (fast::slice::<T>(y)?, fast::slice::<T>(grad)?);
    let (values, grads, len): (&[T], &[T], usize) = (&values, &grads, y.dims()[y.rank() - 1]);
    let mut dx = vec![T::zero_(); values.len()];
    let rows = dx.par_chunks_mut(len).zip(values.par_chunks(len)).zip(grads.par_chunks(len));
    rows.with_min_len(TASK.div_ceil(len)).for_each(|((dx, y), g)| {
        let along = sum_pairs(g, y, |g, y| g * y);
        if <T as Float>::to_f64(along).is_nan() && g.iter().all(|&g| g == T::zero_()) {
            return;
        }
        dx.iter_mut().zip(y.iter().zip(g)).for_each(|(dx, (&y, &g))| *dx = y * (g - along));
    });
    fast::tensor(dx, y.dims())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, distance, random};

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]

        #[test]
        fn gradients(shape in prop::collection::vec(1_usize..5, 1..4), axis in 0_usize..3, log: bool, seed: u64) {
            let op = Softmax { axis: axis % shape.len(), log };
            check(&op, &[random(&shape, -3.0, 3.0, seed)], &[true], seed);
        }
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(256))]

        #[test]
        fn kernels_agree_with_the_portable_path(rows in 1_usize..40, len in 1_usize..300, scale in 0.1_f64..30.0, seed: u64) {
            let op = Softmax { axis: 1, log: false };
            let (x, grad) = (random(&[rows, len], -scale, scale, seed), random(&[rows, len], -1.0, 1.0, seed ^ 1));
            let run = |dtype, backend| {
                let (x, grad) = (x.to_dtype(dtype).unwrap(), grad.to_dtype(dtype).unwrap());
                let y = op.forward(&[&x], backend).unwrap();
                let args = Vjp { inputs: &[&x], output: &y, grad: &grad, needs: &[true], backend };
                let dx = op.vjp(&args).unwrap().remove(0).unwrap();
                [y, dx].map(|t| t.to_dtype(DType::F64).unwrap())
            };
            let exact = run(DType::F64, Backend::Portable);
            for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 3e-6)] {
                for (found, exact) in run(dtype, Backend::Auto).iter().zip(&exact) {
                    prop_assert!(distance(found, exact) < tolerance, "{dtype:?}: {}", distance(found, exact));
                }
            }
        }
    }

    /// Attention that masks a whole row is not defined there; networks replace the result, so that nothing is asked of it.
    #[test]
    fn rows_that_are_masked_altogether_get_no_gradient() {
        let low = f64::NEG_INFINITY;
        let x = Tensor::new(&[[low, low], [0.0, 0.0]], &candle_core::Device::Cpu).unwrap();
        let grad = Tensor::new(&[[0.0, 0.0], [1.0, 0.0]], &candle_core::Device::Cpu).unwrap();
        for (log, expected) in [(false, [0.25, -0.25]), (true, [0.5, -0.5])] {
            let op = Softmax { axis: 1, log };
            for backend in [Backend::Auto, Backend::Portable] {
                let y = op.forward(&[&x], backend).unwrap();
                let args = Vjp { inputs: &[&x], output: &y, grad: &grad, needs: &[true], backend };
                let dx = op.vjp(&args).unwrap().remove(0).unwrap().to_vec2::<f64>().unwrap();
                assert_eq!(dx[0], [0.0, 0.0], "{backend:?}");
                assert!(dx[1].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{dx:?}");
            }
        }
    }

    #[test]
    fn masked_places_get_nothing() {
        let x = Tensor::new(&[[f32::NEG_INFINITY, 1.0, 1.0]], &candle_core::Device::Cpu).unwrap();
        let y = Softmax { axis: 1, log: false }.forward(&[&x], Backend::Auto).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.0, 0.5, 0.5]]);
        let x = Tensor::new(&[[f32::NAN, 1.0]], &candle_core::Device::Cpu).unwrap();
        let y = Softmax { axis: 1, log: false }.forward(&[&x], Backend::Auto).unwrap();
        assert!(y.to_vec2::<f32>().unwrap()[0].iter().all(|v| v.is_nan()), "NaN stays NaN");
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
