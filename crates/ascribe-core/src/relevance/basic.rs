//! The rules of nodes without weights.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::quotient;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::{Grads, Kind};
use crate::rule::{Planned, Rule, Site, undefined_rule};

/// The ε-rule for linear nodes without parameters: sums, differences, averages.
/// R_i = x_i [Jᵀ (R / stab(y))]_i with the node's Jacobian J.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// The stabiliser ε.
    pub epsilon: f64,
}

impl Rule for Norm {
    fn name(&self) -> String {
        "lrp-norm".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let back = site.vjp(&quotient(signal, site.output(), self.epsilon)?)?;
        let signals = site.inputs().iter().zip(back);
        signals.map(|(x, g)| g.map(|g| Ok::<_, Error>((*x * g)?)).transpose()).collect()
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Planned {
        Planned::Norm { epsilon: self.epsilon }
    }
}

/// Passes relevance unchanged, for activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass;

impl Rule for Pass {
    fn name(&self) -> String {
        "lrp-pass".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let signals = site.inputs().iter().zip(site.needs()).map(|(x, &needed)| {
            if needed && x.dims() != signal.dims() {
                return Err(site.undefined(self, "its output is not shaped like its input"));
            }
            Ok(needed.then(|| signal.clone()))
        });
        signals.collect()
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Planned {
        Planned::Pass
    }
}

/// Defines no rule; the error names the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undefined;

impl Rule for Undefined {
    fn name(&self) -> String {
        "relevance propagation".into()
    }

    fn check(&self, graph: &Graph, id: NodeId) -> Result<()> {
        let why = match graph.kind(id) {
            Kind::Product => {
                "it multiplies values that both depend on the input; a method of gradients is defined for it"
            }
            Kind::Softmax => {
                "softmax has no rule; if it is the network's last node, explain its logits instead, otherwise use a \
                 method of gradients"
            }
            Kind::Normalisation => {
                "it divides by statistics of its input; a method of gradients is defined for it"
            }
            _ => "no rule is set for it",
        };
        Err(undefined_rule(self, graph, id, why))
    }

    fn apply(&self, site: &Site<'_>, _: &Tensor) -> Result<Grads> {
        self.check(site.graph(), site.id())?;
        Err(site.undefined(self, "no rule is set for it"))
    }
}
