//! Pooling operators.

use ascribe_core::Device;
use ascribe_core::Tensor;
use ascribe_core::ops::{
    AveragePool, Compare, Conv, MaxPool, MaxPoolIndices, MaxUnpool, Pointwise, Reduce, ReduceFn, Where,
};

use super::window::{attributes, number, spatial};
use super::{Call, volume};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// `MaxPool` and `AveragePool`; the indices of the maxima are a second output.
pub(super) fn pool(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let x = call.input(0)?;
    if volume::is_volume(x)? {
        return Ok(vec![volume::pool(cx, call)?]);
    }
    let window = attributes(call, spatial(x)?, None)?.window(x)?;
    if call.op == "MaxPool" {
        let mut values = vec![cx.apply(call.name, MaxPool { window }, &[x], Elem::Float)?];
        if call.outputs > 1 {
            let op = MaxPoolIndices { window, column_major: call.attributes.flag("storage_order", false)? };
            values.push(cx.apply(&call.sub("indices"), op, &[x], Elem::Int)?);
        }
        return Ok(values);
    }
    let count_include_pad = call.attributes.flag("count_include_pad", false)?;
    Ok(vec![cx.apply(call.name, AveragePool { window, count_include_pad }, &[x], Elem::Float)?])
}

/// `MaxUnpool`: values at the places where a `MaxPool` took them from.
pub(super) fn unpool(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, index) = (call.input(0)?, call.input(1)?);
    let [shape, _] = x.shapes()?;
    let axes =
        shape.len().checked_sub(2).filter(|&axes| axes > 0).ok_or("expects [N, C, …] with spatial axes")?;
    let list = |name: &str, default: i64, each: usize| match call.attributes.ints(name) {
        None => Ok(vec![default; axes * each]),
        Some(list) if list.len() == axes * each => Ok(list.to_vec()),
        Some(list) => Err(format!("{name} {list:?} does not fit {axes} spatial axes")),
    };
    let (kernel, strides, pads) = (list("kernel_shape", 1, 1)?, list("strides", 1, 1)?, list("pads", 0, 2)?);
    let sides = match call.optional(2) {
        Some(wanted) => {
            let wanted = match wanted {
                Value::Varying(arrays) => arrays[0].clone(),
                other => other.array("output_shape")?,
            };
            let wanted = wanted.as_ints()?.to_vec();
            if wanted.len() != axes + 2 {
                return Err(format!("output_shape {wanted:?} does not fit {axes} spatial axes").into());
            }
            wanted[2..].iter().map(|&s| number(s, 1, "output_shape")).collect::<Res<Vec<usize>>>()?
        }
        None => (0..axes)
            .map(|i| {
                let steps = (shape[i + 2] as i64 - 1).saturating_mul(strides[i]);
                let side =
                    steps.saturating_add(kernel[i]).saturating_sub(pads[i]).saturating_sub(pads[i + axes]);
                number(side, 1, "the side of its output")
            })
            .collect::<Res<Vec<usize>>>()?,
    };
    cx.apply(call.name, MaxUnpool { sides }, &[x, index], x.elem()?)
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

/// The attribute `p` of a norm.
fn power(call: &Call<'_>) -> Res<f64> {
    match call.attributes.int_or("p", 2)? {
        p if (1..=64).contains(&p) => Ok(p as f64),
        p => Err(format!("p is {p}; expected 1 to 64").into()),
    }
}

/// `(Σ |x|ᵖ)^{1/p}` from `Σ |x|ᵖ`; its derivative at 0 is 0.
fn root(cx: &mut Context, call: &Call<'_>, sum: &Value, p: f64) -> Res<Value> {
    if p == 1.0 {
        return cx.apply(call.name, ascribe_core::ops::Structure::Identity, &[sum], Elem::Float);
    }
    let (zero, one) = (cx.number(&call.sub("zero"), 0.0)?, cx.number(&call.sub("one"), 1.0)?);
    let positive = cx.apply(&call.sub("positive"), Compare::Greater, &[sum, &zero], Elem::Bool)?;
    let safe = cx.apply(&call.sub("safe"), Where, &[&positive, sum, &one], Elem::Float)?;
    let root = Pointwise::Pow { exponent: p.recip() };
    let root = cx.apply(&call.sub("root"), root, &[&safe], Elem::Float)?;
    cx.apply(call.name, Where, &[&positive, &root, &zero], Elem::Float)
}

/// `|x|ᵖ`.
fn powers(cx: &mut Context, call: &Call<'_>, p: f64) -> Res<Value> {
    let x = call.input(0)?;
    if p == 2.0 {
        return cx.apply(&call.sub("square"), Pointwise::Pow { exponent: 2.0 }, &[x], Elem::Float);
    }
    let size = cx.apply(&call.sub("abs"), Pointwise::Abs, &[x], Elem::Float)?;
    if p == 1.0 {
        return Ok(size);
    }
    cx.apply(&call.sub("power"), Pointwise::Pow { exponent: p }, &[&size], Elem::Float)
}

/// The p-norm over each window: the sum is a convolution of each channel with ones.
pub(super) fn norm(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, p) = (call.input(0)?, power(call)?);
    let powers = powers(cx, call, p)?;
    let sum = if volume::is_volume(x)? {
        volume::window_sums(cx, call, &powers)?
    } else {
        let axes = spatial(x)?;
        let window = attributes(call, axes, None)?.window(x)?;
        let channels = x.shapes()?[0][1];
        let side = [&[channels, 1], &window.kernel[2 - axes..]].concat();
        cx.spend(&side)?;
        let ones = Tensor::ones(side, cx.dtype, &Device::Cpu)?;
        let ones = Known::value(ones, Elem::Float, &call.sub("ones"));
        cx.apply(&call.sub("sum"), Conv { window, groups: channels }, &[&powers, &ones], Elem::Float)?
    };
    root(cx, call, &sum, p)
}

/// The p-norm over all spatial axes.
pub(super) fn global_norm(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, p) = (call.input(0)?, power(call)?);
    let axes: Vec<usize> = (2..x.rank()?).collect();
    if axes.is_empty() {
        return Err("expects [N, C, …] with spatial axes".into());
    }
    if p == 2.0 {
        return cx.apply(call.name, Reduce { function: ReduceFn::L2, axes, keep: true }, &[x], Elem::Float);
    }
    let powers = powers(cx, call, p)?;
    let sum = Reduce { function: ReduceFn::Sum, axes, keep: true };
    let sum = cx.apply(&call.sub("sum"), sum, &[&powers], Elem::Float)?;
    root(cx, call, &sum, p)
}
