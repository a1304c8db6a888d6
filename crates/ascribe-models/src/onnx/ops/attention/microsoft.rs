//! Attention of `com.microsoft`: `Attention`, `MultiHeadAttention` and `GroupQueryAttention`.

use ascribe_core::Tensor;
use ascribe_core::ops::{Binary, Compare, Linear, Structure};

use super::{Band, Settings, attend, count, extended, merge_heads, penalty, refuse, split_heads, within};
use crate::onnx::array::Array;
use crate::onnx::context::{Context, batch_axis};
use crate::onnx::ops::Call;
use crate::onnx::ops::rotary::rotary;
use crate::onnx::value::{Elem, Known, Res, Value};

/// A mask of keys of `com.microsoft`: how many keys each sample has `[B]`, or whether a key counts `[B, T]` or
/// `[B, S, T]`.
fn key_mask(cx: &mut Context, call: &Call<'_>, mask: &Value, keys: usize) -> Res<Value> {
    let mask = cx.unbake(mask, 0)?.unwrap_or_else(|| mask.clone());
    let [shape, _] = mask.shapes()?;
    let low = call.attributes.float_or("mask_filter_value", -10_000.0)?;
    let values = cx.as_float(&call.sub("mask/number"), &mask)?;
    let (condition, bound) = match shape[..] {
        [_] if batch_axis(&mask.shapes()?) == Some(0) && cx.multiple(&mask.shapes()?, 0) == Some(1)
            || shape == [1] =>
        {
            let seen = within(cx, &call.sub("mask"), &mask, keys)?;
            return penalty(cx, &call.sub("mask"), &seen, low);
        }
        [_, t] if t == keys => {
            let rows = cx.reshape_by(&call.sub("mask/rows"), &values, |s| Ok(vec![s[0], 1, 1, s[1]]))?;
            (rows, cx.number(&call.sub("mask/zero"), 0.0)?)
        }
        [_, _, t] if t == keys => {
            let rows = cx.reshape_by(&call.sub("mask/rows"), &values, |s| Ok(vec![s[0], 1, s[1], s[2]]))?;
            (rows, cx.number(&call.sub("mask/zero"), 0.0)?)
        }
        _ => return Err(format!("a mask of shape {shape:?} is not supported").into()),
    };
    let seen = cx.apply(&call.sub("mask/seen"), Compare::Greater, &[&condition, &bound], Elem::Bool)?;
    penalty(cx, &call.sub("mask"), &seen, low)
}

/// An error if one of these attributes is set.
fn unset(call: &Call<'_>, names: &[&str]) -> Res<()> {
    for name in names {
        if call.attributes.flag(name, false)? {
            return Err(format!("attribute {name} is not supported").into());
        }
    }
    Ok(())
}

/// The settings that both attentions of `com.microsoft` have.
fn settings(
    cx: &mut Context,
    call: &Call<'_>,
    mask: Option<&Value>,
    bias: Option<&Value>,
    [queries, keys, past]: [usize; 3],
) -> Res<Settings> {
    let mut masks = Vec::new();
    if let Some(mask) = mask {
        masks.push(key_mask(cx, call, mask, keys)?);
    }
    if call.attributes.flag("unidirectional", false)? {
        masks.push(Band::causal(past).mask(cx, &call.sub("causal"), queries, keys)?);
    }
    masks.extend(bias.cloned());
    Ok(Settings {
        scale: call.attributes.float("scale")?.filter(|&s| s != 0.0),
        masks,
        softcap: None,
        blank: false,
    })
}

/// `Attention` of `com.microsoft`, which multiplies its input with the weights of queries, keys and values.
pub(in crate::onnx::ops) fn projected(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    refuse(call, &[(6, "input past_sequence_length")])?;
    unset(call, &["do_rotary", "past_present_share_buffer"])?;
    let heads = count(call, "num_heads")?;
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let weights = call.input(1)?.known().ok_or("its weights are computed from the inputs")?;
    let &[width, all] = weights.tensor.dims() else { return Err("expects weights [D, 3 · D′]".into()) };
    if shape.len() != 3 || shape[2] != width {
        return Err(format!("input {shape:?} does not fit weights {:?}", weights.tensor.dims()).into());
    }
    let sizes = match call.attributes.ints("qkv_hidden_sizes") {
        Some(sizes) => sizes.iter().map(|&s| usize::try_from(s).unwrap_or(0)).collect::<Vec<usize>>(),
        None => vec![all / 3; 3],
    };
    if sizes.len() != 3 || sizes.iter().sum::<usize>() != all {
        return Err(format!("weights {:?} cannot be divided into {sizes:?}", weights.tensor.dims()).into());
    }
    let bias = match call.optional(2) {
        Some(bias) => Some(bias.known().ok_or("its bias is computed from the inputs")?),
        None => None,
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for (name, &size) in ["query", "key", "value"].iter().zip(&sizes) {
        let own = call.sub(name);
        let constant = |tensor: &Tensor, part: &str| -> Res<Value> {
            Ok(Known::value(tensor.contiguous()?, Elem::Float, &format!("{own}/{part}")))
        };
        let weight = constant(&weights.tensor.narrow(1, start, size)?.t()?, "weight")?;
        let mut operands = vec![x.clone(), weight];
        if let Some(bias) = bias {
            operands.push(constant(&bias.tensor.narrow(0, start, size)?, "bias")?);
        }
        let refs: Vec<&Value> = operands.iter().collect();
        let part = cx.apply(&own, Linear, &refs, Elem::Float)?;
        parts.push(split_heads(cx, &own, &part, heads)?);
        start += size;
    }
    let mut total = shape[1];
    if let Some(past) = call.optional(4) {
        // Keys and values of earlier calls, [2, B, H, P, d].
        for (i, name) in ["past key", "past value"].iter().enumerate() {
            let name = call.sub(name);
            let op = Structure::Slice { axis: 0, start: i, len: 1, step: 1 };
            let own = cx.apply(&format!("{name}/slice"), op, &[past], Elem::Float)?;
            let own = cx.reshape_by(&format!("{name}/state"), &own, |s| Ok(s[1..].to_vec()))?;
            total = shape[1] + extended(cx, &name, &own, &mut parts[i + 1])?;
        }
    }
    let settings =
        settings(cx, call, call.optional(3), call.optional(5), [shape[1], total, total - shape[1]])?;
    let stages = attend(cx, call.name, [&parts[0], &parts[1], &parts[2]], &settings)?;
    let mut values = vec![merge_heads(cx, call.name, &stages.context)?];
    if call.outputs > 1 {
        let mut states = Vec::new();
        for (part, name) in parts[1..].iter().zip(["present key", "present value"]) {
            states.push(cx.reshape_by(&call.sub(name), part, |s| Ok([&[1], s].concat()))?);
        }
        let op = Structure::Concat { axis: 0 };
        values.push(cx.apply(&call.sub("present"), op, &[&states[0], &states[1]], Elem::Float)?);
    }
    Ok(values)
}

/// `MultiHeadAttention` of `com.microsoft`.
pub(in crate::onnx::ops) fn multi_head(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    refuse(call, &[(8, "input past_sequence_length"), (9, "input cache_indirection")])?;
    let heads = count(call, "num_heads")?;
    let [query, key, value] = unpacked(cx, call)?;
    let mut parts = Vec::new();
    let mut start = 0;
    for (name, x) in ["query", "key", "value"].iter().zip([&query, &key, &value]) {
        let own = call.sub(name);
        if x.rank()? == 4 {
            if call.optional(3).is_some() {
                return Err("a bias of keys that are divided into heads is not supported".into());
            }
            parts.push(x.clone());
            continue;
        }
        let width = x.shapes()?[0].last().copied().unwrap_or(0);
        let mut x = x.clone();
        if let Some(bias) = call.optional(3) {
            let op = Structure::Slice { axis: 0, start, len: width, step: 1 };
            let bias = cx.apply(&format!("{own}/bias"), op, &[bias], Elem::Float)?;
            x = cx.apply(&own, Binary::Add, &[&x, &bias], Elem::Float)?;
            start += width;
        }
        parts.push(split_heads(cx, &own, &x, heads)?);
    }
    let mut before = 0;
    for (i, name) in [(6, "past key"), (7, "past value")] {
        if let Some(past) = call.optional(i) {
            before = extended(cx, &call.sub(name), past, &mut parts[i - 5])?;
        }
    }
    let sides = [parts[0].shapes()?[0][2], parts[1].shapes()?[0][2], before];
    let settings = settings(cx, call, call.optional(4), call.optional(5), sides)?;
    let stages = attend(cx, call.name, [&parts[0], &parts[1], &parts[2]], &settings)?;
    let [_, key, value] = <[Value; 3]>::try_from(parts).map_err(|_| "has no keys")?;
    Ok(vec![merge_heads(cx, call.name, &stages.context)?, key, value])
}

/// Queries, keys and values, which may be packed: `[B, S, H, 3, d]`, or keys and values `[B, T, H, 2, d]`.
fn unpacked(cx: &mut Context, call: &Call<'_>) -> Res<[Value; 3]> {
    let query = call.input(0)?.clone();
    let parts = |cx: &mut Context, x: &Value, names: &[&str]| -> Res<Vec<Value>> {
        let [shape, _] = x.shapes()?;
        if shape.len() != 5 || shape[3] != names.len() {
            return Err(format!(
                "has packed values of shape {shape:?}; expected [B, S, H, {}, d]",
                names.len()
            )
            .into());
        }
        let mut parts = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let own = call.sub(&format!("packed {name}"));
            let op = Structure::Slice { axis: 3, start: i, len: 1, step: 1 };
            let part = cx.apply(&format!("{own}/slice"), op, &[x], Elem::Float)?;
            parts.push(cx.reshape_by(&own, &part, |s| Ok(vec![s[0], s[1], s[2] * s[4]]))?);
        }
        Ok(parts)
    };
    let all = match (call.optional(1), call.optional(2)) {
        (None, None) => parts(cx, &query, &["query", "key", "value"])?,
        (Some(keys), None) => [vec![query], parts(cx, keys, &["key", "value"])?].concat(),
        (Some(key), Some(value)) => vec![query, key.clone(), value.clone()],
        (None, Some(_)) => return Err("has values but no keys".into()),
    };
    <[Value; 3]>::try_from(all).map_err(|_| "has no keys".into())
}

/// `GroupQueryAttention` for a prompt: each query sees the keys up to its own, and groups of heads share keys. Tokens
/// behind the end of a sequence (`seqlens_k`) are computed too; no token before them sees them.
pub(in crate::onnx::ops) fn grouped_query(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    refuse(
        call,
        &[
            (3, "a past state (input past_key)"),
            (4, "a past state (input past_value)"),
            (11, "input head_sink"),
        ],
    )?;
    unset(call, &["smooth_softmax"])?;
    let (heads, shared) = (count(call, "num_heads")?, count(call, "kv_num_heads")?);
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let &[_, length, width] = &shape[..] else { return Err("expects queries [B, S, H·d]".into()) };
    let mut parts = Vec::new();
    if let (Some(key), Some(value)) = (call.optional(1), call.optional(2)) {
        parts.extend([x.clone(), key.clone(), value.clone()]);
    } else {
        let each = width / (heads + 2 * shared);
        let mut start = 0;
        for (name, count) in [("query", heads), ("key", shared), ("value", shared)] {
            let op = Structure::Slice { axis: 2, start, len: count * each, step: 1 };
            parts.push(cx.apply(&call.sub(&format!("packed {name}")), op, &[x], Elem::Float)?);
            start += count * each;
        }
    }
    let mut split = Vec::new();
    for ((part, name), count) in parts.iter().zip(["query", "key", "value"]).zip([heads, shared, shared]) {
        let mut part = split_heads(cx, &call.sub(name), part, count)?;
        if name != "value" && call.attributes.flag("do_rotary", false)? {
            part = turned(cx, call, name, &part, length)?;
        }
        split.push(part);
    }
    let window = call.attributes.int("local_window_size")?.and_then(|w| usize::try_from(w).ok());
    let band = Band { left: window.map(|w| w.saturating_sub(1)), ..Band::causal(0) };
    let mut hidden = vec![band.mask(cx, &call.sub("causal"), length, length)?];
    hidden.extend(call.optional(10).cloned());
    let settings = Settings {
        scale: call.attributes.float("scale")?.filter(|&s| s != 0.0),
        masks: hidden,
        softcap: call.attributes.float("softcap")?.filter(|&c| c > 0.0),
        blank: false,
    };
    let stages = attend(cx, call.name, [&split[0], &split[1], &split[2]], &settings)?;
    let [_, key, value] = <[Value; 3]>::try_from(split).map_err(|_| "has no keys")?;
    Ok(vec![merge_heads(cx, call.name, &stages.context)?, key, value])
}

/// Queries or keys with rotary positions, from the tables in inputs 7 and 8.
fn turned(cx: &mut Context, call: &Call<'_>, name: &str, x: &Value, length: usize) -> Res<Value> {
    let positions = match call.optional(9) {
        Some(positions) => positions.clone(),
        None => Value::from_array(Array::ints(vec![0]), cx.dtype, &call.sub("positions"))?,
    };
    let (cos, sin) = (call.optional(7), call.optional(8));
    let (Some(cos), Some(sin)) = (cos, sin) else {
        return Err("rotates, but has no cos_cache and sin_cache".into());
    };
    if cos.shapes()?[0].first().is_some_and(|&rows| rows < length) {
        return Err(format!("has a cos_cache for fewer than {length} positions").into());
    }
    let interleaved = call.attributes.int_or("rotary_interleaved", 0)?;
    let attributes = crate::onnx::control::integer("interleaved", interleaved);
    let inputs = [Some(x.clone()), Some(positions), Some(cos.clone()), Some(sin.clone())];
    let own = call.sub(&format!("{name}/rotated"));
    let call = Call { inputs: &inputs, attributes: &attributes, op: "RotaryEmbedding", ..call.named(&own) };
    rotary(cx, &call)
}
