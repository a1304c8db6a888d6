//! Which nodes after a convolution or an addition are fused into the same pass over memory.

use ascribe_kernels::Activation;

use super::compile::Compiler;
use crate::graph::NodeId;
use crate::ops::{Binary, Op, Pointwise};
use crate::rule::Planned;

/// The effect of the nodes that are fused into a convolution or an addition.
pub(super) struct Chain {
    pub(super) last: NodeId,
    pub(super) residual: Option<NodeId>,
    pub(super) activation: Activation<f32>,
}

/// The activation of a node, if the epilogue of a kernel supports it.
pub(super) fn activation(op: &Op) -> Option<Activation<f32>> {
    match op {
        Op::Pointwise(Pointwise::Relu) => Some(Activation::Relu),
        Op::Pointwise(Pointwise::Clip { low, high }) => Some(Activation::Clip {
            min: low.map_or(f32::NEG_INFINITY, |v| v as f32),
            max: high.map_or(f32::INFINITY, |v| v as f32),
        }),
        _ => None,
    }
}

impl Compiler<'_> {
    /// Follows the single user of a node through an addition and an activation.
    pub(super) fn chain(&self, from: NodeId) -> Chain {
        let mut chain = Chain { last: from, residual: None, activation: Activation::None };
        if let Some(user) = self.only_user(from)
            && let Some(Op::Binary(Binary::Add)) = self.graph.node(user).op()
            && self.rules.at(user) == Planned::Gradient
        {
            let other = self.graph.node(user).inputs().iter().copied().find(|&i| i != from);
            let fits = |other: &NodeId| {
                self.homes[other.index()].blocked
                    && self.shapes[other.index()] == self.shapes[from.index()]
                    && self.shapes[user.index()] == self.shapes[from.index()]
            };
            let Some(other) = other.filter(fits) else { return chain };
            chain = Chain { last: user, residual: Some(other), ..chain };
        }
        self.with_activation(chain)
    }

    pub(super) fn with_activation(&self, chain: Chain) -> Chain {
        let next = self.only_user(chain.last).filter(|user| self.graph.node(*user).inputs().len() == 1);
        let next = next.filter(|user| self.is_gate(*user));
        let found = next.and_then(|user| Some((user, activation(self.graph.node(user).op()?)?)));
        match found {
            Some((last, activation)) => Chain { last, activation, ..chain },
            None => chain,
        }
    }

    /// Whether an activation's rule is a [`Gate`].
    pub(super) fn is_gate(&self, id: NodeId) -> bool {
        use Planned::{Gradient, Guided, Pass, Rectified};
        matches!(self.rules.at(id), Gradient | Guided | Rectified | Pass)
    }

    pub(super) fn only_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users[id.index()].as_slice() {
            [user] if !self.visible[id.index()] => Some(*user),
            _ => None,
        }
    }
}
