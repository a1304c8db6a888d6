//! Saliency: Simonyan, Vedaldi & Zisserman 2013, "Deep Inside Convolutional Networks: Visualising Image
//! Classification Models and Saliency Maps", §3.
//!
//! The gradient of the score S at the input:
//!
//! A = ∂S/∂x
//!
//! The paper's map M_ij = max_c |∂S/∂x_cij| is obtained by `abs` and the maximum over channels for display
//! ([`ascribe_core::Reduction::MaxAbs`]).
//!
//! Cost: one evaluation and one backward walk.

use ascribe_core::{
    Card, Configured, Differentiable, Explainer, Family, Found, GradientSum, Inputs, Result, Task, Tensor,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Configuration of saliency. The attribution has the input's shape.
///
/// ```
/// use ascribe_core::{Explainer, GraphBuilder, Inputs, Run, Target, Tensor, Device, ops::Linear};
/// use ascribe_gradient::Saliency;
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(2)]);
/// let w = b.constant("w", Tensor::new(&[[3_f64, -1.0]], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[x, w])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[1_f64, 1.0]], &Device::Cpu)?)?;
/// let found = Saliency::default().explain(&graph, &x, &Target::Class(0), &Run::new())?;
/// assert_eq!(found.values().to_vec2::<f64>()?, [[3.0, -1.0]]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct Saliency {
    /// Whether to return absolute values |∂S/∂x| instead of the signed gradient.
    pub abs: bool,
}

impl Configured for Saliency {
    const CARD: Card = Card {
        id: "saliency",
        name: "Saliency",
        also: &["gradient", "vanilla gradient", "sensitivity map"],
        summary: "gradient of the score with respect to the input",
        paper: "Simonyan, Vedaldi & Zisserman, Deep Inside Convolutional Networks",
        year: 2013,
        networks: &["AlexNet"],
        ..Card::gradient(Family::Vanilla)
    };
}

impl<M: Differentiable + ?Sized> Explainer<M> for Saliency {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let mut found = task.gradients()?;
        if self.abs {
            found.values = found.values.iter().map(Tensor::abs).collect::<Result<_, _>>()?;
        }
        Ok(found.into())
    }

    fn gradient_sum<'a>(&self, model: &'a M, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        if self.abs { Ok(None) } else { model.gradient_sum(x) }
    }
}
