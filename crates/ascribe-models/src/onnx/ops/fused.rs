//! Operators into which onnxruntime fuses others (domain `com.microsoft`), as what they were made of.

use ascribe_core::ops::{Binary, Gather, LayerNorm, Pointwise, Structure};

use super::{Call, conv, linear, norm, pool};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

fn add(cx: &mut Context, name: &str, a: &Value, b: &Value) -> Res<Value> {
    cx.apply_broadcast(name, Binary::Add, &[a, b], Elem::Float)
}

/// The activation of a `FusedConv`, if it has one.
fn activation(call: &Call<'_>) -> Res<Option<Pointwise>> {
    let parameters = call.attributes.floats("activation_params").unwrap_or(&[]);
    let parameter = |i: usize, what: &str| -> Res<f64> {
        let value = parameters.get(i).copied().map(f64::from);
        value.ok_or_else(|| format!("activation_params has no {what}").into())
    };
    Ok(Some(match call.mode("activation", "")? {
        "" => return Ok(None),
        "Relu" => Pointwise::Relu,
        "Tanh" => Pointwise::Tanh,
        "Sigmoid" => Pointwise::Sigmoid,
        "LeakyRelu" => Pointwise::LeakyRelu { slope: parameter(0, "slope")? },
        "Clip" => {
            Pointwise::Clip { low: Some(parameter(0, "minimum")?), high: Some(parameter(1, "maximum")?) }
        }
        "HardSigmoid" => {
            Pointwise::HardSigmoid { alpha: parameter(0, "alpha")?, beta: parameter(1, "beta")? }
        }
        other => return Err(format!("activation '{other}' is not supported").into()),
    }))
}

/// A convolution, a sum with input 3, and an activation.
pub(super) fn fused_conv(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let function = activation(call)?;
    let addend = call.optional(3);
    let own = if function.is_some() || addend.is_some() { call.sub("conv") } else { call.name.to_string() };
    let mut y = conv::conv(cx, &call.named(&own))?;
    if let Some(addend) = addend {
        let name = if function.is_some() { call.sub("sum") } else { call.name.to_string() };
        y = add(cx, &name, &y, addend)?;
    }
    match function {
        Some(function) => cx.apply(call.name, function, &[&y], Elem::Float),
        None => Ok(y),
    }
}

/// `Gemm` and an activation.
pub(super) fn fused_gemm(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let parameter = |name: &str, default: f32| call.attributes.float_or(name, default);
    let function = match call.mode("activation", "")? {
        "" => return linear::gemm(cx, call),
        "Relu" => Pointwise::Relu,
        "Tanh" => Pointwise::Tanh,
        "Sigmoid" => Pointwise::Sigmoid,
        "LeakyRelu" => Pointwise::LeakyRelu { slope: parameter("activation_alpha", 0.01)? },
        other => return Err(format!("activation '{other}' is not supported").into()),
    };
    let own = call.sub("product");
    let y = linear::gemm(cx, &Call { op: "Gemm", ..call.named(&own) })?;
    cx.apply(call.name, function, &[&y], Elem::Float)
}

/// `NhwcConv`, `NhwcFusedConv` and `NhwcMaxPool`: the operators whose images have their channels last.
pub(super) fn channels_last(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let moved = |cx: &mut Context, name: &str, x: &Value, order: [usize; 4]| {
        if x.rank()? != 4 {
            return Err("expects images [N, H, W, C]".into());
        }
        cx.apply(name, Structure::Transpose { order: order.to_vec() }, &[x], x.elem()?)
    };
    let mut inputs = call.inputs.to_vec();
    for slot in [0, 3] {
        if let Some(Some(x)) = inputs.get(slot).cloned() {
            inputs[slot] = Some(moved(cx, &call.sub(&format!("channels first {slot}")), &x, [0, 3, 1, 2])?);
        }
    }
    let own = call.sub("channels first");
    let inner = Call { inputs: &inputs, outputs: 1, ..call.named(&own) };
    let y = match call.op {
        "NhwcMaxPool" => {
            let inner = Call { op: "MaxPool", ..inner };
            pool::pool(cx, &inner)?.into_iter().next().ok_or("has no result")?
        }
        "NhwcConv" => conv::conv(cx, &inner)?,
        _ => fused_conv(cx, &inner)?,
    };
    moved(cx, call.name, &y, [0, 2, 3, 1])
}

/// `alpha · a · b`, with the last two axes of either transposed.
pub(super) fn fused_matmul(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mut sides = Vec::new();
    for (slot, side) in ["A", "B"].iter().enumerate() {
        let x = call.input(slot)?;
        if call.attributes.flag(&format!("transBatch{side}"), false)? {
            return Err(format!("attribute transBatch{side} is not supported").into());
        }
        let rank = x.rank()?;
        // A transposed vector is itself.
        if call.attributes.flag(&format!("trans{side}"), false)? && rank > 1 {
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(rank - 2, rank - 1);
            let op = Structure::Transpose { order };
            sides.push(Some(cx.apply(&call.sub(&format!("trans{side}")), op, &[x], Elem::Float)?));
        } else {
            sides.push(Some(x.clone()));
        }
    }
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    let own = if alpha == 1.0 { call.name.to_string() } else { call.sub("product") };
    let y = linear::matmul(cx, &Call { inputs: &sides, ..call.named(&own) })?;
    if alpha == 1.0 {
        return Ok(y);
    }
    let alpha = cx.number(&call.sub("alpha"), alpha)?;
    cx.apply(call.name, Binary::Mul, &[&y, &alpha], Elem::Float)
}

/// `Gelu`, `BiasGelu`, `FastGelu` and `QuickGelu`.
pub(super) fn gelu(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mut x = call.input(0)?.clone();
    if let Some(bias) = call.optional(1) {
        x = add(cx, &call.sub("sum"), &x, bias)?;
    }
    match call.op {
        "FastGelu" => cx.apply(call.name, Pointwise::GeluTanh, &[&x], Elem::Float),
        "QuickGelu" => {
            let alpha = cx.number(&call.sub("alpha"), call.attributes.float_or("alpha", 1.702)?)?;
            let scaled = cx.apply(&call.sub("scale"), Binary::Mul, &[&x, &alpha], Elem::Float)?;
            let gate = cx.apply(&call.sub("gate"), Pointwise::Sigmoid, &[&scaled], Elem::Float)?;
            cx.apply(call.name, Binary::Mul, &[&x, &gate], Elem::Float)
        }
        _ => cx.apply(call.name, Pointwise::Gelu, &[&x], Elem::Float),
    }
}

/// `SkipLayerNormalization` and `SkipSimplifiedLayerNormalization`: the sum of two values and a bias, and its layer
/// normalisation (or that by the root mean square) over the last axis.
pub(super) fn skip_norm(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let simplified = call.op == "SkipSimplifiedLayerNormalization";
    let mut sum = add(cx, &call.sub("sum"), call.input(0)?, call.input(1)?)?;
    if let Some(bias) = call.optional(if simplified { 3 } else { 4 }) {
        sum = add(cx, &call.sub("bias"), &sum, bias)?;
    }
    let axis = sum.rank()?.checked_sub(1).ok_or("normalises a scalar")?;
    call.not_batch(&sum, axis, "normalises over")?;
    let gamma = call.input(2)?;
    let epsilon = call.attributes.float_or("epsilon", 1e-12)?;
    let y = if simplified {
        norm::root_mean_square(cx, call, &sum, gamma, axis, epsilon)?
    } else {
        let mut operands = vec![&sum, gamma];
        operands.extend(call.optional(3));
        cx.apply(call.name, LayerNorm { axis, epsilon }, &operands, Elem::Float)?
    };
    let missing = || Value::Missing(Some("mean and deviation are not available".into()));
    Ok(vec![y, missing(), missing(), sum])
}

/// `EmbedLayerNormalization`: the sum of the embeddings of tokens, positions and segments, and its layer normalisation.
pub(super) fn embed_norm(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let (tokens, words, places) = (call.input(0)?, call.input(2)?, call.input(3)?);
    let mut sum = cx.apply(&call.sub("words"), Gather { axis: 0 }, &[words, tokens], Elem::Float)?;
    let [shape, _] = sum.shapes()?;
    let &[_, length, _] = &shape[..] else { return Err("expects tokens [B, S]".into()) };
    let position = if let Some(ids) = call.optional(8) {
        let ids = cx.unbake(ids, 0)?.unwrap_or_else(|| ids.clone());
        cx.apply(&call.sub("positions"), Gather { axis: 0 }, &[places, &ids], Elem::Float)?
    } else {
        let op = Structure::Slice { axis: 0, start: 0, len: length, step: 1 };
        cx.apply(&call.sub("positions"), op, &[places], Elem::Float)?
    };
    sum = add(cx, &call.sub("words and positions"), &sum, &position)?;
    if let (Some(segments), Some(table)) = (call.optional(1), call.optional(4)) {
        let segments = cx.unbake(segments, 0)?.unwrap_or_else(|| segments.clone());
        let segment =
            cx.apply(&call.sub("segments"), Gather { axis: 0 }, &[table, &segments], Elem::Float)?;
        sum = add(cx, &call.sub("sum"), &sum, &segment)?;
    }
    let epsilon = call.attributes.float_or("epsilon", 1e-12)?;
    let operands = [&sum, call.input(5)?, call.input(6)?];
    let y = cx.apply(call.name, LayerNorm { axis: 2, epsilon }, &operands, Elem::Float)?;
    let lengths = match call.optional(7) {
        Some(mask) if mask.elem()? == Elem::Int => {
            let op = ascribe_core::ops::Reduce {
                function: ascribe_core::ops::ReduceFn::Sum,
                axes: vec![1],
                keep: false,
            };
            cx.apply(&call.sub("lengths"), op, &[mask], Elem::Int)?
        }
        _ => Value::Missing(Some("there is no mask of which to count the tokens".into())),
    };
    Ok(vec![y, lengths, sum])
}
