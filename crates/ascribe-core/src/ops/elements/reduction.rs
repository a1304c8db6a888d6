//! Reductions of values that are written to places.

use candle_core::{DType, Device, Tensor, WithDType};

use crate::error::Result;

/// How updates and data become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ScatterReduction {
    /// The update replaces the value.
    Replace,
    /// The sum of both.
    Add,
    /// The product of both.
    Mul,
    /// The larger one. Of equal values each gets the same share of the gradient, as in `PyTorch`.
    Max,
    /// The smaller one; gradients as for the larger one.
    Min,
}

/// The reduction as a function of two values.
fn reduce<T: WithDType>(data: &mut [T], positions: &[u32], updates: &[T], reduction: ScatterReduction) {
    for (&at, &update) in positions.iter().zip(updates) {
        let value = &mut data[at as usize];
        *value = match reduction {
            ScatterReduction::Mul => *value * update,
            ScatterReduction::Max if update > *value => update,
            ScatterReduction::Min if update < *value => update,
            ScatterReduction::Max | ScatterReduction::Min => *value,
            ScatterReduction::Add => *value + update,
            ScatterReduction::Replace => update,
        };
    }
}

/// The reduction of flat data with updates at positions.
pub(super) fn forward(
    data: &Tensor,
    positions: &[u32],
    updates: &Tensor,
    reduction: ScatterReduction,
) -> Result<Tensor> {
    fn run<T: WithDType>(
        data: &Tensor,
        positions: &[u32],
        updates: &Tensor,
        reduction: ScatterReduction,
    ) -> Result<Tensor> {
        let values = |t: &Tensor| -> Result<Vec<T>> {
            Ok(t.to_device(&Device::Cpu)?.to_dtype(T::DTYPE)?.to_vec1::<T>()?)
        };
        let (mut all, updates) = (values(data)?, values(updates)?);
        reduce(&mut all, positions, &updates, reduction);
        let count = all.len();
        Ok(Tensor::from_vec(all, count, &Device::Cpu)?.to_dtype(data.dtype())?.to_device(data.device())?)
    }
    if data.dtype().is_int() {
        run::<i64>(data, positions, updates, reduction)
    } else {
        run::<f64>(data, positions, updates, reduction)
    }
}

/// The values of a tensor.
fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// What is known about the values that are reduced to one.
#[derive(Clone, Copy)]
struct Group {
    /// Product of those that are not zero.
    product: f64,
    /// Number of zeros.
    zeros: usize,
    /// The extreme value, and how many have it.
    best: f64,
    ties: usize,
}

impl Group {
    fn new(value: f64) -> Self {
        let zero = value == 0.0;
        let product = if zero { 1.0 } else { value };
        Self { product, zeros: usize::from(zero), best: value, ties: 1 }
    }

    fn add(&mut self, value: f64, largest: bool) {
        if value == 0.0 {
            self.zeros += 1;
        } else {
            self.product *= value;
        }
        let beats = if largest { value > self.best } else { value < self.best };
        if beats {
            (self.best, self.ties) = (value, 1);
        } else if value == self.best {
            self.ties += 1;
        }
    }

    /// The derivative of the result with respect to one of the values.
    fn derivative(&self, value: f64, reduction: ScatterReduction) -> f64 {
        match reduction {
            ScatterReduction::Mul => match (self.zeros, value == 0.0) {
                (0, _) => self.product / value,
                (1, true) => self.product,
                _ => 0.0,
            },
            _ if value == self.best => (self.ties as f64).recip(),
            _ => 0.0,
        }
    }
}

/// The gradients of flat data and flat updates for products and extreme values.
pub(super) fn backward(
    data: &Tensor,
    positions: &[u32],
    updates: &Tensor,
    grad: &Tensor,
    reduction: ScatterReduction,
) -> Result<(Tensor, Tensor)> {
    let (values, new, outer) = (numbers(data)?, numbers(updates)?, numbers(grad)?);
    let mut groups: Vec<Group> = values.iter().map(|&v| Group::new(v)).collect();
    for (&at, &value) in positions.iter().zip(&new) {
        groups[at as usize].add(value, reduction == ScatterReduction::Max);
    }
    let share = |at: usize, value: f64| outer[at] * groups[at].derivative(value, reduction);
    let of_data: Vec<f64> = values.iter().enumerate().map(|(at, &value)| share(at, value)).collect();
    let of_updates: Vec<f64> =
        positions.iter().zip(&new).map(|(&at, &value)| share(at as usize, value)).collect();
    let tensor = |values: Vec<f64>| -> Result<Tensor> {
        let count = values.len();
        Ok(Tensor::from_vec(values, count, &Device::Cpu)?.to_dtype(grad.dtype())?.to_device(grad.device())?)
    };
    Ok((tensor(of_data)?, tensor(of_updates)?))
}
