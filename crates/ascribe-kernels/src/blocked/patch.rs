//! Convolutions of patches: the same layer, computed for a rectangle of its destination only.

use std::sync::Arc;

use super::conv::{BlockedConv, Form};
use super::from_planar::Rows;
use super::pack::Class;
use super::winograd::Winograd;
use crate::conv::lattice::Lattice;
use crate::error::{KernelError, Result};

/// The receptive field of a layer: which source pixels a destination pixel depends on. Along each axis, destination
/// pixel p depends on (some of) the `extent` source pixels that start at p · stride + first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Step in the source per destination pixel.
    pub stride: [usize; 2],
    /// The first source pixel that destination pixel 0 depends on; negative where there is padding.
    pub first: [isize; 2],
    /// Number of source pixels from the first to the last one.
    pub extent: [usize; 2],
}

impl Reach {
    /// Each destination pixel depends only on the source pixel at the same position.
    pub const POINT: Self = Self { stride: [1, 1], first: [0, 0], extent: [1, 1] };

    /// First row and column of the source window that a patch starting at `place` depends on; they may lie outside the
    /// source.
    pub fn start(&self, place: [usize; 2]) -> [isize; 2] {
        [0, 1].map(|axis| (place[axis] * self.stride[axis]) as isize + self.first[axis])
    }

    /// Height and width of the source window that a patch of `size` ≥ 1 depends on.
    pub fn window(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| (size[axis] - 1) * self.stride[axis] + self.extent[axis])
    }
}

impl BlockedConv {
    /// The source pixels that a destination pixel depends on. `None` where this is not the same for all pixels (input
    /// gradients of strided convolutions), for input gradients in NCHW ([`BlockedConv::input_grad_planar`]), and for
    /// Winograd's F(4 × 4), where the rounding of a pixel depends on the whole tile.
    ///
    /// A pixel of Winograd's F(2 × 2) depends on its 3 × 3 source pixels only. How it is rounded depends on its
    /// position in the tile; see [`BlockedConv::patch_step`].
    pub fn reach(&self) -> Option<Reach> {
        match (self.form, self.classes.as_slice()) {
            (Form::ToPlanar(_), _) => None,
            (Form::Winograd(Winograd { outputs, origin, .. }), _) => {
                (outputs == 2).then_some(Reach { stride: [1, 1], first: origin, extent: [3, 3] })
            }
            (_, [Class { lattice, .. }]) if lattice.dst_stride == [1, 1] => {
                let along = |axis: usize| lattice.taps.iter().map(move |tap| tap[axis]);
                let first = [0, 1].map(|axis| along(axis).min().unwrap_or(0));
                let last = [0, 1].map(|axis| along(axis).max().unwrap_or(0));
                let extent = [0, 1].map(|axis| (last[axis] - first[axis]) as usize + 1);
                Some(Reach { stride: lattice.src_stride, first, extent })
            }
            _ => None,
        }
    }

    /// The first row and column of a patch have to be multiples of this. It is the side of the tiles of a Winograd
    /// convolution, and 1 for other convolutions.
    pub fn patch_step(&self) -> usize {
        match self.form {
            Form::Winograd(winograd) => winograd.outputs,
            _ => 1,
        }
    }

    /// The same convolution for a patch of `size` pixels of the destination. It shares the weights with this one.
    ///
    /// Its source is the window that the patch depends on ([`Reach::window`], starting at [`Reach::start`]), with zeros
    /// where the window extends beyond the source, and no border. It multiplies and adds in the same order as the whole
    /// convolution, so that a patch that starts at a multiple of [`BlockedConv::patch_step`] is bit-identical to that
    /// part of the whole.
    ///
    /// `None` where [`BlockedConv::reach`] is `None`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a side of the patch is 0 or larger than that of the destination.
    pub fn for_patch(&self, size: [usize; 2]) -> Result<Option<Self>> {
        let Some(reach) = self.reach() else { return Ok(None) };
        if (0..2).any(|axis| size[axis] == 0 || size[axis] > self.dst.1[axis]) {
            return Err(KernelError::Shape {
                what: "convolution of a patch",
                problem: format!("a patch of {size:?} pixels does not fit a destination of {:?}", self.dst.1),
            });
        }
        let window = reach.window(size);
        let lattice = |whole: &Lattice| {
            if let Form::Winograd(winograd) = self.form {
                let tiles = size.map(|side| side.div_ceil(winograd.outputs));
                return Lattice { src: tiles, dst: tiles, grid: tiles, ..whole.clone() };
            }
            let from_zero = |tap: &[isize; 2]| [tap[0] - reach.first[0], tap[1] - reach.first[1]];
            let taps = whole.taps.iter().map(from_zero).collect();
            Lattice { src: window, dst: size, grid: size, taps, ..whole.clone() }
        };
        let class = |class: &Class| Class { lattice: lattice(&class.lattice), ..class.clone() };
        let form = match self.form {
            Form::Winograd(winograd) => Form::Winograd(Winograd { origin: [0, 0], ..winograd }),
            Form::FromPlanar(_) => Form::FromPlanar(Rows::new(reach.stride, [0, 0], reach.extent, size[1])),
            form => form,
        };
        Ok(Some(Self {
            form,
            src: (self.src.0, window),
            dst: (self.dst.0, size),
            source_pad: [0, 0],
            classes: self.classes.iter().map(class).collect(),
            panels: self.panels.clone(),
            weights: Arc::clone(&self.weights),
            lent: self.lent.clone(),
            ..*self
        }))
    }
}
