//! Reductions.

use ascribe_core::ops::{Pointwise, Reduce, ReduceFn};

use super::Call;
use crate::onnx::array::axes;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn reduce(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    if x.elem()? != Elem::Float {
        return Err("is supported only on floating-point values".into());
    }
    let rank = x.rank()?;
    let list = call.list("axes", 1)?.unwrap_or_default();
    let keep = call.attributes.flag("keepdims", true)?;
    let (before, function) = match call.op {
        "ReduceSum" => (None, ReduceFn::Sum),
        "ReduceMean" => (None, ReduceFn::Mean),
        "ReduceMax" => (None, ReduceFn::Max),
        "ReduceMin" => (None, ReduceFn::Min),
        "ReduceL2" => (None, ReduceFn::L2),
        "ReduceL1" => (Some(Pointwise::Abs), ReduceFn::Sum),
        "ReduceSumSquare" => (Some(Pointwise::Pow { exponent: 2.0 }), ReduceFn::Sum),
        _ => return Err("is supported only on constants and shapes".into()),
    };
    if list.is_empty() && call.attributes.flag("noop_with_empty_axes", false)? {
        // Nothing is reduced, but the element-wise part of the operator is still applied.
        return match (call.op, before) {
            ("ReduceL2", _) => cx.apply(call.name, Pointwise::Abs, &[x], Elem::Float),
            (_, Some(before)) => cx.apply(call.name, before, &[x], Elem::Float),
            _ => cx.apply(call.name, ascribe_core::ops::Structure::Identity, &[x], Elem::Float),
        };
    }
    let axes = if list.is_empty() { (0..rank).collect() } else { axes(&list, rank)? };
    for &axis in &axes {
        call.not_batch(x, axis, "reduces")?;
    }
    let x = match before {
        Some(function) => cx.apply(&call.sub("each"), function, &[x], Elem::Float)?,
        None => x.clone(),
    };
    cx.apply(call.name, Reduce { function, axes, keep }, &[&x], Elem::Float)
}
