//! Arithmetic on two tensors with broadcasting.

use candle_core::{DType, Tensor};

use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
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
    /// `aᵇ`.
    Pow,
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
    if grad.dims() == shape {
        return Ok(grad.clone());
    }
    let extra = grad.rank() - shape.len();
    let axes: Vec<usize> =
        (0..grad.rank()).filter(|&i| i < extra || (shape[i - extra] == 1 && grad.dims()[i] != 1)).collect();
    Ok(grad.sum_keepdim(axes)?.reshape(shape)?)
}

/// 1 where the condition holds, 0.5 where both are equal, in the type of `a`.
fn preference(a: &Tensor, b: &Tensor, max: bool) -> Result<Tensor> {
    let (a, b) = (a.broadcast_as(broadcast_shape(a.dims(), b.dims())?)?, b);
    let dtype = a.dtype();
    let strict = if max { a.broadcast_gt(b)? } else { a.broadcast_lt(b)? }.to_dtype(dtype)?;
    let tie = a.broadcast_eq(b)?.to_dtype(dtype)?;
    Ok((strict + (tie * 0.5)?)?)
}

impl Binary {
    fn apply(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Add => a.broadcast_add(b)?,
            Self::Sub => a.broadcast_sub(b)?,
            Self::Mul => a.broadcast_mul(b)?,
            Self::Div => a.broadcast_div(b)?,
            Self::Max => a.broadcast_maximum(b)?,
            Self::Min => a.broadcast_minimum(b)?,
            Self::Pow => a.broadcast_pow(b)?,
        })
    }

    /// Gradient for the first operand, in the shape of the output.
    fn grad_a(self, a: &Tensor, b: &Tensor, grad: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Add | Self::Sub => grad.clone(),
            Self::Mul => grad.broadcast_mul(b)?,
            Self::Div => grad.broadcast_div(b)?,
            Self::Max | Self::Min => (grad * preference(a, b, self == Self::Max)?)?,
            Self::Pow => {
                let power = a.broadcast_pow(&(b - 1.0)?)?;
                (grad * power.broadcast_mul(b)?)?
            }
        })
    }

    /// Gradient for the second operand, in the shape of the output.
    fn grad_b(self, a: &Tensor, b: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Add => grad.clone(),
            Self::Sub => grad.neg()?,
            Self::Mul => grad.broadcast_mul(a)?,
            Self::Div => (grad * output)?.broadcast_div(b)?.neg()?,
            Self::Max | Self::Min => {
                let shape = output.dims();
                (grad * preference(&b.broadcast_as(shape)?, a, self == Self::Max)?)?
            }
            Self::Pow => (grad * output.broadcast_mul(&a.log()?)?)?,
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
        }
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        match (self, dynamic) {
            (Self::Add | Self::Sub, [true, true]) => Kind::Sum,
            (Self::Mul | Self::Div | Self::Pow, [true, true]) => Kind::Product,
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

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (a, b) = (input(inputs, 0)?, input(inputs, 1)?);
        if a.dtype() != b.dtype() {
            return Err(Error::invalid(
                "inputs",
                format!("are {:?} and {:?}", a.dtype(), b.dtype()),
                "the same data type",
            ));
        }
        // Candle has no integer power; exponents of integer graphs are folded by the loaders.
        if *self == Self::Pow && !matches!(a.dtype(), DType::F32 | DType::F64) {
            return Err(Error::invalid("inputs", format!("are {:?}", a.dtype()), "floating point"));
        }
        self.apply(a, b)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (a, b) = (args.input(0)?, args.input(1)?);
        let da = if args.wants(0) { Some(sum_to(&self.grad_a(a, b, args.grad)?, a.dims())?) } else { None };
        let db = if args.wants(1) {
            Some(sum_to(&self.grad_b(a, b, args.output, args.grad)?, b.dims())?)
        } else {
            None
        };
        Ok(vec![da, db])
    }
}
