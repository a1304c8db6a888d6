//! Epilogues: what a kernel does to its sums before it stores them (bias, residual, activation).

use crate::error::{Result, check_len};
use crate::float::Float;
use crate::simd::Simd;

/// Activation function that is applied before a sum is stored. `NaN` stays `NaN`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation<T> {
    /// No activation: the sum itself.
    #[default]
    None,
    /// max(0, y).
    Relu,
    /// min(max(y, `min`), `max`); `ReLU6` is `Clip { min: 0, max: 6 }`.
    Clip {
        /// Lower bound.
        min: T,
        /// Upper bound.
        max: T,
    },
}

/// What is done to a sum before it is stored: y ← activation(sum + bias\[channel\] + residual).
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a, T> {
    /// One value per output channel.
    pub bias: Option<&'a [T]>,
    /// A tensor of the output's shape, added before the activation.
    pub residual: Option<&'a [T]>,
    /// Applied last.
    pub activation: Activation<T>,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self { bias: None, residual: None, activation: Activation::None }
    }
}

impl<'a, T> Epilogue<'a, T> {
    /// Adds a bias per output channel and nothing else.
    pub fn bias(bias: Option<&'a [T]>) -> Self {
        Self { bias, ..Self::default() }
    }

    /// Whether the epilogue does nothing, so that sums are stored unchanged.
    pub(crate) fn is_plain(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && matches!(self.activation, Activation::None)
    }

    /// Checks the lengths of bias and residual for `channels` channels and `output` elements.
    pub(crate) fn check(&self, kernel: &'static str, channels: usize, output: usize) -> Result<()> {
        if let Some(bias) = self.bias {
            check_len(kernel, "bias", channels, bias.len())?;
        }
        if let Some(residual) = self.residual {
            check_len(kernel, "residual", output, residual.len())?;
        }
        Ok(())
    }
}

impl<T: Float> Activation<T> {
    /// Applies the activation to a vector.
    ///
    /// # Safety
    /// The processor has the instructions of `S`.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd<T = T>>(self, y: S::V) -> S::V {
        // SAFETY: the caller's contract. `max` and `min` return their second operand where either is NaN, so that a NaN
        // in y stays NaN.
        unsafe {
            match self {
                Self::None => y,
                Self::Relu => S::max(S::zero(), y),
                Self::Clip { min, max } => S::min(S::splat(max), S::max(S::splat(min), y)),
            }
        }
    }
}
