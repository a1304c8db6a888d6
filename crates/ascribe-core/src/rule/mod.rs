//! Backward rules: what a method does at a node, and how it selects the rule for each node.

mod composite;
mod site;

use std::fmt::Debug;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::Grads;

pub use composite::{Composite, Predicate, Selector, is_first_affine};
pub(crate) use composite::{comes_from_inputs, is_layer};
pub use site::Site;

/// Maps the signal that arrives at a node's output to the signals that leave at its inputs.
///
/// A rule that is not defined for an operator must return [`Site::undefined`], never ignore the node silently.
pub trait Rule: Debug + Send + Sync {
    /// The rule's name, for messages and provenance.
    fn name(&self) -> String;

    /// Whether the rule is defined for a node, as far as that can be said before anything is computed.
    ///
    /// # Errors
    /// If it is not defined for the node.
    fn check(&self, _graph: &Graph, _id: NodeId) -> Result<()> {
        Ok(())
    }

    /// The signals for the operands: `None` for those that [`Site::needs`] does not request, or if the signal is
    /// identically zero.
    ///
    /// # Errors
    /// If the rule is not defined for the node, or its arithmetic fails.
    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads>;

    /// The operation that the rule performs at a node, if it is one that a compiled plan implements itself. With the
    /// default, [`Planned::Opaque`], the plan calls [`Rule::apply`].
    ///
    /// Two rules that return equal values other than [`Planned::Opaque`] must be equivalent.
    fn planned(&self, _graph: &Graph, _id: NodeId) -> Planned {
        Planned::Opaque
    }

    /// Whether the rule uses the values of a reference run ([`Site::reference`]).
    fn compares(&self) -> bool {
        false
    }
}

/// The error of a rule that is not defined for a node, for [`Rule::check`].
pub fn undefined_rule(rule: &dyn Rule, graph: &Graph, id: NodeId, why: impl Into<String>) -> Error {
    let node = graph.node(id);
    Error::UndefinedRule {
        rule: rule.name(),
        node: node.name().into(),
        op: node.op_name().into(),
        why: why.into(),
    }
}

/// An operation that a compiled plan implements itself, in its own layout of values. s is the signal at the output,
/// stab(d) = d + ε sign(d), sign(0) = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planned {
    /// Any rule, called on tensors: only the values and the signal of this node are converted.
    Opaque,
    /// The true vector-Jacobian product.
    Gradient,
    /// The vector-Jacobian product of max(s, 0).
    Guided,
    /// max(s, 0), for activations.
    Rectified,
    /// s, for activations.
    Pass,
    /// `x ⊙ Jᵀ(s / stab(y))`, for sums and averages.
    Norm {
        /// The stabiliser.
        epsilon: f64,
    },
    /// `Σ x_t ⊙ W_tᵀ(s / stab(Σ W_t x_t + b))`, for affine nodes.
    Affine {
        /// The contributions that count.
        contributions: Contributions,
        /// The stabiliser.
        epsilon: f64,
        /// Whether the bias is included in the denominator.
        absorb: bool,
    },
}

/// The contributions to an affine node that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contributions {
    /// All contributions: W x + b.
    All,
    /// The positive contributions: W⁺x⁺ + W⁻x⁻ + b⁺.
    Positive,
}

/// The true vector-Jacobian product: ordinary backpropagation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradient;

impl Rule for Gradient {
    fn name(&self) -> String {
        "gradient".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        site.vjp(signal)
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Planned {
        Planned::Gradient
    }
}
