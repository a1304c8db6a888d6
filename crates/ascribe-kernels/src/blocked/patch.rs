//! Convolutions of patches: the same layer for a part of its destination.

use std::sync::Arc;

use super::conv::{BlockedConv, Form};
use super::from_planar::Rows;
use super::pack::Class;
use super::winograd::Minimal;
use crate::conv::lattice::Lattice;
use crate::error::{KernelError, Result};

/// Which source pixels a destination pixel depends on: along each axis, pixel p on those from
/// p · stride + first on, `extent` of them or some of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Step in the source per destination pixel.
    pub stride: [usize; 2],
    /// The first source pixel that destination pixel 0 depends on; negative where there is padding.
    pub first: [isize; 2],
    /// Source pixels from the first to the last, both included.
    pub extent: [usize; 2],
}

impl Reach {
    /// Each pixel depends on the one at its own place.
    pub const POINT: Self = Self { stride: [1, 1], first: [0, 0], extent: [1, 1] };

    /// Where the window starts that the patch at `place` depends on; it may lie outside the source.
    pub fn start(&self, place: [usize; 2]) -> [isize; 2] {
        [0, 1].map(|axis| (place[axis] * self.stride[axis]) as isize + self.first[axis])
    }

    /// Height and width of the window that a patch of `size` ≥ 1 depends on.
    pub fn window(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| (size[axis] - 1) * self.stride[axis] + self.extent[axis])
    }
}

impl BlockedConv {
    /// What a destination pixel depends on; `None` where pixels differ in that (input gradients of strided
    /// convolutions), for gradients of pictures, and for F(4 × 4), where rounding depends on the whole tile.
    ///
    /// A pixel of F(2 × 2) depends on its own 3 × 3 source pixels, and only its rounding on its place in the tile.
    pub fn reach(&self) -> Option<Reach> {
        match (self.form, self.classes.as_slice()) {
            (Form::ToPlanar(_), _) => None,
            (Form::Minimal(Minimal { outputs, origin, .. }), _) => {
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

    /// Places of patches have to be multiples of this: minimal filtering computes tiles of so many pixels.
    pub fn patch_step(&self) -> usize {
        match self.form {
            Form::Minimal(minimal) => minimal.outputs,
            _ => 1,
        }
    }

    /// The same convolution for a patch of `size` pixels of the destination, with the same weights in memory.
    ///
    /// Its source is the window that the patch depends on ([`Reach::window`], from [`Reach::start`] on), with zeros
    /// where the window leaves the source, and no border. It multiplies and adds in the order of the whole
    /// convolution: at places that are multiples of [`BlockedConv::patch_step`], a patch has the bits of the whole.
    ///
    /// `None` where [`BlockedConv::reach`] is.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a side of the patch is 0 or larger than that of the destination.
    pub fn for_patch(&self, size: [usize; 2]) -> Result<Option<Self>> {
        let Some(reach) = self.reach() else { return Ok(None) };
        if (0..2).any(|axis| size[axis] == 0 || size[axis] > self.dst.1[axis]) {
            return Err(KernelError::Shape {
                what: "convolution of a patch",
                problem: format!("a patch of {size:?} pixels of a destination of {:?}", self.dst.1),
            });
        }
        let window = reach.window(size);
        let lattice = |whole: &Lattice| {
            if let Form::Minimal(minimal) = self.form {
                let tiles = size.map(|side| side.div_ceil(minimal.outputs));
                return Lattice { src: tiles, dst: tiles, grid: tiles, ..whole.clone() };
            }
            let from_zero = |tap: &[isize; 2]| [tap[0] - reach.first[0], tap[1] - reach.first[1]];
            let taps = whole.taps.iter().map(from_zero).collect();
            Lattice { src: window, dst: size, grid: size, taps, ..whole.clone() }
        };
        let class = |class: &Class| Class { lattice: lattice(&class.lattice), ..class.clone() };
        let form = match self.form {
            Form::Minimal(minimal) => Form::Minimal(Minimal { origin: [0, 0], ..minimal }),
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
