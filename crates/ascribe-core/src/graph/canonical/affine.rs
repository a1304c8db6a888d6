//! Folds scales and shifts of channels into the affine operator before or after them.

use candle_core::Tensor;

use super::batch_norm::scale_shift;
use super::channel_map::{ChannelMap, Numbers};
use super::rewrite::{Operand, Rewrite};
use super::view::{View, narrow, wide, wide_values};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Op, Window};

/// Folds a channel map into the operator that computes its operand, if nothing else uses that value.
pub(super) fn into_producer(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let Some(map) = ChannelMap::of(view, id)? else { return Ok(None) };
    if !view.used_once(map.x) {
        return Ok(None);
    }
    if let Some(layer) = Layer::of(view, map.x) {
        return layer.then(&map);
    }
    let Some(first) = ChannelMap::of(view, map.x)? else { return Ok(None) };
    // A scalar does not determine the number of channels.
    match map.after(&first).filter(|both| both.on_channels && both.counts) {
        Some(both) => scale_shift(&both, both.channels()).map(Some),
        None => Ok(None),
    }
}

/// Folds a channel map into the operator that uses its value, if that is the only one and the result is exact:
/// a shift does not pass through zero padding.
pub(super) fn into_consumer(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    let Some(layer) = Layer::of(view, id) else { return Ok(None) };
    if !view.used_once(layer.x) {
        return Ok(None);
    }
    match ChannelMap::of(view, layer.x)? {
        Some(map) => layer.behind(&map),
        None => Ok(None),
    }
}

/// Where a weight has its output and input channels.
#[derive(Clone, Copy)]
enum Layout {
    /// `[groups · O, C, …]`, as convolutions and linear layers have it.
    OutputFirst,
    /// `[groups · C, O, …]`, as transposed convolutions have it.
    InputFirst,
}

/// An affine operator with constant parameters.
struct Layer<'a> {
    op: &'a Op,
    x: NodeId,
    weight: NodeId,
    weight_value: &'a Tensor,
    bias: Option<(NodeId, &'a Tensor)>,
    layout: Layout,
    groups: usize,
    /// Whether every output uses the whole kernel.
    unpadded: bool,
    weight_name: &'a str,
    bias_name: String,
}

impl<'a> Layer<'a> {
    fn of(view: &View<'a>, id: NodeId) -> Option<Self> {
        let op = view.op(id)?;
        let is_unpadded = |window: &Window| window.padding == [0; 4];
        let (layout, groups, unpadded) = match op {
            Op::Conv(conv) => (Layout::OutputFirst, conv.groups, is_unpadded(&conv.window)),
            // At the border, an output of a transposed convolution uses only a part of the kernel.
            Op::ConvTranspose(conv) => (Layout::InputFirst, conv.groups, false),
            Op::Linear(_) => (Layout::OutputFirst, 1, true),
            _ => return None,
        };
        let (x, weight, bias) = match *view.operands(id) {
            [x, weight] => (x, weight, None),
            [x, weight, bias] => (x, weight, Some((bias, view.constant(bias)?))),
            _ => return None,
        };
        let weight_value = view.constant(weight)?;
        // A constant of the wrong shape is reported by the forward pass, which knows all shapes.
        let divisible = groups > 0 && weight_value.rank() >= 2 && weight_value.dims()[0] % groups == 0;
        divisible.then(|| Self {
            op,
            x,
            weight,
            weight_value,
            bias,
            layout,
            groups,
            unpadded,
            weight_name: view.name(weight),
            bias_name: bias.map_or_else(|| format!("{}.bias", view.name(id)), |(b, _)| view.name(b).into()),
        })
    }

    /// Output channels and input channels per group, and the size of the kernel.
    fn sizes(&self) -> [usize; 3] {
        let dims = self.weight_value.dims();
        let (first, second) = (dims[0] / self.groups, dims[1]);
        let kernel = dims[2..].iter().product();
        match self.layout {
            Layout::OutputFirst => [first, second, kernel],
            Layout::InputFirst => [second, first, kernel],
        }
    }

    /// The weight in f64 as `[groups, O, C, kernel]`.
    fn wide_weight(&self) -> Result<Tensor> {
        let [outputs, inputs, kernel] = self.sizes();
        let weight = wide(self.weight_value)?;
        Ok(match self.layout {
            Layout::OutputFirst => weight.reshape((self.groups, outputs, inputs, kernel))?,
            Layout::InputFirst => weight.reshape((self.groups, inputs, outputs, kernel))?.transpose(1, 2)?,
        })
    }

    /// The inverse of [`Layer::wide_weight`], as an operand.
    fn weight_operand(&self, weight: &Tensor) -> Result<Operand> {
        let weight = match self.layout {
            Layout::OutputFirst => weight.clone(),
            Layout::InputFirst => weight.transpose(1, 2)?,
        };
        let weight = weight.contiguous()?.reshape(self.weight_value.shape())?;
        Ok(Operand::new(self.weight_name, narrow(&weight, self.weight_value)?))
    }

    /// The bias in f64, zeros if there is none.
    fn wide_bias(&self, count: usize) -> Result<Vec<f64>> {
        match self.bias {
            Some((_, bias)) => wide_values(bias),
            None => Ok(vec![0.0; count]),
        }
    }

    fn bias_operand(&self, bias: Vec<f64>, name: &str) -> Result<Operand> {
        let count = bias.len();
        let bias = Tensor::from_vec(bias, count, &candle_core::Device::Cpu)?;
        Ok(Operand::new(name, narrow(&bias, self.weight_value)?))
    }

    /// Whether a channel map before or after the layer applies to its channels, `count` of them.
    fn takes(&self, map: &ChannelMap<'_>, count: usize) -> bool {
        let along = if matches!(self.op, Op::Linear(_)) { map.on_last } else { map.on_channels };
        along && (map.channels() == count || (map.channels() == 1 && !map.counts))
    }

    fn rewrite(&self, x: NodeId, weight: Option<Operand>, bias: Option<Operand>) -> Rewrite {
        let weight = weight.unwrap_or(Operand::Node(self.weight));
        let bias = bias.or_else(|| self.bias.map(|(id, _)| Operand::Node(id)));
        let operands = [Some(Operand::Node(x)), Some(weight), bias];
        Rewrite::Op(self.op.clone(), operands.into_iter().flatten().collect())
    }

    /// The layer followed by the map: `s W x + (s b + t)`.
    fn then(&self, map: &ChannelMap<'_>) -> Result<Option<Rewrite>> {
        let [outputs, ..] = self.sizes();
        let count = outputs * self.groups;
        if !self.takes(map, count) {
            return Ok(None);
        }
        let weight = if map.scale.are(1.0) {
            None
        } else {
            let scale = map.scale.vector(count)?.reshape((self.groups, outputs, 1, 1))?;
            Some(self.weight_operand(&self.wide_weight()?.broadcast_mul(&scale)?)?)
        };
        let bias = if self.bias.is_none() {
            let needed = !map.shift.are(0.0);
            needed.then(|| map.shift.operand(count, self.weight_value, &self.bias_name)).transpose()?
        } else if map.scale.are(1.0) && map.shift.are(0.0) {
            None
        } else {
            let bias = self.wide_bias(count)?;
            let scale = map.scale.vector(count)?.to_vec1::<f64>()?;
            let shift = map.shift.vector(count)?.to_vec1::<f64>()?;
            let folded = bias.iter().zip(scale.iter().zip(&shift)).map(|(b, (s, t))| s * b + t).collect();
            Some(self.bias_operand(folded, &self.bias_name)?)
        };
        Ok(Some(self.rewrite(self.x, weight, bias)))
    }

    /// The map followed by the layer: `(W s) x + (b + W t)`.
    fn behind(&self, map: &ChannelMap<'_>) -> Result<Option<Rewrite>> {
        let [outputs, inputs, kernel] = self.sizes();
        let count = inputs * self.groups;
        let shifts = !map.shift.are(0.0);
        if !self.takes(map, count) || (shifts && !self.unpadded) {
            return Ok(None);
        }
        let weight = self.wide_weight()?;
        let per_input = |numbers: &Numbers| {
            Ok::<_, crate::Error>(numbers.vector(count)?.reshape((self.groups, 1, inputs, 1))?)
        };
        let bias = if shifts {
            let moved = weight.broadcast_mul(&per_input(&map.shift)?)?;
            let moved = moved.contiguous()?.reshape((self.groups * outputs, inputs * kernel))?.sum(1)?;
            let bias = self.wide_bias(self.groups * outputs)?;
            let moved = moved.to_vec1::<f64>()?;
            let folded = bias.iter().zip(moved).map(|(b, m)| b + m).collect();
            Some(self.bias_operand(folded, &self.bias_name)?)
        } else {
            None
        };
        let weight = if map.scale.are(1.0) {
            None
        } else {
            Some(self.weight_operand(&weight.broadcast_mul(&per_input(&map.scale)?)?)?)
        };
        Ok(Some(self.rewrite(map.x, weight, bias)))
    }
}
