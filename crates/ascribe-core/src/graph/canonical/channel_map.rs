//! Nodes that scale and shift each channel by constants.

use candle_core::{DType, Device, Tensor};

use super::rewrite::Operand;
use super::view::{View, WithConstant, narrow, wide, wide_values};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{BatchNorm, Binary, Op};

/// One number per channel, or one for all of them.
#[derive(Clone)]
pub(super) struct Numbers {
    values: Vec<f64>,
    /// The name of the parameter that they come from.
    from: Option<String>,
    /// The constant that they are, unchanged.
    node: Option<NodeId>,
}

impl Numbers {
    fn all(value: f64) -> Self {
        Self { values: vec![value], from: None, node: None }
    }

    fn new(values: Vec<f64>, from: &str) -> Self {
        Self { values, from: Some(from.into()), node: None }
    }

    fn constant(view: &View<'_>, id: NodeId, value: &Tensor) -> Result<Self> {
        Ok(Self { node: Some(id), ..Self::new(wide_values(value)?, view.name(id)) })
    }

    /// Whether every number equals this one.
    pub(super) fn are(&self, value: f64) -> bool {
        self.values.iter().all(|&v| v == value)
    }

    /// Element by element; keeps the name of the first operand that has one.
    pub(super) fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let at = |values: &[f64], i: usize| values[i % values.len()];
        let count = self.values.len().max(other.values.len());
        let values = (0..count).map(|i| f(at(&self.values, i), at(&other.values, i))).collect();
        Self { values, from: self.from.clone().or_else(|| other.from.clone()), node: None }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.iter().map(|&v| f(v)).collect(), from: self.from.clone(), node: None }
    }

    /// As a vector with this many elements, in f64.
    pub(super) fn vector(&self, count: usize) -> Result<Tensor> {
        let values: Vec<f64> = (0..count).map(|i| self.values[i % self.values.len()]).collect();
        Ok(Tensor::from_vec(values, count, &Device::Cpu)?)
    }

    /// As an operand with one element per channel: the constant that they are, or a new one.
    pub(super) fn operand(&self, count: usize, like: &Tensor, fallback: &str) -> Result<Operand> {
        match self.node {
            Some(node) if self.values.len() == count => Ok(Operand::Node(node)),
            _ => {
                let from = self.from.as_deref().unwrap_or(fallback);
                Ok(Operand::new(from, narrow(&self.vector(count)?, like)?))
            }
        }
    }
}

/// `scale · x + shift` along one axis.
#[derive(Clone)]
pub(super) struct ChannelMap<'a> {
    pub x: NodeId,
    pub scale: Numbers,
    pub shift: Numbers,
    /// Whether the numbers run along axis 1.
    pub on_channels: bool,
    /// Whether the numbers run along the last axis.
    pub on_last: bool,
    /// Whether there are exactly as many numbers as channels, even if it is one.
    pub counts: bool,
    /// A parameter, for the type and device.
    pub like: &'a Tensor,
    pub name: &'a str,
}

impl<'a> ChannelMap<'a> {
    /// The map that a node is, if it is one.
    pub(super) fn of(view: &View<'a>, id: NodeId) -> Result<Option<Self>> {
        let map = match view.op(id) {
            Some(Op::BatchNorm(op)) => Self::of_batch_norm(view, id, *op)?,
            Some(Op::ScaleShift(_)) => Self::of_scale_shift(view, id)?,
            Some(Op::Binary(_)) => Self::of_binary(view, id)?,
            _ => None,
        };
        Ok(map)
    }

    /// Number of channels; 1 may stand for any number, unless the map [`counts`](Self::counts) them.
    pub(super) fn channels(&self) -> usize {
        self.scale.values.len().max(self.shift.values.len())
    }

    /// This map after another along the same axis, if they have the same number of channels.
    pub(super) fn after(&self, first: &Self) -> Option<Self> {
        let fits = |a: &Self, b: &Self| a.channels() == b.channels() || (a.channels() == 1 && !a.counts);
        if !fits(self, first) && !fits(first, self) {
            return None;
        }
        let moved = self.scale.zip(&first.shift, |s, t| s * t);
        Some(Self {
            x: first.x,
            scale: first.scale.zip(&self.scale, |a, b| a * b),
            shift: Numbers {
                from: first.shift.from.clone().or_else(|| self.shift.from.clone()),
                ..moved.zip(&self.shift, |a, b| a + b)
            },
            on_channels: self.on_channels && first.on_channels,
            on_last: self.on_last && first.on_last,
            counts: self.counts || first.counts || self.channels().max(first.channels()) > 1,
            ..*self
        })
    }

    fn per_channel(view: &View<'a>, id: NodeId, like: &'a Tensor, scale: Numbers, shift: Numbers) -> Self {
        let x = view.operands(id)[0];
        let on_last = view.sides(id).is_some_and(|sides| sides.len() == 2);
        Self { x, scale, shift, on_channels: true, on_last, counts: true, like, name: view.name(id) }
    }

    fn of_batch_norm(view: &View<'a>, id: NodeId, op: BatchNorm) -> Result<Option<Self>> {
        let &[_, scale, bias, mean, variance] = view.operands(id) else { return Ok(None) };
        let constants = [scale, bias, mean, variance].map(|id| view.constant(id));
        let [Some(s), Some(b), Some(m), Some(v)] = constants else { return Ok(None) };
        // Parameters whose shapes do not match are reported by the forward pass.
        if [b, m, v].iter().any(|t| t.elem_count() != s.elem_count()) || s.elem_count() == 0 {
            return Ok(None);
        }
        let flat = |t: &Tensor| Ok::<_, crate::Error>(wide(t)?.flatten_all()?);
        let (factor, offset) = op.to_scale_shift(&flat(s)?, &flat(b)?, &flat(m)?, &flat(v)?)?;
        let factor = Numbers::new(factor.to_vec1()?, view.name(scale));
        let offset = Numbers::new(offset.to_vec1()?, view.name(bias));
        Ok(Some(Self::per_channel(view, id, s, factor, offset)))
    }

    fn of_scale_shift(view: &View<'a>, id: NodeId) -> Result<Option<Self>> {
        let &[_, scale, shift] = view.operands(id) else { return Ok(None) };
        let (Some(s), Some(t)) = (view.constant(scale), view.constant(shift)) else { return Ok(None) };
        if s.elem_count() != t.elem_count() || s.elem_count() == 0 {
            return Ok(None);
        }
        let (s_numbers, t_numbers) = (Numbers::constant(view, scale, s)?, Numbers::constant(view, shift, t)?);
        Ok(Some(Self::per_channel(view, id, s, s_numbers, t_numbers)))
    }

    fn of_binary(view: &View<'a>, id: NodeId) -> Result<Option<Self>> {
        let Some(WithConstant { op, x, constant, value, constant_first }) = view.with_constant(id) else {
            return Ok(None);
        };
        if !matches!(value.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Ok(None);
        }
        let Some((on_channels, on_last)) = axes(view, x, value) else { return Ok(None) };
        let numbers = || Numbers::constant(view, constant, value);
        let (scale, shift) = match (op, constant_first) {
            (Binary::Add, _) => (Numbers::all(1.0), numbers()?),
            (Binary::Sub, false) => (Numbers::all(1.0), numbers()?.map(|v| -v)),
            (Binary::Sub, true) => (Numbers::all(-1.0), numbers()?),
            (Binary::Mul, _) => (numbers()?, Numbers::all(0.0)),
            (Binary::Div, false) => (numbers()?.map(f64::recip), Numbers::all(0.0)),
            _ => return Ok(None),
        };
        let counts = value.elem_count() > 1;
        Ok(Some(Self { x, scale, shift, on_channels, on_last, counts, like: value, name: view.name(id) }))
    }
}

/// Whether a constant that is combined with `x` runs along axis 1 and along the last axis of `x`, without
/// enlarging it; `None` if it does neither.
fn axes(view: &View<'_>, x: NodeId, value: &Tensor) -> Option<(bool, bool)> {
    if value.elem_count() == 1 && value.rank() <= 1 {
        return Some((true, true));
    }
    let sides = view.sides(x)?;
    let extra = sides.len().checked_sub(value.rank())?;
    let mut long = value.dims().iter().enumerate().filter(|(_, side)| **side != 1);
    let (axis, side) = match (long.next(), long.next()) {
        (None, _) => return Some((true, true)),
        (Some((axis, &side)), None) => (axis + extra, side),
        _ => return None,
    };
    let fits = axis > 0 && sides[axis] == Some(side);
    let (on_channels, on_last) = (axis == 1, axis + 1 == sides.len());
    (fits && (on_channels || on_last)).then_some((on_channels, on_last))
}
