//! Shape inference for rewriting, as far as shapes are known before a forward pass.

use crate::graph::{Body, Graph};

/// Sides of a node's value; `None` for those that depend on the inputs.
pub(super) type Sides = Vec<Option<usize>>;

/// For each node its sides, `None` if they cannot be inferred. The batch axis of an input is taken to be 1.
pub(super) fn infer(graph: &Graph) -> Vec<Option<Sides>> {
    // Dynamic sides get two different lengths: a side with the same length in both cases does not depend on them.
    const OPEN: [usize; 2] = [224, 256];
    let [first, second] = OPEN.map(|open| with_open_sides(graph, open));
    first
        .into_iter()
        .zip(second)
        .map(|pair| match pair {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Some(a.iter().zip(&b).map(|(a, b)| (a == b).then_some(*a)).collect())
            }
            _ => None,
        })
        .collect()
}

fn with_open_sides(graph: &Graph, open: usize) -> Vec<Option<Vec<usize>>> {
    let mut shapes: Vec<Option<Vec<usize>>> = Vec::with_capacity(graph.len());
    for (_, node) in graph.nodes() {
        let shape = match node.body() {
            Body::Input(spec) => {
                Some(std::iter::once(1).chain(spec.sides.iter().map(|s| s.unwrap_or(open))).collect())
            }
            Body::Constant(value) => Some(value.dims().to_vec()),
            Body::Op(op) => {
                let operands: Option<Vec<&[usize]>> =
                    node.inputs().iter().map(|i| shapes[i.index()].as_deref()).collect();
                // If the assumed lengths do not fit the model, nothing is known.
                operands.and_then(|operands| op.operator().output_shape(&operands).ok())
            }
        };
        shapes.push(shape);
    }
    shapes
}
