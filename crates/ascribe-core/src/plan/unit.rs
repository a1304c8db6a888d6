//! What runs as one: nodes grouped into units, and what is known of their values.

use std::sync::Arc;

use ascribe_kernels::{Activation, ConvShape};

use super::pool::Pool;
use super::program::{Bits, ImageId, Operand, Register, Tail, Winners};
use crate::graph::NodeId;

/// Where a node's value can be found.
#[derive(Clone, Copy, Default)]
pub(super) struct Home {
    pub(super) image: Option<ImageId>,
    pub(super) register: Option<Register>,
    /// The value is a blocked image by nature, and was not merely converted to one.
    pub(super) blocked: bool,
    /// What happens to a signal at the activation that made it.
    pub(super) gate: Gate,
    /// No value is negative.
    pub(super) non_negative: bool,
}

/// What an activation does to a signal on the way back.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Negative signals become zero.
    pub(super) positive: bool,
    /// Where the activation has a gradient.
    pub(super) bits: Option<Bits>,
}

impl Gate {
    /// Whether signals pass as they are.
    pub(super) fn is_open(self) -> bool {
        self == Self::default()
    }

    /// Adds to a sum, and lets the result through the gate.
    pub(super) fn tail(self, residual: Option<ImageId>) -> Tail {
        let activation = if self.positive { Activation::Relu } else { Activation::None };
        Tail { residual, activation, mask: self.bits, ..Tail::default() }
    }
}

/// Nodes that run as one, with one value that others see.
pub(super) struct Unit {
    /// The first of them, whose rule decides about signals; an activation behind it is a [`Gate`].
    pub(super) node: NodeId,
    pub(super) kind: UnitKind,
    /// The values it depends on; for [`UnitKind::Operator`], of all operands that are not constant.
    pub(super) inputs: Vec<NodeId>,
    pub(super) output: NodeId,
}

pub(super) enum UnitKind {
    /// A convolution of the first input; the second, if any, is added.
    Conv {
        shape: ConvShape,
    },
    /// The same, of a plain image.
    PlanarConv {
        shape: ConvShape,
    },
    /// The sum of one or two images, and an activation.
    Combine,
    Pool {
        pool: Arc<Pool>,
        winners: Option<Winners>,
    },
    /// Images joined along the channels.
    Concat,
    /// An operator on tensors.
    Operator {
        operands: Vec<Operand>,
        output: Register,
    },
}
