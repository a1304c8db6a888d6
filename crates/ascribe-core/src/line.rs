//! Gradients along straight lines.

use candle_core::Tensor;

use crate::error::Result;
use crate::target::Target;

/// A straight line between two samples, along which a model sums gradients at less cost than one by one: see
/// [`crate::Differentiable::line`].
pub trait Line {
    /// Adds `weight · ∇S(start + alpha · (end − start))` for each node (alpha, weight), one after the other, and returns the
    /// scores there. `sample` picks the target, as in [`crate::Differentiable::gradient`].
    ///
    /// The sum does not depend on how the nodes are distributed over calls.
    ///
    /// # Errors
    /// Those of the model and the target.
    fn add(&mut self, nodes: &[(f64, f64)], target: &Target, sample: usize) -> Result<Tensor>;

    /// The sum, for each explained input, with a first axis of length 1.
    ///
    /// # Errors
    /// Those of the model.
    fn sum(&self) -> Result<Vec<Tensor>>;
}
