//! Folds padding into the convolution or pooling after it.

use super::rewrite::{Operand, Rewrite};
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{AveragePool, Conv, MaxPool, Op, Pad, PadMode, Window};

/// Merges zero padding into a convolution or average pooling, and padding with −∞ into a maximum pooling.
#[allow(clippy::unnecessary_wraps, reason = "the signature of all passes")]
pub(super) fn merge(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    Ok(merged(view, id))
}

fn merged(view: &View<'_>, id: NodeId) -> Option<Rewrite> {
    let (&from, parameters) = view.operands(id).split_first()?;
    let (Op::Pad(pad), &[x]) = (view.op(from)?, view.operands(from)) else { return None };
    let PadMode::Constant(value) = pad.mode else { return None };
    let op: Op = match view.op(id)? {
        Op::Conv(conv) if value == 0.0 => Conv { window: padded(pad, &conv.window)?, ..conv.clone() }.into(),
        // Padding by a separate node is counted in averages, so all padding of the pooling must then be counted, too.
        Op::AveragePool(pool)
            if value == 0.0 && (pool.count_include_pad || pool.window.padding == [0; 4]) =>
        {
            AveragePool { window: pool_window(pad, &pool.window)?, count_include_pad: true }.into()
        }
        // With a dilation, a window can lie entirely in the padding, which maximum pooling rejects.
        Op::MaxPool(pool) if value == f64::NEG_INFINITY && pool.window.dilation == [1, 1] => {
            MaxPool { window: pool_window(pad, &pool.window)? }.into()
        }
        _ => return None,
    };
    let operands = std::iter::once(x).chain(parameters.iter().copied()).map(Operand::Node).collect();
    Some(Rewrite::Op(op, operands))
}

/// The window with this padding around its own.
fn padded(pad: &Pad, window: &Window) -> Option<Window> {
    let spatial = |amounts: &[usize]| match *amounts {
        [0, 0, width] => Some([0, width]),
        [0, 0, height, width] => Some([height, width]),
        _ => None,
    };
    let ([top, left], [bottom, right]) = (spatial(&pad.before)?, spatial(&pad.after)?);
    let mut padding = window.padding;
    for (own, more) in padding.iter_mut().zip([top, left, bottom, right]) {
        *own = own.checked_add(more)?;
    }
    Some(Window { padding, ..*window })
}

/// The same for pooling, whose padding must be narrower than the window. In ceil mode a window may not start in the
/// trailing padding, so it makes a difference whether padding belongs to the pooling.
fn pool_window(pad: &Pad, window: &Window) -> Option<Window> {
    let merged = padded(pad, window)?;
    let narrow = (0..4).all(|i| {
        let axis = i % 2;
        merged.padding[i] <= merged.dilation[axis].saturating_mul(merged.kernel[axis].saturating_sub(1))
    });
    (narrow && !window.ceil_mode).then_some(merged)
}
