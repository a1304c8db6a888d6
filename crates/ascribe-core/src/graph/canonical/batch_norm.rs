//! Batch norms that cannot be folded into a neighbouring operator.

use super::channel_map::ChannelMap;
use super::rewrite::{Operand, Rewrite};
use super::view::View;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Op, ScaleShift};

/// Replaces a batch norm by the equivalent scale and shift.
pub(super) fn to_scale_shift(view: &View<'_>, id: NodeId) -> Result<Option<Rewrite>> {
    if !matches!(view.op(id), Some(Op::BatchNorm(_))) {
        return Ok(None);
    }
    let Some(map) = ChannelMap::of(view, id)? else { return Ok(None) };
    scale_shift(&map, map.channels()).map(Some)
}

/// A channel map as an operator of its own.
pub(super) fn scale_shift(map: &ChannelMap<'_>, channels: usize) -> Result<Rewrite> {
    let scale = map.scale.operand(channels, map.like, &format!("{}.scale", map.name))?;
    let shift = map.shift.operand(channels, map.like, &format!("{}.shift", map.name))?;
    Ok(Rewrite::op(ScaleShift, vec![Operand::Node(map.x), scale, shift]))
}
