//! Convolutions, poolings and resizing: operators that say themselves what their axes are.

use super::{Context, Transferred, link};
use crate::roles::AxisRole;
use crate::roles::axis::Axis;
use crate::roles::inputs::image;

impl Context<'_> {
    /// `[N, C, …]` with windows along the axes behind the channels; `mixes` if the channels are new ones.
    pub(super) fn windowed(&self, mixes: bool) -> Transferred {
        let (x, shape) = (self.operand(0), self.shape());
        if x.len() != shape.len() || x.len() < 3 {
            return Transferred::default();
        }
        let mut axes = vec![x[0].join(&Axis::whole(AxisRole::Batch, x[0].len()))];
        // Samples together with windows stay what they are.
        if x[0].any(|role| role == AxisRole::Batch) {
            axes[0] = x[0].clone();
        }
        let kept = !mixes && shape[1] == x[1].len();
        axes.push(if kept { x[1].clone() } else { Axis::whole(AxisRole::Channel, shape[1]) });
        let roles = image(shape.len());
        for (i, &side) in shape.iter().enumerate().skip(2) {
            axes.push(resized(&x[i], side, roles[i]));
        }
        // Convolutions mix neighbours: a position is still one, but its value comes from others too.
        let links = (0..axes.len()).filter(|&i| i != 1 || kept).map(|i| link(0, i, i)).collect();
        Transferred { axes, links }
    }
}

/// An axis of positions at another resolution. What is not known is what the operator says.
pub(super) fn resized(axis: &Axis, side: usize, role: AxisRole) -> Axis {
    let unknown = axis.0.is_empty() || axis.all(|r| r == AxisRole::Unknown);
    if unknown {
        return Axis::whole(role, side);
    }
    if !axis.all(AxisRole::is_spatial) {
        return Axis::unknown(side);
    }
    if axis.len() == side {
        return axis.clone();
    }
    // One of the roles of positions, and not the tokens of a grid.
    let single = axis.single();
    match axis.role() {
        AxisRole::Token if single.is_none() => Axis::unknown(side),
        role if axis.parts().all(|p| p.role == role) => Axis::whole(role, side),
        _ => Axis::unknown(side),
    }
}
