//! Activations that exporters and authors write as arithmetic.
//!
//! Smooth ones, `SiLU` (also as the quick GELU `x · σ(1.702 x)`), hard swish, Mish and both forms of GELU, are
//! `p(x) + q(x) · a(x)` with polynomials `p`, `q` and one transcendental or clipped factor `a`, but products may be
//! grouped differently and constants be in different places. So the arithmetic around `a` is evaluated symbolically and
//! compared with that form. Rectifiers with a kink ([`piecewise`]) are evaluated so on both sides of 0 and at 0.

mod form;
mod piecewise;

use form::{HALF_X, Polynomial, Terms, X, ZERO, close};

use super::rewrite::{Operand, Rewrite};
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Binary, Op, Pointwise};

/// Largest depth of operators up to which the arithmetic is analysed.
const DEPTH: usize = 6;

/// Relative deviation of a written-out constant: that of f32 rounding.
const TOLERANCE: f64 = 3e-7;

/// Replaces the last operator of a written-out activation by the activation.
#[allow(clippy::unnecessary_wraps, reason = "the signature of all passes")]
pub(super) fn fuse(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    Ok(smooth(view, id).or_else(|| logistic(view, id)).or_else(|| piecewise::fuse(view, id)))
}

fn smooth(view: &View<'_>, id: NodeId) -> Option<Rewrite> {
    if !matches!(view.op(id)?, Op::Binary(Binary::Mul | Binary::Div | Binary::Add)) {
        return None;
    }
    let mut factors = Vec::new();
    arithmetic(view, id, DEPTH, &mut factors);
    let recognised = factors.iter().find_map(|&factor| recognise(view, id, factor));
    match recognised {
        Some((activation, x)) => Some(Rewrite::op(activation, vec![Operand::Node(x)])),
        None => factors.iter().find_map(|&factor| scaled_silu(view, id, factor, &factors)),
    }
}

/// `x · σ(c x)` with `c > 0`, the quick GELU among them, as `silu(c x) / c`.
fn scaled_silu(view: &View<'_>, id: NodeId, factor: NodeId, values: &[NodeId]) -> Option<Rewrite> {
    let (Pointwise::Sigmoid, argument) = view.pointwise(factor)? else { return None };
    values.iter().skip(1).find_map(|&x| {
        let rate = Terms::new(view, x, None).form(argument)?.slope().filter(|&rate| rate > 0.0)?;
        let outer = Terms::new(view, x, Some(factor)).form(id)?;
        let fits = outer.plain == ZERO && close(&outer.gated, &X);
        fits.then(|| silu_over(view, id, Operand::Node(argument), rate)).flatten()
    })
}

/// `silu(argument) / rate`, as the operator of node `id`.
fn silu_over(view: &View<'_>, id: NodeId, argument: Operand, rate: f64) -> Option<Rewrite> {
    let name = view.name(id);
    let silu = Operand::Computed { from: name.into(), op: Pointwise::Silu.into(), operands: vec![argument] };
    let rate = view.number(rate.recip()).ok()?;
    Some(Rewrite::op(Binary::Mul, vec![silu, Operand::new(name, rate)]))
}

/// The logistic function, `SiLU` and softplus with the exponential function written out: `1 / (1 + e⁻ˣ)`,
/// `x / (1 + e^(−c x))` and `ln(1 + eˣ)`.
fn logistic(view: &View<'_>, id: NodeId) -> Option<Rewrite> {
    // The exponent of `1 + eᵗ`.
    let exponent = |id: NodeId| -> Option<NodeId> {
        let sum = view.with_constant(id)?;
        let is_one = sum.op == Binary::Add && view.scalar(sum.constant)? == 1.0;
        let (function, t) = view.pointwise(sum.x)?;
        (is_one && function == Pointwise::Exp).then_some(t)
    };
    let negated = |t: NodeId| match view.pointwise(t)? {
        (Pointwise::Neg, x) => Some(x),
        _ => None,
    };
    match (view.op(id)?, view.operands(id)) {
        (Op::Pointwise(Pointwise::Log), &[sum]) => {
            Some(Rewrite::op(Pointwise::Softplus, vec![Operand::Node(exponent(sum)?)]))
        }
        (Op::Pointwise(Pointwise::Reciprocal), &[sum]) => {
            Some(Rewrite::op(Pointwise::Sigmoid, vec![Operand::Node(negated(exponent(sum)?)?)]))
        }
        (Op::Binary(Binary::Div), &[one, sum]) if view.scalar(one) == Some(1.0) => {
            Some(Rewrite::op(Pointwise::Sigmoid, vec![Operand::Node(negated(exponent(sum)?)?)]))
        }
        (Op::Binary(Binary::Div), &[x, sum]) if view.constant(x).is_none() => {
            let t = exponent(sum)?;
            let rate = -Terms::new(view, x, None).form(t)?.slope()?;
            if near(rate, 1.0) {
                return Some(Rewrite::op(Pointwise::Silu, vec![Operand::Node(x)]));
            }
            let operands = vec![Operand::Node(t)];
            let argument =
                Operand::Computed { from: view.name(t).into(), op: Pointwise::Neg.into(), operands };
            (rate > 0.0).then(|| silu_over(view, id, argument, rate)).flatten()
        }
        _ => None,
    }
}

/// All dynamic values that the arithmetic which ends at `id` reads, and its intermediate values.
fn arithmetic(view: &View<'_>, id: NodeId, depth: usize, found: &mut Vec<NodeId>) {
    if view.constant(id).is_some() || found.contains(&id) {
        return;
    }
    found.push(id);
    let is_arithmetic =
        matches!(view.op(id), Some(Op::Binary(_) | Op::Pointwise(Pointwise::Pow { .. } | Pointwise::Neg)));
    if is_arithmetic && depth > 0 {
        view.operands(id).iter().for_each(|&i| arithmetic(view, i, depth - 1, found));
    }
}

/// The activation that `id` is with `factor` as its non-polynomial factor, and the activation's operand.
fn recognise(view: &View<'_>, id: NodeId, factor: NodeId) -> Option<(Pointwise, NodeId)> {
    let (function, argument) = view.pointwise(factor)?;
    let is = |activation: Pointwise, x: NodeId, inner: Polynomial, plain: Polynomial, gated: Polynomial| {
        let argument = Terms::new(view, x, None).form(argument)?;
        let outer = Terms::new(view, x, Some(factor)).form(id)?;
        let fits =
            close(&argument.plain, &inner) && close(&outer.plain, &plain) && close(&outer.gated, &gated);
        fits.then_some((activation, x))
    };
    let gate = |activation, gated| is(activation, argument, X, ZERO, gated);
    let some_operand = |test: &dyn Fn(NodeId) -> Option<(Pointwise, NodeId)>| {
        let mut candidates = Vec::new();
        arithmetic(view, argument, DEPTH, &mut candidates);
        candidates.into_iter().find_map(test)
    };
    match function {
        Pointwise::Sigmoid => gate(Pointwise::Silu, X),
        Pointwise::HardSigmoid { alpha, beta } if near(alpha, 1.0 / 6.0) && near(beta, 0.5) => {
            gate(Pointwise::HardSwish, X)
        }
        Pointwise::Clip { low: Some(0.0), high: Some(6.0) } => some_operand(&|x| {
            let gated = [0.0, 1.0 / 6.0, 0.0, 0.0, 0.0];
            is(Pointwise::HardSwish, x, [3.0, 1.0, 0.0, 0.0, 0.0], ZERO, gated)
        }),
        Pointwise::Tanh => {
            if let Some((Pointwise::Softplus, x)) = view.pointwise(argument) {
                let outer = Terms::new(view, x, Some(factor)).form(id)?;
                return (outer.plain == ZERO && outer.gated == X).then_some((Pointwise::Mish, x));
            }
            let slope = (2.0 / std::f64::consts::PI).sqrt();
            let inner = [0.0, slope, 0.0, 0.044_715 * slope, 0.0];
            some_operand(&|x| {
                is(Pointwise::GeluTanh, x, inner, HALF_X, HALF_X)
                    .or_else(|| is(Pointwise::Silu, x, HALF_X, HALF_X, HALF_X))
            })
        }
        Pointwise::Erf => {
            let inner = [0.0, std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0, 0.0];
            some_operand(&|x| is(Pointwise::Gelu, x, inner, HALF_X, HALF_X))
        }
        _ => None,
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * b.abs()
}
