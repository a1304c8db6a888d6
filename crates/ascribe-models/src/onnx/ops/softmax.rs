//! Softmax and log-softmax.

use ascribe_core::ops::Softmax;

use super::Call;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn softmax(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let log = call.op == "LogSoftmax";
    let shapes = x.shapes()?;
    let rank = shapes[0].len();
    if call.opset >= 13 {
        let axis = call.axis(-1, rank)?;
        call.not_batch(x, axis, "normalises over")?;
        return cx.apply(call.name, Softmax { axis, log }, &[x], Elem::Float);
    }
    // Older operator sets normalise over all axes from the given one on, as if they were one axis.
    let axis = call.axis(1, rank)?;
    for inner in axis..rank {
        call.not_batch(x, inner, "normalises over")?;
    }
    let wide: Vec<usize> = (axis..rank).filter(|&a| shapes[0][a] != 1).collect();
    if wide.len() <= 1 {
        let axis = wide.first().copied().unwrap_or(axis);
        return cx.apply(call.name, Softmax { axis, log }, &[x], Elem::Float);
    }
    let flat = cx.reshape_by(&call.sub("flatten"), x, |s| {
        let mut flat = s[..axis].to_vec();
        flat.push(s[axis..].iter().product());
        Ok(flat)
    })?;
    let y = cx.apply(&call.sub("softmax"), Softmax { axis, log }, &[&flat], Elem::Float)?;
    cx.reshape(call.name, &y, &shapes, if let Value::Node(s) = x { s.outer } else { 1 })
}
