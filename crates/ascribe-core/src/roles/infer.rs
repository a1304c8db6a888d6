//! The walk through the graph.

use super::axis::{Axis, renumber};
use super::transfer::{Context, Transferred};
use crate::graph::{Body, Graph};

/// Where the indices of an operand's axis are in a node's value. An axis without a link is mixed with others, or summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub operand: usize,
    pub from: usize,
    pub to: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One by one along this axis.
    Axis(usize),
    /// One index was taken, of a token that is no position of the grid.
    FurtherToken,
}

/// The axes of a value, and where they come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Value {
    pub axes: Vec<Axis>,
    pub links: Vec<Link>,
}

/// The axes of every value.
pub(super) fn infer(graph: &Graph, shapes: &[Vec<usize>], sources: Vec<Vec<Axis>>) -> Vec<Value> {
    let mut values: Vec<Value> = sources.into_iter().map(|axes| Value { axes, links: Vec::new() }).collect();
    for (id, node) in graph.nodes() {
        let shape = &shapes[id.index()];
        let unknown = || shape.iter().map(|&side| Axis::unknown(side)).collect::<Vec<_>>();
        let Body::Op(op) = node.body() else {
            if node.constant().is_some() {
                values[id.index()].axes = unknown();
            }
            continue;
        };
        let empty = shape.contains(&0) || node.inputs().iter().any(|i| shapes[i.index()].contains(&0));
        let value = if empty || !graph.is_dynamic(id) {
            Transferred::default()
        } else {
            Context { graph, id, node, shapes, values: &values }.transfer(op)
        };
        // An operator that is not known, and a value that came out with other sides, say nothing.
        let fits = value.axes.len() == shape.len()
            && value.axes.iter().zip(shape).all(|(axis, &side)| axis.len() == side);
        values[id.index()] = if fits {
            let mut axes = value.axes;
            renumber(&mut axes);
            Value { axes, links: value.links }
        } else {
            Value { axes: unknown(), links: Vec::new() }
        };
    }
    values
}
