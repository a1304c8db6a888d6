//! Input × gradient: Shrikumar, Greenside, Shcherbina & Kundaje 2016, "Not Just a Black Box: Learning Important
//! Features Through Propagating Activation Differences"; Ancona et al. 2017, Table 1.
//!
//! The first-order contribution of each value to the score S:
//!
//! A = x ⊙ ∂S/∂x
//!
//! Sums to S(x) for networks of affine and (leaky) ReLU layers without biases.
//!
//! Cost: one evaluation and one backward walk.

use ascribe_core::{
    Attribution, Cost, Differentiable, Explainer, Found, Inputs, Method, Result, Run, Target, Tensor, explain,
};
use serde::{Deserialize, Serialize};

use crate::walk;

/// Configuration of input × gradient: there is nothing to set. The attribution has the input's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputXGradient {}

impl InputXGradient {
    /// The method.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Method for InputXGradient {
    fn id(&self) -> &'static str {
        "input-x-gradient"
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cost(&self, x: &Inputs) -> Cost {
        walk::once(x)
    }
}

impl<M: Differentiable + ?Sized> Explainer<M> for InputXGradient {
    fn explain(&self, model: &M, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution> {
        explain(self, model, x, target, run, |task| {
            let found = walk::by_samples(task, |x, samples| task.gradient(x, samples))?;
            let values: Result<Vec<Tensor>> =
                x.explained().zip(&found.values).map(|(input, g)| Ok((&input.value * g)?)).collect();
            Ok(Found { values: values?, scores: Some(found.scores), ..Found::default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Autograd, Device};

    use super::*;

    #[test]
    fn product_of_input_and_gradient() -> Result<()> {
        // S = x₀² x₁, ∇S = (2 x₀ x₁, x₀²).
        let model = Autograd::new(|x: &Tensor| x.narrow(1, 0, 1)?.sqr()? * x.narrow(1, 1, 1)?);
        let x = Inputs::single(Tensor::new(&[[3_f64, -2.0]], &Device::Cpu)?)?;
        let found = InputXGradient::new().explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert_eq!(found.values().to_vec2::<f64>()?, [[-36.0, -18.0]]);
        assert_eq!(found.provenance.scores, [-18.0]);
        Ok(())
    }
}
