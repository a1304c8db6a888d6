//! Saliency: Simonyan, Vedaldi & Zisserman 2013, "Deep Inside Convolutional Networks: Visualising Image
//! Classification Models and Saliency Maps", §3.
//!
//! The gradient of the score S at the input:
//!
//! A = ∂S/∂x
//!
//! The paper's map M_ij = max_c |∂S/∂x_cij| is `abs` here and the maximum over channels at display
//! ([`ascribe_core::Reduction::MaxAbs`]).
//!
//! Cost: one evaluation and one backward walk.

use ascribe_core::{
    Attribution, Cost, Differentiable, Explainer, Found, GradientSum, Inputs, Method, Result, Run, Target,
    Tensor, explain,
};
use serde::{Deserialize, Serialize};

use crate::walk;

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
/// let found = Saliency::new().explain(&graph, &x, &Target::Class(0), &Run::new())?;
/// assert_eq!(found.values().to_vec2::<f64>()?, [[3.0, -1.0]]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Saliency {
    /// Whether to return magnitudes |∂S/∂x| instead of the signed gradient.
    pub abs: bool,
}

impl Saliency {
    /// The signed gradient.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether magnitudes are returned.
    pub fn abs(self, abs: bool) -> Self {
        Self { abs }
    }
}

impl Method for Saliency {
    fn id(&self) -> &'static str {
        "saliency"
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cost(&self, x: &Inputs) -> Cost {
        walk::once(x)
    }
}

impl<M: Differentiable + ?Sized> Explainer<M> for Saliency {
    fn explain(&self, model: &M, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution> {
        explain(self, model, x, target, run, |task| {
            let found = walk::by_samples(task, |x, samples| task.gradient(x, samples))?;
            let values: Result<Vec<Tensor>> =
                if self.abs { found.values.iter().map(|g| Ok(g.abs()?)).collect() } else { Ok(found.values) };
            Ok(Found { values: values?, scores: Some(found.scores), ..Found::default() })
        })
    }

    fn gradient_sum<'a>(&self, model: &'a M, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        if self.abs { Ok(None) } else { model.gradient_sum(x) }
    }
}
