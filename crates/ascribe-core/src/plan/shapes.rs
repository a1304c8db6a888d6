//! Shapes of all values, with the batch left open.

use crate::error::Result;
use crate::graph::{Body, Graph, NodeId};

/// The shape of each node's value: of one sample where it depends on an input, whole where it is constant.
///
/// `None` if some value does not have the batch as its first axis: such a graph is not planned.
///
/// # Errors
/// If an operator does not accept its operands' shapes.
pub(super) fn infer(graph: &Graph, inputs: &[(NodeId, Vec<usize>)]) -> Result<Option<Vec<Vec<usize>>>> {
    // Two batch sizes show which axis is the batch.
    let [two, three] = [all_shapes(graph, inputs, 2)?, all_shapes(graph, inputs, 3)?];
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

fn all_shapes(graph: &Graph, inputs: &[(NodeId, Vec<usize>)], batch: usize) -> Result<Vec<Vec<usize>>> {
    let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(graph.len());
    for (id, node) in graph.nodes() {
        let shape = match node.body() {
            Body::Input(_) => {
                let sides = inputs.iter().find(|(input, _)| *input == id).map(|(_, sides)| sides.as_slice());
                std::iter::once(batch).chain(sides.unwrap_or_default().iter().copied()).collect()
            }
            Body::Constant(value) => value.dims().to_vec(),
            Body::Op(op) => {
                let operands: Vec<&[usize]> =
                    node.inputs().iter().map(|i| shapes[i.index()].as_slice()).collect();
                op.operator().output_shape(&operands).map_err(|e| e.at(node.name(), node.op_name()))?
            }
        };
        shapes.push(shape);
    }
    Ok(shapes)
}
