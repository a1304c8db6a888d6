//! Removing the softmax at the end of a classifier.

use ascribe_core::ops::{Op, Structure};
use ascribe_core::{GraphBuilder, NodeId};

use super::value::Res;

/// Removes the softmax at the end of an output, if there is one. Returns the new output and the name of the softmax.
///
/// Attributions should explain logits: a softmax mixes the scores of all classes, and its gradient vanishes where the
/// network is confident. Reshapes after the softmax are kept.
pub(super) fn peel(builder: &mut GraphBuilder, output: NodeId) -> Res<Option<(NodeId, String)>> {
    let mut moves = Vec::new();
    let mut at = output;
    loop {
        let node = builder.node(at);
        let Some(&from) = node.inputs().first() else { return Ok(None) };
        match node.op() {
            Some(Op::Structure(Structure::Identity)) => {}
            Some(Op::Structure(op @ (Structure::Reshape { .. } | Structure::Flatten { .. }))) => {
                moves.push((node.name().to_string(), op.clone()));
            }
            Some(Op::Softmax(_)) => {
                let name = node.name().to_string();
                let mut peeled = from;
                for (name, op) in moves.into_iter().rev() {
                    peeled = builder.op(&format!("{name}/logits"), op, &[peeled])?;
                }
                return Ok(Some((peeled, name)));
            }
            _ => return Ok(None),
        }
        at = from;
    }
}
