//! Activations and other functions that are applied to each value.

use ascribe_core::ops::{Binary, Compare, PRelu, Pointwise, Where};

use super::Call;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// The function of a node that applies a function to each value; `None` for other operators.
pub(super) fn pointwise(call: &Call<'_>) -> Res<Option<Pointwise>> {
    let float = |name: &str, default: f32| call.attributes.float_or(name, default);
    Ok(Some(match call.op {
        "Relu" => Pointwise::Relu,
        "LeakyRelu" => Pointwise::LeakyRelu { slope: float("alpha", 0.01)? },
        "Elu" => Pointwise::Elu { alpha: float("alpha", 1.0)? },
        "Selu" => Pointwise::Selu { alpha: float("alpha", 1.673_263_2)?, gamma: float("gamma", 1.050_701)? },
        "Celu" => Pointwise::Celu { alpha: float("alpha", 1.0)? },
        "Gelu" if call.mode("approximate", "none")? == "tanh" => Pointwise::GeluTanh,
        "Gelu" => Pointwise::Gelu,
        "HardSwish" => Pointwise::HardSwish,
        "HardSigmoid" => Pointwise::HardSigmoid { alpha: float("alpha", 0.2)?, beta: float("beta", 0.5)? },
        "Sigmoid" => Pointwise::Sigmoid,
        "Tanh" => Pointwise::Tanh,
        "Softplus" => Pointwise::Softplus,
        "Softsign" => Pointwise::Softsign,
        "Mish" => Pointwise::Mish,
        "Erf" => Pointwise::Erf,
        "Exp" => Pointwise::Exp,
        "Log" => Pointwise::Log,
        "Sqrt" => Pointwise::Sqrt,
        "Abs" => Pointwise::Abs,
        "Neg" => Pointwise::Neg,
        "Reciprocal" => Pointwise::Reciprocal,
        "Sin" => Pointwise::Sin,
        "Cos" => Pointwise::Cos,
        "Tan" => Pointwise::Tan,
        "Asin" => Pointwise::Asin,
        "Acos" => Pointwise::Acos,
        "Atan" => Pointwise::Atan,
        "Sinh" => Pointwise::Sinh,
        "Cosh" => Pointwise::Cosh,
        "Asinh" => Pointwise::Asinh,
        "Acosh" => Pointwise::Acosh,
        "Atanh" => Pointwise::Atanh,
        "Shrink" => Pointwise::Shrink { threshold: float("lambd", 0.5)?, bias: float("bias", 0.0)? },
        "Sign" => Pointwise::Sign,
        "Floor" => Pointwise::Floor,
        "Ceil" => Pointwise::Ceil,
        "Round" => Pointwise::Round,
        _ => return Ok(None),
    }))
}

pub(super) fn apply(cx: &mut Context, call: &Call<'_>, function: Pointwise) -> Res<Value> {
    let x = call.input(0)?;
    if x.elem()? != Elem::Float {
        return Err("is supported only on floating-point values".into());
    }
    // Attributes such as slopes are stored as f32 and are used exactly as stored, also when the graph computes in f64.
    cx.apply(call.name, function, &[x], Elem::Float)
}

pub(super) fn clip(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    if call.opset < 11 {
        let bound = |name: &str| call.attributes.float(name);
        return bounded(cx, call.name, x, bound("min")?, bound("max")?);
    }
    let bounds = [call.optional(1), call.optional(2)];
    if x.elem()? == Elem::Float && bounds.iter().flatten().all(|b| b.known().is_some()) {
        let number = |b: Option<&Value>| b.map(|b| b.array("a bound")?.scalar()).transpose();
        return bounded(cx, call.name, x, number(bounds[0])?, number(bounds[1])?);
    }
    let mut value = cx.as_long(&call.sub("integers"), x)?;
    if let Some(low) = bounds[0] {
        let name = if bounds[1].is_some() { call.sub("low") } else { call.name.to_string() };
        value = cx.apply(&name, Binary::Max, &[&value, low], x.elem()?)?;
    }
    match bounds[1] {
        Some(high) => cx.apply(call.name, Binary::Min, &[&value, high], x.elem()?),
        None => Ok(value),
    }
}

/// Clips to constant bounds.
fn bounded(cx: &mut Context, name: &str, x: &Value, low: Option<f64>, high: Option<f64>) -> Res<Value> {
    // In old files, the default bounds are the largest finite numbers, which means no bound.
    let low = low.filter(|&l| l > f64::from(f32::MIN));
    let high = high.filter(|&h| h < f64::from(f32::MAX));
    if x.elem()? != Elem::Float {
        return Err("is supported only on floating-point values".into());
    }
    let function = match (low, high) {
        (Some(0.0), None) => Pointwise::Relu,
        _ => Pointwise::Clip { low, high },
    };
    cx.apply(name, function, &[x], Elem::Float)
}

pub(super) fn prelu(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    cx.apply(call.name, PRelu, &[call.input(0)?, call.input(1)?], Elem::Float)
}

/// `x · σ(alpha · x)`.
pub(super) fn swish(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, alpha) = (call.input(0)?, call.attributes.float_or("alpha", 1.0)?);
    if alpha == 1.0 {
        return cx.apply(call.name, Pointwise::Silu, &[x], Elem::Float);
    }
    let factor = cx.number(&call.sub("alpha"), alpha)?;
    let scaled = cx.apply(&call.sub("scale"), Binary::Mul, &[x, &factor], Elem::Float)?;
    let gate = cx.apply(&call.sub("sigmoid"), Pointwise::Sigmoid, &[&scaled], Elem::Float)?;
    cx.apply(call.name, Binary::Mul, &[x, &gate], Elem::Float)
}

/// `SwiGLU`: `a · σ(alpha · a) · b`.
pub(super) fn gated_swish(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    if call.input(0)?.shapes()? != call.input(1)?.shapes()? {
        return Err("expects a gate and a value of the same shape".into());
    }
    let own = call.sub("gate");
    let gate = swish(cx, &call.named(&own))?;
    cx.apply(call.name, Binary::Mul, &[&gate, call.input(1)?], Elem::Float)
}

/// `x` where it is above `alpha`, 0 elsewhere.
pub(super) fn thresholded(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let alpha = cx.number(&call.sub("alpha"), call.attributes.float_or("alpha", 1.0)?)?;
    let zero = cx.number(&call.sub("zero"), 0.0)?;
    let above = cx.apply(&call.sub("greater"), Compare::Greater, &[x, &alpha], Elem::Bool)?;
    cx.apply(call.name, Where, &[&above, x, &zero], Elem::Float)
}
