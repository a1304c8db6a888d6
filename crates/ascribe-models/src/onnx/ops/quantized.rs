//! Quantised models.
//!
//! A quantised value is kept as the floating-point number that it stands for: `QuantizeLinear` rounds to the levels of
//! the quantisation ([`FakeQuantize`]), and `DequantizeLinear` returns the value that was rounded. Gradients pass
//! through the rounding unchanged, within its range. Constants are de-quantised when the file is loaded. A value is
//! read with the scale and the zero point with which it was written; only operators that move values or choose among
//! them may be in between.

use ascribe_core::ops::{Binary, Cast, FakeQuantize, Structure};
use ascribe_core::{DType, Device, Tensor};

use super::Call;
use crate::onnx::array::axis;
use crate::onnx::context::Context;
use crate::onnx::proto::data_type;
use crate::onnx::value::{Elem, Known, Res, Value};

/// The operators that keep the levels of a quantised value.
const KEEPING: &[&str] = &[
    "Concat",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];
/// The operators that read quantised values, with scales and zero points of their own.
pub(super) const READING: &[&str] = &[
    "DequantizeLinear",
    "QGemm",
    "QLinearAdd",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMatMul",
    "QLinearMul",
    "QLinearSigmoid",
];

/// The scale and the zero point of a quantisation, one or one for each channel.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::onnx) struct Quantization {
    pub scale: Vec<f64>,
    zero: Vec<f64>,
    low: f64,
    high: f64,
}

/// The levels of an integer type.
fn levels(code: Option<i32>) -> Res<(f64, f64)> {
    use data_type as t;
    Ok(match code.unwrap_or(t::UINT8) {
        t::UINT8 => (0.0, 255.0),
        t::INT8 => (-128.0, 127.0),
        t::UINT16 => (0.0, 65_535.0),
        t::INT16 => (-32_768.0, 32_767.0),
        t::INT32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        code => return Err(format!("quantises to {}, which is not supported", t::name(code)).into()),
    })
}

fn numbers(known: &Known) -> Res<Vec<f64>> {
    Ok(known.tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

impl Quantization {
    /// From constants: input `scale` and, if it is given, the input after it.
    pub fn read(call: &Call<'_>, slot: usize) -> Res<Self> {
        let scale =
            call.input(slot)?.known().ok_or("its scale is computed from the inputs; expected a constant")?;
        let scale = numbers(scale)?;
        let (zero, code) = match call.optional(slot + 1) {
            Some(zero) => {
                let zero =
                    zero.known().ok_or("its zero point is computed from the inputs; expected a constant")?;
                (numbers(zero)?, zero.code)
            }
            None => (
                vec![0.0; scale.len()],
                call.attributes.int("output_dtype")?.map(|c| c as i32).filter(|&c| c != 0),
            ),
        };
        let (low, high) = levels(code)?;
        if zero.len() != scale.len() || scale.is_empty() || scale.iter().any(|&s| s <= 0.0 || !s.is_finite())
        {
            return Err("its scales are not positive numbers, or do not fit its zero points".into());
        }
        Ok(Self { scale, zero, low, high })
    }

    /// Scale and zero point as constants that broadcast to a value of this rank, along one of its axes.
    fn constants(&self, cx: &Context, name: &str, shape: &[usize], axis: usize) -> Res<[Value; 2]> {
        let mut own = vec![1; shape.len()];
        if self.scale.len() > 1 {
            if shape.get(axis) != Some(&self.scale.len()) {
                return Err(
                    format!("{} scales do not fit axis {axis} of shape {shape:?}", self.scale.len()).into()
                );
            }
            own[axis] = self.scale.len();
        }
        let constant = |values: &[f64], part: &str| -> Res<Value> {
            let tensor = Tensor::from_slice(values, own.as_slice(), &Device::Cpu)?.to_dtype(cx.dtype)?;
            Ok(Known::value(tensor, Elem::Float, &format!("{name}/{part}")))
        };
        Ok([constant(&self.scale, "scale")?, constant(&self.zero, "zero point")?])
    }
}

/// The quantisation of the values that a node moves, for its results; an error if the node does anything else with
/// quantised values.
pub(super) fn inherited(cx: &Context, call: &Call<'_>) -> Res<Option<Quantization>> {
    if cx.quantized.is_empty() {
        return Ok(None);
    }
    let of = |value: &Value| match value {
        Value::Node(signal) => cx.quantized.get(&signal.id).cloned(),
        _ => None,
    };
    let all: Vec<Option<Quantization>> = call.inputs.iter().flatten().map(of).collect();
    let Some(first) = all.iter().flatten().next() else { return Ok(None) };
    if READING.contains(&call.op) {
        return Ok(None);
    }
    if !KEEPING.contains(&call.op) || call.microsoft {
        return Err("computes with quantised values, which is not supported for this operator".into());
    }
    if call.op == "Concat" && all.iter().any(|q| q.as_ref() != Some(first)) {
        return Err("concatenates values of different quantisations".into());
    }
    if first.scale.len() > 1 {
        return Err("moves values that are quantised for each channel, which is not supported".into());
    }
    Ok(Some(first.clone()))
}

/// Remembers how a value is quantised.
pub(super) fn mark(cx: &mut Context, value: &Value, quantization: &Quantization) {
    if let Value::Node(signal) = value {
        cx.quantized.insert(signal.id, quantization.clone());
    }
}

/// The axis of scales for each channel.
fn channel_axis(call: &Call<'_>, rank: usize) -> Res<usize> {
    if rank == 0 { Ok(0) } else { axis(call.attributes.int_or("axis", 1)?, rank).or(Ok(0)) }
}

/// Rounds a value to the levels of a quantisation.
pub(super) fn rounded(cx: &mut Context, name: &str, x: &Value, q: &Quantization, axis: usize) -> Res<Value> {
    let [shape, _] = x.shapes()?;
    let [scale, zero] = q.constants(cx, name, &shape, axis)?;
    let op = FakeQuantize { low: q.low, high: q.high };
    let y = cx.apply(name, op, &[x, &scale, &zero], Elem::Float)?;
    mark(cx, &y, q);
    Ok(y)
}

/// The numbers that quantised values stand for.
pub(super) fn read(cx: &mut Context, name: &str, x: &Value, q: &Quantization, axis: usize) -> Res<Value> {
    let [shape, _] = x.shapes()?;
    if let Value::Node(signal) = x {
        if signal.elem == Elem::Float {
            let written = cx.quantized.get(&signal.id).ok_or("reads a value that is not quantised")?;
            if written.scale != q.scale || written.zero != q.zero {
                return Err(
                    "reads a value with a scale or a zero point other than those it was written with".into(),
                );
            }
            return Ok(x.clone());
        }
        // Integers from an input.
        let [scale, zero] = q.constants(cx, name, &shape, axis)?;
        let number = cx.apply(&format!("{name}/number"), Cast { to: cx.dtype }, &[x], Elem::Float)?;
        let moved = cx.apply(&format!("{name}/moved"), Binary::Sub, &[&number, &zero], Elem::Float)?;
        return cx.apply(name, Binary::Mul, &[&moved, &scale], Elem::Float);
    }
    let known = x.known().ok_or("reads a value that depends on the batch size")?;
    cx.quantized_weights = true;
    cx.spend(&shape)?;
    let [scale, zero] = q.constants(cx, name, &shape, axis)?;
    let (Some(scale), Some(zero)) = (scale.known(), zero.known()) else { return Err("has no scale".into()) };
    let levels = known.tensor.to_dtype(cx.dtype)?;
    let tensor = levels.broadcast_sub(&zero.tensor)?.broadcast_mul(&scale.tensor)?;
    Ok(Known::value(tensor, Elem::Float, &known.name))
}

pub(super) fn quantize(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, q) = (call.input(0)?, Quantization::read(call, 1)?);
    let [shape, _] = x.shapes()?;
    let axis = channel_axis(call, shape.len())?;
    let x = cx.as_float(&call.sub("number"), x)?;
    let Some(known) = x.known() else { return rounded(cx, call.name, &x, &q, axis) };
    // The levels of a constant, in the form in which a file stores them.
    cx.spend(&shape)?;
    let [scale, zero] = q.constants(cx, call.name, &shape, axis)?;
    let op = FakeQuantize { low: q.low, high: q.high };
    let value = cx.apply(call.name, op, &[&x, &scale, &zero], Elem::Float)?;
    let (Some(value), Some(scale), Some(zero)) = (value.known(), scale.known(), zero.known()) else {
        return Err("has no value".into());
    };
    let level = value.tensor.broadcast_div(&scale.tensor)?.broadcast_add(&zero.tensor)?.round()?;
    Ok(Known::value(level.to_dtype(DType::I64)?, Elem::Int, &known.name))
}

pub(super) fn dequantize(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, q) = (call.input(0)?, Quantization::read(call, 1)?);
    let rank = x.rank()?;
    let axis = channel_axis(call, rank)?;
    let y = read(cx, call.name, x, &q, axis)?;
    match &y {
        // The node must not be the quantised one, which other nodes may not use.
        Value::Node(signal) if cx.quantized.contains_key(&signal.id) => {
            cx.apply(call.name, Structure::Identity, &[&y], Elem::Float)
        }
        _ => Ok(y),
    }
}
