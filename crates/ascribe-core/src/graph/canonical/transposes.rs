//! Permutations of axes that follow each other.

use super::rewrite::{Operand, Rewrite};
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Op, Structure};

/// Makes two permutations one, or none if the second undoes the first.
#[allow(clippy::unnecessary_wraps, reason = "the signature of all passes")]
pub(super) fn merge(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let order = |id: NodeId| match view.op(id) {
        Some(Op::Structure(Structure::Transpose { order })) => Some((order, *view.operands(id).first()?)),
        _ => None,
    };
    let Some((outer, between)) = order(id) else { return Ok(None) };
    let Some((inner, x)) = order(between) else { return Ok(None) };
    let both: Option<Vec<usize>> = outer.iter().map(|&axis| inner.get(axis).copied()).collect();
    Ok(both.map(|order| {
        if order.iter().copied().eq(0..order.len()) {
            Rewrite::Same(x)
        } else {
            Rewrite::op(Structure::Transpose { order }, vec![Operand::Node(x)])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, GraphBuilder, Inputs, Tensor};

    #[test]
    fn permutations_become_one_or_none() -> Result<()> {
        let x = Inputs::single(Tensor::arange(0_f32, 24.0, &Device::Cpu)?.reshape((1, 2, 3, 4))?)?;
        for (second, nodes) in [(vec![0, 3, 1, 2], 1), (vec![0, 2, 3, 1], 2)] {
            let mut b = GraphBuilder::new();
            let input = b.input("x", &[Some(2), Some(3), Some(4)]);
            let first = b.op("first", Structure::Transpose { order: vec![0, 2, 3, 1] }, &[input])?;
            let last = b.op("last", Structure::Transpose { order: second }, &[first])?;
            let y = b.op("y", crate::ops::Pointwise::Exp, &[last])?;
            let graph = b.finish(&[y])?;
            let canonical = graph.canonical()?;
            assert_eq!(canonical.nodes().filter(|(_, node)| node.op().is_some()).count(), nodes);
            let value = |graph: &crate::Graph| -> Result<Vec<f32>> {
                Ok(graph.forward(&x)?.primary().flatten_all()?.to_vec1()?)
            };
            assert_eq!(value(&canonical)?, value(&graph)?);
        }
        Ok(())
    }
}
