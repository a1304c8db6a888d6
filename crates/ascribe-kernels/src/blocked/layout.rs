//! The blocked layout, and conversions from and to NCHW.

use crate::error::{KernelError, Result, check_len};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::simd::{Isa, Kernel, Simd, low_mask, transpose, transpose_back};

/// Channels per block.
pub const BLOCK: usize = 16;

/// The shape of a batch of feature maps in the blocked layout, `[N][C/16][H + 2·pad_h][W + 2·pad_w][16]`.
///
/// Channels are padded with zeros to a multiple of 16, and the border of `pad` pixels around each plane holds zeros.
/// Every kernel that writes a blocked tensor also writes these zeros, and every kernel that reads one relies on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedShape {
    /// Number of samples.
    pub batch: usize,
    /// Number of channels.
    pub channels: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Width of the border in pixels: above and below, and to the left and right.
    pub pad: [usize; 2],
}

// Sizes are computed with saturating arithmetic. No slice has `usize::MAX` elements, so that a shape that does not fit
// the address space fails the length check.
impl BlockedShape {
    /// Number of blocks of 16 channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// Number of `f32` elements, with padding of channels and border.
    pub fn len(&self) -> usize {
        self.batch.saturating_mul(self.sample())
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of `u16` elements of a bit mask with one bit per value: one `u16` per pixel and block of channels,
    /// `[N][C/16][H][W]`, without the border.
    pub fn mask_len(&self) -> usize {
        self.batch.saturating_mul(self.blocks()).saturating_mul(self.pixels())
    }

    /// Sets the border to zero.
    ///
    /// Does nothing if the slice is too short; kernels report that as an error.
    pub fn clear_border(&self, data: &mut [f32]) {
        if self.plane() == 0 || self.pad == [0, 0] || data.len() < self.len() {
            return;
        }
        for plane in data[..self.len()].chunks_exact_mut(self.plane()) {
            // SAFETY: the plane is that long.
            unsafe { self.clear_rows(plane.as_mut_ptr(), 0, self.size[0]) };
        }
    }

    /// Pixels of a plane, without the border.
    pub(super) fn pixels(&self) -> usize {
        self.size[0].saturating_mul(self.size[1])
    }

    /// Number of floats in a row, border included.
    pub(super) fn pitch(&self) -> usize {
        self.pad[1].saturating_mul(2).saturating_add(self.size[1]).saturating_mul(BLOCK)
    }

    /// Number of floats in a plane (one block of channels of one sample), border included.
    pub(super) fn plane(&self) -> usize {
        self.pad[0].saturating_mul(2).saturating_add(self.size[0]).saturating_mul(self.pitch())
    }

    /// Number of floats in a sample.
    pub(super) fn sample(&self) -> usize {
        self.blocks().saturating_mul(self.plane())
    }

    /// Offset in a plane of the pixel at `row`, `column`.
    pub(super) fn at(&self, row: usize, column: usize) -> usize {
        (row + self.pad[0]) * self.pitch() + (column + self.pad[1]) * BLOCK
    }

    /// The lanes of channel block `block` that are channels, as a bit mask; the others are padding.
    pub(super) fn lanes(&self, block: usize) -> u16 {
        low_mask((self.channels - block * BLOCK).min(BLOCK)) as u16
    }

    /// Sets the border to the left and right of the rows `first..end` of a plane to zero, and the border above the
    /// first row or below the last row if these are among them.
    ///
    /// # Safety
    /// `plane` has [`BlockedShape::plane`] writable elements, and nothing else accesses these rows.
    pub(super) unsafe fn clear_rows(&self, plane: *mut f32, first: usize, end: usize) {
        let pitch = self.pitch();
        let side = self.pad[1] * BLOCK;
        let zero = |at: usize, len: usize| {
            // SAFETY: ranges lie within the plane, as computed below.
            unsafe { plane.add(at).write_bytes(0, len) };
        };
        if first == 0 {
            zero(0, self.pad[0] * pitch);
        }
        if end == self.size[0] {
            zero((self.pad[0] + end) * pitch, self.pad[0] * pitch);
        }
        if side > 0 {
            for row in first..end {
                let start = (self.pad[0] + row) * pitch;
                zero(start, side);
                zero(start + pitch - side, side);
            }
        }
    }
}

/// Converts contiguous NCHW to the blocked layout; writes the zeros of the border and of the padded channels too.
///
/// # Errors
/// [`crate::KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn to_blocked(shape: &BlockedShape, nchw: &[f32], out: &mut [f32]) -> Result<()> {
    const KERNEL: &str = "to_blocked";
    check_len(KERNEL, "nchw", planar_len(shape), nchw.len())?;
    check_len(KERNEL, "out", shape.len(), out.len())?;
    let out = SharedMut::new(out);
    for_blocks(shape, |isa, start, channels, index| {
        // SAFETY: each plane belongs to one task.
        let plane = unsafe { out.range(index * shape.plane(), shape.plane()) };
        let nchw = &nchw[start..][..channels * shape.pixels()];
        f32::dispatch(isa, ToBlock { shape, nchw, plane });
    });
    Ok(())
}

/// Converts the blocked layout to contiguous NCHW.
///
/// # Errors
/// [`crate::KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn from_blocked(shape: &BlockedShape, data: &[f32], nchw: &mut [f32]) -> Result<()> {
    const KERNEL: &str = "from_blocked";
    check_len(KERNEL, "nchw", planar_len(shape), nchw.len())?;
    check_len(KERNEL, "data", shape.len(), data.len())?;
    let nchw = SharedMut::new(nchw);
    for_blocks(shape, |isa, start, channels, index| {
        let plane = &data[index * shape.plane()..][..shape.plane()];
        // SAFETY: the channels of each block belong to one task.
        let nchw = unsafe { nchw.range(start, channels * shape.pixels()) };
        f32::dispatch(isa, FromBlock { shape, plane, nchw });
    });
    Ok(())
}

/// Number of elements of the tensor in contiguous NCHW.
fn planar_len(shape: &BlockedShape) -> usize {
    shape.batch.saturating_mul(shape.channels).saturating_mul(shape.pixels())
}

/// Runs `body(isa, offset of the block's first channel in NCHW, number of its channels, index of the block)` in
/// parallel for every block of channels of every sample.
fn for_blocks(shape: &BlockedShape, body: impl Fn(Isa, usize, usize, usize) + Sync) {
    let isa = Isa::detect();
    let blocks = shape.blocks();
    if shape.pixels() == 0 {
        return;
    }
    run_tasks(
        shape.batch * blocks,
        || (),
        |(), index| {
            let first = index % blocks * BLOCK;
            let start = (index / blocks * shape.channels + first) * shape.pixels();
            body(isa, start, BLOCK.min(shape.channels - first), index);
        },
    );
}

/// Converts one block of channels to the blocked layout.
struct ToBlock<'a> {
    shape: &'a BlockedShape,
    nchw: &'a [f32],
    plane: &'a mut [f32],
}

impl Kernel<f32> for ToBlock<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, nchw, plane } = self;
        let [height, width] = shape.size;
        // SAFETY: the plane is that long.
        unsafe { shape.clear_rows(plane.as_mut_ptr(), 0, height) };
        for row in 0..height {
            for first in (0..width).step_by(S::LANES) {
                let count = S::LANES.min(width - first);
                let out = &mut plane[shape.at(row, first)..][..count * BLOCK];
                // SAFETY: masks keep accesses within a row of a channel, and within `out`.
                unsafe {
                    let mut rows = [S::zero(); BLOCK];
                    for (vector, channel) in rows.iter_mut().zip(nchw.chunks_exact(shape.pixels())) {
                        let from = channel[row * width + first..][..count].as_ptr();
                        *vector = S::merge(S::zero(), from, low_mask(count));
                    }
                    let columns = transpose::<S, BLOCK>(rows);
                    for (out, vector) in out.chunks_exact_mut(S::LANES).zip(columns) {
                        S::store(out.as_mut_ptr(), vector);
                    }
                }
            }
        }
    }
}

/// Converts one block of channels to NCHW.
struct FromBlock<'a> {
    shape: &'a BlockedShape,
    plane: &'a [f32],
    nchw: &'a mut [f32],
}

impl Kernel<f32> for FromBlock<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, plane, nchw } = self;
        let [height, width] = shape.size;
        for row in 0..height {
            for first in (0..width).step_by(S::LANES) {
                let count = S::LANES.min(width - first);
                let data = &plane[shape.at(row, first)..][..count * BLOCK];
                // SAFETY: chunks are whole vectors; masks keep stores within a row of a channel.
                unsafe {
                    let mut columns = [S::zero(); BLOCK];
                    for (vector, data) in columns.iter_mut().zip(data.chunks_exact(S::LANES)) {
                        *vector = S::load(data.as_ptr());
                    }
                    let rows = transpose_back::<S>(columns);
                    for (channel, vector) in nchw.chunks_exact_mut(shape.pixels()).zip(rows) {
                        let to = channel[row * width + first..][..count].as_mut_ptr();
                        S::store_masked(to, low_mask(count), vector);
                    }
                }
            }
        }
    }
}

/// Copies `blocks` blocks of channels of every sample, from block `from` of `x` to block `to` of `y`, and sets the
/// border of the copied blocks to zero. This is how tensors are concatenated and split along the channels.
///
/// # Errors
/// [`KernelError::Shape`] when batches or sizes differ or there are not that many blocks;
/// [`KernelError::Length`] when a slice does not have the length of its shape.
pub fn copy_blocks(
    (x_shape, x, from): (&BlockedShape, &[f32], usize),
    (y_shape, y, to): (&BlockedShape, &mut [f32], usize),
    blocks: usize,
) -> Result<()> {
    const KERNEL: &str = "copy of channel blocks";
    check_len(KERNEL, "x", x_shape.len(), x.len())?;
    check_len(KERNEL, "y", y_shape.len(), y.len())?;
    let holds =
        |shape: &BlockedShape, at: usize| at.checked_add(blocks).is_some_and(|end| end <= shape.blocks());
    if (x_shape.batch, x_shape.size) != (y_shape.batch, y_shape.size)
        || !holds(x_shape, from)
        || !holds(y_shape, to)
    {
        return Err(KernelError::Shape {
            what: KERNEL,
            problem: format!(
                "cannot copy {blocks} blocks from block {from} of {x_shape:?} to block {to} of {y_shape:?}"
            ),
        });
    }
    let (x_plane, y_plane, row) = (x_shape.plane(), y_shape.plane(), x_shape.size[1] * BLOCK);
    let y = SharedMut::new(y);
    run_tasks(
        x_shape.batch * blocks,
        || (),
        |(), task| {
            let (sample, block) = (task / blocks, task % blocks);
            let x = &x[(sample * x_shape.blocks() + from + block) * x_plane..][..x_plane];
            // SAFETY: each plane of the destination belongs to one task.
            let y = unsafe { y.range((sample * y_shape.blocks() + to + block) * y_plane, y_plane) };
            BlockedShape { batch: 1, channels: BLOCK, ..*y_shape }.clear_border(y);
            for line in 0..x_shape.size[0] {
                y[y_shape.at(line, 0)..][..row].copy_from_slice(&x[x_shape.at(line, 0)..][..row]);
            }
        },
    );
    Ok(())
}
