//! Padding, which crops where it is negative.

use ascribe_core::ops::{Pad, PadMode, Structure};

use super::Call;
use crate::onnx::array::{Array, axis};
use crate::onnx::context::Context;
use crate::onnx::value::{Res, Value};

pub(super) fn pad(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mut x = call.input(0)?.clone();
    let [shape, _] = x.shapes()?;
    let rank = shape.len();
    let pads = call.list("pads", 1)?.ok_or("has no pads")?;
    let along = match call.optional(3) {
        Some(list) => {
            list.array("axes")?.as_ints()?.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * along.len() || pads.iter().any(|p| p.unsigned_abs() > 1 << 24) {
        return Err(format!("pads {pads:?} do not fit {} axes or are too large", along.len()).into());
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (i, &axis) in along.iter().enumerate() {
        (before[axis], after[axis]) = (pads[i], pads[along.len() + i]);
        if (before[axis], after[axis]) != (0, 0) {
            call.not_batch(&x, axis, "pads")?;
        }
    }
    let mode = match call.mode("mode", "constant")? {
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        _ => PadMode::Constant(match call.optional(2) {
            Some(value) => value.array("the padding's value")?.scalar()?,
            None => call.attributes.float_or("value", 0.0)?,
        }),
    };
    // Negative padding crops.
    for a in 0..rank {
        let (front, back) = ((-before[a]).max(0) as usize, (-after[a]).max(0) as usize);
        if front + back > 0 {
            let len = shape[a]
                .checked_sub(front + back)
                .filter(|&len| len > 0)
                .ok_or_else(|| format!("pads {pads:?} leave nothing of shape {shape:?}"))?;
            let op = Structure::Slice { axis: a, start: front, len, step: 1 };
            x = cx.apply(&call.sub(&format!("crop{a}")), op, &[&x], x.elem()?)?;
        }
    }
    let positive = |list: &[i64]| list.iter().map(|&p| p.max(0) as usize).collect::<Vec<usize>>();
    let op = Pad { before: positive(&before), after: positive(&after), mode };
    if op.before.iter().chain(&op.after).all(|&p| p == 0) {
        return cx.apply(call.name, Structure::Identity, &[&x], x.elem()?);
    }
    cx.apply(call.name, op, &[&x], x.elem()?)
}

/// The values of an input that may be left out or empty.
pub(super) fn optional_list(call: &Call<'_>, input: usize) -> Res<Option<Array>> {
    let Some(value) = call.optional(input) else { return Ok(None) };
    let array = match value {
        // Only sizes of the batch axis can depend on the batch size, and these are not used. So take either of the two
        // values.
        Value::Varying(arrays) => arrays[0].clone(),
        _ => value.array("the size")?,
    };
    Ok((array.len() > 0).then_some(array))
}
