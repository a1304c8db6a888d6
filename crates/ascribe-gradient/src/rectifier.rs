//! Finds rectifiers among the nodes, for all operators that can express them.

use ascribe_core::ops::{Binary, Op, Pointwise};
use ascribe_core::{DType, Graph, NodeId};

/// Whether a node is `max(x, 0)`, possibly clipped from above: ReLU, `Clip(0, ·)`, `Max(x, 0)`.
pub(crate) fn is_relu(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        Some(Op::Pointwise(Pointwise::Relu)) => true,
        Some(Op::Pointwise(f @ Pointwise::Clip { .. })) => f.is_rectifier(),
        Some(Op::Binary(Binary::Max)) => is_maximum_with_zero(graph, id),
        _ => false,
    }
}

/// Whether a node passes positive values (nearly) unchanged and attenuates negative ones: those of [`is_relu`], leaky
/// and smooth rectifiers ([`Pointwise::is_rectifier`]), and `PRelu`.
pub(crate) fn is_rectifier(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        Some(Op::Pointwise(f)) => f.is_rectifier(),
        Some(Op::PRelu(_)) => true,
        _ => is_relu(graph, id),
    }
}

fn is_maximum_with_zero(graph: &Graph, id: NodeId) -> bool {
    let mut constants = graph.node(id).inputs().iter().filter_map(|i| graph.node(*i).constant());
    match (constants.next(), constants.next()) {
        (Some(value), None) => {
            let most = value.abs().and_then(|v| v.flatten_all()).and_then(|v| v.max(0));
            most.and_then(|m| m.to_dtype(DType::F64))
                .and_then(|m| m.to_scalar::<f64>())
                .is_ok_and(|m| m == 0.0)
        }
        _ => false,
    }
}
