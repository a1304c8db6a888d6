//! Backward rules: what a method does at a node, and how a method picks the rule for each node.

mod composite;
mod site;

use std::fmt::Debug;

use candle_core::Tensor;

use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::Grads;

pub use composite::{Composite, Predicate, Selector, is_first_affine};
pub use site::Site;

/// Maps the signal that arrives at a node's output to the signals that leave at its inputs.
///
/// A rule that has no definition for an operator must return [`Site::undefined`], never pass it by silently.
pub trait Rule: Debug + Send + Sync {
    /// The rule's name, for messages and records.
    fn name(&self) -> String;

    /// The signals for the operands: `None` for those that [`Site::needs`] does not ask for, or where the
    /// signal is identically zero.
    ///
    /// # Errors
    /// If the rule is not defined for the node, or its arithmetic fails.
    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads>;

    /// What the rule does at a node, if that is one of the things that a compiled plan does by itself;
    /// [`Planned::Opaque`], the default, has the plan call [`Rule::apply`].
    ///
    /// Two rules with equal answers other than [`Planned::Opaque`] must do the same.
    fn planned(&self, _graph: &Graph, _id: NodeId) -> Planned {
        Planned::Opaque
    }

    /// Whether the rule looks at the values of a reference run ([`Site::reference`]).
    fn compares(&self) -> bool {
        false
    }
}

/// What a compiled plan does at a node by itself, on its own layout of values. s is the signal at the output, stab(d) = d + ε sign(d),
/// sign(0) = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planned {
    /// Whatever the rule does, on tensors: the values and the signal of the node are converted, its neighbours are not
    /// concerned.
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
        /// Which contributions count.
        contributions: Contributions,
        /// The stabiliser.
        epsilon: f64,
        /// Whether the bias takes part in the denominator.
        absorb: bool,
    },
}

/// Which contributions to an affine node count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contributions {
    /// All: W x + b.
    All,
    /// The positive ones: W⁺x⁺ + W⁻x⁻ + b⁺.
    Positive,
}

/// The true vector-Jacobian product: plain back-propagation.
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
