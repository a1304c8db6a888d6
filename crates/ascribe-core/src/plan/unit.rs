//! Units: groups of nodes that run together, and what is known about their values.

use std::sync::Arc;

use ascribe_kernels::{Activation, ConvShape};

use super::pool::Pool;
use super::program::{Bits, ImageId, Operand, Register, Tail, Winners};
use crate::graph::NodeId;

/// Where the value of a node is stored, and what is known about it.
#[derive(Clone, Copy, Default)]
pub(super) struct Home {
    pub(super) image: Option<ImageId>,
    pub(super) register: Option<Register>,
    /// Whether the value was computed as a blocked image, rather than converted to one.
    pub(super) blocked: bool,
    /// The gate of the activation that produced the value.
    pub(super) gate: Gate,
    /// Whether no element is negative.
    pub(super) non_negative: bool,
}

/// What an activation does to a signal in the backward pass.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Whether negative signals become zero.
    pub(super) positive: bool,
    /// The elements at which the activation has a nonzero gradient.
    pub(super) bits: Option<Bits>,
}

impl Gate {
    /// Whether signals pass unchanged.
    pub(super) fn is_open(self) -> bool {
        self == Self::default()
    }

    /// The epilogue that adds `residual` and then applies the gate.
    pub(super) fn tail(self, residual: Option<ImageId>) -> Tail {
        let activation = if self.positive { Activation::Relu } else { Activation::None };
        Tail { residual, activation, mask: self.bits, ..Tail::default() }
    }
}

/// Nodes that run together, with one value that other units read.
pub(super) struct Unit {
    /// The first node, whose rule determines the signals; an activation after it is a [`Gate`].
    pub(super) node: NodeId,
    pub(super) kind: UnitKind,
    /// The values that the unit depends on; for [`UnitKind::Operator`], all operands that are not constants.
    pub(super) inputs: Vec<NodeId>,
    pub(super) output: NodeId,
}

pub(super) enum UnitKind {
    /// A convolution of the first input; the second input, if any, is added.
    Conv {
        shape: ConvShape,
    },
    /// A convolution of a plain (row-major) image.
    PlanarConv {
        shape: ConvShape,
    },
    /// The sum of one or two images, followed by an activation.
    Combine,
    Pool {
        pool: Arc<Pool>,
        winners: Option<Winners>,
    },
    /// Images concatenated along the channels.
    Concat,
    /// An operator on tensors.
    Operator {
        operands: Vec<Operand>,
        output: Register,
    },
}
