//! Whether a gradient can reach nodes at all.

use candle_core::Tensor;

use super::{Graph, NodeId};
use crate::error::{Error, Result};
use crate::ops::{Kind, Slot};
use crate::values;

impl Graph {
    /// Checks that the outputs do not depend on the nodes `wanted` through operators without gradient only. `seeds` are the signals
    /// at the outputs; outputs with a signal of zeros do not count. Without seeds, all outputs count.
    ///
    /// A score that depends on none of the nodes is fine: its gradient is zero. So is one of which a part has a gradient.
    ///
    /// # Errors
    /// [`Error::Flat`], which names the first operator without gradient on the way back from the output.
    pub(crate) fn check_slope(&self, wanted: &[NodeId], seeds: Option<&[Tensor]>) -> Result<()> {
        let mut depends = vec![false; self.len()];
        for id in wanted {
            depends[id.0] = true;
        }
        let mut sloped = depends.clone();
        for (id, node) in self.nodes() {
            depends[id.0] |= node.inputs.iter().any(|i| depends[i.0]);
            if depends[id.0] && !sloped[id.0] {
                sloped[id.0] = self.passing(id).any(|i| sloped[i.0]);
            }
        }
        let flat = |id: &NodeId| depends[id.0] && !sloped[id.0];
        if !self.outputs().iter().any(flat) {
            return Ok(());
        }
        let mut found = None;
        for (at, id) in self.outputs().iter().enumerate() {
            let used = match seeds.and_then(|seeds| seeds.get(at)) {
                Some(seed) => values::numbers(&seed.flatten_all()?)?.iter().any(|&value| value != 0.0),
                None => true,
            };
            if used && sloped[id.0] {
                return Ok(());
            }
            if used && flat(id) {
                found = found.or(Some(*id));
            }
        }
        let Some(mut at) = found else { return Ok(()) };
        // Back to the first operator that lets no signal pass to an operand that depends on the nodes.
        while let Some(next) = self.passing(at).find(|i| depends[i.0]) {
            at = next;
        }
        let node = self.node(at);
        Err(Error::Flat { node: node.name().into(), op: node.op_name().into() })
    }

    /// The operands of a node that a signal passes to.
    fn passing(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let operands = if self.kind(id) == Kind::Blocking { &[] } else { self.node(id).inputs() };
        let passes = move |slot| self.slot(id, slot) != Slot::Other;
        operands.iter().enumerate().filter(move |(slot, _)| passes(*slot)).map(|(_, operand)| *operand)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::GraphBuilder;
    use crate::inputs::Inputs;
    use crate::model::Differentiable;
    use crate::ops::{ArgExtreme, Binary, Cast, Compare, Gather, Pointwise};
    use crate::target::Target;

    fn gradient(graph: &Graph, target: &Target) -> Result<Vec<f64>> {
        let x = Inputs::single(Tensor::new(&[[1.0, -2.0, 3.0]], &Device::Cpu)?)?;
        values::numbers(&graph.gradient(&x, target, &[0])?.values[0].flatten_all()?)
    }

    fn number(b: &mut GraphBuilder, name: &str, id: NodeId) -> Result<NodeId> {
        b.op(name, Cast { to: DType::F64 }, &[id])
    }

    #[test]
    fn what_has_no_gradient_is_an_error_that_names_the_operator() -> Result<()> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3)]);
        let zero = b.constant("zero", Tensor::new(0.0, &Device::Cpu)?);
        let above = b.op("above", Compare::Greater, &[x, zero])?;
        let above = number(&mut b, "as number", above)?;
        let relu = b.op("relu", Pointwise::Relu, &[above])?;
        let error = gradient(&b.finish(&[relu])?, &Target::Class(0)).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("piecewise constant: Greater 'above' has no gradient"), "{message}");
        assert!(message.contains("methods that need only the outputs"), "{message}");
        Ok(())
    }

    #[test]
    fn an_index_has_no_gradient() -> Result<()> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3)]);
        let largest =
            b.op("largest", ArgExtreme { axis: 1, largest: true, last: false, keep: false }, &[x])?;
        let table = b.constant("table", Tensor::new(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?);
        let row = b.op("row", Gather { axis: 0 }, &[table, largest])?;
        let message = gradient(&b.finish(&[row])?, &Target::Class(1)).unwrap_err().to_string();
        assert!(message.contains("Gather 'row'"), "{message}");
        Ok(())
    }

    #[test]
    fn only_the_outputs_of_the_target_count() -> Result<()> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3)]);
        let zero = b.constant("zero", Tensor::new(0.0, &Device::Cpu)?);
        let above = b.op("above", Compare::Greater, &[x, zero])?;
        let above = number(&mut b, "as number", above)?;
        let double = b.op("double", Binary::Add, &[x, x])?;
        let gate = b.op("gate", Binary::Mul, &[x, above])?;
        let constant = b.op("constant", Binary::Mul, &[zero, zero])?;
        let graph = b.finish(&[above, double, gate, constant])?;
        let sum = |name: &str| Target::Sum(Some(name.into()));
        assert!(matches!(gradient(&graph, &sum("as number")), Err(Error::Flat { .. })));
        assert_eq!(gradient(&graph, &sum("double"))?, [2.0; 3]);
        // A product with a path that has a gradient.
        assert_eq!(gradient(&graph, &sum("gate"))?, [1.0, 0.0, 1.0]);
        Ok(())
    }
}
