//! Dynamically quantised models, whose scales follow from the values.
//!
//! As in a static quantisation, values are kept as the numbers that they stand for. What the file calls an integer is such
//! a number divided by the scales of the quantisations that it comes from, which are remembered beside the graph; its
//! product with these scales is the number itself. So a quantised layer is an affine function of rounded values, and no
//! rule sees the scales. Onnxruntime computes one scale for a whole tensor; here each sample has its own, so that samples
//! do not mix, which is the same for a batch of one.
//!
//! A scale can be used as a number (some files round a bias to levels) where samples are computed one at a time.

use ascribe_core::NodeId;
use ascribe_core::ops::{Binary, DynamicLevels, DynamicQuantize, SampleAxis, Structure};

use super::{Call, conv, linear, operator};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Signal, Value};

/// What a node has to do with dynamic quantisation.
#[derive(Clone, Debug)]
pub(in crate::onnx) enum Mark {
    /// The node's numbers are those of the file times the scales of these nodes.
    Levels(Vec<NodeId>),
    /// The product of the scales of these nodes and a constant.
    Scale(Vec<NodeId>, Option<Value>),
    /// The zero point that belongs to the scale of this node.
    ZeroPoint(NodeId),
}

/// The operators that move integers without changing them.
const MOVING: &[&str] = &["Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];

/// The operators that read marked values themselves.
const READING: &[&str] = &["ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"];

fn mark<'a>(cx: &'a Context, value: &Value) -> Option<&'a Mark> {
    match value {
        Value::Node(signal) => cx.dynamic.get(&signal.id),
        _ => None,
    }
}

/// Remembers what a node is.
fn set(cx: &mut Context, value: &Value, mark: Mark) {
    if let Value::Node(signal) = value {
        cx.dynamic.insert(signal.id, mark);
    }
}

/// Whether two lists hold the same nodes.
fn same(a: &[NodeId], b: &[NodeId]) -> bool {
    let sorted = |list: &[NodeId]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    sorted(a) == sorted(b)
}

/// Where the samples are in a value that is quantised.
fn samples(cx: &Context, x: &Value) -> Res<SampleAxis> {
    let shapes = x.shapes()?;
    let Value::Node(signal) = x else { return Err("quantises a constant with a scale of its own".into()) };
    if let Some((axis, rows)) = cx.batch(&shapes) {
        return Ok(SampleAxis { axis, outer: signal.outer, inner: rows / signal.outer.max(1) });
    }
    if cx.worlds != [1, 1] {
        return Err("computes one scale for all samples, which would mix them".into());
    }
    Ok(SampleAxis { axis: 0, outer: 1, inner: shapes[0].first().copied().unwrap_or(1) })
}

/// Rounds a value to levels that follow from it.
pub(super) fn rounded(cx: &mut Context, name: &str, x: &Value) -> Res<Value> {
    cx.quantized_weights = true;
    let samples = samples(cx, x)?;
    cx.apply(name, DynamicQuantize { samples }, &[x], Elem::Float)
}

/// `DynamicQuantizeLinear`: levels, scale and zero point.
pub(super) fn quantize(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let x = call.input(0)?;
    let samples = samples(cx, x)?;
    let y = rounded(cx, call.name, x)?;
    let mut parts = Vec::new();
    for (part, zero_point) in [("scale", false), ("zero point", true)] {
        let name = call.sub(part);
        let op = DynamicLevels { samples, zero_point };
        if cx.worlds == [1, 1] {
            let list = cx.apply(&format!("{name}/list"), op, &[x], Elem::Float)?;
            parts.push(cx.reshape(&name, &list, &[vec![], vec![]], 1)?);
        } else {
            parts.push(cx.apply(&name, op, &[x], Elem::Float)?);
        }
    }
    let Value::Node(scale) = &parts[0] else { return Err("has no scale".into()) };
    let source = scale.id;
    set(cx, &y, Mark::Levels(vec![source]));
    set(cx, &parts[0], Mark::Scale(vec![source], None));
    set(cx, &parts[1], Mark::ZeroPoint(source));
    Ok([vec![y], parts].concat())
}

/// Translates a node that reads something with a mark; `None` if there is nothing special about it.
pub(super) fn translate(cx: &mut Context, call: &Call<'_>) -> Res<Option<Vec<Value>>> {
    let marks: Vec<Option<Mark>> =
        call.inputs.iter().map(|v| v.as_ref().and_then(|v| mark(cx, v)).cloned()).collect();
    if marks.iter().all(Option::is_none) || READING.contains(&call.op) {
        return Ok(None);
    }
    let one = |value: Value| Ok(Some(vec![value]));
    let first = marks.first().cloned().flatten();
    let second = marks.get(1).cloned().flatten();
    match (call.op, &first, &second) {
        ("Cast", Some(Mark::Levels(_) | Mark::Scale(..)), _) => one(call.input(0)?.clone()),
        ("Mul", Some(Mark::Levels(own)), Some(Mark::Scale(scales, factor)))
        | ("Mul", Some(Mark::Scale(scales, factor)), Some(Mark::Levels(own)))
            if same(own, scales) =>
        {
            let x = call.input(usize::from(matches!(first, Some(Mark::Scale(..)))))?;
            one(scaled(cx, call.name, x, factor.as_ref())?)
        }
        ("Mul", Some(Mark::Scale(..)), _) | ("Mul", _, Some(Mark::Scale(..))) => {
            product(cx, call, &marks).map(Some)
        }
        ("Add", Some(Mark::Levels(a)), Some(Mark::Levels(b))) if same(a, b) => {
            let sum =
                cx.apply_broadcast(call.name, Binary::Add, &[call.input(0)?, call.input(1)?], Elem::Float)?;
            set(cx, &sum, Mark::Levels(a.clone()));
            one(sum)
        }
        ("Add", Some(Mark::Levels(own)), None) => one(shifted(cx, call, [0, 1], own)?),
        ("Add", None, Some(Mark::Levels(own))) => one(shifted(cx, call, [1, 0], own)?),
        ("DequantizeLinear", Some(Mark::Levels(own)), Some(Mark::Scale(scales, factor)))
            if same(own, scales) =>
        {
            one(scaled(cx, call.name, call.input(0)?, factor.as_ref())?)
        }
        (op, Some(Mark::Levels(own)), _) if MOVING.contains(&op) => {
            let values = operator(cx, call)?;
            for value in &values {
                set(cx, value, Mark::Levels(own.clone()));
            }
            Ok(Some(values))
        }
        _ if marks.iter().flatten().any(|m| matches!(m, Mark::Levels(_))) => {
            Err("computes with dynamically quantised integers before they are multiplied by their scale"
                .into())
        }
        _ if cx.worlds == [1, 1] => Ok(None),
        _ => Err("uses the scale or the zero point of a sample as a number".into()),
    }
}

/// `factor · x`, or `x` under a name of its own.
fn scaled(cx: &mut Context, name: &str, x: &Value, factor: Option<&Value>) -> Res<Value> {
    match factor {
        None => cx.apply(name, Structure::Identity, &[x], Elem::Float),
        Some(factor) => cx.apply_broadcast(name, Binary::Mul, &[x, factor], Elem::Float),
    }
}

/// The product of a scale and a constant, or of two scales.
fn product(cx: &mut Context, call: &Call<'_>, marks: &[Option<Mark>]) -> Res<Vec<Value>> {
    let (mut sources, mut factor): (Vec<NodeId>, Option<Value>) = (Vec::new(), None);
    for (i, mark) in marks.iter().enumerate() {
        let own = match mark {
            Some(Mark::Scale(scales, own)) => {
                sources.extend(scales);
                own.clone()
            }
            None if call.input(i)?.known().is_some() => Some(call.input(i)?.clone()),
            _ if cx.worlds == [1, 1] => return operator(cx, call),
            _ => return Err("multiplies the scale of a sample with a number that is computed".into()),
        };
        factor = match (factor, own) {
            (Some(a), Some(b)) => {
                Some(cx.apply_broadcast(&call.sub("factor"), Binary::Mul, &[&a, &b], Elem::Float)?)
            }
            (a, b) => a.or(b),
        };
    }
    // Unless samples are computed one at a time, nothing reads the number, and its node only carries the mark.
    let value = if cx.worlds == [1, 1] {
        operator(cx, call)?.into_iter().next().ok_or("has no result")?
    } else {
        let scale = marks.iter().position(Option::is_some).unwrap_or(0);
        cx.apply(call.name, Structure::Identity, &[call.input(scale)?], Elem::Float)?
    };
    set(cx, &value, Mark::Scale(sources, factor));
    Ok(vec![value])
}

/// The sum of levels and integers, which are multiplied by the scales that the numbers of the levels contain.
fn shifted(cx: &mut Context, call: &Call<'_>, [levels, other]: [usize; 2], sources: &[NodeId]) -> Res<Value> {
    if cx.worlds != [1, 1] {
        return Err("adds integers to the levels of a sample".into());
    }
    let mut shift = cx.as_float(&call.sub("number"), call.input(other)?)?;
    for (i, source) in sources.iter().enumerate() {
        let scale = Value::Node(Signal { id: *source, shape: [vec![], vec![]], elem: Elem::Float, outer: 1 });
        shift =
            cx.apply_broadcast(&call.sub(&format!("shift{i}")), Binary::Mul, &[&shift, &scale], Elem::Float)?;
    }
    let sum = cx.apply_broadcast(call.name, Binary::Add, &[call.input(levels)?, &shift], Elem::Float)?;
    set(cx, &sum, Mark::Levels(sources.to_vec()));
    Ok(sum)
}

/// Input `slot` of an integer product without its zero point, and the scales that its numbers contain. The zero point is
/// input `zero`, in the shape that `zero_shape` gives for its number of values.
fn centred(
    cx: &mut Context,
    call: &Call<'_>,
    [slot, zero]: [usize; 2],
    zero_shape: impl Fn(usize) -> Vec<usize>,
) -> Res<(Value, Vec<NodeId>)> {
    let x = call.input(slot)?;
    let name = call.sub(if slot == 0 { "left" } else { "right" });
    if let Some(Mark::Levels(sources)) = mark(cx, x).cloned() {
        let fits = match call.optional(zero).map(|v| mark(cx, v)) {
            Some(Some(Mark::ZeroPoint(source))) => sources == [*source],
            _ => false,
        };
        if !fits {
            return Err("reads dynamically quantised integers with a zero point that is not theirs".into());
        }
        return Ok((x.clone(), sources));
    }
    let mut value = cx.as_float(&name, x)?;
    if let Some(zero) = call.optional(zero) {
        let zero = zero.known().ok_or("its zero point is computed from the inputs; expected a constant")?;
        let count = zero.tensor.elem_count();
        let shape = if count == 1 { vec![] } else { zero_shape(count) };
        let zero = Known::value(
            zero.tensor.reshape(shape)?.to_dtype(cx.dtype)?,
            Elem::Float,
            &format!("{name}/zero point"),
        );
        value = cx.apply_broadcast(&format!("{name}/centred"), Binary::Sub, &[&value, &zero], Elem::Float)?;
    }
    Ok((value, vec![]))
}

/// `ConvInteger` and `MatMulInteger`: products of integers without their zero points, as floating-point numbers.
pub(super) fn integer(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    cx.quantized_weights = true;
    let rank = call.input(1)?.rank()?;
    let convolves = call.op == "ConvInteger";
    let (x, mut sources) = centred(cx, call, [0, 2], |count| vec![count, 1])?;
    let of_right = |count: usize| {
        if convolves {
            std::iter::once(count).chain(std::iter::repeat_n(1, rank - 1)).collect()
        } else {
            vec![count]
        }
    };
    let (weight, others) = centred(cx, call, [1, 3], of_right)?;
    sources.extend(others);
    let inputs = [Some(x), Some(weight)];
    let own = Call { inputs: &inputs, ..call.named(call.name) };
    let y = if convolves { conv::conv(cx, &own)? } else { linear::matmul(cx, &own)? };
    if !sources.is_empty() {
        set(cx, &y, Mark::Levels(sources));
    }
    Ok(y)
}

/// A constant matrix of integers as numbers: `(b − zero) · scale`, for the whole matrix or for each column.
fn matrix(cx: &mut Context, call: &Call<'_>, [slot, scale, zero]: [usize; 3]) -> Res<Value> {
    cx.quantized_weights = true;
    let (value, sources) = centred(cx, call, [slot, zero], |count| vec![count])?;
    let scale = call.input(scale)?;
    match (mark(cx, scale).cloned(), sources.is_empty()) {
        (Some(Mark::Scale(own, factor)), false) if same(&own, &sources) => {
            scaled(cx, &call.sub(&format!("number{slot}")), &value, factor.as_ref())
        }
        (None, true) => cx.apply_broadcast(
            &call.sub(&format!("number{slot}")),
            Binary::Mul,
            &[&value, scale],
            Elem::Float,
        ),
        _ => Err("reads quantised integers with a scale that is not theirs".into()),
    }
}

/// The product of two matrices, plus a bias in input `bias`.
fn affine(cx: &mut Context, call: &Call<'_>, a: Value, b: Value, bias: usize) -> Res<Value> {
    let inputs = [Some(a), Some(b)];
    let Some(bias) = call.optional(bias) else {
        return linear::matmul(cx, &Call { inputs: &inputs, op: "MatMul", ..call.named(call.name) });
    };
    let own = call.sub("product");
    let product = linear::matmul(cx, &Call { inputs: &inputs, op: "MatMul", ..call.named(&own) })?;
    cx.apply_broadcast(call.name, Binary::Add, &[&product, bias], Elem::Float)
}

/// `DynamicQuantizeMatMul` of `com.microsoft`: inputs `a, b, scale of b, zero point of b, bias`.
pub(super) fn rounded_matmul(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let a = rounded(cx, &call.sub("levels"), call.input(0)?)?;
    let b = matrix(cx, call, [1, 2, 3])?;
    affine(cx, call, a, b, 4)
}

/// `MatMulIntegerToFloat` of `com.microsoft`: inputs `a, b, scales of a and b, zero points of a and b, bias`.
pub(super) fn integer_matmul(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let a = matrix(cx, call, [0, 2, 4])?;
    let b = matrix(cx, call, [1, 3, 5])?;
    affine(cx, call, a, b, 6)
}
