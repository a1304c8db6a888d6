//! Arithmetic on two tensors with broadcasting.

use ascribe_kernels::Float;
use candle_core::{DType, Device, Tensor};

use super::broadcast::zip;
use super::fast;
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use super::reduce::sum_over;
use crate::error::{Error, Result};

/// A function of two tensors, element by element, with broadcasting as in numpy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
    /// `max(a, b)`; where both are equal, each takes half of the gradient.
    Max,
    /// `min(a, b)`; where both are equal, each takes half of the gradient.
    Min,
    /// `aᵇ`; NaN for negative `a` unless `b` is an integer.
    Pow,
    /// Remainder `a − b ⌊a/b⌋`, with the sign of `b`, as in Python. Its derivative is 1 for `a` and `−⌊a/b⌋` for `b`.
    Mod,
    /// Remainder `a − b trunc(a/b)`, with the sign of `a`, as in C.
    Remainder,
}

/// The shape that two shapes broadcast to.
///
/// # Errors
/// If two sides differ and neither is 1.
pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let side = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (side(a, i), side(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::invalid(
                "inputs",
                format!("have shapes {a:?} and {b:?}"),
                "sides that are equal or 1, aligned at the last axis",
            )),
        })
        .collect()
}

/// Sums a gradient over the axes that broadcasting added: the transpose of broadcasting.
pub(crate) fn sum_to(grad: &Tensor, shape: &[usize]) -> Result<Tensor> {
    sum_to_with(grad, shape, Backend::Portable)
}

/// As [`sum_to`], by the kernels where they apply.
fn sum_to_with(grad: &Tensor, shape: &[usize], backend: Backend) -> Result<Tensor> {
    if grad.dims() == shape {
        return Ok(grad.clone());
    }
    let extra = grad.rank() - shape.len();
    let axes: Vec<usize> =
        (0..grad.rank()).filter(|&i| i < extra || (shape[i - extra] == 1 && grad.dims()[i] != 1)).collect();
    Ok(sum_over(grad, &axes, backend)?.reshape(shape)?)
}

/// 1 where `a` is the one chosen, ½ where both are equal.
fn preference(a: &Tensor, b: &Tensor, max: bool) -> Result<Tensor> {
    let (a, b) = (a.broadcast_as(broadcast_shape(a.dims(), b.dims())?)?, b);
    let dtype = a.dtype();
    let strict = if max { a.broadcast_gt(b)? } else { a.broadcast_lt(b)? }.to_dtype(dtype)?;
    let tie = a.broadcast_eq(b)?.to_dtype(dtype)?;
    Ok((strict + (tie * 0.5)?)?)
}

/// `aᵇ` by candle operations, also for `a ≤ 0`, where candle's own is not defined.
fn power(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shape(a.dims(), b.dims())?;
    let (a, b) = (a.broadcast_as(shape.as_slice())?, b.broadcast_as(shape.as_slice())?);
    let dtype = a.dtype();
    let size = (&b * a.abs()?.log()?)?.exp()?;
    let half = (&b * 0.5)?;
    let is = |condition: Tensor| Ok::<_, Error>(condition.to_dtype(dtype)?);
    let odd = is(half.floor()?.ne(&half)?)?;
    let sign = ((is(a.lt(0.0)?)? * odd)? * -2.0)?;
    let y = (size * (sign + 1.0)?)?;
    let undefined = (a.lt(0.0)? * b.floor()?.ne(&b)?)?;
    let nan = Tensor::full(f64::NAN, shape, a.device())?.to_dtype(dtype)?;
    let y = undefined.where_cond(&nan, &y)?;
    Ok(b.eq(0.0)?.where_cond(&y.ones_like()?, &y)?)
}

fn pow<T: Float>(a: T, b: T) -> T {
    T::from_f64(a.to_f64().powf(b.to_f64()))
}

/// The remainder with the sign of the divisor.
fn floored(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
}

/// A function of two numbers by itself, on the CPU; the result is on the device of `a`.
fn on_host(a: &Tensor, b: &Tensor, f: impl Fn(f64, f64) -> f64) -> Result<Tensor> {
    let shape = broadcast_shape(a.dims(), b.dims())?;
    let numbers = |t: &Tensor| -> Result<Vec<f64>> {
        let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.broadcast_as(shape.as_slice())?;
        Ok(t.flatten_all()?.to_vec1()?)
    };
    let values: Vec<f64> = numbers(a)?.into_iter().zip(numbers(b)?).map(|(a, b)| f(a, b)).collect();
    let y = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?;
    Ok(y.to_dtype(a.dtype())?.to_device(a.device())?)
}

impl Binary {
    fn apply(self, a: &Tensor, b: &Tensor, backend: Backend) -> Result<Tensor> {
        fast::dispatch!(backend, [a, b], T => {
            return match self {
                Self::Add => zip::<T>(a, b, |a, b| a + b),
                Self::Sub => zip::<T>(a, b, |a, b| a - b),
                Self::Mul => zip::<T>(a, b, |a, b| a * b),
                Self::Div => zip::<T>(a, b, |a, b| a / b),
                Self::Max => zip::<T>(a, b, |a, b| if a < b { b } else { a }),
                Self::Min => zip::<T>(a, b, |a, b| if a > b { b } else { a }),
                Self::Pow => zip::<T>(a, b, pow),
                Self::Mod => zip::<T>(a, b, |a, b| T::from_f64(floored(a.to_f64(), b.to_f64()))),
                Self::Remainder => zip::<T>(a, b, |a, b| T::from_f64(a.to_f64() % b.to_f64())),
            };
        });
        Ok(match self {
            Self::Add => a.broadcast_add(b)?,
            Self::Sub => a.broadcast_sub(b)?,
            Self::Mul => a.broadcast_mul(b)?,
            Self::Div => a.broadcast_div(b)?,
            Self::Max => a.broadcast_maximum(b)?,
            Self::Min => a.broadcast_minimum(b)?,
            Self::Pow => power(a, b)?,
            Self::Mod => on_host(a, b, floored)?,
            Self::Remainder => on_host(a, b, |a, b| a % b)?,
        })
    }

    /// The function of integers: wraps on overflow, and division rounds towards zero. These are sizes and indices;
    /// candle would panic on a division by zero.
    fn of_integers(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let shape = broadcast_shape(a.dims(), b.dims())?;
        let numbers = |t: &Tensor| -> Result<Vec<i64>> {
            let t = t.to_dtype(DType::I64)?.broadcast_as(shape.as_slice())?;
            Ok(t.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
        };
        let of = |(a, b): (i64, i64)| match self {
            Self::Add => Ok(a.wrapping_add(b)),
            Self::Sub => Ok(a.wrapping_sub(b)),
            Self::Mul => Ok(a.wrapping_mul(b)),
            Self::Div | Self::Mod | Self::Remainder if b == 0 => {
                Err(Error::invalid("divisor", "is 0", "another integer"))
            }
            Self::Remainder => Ok(a.wrapping_rem(b)),
            Self::Mod => {
                let r = a.wrapping_rem(b);
                Ok(if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r })
            }
            Self::Div => Ok(a.wrapping_div(b)),
            Self::Max => Ok(a.max(b)),
            Self::Min => Ok(a.min(b)),
            Self::Pow => match u32::try_from(b) {
                Ok(b) => Ok(a.wrapping_pow(b)),
                Err(_) => {
                    Err(Error::invalid("exponent", format!("{b} of an integer"), "at least 0 and below 2³²"))
                }
            },
        };
        let values: Result<Vec<i64>> = numbers(a)?.into_iter().zip(numbers(b)?).map(of).collect();
        Ok(Tensor::from_vec(values?, shape.as_slice(), a.device())?.to_dtype(a.dtype())?)
    }

    /// Gradient for the first operand, in the shape of the output.
    fn grad_a(self, a: &Tensor, b: &Tensor, grad: &Tensor, backend: Backend) -> Result<Tensor> {
        Ok(match self {
            Self::Add | Self::Sub | Self::Mod | Self::Remainder => grad.clone(),
            Self::Mul => Self::Mul.apply(grad, b, backend)?,
            Self::Div => Self::Div.apply(grad, b, backend)?,
            Self::Max | Self::Min => (grad * preference(a, b, self == Self::Max)?)?,
            Self::Pow => {
                let slope = Self::Mul.apply(&Self::Pow.apply(a, &(b - 1.0)?, backend)?, b, backend)?;
                let flat = b.eq(0.0)?.broadcast_as(slope.shape())?;
                (grad * flat.where_cond(&slope.zeros_like()?, &slope)?)?
            }
        })
    }

    /// Gradient for the second operand, in the shape of the output.
    fn grad_b(
        self,
        a: &Tensor,
        b: &Tensor,
        output: &Tensor,
        grad: &Tensor,
        backend: Backend,
    ) -> Result<Tensor> {
        Ok(match self {
            Self::Add => grad.clone(),
            Self::Sub => grad.neg()?,
            Self::Mul => Self::Mul.apply(grad, a, backend)?,
            Self::Div => Self::Div.apply(&(grad * output)?, b, backend)?.neg()?,
            Self::Mod => (grad * on_host(a, b, |a, b| -((a - floored(a, b)) / b).round())?)?,
            Self::Remainder => (grad * on_host(a, b, |a, b| -(a / b).trunc())?)?,
            Self::Max | Self::Min => {
                let shape = output.dims();
                (grad * preference(&b.broadcast_as(shape)?, a, self == Self::Max)?)?
            }
            Self::Pow => {
                let slope = output.broadcast_mul(&a.log()?)?;
                // 0ᵇ is 0 on both sides of every positive b.
                let flat =
                    (a.eq(0.0)?.broadcast_as(slope.shape())? * b.ge(0.0)?.broadcast_as(slope.shape())?)?;
                (grad * flat.where_cond(&slope.zeros_like()?, &slope)?)?
            }
        })
    }
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Pow => "Pow",
            Self::Mod | Self::Remainder => "Mod",
        }
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        match (self, dynamic) {
            (Self::Add | Self::Sub, [true, true]) => Kind::Sum,
            (Self::Mul | Self::Div | Self::Pow | Self::Mod | Self::Remainder, [true, true]) => Kind::Product,
            (Self::Max | Self::Min, [true, true]) => Kind::MaxPool,
            (Self::Add | Self::Sub | Self::Mul, _) | (Self::Div, [true, false]) => Kind::Affine,
            _ => Kind::Activation,
        }
    }

    fn slot(&self, slot: usize, dynamic: &[bool]) -> Slot {
        if dynamic.get(slot).copied().unwrap_or(false) {
            return Slot::Data;
        }
        match self {
            Self::Add | Self::Sub => Slot::Bias,
            Self::Mul => Slot::Weight,
            // Modifying the sign of a divisor is not the same as modifying the weight 1/divisor.
            _ => Slot::Other,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [a, b] = shapes(inputs)?;
        broadcast_shape(a, b)
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (a, b) = (input(inputs, 0)?, input(inputs, 1)?);
        if a.dtype() != b.dtype() {
            return Err(Error::invalid(
                "inputs",
                format!("are {:?} and {:?}", a.dtype(), b.dtype()),
                "the same data type",
            ));
        }
        if a.dtype().is_int() { self.of_integers(a, b) } else { self.apply(a, b, backend) }
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (a, b, backend) = (args.input(0)?, args.input(1)?, args.backend);
        let da = if args.wants(0) {
            Some(sum_to_with(&self.grad_a(a, b, args.grad, backend)?, a.dims(), backend)?)
        } else {
            None
        };
        let db = if args.wants(1) {
            Some(sum_to_with(&self.grad_b(a, b, args.output, args.grad, backend)?, b.dims(), backend)?)
        } else {
            None
        };
        Ok(vec![da, db])
    }
}

#[cfg(test)]
mod tests;
