//! Layer norms that exporters write as arithmetic.

use candle_core::Tensor;

use super::rewrite::{Operand, Rewrite};
use super::view::{View, narrow, wide};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Binary, LayerNorm, Op, Reduce, ReduceFn};

/// Replaces `(x − mean(x)) / √(mean((x − mean(x))²) + ε)` over the last axes by a layer norm with scale 1.
pub(super) fn fuse(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let Some((x, axis, epsilon, like)) = standardised(view, id) else { return Ok(None) };
    let one = narrow(&Tensor::new(&[1.0_f64], &candle_core::Device::Cpu)?, like)?;
    let scale = Operand::new(format!("{}.scale", view.name(id)), one);
    Ok(Some(Rewrite::op(LayerNorm { axis, epsilon }, vec![Operand::Node(x), scale])))
}

/// What `id` standardises, from which axis on and with which ε; and a constant of the graph's type.
fn standardised<'a>(view: &View<'a>, id: NodeId) -> Option<(NodeId, usize, f64, &'a Tensor)> {
    let (centred, deviation) = match view.binary(id)? {
        (Binary::Div, a, b) => (a, view.power(b).filter(|p| p.1 == 0.5)?.0),
        (Binary::Mul, a, b) => match (inverse_root(view, b), inverse_root(view, a)) {
            (Some(deviation), _) => (a, deviation),
            (_, Some(deviation)) => (b, deviation),
            _ => return None,
        },
        _ => return None,
    };
    let sum = view.with_constant(deviation).filter(|sum| sum.op == Binary::Add)?;
    let epsilon = view.scalar(sum.constant)?;
    let (squares, axes) = mean(view, sum.x)?;
    let base = match (view.power(squares), view.binary(squares)) {
        (Some((base, 2.0)), _) => base,
        (_, Some((Binary::Mul, a, b))) if a == b => a,
        _ => return None,
    };
    let (x, own_axes) = centre(view, centred)?;
    let (other, other_axes) = centre(view, base)?;
    if x != other || own_axes != axes || other_axes != axes {
        return None;
    }
    let rank = view.sides(x)?.len();
    let axis = rank.checked_sub(axes.len()).filter(|&axis| axis > 0)?;
    axes.iter().copied().eq(axis..rank).then_some((x, axis, epsilon, sum.value))
}

/// `v` of `1 / √v`.
fn inverse_root(view: &View<'_>, id: NodeId) -> Option<NodeId> {
    match view.power(id)? {
        (v, -0.5) => Some(v),
        (root, -1.0) => view.power(root).filter(|p| p.1 == 0.5).map(|p| p.0),
        _ => None,
    }
}

/// The operand and the sorted axes of a mean that keeps its axes.
fn mean(view: &View<'_>, id: NodeId) -> Option<(NodeId, Vec<usize>)> {
    match (view.op(id)?, view.operands(id)) {
        (Op::Reduce(Reduce { function: ReduceFn::Mean, axes, keep: true }), &[x]) => {
            let mut axes = axes.clone();
            axes.sort_unstable();
            Some((x, axes))
        }
        _ => None,
    }
}

/// `x` and the axes of `x − mean(x)`.
fn centre(view: &View<'_>, id: NodeId) -> Option<(NodeId, Vec<usize>)> {
    let (Binary::Sub, x, centre) = view.binary(id)? else { return None };
    mean(view, centre).filter(|(of, _)| *of == x)
}

/// Folds a product or sum with a constant into the layer norm before it.
pub(super) fn absorb(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let Some(map) = view.with_constant(id) else { return Ok(None) };
    let Some(Op::LayerNorm(norm)) = view.op(map.x) else { return Ok(None) };
    let &[x, scale, ref bias @ ..] = view.operands(map.x) else { return Ok(None) };
    let Some(scale_value) = view.constant(scale) else { return Ok(None) };
    let bias = bias.first().copied();
    let bias_value = bias.and_then(|b| view.constant(b));
    let known = view.sides(x).and_then(|sides| sides.get(norm.axis..)?.iter().copied().collect());
    let (true, Some::<Vec<usize>>(tail), true) =
        (view.used_once(map.x), known, bias.is_none() || bias_value.is_some())
    else {
        return Ok(None);
    };
    let Some(parameter) = within(map.value, &tail)? else { return Ok(None) };
    // The constant itself where its shape allows, so that a parameter keeps its name.
    let own = || {
        if map.value.rank() <= tail.len() {
            Operand::Node(map.constant)
        } else {
            Operand::new(view.name(map.constant), parameter.clone())
        }
    };
    let combine = |old: &Tensor, f: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>| {
        let combined = f(&wide(old)?, &wide(&parameter)?)?;
        Ok::<_, crate::Error>(Operand::new(view.name(map.constant), narrow(&combined, old)?))
    };
    let (scale, bias) = match map.op {
        Binary::Mul => {
            let is_one = view.scalar(scale) == Some(1.0);
            let new = if is_one { own() } else { combine(scale_value, Tensor::broadcast_mul)? };
            (new, bias_value.map(|b| combine(b, Tensor::broadcast_mul)).transpose()?)
        }
        Binary::Add => {
            let new = bias_value.map(|b| combine(b, Tensor::broadcast_add)).transpose()?;
            (Operand::Node(scale), Some(new.unwrap_or_else(own)))
        }
        _ => return Ok(None),
    };
    let operands = [Some(Operand::Node(x)), Some(scale), bias];
    Ok(Some(Rewrite::op(*norm, operands.into_iter().flatten().collect())))
}

/// The constant without leading axes of length 1 beyond those that are normalised, if it broadcasts to them.
fn within(value: &Tensor, tail: &[usize]) -> Result<Option<Tensor>> {
    let extra = value.rank().saturating_sub(tail.len());
    let (lead, dims) = value.dims().split_at(extra);
    let aligned = tail.iter().rev().zip(dims.iter().rev());
    if lead.iter().all(|&side| side == 1) && aligned.into_iter().all(|(&t, &d)| d == t || d == 1) {
        return Ok(Some(value.reshape(dims)?));
    }
    Ok(None)
}
