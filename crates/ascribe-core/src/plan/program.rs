//! The instruction set of compiled plans: images, registers and instructions.

use std::sync::Arc;

use ascribe_kernels::blocked::{BlockedConv, BlockedShape};
use ascribe_kernels::{Activation, PackedConv};

use super::pool::Pool;
use crate::graph::NodeId;

/// A blocked image in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageId(pub(super) usize);

/// A tensor in row-major order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(pub(super) usize);

/// The signs that an activation records: one bit per value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits(pub(super) usize);

/// The positions of the maxima that max-pooling records: one byte per value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Winners(pub(super) usize);

/// An operand of an operator that is computed on tensors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    /// A value of this run.
    Register(Register),
    /// A constant of the graph.
    Constant(NodeId),
}

/// The epilogue that is applied to a sum before it is stored, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// One value per channel, padded with zeros to whole blocks.
    pub(super) bias: Option<Arc<Vec<f32>>>,
    /// An image of the same shape to add.
    pub(super) residual: Option<ImageId>,
    /// The activation.
    pub(super) activation: Activation<f32>,
    /// Where to record which values have a nonzero gradient.
    pub(super) record: Option<Bits>,
    /// Values whose bit is not set become zero: the gradient of an activation. It is applied after `activation`,
    /// which in the backward pass keeps only positive signals.
    pub(super) mask: Option<Bits>,
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub(super) enum Instruction {
    /// A convolution, or the input gradient of one, between blocked images.
    Conv { conv: Arc<BlockedConv>, src: ImageId, dst: ImageId, tail: Tail },
    /// A convolution that reads plain images with few channels.
    PlanarConv { conv: Arc<BlockedConv>, src: Register, dst: ImageId, tail: Tail },
    /// The input gradient of a convolution, as a plain image.
    PlanarGrad { conv: Arc<BlockedConv>, src: ImageId, dst: Register, sides: [usize; 3] },
    /// The same gradient by the kernels for plain (row-major) images.
    PlainGrad { conv: Arc<PackedConv<f32>>, src: ImageId, dst: Register },
    /// `dst = tail(src)`.
    Combine { src: ImageId, dst: ImageId, tail: Tail },
    /// A pooling; `winners` is set for max-pooling.
    Pool { pool: Arc<Pool>, src: ImageId, dst: ImageId, winners: Option<Winners> },
    /// The gradient of a pooling.
    PoolGrad { pool: Arc<Pool>, src: ImageId, dst: ImageId, winners: Option<Winners>, mask: Option<Bits> },
    /// Copies whole blocks of channels; clears the border of what it writes.
    Copy { src: ImageId, src_block: usize, dst: ImageId, dst_block: usize, blocks: usize },
    /// Converts a tensor to a blocked image; a register without a value gives zeros.
    Block { src: Register, dst: ImageId },
    /// Converts a blocked image to a tensor.
    Unblock { src: ImageId, dst: Register },
    /// An operator on tensors.
    Operator { node: NodeId, operands: Vec<Operand>, dst: Register },
    /// `dst = factor · signal / stab(Σ denominators) + addend`, see [`ascribe_kernels::blocked::redistribute`].
    Redistribute {
        signal: ImageId,
        denominators: [Option<ImageId>; 2],
        epsilon: f32,
        factor: Option<ImageId>,
        addend: Option<ImageId>,
        dst: ImageId,
    },
    /// The rule of a node, or its vector-Jacobian product; registers of signals that vanish get no value.
    Vjp {
        node: NodeId,
        operands: Vec<Operand>,
        output: Register,
        grad: Register,
        into: Vec<Option<Register>>,
    },
    /// A constant of the graph.
    Constant { node: NodeId, dst: Register },
    /// The sum of two tensors; a register without a value counts as zero.
    Sum { a: Register, b: Register, dst: Register },
}

/// The blocked images and the registers that an instruction reads, and what it writes.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) reads: Vec<ImageId>,
    pub(super) writes: Option<ImageId>,
    pub(super) registers: Vec<Register>,
}

impl Instruction {
    pub(super) fn uses(&self) -> Uses {
        let tensors = |operands: &[Operand]| -> Vec<Register> {
            let register = |operand: &Operand| match operand {
                Operand::Register(register) => Some(*register),
                Operand::Constant(_) => None,
            };
            operands.iter().filter_map(register).collect()
        };
        let images = |src: &ImageId, tail: &Tail| [Some(*src), tail.residual].into_iter().flatten().collect();
        let none = Uses::default();
        match self {
            Self::Conv { src, dst, tail, .. } | Self::Combine { src, dst, tail } => {
                Uses { reads: images(src, tail), writes: Some(*dst), ..none }
            }
            Self::PlanarConv { src, dst, tail, .. } => {
                Uses { reads: tail.residual.into_iter().collect(), writes: Some(*dst), registers: vec![*src] }
            }
            Self::PlanarGrad { src, .. } | Self::PlainGrad { src, .. } | Self::Unblock { src, .. } => {
                Uses { reads: vec![*src], ..none }
            }
            Self::Pool { src, dst, .. } | Self::PoolGrad { src, dst, .. } | Self::Copy { src, dst, .. } => {
                Uses { reads: vec![*src], writes: Some(*dst), ..none }
            }
            Self::Redistribute { signal, denominators, factor, addend, dst, .. } => {
                let reads = [Some(*signal), denominators[0], denominators[1], *factor, *addend];
                Uses { reads: reads.into_iter().flatten().collect(), writes: Some(*dst), ..none }
            }
            Self::Block { src, dst } => Uses { writes: Some(*dst), registers: vec![*src], ..none },
            Self::Operator { operands, .. } => Uses { registers: tensors(operands), ..none },
            Self::Vjp { operands, output, grad, .. } => {
                let mut registers = tensors(operands);
                registers.extend([*output, *grad]);
                Uses { registers, ..none }
            }
            Self::Constant { .. } => none,
            Self::Sum { a, b, .. } => Uses { registers: vec![*a, *b], ..none },
        }
    }
}

/// The shape of an image of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
    /// The border that instructions reading the image need.
    pub(super) pad: [usize; 2],
}

impl Image {
    pub(super) fn shape(self, batch: usize) -> BlockedShape {
        BlockedShape { batch, channels: self.channels, size: self.size, pad: self.pad }
    }
}

/// A compiled program: the forward instructions, then the backward ones.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) forward: Vec<Instruction>,
    pub(super) backward: Vec<Instruction>,
    pub(super) images: Vec<Image>,
    /// For each set of bits, the image that it belongs to.
    pub(super) bits: Vec<ImageId>,
    /// For each set of winners, the pooling.
    pub(super) winners: Vec<Arc<Pool>>,
    pub(super) registers: usize,
    /// The registers of the graph's inputs, in their order.
    pub(super) inputs: Vec<Register>,
    /// Registers of the graph's outputs.
    pub(super) outputs: Vec<Register>,
    /// The registers of the gradients of the outputs; `None` for outputs whose gradient is not needed.
    pub(super) seeds: Vec<Option<Register>>,
    /// The registers of the requested values.
    pub(super) kept: Vec<Register>,
    /// The registers of the requested gradients, with the shape of one sample; `None` where no signal arrives.
    pub(super) wanted: Vec<(Option<Register>, Vec<usize>)>,
}

impl Program {
    /// The shape of an image for one sample.
    pub(super) fn one(&self, image: ImageId) -> BlockedShape {
        self.images[image.0].shape(1)
    }
}
