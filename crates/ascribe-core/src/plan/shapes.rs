//! Shape inference with an open batch size.

use crate::error::Result;
use crate::graph::{Graph, NodeId};

/// The shape of each node's value: without the batch axis if the value depends on an input, the full shape if it is
/// constant.
///
/// `None` if the first axis of some value is not the batch: such a graph is not planned.
///
/// # Errors
/// If an operator does not accept its operands' shapes.
pub(super) fn infer(graph: &Graph, inputs: &[(NodeId, Vec<usize>)]) -> Result<Option<Vec<Vec<usize>>>> {
    let of_batch = |batch: usize| {
        let whole = |sides: &[usize]| std::iter::once(batch).chain(sides.iter().copied()).collect();
        let inputs: Vec<_> = inputs.iter().map(|(id, sides)| (*id, whole(sides))).collect();
        graph.shapes_for(&inputs)
    };
    // Two batch sizes show which axis is the batch.
    let [two, three] = [of_batch(2)?, of_batch(3)?];
    let mut shapes = Vec::with_capacity(two.len());
    for ((id, _), (two, three)) in graph.nodes().zip(two.into_iter().zip(three)) {
        if !graph.is_dynamic(id) {
            shapes.push(two);
        } else if two.first() == Some(&2) && three.first() == Some(&3) && two[1..] == three[1..] {
            shapes.push(two[1..].to_vec());
        } else {
            return Ok(None);
        }
    }
    Ok(Some(shapes))
}
