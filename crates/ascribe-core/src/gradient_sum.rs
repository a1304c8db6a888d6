//! Sums of gradients.

use candle_core::Tensor;

use crate::error::Result;
use crate::inputs::Inputs;
use crate::target::Target;

/// A sum of gradients that costs a model less than gradients one by one: see
/// [`crate::Differentiable::gradient_sum`].
pub trait GradientSum {
    /// Adds the gradient at each row of `x`, one after the other, and returns the scores there; arguments as those of
    /// [`crate::Differentiable::gradient`].
    ///
    /// The sum does not depend on how the rows are distributed over calls.
    ///
    /// # Errors
    /// Those of the model and the target.
    fn add(&mut self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Tensor>;

    /// The sum, for each explained input, with a first axis of length 1.
    ///
    /// # Errors
    /// Those of the model.
    fn sum(&self) -> Result<Vec<Tensor>>;
}
