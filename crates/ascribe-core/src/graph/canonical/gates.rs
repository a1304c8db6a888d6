//! Activations that exporters write as arithmetic: `SiLU`, hard swish, Mish and both forms of GELU.
//!
//! Each is `p(x) + q(x) · a(x)` with polynomials `p`, `q` and one transcendental or clipped factor `a`, but products may be
//! grouped differently and constants be in different places. So the arithmetic around `a` is evaluated symbolically and
//! compared with that form.

use super::rewrite::{Operand, Rewrite};
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Binary, Op, Pointwise};

/// Largest depth of operators up to which the arithmetic is analysed.
const DEPTH: usize = 6;

/// Relative deviation of a written-out constant: that of f32 rounding.
const TOLERANCE: f64 = 3e-7;

/// Coefficients of a polynomial in `x`, of degree 0 to 4.
type Polynomial = [f64; 5];

const ZERO: Polynomial = [0.0; 5];
const X: Polynomial = [0.0, 1.0, 0.0, 0.0, 0.0];
const HALF_X: Polynomial = [0.0, 0.5, 0.0, 0.0, 0.0];

/// Replaces the last operator of a written-out activation by the activation.
#[allow(clippy::unnecessary_wraps, reason = "the signature of all passes")]
pub(super) fn fuse(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    if !matches!(view.op(id), Some(Op::Binary(Binary::Mul | Binary::Div | Binary::Add))) {
        return Ok(None);
    }
    let mut factors = Vec::new();
    arithmetic(view, id, DEPTH, &mut factors);
    for factor in factors {
        if let Some((activation, x)) = recognise(view, id, factor) {
            return Ok(Some(Rewrite::op(activation, vec![Operand::Node(x)])));
        }
    }
    Ok(None)
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
        let argument = Form::of(view, argument, x, None, DEPTH)?;
        let outer = Form::of(view, id, x, Some(factor), DEPTH)?;
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
                let outer = Form::of(view, id, x, Some(factor), DEPTH)?;
                return (outer.plain == ZERO && outer.gated == X).then_some((Pointwise::Mish, x));
            }
            let slope = (2.0 / std::f64::consts::PI).sqrt();
            let inner = [0.0, slope, 0.0, 0.044_715 * slope, 0.0];
            some_operand(&|x| is(Pointwise::GeluTanh, x, inner, HALF_X, HALF_X))
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

fn close(a: &Polynomial, b: &Polynomial) -> bool {
    a.iter().zip(b).all(|(&a, &b)| near(a, b))
}

/// `plain(x) + gated(x) · factor`.
#[derive(Clone, Copy)]
struct Form {
    plain: Polynomial,
    gated: Polynomial,
}

impl Form {
    const ONE: Self = Self { plain: [1.0, 0.0, 0.0, 0.0, 0.0], gated: ZERO };

    /// The value of `id` in terms of `x` and `factor`, if it has this form.
    fn of(view: &View<'_>, id: NodeId, x: NodeId, factor: Option<NodeId>, depth: usize) -> Option<Self> {
        if id == x {
            return Some(Self { plain: X, gated: ZERO });
        }
        if Some(id) == factor {
            return Some(Self { plain: ZERO, gated: Self::ONE.plain });
        }
        if let Some(value) = view.scalar(id) {
            return Some(Self::ONE.scaled(value));
        }
        let depth = depth.checked_sub(1)?;
        let of = |id| Self::of(view, id, x, factor, depth);
        if let Some((base, exponent)) = view.power(id) {
            let base = of(base)?;
            return [2.0, 3.0, 4.0]
                .contains(&exponent)
                .then(|| (0..exponent as usize).try_fold(Self::ONE, |power, _| power.times(base)))?;
        }
        if let Some((Pointwise::Neg, operand)) = view.pointwise(id) {
            return Some(of(operand)?.scaled(-1.0));
        }
        let (op, a, b) = view.binary(id)?;
        match op {
            Binary::Add => Some(of(a)?.plus(of(b)?)),
            Binary::Sub => Some(of(a)?.plus(of(b)?.scaled(-1.0))),
            Binary::Mul => of(a)?.times(of(b)?),
            Binary::Div => Some(of(a)?.scaled(view.scalar(b)?.recip())),
            Binary::Max | Binary::Min | Binary::Pow | Binary::Mod | Binary::Remainder => None,
        }
    }

    fn scaled(self, factor: f64) -> Self {
        Self { plain: self.plain.map(|c| c * factor), gated: self.gated.map(|c| c * factor) }
    }

    fn plus(self, other: Self) -> Self {
        let sum = |a: Polynomial, b: Polynomial| std::array::from_fn(|i| a[i] + b[i]);
        Self { plain: sum(self.plain, other.plain), gated: sum(self.gated, other.gated) }
    }

    fn times(self, other: Self) -> Option<Self> {
        if self.gated != ZERO && other.gated != ZERO {
            return None;
        }
        let crossed = Self { plain: product(self.plain, other.gated)?, gated: ZERO };
        let gated = Self { plain: product(self.gated, other.plain)?, gated: ZERO }.plus(crossed).plain;
        Some(Self { plain: product(self.plain, other.plain)?, gated })
    }
}

/// The product, if its degree is at most 4.
fn product(a: Polynomial, b: Polynomial) -> Option<Polynomial> {
    let mut c = ZERO;
    for (i, a) in a.into_iter().enumerate().filter(|(_, a)| *a != 0.0) {
        for (j, b) in b.into_iter().enumerate().filter(|(_, b)| *b != 0.0) {
            *c.get_mut(i + j)? += a * b;
        }
    }
    Some(c)
}
