//! The destination of a kernel, with everything that its epilogue reads and writes.

use super::epilogue::BlockedEpilogue;
use super::finish::{Finish, PanelFinish, Sums};
use super::layout::{BLOCK, BlockedShape};
use super::tiling::Tile;
use crate::epilogue::Activation;
use crate::parallel::SharedMut;

/// Checked slices that tasks share.
pub(super) struct Output<'a> {
    pub(super) shape: &'a BlockedShape,
    dst: SharedMut<'a, f32>,
    bias: Option<&'a [f32]>,
    pub(super) residual: Option<(&'a BlockedShape, &'a [f32])>,
    record: Option<SharedMut<'a, u16>>,
    mask: Option<&'a [u16]>,
    activation: Activation<f32>,
    /// Whether sums are stored as they are.
    pub(super) plain: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(epilogue: BlockedEpilogue<'a>, shape: &'a BlockedShape, dst: &'a mut [f32]) -> Self {
        Self {
            shape,
            dst: SharedMut::new(dst),
            plain: epilogue.is_plain(),
            bias: epilogue.bias,
            residual: epilogue.residual,
            record: epilogue.record.map(SharedMut::new),
            mask: epilogue.mask,
            activation: epilogue.activation,
        }
    }

    /// The plane of a block of a sample.
    pub(super) fn plane(&self, sample: usize, block: usize) -> *mut f32 {
        self.dst.pointer().wrapping_add((sample * self.shape.blocks() + block) * self.shape.plane())
    }

    /// The epilogue of a block of a sample.
    pub(super) fn finish(&self, sample: usize, block: usize) -> Finish {
        let index = sample * self.shape.blocks() + block;
        let bits = index * self.shape.pixels();
        Finish {
            bias: self.bias.map_or(std::ptr::null(), |bias| bias[block * BLOCK..].as_ptr()),
            residual: self
                .residual
                .map_or(std::ptr::null(), |(shape, data)| data[index * shape.plane()..].as_ptr()),
            record: self.record.map_or(std::ptr::null_mut(), |record| record.pointer().wrapping_add(bits)),
            mask: self.mask.map_or(std::ptr::null(), |mask| mask[bits..].as_ptr()),
            activation: self.activation,
            lanes: self.shape.lanes(block),
        }
    }

    /// Finishes the sums of `pixels` pixels of one block, `[pixel][16]`, that lie in a row from `place` on, as far apart as
    /// [`PanelFinish::of_row`] was told.
    ///
    /// # Safety
    /// `finish` and `plane` are of the same block of a sample; the pixels exist, `values` has as many, and no other task
    /// writes them.
    pub(super) unsafe fn finish_row(
        &self,
        finish: &PanelFinish,
        plane: *mut f32,
        [y, x]: [usize; 2],
        pixels: usize,
        values: *const f32,
    ) {
        let tile = Tile {
            src: 0,
            dst: 0,
            residual: self.residual.map_or(0, |(shape, _)| shape.at(y, x)),
            bits: y * self.shape.size[1] + x,
            pixels,
            rows: 1,
        };
        let sums = Sums {
            finish,
            tile: &tile,
            blocks: 1,
            values,
            dst: plane.wrapping_add(self.shape.at(y, x)),
            dst_steps: [0, 0, finish.bits_steps[1] * BLOCK],
        };
        // SAFETY: the caller's contract.
        unsafe { (finish.run)(&sums) };
    }
}
