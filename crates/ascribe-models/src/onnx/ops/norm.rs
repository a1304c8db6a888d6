//! Normalisation operators.

use ascribe_core::ops::{
    BatchNorm, Binary, Compare, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, Pointwise, Reduce,
    ReduceFn, Side, Structure, Where,
};

use super::Call;
use crate::onnx::array::{axes, axis};
use crate::onnx::context::{Context, batch_axis};
use crate::onnx::value::{Elem, Known, Res, Value};

fn epsilon(call: &Call<'_>) -> Res<f64> {
    call.attributes.float_or("epsilon", 1e-5)
}

pub(super) fn batch(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    if call.attributes.flag("training_mode", false)? {
        return batch_statistics(cx, call);
    }
    if !call.attributes.flag("spatial", true)? {
        return Err("has one mean per position (spatial = 0), which is not supported".into());
    }
    let operands = (0..5).map(|i| call.input(i)).collect::<Res<Vec<&Value>>>()?;
    cx.apply(call.name, BatchNorm { epsilon: epsilon(call)? }, &operands, Elem::Float)
}

/// Batch normalisation with the statistics of the value itself, along all axes but the second. Without samples among them,
/// as for weights that are standardised, it is an instance normalisation.
fn batch_statistics(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, scale, bias) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = match x.shapes()? {
        [shape, _] if batch_axis(&x.shapes()?).is_none() && shape.len() > 1 => shape,
        _ => {
            return Err(
                "normalises with the statistics of the batch (training_mode), which would mix samples; expected inference"
                    .into(),
            );
        }
    };
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.swap(0, 1);
    let turned: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let turn = Structure::Transpose { order };
    let structure = |cx: &mut Context, part: &str, op: Structure, x: &Value| {
        cx.apply(&call.sub(part), op, &[x], Elem::Float)
    };
    let sides =
        |shape: &[usize]| Structure::Reshape { shape: shape.iter().map(|&n| Side::Fixed(n)).collect() };
    let channels = structure(cx, "channels", turn.clone(), x)?;
    let flat = [1, turned[0], turned[1..].iter().product()];
    let flat = structure(cx, "flat", sides(&flat), &channels)?;
    let norm = InstanceNorm { epsilon: epsilon(call)? };
    let normalised = cx.apply(&call.sub("normalised"), norm, &[&flat, scale, bias], Elem::Float)?;
    let whole = structure(cx, "whole", sides(&turned), &normalised)?;
    cx.apply(call.name, turn, &[&whole], Elem::Float)
}

pub(super) fn layer(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(-1, x.rank()?)?;
    for inner in axis..x.rank()? {
        call.not_batch(x, inner, "normalises over")?;
    }
    let mut operands = vec![x, scale];
    operands.extend(call.optional(2));
    cx.apply(call.name, LayerNorm { axis, epsilon: epsilon(call)? }, &operands, Elem::Float)
}

/// `RMSNormalization`, and `SimplifiedLayerNormalization` of onnxruntime.
pub(super) fn rms(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(-1, x.rank()?)?;
    root_mean_square(cx, call, x, scale, axis, epsilon(call)?)
}

/// `y = x / √(mean(x²) + ε) · scale` over the axes from `axis` on.
pub(super) fn root_mean_square(
    cx: &mut Context,
    call: &Call<'_>,
    x: &Value,
    scale: &Value,
    axis: usize,
    epsilon: f64,
) -> Res<Value> {
    let rank = x.rank()?;
    for inner in axis..rank {
        call.not_batch(x, inner, "normalises over")?;
    }
    let square = cx.apply(&call.sub("square"), Pointwise::Pow { exponent: 2.0 }, &[x], Elem::Float)?;
    let mean = Reduce { function: ReduceFn::Mean, axes: (axis..rank).collect(), keep: true };
    let mean = cx.apply(&call.sub("mean"), mean, &[&square], Elem::Float)?;
    let epsilon = cx.number(&call.sub("epsilon"), epsilon)?;
    let sum = cx.apply(&call.sub("add"), Binary::Add, &[&mean, &epsilon], Elem::Float)?;
    let root = cx.apply(&call.sub("sqrt"), Pointwise::Sqrt, &[&sum], Elem::Float)?;
    let normal = cx.apply(&call.sub("div"), Binary::Div, &[x, &root], Elem::Float)?;
    cx.apply_broadcast(call.name, Binary::Mul, &[&normal, scale], Elem::Float)
}

pub(super) fn group(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let channels = *shape.get(1).ok_or("expects [N, C, …]")?;
    let groups = call.attributes.int("num_groups")?.ok_or("has no num_groups")?;
    let groups = usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0 && channels % g == 0)
        .ok_or_else(|| format!("{channels} channels cannot be divided into {groups} groups"))?;
    let mut parameters = Vec::new();
    for slot in 1..3 {
        let value = call.input(slot)?;
        // Operator set 18 has one parameter per group, 21 has one per channel. Some files mix this up, so the number of
        // parameters decides.
        parameters.push(match value {
            Value::Known(known) if known.tensor.elem_count() == groups && groups != channels => {
                let each = known.tensor.reshape((groups, 1))?.broadcast_as((groups, channels / groups))?;
                Known::value(each.contiguous()?.flatten_all()?, Elem::Float, &known.name)
            }
            _ => value.clone(),
        });
    }
    let op = GroupNorm { groups, epsilon: epsilon(call)? };
    cx.apply(call.name, op, &[x, &parameters[0], &parameters[1]], Elem::Float)
}

pub(super) fn instance(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let operands = [call.input(0)?, call.input(1)?, call.input(2)?];
    cx.apply(call.name, InstanceNorm { epsilon: epsilon(call)? }, &operands, Elem::Float)
}

pub(super) fn local_response(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let size = call.attributes.int("size")?.ok_or("has no size")?;
    let size = usize::try_from(size)
        .ok()
        .filter(|s| (1..1 << 20).contains(s))
        .ok_or_else(|| format!("size {size} is out of range"))?;
    let op = LocalResponseNorm {
        size,
        alpha: call.attributes.float_or("alpha", 1e-4)?,
        beta: call.attributes.float_or("beta", 0.75)?,
        bias: call.attributes.float_or("bias", 1.0)?,
    };
    cx.apply(call.name, op, &[call.input(0)?], Elem::Float)
}

/// `x / ‖x‖` along an axis, with the L1 or L2 norm; 0, with gradient 0, where the norm is 0.
pub(super) fn lp(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let axis = axis(call.attributes.int_or("axis", -1)?, x.rank()?)?;
    call.not_batch(x, axis, "normalises over")?;
    divided_by_norm(cx, call, x, axis, call.attributes.int_or("p", 2)?)
}

/// `x / ‖x‖` along an axis that is not the batch; 0, with gradient 0, where the norm is 0.
pub(super) fn divided_by_norm(
    cx: &mut Context,
    call: &Call<'_>,
    x: &Value,
    axis: usize,
    p: i64,
) -> Res<Value> {
    let norm = match p {
        2 => {
            let op = Reduce { function: ReduceFn::L2, axes: vec![axis], keep: true };
            cx.apply(&call.sub("norm"), op, &[x], Elem::Float)?
        }
        1 => {
            let size = cx.apply(&call.sub("abs"), Pointwise::Abs, &[x], Elem::Float)?;
            let op = Reduce { function: ReduceFn::Sum, axes: vec![axis], keep: true };
            cx.apply(&call.sub("norm"), op, &[&size], Elem::Float)?
        }
        p => return Err(format!("p is {p}; expected 1 or 2").into()),
    };
    let (zero, one) = (cx.number(&call.sub("zero"), 0.0)?, cx.number(&call.sub("one"), 1.0)?);
    let positive = cx.apply(&call.sub("positive"), Compare::Greater, &[&norm, &zero], Elem::Bool)?;
    let safe = cx.apply(&call.sub("safe"), Where, &[&positive, &norm, &one], Elem::Float)?;
    let quotient = cx.apply(&call.sub("quotient"), Binary::Div, &[x, &safe], Elem::Float)?;
    cx.apply(call.name, Where, &[&positive, &quotient, &zero], Elem::Float)
}

/// `MeanVarianceNormalization`: `(x − mean) / (σ + 10⁻⁹)` over some axes.
pub(super) fn mean_variance(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let axes = axes(call.attributes.ints("axes").unwrap_or(&[0, 2, 3]), x.rank()?)?;
    for &axis in &axes {
        call.not_batch(x, axis, "normalises over")?;
    }
    let mean = Reduce { function: ReduceFn::Mean, axes, keep: true };
    let middle = cx.apply(&call.sub("mean"), mean.clone(), &[x], Elem::Float)?;
    let centred = cx.apply(&call.sub("centred"), Binary::Sub, &[x, &middle], Elem::Float)?;
    let squares = Pointwise::Pow { exponent: 2.0 };
    let squares = cx.apply(&call.sub("squares"), squares, &[&centred], Elem::Float)?;
    let variance = cx.apply(&call.sub("variance"), mean, &[&squares], Elem::Float)?;
    let deviation = cx.apply(&call.sub("deviation"), Pointwise::Sqrt, &[&variance], Elem::Float)?;
    let epsilon = cx.number(&call.sub("epsilon"), 1e-9)?;
    let divisor = cx.apply(&call.sub("divisor"), Binary::Add, &[&deviation, &epsilon], Elem::Float)?;
    cx.apply(call.name, Binary::Div, &[&centred, &divisor], Elem::Float)
}
