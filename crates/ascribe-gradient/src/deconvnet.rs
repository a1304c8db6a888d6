//! DeconvNet: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", §2.1.
//!
//! The backward walk of the gradient, except that a ReLU y = max(x, 0) rectifies the signal instead of gating it:
//!
//! R_x = max(R_y, 0)
//!
//! Convolutions pass the signal through their transpose, max-pooling through its switches (to the first maximum of
//! each window). The ReLU may be written as ReLU, Clip(0, ·), Max(x, 0) or with a comparison or mask. Other activations
//! are an error, since the method is not defined for them; guided backpropagation supports them. Where other arithmetic may
//! be a rectifier, a warning names it.
//!
//! Cost: one evaluation and one backward walk.

use ascribe_core::ops::{Grads, Kind};
use ascribe_core::{
    Card, Composite, Configured, Domain, Explainer, Family, Found, Graph, Inputs, NodeId, Planned, Result,
    Rule, Site, Task, Tensor, undefined_rule,
};
use serde::{Deserialize, Serialize};

use crate::rectifier::{is_relu, unrecognised};

/// Configuration of DeconvNet, which has no settings. The attribution has the input's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeconvNet {}

impl DeconvNet {
    /// The rules of the method.
    pub fn composite() -> Composite {
        Composite::gradient().on(Kind::Activation, Rectified)
    }
}

/// Passes the positive part of the signal, without the gate of the forward pass.
#[derive(Clone, Copy, Debug)]
struct Rectified;

impl Rule for Rectified {
    fn name(&self) -> String {
        "deconvnet".into()
    }

    fn check(&self, graph: &Graph, id: NodeId) -> Result<()> {
        if is_relu(graph, id) {
            return Ok(());
        }
        let why = "it is an activation other than ReLU; guided-backprop is defined for all activations";
        Err(undefined_rule(self, graph, id, why))
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        self.check(site.graph(), site.id())?;
        let positive = signal.relu()?;
        let signals = site.inputs().iter().zip(site.needs()).map(|(input, &needed)| {
            if needed && input.dims() != signal.dims() {
                return Err(site.undefined(self, "it broadcasts its operand"));
            }
            Ok(needed.then(|| positive.clone()))
        });
        signals.collect()
    }

    fn planned(&self, graph: &Graph, id: NodeId) -> Planned {
        if is_relu(graph, id) { Planned::Rectified } else { Planned::Opaque }
    }
}

impl Configured for DeconvNet {
    const CARD: Card = Card {
        id: "deconvnet",
        name: "DeconvNet",
        also: &["deconvolution"],
        summary: "signals rectified on their way back, whatever the forward gates",
        paper: "Zeiler & Fergus, Visualizing and Understanding Convolutional Networks",
        year: 2014,
        domain: Domain::Image,
        networks: &["AlexNet"],
        ..Card::gradient(Family::Vanilla)
    };
}

impl Explainer<Graph> for DeconvNet {
    fn check_model(&self, model: &Graph, x: &Inputs) -> Result<Vec<String>> {
        let graph = model.canonical()?;
        Self::composite().check(&graph, &graph.explained_nodes(x)?)?;
        Ok(unrecognised(&graph, "DeconvNet").into_iter().collect())
    }

    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        let graph = task.model.canonical()?;
        Ok(task.propagate_over(&graph, &Self::composite())?.into())
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::ops::{Linear, Pointwise};
    use ascribe_core::{Device, GraphBuilder, Run, Target};

    use super::*;

    fn graph(f: Pointwise) -> Result<Graph> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(1)]);
        let w = b.constant("w", Tensor::new(&[[1_f64], [-1.0], [2.0]], &Device::Cpu)?);
        let v = b.constant("v", Tensor::new(&[[1_f64, 1.0, -1.0]], &Device::Cpu)?);
        let h = b.op("h", Linear, &[x, w])?;
        let a = b.op("act", f, &[h])?;
        let y = b.op("y", Linear, &[a, v])?;
        b.finish(&[y])
    }

    #[test]
    fn rectifies_the_signal_without_a_gate() -> Result<()> {
        let x = Inputs::single(Tensor::new(&[[1_f64]], &Device::Cpu)?)?;
        let found =
            DeconvNet::default().explain(&graph(Pointwise::Relu)?, &x, &Target::Class(0), &Run::new())?;
        // Signals (1, 1, −1): the second unit is closed but passes its signal, the third signal is negative and
        // stops.
        assert_eq!(found.values().to_vec2::<f64>()?, [[1.0 - 1.0]]);
        let relu6 = Pointwise::Clip { low: Some(0.0), high: Some(6.0) };
        assert!(DeconvNet::default().explain(&graph(relu6)?, &x, &Target::Class(0), &Run::new()).is_ok());
        Ok(())
    }

    #[test]
    fn other_activations_are_an_error_that_names_the_node() -> Result<()> {
        let x = Inputs::single(Tensor::new(&[[1_f64]], &Device::Cpu)?)?;
        for f in [Pointwise::Silu, Pointwise::Tanh, Pointwise::LeakyRelu { slope: 0.1 }] {
            let error = DeconvNet::default().explain(&graph(f)?, &x, &Target::Class(0), &Run::new());
            let message = error.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains("'act'") && message.contains("deconvnet"), "{message}");
        }
        Ok(())
    }
}
