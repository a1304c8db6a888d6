//! A graph with the information that rewriting passes need.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::shapes::{self, Sides};
use crate::error::Result;
use crate::graph::{Body, Graph, NodeId};
use crate::ops::{Binary, Op, Pointwise, Structure};

/// A graph, with how often each value is used and what is known of its shape.
pub(super) struct View<'a> {
    graph: &'a Graph,
    uses: Vec<usize>,
    shapes: OnceCell<Vec<Option<Sides>>>,
    uniform: RefCell<HashMap<NodeId, Option<f64>>>,
}

/// A binary operator of which one operand is a constant.
#[derive(Clone, Copy)]
pub(super) struct WithConstant<'a> {
    pub op: Binary,
    /// The other operand.
    pub x: NodeId,
    pub constant: NodeId,
    pub value: &'a Tensor,
    /// Whether the constant is the left operand.
    pub constant_first: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let mut uses = vec![0; graph.len()];
        for (_, node) in graph.nodes() {
            for input in node.inputs() {
                uses[input.index()] += 1;
            }
        }
        // The caller of the graph uses the outputs, too.
        for output in graph.outputs() {
            uses[output.index()] += 1;
        }
        Self { graph, uses, shapes: OnceCell::new(), uniform: RefCell::default() }
    }

    pub(super) fn graph(&self) -> &'a Graph {
        self.graph
    }

    pub(super) fn name(&self, id: NodeId) -> &'a str {
        self.graph.node(id).name()
    }

    pub(super) fn op(&self, id: NodeId) -> Option<&'a Op> {
        self.graph.node(id).op()
    }

    pub(super) fn operands(&self, id: NodeId) -> &'a [NodeId] {
        self.graph.node(id).inputs()
    }

    pub(super) fn constant(&self, id: NodeId) -> Option<&'a Tensor> {
        self.graph.node(id).constant()
    }

    pub(super) fn is_output(&self, id: NodeId) -> bool {
        self.graph.outputs().contains(&id)
    }

    /// Whether the value is used exactly once, so that it need not be computed if this use is removed.
    pub(super) fn used_once(&self, id: NodeId) -> bool {
        self.uses[id.index()] == 1 && !self.is_output(id)
    }

    /// The sides of a value, as far as they are known.
    pub(super) fn sides(&self, id: NodeId) -> Option<&Sides> {
        self.shapes.get_or_init(|| shapes::infer(self.graph))[id.index()].as_ref()
    }

    /// The value of a constant with one element that broadcasting cannot add axes with.
    pub(super) fn scalar(&self, id: NodeId) -> Option<f64> {
        let value = self.constant(id).filter(|v| v.elem_count() == 1 && v.rank() <= 1)?;
        wide_values(value).ok()?.first().copied()
    }

    /// The value of a constant, also behind operators that only move or repeat values, if it is the same everywhere.
    pub(super) fn uniform(&self, id: NodeId) -> Option<f64> {
        match (self.graph.node(id).body(), self.operands(id)) {
            (Body::Constant(value), _) => {
                *self.uniform.borrow_mut().entry(id).or_insert_with(|| uniform(value).ok().flatten())
            }
            (Body::Op(Op::Structure(Structure::Concat { .. })), _) => None,
            (Body::Op(Op::Structure(_)), &[first, ..]) => self.uniform(first),
            _ => None,
        }
    }

    /// Whether a value can be broadcast to the shape of `x`, as far as shapes are known.
    pub(super) fn adds_no_axes(&self, id: NodeId, x: NodeId) -> bool {
        let (Some(sides), Some(wanted)) = (self.sides(id), self.sides(x)) else { return false };
        sides.len() <= wanted.len()
            && sides
                .iter()
                .rev()
                .zip(wanted.iter().rev())
                .all(|(side, wanted)| *side == Some(1) || side == wanted)
    }

    /// A number in the type and on the device of the graph's constants.
    pub(super) fn number(&self, value: f64) -> Result<Tensor> {
        let like = self.graph.nodes().find_map(|(_, node)| node.constant().filter(|c| c.dtype().is_float()));
        let value = Tensor::new(value, &Device::Cpu)?;
        match like {
            Some(like) => narrow(&value, like),
            None => Ok(value.to_dtype(self.graph.dtype())?),
        }
    }

    pub(super) fn pointwise(&self, id: NodeId) -> Option<(Pointwise, NodeId)> {
        match (self.op(id)?, self.operands(id)) {
            (Op::Pointwise(op), &[x]) => Some((*op, x)),
            _ => None,
        }
    }

    pub(super) fn binary(&self, id: NodeId) -> Option<(Binary, NodeId, NodeId)> {
        match (self.op(id)?, self.operands(id)) {
            (Op::Binary(op), &[a, b]) => Some((*op, a, b)),
            _ => None,
        }
    }

    /// The node as a binary operator of a dynamic value and a constant.
    pub(super) fn with_constant(&self, id: NodeId) -> Option<WithConstant<'a>> {
        let (op, a, b) = self.binary(id)?;
        let (x, constant, constant_first) = match (self.constant(a), self.constant(b)) {
            (None, Some(_)) => (a, b, false),
            (Some(_), None) => (b, a, true),
            _ => return None,
        };
        let value = self.constant(constant)?;
        Some(WithConstant { op, x, constant, value, constant_first })
    }

    /// The base and the exponent of a power with a constant exponent.
    pub(super) fn power(&self, id: NodeId) -> Option<(NodeId, f64)> {
        match (self.pointwise(id), self.with_constant(id)) {
            (Some((Pointwise::Pow { exponent }, x)), _) => Some((x, exponent)),
            (Some((Pointwise::Sqrt, x)), _) => Some((x, 0.5)),
            (Some((Pointwise::Reciprocal, x)), _) => Some((x, -1.0)),
            (_, Some(WithConstant { op: Binary::Pow, x, constant, constant_first: false, .. })) => {
                Some((x, self.scalar(constant)?))
            }
            _ => None,
        }
    }
}

/// A tensor in f64 on the CPU, where parameters are combined.
pub(super) fn wide(value: &Tensor) -> Result<Tensor> {
    Ok(value.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
}

/// The values of a tensor in f64.
pub(super) fn wide_values(value: &Tensor) -> Result<Vec<f64>> {
    Ok(wide(value)?.flatten_all()?.to_vec1()?)
}

/// The value of a tensor all of whose values are equal.
fn uniform(value: &Tensor) -> Result<Option<f64>> {
    const SAMPLE: usize = 16;
    let flat = value.flatten_all()?;
    let start = wide_values(&flat.narrow(0, 0, flat.elem_count().min(SAMPLE))?)?;
    let Some(&first) = start.first() else { return Ok(None) };
    let all = |values: &[f64]| values.iter().all(|v| v.to_bits() == first.to_bits());
    Ok((all(&start) && all(&wide_values(&flat)?)).then_some(first))
}

/// Brings a combined parameter to the type and device of the one it replaces.
pub(super) fn narrow(value: &Tensor, like: &Tensor) -> Result<Tensor> {
    Ok(value.to_dtype(like.dtype())?.to_device(like.device())?)
}
