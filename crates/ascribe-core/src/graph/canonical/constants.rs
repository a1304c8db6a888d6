//! Constant folding.

use candle_core::Tensor;

use super::rewrite::Rewrite;
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;

/// Values that a folded constant may have however small its operands are.
const SMALL: usize = 1 << 20;

/// Computes what does not depend on an input, unless that would make the model much larger: values that are
/// repeated to a large shape are stored once.
pub(super) fn fold(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let Some(op) = view.op(id) else { return Ok(None) };
    let operands: Option<Vec<&Tensor>> = view.operands(id).iter().map(|&i| view.constant(i)).collect();
    let Some(operands) = operands else { return Ok(None) };
    let op = op.operator();
    let shapes: Vec<&[usize]> = operands.iter().map(|t| t.dims()).collect();
    let size = op.output_shape(&shapes)?.into_iter().try_fold(1_usize, usize::checked_mul);
    let operand_size: usize = operands.iter().map(|t| t.elem_count()).sum();
    if size.is_none_or(|size| size > SMALL.max(operand_size.saturating_mul(2))) {
        return Ok(None);
    }
    Ok(Some(Rewrite::Constant(op.forward(&operands, view.graph().backend())?)))
}
