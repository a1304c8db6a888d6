//! Features of the inputs, and a model's scores while some of them are hidden.
//!
//! A method or metric that removes parts of an input combines four choices: the [`Features`] (pixels, windows,
//! superpixels, columns of a table), the [`Mask`] that says which of them are hidden or how much of each value, the
//! [`Fill`] that replaces what is hidden, and a statistic of the scores. [`Task::masked`](crate::Task::masked)
//! evaluates the first three within the batch budget of the run; the statistic is the method or the metric.
//!
//! ```
//! use ascribe_core::features::{Features, Fill, Mask, References};
//! use ascribe_core::{Baseline, BlackBox, Device, Inputs, Run, Target, Task, Tensor, sweep};
//! // The score is 1 · x₀ + 2 · x₁ + 4 · x₂.
//! let model = BlackBox::new(|x: &Tensor| {
//!     x.broadcast_mul(&Tensor::new(&[1_f64, 2.0, 4.0], &Device::Cpu)?)?.sum_keepdim(1)
//! });
//! let x = Inputs::single(Tensor::ones((1, 3), ascribe_core::DType::F64, &Device::Cpu)?)?;
//! let run = Run::new();
//! let task = Task::new(&model, &x, Target::Class(0), &run);
//! let (features, fill) = (Features::positions(&x)?, References::new(&Baseline::Zero, &x, 0)?);
//! let mut scores = Vec::new();
//! let hidden = |point: sweep::Point| Ok(Mask::Without(vec![point.index]));
//! task.masked(&features, &fill, &sweep::every(&[0], 3), hidden, |_, _, of_draws| {
//!     scores.extend_from_slice(of_draws);
//!     Ok(())
//! })?;
//! assert_eq!(scores, [6.0, 5.0, 3.0]);
//! # Ok::<(), ascribe_core::Error>(())
//! ```

pub mod conditional;
mod cover;
mod fill;
mod game;
mod grid_masks;
mod mask;
mod masked;
mod neighbours;
#[cfg(test)]
mod tests;
mod windows;

pub use cover::{Features, Run};
pub use fill::{Fill, Hidden, Permuted, References, Removal};
pub use game::MaskedGame;
pub use grid_masks::GridMasks;
pub use mask::Mask;
pub use neighbours::NoisyNeighbours;
