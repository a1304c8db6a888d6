//! Arithmetic, comparisons and casts.

use ascribe_core::DType;
use ascribe_core::ops::{Binary, Cast, Compare, Pointwise, Where};

use super::Call;
use crate::onnx::context::Context;
use crate::onnx::tensors::elem_of;
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn binary(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let operands = call.all()?;
    if call.attributes.has("axis") || call.attributes.flag("broadcast", false)? {
        return Err("uses the broadcasting rules of operator sets before 7, which are not supported".into());
    }
    if call.op == "Pow" {
        return power(cx, call);
    }
    let op = match call.op {
        "Add" | "Sum" | "Mean" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Max" => Binary::Max,
        _ => Binary::Min,
    };
    let (first, rest) = operands.split_first().ok_or("has no operands")?;
    let elem = first.elem()?;
    if elem == Elem::Bool || rest.iter().any(|v| v.elem().is_ok_and(|e| e != elem)) {
        return Err("its operands have different types or are booleans".into());
    }
    let mut result = (*first).clone();
    if elem == Elem::Int && operands.iter().all(|v| v.known().is_some()) {
        return Err("is supported on integers only for small constants".into());
    }
    if elem == Elem::Int && op == Binary::Div {
        // Division of integers rounds towards zero; a divisor that is computed could be zero.
        let constant = |v: &&Value| match v.known() {
            Some(known) => Ok(!known.array()?.as_ints()?.contains(&0)),
            None => Ok(false),
        };
        if !rest.iter().map(constant).collect::<Res<Vec<bool>>>()?.into_iter().all(|fine| fine) {
            return Err("divides integers by a number that is computed, or by zero".into());
        }
    }
    for (i, next) in rest.iter().enumerate() {
        let last = i + 1 == rest.len() && call.op != "Mean";
        let name = if last { call.name.to_string() } else { call.sub(&i.to_string()) };
        result = cx.apply_broadcast(&name, op, &[&result, next], elem)?;
    }
    if call.op == "Mean" {
        let count = cx.number(&call.sub("count"), operands.len() as f64)?;
        result = cx.apply(call.name, Binary::Div, &[&result, &count], elem)?;
    }
    Ok(result)
}

fn power(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, y) = (call.input(0)?, call.input(1)?);
    if x.elem()? != Elem::Float {
        return Err("is supported on integers only for small constants".into());
    }
    if let Some(known) = y.known()
        && known.tensor.elem_count() == 1
        && known.tensor.rank() <= x.rank()?
    {
        let exponent = known.array()?.scalar()?;
        return cx.apply(call.name, Pointwise::Pow { exponent }, &[x], Elem::Float);
    }
    let y = cx.as_float(&call.sub("exponent"), y)?;
    cx.apply_broadcast(call.name, Binary::Pow, &[x, &y], Elem::Float)
}

pub(super) fn compare(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let op = match call.op {
        "Equal" => Compare::Equal,
        "Less" => Compare::Less,
        "LessOrEqual" => Compare::LessOrEqual,
        "Greater" => Compare::Greater,
        "GreaterOrEqual" => Compare::GreaterOrEqual,
        "And" => Compare::And,
        _ => Compare::Or,
    };
    cx.apply_broadcast(call.name, op, &[call.input(0)?, call.input(1)?], Elem::Bool)
}

pub(super) fn select(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let operands = [call.input(0)?, call.input(1)?, call.input(2)?];
    let elem = operands[1].elem()?;
    if elem != operands[2].elem()? {
        return Err("selects from values of different types".into());
    }
    cx.apply_broadcast(call.name, Where, &operands, elem)
}

pub(super) fn cast(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let to = match call.op {
        "Cast" => elem_of(call.attributes.int("to")?.unwrap_or(0) as i32)?,
        _ => call.input(1)?.elem()?,
    };
    match (x.elem()?, to) {
        // All floating-point types are computed in one type, all integers in 64 bits.
        (from, to) if from == to => Ok(x.clone()),
        (Elem::Text, _) | (_, Elem::Text) => Err("converts between numbers and text".into()),
        (_, Elem::Float) => cx.apply(call.name, Cast { to: cx.dtype }, &[x], Elem::Float),
        (_, Elem::Int) => cx.apply(call.name, Cast { to: DType::I64 }, &[x], Elem::Int),
        (_, Elem::Bool) => {
            let zero = cx.apply(&call.sub("zero"), Compare::Not, &[x], Elem::Bool)?;
            cx.apply(call.name, Compare::Not, &[&zero], Elem::Bool)
        }
    }
}

/// `IsNaN` and `IsInf`.
pub(super) fn special(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    if call.op == "IsNaN" {
        // Only NaN differs from itself.
        let number = cx.apply(&call.sub("number"), Compare::Equal, &[x, x], Elem::Bool)?;
        return cx.apply(call.name, Compare::Not, &[&number], Elem::Bool);
    }
    let infinity = cx.number(&call.sub("infinity"), f64::INFINITY)?;
    let sides =
        (call.attributes.flag("detect_negative", true)?, call.attributes.flag("detect_positive", true)?);
    let side = match sides {
        (true, true) => cx.apply(&call.sub("abs"), Pointwise::Abs, &[x], Elem::Float)?,
        (true, false) => cx.apply(&call.sub("negative"), Pointwise::Neg, &[x], Elem::Float)?,
        (false, true) => x.clone(),
        (false, false) => return Err("detects neither sign (detect_negative and detect_positive)".into()),
    };
    cx.apply(call.name, Compare::Equal, &[&side, &infinity], Elem::Bool)
}

/// Exclusive or: one of two truth values is zero and the other is not.
pub(super) fn xor(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let not =
        |cx: &mut Context, name: &str, x: &Value| cx.apply(&call.sub(name), Compare::Not, &[x], Elem::Bool);
    let (a, b) = (not(cx, "left", call.input(0)?)?, not(cx, "right", call.input(1)?)?);
    let same = cx.apply_broadcast(&call.sub("same"), Compare::Equal, &[&a, &b], Elem::Bool)?;
    cx.apply(call.name, Compare::Not, &[&same], Elem::Bool)
}

/// `Mod`: with `fmod`, the remainder has the sign of the dividend, otherwise that of the divisor.
pub(super) fn modulo(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let elem = a.elem()?;
    if elem == Elem::Bool || b.elem()? != elem {
        return Err("its operands have different types or are booleans".into());
    }
    let op = if call.attributes.flag("fmod", false)? { Binary::Remainder } else { Binary::Mod };
    let (a, b) = (cx.as_long(&call.sub("dividend"), a)?, cx.as_long(&call.sub("divisor"), b)?);
    cx.apply_broadcast(call.name, op, &[&a, &b], elem)
}
