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
            evidence(graph, id, shape.len()).unwrap_or_else(|| image(shape.len()))
        };
        found[id.index()] = roles.iter().zip(shape).map(|(&role, &len)| Axis::whole(role, len)).collect();
    }
    found
}

/// The roles of an input's axes, if the first operator behind it that tells channels from positions says so: a convolution,
/// or a linear layer along the last of three axes; or if the last of three axes has a single value.
pub(super) fn evidence(graph: &Graph, id: NodeId, rank: usize) -> Option<Vec<AxisRole>> {
    let order: Vec<usize> = (0..rank).collect();
    // A series of single numbers.
    let single = graph.input_spec(id).is_some_and(|spec| matches!(*spec.sides, [Some(2..), Some(1)]));
    mixing(graph, id, &order).or_else(|| single.then(|| vec![Batch, Time, Channel]))
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

/// The roles of an input whose axes come to an operator in this order, where they have these roles.
fn reordered(order: &[usize], there: &[AxisRole]) -> Vec<AxisRole> {
    let mut roles = vec![Unknown; order.len()];
    for (&axis, role) in order.iter().zip(there) {
        roles[axis] = *role;
    }
    roles
}

/// The roles of an input's axes by the first operator behind a value that mixes channels, where only operators that keep
/// the axes apart lie between. `order` is that of the input's axes in this value.
fn mixing(graph: &Graph, id: NodeId, order: &[usize]) -> Option<Vec<AxisRole>> {
    graph.users(id).find_map(|user| {
        let node = graph.node(user);
        let first = node.inputs().first() == Some(&id);
        match node.op()? {
            Op::Conv(_) if first => Some(reordered(order, &image(order.len()))),
            Op::Linear(_) if first && order.len() == 3 => Some(reordered(order, &[Batch, Time, Channel])),
            Op::Structure(Structure::Transpose { order: next }) => {
                let order = next.iter().map(|&axis| order.get(axis).copied()).collect::<Option<Vec<_>>>()?;
                mixing(graph, user, &order)
            }
            Op::Structure(Structure::Identity) | Op::Cast(_) | Op::Pad(_) if first => {
                mixing(graph, user, order)
            }
            Op::Binary(_) if graph.kind(user) == Kind::Affine => mixing(graph, user, order),
            _ => None,
        }
    })
}
