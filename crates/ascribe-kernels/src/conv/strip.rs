//! Padded copies of source rows, in which every tap of a convolution is at a constant offset.

use super::k_channels;
use super::lattice::Lattice;
use crate::simd::{Simd, low_mask};

/// Most elements of a strip: half the second-level cache of a small core.
const STRIP: usize = 32 * 1024;

/// Describes the padded copy of some source rows (a strip), split into phases: the residues of rows and columns modulo
/// the source stride.
///
/// Row i, column q of phase (p, r) is the source pixel `first grid row · stride + origin + (i, q) · stride +
/// (p, r)`, or zero where the source has no such pixel.
#[derive(Debug, Clone)]
pub(super) struct Strip {
    /// Source position of the strip's corner, relative to `grid point · stride`.
    pub(super) origin: [isize; 2],
    /// Step in the source per grid point.
    pub(super) src_stride: [usize; 2],
    /// Step in the destination per grid point.
    pub(super) dst_stride: [usize; 2],
    /// Grid rows (rows of computed pixels) per strip.
    pub(super) rows: usize,
    /// Rows that a phase has in addition to the grid rows, because taps reach beyond them.
    pub(super) extra_rows: usize,
    /// Number of columns of a phase.
    pub(super) row_len: usize,
    /// Vectors per grid row.
    pub(super) vectors: usize,
    /// Whether the strip is treated as one long row, so that a vector can extend from the end of one row (padding
    /// included) into the next. Otherwise each row starts with a new vector. The choice with fewer vectors is taken.
    pub(super) flat: bool,
    /// Number of vectors of pixels (items) that are summed per strip and residue class.
    pub(super) items: usize,
    /// Elements per vector.
    pub(super) lanes: usize,
    /// Source channels that are copied at a time; they are also what one accumulator chain sums.
    pub(super) channels: usize,
    /// Number of strips.
    pub(super) count: usize,
}

impl Strip {
    /// Chooses the strips for residue classes that share a source with `channels` channels per group.
    pub(super) fn new(lattices: &[Lattice], channels: usize, lanes: usize) -> Self {
        // An input gradient may have no tap at all, when the input is so small that only padding meets the kernel.
        let all = || lattices.iter().flat_map(|lattice| &lattice.taps);
        let low = [0, 1].map(|axis| all().map(|tap| tap[axis]).min().unwrap_or(0));
        let high = [0, 1].map(|axis| all().map(|tap| tap[axis]).max().unwrap_or(0));
        // The class of offset (0, 0) has the largest grid.
        let Lattice { grid, src_stride, dst_stride, ref taps, .. } = lattices[0];
        let span = [0, 1].map(|axis| (high[axis] - low[axis]) as usize);
        let mut strip = Self {
            origin: low,
            src_stride,
            dst_stride,
            rows: grid[0],
            extra_rows: span[0] / src_stride[0],
            row_len: grid[1] + span[1] / src_stride[1],
            vectors: grid[1].div_ceil(lanes),
            flat: false,
            items: 0,
            lanes,
            channels: k_channels(channels, taps.len()),
            count: 1,
        };
        // Halve the strip while it is too large, but keep it much larger than the rows that neighbouring strips both
        // copy.
        while strip.channels * strip.channel_len() > STRIP && strip.rows > 2 * strip.extra_rows.max(4) {
            strip.rows = strip.rows.div_ceil(2);
        }
        strip.count = grid[0].div_ceil(strip.rows);
        strip.flat = strip.items_of(true, strip.rows) < strip.items_of(false, strip.rows);
        strip.items = strip.items_of(strip.flat, strip.rows);
        strip
    }

    /// Number of vectors of `rows` grid rows, for either value of `flat`.
    pub(super) fn items_of(&self, flat: bool, rows: usize) -> usize {
        if flat { (rows * self.row_len).div_ceil(self.lanes) } else { rows * self.vectors }
    }

    /// Elements of one phase of a channel.
    pub(super) fn phase_len(&self) -> usize {
        (self.rows + self.extra_rows) * self.row_len
    }

    /// Elements of one channel: all of its phases.
    pub(super) fn channel_len(&self) -> usize {
        self.src_stride[0] * self.src_stride[1] * self.phase_len()
    }

    /// Length of the scratch. It has room beyond the last row, since vectors may read there into lanes that are not
    /// used.
    pub(super) fn scratch_len(&self) -> usize {
        self.channels * self.channel_len() + self.extra_rows * self.row_len + self.row_len + 2 * self.lanes
    }

    /// Offset of a tap in a channel of the strip.
    pub(super) fn tap(&self, tap: [isize; 2]) -> usize {
        let [row, column] = [0, 1].map(|axis| (tap[axis] - self.origin[axis]) as usize);
        let [step_h, step_w] = self.src_stride;
        let phase = row % step_h * step_w + column % step_w;
        phase * self.phase_len() + row / step_h * self.row_len + column / step_w
    }

    /// Offset in a channel of the strip of the vector of pixels number `item`.
    #[inline(always)]
    pub(super) fn item(&self, item: usize) -> usize {
        if self.flat {
            item * self.lanes
        } else {
            item / self.vectors * self.row_len + item % self.vectors * self.lanes
        }
    }

    /// Offset in the sums of vector number `vector` of grid row `row`.
    #[inline(always)]
    pub(super) fn sum(&self, row: usize, vector: usize) -> usize {
        if self.flat {
            row * self.row_len + vector * self.lanes
        } else {
            (row * self.vectors + vector) * self.lanes
        }
    }

    /// Copies the strip of `plane` that starts at grid row `first_row`.
    ///
    /// # Safety
    /// `plane` has `height · width` pixels, `out` room for a channel of the strip.
    #[inline(always)]
    pub(super) unsafe fn fill<S: Simd>(
        &self,
        plane: &[S::T],
        [height, width]: [usize; 2],
        first_row: usize,
        out: *mut S::T,
    ) {
        let strip = self;
        let [step_h, step_w] = strip.src_stride;
        for phase in 0..step_h * step_w {
            let top = (first_row * step_h + phase / step_w) as isize + strip.origin[0];
            // Columns q with 0 ≤ start + q · step < width.
            let start = strip.origin[1] + (phase % step_w) as isize;
            let low = if start < 0 { start.unsigned_abs().div_ceil(step_w) } else { 0 };
            let room = width as isize - start;
            let high = if room > 0 { (room as usize).div_ceil(step_w).min(strip.row_len) } else { 0 };
            for i in 0..strip.rows + strip.extra_rows {
                let row = top + (i * step_h) as isize;
                // SAFETY: writes stay within the row of the strip, reads within the row of the plane.
                unsafe {
                    let out = out.add(phase * strip.phase_len() + i * strip.row_len);
                    if row < 0 || row >= height as isize {
                        // If there is only one strip, these rows are never written and are still zero from the start.
                        if strip.count > 1 {
                            let mut q = 0;
                            while q < strip.row_len {
                                S::store_masked(
                                    out.add(q),
                                    low_mask(S::LANES.min(strip.row_len - q)),
                                    S::zero(),
                                );
                                q += S::LANES;
                            }
                        }
                        continue;
                    }
                    let line = plane.as_ptr().add(row as usize * width).wrapping_offset(start);
                    let mut q = low;
                    while q < high {
                        let mask = low_mask(S::LANES.min(high - q));
                        let x = S::merge_any(S::zero(), line.wrapping_add(q * step_w), step_w, mask);
                        S::store_masked(out.add(q), mask, x);
                        q += S::LANES;
                    }
                }
            }
        }
    }
}
