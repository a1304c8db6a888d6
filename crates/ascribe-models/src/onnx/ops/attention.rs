//! Attention, as matrix products and a softmax: `softmax(scale · Q Kᵀ + mask) V` for each head; `microsoft` has the
//! operators of `com.microsoft`.
//!
//! Nodes are `attention/scores`, `attention/weights` (after the softmax) and `attention/context`.

pub(super) mod microsoft;

use ascribe_core::ops::{Binary, Compare, MatMul, Pointwise, Reduce, ReduceFn, Softmax, Structure, Where};
use ascribe_core::{Device, Tensor};

use super::Call;
use crate::onnx::array::Array;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// A positive number of heads.
fn count(call: &Call<'_>, attribute: &str) -> Res<usize> {
    let heads = call.attributes.int(attribute)?.ok_or_else(|| format!("has no {attribute}"))?;
    usize::try_from(heads)
        .ok()
        .filter(|&h| h > 0)
        .ok_or_else(|| format!("{attribute} is {heads}; expected a positive number").into())
}

/// `[B, S, H · d]` as `[B, H, S, d]`.
pub(super) fn split_heads(cx: &mut Context, name: &str, x: &Value, heads: usize) -> Res<Value> {
    let [shape, _] = x.shapes()?;
    if shape.len() != 3 || shape[2] % heads != 0 {
        return Err(format!("shape {shape:?} cannot be divided into {heads} heads").into());
    }
    let split = cx.reshape_by(&format!("{name}/split"), x, |s| Ok(vec![s[0], s[1], heads, s[2] / heads]))?;
    let op = Structure::Transpose { order: vec![0, 2, 1, 3] };
    cx.apply(&format!("{name}/heads"), op, &[&split], Elem::Float)
}

/// The inverse of [`split_heads`].
pub(super) fn merge_heads(cx: &mut Context, name: &str, x: &Value) -> Res<Value> {
    let op = Structure::Transpose { order: vec![0, 2, 1, 3] };
    let moved = cx.apply(&format!("{name}/transpose"), op, &[x], Elem::Float)?;
    cx.reshape_by(name, &moved, |s| Ok(vec![s[0], s[1], s[2] * s[3]]))
}

/// What an attention computes besides its products.
struct Settings {
    /// Factor of the scores; `1/√d` if it is not given.
    scale: Option<f64>,
    /// Values that are added to the scores, which broadcast to `[B, H, S, T]`.
    masks: Vec<Value>,
    /// `c · tanh(x / c)` of the scores.
    softcap: Option<f64>,
    /// Whether a query that sees no key gets zeros, otherwise NaN.
    blank: bool,
}

/// The scores before and after masks and the cap, the weights, and the context `[B, H, S, d]`.
struct Stages {
    scores: Value,
    capped: Value,
    masked: Value,
    weights: Value,
    context: Value,
}

/// Repeats the heads of keys or values for groups of queries.
pub(super) fn grouped(cx: &mut Context, name: &str, x: &Value, heads: usize) -> Res<Value> {
    let [shape, _] = x.shapes()?;
    let own = shape[1];
    if own == heads {
        return Ok(x.clone());
    }
    if !heads.is_multiple_of(own) {
        return Err(format!("{heads} heads of queries cannot share {own} heads of keys").into());
    }
    let single = cx.reshape_by(&format!("{name}/single"), x, |s| Ok(vec![s[0], s[1], 1, s[2], s[3]]))?;
    let op = Structure::Expand { shape: vec![1, 1, heads / own, 1, 1] };
    let all = cx.apply(&format!("{name}/expand"), op, &[&single], Elem::Float)?;
    cx.reshape_by(&format!("{name}/groups"), &all, |s| Ok(vec![s[0], s[1] * s[2], s[3], s[4]]))
}

/// Attention of queries `[B, H, S, d]` to keys and values `[B, H′, T, d]`.
fn attend(cx: &mut Context, name: &str, parts: [&Value; 3], settings: &Settings) -> Res<Stages> {
    let [q, k, v] = parts;
    let shapes = [q.shapes()?, k.shapes()?, v.shapes()?].map(|[s, _]| s);
    if shapes.iter().any(|s| s.len() != 4) {
        return Err(format!("queries, keys and values have shapes {shapes:?}; expected [B, H, S, d]").into());
    }
    let (heads, width) = (shapes[0][1], shapes[0][3]);
    let k = grouped(cx, &format!("{name}/key"), k, heads)?;
    let v = grouped(cx, &format!("{name}/value"), v, heads)?;
    let op = Structure::Transpose { order: vec![0, 1, 3, 2] };
    let k = cx.apply(&format!("{name}/key/transpose"), op, &[&k], Elem::Float)?;
    let product = cx.apply(&format!("{name}/product"), MatMul, &[q, &k], Elem::Float)?;
    let scale = settings.scale.unwrap_or_else(|| (width as f64).sqrt().recip());
    let scale = cx.number(&format!("{name}/scale"), scale)?;
    let scores = cx.apply(&format!("{name}/scores"), Binary::Mul, &[&product, &scale], Elem::Float)?;
    let mut capped = scores.clone();
    if let Some(cap) = settings.softcap {
        let cap = cx.number(&format!("{name}/cap"), cap)?;
        let ratio = cx.apply(&format!("{name}/cap/ratio"), Binary::Div, &[&scores, &cap], Elem::Float)?;
        let tanh = cx.apply(&format!("{name}/cap/tanh"), Pointwise::Tanh, &[&ratio], Elem::Float)?;
        capped = cx.apply(&format!("{name}/capped"), Binary::Mul, &[&tanh, &cap], Elem::Float)?;
    }
    let mut masked = capped.clone();
    for (i, mask) in settings.masks.iter().enumerate() {
        let own = format!("{name}/masked/{i}");
        masked = cx.apply_broadcast(&own, Binary::Add, &[&masked, mask], Elem::Float)?;
    }
    let op = Softmax { axis: 3, log: false };
    let weights = if settings.blank {
        let shares = cx.apply(&format!("{name}/weights/softmax"), op, &[&masked], Elem::Float)?;
        // Where no key is seen, all scores are −∞.
        let most = Reduce { function: ReduceFn::Max, axes: vec![3], keep: true };
        let most = cx.apply(&format!("{name}/weights/most"), most, &[&masked], Elem::Float)?;
        let low = cx.number(&format!("{name}/weights/low"), f64::NEG_INFINITY)?;
        let empty = format!("{name}/weights/empty");
        let empty = cx.apply(&empty, Compare::Equal, &[&most, &low], Elem::Bool)?;
        let zero = cx.number(&format!("{name}/weights/zero"), 0.0)?;
        cx.apply(&format!("{name}/weights"), Where, &[&empty, &zero, &shares], Elem::Float)?
    } else {
        cx.apply(&format!("{name}/weights"), op, &[&masked], Elem::Float)?
    };
    let context = cx.apply(&format!("{name}/context"), MatMul, &[&weights, &v], Elem::Float)?;
    Ok(Stages { scores, capped, masked, weights, context })
}

/// Puts keys or values `[B, H, P, d]` of earlier calls before new ones, and returns how many they are.
fn extended(cx: &mut Context, name: &str, past: &Value, part: &mut Value) -> Res<usize> {
    *part = cx.apply(name, Structure::Concat { axis: 2 }, &[past, part], Elem::Float)?;
    Ok(past.shapes()?[0][2])
}

/// Which keys a query sees: from `left` before its position to `right` behind it. The first query has position `offset`.
#[derive(Clone, Copy)]
struct Band {
    offset: usize,
    left: Option<usize>,
    right: Option<usize>,
}

impl Band {
    /// Each query sees the keys up to its own.
    fn causal(offset: usize) -> Self {
        Self { offset, left: None, right: Some(0) }
    }

    /// A mask `[S, T]` that is −∞ for keys that a query does not see.
    fn mask(self, cx: &mut Context, name: &str, queries: usize, keys: usize) -> Res<Value> {
        cx.spend(&[queries, keys])?;
        let hidden = |i: usize| {
            let (at, key) = (i / keys + self.offset, i % keys);
            let before = self.left.is_some_and(|left| key.saturating_add(left) < at);
            let behind = self.right.is_some_and(|right| key > at.saturating_add(right));
            if before || behind { f64::NEG_INFINITY } else { 0.0 }
        };
        let values: Vec<f64> = (0..queries * keys).map(hidden).collect();
        let mask = Tensor::from_vec(values, (queries, keys), &Device::Cpu)?.to_dtype(cx.dtype)?;
        Ok(Known::value(mask, Elem::Float, name))
    }
}

/// Truth values `[B, 1, 1, T]`: whether a key is among the first ones of its sample, for lengths `[B]`.
fn within(cx: &mut Context, name: &str, lengths: &Value, keys: usize) -> Res<Value> {
    let lengths = cx.as_float(&format!("{name}/number"), lengths)?;
    let lengths = cx.reshape_by(&format!("{name}/lengths"), &lengths, |s| Ok(vec![s[0], 1, 1, 1]))?;
    let positions =
        Value::from_array(Array::ints((0..keys as i64).collect()), cx.dtype, &format!("{name}/positions"))?;
    let positions = cx.as_float(&format!("{name}/keys"), &positions)?;
    cx.apply(&format!("{name}/seen"), Compare::Greater, &[&lengths, &positions], Elem::Bool)
}

/// 0 where a condition holds, `low` elsewhere.
fn penalty(cx: &mut Context, name: &str, condition: &Value, low: f64) -> Res<Value> {
    let (zero, low) = (cx.number(&format!("{name}/zero"), 0.0)?, cx.number(&format!("{name}/low"), low)?);
    cx.apply(name, Where, &[condition, &zero, &low], Elem::Float)
}

/// An error if an input that is not supported is given.
fn refuse(call: &Call<'_>, slots: &[(usize, &str)]) -> Res<()> {
    match slots.iter().find(|(slot, _)| call.optional(*slot).is_some()) {
        Some((_, what)) => Err(format!("{what} is not supported").into()),
        None => Ok(()),
    }
}

/// `Attention` of the default operator set, from version 23 on.
pub(super) fn standard(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let mut parts = Vec::new();
    for (i, name) in ["query", "key", "value"].iter().enumerate() {
        let x = call.input(i)?;
        if x.rank()? == 3 {
            let heads = count(call, if i == 0 { "q_num_heads" } else { "kv_num_heads" })?;
            parts.push(split_heads(cx, &call.sub(name), x, heads)?);
        } else {
            parts.push(x.clone());
        }
    }
    let mut offset = 0;
    for (i, name) in [(4, "past key"), (5, "past value")] {
        if let Some(past) = call.optional(i) {
            offset = extended(cx, &call.sub(name), past, &mut parts[i - 3])?;
        }
    }
    let (queries, keys) = (parts[0].shapes()?[0][2], parts[1].shapes()?[0][2]);
    let mut masks = Vec::new();
    if let Some(mask) = call.optional(3) {
        masks.push(match mask.elem()? {
            Elem::Float => mask.clone(),
            Elem::Bool => penalty(cx, &call.sub("mask"), mask, f64::NEG_INFINITY)?,
            Elem::Int | Elem::Text => return Err("attn_mask holds integers".into()),
        });
    }
    let side =
        |name: &str| -> Res<Option<usize>> { Ok(usize::try_from(call.attributes.int_or(name, -1)?).ok()) };
    let mut band = Band { offset, left: side("left_window_size")?, right: side("right_window_size")? };
    if call.attributes.flag("is_causal", false)? {
        band.right = Some(0);
    }
    let windowed = band.left.is_some() || band.right.is_some();
    if windowed {
        masks.push(band.mask(cx, &call.sub("causal"), queries, keys)?);
    }
    if let Some(lengths) = call.optional(6) {
        if windowed {
            return Err(
                "has nonpad_kv_seqlen together with is_causal or a window, which is not supported".into()
            );
        }
        let seen = within(cx, &call.sub("padding"), lengths, keys)?;
        masks.push(penalty(cx, &call.sub("padding"), &seen, f64::NEG_INFINITY)?);
    }
    let settings = Settings {
        scale: call.attributes.float("scale")?,
        masks,
        softcap: call.attributes.float("softcap")?.filter(|&c| c > 0.0),
        blank: call.optional(3).is_some() || call.optional(6).is_some() || band.left.is_some(),
    };
    let stages = attend(cx, call.name, [&parts[0], &parts[1], &parts[2]], &settings)?;
    let y = if call.input(0)?.rank()? == 3 {
        merge_heads(cx, call.name, &stages.context)?
    } else {
        stages.context
    };
    let inner = match call.attributes.int_or("qk_matmul_output_mode", 0)? {
        0 => stages.scores,
        1 => stages.capped,
        2 => stages.masked,
        3 => stages.weights,
        mode => return Err(format!("qk_matmul_output_mode is {mode}; expected 0 to 3").into()),
    };
    let [_, key, value] = <[Value; 3]>::try_from(parts).map_err(|_| "has no keys")?;
    Ok(vec![y, key, value, inner])
}
