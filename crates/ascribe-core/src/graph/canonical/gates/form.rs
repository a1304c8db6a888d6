//! Symbolic evaluation of the arithmetic around one value.

use std::cmp::Ordering;

use super::super::view::View;
use super::{DEPTH, near};
use crate::graph::NodeId;
use crate::ops::{Binary, Compare, Op, Pointwise};

/// Coefficients of a polynomial in `x`, of degree 0 to 4.
pub(super) type Polynomial = [f64; 5];

pub(super) const ZERO: Polynomial = [0.0; 5];
pub(super) const X: Polynomial = [0.0, 1.0, 0.0, 0.0, 0.0];
pub(super) const HALF_X: Polynomial = [0.0, 0.5, 0.0, 0.0, 0.0];

/// Which values of `x` are considered: those on which comparisons with 0 have one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Positive,
    Zero,
    Negative,
}

/// `plain(x) + gated(x) · factor`.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub plain: Polynomial,
    pub gated: Polynomial,
}

impl Form {
    fn constant(value: f64) -> Self {
        Self { plain: [value, 0.0, 0.0, 0.0, 0.0], gated: ZERO }
    }

    /// The value, if it does not depend on `x` and the factor.
    pub(super) fn as_constant(&self) -> Option<f64> {
        (self.gated == ZERO && self.plain[1..] == ZERO[1..]).then_some(self.plain[0])
    }

    /// `c`, if the value is `c · x`.
    pub(super) fn slope(&self) -> Option<f64> {
        let c = self.plain[1];
        (self.gated == ZERO && self.plain == [0.0, c, 0.0, 0.0, 0.0]).then_some(c)
    }

    fn scaled(self, factor: f64) -> Self {
        Self { plain: self.plain.map(|c| c * factor), gated: self.gated.map(|c| c * factor) }
    }

    fn plus(self, other: Self) -> Self {
        let sum = |a: Polynomial, b: Polynomial| std::array::from_fn(|i| a[i] + b[i]);
        Self { plain: sum(self.plain, other.plain), gated: sum(self.gated, other.gated) }
    }

    fn minus(self, other: Self) -> Self {
        self.plus(other.scaled(-1.0))
    }

    fn times(self, other: Self) -> Option<Self> {
        if self.gated != ZERO && other.gated != ZERO {
            return None;
        }
        let crossed = Self { plain: product(self.plain, other.gated)?, gated: ZERO };
        let gated = Self { plain: product(self.gated, other.plain)?, gated: ZERO }.plus(crossed).plain;
        Some(Self { plain: product(self.plain, other.plain)?, gated })
    }

    /// How the value compares with 0, if that is the same for all `x` on this side.
    fn sign(&self, side: Side) -> Option<Ordering> {
        if self.gated != ZERO {
            return None;
        }
        let signed = |(i, &c): (usize, &f64)| {
            let c = if side == Side::Negative && i % 2 == 1 { -c } else { c };
            c.partial_cmp(&0.0)
        };
        let mut signs = self.plain.iter().enumerate().filter(|(_, c)| **c != 0.0).map(signed);
        let first = signs.next().unwrap_or(Some(Ordering::Equal))?;
        signs.all(|sign| sign == Some(first)).then_some(first)
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

/// What values are expressed in.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a, 'v> {
    pub view: &'a View<'v>,
    pub x: NodeId,
    /// A node that is not analysed further.
    pub factor: Option<NodeId>,
    /// The values of `x` considered; all, if this is absent, and then functions with a kink have no form.
    pub side: Option<Side>,
}

impl<'a, 'v> Terms<'a, 'v> {
    pub(super) fn new(view: &'a View<'v>, x: NodeId, factor: Option<NodeId>) -> Self {
        Self { view, x, factor, side: None }
    }

    pub(super) fn on(self, side: Side) -> Self {
        Self { side: Some(side), ..self }
    }

    /// The value of a node, if it has this form.
    pub(super) fn form(&self, id: NodeId) -> Option<Form> {
        self.of(id, DEPTH)
    }

    fn of(&self, id: NodeId, depth: usize) -> Option<Form> {
        if id == self.x {
            let plain = if self.side == Some(Side::Zero) { ZERO } else { X };
            return Some(Form { plain, gated: ZERO });
        }
        if Some(id) == self.factor {
            return Some(Form { plain: ZERO, gated: Form::constant(1.0).plain });
        }
        if let Some(value) = self.number(id) {
            return Some(Form::constant(value));
        }
        let depth = depth.checked_sub(1)?;
        let of = |id| self.of(id, depth);
        if let Some((base, exponent)) = self.view.power(id) {
            let base = of(base)?;
            return [2.0, 3.0, 4.0].contains(&exponent).then(|| {
                (0..exponent as usize).try_fold(Form::constant(1.0), |power, _| power.times(base))
            })?;
        }
        if let Some((Pointwise::Neg, operand)) = self.view.pointwise(id) {
            return Some(of(operand)?.scaled(-1.0));
        }
        match self.view.binary(id) {
            Some((Binary::Add, a, b)) => Some(of(a)?.plus(of(b)?)),
            Some((Binary::Sub, a, b)) => Some(of(a)?.minus(of(b)?)),
            Some((Binary::Mul, a, b)) => of(a)?.times(of(b)?),
            Some((Binary::Div, a, b)) => Some(of(a)?.scaled(self.number(b)?.recip())),
            _ => self.switched(id, self.side?, &of),
        }
    }

    /// The value of a constant that is the same everywhere and adds no axes to `x`.
    fn number(&self, id: NodeId) -> Option<f64> {
        match (self.view.scalar(id), self.side) {
            (None, Some(_)) => self.view.uniform(id).filter(|_| self.view.adds_no_axes(id, self.x)),
            (value, _) => value,
        }
    }

    /// The value of a function that depends on the side.
    fn switched(&self, id: NodeId, side: Side, of: &dyn Fn(NodeId) -> Option<Form>) -> Option<Form> {
        let truth = |value: bool| Form::constant(if value { 1.0 } else { 0.0 });
        let larger = |a: Form, b: Form| Some(if a.minus(b).sign(side)?.is_ge() { a } else { b });
        let smaller = |a: Form, b: Form| Some(if a.minus(b).sign(side)?.is_le() { a } else { b });
        match (self.view.op(id)?, self.view.operands(id)) {
            (Op::Where(_), &[condition, a, b]) => {
                if of(condition)?.as_constant()? == 0.0 {
                    of(b)
                } else {
                    of(a)
                }
            }
            (Op::Binary(Binary::Max), &[a, b]) => larger(of(a)?, of(b)?),
            (Op::Binary(Binary::Min), &[a, b]) => smaller(of(a)?, of(b)?),
            (Op::Cast(_), &[a]) => of(a).filter(|form| form.as_constant().is_some()),
            (Op::Compare(Compare::Not), &[a]) => Some(truth(of(a)?.as_constant()? == 0.0)),
            (Op::Compare(op @ (Compare::And | Compare::Or)), &[a, b]) => {
                let (a, b) = (of(a)?.as_constant()? != 0.0, of(b)?.as_constant()? != 0.0);
                Some(truth(if *op == Compare::And { a && b } else { a || b }))
            }
            (Op::Compare(op), &[a, b]) => {
                let order = of(a)?.minus(of(b)?).sign(side)?;
                Some(truth(match op {
                    Compare::Less => order.is_lt(),
                    Compare::LessOrEqual => order.is_le(),
                    Compare::Greater => order.is_gt(),
                    Compare::GreaterOrEqual => order.is_ge(),
                    _ => order.is_eq(),
                }))
            }
            (Op::Pointwise(function), &[a]) => {
                let a = of(a)?;
                let sign = || a.sign(side);
                match *function {
                    Pointwise::Relu => Some(if sign()?.is_gt() { a } else { Form::constant(0.0) }),
                    Pointwise::LeakyRelu { slope } => Some(if sign()?.is_gt() { a } else { a.scaled(slope) }),
                    Pointwise::Abs => Some(if sign()?.is_ge() { a } else { a.scaled(-1.0) }),
                    Pointwise::Sign => Some(Form::constant(f64::from(sign()? as i8))),
                    Pointwise::Clip { low, high } => {
                        let a = low.map_or(Some(a), |low| larger(a, Form::constant(low)))?;
                        high.map_or(Some(a), |high| smaller(a, Form::constant(high)))
                    }
                    Pointwise::Exp => Some(Form::constant(a.as_constant()?.exp())),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Whether two polynomials are the same up to rounding of their coefficients.
pub(super) fn close(a: &Polynomial, b: &Polynomial) -> bool {
    a.iter().zip(b).all(|(&a, &b)| near(a, b))
}
