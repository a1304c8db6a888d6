//! The interfaces of models that methods use.

use candle_core::Tensor;

use crate::error::Result;
use crate::gradient_sum::GradientSum;
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::line::Line;
use crate::outputs::Outputs;
use crate::rule::Composite;
use crate::target::Target;
use crate::variations::{Rectangle, Variations};

/// A black box: something that computes outputs from inputs.
pub trait Predictor: Send + Sync {
    /// The outputs for these inputs.
    ///
    /// # Errors
    /// If the inputs do not fit the model, or it fails to compute the outputs.
    fn predict(&self, x: &Inputs) -> Result<Outputs>;

    /// The preferred batch size for rows like those of `x`, if the model knows one. It has no influence on results.
    fn preferred_batch(&self, _x: &Inputs) -> Option<usize> {
        None
    }

    /// A cheaper way to evaluate variations of `base` (one sample) that differ from it within one of these rectangles
    /// of its explained input `[1, C, H, W]`; `None` if the model has none, so that [`Predictor::predict`] must be
    /// used.
    ///
    /// # Errors
    /// If `base` does not fit the model or is not one sample, or a rectangle is not inside it.
    fn variations<'a>(
        &'a self,
        base: &Inputs,
        rectangles: &[Rectangle],
    ) -> Result<Option<Box<dyn Variations + 'a>>> {
        let _ = (base, rectangles);
        Ok(None)
    }
}

/// Scores and their gradients with respect to the inputs.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// One score per row: `[rows]`.
    pub scores: Tensor,
    /// Gradient of each row's score with respect to each explained input, shaped like the input.
    pub values: Vec<Tensor>,
}

/// A model with gradients with respect to its inputs.
pub trait Differentiable: Predictor {
    /// The score of each row and its gradient with respect to each explained input.
    ///
    /// `samples[i]` is the position in the original batch of the sample that row `i` is a variation of; it determines
    /// the row's target.
    ///
    /// # Errors
    /// If the inputs or the target do not fit the model.
    fn gradient(&self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Gradient>;

    /// A cheaper way to sum gradients along the straight line between two samples, which may differ in their
    /// explained inputs; `None` if the model has none, so that [`Differentiable::gradient`] must be used. The sums
    /// are the same up to rounding.
    ///
    /// # Errors
    /// If the samples do not fit the model.
    fn line<'a>(&'a self, start: &Inputs, end: &Inputs) -> Result<Option<Box<dyn Line + 'a>>> {
        let _ = (start, end);
        Ok(None)
    }

    /// A cheaper way to sum gradients at inputs shaped like `x`, whose batch size does not matter; `None` if the
    /// model has none, so that [`Differentiable::gradient`] must be used. The sums are the same up to rounding.
    ///
    /// # Errors
    /// If inputs of this shape do not fit the model.
    fn gradient_sum<'a>(&'a self, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        let _ = x;
        Ok(None)
    }
}

impl Predictor for Graph {
    fn predict(&self, x: &Inputs) -> Result<Outputs> {
        self.forward(x)
    }

    fn preferred_batch(&self, x: &Inputs) -> Option<usize> {
        self.suitable_batch(x)
    }

    fn variations<'a>(
        &'a self,
        base: &Inputs,
        rectangles: &[Rectangle],
    ) -> Result<Option<Box<dyn Variations + 'a>>> {
        Ok(self.patched(base, rectangles)?.map(|patched| Box::new(patched) as _))
    }
}

impl Differentiable for Graph {
    fn gradient(&self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Gradient> {
        self.propagate(x, target, samples, &Composite::gradient())
    }

    fn line<'a>(&'a self, start: &Inputs, end: &Inputs) -> Result<Option<Box<dyn Line + 'a>>> {
        Ok(self.planned_line(start, end)?.map(|line| Box::new(line) as _))
    }

    fn gradient_sum<'a>(&'a self, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        Ok(self.planned_sum(x)?.map(|sum| Box::new(sum) as _))
    }
}
