//! Rectifiers written with comparisons, masks, maxima, absolute values or signs.

use super::super::rewrite::{Operand, Rewrite};
use super::super::view::View;
use super::form::{Form, Side, Terms, ZERO};
use super::{DEPTH, close, near};
use crate::graph::NodeId;
use crate::ops::{Binary, Compare, Op, Pointwise};

/// Arguments from which on softplus is the identity up to rounding, as in PyTorch.
const SOFTPLUS_IS_IDENTITY: f64 = 20.0;

/// Replaces the last operator of such arithmetic by the rectifier.
pub(super) fn fuse(view: &View<'_>, id: NodeId) -> Option<Rewrite> {
    let ends = match view.op(id)? {
        Op::Where(_) | Op::Pointwise(Pointwise::Neg) => true,
        Op::Binary(op) => !matches!(op, Binary::Pow | Binary::Mod | Binary::Remainder),
        _ => false,
    };
    if !ends {
        return clips(view, id);
    }
    let mut values = Vec::new();
    collect(view, id, DEPTH, &mut values);
    if !values.iter().any(|&v| has_kink(view, v)) {
        return None;
    }
    let rectifier = values.iter().skip(1).find_map(|&x| Some((rectifier(view, id, x, &values)?, x)));
    match rectifier {
        Some((op, x)) => Some(Rewrite::op(op, vec![Operand::Node(x)])),
        None => saturated_softplus(view, id, &values).map(Rewrite::Same).or_else(|| clips(view, id)),
    }
}

/// The node, the dynamic values that its arithmetic reads, and the intermediate ones.
fn collect(view: &View<'_>, id: NodeId, depth: usize, found: &mut Vec<NodeId>) {
    if view.constant(id).is_some() || found.contains(&id) {
        return;
    }
    found.push(id);
    let is_arithmetic = match view.op(id) {
        Some(Op::Binary(_) | Op::Where(_) | Op::Compare(_) | Op::Cast(_)) => true,
        Some(Op::Pointwise(function)) => {
            let smooth = Pointwise::Pow { exponent: 0.0 };
            has_kink(view, id)
                || matches!(function, Pointwise::Neg | Pointwise::Exp | Pointwise::Softplus)
                || std::mem::discriminant(function) == std::mem::discriminant(&smooth)
        }
        _ => false,
    };
    if is_arithmetic && depth > 0 {
        view.operands(id).iter().for_each(|&i| collect(view, i, depth - 1, found));
    }
}

fn has_kink(view: &View<'_>, id: NodeId) -> bool {
    matches!(
        view.op(id),
        Some(
            Op::Where(_)
                | Op::Compare(_)
                | Op::Binary(Binary::Max | Binary::Min)
                | Op::Pointwise(
                    Pointwise::Relu
                        | Pointwise::LeakyRelu { .. }
                        | Pointwise::Abs
                        | Pointwise::Sign
                        | Pointwise::Clip { .. }
                )
        )
    )
}

/// The rectifier of `x` that `id` is: it is found on both sides of 0 and at 0 itself.
fn rectifier(view: &View<'_>, id: NodeId, x: NodeId, values: &[NodeId]) -> Option<Pointwise> {
    let terms = Terms::new(view, x, None);
    let positive = terms.on(Side::Positive).form(id)?.slope().filter(|&slope| slope > 0.0)?;
    if terms.on(Side::Zero).form(id)?.as_constant()? != 0.0 {
        return None;
    }
    let is_identity = near(positive, 1.0);
    if let Some(negative) = terms.on(Side::Negative).form(id) {
        return match negative.slope()? {
            0.0 if is_identity => Some(Pointwise::Relu),
            slope if is_identity && slope > 0.0 && slope < 1.0 => Some(Pointwise::LeakyRelu { slope }),
            _ => None,
        };
    }
    values.iter().find_map(|&factor| exponential(view, id, (x, factor), positive))
}

/// ELU, SELU or CELU: `alpha · (e^(rate · x) − 1)` on the negative side.
fn exponential(
    view: &View<'_>,
    id: NodeId,
    (x, factor): (NodeId, NodeId),
    positive: f64,
) -> Option<Pointwise> {
    let (Pointwise::Exp, argument) = view.pointwise(factor)? else { return None };
    let rate = Terms::new(view, x, None).on(Side::Negative).form(argument)?.slope()?;
    let Form { plain, gated } = Terms::new(view, x, Some(factor)).on(Side::Negative).form(id)?;
    let alpha = gated[0];
    let fits = alpha > 0.0
        && close(&gated, &[alpha, 0.0, 0.0, 0.0, 0.0])
        && close(&plain, &[-alpha, 0.0, 0.0, 0.0, 0.0]);
    match (near(rate, 1.0), near(positive, 1.0)) {
        _ if !fits => None,
        (true, true) => Some(Pointwise::Elu { alpha }),
        (true, false) => Some(Pointwise::Selu { alpha: alpha / positive, gamma: positive }),
        (false, true) if near(rate * alpha, 1.0) => Some(Pointwise::Celu { alpha }),
        _ => None,
    }
}

/// The softplus that `id` is, if it is `where(β x > 20, x, softplus(β x) / β)`.
fn saturated_softplus(view: &View<'_>, id: NodeId, values: &[NodeId]) -> Option<NodeId> {
    let (Op::Where(_), &[condition, x, smooth]) = (view.op(id)?, view.operands(id)) else { return None };
    let (Op::Compare(Compare::Greater), &[compared, threshold]) =
        (view.op(condition)?, view.operands(condition))
    else {
        return None;
    };
    let rate = Terms::new(view, x, None).form(compared)?.slope().filter(|&rate| rate > 0.0)?;
    if view.scalar(threshold)? < SOFTPLUS_IS_IDENTITY {
        return None;
    }
    let fits = |factor: NodeId| {
        let (Pointwise::Softplus, argument) = view.pointwise(factor)? else { return None };
        let inner = Terms::new(view, x, None).form(argument)?.slope()?;
        let outer = Terms::new(view, x, Some(factor)).form(smooth)?;
        let gated = [rate.recip(), 0.0, 0.0, 0.0, 0.0];
        (near(inner, rate) && outer.plain == ZERO && close(&outer.gated, &gated)).then_some(())
    };
    values.iter().find_map(|&factor| fits(factor)).map(|()| smooth)
}

/// One clip instead of a minimum of a maximum with constants, or the reverse.
fn clips(view: &View<'_>, id: NodeId) -> Option<Rewrite> {
    let bounds = |id: NodeId| -> Option<(Option<f64>, Option<f64>, NodeId)> {
        if let Some((Pointwise::Clip { low, high }, x)) = view.pointwise(id) {
            return Some((low, high, x));
        }
        if let Some((Pointwise::Relu, x)) = view.pointwise(id) {
            return Some((Some(0.0), None, x));
        }
        let pair = view.with_constant(id)?;
        let bound = view.scalar(pair.constant)?;
        match pair.op {
            Binary::Max => Some((Some(bound), None, pair.x)),
            Binary::Min => Some((None, Some(bound), pair.x)),
            _ => None,
        }
    };
    if matches!(view.pointwise(id), Some((Pointwise::Relu, _))) {
        return None;
    }
    let (outer_low, outer_high, inner) = bounds(id)?;
    if !view.used_once(inner) {
        return None;
    }
    let (low, high, x) = bounds(inner)?;
    let tighter = |a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64| match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (a, b) => a.or(b),
    };
    let low = tighter(low, outer_low, f64::max);
    let high = tighter(high, outer_high, f64::min);
    if low.zip(high).is_some_and(|(low, high)| low >= high) {
        return None;
    }
    let op = if (low, high) == (Some(0.0), None) { Pointwise::Relu } else { Pointwise::Clip { low, high } };
    Some(Rewrite::op(op, vec![Operand::Node(x)]))
}
