//! Operators on quantised values: those of de-quantised values, rounded to the levels of the result.

use ascribe_core::ops::{Binary, Pointwise, Reduce, ReduceFn};
use ascribe_core::{Device, Tensor};

use super::quantized::{Quantization, read, rounded};
use super::{Call, conv, linear};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// De-quantises input `slot` of an operator, whose scale and zero point are the next two inputs.
fn operand(
    cx: &mut Context,
    call: &Call<'_>,
    slot: usize,
    name: &str,
    axis: usize,
) -> Res<(Value, Quantization)> {
    let q = Quantization::read(call, slot + 1)?;
    let value = read(cx, &call.sub(name), call.input(slot)?, &q, axis)?;
    Ok((value, q))
}

/// A bias of integers, whose scale is the product of those of input and weight.
fn bias(cx: &Context, bias: &Value, input: &Quantization, weight: &Quantization) -> Res<Value> {
    let known = bias.known().ok_or("its bias is computed from the inputs; expected a constant")?;
    let scale: Vec<f64> = weight.scale.iter().map(|s| s * input.scale[0]).collect();
    let scale = Tensor::new(scale, &Device::Cpu)?.to_dtype(cx.dtype)?;
    let tensor = known.tensor.to_dtype(cx.dtype)?.broadcast_mul(&scale)?;
    Ok(Known::value(tensor, Elem::Float, &known.name))
}

/// `QLinearConv`.
pub(super) fn convolution(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, of_x) = operand(cx, call, 0, "input", 1)?;
    let (weight, of_weight) = operand(cx, call, 3, "weight", 0)?;
    let y = Quantization::read(call, 6)?;
    let bias = call.optional(8).map(|b| bias(cx, b, &of_x, &of_weight)).transpose()?;
    let inputs = [Some(x), Some(weight), bias];
    let own = call.sub("conv");
    let sum = conv::conv(cx, &Call { inputs: &inputs, op: "Conv", ..call.named(&own) })?;
    rounded(cx, call.name, &sum, &y, 1)
}

/// `QLinearMatMul`.
pub(super) fn product(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let last = call.input(3)?.rank()?.saturating_sub(1);
    let rows = call.input(0)?.rank()?.saturating_sub(2);
    let (a, _) = operand(cx, call, 0, "left", rows)?;
    let (b, _) = operand(cx, call, 3, "right", last)?;
    let y = Quantization::read(call, 6)?;
    let own = call.sub("product");
    let inputs = [Some(a), Some(b)];
    let product = linear::matmul(cx, &Call { inputs: &inputs, op: "MatMul", ..call.named(&own) })?;
    let last = product.rank()?.saturating_sub(1);
    rounded(cx, call.name, &product, &y, last)
}

/// `QGemm` of `com.microsoft`; its result is not quantised if it has no scale.
pub(super) fn gemm(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (a, of_a) = operand(cx, call, 0, "left", 1)?;
    let columns = usize::from(!call.attributes.flag("transB", false)?);
    let (b, of_b) = operand(cx, call, 3, "right", columns)?;
    if call.optional(6).is_some() && call.attributes.float_or("alpha", 1.0)? != 1.0 {
        return Err("attribute alpha is not supported together with a bias".into());
    }
    let c = call.optional(6).map(|c| bias(cx, c, &of_a, &of_b)).transpose()?;
    let inputs = [Some(a), Some(b), c];
    let quantised = call.optional(7).is_some();
    let own = if quantised { call.sub("product") } else { call.name.to_string() };
    let product = linear::gemm(cx, &Call { inputs: &inputs, op: "Gemm", ..call.named(&own) })?;
    if !quantised {
        return Ok(product);
    }
    let y = Quantization::read(call, 7)?;
    rounded(cx, call.name, &product, &y, 1)
}

/// `QLinearAdd` and `QLinearMul` of `com.microsoft`.
pub(super) fn binary(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (a, _) = operand(cx, call, 0, "left", 1)?;
    let (b, _) = operand(cx, call, 3, "right", 1)?;
    let y = Quantization::read(call, 6)?;
    let (op, part) = if call.op == "QLinearAdd" { (Binary::Add, "sum") } else { (Binary::Mul, "product") };
    let value = cx.apply_broadcast(&call.sub(part), op, &[&a, &b], Elem::Float)?;
    rounded(cx, call.name, &value, &y, 1)
}

/// `QLinearLeakyRelu` and `QLinearSigmoid` of `com.microsoft`.
pub(super) fn activation(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, _) = operand(cx, call, 0, "input", 1)?;
    let y = Quantization::read(call, 3)?;
    let function = match call.op {
        "QLinearSigmoid" => Pointwise::Sigmoid,
        _ => Pointwise::LeakyRelu { slope: call.attributes.float_or("alpha", 0.01)? },
    };
    let value = cx.apply(&call.sub("function"), function, &[&x], Elem::Float)?;
    rounded(cx, call.name, &value, &y, 1)
}

/// `QLinearGlobalAveragePool` of `com.microsoft`.
pub(super) fn global_average(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    if call.attributes.flag("channels_last", false)? {
        return Err("attribute channels_last is not supported".into());
    }
    let (x, _) = operand(cx, call, 0, "input", 1)?;
    let y = Quantization::read(call, 3)?;
    let axes: Vec<usize> = (2..x.rank()?).collect();
    if axes.is_empty() {
        return Err("expects [N, C, …] with spatial axes".into());
    }
    let op = Reduce { function: ReduceFn::Mean, axes, keep: true };
    let value = cx.apply(&call.sub("mean"), op, &[&x], Elem::Float)?;
    rounded(cx, call.name, &value, &y, 1)
}
