//! What happens to the scores of classifiers and regressors: their transformation, the second of two classes, and the label.

use ascribe_core::DType;
use ascribe_core::ops::{
    ArgExtreme, Binary, Cast, Compare, Pointwise, Reduce, ReduceFn, Softmax, Structure, Where,
};

use super::super::Call;
use super::Labels;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// The transformation of scores (`post_transform`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// That of a node, by name.
    pub fn of(call: &Call<'_>) -> Res<Self> {
        Ok(match call.mode("post_transform", "NONE")? {
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            _ => Self::None,
        })
    }

    /// By its number in `TreeEnsemble`.
    pub fn numbered(number: i64) -> Res<Self> {
        const ALL: [Transform; 5] = [
            Transform::None,
            Transform::Softmax,
            Transform::Logistic,
            Transform::SoftmaxZero,
            Transform::Probit,
        ];
        let found = usize::try_from(number).ok().and_then(|number| ALL.get(number));
        found.copied().ok_or_else(|| format!("post_transform is {number}; expected 0 to 4").into())
    }

    /// The name of the node that computes the scores before the transformation.
    pub fn before(self, call: &Call<'_>) -> String {
        if self == Self::None { call.name.into() } else { call.sub("scores") }
    }

    /// The transformed scores `[N, C]`, one column per class or target.
    pub fn apply(self, cx: &mut Context, call: &Call<'_>, x: &Value) -> Res<Value> {
        match self {
            Self::None => Ok(x.clone()),
            Self::Softmax => cx.apply(call.name, Softmax { axis: 1, log: false }, &[x], Elem::Float),
            Self::Logistic => cx.apply(call.name, Pointwise::Sigmoid, &[x], Elem::Float),
            Self::SoftmaxZero => softmax_zero(cx, call, x),
            Self::Probit => probit(cx, call, x),
        }
    }

    /// [`Transform::apply`] for regressors: onnxruntime transforms the score of a single target by PROBIT only.
    pub fn apply_to_targets(
        self,
        cx: &mut Context,
        call: &Call<'_>,
        x: &Value,
        targets: usize,
    ) -> Res<Value> {
        if targets > 1 || matches!(self, Self::None | Self::Probit) {
            return self.apply(cx, call, x);
        }
        cx.notes.push(format!(
            "{} '{}' has one target, whose transformation {self:?} is not applied, as in onnxruntime",
            call.op, call.name
        ));
        cx.apply(call.name, Structure::Identity, &[x], Elem::Float)
    }
}

/// The scores of two classes from the one score `s` `[N, 1]` of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// `[1 − s, s]`: s is a probability.
    Complement,
    /// `[−s, s]`: s is a margin.
    Negated,
    /// `[σ(−s), σ(s)]`, which is the softmax of `[−s/2, s/2]`.
    Logistic,
}

impl Pair {
    pub fn apply(self, cx: &mut Context, call: &Call<'_>, s: &Value) -> Res<Value> {
        let concat = Structure::Concat { axis: 1 };
        match self {
            Self::Complement => {
                let one = cx.number(&call.sub("one"), 1.0)?;
                let other = cx.apply(&call.sub("other class"), Binary::Sub, &[&one, s], Elem::Float)?;
                cx.apply(call.name, concat, &[&other, s], Elem::Float)
            }
            Self::Negated => {
                let other = cx.apply(&call.sub("other class"), Pointwise::Neg, &[s], Elem::Float)?;
                cx.apply(call.name, concat, &[&other, s], Elem::Float)
            }
            Self::Logistic => {
                let half = cx.number(&call.sub("half"), 0.5)?;
                let own = cx.apply(&call.sub("own class"), Binary::Mul, &[s, &half], Elem::Float)?;
                let other = cx.apply(&call.sub("other class"), Pointwise::Neg, &[&own], Elem::Float)?;
                let logits = cx.apply(&call.sub("logits"), concat, &[&other, &own], Elem::Float)?;
                cx.apply(call.name, Softmax { axis: 1, log: false }, &[&logits], Elem::Float)
            }
        }
    }
}

/// The label of the first largest score `[N, C]`: `[N]`.
pub(super) fn largest(cx: &mut Context, call: &Call<'_>, scores: &Value, labels: &Labels) -> Res<Value> {
    let op = ArgExtreme { axis: 1, largest: true, last: false, keep: false };
    let place = cx.apply(&call.sub("place"), op, &[scores], Elem::Int)?;
    labels.at(cx, &call.sub("label"), &place)
}

/// The second label where the score `[N, 1]` is above a threshold, the first elsewhere: `[N]`.
pub(super) fn above(
    cx: &mut Context,
    call: &Call<'_>,
    score: &Value,
    threshold: f64,
    labels: &Labels,
) -> Res<Value> {
    let threshold = cx.number(&call.sub("threshold"), threshold)?;
    let above = cx.apply(&call.sub("above"), Compare::Greater, &[score, &threshold], Elem::Bool)?;
    let place = cx.apply(&call.sub("place"), Cast { to: DType::I64 }, &[&above], Elem::Int)?;
    let place = cx.reshape_by(&call.sub("places"), &place, |shape| Ok(shape[..1].to_vec()))?;
    labels.at(cx, &call.sub("label"), &place)
}

/// Scores within this distance of zero count as zero.
const NOTHING: f64 = 1e-7;

/// The softmax in which scores of zero get no part: `e^(x − m) / Σ e^(xᵢ − m)` for scores that are not zero, with the largest
/// score m.
fn softmax_zero(cx: &mut Context, call: &Call<'_>, x: &Value) -> Res<Value> {
    let over = |function| Reduce { function, axes: vec![1], keep: true };
    let largest = cx.apply(&call.sub("largest"), over(ReduceFn::Max), &[x], Elem::Float)?;
    let shifted = cx.apply(&call.sub("shifted"), Binary::Sub, &[x, &largest], Elem::Float)?;
    let exp = cx.apply(&call.sub("exp"), Pointwise::Exp, &[&shifted], Elem::Float)?;
    let size = cx.apply(&call.sub("size"), Pointwise::Abs, &[x], Elem::Float)?;
    let (nothing, zero) = (cx.number(&call.sub("nothing"), NOTHING)?, cx.number(&call.sub("zero"), 0.0)?);
    let counts = cx.apply(&call.sub("counts"), Compare::Greater, &[&size, &nothing], Elem::Bool)?;
    let parts = cx.apply(&call.sub("parts"), Where, &[&counts, &exp, &zero], Elem::Float)?;
    let sum = cx.apply(&call.sub("sum"), over(ReduceFn::Sum), &[&parts], Elem::Float)?;
    cx.apply(call.name, Binary::Div, &[&parts, &sum], Elem::Float)
}

/// `√2 erf⁻¹(2 p − 1)`, with the approximation of the inverse error function by Winitzki (2008) that onnxruntime uses:
/// `erf⁻¹(x) ≈ sign(x) √(√(v² − l / a) − v)` with `l = ln((1 − x) (1 + x))`, `v = 2 / (π a) + l / 2`, `a = 0.147`.
fn probit(cx: &mut Context, call: &Call<'_>, p: &Value) -> Res<Value> {
    const A: f64 = 0.147;
    /// π as onnxruntime writes it.
    #[allow(clippy::approx_constant)]
    const PI: f64 = 3.14159;
    let mut step = 0;
    let mut with = |cx: &mut Context, op: Binary, x: &Value, number: f64| {
        step += 1;
        let number = cx.number(&call.sub(&format!("number {step}")), number)?;
        cx.apply(&call.sub(&format!("step {step}")), op, &[x, &number], Elem::Float)
    };
    let double = with(cx, Binary::Mul, p, 2.0)?;
    let x = with(cx, Binary::Sub, &double, 1.0)?;
    let negative = cx.apply(&call.sub("negative"), Pointwise::Neg, &[&x], Elem::Float)?;
    let (low, high) = (with(cx, Binary::Add, &negative, 1.0)?, with(cx, Binary::Add, &x, 1.0)?);
    let rest = cx.apply(&call.sub("rest"), Binary::Mul, &[&low, &high], Elem::Float)?;
    let log = cx.apply(&call.sub("log"), Pointwise::Log, &[&rest], Elem::Float)?;
    let half = with(cx, Binary::Mul, &log, 0.5)?;
    let v = with(cx, Binary::Add, &half, 2.0 / (PI * A))?;
    let part = with(cx, Binary::Mul, &log, 1.0 / A)?;
    let v2 = cx.apply(&call.sub("v squared"), Binary::Mul, &[&v, &v], Elem::Float)?;
    let inside = cx.apply(&call.sub("inside"), Binary::Sub, &[&v2, &part], Elem::Float)?;
    let root = cx.apply(&call.sub("inner root"), Pointwise::Sqrt, &[&inside], Elem::Float)?;
    let difference = cx.apply(&call.sub("difference"), Binary::Sub, &[&root, &v], Elem::Float)?;
    let size = cx.apply(&call.sub("outer root"), Pointwise::Sqrt, &[&difference], Elem::Float)?;
    let sign = cx.apply(&call.sub("sign"), Pointwise::Sign, &[&x], Elem::Float)?;
    let scaled = with(cx, Binary::Mul, &size, std::f64::consts::SQRT_2)?;
    cx.apply(call.name, Binary::Mul, &[&sign, &scaled], Elem::Float)
}
