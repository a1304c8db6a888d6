//! The destination of a kernel, and everything that its epilogue reads and writes.

use super::epilogue::BlockedEpilogue;
use super::finish::{Finish, PanelFinish, Sums};
use super::layout::{BLOCK, BlockedShape};
use super::tiling::Tile;
use crate::epilogue::Activation;
use crate::parallel::SharedMut;

/// Slices whose lengths have been checked, shared by all tasks.
pub(super) struct Output<'a> {
    pub(super) shape: &'a BlockedShape,
    dst: SharedMut<'a, f32>,
    bias: Option<&'a [f32]>,
    pub(super) residual: Option<(&'a BlockedShape, &'a [f32])>,
    record: Option<SharedMut<'a, u16>>,
    mask: Option<&'a [u16]>,
    activation: Activation<f32>,
    /// Whether the epilogue does nothing, so that sums are stored unchanged.
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

    /// The start of the plane of channel block `block` of a sample.
    pub(super) fn plane(&self, sample: usize, block: usize) -> *mut f32 {
        self.dst.pointer().wrapping_add((sample * self.shape.blocks() + block) * self.shape.plane())
    }

    /// The epilogue for channel block `block` of a sample.
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

    /// Applies the epilogue to the sums of `pixels` pixels of one block, `[pixel][16]`, and stores them. The pixels lie
    /// in a row that starts at (y, x); their distance in the destination is the `step` given to
    /// [`PanelFinish::of_row`].
    ///
    /// # Safety
    /// `finish` and `plane` belong to the same block of the same sample. The pixels exist, `values` holds as many, and
    /// no other task writes them.
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
