//! The axes of an operator's result, from those of its operands.

mod moves;
mod products;
mod windows;

use super::AxisRole;
use super::axis::Axis;
use super::infer::{Link, Place, Value};
use crate::graph::{Graph, Node, NodeId};
use crate::ops::{Kind, Op};

/// The axes of a result with their links; those of [`Transferred::default`] fit no value, which makes it unknown.
pub(super) type Transferred = Value;

/// A node, and what is known before it.
pub(super) struct Context<'a> {
    pub graph: &'a Graph,
    pub id: NodeId,
    pub node: &'a Node,
    pub shapes: &'a [Vec<usize>],
    pub values: &'a [Value],
}

impl Context<'_> {
    pub fn transfer(&self, op: &Op) -> Transferred {
        match op {
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Conv3d(_)
            | Op::ConvTranspose3d(_)
            | Op::DepthToSpace(_) => self.windowed(true),
            Op::MaxPool(_) | Op::AveragePool(_) | Op::AdaptiveAveragePool(_) | Op::Resize(_) => {
                self.windowed(false)
            }
            Op::Linear(_) => self.linear(),
            Op::MatMul(_) => self.product(),
            Op::Binary(_) | Op::Compare(_) | Op::Where(_) => self.elementwise(),
            Op::Reduce(reduce) => self.reduce(reduce),
            Op::Structure(structure) => self.structure(structure),
            Op::Pad(pad) => self.pad(pad),
            Op::Gather(gather) => self.gather(gather.axis),
            Op::Embedding(_) => self.embedding(),
            Op::Pointwise(_)
            | Op::BatchNorm(_)
            | Op::ScaleShift(_)
            | Op::LayerNorm(_)
            | Op::GroupNorm(_)
            | Op::InstanceNorm(_)
            | Op::LocalResponseNorm(_)
            | Op::Softmax(_)
            | Op::PRelu(_)
            | Op::CumSum(_)
            | Op::FakeQuantize(_)
            | Op::DynamicQuantize(_)
            | Op::ScatterAt(_)
            | Op::Cast(_) => self.same(),
            // An activation is a function of single values, whoever wrote it.
            Op::Custom(_) if self.graph.kind(self.id) == Kind::Activation => self.same(),
            Op::GatherAt(_)
            | Op::MaxUnpool(_)
            | Op::MaxPoolIndices(_)
            | Op::RoiAlign(_)
            | Op::Determinant(_)
            | Op::GridSample(_)
            | Op::ArgExtreme(_)
            | Op::TopIndices(_)
            | Op::TreeEnsemble(_)
            | Op::PairwiseCoupling(_)
            | Op::DynamicLevels(_)
            | Op::Custom(_) => Transferred::default(),
        }
    }

    fn operand(&self, slot: usize) -> &[Axis] {
        self.node.inputs().get(slot).map_or(&[], |id| &self.values[id.index()].axes)
    }

    fn shape(&self) -> &[usize] {
        &self.shapes[self.id.index()]
    }

    fn operand_shape(&self, slot: usize) -> &[usize] {
        self.node.inputs().get(slot).map_or(&[], |id| &self.shapes[id.index()])
    }

    /// Whether an operand depends on an input; constants are no evidence.
    fn is_dynamic(&self, slot: usize) -> bool {
        self.node.inputs().get(slot).is_some_and(|id| self.graph.is_dynamic(*id))
    }

    /// The axes of the first operand, each where it was.
    fn same(&self) -> Transferred {
        let axes = self.operand(0).to_vec();
        let links = (0..axes.len()).map(|i| link(0, i, i)).collect();
        Transferred { axes, links }
    }

    /// Axes that meet element by element, aligned at the last axis.
    fn elementwise(&self) -> Transferred {
        self.broadcast(&(0..self.node.inputs().len()).collect::<Vec<_>>(), 0, self.shape())
    }

    /// What the axes of some operands, without the last `skip` of each, are when broadcast to a shape.
    fn broadcast(&self, slots: &[usize], skip: usize, shape: &[usize]) -> Transferred {
        let mut axes = vec![Axis::default(); shape.len()];
        let mut links = Vec::new();
        for &slot in slots.iter().filter(|&&slot| self.is_dynamic(slot)) {
            let operand = self.operand(slot);
            let count = operand.len().saturating_sub(skip);
            for (from, axis) in operand[..count].iter().enumerate() {
                let Some(to) = (from + shape.len()).checked_sub(count) else { continue };
                if axis.len() == shape[to] {
                    axes[to] = axes[to].join(axis);
                    links.push(link(slot, from, to));
                }
            }
        }
        for (axis, &side) in axes.iter_mut().zip(shape).filter(|(axis, side)| axis.len() != **side) {
            *axis = Axis::unknown(side);
        }
        Transferred { axes, links }
    }
}

fn link(operand: usize, from: usize, to: usize) -> Link {
    Link { operand, from, to: Place::Axis(to) }
}

/// The axis that a product with weights makes of one: channels of a position, or features where there are none. Weights that
/// mix positions leave nothing known.
fn mixed(contracted: &Axis, others: &[Axis], len: usize) -> Axis {
    if contracted.0.is_empty() || !contracted.parts().any(|part| part.role.is_channel()) {
        return Axis::unknown(len);
    }
    let positions = others.iter().any(Axis::has_positions);
    Axis::whole(if positions { AxisRole::Channel } else { AxisRole::Feature }, len)
}
