//! Pooling operators.

use ascribe_core::ops::{AveragePool, MaxPool, Reduce, ReduceFn};

use super::Call;
use super::window::{attributes, spatial};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn pool(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let window = attributes(call, spatial(x)?, None)?.window(x)?;
    if call.op == "MaxPool" {
        return cx.apply(call.name, MaxPool { window }, &[x], Elem::Float);
    }
    let count_include_pad = call.attributes.flag("count_include_pad", false)?;
    cx.apply(call.name, AveragePool { window, count_include_pad }, &[x], Elem::Float)
}

pub(super) fn global(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let rank = x.rank()?;
    if rank < 3 {
        return Err(format!("expects [N, C, …] with spatial axes; the input has {rank} axes").into());
    }
    let function = if call.op == "GlobalMaxPool" { ReduceFn::Max } else { ReduceFn::Mean };
    cx.apply(call.name, Reduce { function, axes: (2..rank).collect(), keep: true }, &[x], Elem::Float)
}
