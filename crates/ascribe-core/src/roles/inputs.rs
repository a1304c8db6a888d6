//! What the axes of inputs are, by convention and by what is done with them.

use super::AxisRole;
use super::AxisRole::{Batch, Channel, Depth, Feature, Height, Time, Token, Unknown, Width};
use super::axis::Axis;
use crate::graph::{Graph, NodeId};
use crate::ops::{Kind, Op, Structure};

/// The axes of each input; empty for other nodes.
pub(super) fn conventions(graph: &Graph, shapes: &[Vec<usize>]) -> Vec<Vec<Axis>> {
    let mut found = vec![Vec::new(); graph.len()];
    for &id in graph.inputs() {
        let shape = &shapes[id.index()];
        let integer = graph.input_spec(id).is_some_and(|spec| spec.integer);
        let roles = if integer {
            [Batch, Token].into_iter().chain(std::iter::repeat(Unknown)).take(shape.len()).collect()
        } else {
            let order: Vec<usize> = (0..shape.len()).collect();
            convolved(graph, id, &order).map_or_else(|| image(shape.len()), |order| arranged(&order))
        };
        found[id.index()] = roles.iter().zip(shape).map(|(&role, &len)| Axis::whole(role, len)).collect();
    }
    found
}

/// The roles of a value that convolutions work on.
pub(super) fn image(rank: usize) -> Vec<AxisRole> {
    match rank {
        2 => vec![Batch, Feature],
        3 => vec![Batch, Channel, Time],
        4 => vec![Batch, Channel, Height, Width],
        5 => vec![Batch, Channel, Depth, Height, Width],
        _ => [Batch].into_iter().chain(std::iter::repeat(Unknown)).take(rank).collect(),
    }
}

/// The roles of axes that come to a convolution in this order.
fn arranged(order: &[usize]) -> Vec<AxisRole> {
    let mut roles = vec![Unknown; order.len()];
    for (&axis, role) in order.iter().zip(image(order.len())) {
        roles[axis] = role;
    }
    roles
}

/// In which order a value's axes come to the first convolution behind it, where only operators that keep the axes apart lie
/// between. `order` is that of the input's axes in this value.
fn convolved(graph: &Graph, id: NodeId, order: &[usize]) -> Option<Vec<usize>> {
    graph.users(id).find_map(|user| {
        let node = graph.node(user);
        let first = node.inputs().first() == Some(&id);
        match node.op()? {
            Op::Conv(_) => first.then(|| order.to_vec()),
            Op::Structure(Structure::Transpose { order: next }) => {
                let order = next.iter().map(|&axis| order.get(axis).copied()).collect::<Option<Vec<_>>>()?;
                convolved(graph, user, &order)
            }
            Op::Structure(Structure::Identity) | Op::Cast(_) | Op::Pad(_) if first => {
                convolved(graph, user, order)
            }
            Op::Binary(_) if graph.kind(user) == Kind::Affine => convolved(graph, user, order),
            _ => None,
        }
    })
}
