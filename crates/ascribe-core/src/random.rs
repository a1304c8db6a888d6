//! Random numbers that depend on the seed and the draw alone.

use ascribe_kernels::Float;
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Result;
use crate::ops::Backend;
use crate::ops::fast::{self, dispatch};
use crate::values;

/// The random stream of draw number `draw`.
///
/// Each draw has a stream of its own, so that the numbers do not depend on how draws are batched or spread over
/// threads. All samples of a batch share the draws: a batch gives the same numbers as its samples one by one.
pub fn stream(seed: u64, draw: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(draw);
    rng
}

/// Standard normal values of this shape. The same numbers, rounded, for f32 and f64.
///
/// # Errors
/// If the device cannot take the values.
pub fn normal(rng: &mut ChaCha8Rng, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f64> = StandardNormal.sample_iter(rng).take(count).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}

/// `x + σ ε` with standard normal ε, as many as `x` has values.
///
/// # Errors
/// If the tensor cannot be made.
pub fn normal_around(rng: &mut ChaCha8Rng, x: &Tensor, sigma: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let mut moved = |value: f64| -> f64 {
        let noise: f64 = StandardNormal.sample(rng);
        value + sigma * noise
    };
    dispatch!(Backend::Auto, [&x], T => {
        let values = fast::slice::<T>(&x)?;
        let values = values.iter().map(|v| Float::from_f64(moved(Float::to_f64(*v)))).collect::<Vec<T>>();
        return fast::tensor(values, x.dims());
    });
    let values = values::numbers(&x)?.into_iter().map(moved).collect::<Vec<f64>>();
    Ok(Tensor::from_vec(values, x.dims(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?)
}

/// Uniform values in `[0, 1)` of this shape. The same numbers, rounded, for f32 and f64.
///
/// # Errors
/// If the device cannot take the values.
pub fn uniform(rng: &mut ChaCha8Rng, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| rng.random::<f64>()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}
