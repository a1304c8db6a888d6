//! Operators that move values without changing them.

use candle_core::Tensor;

use super::binary::{broadcast_shape, sum_to};
use super::fast;
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// One side of a [`Structure::Reshape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// This long.
    Fixed(usize),
    /// As long as this axis of the input.
    Same(usize),
    /// As long as needed to keep the number of values; at most once.
    Infer,
}

/// An operator that moves values.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// Returns its input. Dropout at inference is one, too.
    Identity,
    /// The same values in another shape.
    Reshape {
        /// The new shape.
        shape: Vec<Side>,
    },
    /// Two axes: the product of those before `axis`, and of the others.
    Flatten {
        /// First axis of the second part.
        axis: usize,
    },
    /// Reorders the axes: axis `i` of the output is axis `order[i]` of the input.
    Transpose {
        /// The order.
        order: Vec<usize>,
    },
    /// Joins all inputs along an axis. An input with one sample is repeated for every sample of the batch.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Takes every `step`-th value of an axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First index taken.
        start: usize,
        /// Number of values taken.
        len: usize,
        /// Distance between them; negative to walk backwards.
        step: isize,
    },
    /// Repeats axes of length 1 until the value has this shape, as numpy broadcasts.
    Expand {
        /// The shape to broadcast with; a side of 1 keeps the input's.
        shape: Vec<usize>,
    },
    /// Repeats the first input along axis 0, where it has length 1, for every sample of the second input.
    ExpandBatch,
    /// Repeats the whole value along each axis.
    Tile {
        /// Number of repeats per axis.
        repeats: Vec<usize>,
    },
}

impl Structure {
    fn new_shape(sides: &[Side], x: &[usize]) -> Result<Vec<usize>> {
        let total: usize = x.iter().product();
        let mut shape = Vec::with_capacity(sides.len());
        let mut open = None;
        for (i, side) in sides.iter().enumerate() {
            shape.push(match *side {
                Side::Fixed(n) => n,
                Side::Same(axis) => *x.get(axis).ok_or_else(|| {
                    Error::invalid("input", format!("has shape {x:?}"), format!("an axis {axis}"))
                })?,
                Side::Infer if open.is_some() => {
                    return Err(Error::invalid("shape", format!("{sides:?}"), "one side to infer at most"));
                }
                Side::Infer => {
                    open = Some(i);
                    1
                }
            });
        }
        let count = |shape: &[usize]| shape.iter().try_fold(1_usize, |n, &side| n.checked_mul(side));
        if let (Some(i), Some(known @ 1..)) = (open, count(&shape)) {
            shape[i] = total / known;
        }
        if count(&shape) == Some(total) {
            return Ok(shape);
        }
        Err(Error::invalid(
            "input",
            format!("has shape {x:?}, {total} values"),
            format!("a number of values that fits {sides:?}"),
        ))
    }

    fn indices(start: usize, len: usize, step: isize, like: &Tensor) -> Result<Tensor> {
        let indices: Vec<u32> =
            (0..len).map(|i| start.wrapping_add_signed(step.wrapping_mul(i as isize)) as u32).collect();
        Ok(Tensor::from_vec(indices, len, like.device())?)
    }

    /// The transpose of repeating: sums the repeats.
    fn untile(grad: &Tensor, shape: &[usize], repeats: &[usize]) -> Result<Tensor> {
        let mut grad = grad.clone();
        for (axis, (&len, &count)) in shape.iter().zip(repeats).enumerate() {
            let mut sum = grad.narrow(axis, 0, len)?;
            for i in 1..count {
                sum = (sum + grad.narrow(axis, i * len, len)?)?;
            }
            grad = sum;
        }
        Ok(grad)
    }

    /// The number of samples that a concatenation broadcasts its single-sample inputs to.
    fn concat_batch(axis: usize, inputs: &[&[usize]]) -> Option<usize> {
        let batch = inputs.iter().filter_map(|s| s.first().copied()).max()?;
        (axis != 0 && batch > 1).then_some(batch)
    }

    fn concat_shape(axis: usize, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let first = inputs.first().ok_or_else(|| Error::invalid("inputs", "none given", "at least one"))?;
        let mut shape = first.to_vec();
        if axis >= shape.len() {
            return Err(Error::invalid("axis", format!("{axis}"), format!("less than {}", shape.len())));
        }
        if let Some(batch) = Self::concat_batch(axis, inputs) {
            shape[0] = batch;
        }
        shape[axis] = 0;
        for other in inputs {
            let fits = other.len() == shape.len()
                && other
                    .iter()
                    .zip(&shape)
                    .enumerate()
                    .all(|(i, (&a, &b))| i == axis || a == b || (i == 0 && a == 1));
            if !fits {
                return Err(Error::invalid(
                    "inputs",
                    format!("have shapes {inputs:?}"),
                    format!("equal sides except along axis {axis}"),
                ));
            }
            shape[axis] += other[axis];
        }
        Ok(shape)
    }

    fn slice_check(axis: usize, start: usize, len: usize, step: isize, x: &[usize]) -> Result<()> {
        let side = x.get(axis).copied().unwrap_or(0) as i128;
        let last = start as i128 + step as i128 * (len as i128 - 1);
        if step != 0 && len > 0 && (start as i128) < side && (0..side).contains(&last) {
            return Ok(());
        }
        Err(Error::invalid(
            "input",
            format!("has shape {x:?}"),
            format!("axis {axis} to hold indices {start} to {last}"),
        ))
    }

    fn expanded(x: &[usize], batch: usize) -> Result<Vec<usize>> {
        match *x {
            [1, ref rest @ ..] => Ok([&[batch], rest].concat()),
            [n, ..] if n == batch => Ok(x.to_vec()),
            _ => Err(Error::invalid("input", format!("has shape {x:?}"), "a first axis of length 1")),
        }
    }
}

impl Operator for Structure {
    fn name(&self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Reshape { .. } => "Reshape",
            Self::Flatten { .. } => "Flatten",
            Self::Transpose { .. } => "Transpose",
            Self::Concat { .. } => "Concat",
            Self::Slice { .. } => "Slice",
            Self::Expand { .. } => "Expand",
            Self::ExpandBatch => "ExpandBatch",
            Self::Tile { .. } => "Tile",
        }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        match self {
            Self::Concat { .. } => Slot::Data,
            _ if slot == 0 => Slot::Data,
            _ => Slot::Other,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        if let Self::Concat { axis } = self {
            return Self::concat_shape(*axis, inputs);
        }
        if let Self::ExpandBatch = self {
            let [x, like] = shapes(inputs)?;
            return Self::expanded(x, like.first().copied().unwrap_or(1));
        }
        let [x] = shapes(inputs)?;
        match self {
            Self::Reshape { shape } => Self::new_shape(shape, x),
            Self::Flatten { axis } if *axis <= x.len() => {
                Ok(vec![x[..*axis].iter().product(), x[*axis..].iter().product()])
            }
            Self::Transpose { order } => {
                let mut seen = order.clone();
                seen.sort_unstable();
                if !seen.iter().copied().eq(0..x.len()) {
                    return Err(Error::invalid(
                        "order",
                        format!("{order:?}"),
                        format!("each of the {} axes of the input once", x.len()),
                    ));
                }
                Ok(order.iter().map(|&i| x[i]).collect())
            }
            Self::Slice { axis, start, len, step } => {
                Self::slice_check(*axis, *start, *len, *step, x)?;
                let mut shape = x.to_vec();
                shape[*axis] = *len;
                Ok(shape)
            }
            Self::Expand { shape } => broadcast_shape(x, shape),
            Self::Tile { repeats } if repeats.len() == x.len() => {
                let sides = x.iter().zip(repeats).map(|(a, b)| a.checked_mul(*b).filter(|_| *b > 0));
                sides.collect::<Option<Vec<usize>>>().ok_or_else(|| {
                    Error::invalid("repeats", format!("{repeats:?}"), "numbers from 1 on that fit memory")
                })
            }
            Self::Flatten { .. } | Self::Tile { .. } => Err(Error::invalid(
                "input",
                format!("has shape {x:?}"),
                format!("a number of axes that fits {self:?}"),
            )),
            _ => Ok(x.to_vec()),
        }
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.dims()).collect();
        Ok(match self {
            Self::Identity => x.clone(),
            Self::Reshape { .. } | Self::Flatten { .. } => x.reshape(self.output_shape(&shapes)?)?,
            Self::Transpose { order } => fast::contiguous(&x.permute(order.as_slice())?, backend)?,
            Self::Concat { axis } => {
                let batch = Self::concat_batch(*axis, &shapes);
                let parts: Result<Vec<Tensor>> = inputs
                    .iter()
                    .map(|t| match batch {
                        Some(n) if t.dim(0)? != n => {
                            Ok(t.broadcast_as(Self::expanded(t.dims(), n)?)?.contiguous()?)
                        }
                        _ => Ok((*t).clone()),
                    })
                    .collect();
                Tensor::cat(&parts?, *axis)?
            }
            Self::Slice { axis, start, len, step: 1 } => x.narrow(*axis, *start, *len)?.contiguous()?,
            Self::Slice { axis, start, len, step } => {
                x.contiguous()?.index_select(&Self::indices(*start, *len, *step, x)?, *axis)?
            }
            Self::Expand { .. } | Self::ExpandBatch => {
                x.broadcast_as(self.output_shape(&shapes)?)?.contiguous()?
            }
            Self::Tile { repeats } => x.repeat(repeats.as_slice())?,
        })
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, grad) = (args.input(0)?, args.grad);
        if let Self::Concat { axis } = self {
            let mut start = 0;
            return args
                .inputs
                .iter()
                .zip(args.needs)
                .map(|(x, &wanted)| {
                    let len = x.dim(*axis)?;
                    start += len;
                    if !wanted {
                        return Ok(None);
                    }
                    let own = grad.narrow(*axis, start - len, len)?;
                    Ok(Some(sum_to(&own, x.dims())?.contiguous()?))
                })
                .collect();
        }
        let mut grads = vec![None; args.inputs.len()];
        if !args.wants(0) {
            return Ok(grads);
        }
        grads[0] = Some(match self {
            Self::Identity | Self::Concat { .. } => grad.clone(),
            Self::Reshape { .. } | Self::Flatten { .. } => grad.reshape(x.shape())?,
            Self::Transpose { order } => {
                let mut inverse = vec![0; order.len()];
                for (i, &axis) in order.iter().enumerate() {
                    inverse[axis] = i;
                }
                fast::contiguous(&grad.permute(inverse)?, args.backend)?
            }
            Self::Slice { axis, start, len, step: 1 } if *len > 0 => {
                grad.pad_with_zeros(*axis, *start, x.dim(*axis)? - start - len)?
            }
            Self::Slice { axis, start, len, step } => {
                let indices = Self::indices(*start, *len, *step, grad)?;
                x.zeros_like()?.index_add(&indices, &grad.contiguous()?, *axis)?
            }
            Self::Expand { .. } | Self::ExpandBatch => sum_to(grad, x.dims())?,
            Self::Tile { repeats } => Self::untile(grad, x.dims(), repeats)?,
        });
        Ok(grads)
    }
}

#[cfg(test)]
mod tests;
