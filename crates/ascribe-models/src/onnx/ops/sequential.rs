//! Operators that go through an axis step by step: running products, reversed sequences, causal convolutions with a state
//! and linear attention.

use ascribe_core::ops::{
    Binary, Cast, Compare, Conv, GatherAt, MatMul, Places, Pointwise, Structure, Where, Window,
};
use ascribe_core::{DType, Device, Tensor};

use super::Call;
use super::attention::{merge_heads, split_heads};
use crate::onnx::array::{Array, axis};
use crate::onnx::context::Context;
use crate::onnx::fold::LIMIT;
use crate::onnx::value::{Elem, Known, Res, Value};

/// Most steps that are unrolled.
const STEPS: usize = 1 << 14;

/// Part of an axis.
fn slice(cx: &mut Context, name: &str, x: &Value, axis: usize, start: usize, len: usize) -> Res<Value> {
    cx.apply(name, Structure::Slice { axis, start, len, step: 1 }, &[x], x.elem()?)
}

fn join(cx: &mut Context, name: &str, parts: &[Value], axis: usize) -> Res<Value> {
    let refs: Vec<&Value> = parts.iter().collect();
    cx.apply(name, Structure::Concat { axis }, &refs, Elem::Float)
}

/// The number 1 in a type.
fn ones(cx: &Context, name: &str, elem: Elem) -> Res<Value> {
    match elem {
        Elem::Float => cx.number(name, 1.0),
        Elem::Int => Value::from_array(Array::int(1), cx.dtype, name),
        Elem::Bool => Err("multiplies booleans".into()),
        Elem::Text => Err("multiplies text".into()),
    }
}

/// `CumProd`: running products, one node for each step.
pub(super) fn products(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let at = axis(call.input(1)?.array("its axis")?.scalar_int()?, shape.len())?;
    call.not_batch(x, at, "multiplies over")?;
    let steps = shape[at];
    if !(1..=STEPS).contains(&steps) {
        return Err(format!("multiplies {steps} values; expected 1 to {STEPS}").into());
    }
    let elem = x.elem()?;
    let exclusive = call.attributes.flag("exclusive", false)?;
    let mut order: Vec<usize> = (0..steps).collect();
    if call.attributes.flag("reverse", false)? {
        order.reverse();
    }
    let mut parts: Vec<Option<Value>> = vec![None; steps];
    let mut last: Option<Value> = None;
    for step in order {
        let own = slice(cx, &call.sub(&format!("{step}/value")), x, at, step, 1)?;
        let next = match &last {
            None => own.clone(),
            Some(last) => cx.apply(&call.sub(&step.to_string()), Binary::Mul, &[last, &own], elem)?,
        };
        let before = match (exclusive, last) {
            (false, _) => next.clone(),
            (true, Some(last)) => last,
            // The empty product, in the shape of a value.
            (true, None) => {
                let one = ones(cx, &call.sub("one"), elem)?;
                let never =
                    Known::value(Tensor::zeros((), DType::U8, &Device::Cpu)?, Elem::Bool, &call.sub("never"));
                cx.apply(&call.sub("empty"), Where, &[&never, &own, &one], elem)?
            }
        };
        parts[step] = Some(before);
        last = Some(next);
    }
    let parts: Vec<Value> = parts.into_iter().flatten().collect();
    let refs: Vec<&Value> = parts.iter().collect();
    cx.apply(call.name, Structure::Concat { axis: at }, &refs, elem)
}

/// `ReverseSequence`: the first values along the time axis of each sample, in reverse order.
pub(super) fn reversed(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, lengths) = (call.input(0)?, call.input(1)?);
    let shapes = x.shapes()?;
    let rank = shapes[0].len();
    let setting = |name: &str, default: i64| axis(call.attributes.int_or(name, default)?, rank);
    let (time, batch) = (setting("time_axis", 0)?, setting("batch_axis", 1)?);
    if time == batch || lengths.rank()? != 1 {
        return Err("expects a time axis and a batch axis, and one length for each sample".into());
    }
    call.not_batch(x, time, "reverses")?;
    let steps = shapes[0][time];
    if let Some(arrays) = lengths.arrays(LIMIT)?
        && let [first, rest @ ..] = &[arrays[0].as_ints()?, arrays[1].as_ints()?].concat()[..]
        && rest.iter().all(|length| length == first)
    {
        // All have the same length, so that no index is needed.
        let length = usize::try_from(*first).ok().filter(|l| (1..=steps).contains(l));
        let length = length.ok_or_else(|| format!("reverses {first} of {steps} steps"))?;
        let op = Structure::Slice { axis: time, start: length - 1, len: length, step: -1 };
        let own = if length == steps { call.name.to_string() } else { call.sub("reversed") };
        let reversed = cx.apply(&own, op, &[x], x.elem()?)?;
        if length == steps {
            return Ok(reversed);
        }
        let rest = slice(cx, &call.sub("rest"), x, time, length, steps - length)?;
        let refs = [&reversed, &rest];
        return cx.apply(call.name, Structure::Concat { axis: time }, &refs, x.elem()?);
    }
    // The index of each step: length − 1 − t before the end of a sequence, t behind it.
    let lengths = cx.as_float(&call.sub("lengths"), lengths)?;
    let column = |s: &[usize]| {
        let mut shape = vec![1; rank];
        shape[batch] = s[0];
        Ok(shape)
    };
    let lengths = cx.reshape_by(&call.sub("lengths/axis"), &lengths, column)?;
    let mut sides = vec![1; rank];
    sides[time] = steps;
    let positions: Vec<f64> = (0..steps).map(|t| t as f64).collect();
    let positions = Tensor::from_vec(positions, sides, &Device::Cpu)?.to_dtype(cx.dtype)?;
    let positions = Known::value(positions, Elem::Float, &call.sub("positions"));
    let one = cx.number(&call.sub("one"), 1.0)?;
    let last = cx.apply(&call.sub("last"), Binary::Sub, &[&lengths, &one], Elem::Float)?;
    let back = cx.apply(&call.sub("back"), Binary::Sub, &[&last, &positions], Elem::Float)?;
    let inside = cx.apply(&call.sub("inside"), Compare::Greater, &[&lengths, &positions], Elem::Bool)?;
    let index = cx.apply(&call.sub("places"), Where, &[&inside, &back, &positions], Elem::Float)?;
    let index = cx.apply(&call.sub("index"), Cast { to: DType::I64 }, &[&index], Elem::Int)?;
    let mut repeat: Vec<usize> = shapes[0].clone();
    (repeat[time], repeat[batch]) = (1, 1);
    let index = cx.apply(&call.sub("indices"), Structure::Expand { shape: repeat }, &[&index], Elem::Int)?;
    cx.apply(call.name, GatherAt { places: Places::Elements { axis: time } }, &[x, &index], x.elem()?)
}

/// `CausalConvWithState`: a convolution of each channel with the values before, and the last values as the next state.
pub(super) fn causal_conv(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let ([shape, _], [of_weight, _]) = (x.shapes()?, weight.shapes()?);
    let (&[_, channels, length], &[rows, 1, taps]) = (&shape[..], &of_weight[..]) else {
        return Err(format!(
            "has an input {shape:?} and a weight {of_weight:?}; expected [N, C, L] and [C, 1, k]"
        )
        .into());
    };
    if rows != channels || taps == 0 {
        return Err(format!("has a weight {of_weight:?} for {channels} channels").into());
    }
    let past = call.optional(3);
    let whole = match past {
        Some(past) if taps > 1 => join(cx, &call.sub("with past"), &[past.clone(), x.clone()], 2)?,
        _ => x.clone(),
    };
    let before = if past.is_some() { 0 } else { taps - 1 };
    let mut operands = vec![&whole, weight];
    operands.extend(call.optional(2));
    let window = Window { padding: [0, before, 0, 0], ..Window::new([1, taps]) };
    let swish = match call.mode("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        other => {
            return Err(format!("activation '{other}' is not supported; expected none, silu or swish").into());
        }
    };
    let own = if swish { call.sub("sum") } else { call.name.to_string() };
    let mut y = cx.apply(&own, Conv { window, groups: channels }, &operands, Elem::Float)?;
    if swish {
        y = cx.apply(call.name, Pointwise::Silu, &[&y], Elem::Float)?;
    }
    let kept = taps - 1;
    let missing = |why: &str| Value::Missing(Some(why.into()));
    let state = if kept == 0 {
        missing("the state of a convolution with one tap is empty")
    } else if past.is_some() || length >= kept {
        let total = whole.shapes()?[0][2];
        slice(cx, &call.sub("state"), &whole, 2, total - kept, kept)?
    } else {
        let op = ascribe_core::ops::Pad {
            before: vec![0, 0, kept - length],
            after: vec![0; 3],
            mode: ascribe_core::ops::PadMode::Constant(0.0),
        };
        cx.apply(&call.sub("state"), op, &[x], Elem::Float)?
    };
    Ok(vec![y, state])
}

/// `LinearAttention`: a state `[N, H, d, e]` that grows by `k ⊗ v` (or by what `k` does not yet recall of `v`) with each
/// step and decays, and is read by `q`.
pub(super) fn linear_attention(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let heads = |name: &str| {
        let count = call.attributes.int(name)?.ok_or_else(|| format!("has no {name}"))?;
        super::window::number(count, 1, name)
    };
    let (of_q, of_k) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let rule = call.mode("update_rule", "gated_delta")?;
    let (gated, delta) = (rule.starts_with("gated"), rule.ends_with("delta"));
    if !of_q.is_multiple_of(of_k) || !["linear", "gated", "delta", "gated_delta"].contains(&rule) {
        return Err(
            format!("has {of_q} heads of queries, {of_k} of keys and the update rule '{rule}'").into()
        );
    }
    let part = |cx: &mut Context, i: usize, name: &str, heads: usize| {
        split_heads(cx, &call.sub(name), call.input(i)?, heads)
    };
    let q = part(cx, 0, "query", of_q)?;
    let k = part(cx, 1, "key", of_k)?;
    let v = part(cx, 2, "value", of_k)?;
    let [of_query, _] = q.shapes()?;
    let &[_, _, steps, width] = &of_query[..] else { return Err("expects queries [N, T, H·d]".into()) };
    if !(1..=STEPS).contains(&steps) {
        return Err(format!("has {steps} time steps; expected 1 to {STEPS}").into());
    }
    // Decay and rate have one number for each head, or one for each of its values.
    let per_head = |cx: &mut Context, slot: usize, name: &str| -> Res<Value> {
        let x = call.input(slot)?;
        let last = x.shapes()?[0].last().copied().unwrap_or(0);
        let split = if last.is_multiple_of(of_k) { of_k } else { 1 };
        split_heads(cx, &call.sub(name), x, split)
    };
    let decay = if gated { Some(per_head(cx, 4, "decay")?) } else { None };
    let rate = if delta { Some(per_head(cx, 5, "rate")?) } else { None };
    let decay = match decay {
        Some(decay) => Some(cx.apply(&call.sub("share"), Pointwise::Exp, &[&decay], Elem::Float)?),
        None => None,
    };
    let scale = call.attributes.float("scale")?.filter(|&s| s != 0.0);
    let scale = cx.number(&call.sub("scale"), scale.unwrap_or_else(|| (width as f64).sqrt().recip()))?;
    let mut state = call.optional(3).cloned();
    let mut rows = Vec::with_capacity(steps);
    let column = Structure::Transpose { order: vec![0, 1, 3, 2] };
    for t in 0..steps {
        let name = |part: &str| call.sub(&format!("t{t}/{part}"));
        let key = slice(cx, &name("key"), &k, 2, t, 1)?;
        let key = cx.apply(&name("key/column"), column.clone(), &[&key], Elem::Float)?;
        let mut new = slice(cx, &name("value"), &v, 2, t, 1)?;
        if let (Some(decay), Some(old)) = (&decay, &state) {
            let own = slice(cx, &name("share"), decay, 2, t, 1)?;
            let own = cx.apply(&name("share/column"), column.clone(), &[&own], Elem::Float)?;
            state = Some(cx.apply(&name("decayed"), Binary::Mul, &[old, &own], Elem::Float)?);
        }
        if let Some(rate) = &rate {
            if let Some(old) = &state {
                let row = cx.apply(&name("key/row"), column.clone(), &[&key], Elem::Float)?;
                let recalled = cx.apply(&name("recalled"), MatMul, &[&row, old], Elem::Float)?;
                new = cx.apply(&name("difference"), Binary::Sub, &[&new, &recalled], Elem::Float)?;
            }
            let own = slice(cx, &name("rate"), rate, 2, t, 1)?;
            new = cx.apply(&name("update"), Binary::Mul, &[&new, &own], Elem::Float)?;
        }
        let outer = cx.apply(&name("outer"), MatMul, &[&key, &new], Elem::Float)?;
        let next = match &state {
            Some(old) => cx.apply(&name("state"), Binary::Add, &[old, &outer], Elem::Float)?,
            None => outer,
        };
        let all = super::attention::grouped(cx, &name("read"), &next, of_q)?;
        let query = slice(cx, &name("query"), &q, 2, t, 1)?;
        rows.push(cx.apply(&name("context"), MatMul, &[&query, &all], Elem::Float)?);
        state = Some(next);
    }
    let all = join(cx, &call.sub("contexts"), &rows, 2)?;
    let scaled = cx.apply(&call.sub("scaled"), Binary::Mul, &[&all, &scale], Elem::Float)?;
    let y = merge_heads(cx, call.name, &scaled)?;
    Ok(vec![y, state.ok_or("has no state")?])
}
