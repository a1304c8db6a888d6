//! Linear classifiers and regressors.

use ascribe_core::ops::Linear;

use super::super::Call;
use super::scores::{Pair, Transform, above, largest};
use super::{class_labels, floats, list, rows};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// `x Wᵀ + b` with `rows` rows of coefficients; `halved` for half of it.
fn product(cx: &mut Context, call: &Call<'_>, name: &str, outputs: usize, halved: bool) -> Res<Value> {
    let (x, features) = rows(cx, call)?;
    let (mut weight, mut bias) = (floats(call, "coefficients"), floats(call, "intercepts"));
    if Some(weight.len()) != outputs.checked_mul(features) {
        return Err(format!(
            "has {} coefficients; expected {outputs} times the {features} features",
            weight.len()
        )
        .into());
    }
    if !bias.is_empty() && bias.len() != outputs {
        return Err(format!("has {} intercepts; expected {outputs}", bias.len()).into());
    }
    if halved {
        weight.iter_mut().chain(&mut bias).for_each(|value| *value *= 0.5);
    }
    let weight = list(cx, &call.sub("coefficients"), &weight, &[outputs, features])?;
    if bias.is_empty() {
        return cx.apply(name, Linear, &[&x, &weight], Elem::Float);
    }
    let bias = list(cx, &call.sub("intercepts"), &bias, &[outputs])?;
    cx.apply(name, Linear, &[&x, &weight, &bias], Elem::Float)
}

/// Labels `[N]` and scores `[N, C]`.
pub(super) fn classifier(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let labels = class_labels(cx, call)?;
    let transform = Transform::of(call)?;
    let outputs = call.attributes.floats("intercepts").map_or(0, <[f32]>::len);
    let outputs = if outputs == 0 { labels.len() } else { outputs };
    if outputs == 1 && labels.len() == 2 {
        let score = product(cx, call, &call.sub("score"), 1, false)?;
        let pair = match transform {
            Transform::Logistic => Pair::Logistic,
            Transform::Probit => {
                return Err("post_transform PROBIT of a single score is not supported".into());
            }
            _ => Pair::Complement,
        };
        let scores = pair.apply(cx, call, &score)?;
        return Ok(vec![above(cx, call, &score, 0.0, &labels)?, scores]);
    }
    if outputs != labels.len() {
        return Err(format!("has {outputs} intercepts for {} classes", labels.len()).into());
    }
    // Two classes with opposite scores z and −z, as scikit-learn writes a binary model: σ of both is the softmax of half of them.
    let opposite = transform == Transform::Logistic && outputs == 2 && is_opposite(call);
    let transform = if opposite { Transform::Softmax } else { transform };
    let raw = product(cx, call, &transform.before(call), outputs, opposite)?;
    let scores = transform.apply(cx, call, &raw)?;
    Ok(vec![largest(cx, call, &raw, &labels)?, scores])
}

/// Whether the second half of the parameters is the first with the opposite sign.
fn is_opposite(call: &Call<'_>) -> bool {
    ["coefficients", "intercepts"].iter().all(|name| {
        let all = call.attributes.floats(name).unwrap_or_default();
        let (first, second) = all.split_at(all.len() / 2);
        first.len() == second.len() && first.iter().zip(second).all(|(a, b)| *a == -*b)
    })
}

/// The targets `[N, T]`.
pub(super) fn regressor(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let transform = Transform::of(call)?;
    let targets = call.attributes.int_or("targets", 1)?;
    let targets = usize::try_from(targets)
        .ok()
        .filter(|t| (1..1 << 20).contains(t))
        .ok_or_else(|| format!("targets is {targets}; expected a positive number"))?;
    let raw = product(cx, call, &transform.before(call), targets, false)?;
    transform.apply_to_targets(cx, call, &raw, targets)
}
