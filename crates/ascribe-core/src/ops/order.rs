//! The positions of extreme values.

use candle_core::{DType, Device, Tensor};

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// The index along an axis of its largest or smallest value, as `i64`. Integers have no gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArgExtreme {
    /// The axis.
    pub axis: usize,
    /// Whether to find the largest value, otherwise the smallest.
    pub largest: bool,
    /// Which of several equal values counts: the last instead of the first.
    pub last: bool,
    /// Whether the axis stays, with length 1.
    pub keep: bool,
}

/// The indices along an axis of its `count` largest or smallest values, as `i64`, in the order of the values; of equal
/// values the first comes first. NaN counts as larger than all numbers. Integers have no gradient: take the values with
/// [`GatherAt`](super::GatherAt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopIndices {
    /// The axis.
    pub axis: usize,
    /// Number of values.
    pub count: usize,
    /// Whether to find the largest values, otherwise the smallest.
    pub largest: bool,
}

fn check_axis(x: &[usize], axis: usize) -> Result<usize> {
    x.get(axis).copied().filter(|&side| side > 0).ok_or_else(|| {
        Error::invalid("input", format!("has shape {x:?}"), format!("at least one value along axis {axis}"))
    })
}

/// For each line along an axis, the indices that `choose` finds, `count` of them; the axis then has this length.
fn along(x: &Tensor, axis: usize, count: usize, choose: impl Fn(&[f64]) -> Vec<usize>) -> Result<Tensor> {
    let moved = x.transpose(axis, x.rank() - 1)?.contiguous()?;
    let mut shape = moved.dims().to_vec();
    let len = x.dim(axis)?;
    let values = moved.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let found: Vec<i64> =
        values.chunks(len).flat_map(|line| choose(line).into_iter().map(|i| i as i64)).collect();
    if let Some(last) = shape.last_mut() {
        *last = count;
    }
    let found = Tensor::from_vec(found, shape, &Device::Cpu)?.transpose(axis, x.rank() - 1)?.contiguous()?;
    Ok(found.to_device(x.device())?)
}

impl Operator for ArgExtreme {
    fn name(&self) -> &'static str {
        if self.largest { "ArgMax" } else { "ArgMin" }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Blocking
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        check_axis(x, self.axis)?;
        let mut shape = x.to_vec();
        if self.keep {
            shape[self.axis] = 1;
        } else {
            shape.remove(self.axis);
        }
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let beats = |new: f64, best: f64| {
            let more = if self.largest { new > best } else { new < best };
            more || (self.last && new == best)
        };
        let choose = |line: &[f64]| {
            let best = (1..line.len()).fold(0, |best, i| if beats(line[i], line[best]) { i } else { best });
            vec![best]
        };
        Ok(along(x, self.axis, 1, choose)?.reshape(self.output_shape(&[x.dims()])?)?)
    }

    fn vjp(&self, _: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![None])
    }
}

impl Operator for TopIndices {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Blocking
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        let side = check_axis(x, self.axis)?;
        if !(1..=side).contains(&self.count) {
            return Err(Error::invalid("count", self.count.to_string(), format!("1 to {side}")));
        }
        let mut shape = x.to_vec();
        shape[self.axis] = self.count;
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let choose = |line: &[f64]| {
            let mut order: Vec<usize> = (0..line.len()).collect();
            // Zeros of both signs are equal; NaN of either sign is largest.
            let key = |i: usize| if line[i].is_nan() { f64::NAN } else { line[i] + 0.0 };
            if self.largest {
                order.sort_by(|&i, &j| key(j).total_cmp(&key(i)));
            } else {
                order.sort_by(|&i, &j| key(i).total_cmp(&key(j)));
            }
            order.truncate(self.count);
            order
        };
        along(input(inputs, 0)?, self.axis, self.count, choose)
    }

    fn vjp(&self, _: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(op: &dyn Operator, x: &[f64]) -> Vec<i64> {
        let x = Tensor::from_slice(x, (1, x.len(), 1), &Device::Cpu).unwrap();
        let y = op.forward(&[&x], Backend::Auto).unwrap();
        assert_eq!(y.dims(), op.output_shape(&[x.dims()]).unwrap());
        assert_eq!(y.dtype(), DType::I64);
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn ties_go_to_the_first_or_the_last() {
        let x = [1.0, 3.0, -2.0, 3.0, -2.0];
        let arg = |largest, last| line(&ArgExtreme { axis: 1, largest, last, keep: last }, &x);
        assert_eq!(arg(true, false), [1]);
        assert_eq!(arg(true, true), [3]);
        assert_eq!(arg(false, false), [2]);
        assert_eq!(arg(false, true), [4]);
    }

    #[test]
    fn indices_are_in_the_order_of_the_values() {
        let x = [1.0, 3.0, -2.0, 3.0, 0.0, -0.0];
        let top = |count, largest| line(&TopIndices { axis: 1, count, largest }, &x);
        assert_eq!(top(3, true), [1, 3, 0]);
        assert_eq!(top(4, false), [2, 4, 5, 0]);
        assert_eq!(line(&TopIndices { axis: 1, count: 2, largest: true }, &[0.0, f64::NAN, 1.0]), [1, 2]);
        let message = TopIndices { axis: 0, count: 3, largest: true }.output_shape(&[&[2]]).unwrap_err();
        assert!(message.to_string().contains("count: 3"), "{message}");
    }

    #[test]
    fn axes_are_independent() {
        let x = Tensor::new(&[[1.0, 5.0, 2.0], [4.0, 3.0, 6.0]], &Device::Cpu).unwrap();
        let arg = |axis, keep| {
            ArgExtreme { axis, largest: true, last: false, keep }.forward(&[&x], Backend::Portable).unwrap()
        };
        assert_eq!(arg(0, false).to_vec1::<i64>().unwrap(), [1, 0, 1]);
        assert_eq!(arg(1, true).to_vec2::<i64>().unwrap(), [[1], [2]]);
        let top = TopIndices { axis: 0, count: 2, largest: false }.forward(&[&x], Backend::Auto).unwrap();
        assert_eq!(top.to_vec2::<i64>().unwrap(), [[0, 1, 0], [1, 0, 1]]);
    }
}
