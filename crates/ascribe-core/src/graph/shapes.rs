//! Shapes of all values, without computing any.

use super::{Body, Graph, NodeId};
use crate::error::Result;
use crate::inputs::Inputs;

impl Graph {
    /// The shape of each node's value for these inputs, by position, without computing any value.
    ///
    /// If the batch size is fixed ([`Graph::fixed_batch`]), the shapes are those of such a batch.
    ///
    /// # Errors
    /// If the inputs do not fit the graph, or an operator does not accept its operands' shapes; the message names the
    /// node.
    pub fn shapes(&self, x: &Inputs) -> Result<Vec<Vec<usize>>> {
        let inputs = self.bind(&*self.first_part(x)?)?;
        let shapes: Vec<_> = inputs.iter().map(|(id, value)| (*id, value.dims().to_vec())).collect();
        self.shapes_for(&shapes)
    }

    /// The same for inputs of which only the shapes are known.
    pub(crate) fn shapes_for(&self, inputs: &[(NodeId, Vec<usize>)]) -> Result<Vec<Vec<usize>>> {
        let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(self.len());
        for (id, node) in self.nodes() {
            let shape = match node.body() {
                Body::Input(_) => {
                    let given = inputs.iter().find(|(input, _)| *input == id);
                    given.map(|(_, shape)| shape.clone()).unwrap_or_default()
                }
                Body::Constant(value) => value.dims().to_vec(),
                Body::Op(op) => {
                    let operands: Vec<&[usize]> =
                        node.inputs().iter().map(|i| shapes[i.0].as_slice()).collect();
                    op.operator().output_shape(&operands).map_err(|e| e.at(node.name(), node.op_name()))?
                }
            };
            shapes.push(shape);
        }
        Ok(shapes)
    }
}
