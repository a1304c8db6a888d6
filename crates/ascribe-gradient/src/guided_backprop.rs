//! Guided backpropagation: Springenberg, Dosovitskiy, Brox & Riedmiller 2015, "Striving for Simplicity: The All
//! Convolutional Net", §3.4.
//!
//! The backward walk of the gradient, except that only positive signals pass a ReLU y = max(x, 0):
//!
//! R_x = max(R_y, 0) · [x > 0]
//!
//! This implementation does the same at every rectifier f, including leaky and smooth ones, also if the model has them as
//! arithmetic: R_x = max(R_y, 0) · f′(x). Other activations (sigmoid and tanh, also as gates) pass their true gradient;
//! max-pooling passes the signal to its maximum. Where a node may be a rectifier but is not recognised as one, a warning
//! names it.
//!
//! The map hardly depends on the upper layers or on the class (Adebayo et al. 2018; Nie et al. 2018): it shows
//! structure of the input that the lower layers detect.
//!
//! Cost: one evaluation and one backward walk.

use std::sync::Arc;

use ascribe_core::ops::Grads;
use ascribe_core::{
    Card, Composite, Configured, Domain, Explainer, Family, Found, Graph, Inputs, NodeId, Planned, Result,
    Rule, Samples, Selector, Site, Task, Tensor,
};
use serde::{Deserialize, Serialize};

use crate::rectifier::{is_rectifier, unrecognised};

/// Configuration of guided backpropagation, which has no settings. The attribution has the input's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuidedBackprop {}

impl GuidedBackprop {
    /// The rules of the method.
    pub fn composite() -> Composite {
        Composite::gradient().with(Selector::Where(Arc::new(is_rectifier)), Guided)
    }

    /// A warning about nodes that may be rectifiers that the rule misses.
    pub(crate) fn doubts(model: &Graph) -> Result<Vec<String>> {
        Ok(unrecognised(&model.canonical()?, "guided backpropagation").into_iter().collect())
    }

    /// The signals at the inputs.
    pub(crate) fn run(task: &Task<'_, Graph>) -> Result<Samples> {
        task.propagate_over(&task.model.canonical()?, &Self::composite())
    }
}

/// The true gradient of the positive part of the signal.
#[derive(Clone, Copy, Debug)]
struct Guided;

impl Rule for Guided {
    fn name(&self) -> String {
        "guided-backprop".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        site.vjp(&signal.relu()?)
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Planned {
        Planned::Guided
    }
}

impl Configured for GuidedBackprop {
    const CARD: Card = Card {
        id: "guided-backprop",
        name: "Guided backpropagation",
        also: &["guided backpropagation"],
        summary: "gradient that passes only positive signals back through rectifiers",
        paper: "Springenberg, Dosovitskiy, Brox & Riedmiller, Striving for Simplicity",
        year: 2015,
        domain: Domain::Image,
        networks: &["All-CNN"],
        ..Card::gradient(Family::Vanilla)
    };
}

impl Explainer<Graph> for GuidedBackprop {
    fn check_model(&self, model: &Graph, _: &Inputs) -> Result<Vec<String>> {
        Self::doubts(model)
    }

    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        Ok(Self::run(task)?.into())
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::ops::{Binary, Linear, Pointwise};
    use ascribe_core::{Device, GraphBuilder, Inputs, Run, Target};

    use super::*;

    /// y = Σ v_i f(w_i x) with w = (1, −1, 2), v = (1, 1, −1).
    fn graph(
        rectify: impl Fn(&mut GraphBuilder, ascribe_core::NodeId) -> Result<ascribe_core::NodeId>,
    ) -> Result<Graph> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(1)]);
        let w = b.constant("w", Tensor::new(&[[1_f64], [-1.0], [2.0]], &Device::Cpu)?);
        let v = b.constant("v", Tensor::new(&[[1_f64, 1.0, -1.0]], &Device::Cpu)?);
        let h = b.op("h", Linear, &[x, w])?;
        let a = rectify(&mut b, h)?;
        let y = b.op("y", Linear, &[a, v])?;
        b.finish(&[y])
    }

    fn guided(graph: &Graph, x: f64) -> Result<f64> {
        let x = Inputs::single(Tensor::new(&[[x]], &Device::Cpu)?)?;
        let found = GuidedBackprop::default().explain(graph, &x, &Target::Class(0), &Run::new())?;
        Ok(found.values().to_vec2::<f64>()?[0][0])
    }

    #[test]
    fn negative_signals_and_closed_gates_stop() -> Result<()> {
        let relu = graph(|b, h| b.op("a", Pointwise::Relu, &[h]))?;
        // At x = 1 the first and the third unit are open; the third has a negative signal.
        assert_eq!(guided(&relu, 1.0)?, 1.0);
        assert_eq!(guided(&relu, -1.0)?, -1.0);
        let maximum = graph(|b, h| {
            let zero = b.constant("zero", Tensor::new(&[0_f64], &Device::Cpu)?);
            b.op("a", Binary::Max, &[h, zero])
        })?;
        assert_eq!(guided(&maximum, 1.0)?, 1.0, "max(x, 0) is a ReLU");
        let leaky = graph(|b, h| b.op("a", Pointwise::LeakyRelu { slope: 0.1 }, &[h]))?;
        assert!((guided(&leaky, 1.0)? - (1.0 - 0.1)).abs() < 1e-15);
        let tanh = graph(|b, h| b.op("a", Pointwise::Tanh, &[h]))?;
        let slope = |t: f64| 1.0 - t.tanh().powi(2);
        let gradient = slope(1.0) - slope(1.0) - 2.0 * slope(2.0);
        assert!((guided(&tanh, 1.0)? - gradient).abs() < 1e-12, "no rectifier, true gradient");
        Ok(())
    }
}
