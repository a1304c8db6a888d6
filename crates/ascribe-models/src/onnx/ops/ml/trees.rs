//! Ensembles of decision trees.

mod numbered;
mod rooted;

use ascribe_core::ops::{Aggregate, Branch, Structure, Tree, TreeEnsemble};

use super::super::Call;
use super::scores::{Pair, Transform, above, largest};
use super::{class_labels, floats_or_tensor, rows};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// Most outputs of an ensemble.
const MOST: i64 = 1 << 20;

/// Applies an ensemble to the node's operand.
fn apply(cx: &mut Context, call: &Call<'_>, name: &str, trees: TreeEnsemble) -> Res<Value> {
    let (x, features) = rows(cx, call)?;
    if features < trees.features() {
        return Err(format!("asks about {} features; its input has {features}", trees.features()).into());
    }
    cx.apply(name, trees, &[&x], Elem::Float)
}

/// The number of targets.
fn targets(call: &Call<'_>) -> Res<usize> {
    let count = call.attributes.int("n_targets")?.ok_or("has no n_targets")?;
    if !(1..=MOST).contains(&count) {
        return Err(format!("n_targets is {count}; expected 1 to {MOST}").into());
    }
    Ok(count as usize)
}

/// The values of leaves of `TreeEnsembleClassifier` (`class`) or `TreeEnsembleRegressor` (`target`), and the trees.
fn numbered(cx: &mut Context, call: &Call<'_>, what: &'static str) -> Res<(numbered::Weights, Vec<Tree>)> {
    let weights = numbered::Weights::read(cx, call, what)?;
    let trees = numbered::trees(cx, call, &weights)?;
    Ok((weights, trees))
}

/// Labels `[N]` and scores `[N, C]`.
///
/// Where all weights are for the first of two classes, they are the score s of the second class, and onnxruntime adds the other:
/// `[σ(−s), σ(s)]` with LOGISTIC, else `[1 − s, s]` if all weights are positive and `[−s, s]` otherwise.
pub(super) fn classifier(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let labels = class_labels(cx, call)?;
    let transform = Transform::of(call)?;
    let mut base = floats_or_tensor(cx, call, "base_values")?;
    let (weights, trees) = numbered(cx, call, "class")?;
    let positive = weights.values.iter().all(|&weight| weight >= 0.0);
    let only = |class: i64| labels.len() == 2 && weights.ids.iter().all(|&id| id == class);
    if only(0) {
        if base.len() > 1 {
            return Err(
                "has base values for two classes, but weights for one; expected one base value".into()
            );
        }
        let score = if transform == Transform::None { call.sub("score") } else { transform.before(call) };
        let score = apply(cx, call, &score, TreeEnsemble::new(trees, 1, Aggregate::Sum, base)?)?;
        let pair = match transform {
            Transform::Logistic => Pair::Logistic,
            Transform::Probit => {
                return Err("post_transform PROBIT of a single score is not supported".into());
            }
            _ if positive => Pair::Complement,
            _ => Pair::Negated,
        };
        let scores = pair.apply(cx, call, &score)?;
        let threshold = if positive { 0.5 } else { 0.0 };
        return Ok(vec![above(cx, call, &score, threshold, &labels)?, scores]);
    }
    let second = only(1);
    if labels.len() == 2 && !base.is_empty() && (second || base.len() == 2) {
        return Err(
            "has base values for two classes, which onnxruntime does not add to their scores as the format says".into()
        );
    }
    // With one base value, onnxruntime adds it to the first of two classes.
    if labels.len() == 2 && base.len() == 1 {
        base.push(0.0);
    }
    let trees = TreeEnsemble::new(trees, labels.len(), Aggregate::Sum, base)?;
    let raw = apply(cx, call, &transform.before(call), trees)?;
    let scores = transform.apply(cx, call, &raw)?;
    if labels.len() > 2 {
        return Ok(vec![largest(cx, call, &raw, &labels)?, scores]);
    }
    // Of two classes, onnxruntime takes the second if its score is above a threshold.
    let own = Structure::Slice { axis: 1, start: 1, len: 1, step: 1 };
    let own = cx.apply(&call.sub("second class"), own, &[&raw], Elem::Float)?;
    let threshold = if second && positive { 0.5 } else { 0.0 };
    Ok(vec![above(cx, call, &own, threshold, &labels)?, scores])
}

/// Targets `[N, T]` of `TreeEnsembleRegressor`.
pub(super) fn regressor(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (transform, count) = (Transform::of(call)?, targets(call)?);
    let aggregate = match call.mode("aggregate_function", "SUM")? {
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        _ => Aggregate::Sum,
    };
    let base = floats_or_tensor(cx, call, "base_values")?;
    let (_, trees) = numbered(cx, call, "target")?;
    let raw = apply(cx, call, &transform.before(call), TreeEnsemble::new(trees, count, aggregate, base)?)?;
    transform.apply_to_targets(cx, call, &raw, count)
}

/// Targets `[N, T]` of `TreeEnsemble`.
pub(super) fn ensemble(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let transform = Transform::numbered(call.attributes.int_or("post_transform", 0)?)?;
    let count = targets(call)?;
    let aggregate = match call.attributes.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(format!("aggregate_function is {other}; expected 0 to 3").into()),
    };
    let trees = rooted::trees(cx, call)?;
    let raw = apply(cx, call, &transform.before(call), TreeEnsemble::new(trees, count, aggregate, vec![])?)?;
    transform.apply_to_targets(cx, call, &raw, count)
}

/// The question of a node, by its name in `TreeEnsembleClassifier` and `TreeEnsembleRegressor`; `None` for a leaf.
fn question(mode: &str) -> Res<Option<Branch>> {
    Ok(Some(match mode {
        "BRANCH_LEQ" => Branch::LessOrEqual,
        "BRANCH_LT" => Branch::Less,
        "BRANCH_GTE" => Branch::GreaterOrEqual,
        "BRANCH_GT" => Branch::Greater,
        "BRANCH_EQ" => Branch::Equal,
        "BRANCH_NEQ" => Branch::NotEqual,
        "LEAF" => return Ok(None),
        other => {
            let known = "BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, BRANCH_EQ, BRANCH_NEQ or LEAF";
            return Err(format!("nodes_modes has '{other}'; expected {known}").into());
        }
    }))
}

/// An error unless a list has one entry for each of `count` nodes or leaves, or is empty where it may be.
fn same_length(name: &str, length: usize, count: usize, of: &str, may_be_empty: bool) -> Res<()> {
    if length == count || (may_be_empty && length == 0) {
        return Ok(());
    }
    Err(format!("{name} has {length} entries; expected {count}, as {of}").into())
}

/// A feature as a position.
fn feature(id: i64) -> Res<usize> {
    usize::try_from(id).map_err(|_| format!("nodes_featureids has {id}; expected 0 or more").into())
}
