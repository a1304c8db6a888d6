//! Matrix products with constants.

use super::rewrite::{Operand, Rewrite};
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Linear, Op};

/// Replaces a product with a constant matrix on the right by a linear layer. A bias is added to it afterwards,
/// as to any affine operator.
pub(super) fn to_linear(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let (Some(Op::MatMul(_)), &[x, matrix]) = (view.op(id), view.operands(id)) else { return Ok(None) };
    let Some(value) = view.constant(matrix).filter(|m| m.rank() == 2) else { return Ok(None) };
    if view.constant(x).is_some() {
        return Ok(None);
    }
    let weight = Operand::New {
        from: view.name(matrix).into(),
        value: value.t()?.contiguous()?,
        shared: Some(matrix),
    };
    Ok(Some(Rewrite::op(Linear, vec![Operand::Node(x), weight])))
}
