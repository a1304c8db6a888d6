//! Values and vector-Jacobian products by kernels, on the CPU: one pass over memory, on all threads.
//!
//! Rectifiers and the like in both precisions; functions of the exponential in f32 only, with the
//! approximations of [`super::super::single`], which compilers turn into vector code.

// Vector code needs everything inside the loop.
#![allow(clippy::inline_always)]

use ascribe_kernels as kernels;
use candle_core::{DType, Tensor};

use super::Pointwise;
use crate::error::Result;
use crate::ops::fast::{self, Element};
use crate::ops::operator::{Backend, Vjp};
use crate::ops::single;

/// `f(x)`, or `None` where there is no kernel.
pub(super) fn value(op: Pointwise, x: &Tensor, backend: Backend) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    fast::dispatch!(backend, [&x], T => {
        if let Some(y) = rectified::<T>(op, &x)? {
            return Ok(Some(y));
        }
    });
    if fast::kernel_dtype(backend, &[&x]) != Some(DType::F32) {
        return Ok(None);
    }
    Ok(Some(match op {
        Pointwise::Sigmoid => map(&x, single::sigmoid)?,
        Pointwise::Tanh => map(&x, single::tanh)?,
        Pointwise::Silu => map(&x, |x| x * single::sigmoid(x))?,
        Pointwise::Gelu => map(&x, |x| x * single::normal_cdf(x))?,
        Pointwise::GeluTanh => map(&x, |x| x * gelu_tanh_gate(x))?,
        Pointwise::Mish => map(&x, |x| x * tanh_softplus(x))?,
        _ => return Ok(None),
    }))
}

/// `grad · f′(x)`, or `None` where there is no kernel.
pub(super) fn product(op: Pointwise, x: &Tensor, args: &Vjp<'_>) -> Result<Option<Tensor>> {
    let (x, y, grad) = (x.contiguous()?, args.output.contiguous()?, args.grad.contiguous()?);
    fast::dispatch!(args.backend, [&x, &y, &grad], T => {
        if let Some(dx) = rectified_product::<T>(op, &x, &y, &grad)? {
            return Ok(Some(dx));
        }
    });
    if fast::kernel_dtype(args.backend, &[&x, &y, &grad]) != Some(DType::F32) {
        return Ok(None);
    }
    Ok(Some(match op {
        Pointwise::Sigmoid => zip(&y, &grad, |y, g: f32| g * y * (1.0 - y))?,
        Pointwise::Tanh => zip(&y, &grad, |y, g: f32| g * (1.0 - y * y))?,
        Pointwise::Silu => zip(&x, &grad, |x, g: f32| {
            let s = single::sigmoid(x);
            g * s * (1.0 + x * (1.0 - s))
        })?,
        Pointwise::Gelu => {
            zip(&x, &grad, |x, g: f32| g * (single::normal_cdf(x) + x * single::normal_density(x)))?
        }
        Pointwise::GeluTanh => zip(&x, &grad, |x, g: f32| {
            let gate = gelu_tanh_gate(x);
            let slope = single::SQRT_8_OVER_PI * (1.0 + 3.0 * single::GELU_CUBIC * x * x);
            g * (gate + x * gate * (1.0 - gate) * slope)
        })?,
        Pointwise::Mish => zip(&x, &grad, |x, g: f32| {
            let t = tanh_softplus(x);
            g * (t + x * (1.0 - t * t) * single::sigmoid(x))
        })?,
        _ => return Ok(None),
    }))
}

/// `½ (1 + tanh u)` as `σ(2u)`, which loses nothing where the hyperbolic tangent is near −1.
#[inline(always)]
fn gelu_tanh_gate(x: f32) -> f32 {
    single::sigmoid(single::SQRT_8_OVER_PI * (x + single::GELU_CUBIC * x * x * x))
}

/// `tanh(ln(1 + eˣ)) = w / (w + 2)` with `w = eˣ (eˣ + 2)`.
#[inline(always)]
fn tanh_softplus(x: f32) -> f32 {
    // Beyond 20 the result is 1 to the last bit.
    let e = single::exp(if x > 20.0 { 20.0 } else { x });
    let w = e * (e + 2.0);
    w / (w + 2.0)
}

fn map<T: Element>(x: &Tensor, f: impl Fn(T) -> T + Sync) -> Result<Tensor> {
    let values = fast::slice::<T>(x)?;
    let mut y = vec![T::zero_(); values.len()];
    kernels::map(&values, &mut y, f)?;
    fast::tensor(y, x.dims())
}

fn zip<T: Element>(a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> T + Sync) -> Result<Tensor> {
    let (left, right) = (fast::slice::<T>(a)?, fast::slice::<T>(b)?);
    let mut y = vec![T::zero_(); left.len()];
    kernels::zip_map(&left, &right, &mut y, f)?;
    fast::tensor(y, a.dims())
}

/// The bounds of a clip in type `T`.
fn bounds<T: Element>(low: Option<f64>, high: Option<f64>) -> (T, T) {
    let infinity = -T::NEG_INFINITY;
    (low.map_or(T::NEG_INFINITY, kernels::Float::from_f64), high.map_or(infinity, kernels::Float::from_f64))
}

fn rectified<T: Element>(op: Pointwise, x: &Tensor) -> Result<Option<Tensor>> {
    let number = |v: f64| <T as kernels::Float>::from_f64(v);
    let (zero, one) = (T::ZERO, T::ONE);
    let unit = move |v: T| clamp(v, zero, one);
    Ok(Some(match op {
        Pointwise::Relu => map::<T>(x, move |x| if x < zero { zero } else { x })?,
        Pointwise::Clip { low, high } => {
            let (low, high) = bounds::<T>(low, high);
            map::<T>(x, move |x| clamp(x, low, high))?
        }
        Pointwise::LeakyRelu { slope } => {
            let slope = number(slope);
            map::<T>(x, move |x| if x > zero { x } else { slope * x })?
        }
        Pointwise::HardSigmoid { alpha, beta } => {
            let (alpha, beta) = (number(alpha), number(beta));
            map::<T>(x, move |x| unit(alpha * x + beta))?
        }
        Pointwise::HardSwish => {
            let (sixth, half) = (number(1.0 / 6.0), number(0.5));
            map::<T>(x, move |x| x * unit(x * sixth + half))?
        }
        Pointwise::Neg => map::<T>(x, |x| -x)?,
        Pointwise::Abs => map::<T>(x, move |x| if x < zero { -x } else { x })?,
        Pointwise::Pow { exponent: 2.0 } => map::<T>(x, |x| x * x)?,
        _ => return Ok(None),
    }))
}

#[inline(always)]
fn clamp<T: Element>(x: T, low: T, high: T) -> T {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

fn rectified_product<T: Element>(
    op: Pointwise,
    x: &Tensor,
    y: &Tensor,
    grad: &Tensor,
) -> Result<Option<Tensor>> {
    let number = |v: f64| <T as kernels::Float>::from_f64(v);
    let (zero, one, half) = (T::ZERO, T::ONE, number(0.5));
    Ok(Some(match op {
        Pointwise::Relu => zip::<T>(y, grad, move |y, g| if y > zero { g } else { zero })?,
        Pointwise::Clip { low, high } => {
            let (low, high) = bounds::<T>(low, high);
            zip::<T>(x, grad, move |x, g| if x > low && x < high { g } else { zero })?
        }
        Pointwise::LeakyRelu { slope } => {
            let slope = number(slope);
            zip::<T>(x, grad, move |x, g| if x > zero { g } else { slope * g })?
        }
        Pointwise::HardSigmoid { alpha, .. } => {
            let alpha = number(alpha);
            zip::<T>(y, grad, move |y, g| if y > zero && y < one { alpha * g } else { zero })?
        }
        Pointwise::HardSwish => {
            let (sixth, third) = (number(1.0 / 6.0), number(1.0 / 3.0));
            zip::<T>(x, grad, move |x, g| {
                let gate = x * sixth + half;
                let slope = if gate < one { x * third + half } else { one };
                if gate > zero { g * slope } else { zero }
            })?
        }
        Pointwise::Neg => map::<T>(grad, |g| -g)?,
        Pointwise::Pow { exponent: 2.0 } => zip::<T>(x, grad, move |x, g| g * (x + x))?,
        _ => return Ok(None),
    }))
}
