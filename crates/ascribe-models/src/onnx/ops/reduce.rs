//! Reductions.

use ascribe_core::ops::{Pointwise, Reduce, ReduceFn};

use super::Call;
use crate::onnx::array::axes;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn reduce(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let elem = x.elem()?;
    if elem != Elem::Float
        && !(elem == Elem::Int && matches!(call.op, "ReduceSum" | "ReduceMax" | "ReduceMin"))
    {
        return Err("is supported only on floating-point values, or for sums and extremes on integers".into());
    }
    let rank = x.rank()?;
    let list = call.list("axes", 1)?.unwrap_or_default();
    let keep = call.attributes.flag("keepdims", true)?;
    let (before, function) = match call.op {
        "ReduceSum" | "ReduceLogSum" => (None, ReduceFn::Sum),
        "ReduceMean" => (None, ReduceFn::Mean),
        "ReduceMax" => (None, ReduceFn::Max),
        "ReduceMin" => (None, ReduceFn::Min),
        "ReduceL2" => (None, ReduceFn::L2),
        "ReduceL1" => (Some(Pointwise::Abs), ReduceFn::Sum),
        "ReduceSumSquare" => (Some(Pointwise::Pow { exponent: 2.0 }), ReduceFn::Sum),
        "ReduceProd" => (None, ReduceFn::Prod),
        "ReduceLogSumExp" => (None, ReduceFn::LogSumExp),
        _ => return Err("the operator is not supported".into()),
    };
    if list.is_empty() && call.attributes.flag("noop_with_empty_axes", false)? {
        // Nothing is reduced, but the element-wise part of the operator is still applied.
        return match (call.op, before) {
            ("ReduceL2", _) => cx.apply(call.name, Pointwise::Abs, &[x], Elem::Float),
            ("ReduceLogSum", _) => cx.apply(call.name, Pointwise::Log, &[x], Elem::Float),
            (_, Some(before)) => cx.apply(call.name, before, &[x], Elem::Float),
            _ => cx.apply(call.name, ascribe_core::ops::Structure::Identity, &[x], elem),
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
    if call.op == "ReduceLogSum" {
        let sum = cx.apply(&call.sub("sum"), Reduce { function, axes, keep }, &[&x], Elem::Float)?;
        return cx.apply(call.name, Pointwise::Log, &[&sum], Elem::Float);
    }
    cx.apply(call.name, Reduce { function, axes, keep }, &[&x], elem)
}
