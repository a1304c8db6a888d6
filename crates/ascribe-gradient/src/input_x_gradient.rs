//! Input × gradient: Shrikumar, Greenside, Shcherbina & Kundaje 2016, "Not Just a Black Box: Learning Important
//! Features Through Propagating Activation Differences"; Ancona et al. 2017, Table 1.
//!
//! A = x ⊙ ∂S/∂x, the first-order contribution of each value to the score S. It sums to S(x) for networks of affine and
//! (leaky) ReLU layers without biases. Cost: one evaluation and one backward walk.

use ascribe_core::{Card, Configured, Differentiable, Explainer, Family, Found, Result, Task, Tensor};
use serde::{Deserialize, Serialize};

/// Configuration of input × gradient, which has no settings. The attribution has the input's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputXGradient {}

impl Configured for InputXGradient {
    const CARD: Card = Card {
        id: "input-x-gradient",
        name: "Input × gradient",
        also: &["gradient x input", "grad*input"],
        summary: "input times gradient: each value's share of the linearised score",
        paper: "Shrikumar, Greenside, Shcherbina & Kundaje, Not Just a Black Box",
        year: 2016,
        networks: &["CNN"],
        ..Card::gradient(Family::Vanilla)
    };
}

impl<M: Differentiable + ?Sized> Explainer<M> for InputXGradient {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let mut found = task.gradients()?;
        let products = task.x.explained().zip(&found.values).map(|(x, gradient)| Ok((&x.value * gradient)?));
        found.values = products.collect::<Result<Vec<Tensor>>>()?;
        Ok(found.into())
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Autograd, Device, Inputs, Run, Target};

    use super::*;

    #[test]
    fn product_of_input_and_gradient() -> Result<()> {
        // S = x₀² x₁, ∇S = (2 x₀ x₁, x₀²).
        let model = Autograd::new(|x: &Tensor| x.narrow(1, 0, 1)?.sqr()? * x.narrow(1, 1, 1)?);
        let x = Inputs::single(Tensor::new(&[[3_f64, -2.0]], &Device::Cpu)?)?;
        let found = InputXGradient::default().explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert_eq!(found.values().to_vec2::<f64>()?, [[-36.0, -18.0]]);
        assert_eq!(found.provenance.scores, [-18.0]);
        Ok(())
    }
}
