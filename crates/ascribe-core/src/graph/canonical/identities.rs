//! Nodes that return their operand.

use super::rewrite::Rewrite;
use super::view::{View, WithConstant};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Binary, Op, Pointwise, Structure};

/// Lets an identity's operand stand for it.
#[allow(clippy::unnecessary_wraps, reason = "the signature of all passes")]
pub(super) fn remove(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let Some(op) = view.op(id) else { return Ok(None) };
    let first = view.operands(id).first().copied();
    let same = match op {
        Op::Structure(op) => first.filter(|_| is_identity(op, view.operands(id).len())),
        Op::Pointwise(Pointwise::Clip { low: None, high: None } | Pointwise::Pow { exponent: 1.0 }) => first,
        Op::Pad(pad) => first.filter(|_| pad.before.iter().chain(&pad.after).all(|&n| n == 0)),
        Op::Binary(_) => neutral(view, id),
        _ => None,
    };
    Ok(same.map(Rewrite::Same))
}

fn is_identity(op: &Structure, operands: usize) -> bool {
    match op {
        Structure::Identity => true,
        Structure::Transpose { order } => order.iter().copied().eq(0..order.len()),
        Structure::Concat { .. } => operands == 1,
        Structure::Tile { repeats } => repeats.iter().all(|&n| n == 1),
        _ => false,
    }
}

/// The operand of a sum with 0 or a product with 1.
fn neutral(view: &View<'_>, id: NodeId) -> Option<NodeId> {
    let WithConstant { op, x, constant, constant_first, .. } = view.with_constant(id)?;
    let value = view.scalar(constant)?;
    let is_neutral = match op {
        Binary::Add => value == 0.0,
        Binary::Sub => value == 0.0 && !constant_first,
        Binary::Mul => value == 1.0,
        Binary::Div | Binary::Pow => value == 1.0 && !constant_first,
        Binary::Max | Binary::Min | Binary::Mod | Binary::Remainder => false,
    };
    is_neutral.then_some(x)
}
