//! Random numbers that depend only on the seed, the domain and the index of the draw.

use ascribe_kernels::Float;
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Result;
use crate::ops::Backend;
use crate::ops::fast::{self, dispatch};
use crate::values;

/// The purpose of random numbers. Draws of different domains are independent, even with the same seed and index:
/// noise around a method with random masks does not repeat the random numbers of its masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Domain([u8; 24]);

impl Domain {
    /// Noise that is added to inputs.
    pub const NOISE: Self = Self::new("noise");
    /// Masks over inputs.
    pub const MASKS: Self = Self::new("masks");
    /// Replacements of what a mask hides.
    pub const REMOVAL: Self = Self::new("removal");
    /// Random baselines.
    pub const BASELINE: Self = Self::new("baseline");
    /// Random parameters of a model.
    pub const PARAMETERS: Self = Self::new("parameters");
    /// Samples drawn with replacement.
    pub const BOOTSTRAP: Self = Self::new("bootstrap");
    /// Synthetic data for tests and examples.
    pub const DATA: Self = Self::new("data");

    /// The domain with this name.
    ///
    /// # Panics
    /// If the name is longer than 24 bytes.
    pub const fn new(name: &str) -> Self {
        let bytes = name.as_bytes();
        assert!(bytes.len() <= 24, "the name of a domain has at most 24 bytes");
        let mut padded = [0; 24];
        let mut at = 0;
        while at < bytes.len() {
            padded[at] = bytes[at];
            at += 1;
        }
        Self(padded)
    }
}

/// The random stream of draw `draw` in a domain.
///
/// Each draw has its own stream, so the numbers do not depend on how draws are divided into batches or among threads.
/// All samples of a batch share the draws: a batch gives the same numbers as its samples one by one.
///
/// The generator is `ChaCha8` (Bernstein 2008); its key consists of the seed and the name of the domain, and its
/// stream is the index of the draw.
pub fn stream(seed: u64, domain: Domain, draw: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].copy_from_slice(&domain.0);
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(draw);
    rng
}

/// Standard normal values of this shape. f32 values are the f64 values, rounded.
///
/// # Errors
/// If the values cannot be moved to the device.
pub fn normal(rng: &mut ChaCha8Rng, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f64> = StandardNormal.sample_iter(rng).take(count).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}

/// `x + σ ε` with standard normal ε, drawn independently for each value of `x`.
///
/// # Errors
/// If the tensor cannot be created.
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

/// Uniform values in `[0, 1)` of this shape. f32 values are the f64 values, rounded.
///
/// # Errors
/// If the values cannot be moved to the device.
pub fn uniform(rng: &mut ChaCha8Rng, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| rng.random::<f64>()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}
