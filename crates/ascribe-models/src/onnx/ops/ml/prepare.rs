//! What prepares columns of numbers: scaling, normalising, filling gaps, choosing and joining.

use ascribe_core::ops::{Binary, Cast, Compare, Gather, Op, Reduce, ReduceFn, Structure, Where};

use super::super::Call;
use super::super::norm::divided_by_norm;
use super::{floats, ints, list, numbers};
use crate::onnx::array::axis;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// One number for all columns, or one for each, along the last axis of `x`.
fn per_column(cx: &Context, call: &Call<'_>, name: &str, values: &[f64], x: &Value) -> Res<Value> {
    let columns = x.shapes()?[0].last().copied().unwrap_or(1);
    match values {
        [one] => cx.number(&call.sub(name), *one),
        all if all.len() == columns => list(cx, &call.sub(name), all, &[columns]),
        all => Err(format!(
            "{name} has {} values; expected one, or one for each of {columns} columns",
            all.len()
        )
        .into()),
    }
}

/// `(x − offset) · scale`.
pub(super) fn scaler(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = numbers(cx, call, 0)?;
    let offset = per_column(cx, call, "offset", &floats(call, "offset"), &x)?;
    let scale = per_column(cx, call, "scale", &floats(call, "scale"), &x)?;
    let moved = cx.apply(&call.sub("centred"), Binary::Sub, &[&x, &offset], Elem::Float)?;
    cx.apply(call.name, Binary::Mul, &[&moved, &scale], Elem::Float)
}

/// Each row divided by its norm: L1, L2, or its largest value. Rows whose norm is 0 stay as they are.
pub(super) fn normalizer(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = numbers(cx, call, 0)?;
    let last = x.rank()?.checked_sub(1).ok_or("its input is a single number")?;
    call.not_batch(&x, last, "normalises over")?;
    let p = match call.mode("norm", "MAX")? {
        "L1" => 1,
        "L2" => 2,
        _ => {
            let op = Reduce { function: ReduceFn::Max, axes: vec![last], keep: true };
            let norm = cx.apply(&call.sub("norm"), op, &[&x], Elem::Float)?;
            let (zero, one) = (cx.number(&call.sub("zero"), 0.0)?, cx.number(&call.sub("one"), 1.0)?);
            let empty = cx.apply(&call.sub("empty"), Compare::Equal, &[&norm, &zero], Elem::Bool)?;
            let safe = cx.apply(&call.sub("safe"), Where, &[&empty, &one, &norm], Elem::Float)?;
            return cx.apply(call.name, Binary::Div, &[&x, &safe], Elem::Float);
        }
    };
    if let (Value::Node(signal), 1) = (&x, p)
        && matches!(cx.builder.node(signal.id).op(), Some(Op::Softmax(softmax)) if !softmax.log && softmax.axis == last)
    {
        // Probabilities that sum to one already.
        return cx.apply(call.name, Structure::Identity, &[&x], Elem::Float);
    }
    divided_by_norm(cx, call, &x, last, p)
}

/// `x`, with another value where it is missing: NaN, or a number that stands for that.
pub(super) fn imputer(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = numbers(cx, call, 0)?;
    let (mut filled, mut replaced) =
        (floats(call, "imputed_value_floats"), call.attributes.float("replaced_value_float")?);
    if filled.is_empty() {
        filled = ints(call, "imputed_value_int64s").iter().map(|&value| value as f64).collect();
        replaced = Some(call.attributes.int_or("replaced_value_int64", 0)? as f64);
    }
    let replaced = replaced.unwrap_or(0.0);
    let filled = per_column(cx, call, "imputed_value", &filled, &x)?;
    if replaced.is_nan() {
        // Only NaN differs from itself.
        let known = cx.apply(&call.sub("known"), Compare::Equal, &[&x, &x], Elem::Bool)?;
        return cx.apply(call.name, Where, &[&known, &x, &filled], Elem::Float);
    }
    let replaced = cx.number(&call.sub("replaced_value"), replaced)?;
    let missing = cx.apply(&call.sub("missing"), Compare::Equal, &[&x, &replaced], Elem::Bool)?;
    cx.apply(call.name, Where, &[&missing, &filled, &x], Elem::Float)
}

/// 1 where `x` is above the threshold, 0 elsewhere.
pub(super) fn binarizer(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = numbers(cx, call, 0)?;
    let threshold = cx.number(&call.sub("threshold"), call.attributes.float_or("threshold", 0.0)?)?;
    let above = cx.apply(&call.sub("above"), Compare::Greater, &[&x, &threshold], Elem::Bool)?;
    cx.apply(call.name, Cast { to: cx.dtype }, &[&above], Elem::Float)
}

/// Columns of several operands side by side.
pub(super) fn vectorizer(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let sizes = ints(call, "inputdimensions");
    let mut parts = Vec::new();
    for slot in 0..call.inputs.len() {
        let part = numbers(cx, call, slot)?;
        let shapes = part.shapes()?;
        let [_, columns] = shapes[0][..] else {
            return Err(format!("operand {slot} has shape {:?}; expected [N, F]", shapes[0]).into());
        };
        if sizes.get(slot).is_some_and(|&size| size != columns as i64) {
            return Err(format!(
                "operand {slot} has {columns} columns; inputdimensions says {}",
                sizes[slot]
            )
            .into());
        }
        call.not_batch(&part, 1, "joins")?;
        parts.push(part);
    }
    let refs: Vec<&Value> = parts.iter().collect();
    cx.apply(call.name, Structure::Concat { axis: 1 }, &refs, Elem::Float)
}

/// Columns of the first operand by the positions in the second. A list `[C]` becomes `[1, count]`.
pub(super) fn extractor(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, index) = (call.input(0)?, call.input(1)?);
    let elem = x.elem()?;
    if index.elem()? != Elem::Int {
        return Err("its positions are not integers".into());
    }
    let last = x.rank()?.checked_sub(1).ok_or("its input is a single number")?;
    call.not_batch(x, last, "selects part of")?;
    if let (Value::Known(table), true, 0) = (x, index.is_node(), last) {
        // The labels of classes, by the place of the largest score.
        if let Elem::Text | Elem::Int = elem {
            let numbers = table.tensor.to_vec1::<i64>()?;
            let text = |&number: &i64| cx.texts.all().get(usize::try_from(number).ok()?).cloned();
            let texts = match elem {
                Elem::Text => numbers.iter().filter_map(text).collect(),
                _ => numbers.iter().map(ToString::to_string).collect(),
            };
            cx.labels.push(texts);
        }
        let found = cx.apply(&call.sub("found"), Gather { axis: 0 }, &[x, index], elem)?;
        return cx.reshape_by(call.name, &found, |shape| Ok(vec![1, shape.iter().product()]));
    }
    if index.is_node() {
        return Err(
            "selects from a computed value by computed positions; one of them has to be constant".into()
        );
    }
    let positions = index.array("the positions")?;
    let side = x.shapes()?[0][last];
    for &position in positions.as_ints()? {
        axis(position, side)
            .map_err(|_| format!("position {position} is out of range for {side} columns"))?;
    }
    let count = positions.len();
    let flat = Value::from_array(positions.reshape(vec![count])?, cx.dtype, &call.sub("positions"))?;
    let name = if last == 0 { call.sub("found") } else { call.name.into() };
    let found = cx.apply(&name, Gather { axis: last }, &[x, &flat], elem)?;
    if last > 0 {
        return Ok(found);
    }
    cx.reshape_by(call.name, &found, |shape| Ok(vec![1, shape[0]]))
}
