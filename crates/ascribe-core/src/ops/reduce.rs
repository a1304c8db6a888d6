//! Reductions over axes.

use ascribe_kernels::Float;
use candle_core::Tensor;
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
        })
    }
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
        }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        match self.function {
            ReduceFn::Sum => Kind::Sum,
            ReduceFn::Mean => Kind::Average,
            ReduceFn::Max | ReduceFn::Min => Kind::MaxPool,
            ReduceFn::L2 => Kind::Normalisation,
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
        if x.dtype().is_int() && matches!(self.function, ReduceFn::Mean | ReduceFn::L2) {
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
        };
        Ok(vec![Some(dx)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    const ALL: [ReduceFn; 5] = [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min, ReduceFn::L2];

    proptest! {
        #![proptest_config(ascribe_proptest::config(48))]
        #[test]
        fn derivatives(
            shape in prop::collection::vec(1_usize..5, 1..5),
            mask in any::<u8>(),
            keep in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let axes: Vec<usize> = (0..shape.len()).filter(|i| mask >> i & 1 == 1).rev().collect();
            for function in ALL {
                check(&Reduce { function, axes: axes.clone(), keep }, &[random(&shape, 0.1, 2.0, seed)], &[true], seed);
            }
        }
    }

    fn gradient(function: ReduceFn, values: &[f64]) -> Vec<f64> {
        let op = Reduce { function, axes: vec![1], keep: false };
        let x = Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
        let y = op.forward(&[&x], Backend::Auto).unwrap();
        let grad = y.ones_like().unwrap();
        let args = Vjp { inputs: &[&x], output: &y, grad: &grad, needs: &[true], backend: Backend::Auto };
        op.vjp(&args).unwrap()[0].clone().unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn ties_share_the_gradient() {
        assert_eq!(gradient(ReduceFn::Max, &[1.0, 3.0, 3.0]), [0.0, 0.5, 0.5]);
        assert_eq!(gradient(ReduceFn::Min, &[1.0, 3.0, 1.0]), [0.5, 0.0, 0.5]);
    }

    #[test]
    fn the_norm_has_gradient_zero_at_zero() {
        assert_eq!(gradient(ReduceFn::L2, &[0.0, 0.0]), [0.0, 0.0]);
        let unit = gradient(ReduceFn::L2, &[3.0, 4.0]);
        assert!((unit[0] - 0.6).abs() < 1e-15 && (unit[1] - 0.8).abs() < 1e-15);
    }

    #[test]
    fn many_values_sum_accurately_in_f32() {
        let x = Tensor::full(0.1_f32, (1, 1 << 20), &Device::Cpu).unwrap();
        let op = Reduce { function: ReduceFn::Sum, axes: vec![1], keep: false };
        let sum = op.forward(&[&x], Backend::Auto).unwrap().to_vec1::<f32>().unwrap()[0];
        assert!((f64::from(sum) - f64::from(0.1_f32) * f64::from(1 << 20)).abs() < 0.01, "{sum}");
    }

    #[test]
    fn integers_have_no_mean() {
        let x = Tensor::new(&[[3_i64, 4]], &Device::Cpu).unwrap();
        let of = |function| Reduce { function, axes: vec![1], keep: false }.forward(&[&x], Backend::Auto);
        assert_eq!(of(ReduceFn::Max).unwrap().to_vec1::<i64>().unwrap(), [4]);
        assert_eq!(of(ReduceFn::Sum).unwrap().to_vec1::<i64>().unwrap(), [7]);
        assert!(of(ReduceFn::Mean).unwrap_err().to_string().contains("I64"));
    }

    #[test]
    fn wrong_axes_are_named() {
        let op = Reduce { function: ReduceFn::Mean, axes: vec![0, 4], keep: true };
        let message = op.output_shape(&[&[1, 2, 3]]).unwrap_err().to_string();
        assert!(message.contains("axes: [0, 4]"), "{message}");
        let op = Reduce { function: ReduceFn::Mean, axes: vec![1, 1], keep: true };
        assert!(op.output_shape(&[&[1, 2, 3]]).is_err());
    }
}
