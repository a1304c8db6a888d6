//! Reductions over axes.

use ascribe_kernels::Float;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::fast;
use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// How a [`Reduce`] combines values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReduceFn {
    /// `Σ xᵢ`.
    Sum,
    /// `Σ xᵢ / n`.
    Mean,
    /// `max xᵢ`. Where several values tie, they share the gradient evenly, as in PyTorch's `amax`.
    Max,
    /// `min xᵢ`. Where several values tie, they share the gradient evenly, as in PyTorch's `amin`.
    Min,
    /// `√Σ xᵢ²`; derivative 0 at 0.
    L2,
    /// `Π xᵢ`.
    Prod,
    /// `ln Σ e^{xᵢ}`, without overflow; its derivative is the softmax.
    LogSumExp,
}

/// Reduces axes to one value each. Global average pooling of `[N, C, H, W]` is the mean over axes 2 and 3.
///
/// ```
/// use ascribe_core::ops::{Operator, Reduce, ReduceFn};
/// let pool = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true };
/// assert_eq!(pool.output_shape(&[&[1, 8, 7, 7]])?, [1, 8, 1, 1]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reduce {
    /// How values are combined.
    pub function: ReduceFn,
    /// The axes, each once, in any order. With none, every value is a group of its own.
    pub axes: Vec<usize>,
    /// Whether reduced axes stay, with length 1.
    pub keep: bool,
}

impl Reduce {
    /// The input's shape with reduced axes of length 1.
    fn kept(&self, x: &[usize]) -> Vec<usize> {
        x.iter().enumerate().map(|(i, &side)| if self.axes.contains(&i) { 1 } else { side }).collect()
    }

    /// Number of values that are reduced to one.
    fn group(&self, x: &[usize]) -> usize {
        self.axes.iter().filter_map(|&axis| x.get(axis)).product()
    }

    /// Whether the reduced axes are the last ones, so that each group is contiguous.
    fn is_suffix(&self, rank: usize) -> bool {
        (rank - self.axes.len()..rank).all(|axis| self.axes.contains(&axis))
    }

    /// `[groups, values]`: one group per row.
    fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let group = self.group(x.dims());
        if self.is_suffix(x.rank()) {
            return Ok(x.contiguous()?.reshape(((), group))?);
        }
        let (reduced, kept): (Vec<usize>, Vec<usize>) =
            (0..x.rank()).partition(|axis| self.axes.contains(axis));
        Ok(x.permute([kept, reduced].concat())?.contiguous()?.reshape(((), group))?)
    }

    /// The inverse of [`Reduce::rows`]: values in the shape of the input.
    fn unrows(&self, rows: &Tensor, shape: &[usize]) -> Result<Tensor> {
        if self.is_suffix(shape.len()) {
            return Ok(rows.reshape(shape)?);
        }
        let (reduced, kept): (Vec<usize>, Vec<usize>) =
            (0..shape.len()).partition(|axis| self.axes.contains(axis));
        let order = [kept, reduced].concat();
        let moved: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let mut inverse = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            inverse[from] = to;
        }
        Ok(rows.reshape(moved)?.permute(inverse)?.contiguous()?)
    }

    /// Repeats one value per group (axes kept) for every value of the group.
    fn spread(&self, values: &Tensor, shape: &[usize], backend: Backend) -> Result<Tensor> {
        if self.is_suffix(shape.len()) {
            let values = values.contiguous()?;
            fast::dispatch!(backend, [&values], T => {
                let values = fast::slice::<T>(&values)?;
                let group = self.group(shape);
                let mut all = vec![<T as fast::Element>::zero_(); values.len() * group];
                all.par_chunks_mut(group)
                    .zip(values.par_iter())
                    .with_min_len(rows_per_task(group))
                    .for_each(|(row, &value)| row.fill(value));
                return fast::tensor(all, shape);
            });
        }
        Ok(values.broadcast_as(shape)?.contiguous()?)
    }
}

/// Smallest number of rows per parallel task.
fn rows_per_task(len: usize) -> usize {
    const VALUES: usize = 16 * 1024;
    (VALUES / len.max(1)).max(1)
}

/// `Σ term(xᵢ)`, in f64 and in an order that depends on the length alone.
fn sum<T: Float>(x: &[T], term: impl Fn(f64) -> f64) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|v| term(v.to_f64())).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value.to_f64());
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// The extreme value; NaN if any value is NaN, as in PyTorch.
fn extreme<T: Float>(x: &[T], beats: impl Fn(T, T) -> bool) -> T {
    let first = x.first().copied().unwrap_or(T::ZERO);
    x.iter().fold(first, |best, &v| if beats(v, best) || v.is_nan() { v } else { best })
}

impl ReduceFn {
    fn of<T: Float>(self, x: &[T]) -> T {
        match self {
            Self::Sum => T::from_f64(sum(x, |v| v)),
            Self::Mean => T::from_f64(sum(x, |v| v) / x.len() as f64),
            Self::Max => extreme(x, |a, b| a > b),
            Self::Min => extreme(x, |a, b| a < b),
            Self::L2 => T::from_f64(sum(x, |v| v * v).sqrt()),
            Self::Prod => T::from_f64(x.iter().map(|v| v.to_f64()).product()),
            Self::LogSumExp => {
                let most = extreme(x, |a, b| a > b).to_f64();
                // Infinite and undefined maxima are the result.
                if most.is_finite() {
                    T::from_f64(most + sum(x, |v| (v - most).exp()).ln())
                } else {
                    T::from_f64(most)
                }
            }
        }
    }

    /// Reduces each row of a contiguous `[rows, values]`.
    fn of_rows(self, x: &Tensor, backend: Backend) -> Result<Tensor> {
        let (rows, len) = x.dims2()?;
        fast::dispatch!(backend, [x], T => {
            let x = fast::slice::<T>(x)?;
            let mut y = vec![<T as fast::Element>::zero_(); rows];
            y.par_iter_mut()
                .zip(x.par_chunks(len))
                .with_min_len(rows_per_task(len))
                .for_each(|(y, row)| *y = self.of(row));
            return fast::tensor(y, &[rows]);
        });
        Ok(match self {
            Self::Sum => x.sum(1)?,
            Self::Mean => (x.sum(1)? / len as f64)?,
            Self::Max => x.max(1)?,
            Self::Min => x.min(1)?,
            Self::L2 => x.sqr()?.sum(1)?.sqrt()?,
            Self::Prod => {
                let rows = host_rows(x)?;
                let products: Vec<f64> = rows.iter().map(|row| row.iter().product()).collect();
                Tensor::new(products, x.device())?.to_dtype(x.dtype())?
            }
            Self::LogSumExp => {
                let most = x.max_keepdim(1)?;
                let finite = (most.abs()?.lt(f64::INFINITY))?;
                let shift = finite.where_cond(&most, &most.zeros_like()?)?;
                let sum = (x.broadcast_sub(&shift)?.exp()?.sum_keepdim(1)?.log()? + shift)?;
                finite.where_cond(&sum, &most)?.squeeze(1)?
            }
        })
    }
}

/// The rows of a matrix, on the CPU.
fn host_rows(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?)
}

/// For each value of a row, the product of the others.
fn products_of_others(row: &[f64]) -> Vec<f64> {
    let mut products = vec![1.0; row.len()];
    let (mut before, mut after) = (1.0, 1.0);
    for i in 0..row.len() {
        let j = row.len() - 1 - i;
        products[i] *= before;
        products[j] *= after;
        before *= row[i];
        after *= row[j];
    }
    products
}

/// Sum over axes, which stay with length 1.
pub(crate) fn sum_over(x: &Tensor, axes: &[usize], backend: Backend) -> Result<Tensor> {
    Reduce { function: ReduceFn::Sum, axes: axes.to_vec(), keep: true }.forward(&[x], backend)
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        match self.function {
            ReduceFn::Sum => "ReduceSum",
            ReduceFn::Mean => "ReduceMean",
            ReduceFn::Max => "ReduceMax",
            ReduceFn::Min => "ReduceMin",
            ReduceFn::L2 => "ReduceL2",
            ReduceFn::Prod => "ReduceProd",
            ReduceFn::LogSumExp => "ReduceLogSumExp",
        }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        match self.function {
            ReduceFn::Sum => Kind::Sum,
            ReduceFn::Mean => Kind::Average,
            ReduceFn::Max | ReduceFn::Min => Kind::MaxPool,
            ReduceFn::L2 => Kind::Normalisation,
            ReduceFn::Prod => Kind::Product,
            ReduceFn::LogSumExp => Kind::Softmax,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        for (i, axis) in self.axes.iter().enumerate() {
            if *axis >= x.len() || self.axes[..i].contains(axis) {
                return Err(Error::invalid(
                    "axes",
                    format!("{:?}", self.axes),
                    format!("axes below {}, each at most once, for an input {x:?}", x.len()),
                ));
            }
        }
        if x.contains(&0) {
            return Err(Error::invalid("input", format!("has shape {x:?}, no values"), "at least one value"));
        }
        if self.keep {
            return Ok(self.kept(x));
        }
        Ok(x.iter().enumerate().filter(|(i, _)| !self.axes.contains(i)).map(|(_, &side)| side).collect())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        if x.dtype().is_int() && !matches!(self.function, ReduceFn::Sum | ReduceFn::Max | ReduceFn::Min) {
            return Err(Error::invalid("input", format!("holds {:?}", x.dtype()), "floating point"));
        }
        let y = self.function.of_rows(&self.rows(x)?, backend)?;
        Ok(y.reshape(self.output_shape(&[x.dims()])?)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let kept = self.kept(x.dims());
        let (y, grad) = (args.output.reshape(kept.as_slice())?, args.grad.reshape(kept.as_slice())?);
        let dx = match self.function {
            ReduceFn::Sum => self.spread(&grad, x.dims(), args.backend)?,
            ReduceFn::Mean => self.spread(&(grad / self.group(x.dims()) as f64)?, x.dims(), args.backend)?,
            ReduceFn::Max | ReduceFn::Min => {
                let chosen = x.broadcast_eq(&y)?.to_dtype(x.dtype())?;
                let ties = sum_over(&chosen, &self.axes, args.backend)?;
                chosen.broadcast_mul(&(grad / ties)?)?
            }
            ReduceFn::L2 => {
                let zeros = y.zeros_like()?;
                let scale = y.ne(0.0)?.where_cond(&(&grad / &y)?, &zeros)?;
                x.broadcast_mul(&scale)?
            }
            ReduceFn::Prod => {
                let others: Vec<f64> =
                    host_rows(&self.rows(x)?)?.iter().flat_map(|row| products_of_others(row)).collect();
                let others = Tensor::new(others, x.device())?.to_dtype(x.dtype())?;
                self.unrows(&others, x.dims())?.broadcast_mul(&grad)?
            }
            ReduceFn::LogSumExp => {
                let share = x.broadcast_sub(&y)?.exp()?;
                // Where all values are −∞, the result does not change with any of them.
                let empty = y.eq(f64::NEG_INFINITY)?.broadcast_as(x.shape())?;
                empty.where_cond(&x.zeros_like()?, &share)?.broadcast_mul(&grad)?
            }
        };
        Ok(vec![Some(dx)])
    }
}

#[cfg(test)]
mod tests;
