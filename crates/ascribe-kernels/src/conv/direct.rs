//! Direct convolution for few output channels per group: depthwise layers, and the input gradient of a
//! network's first layer.
//!
//! With one to four rows, packing columns for a matrix product would cost as much as the product. Here a
//! strip of source rows is copied once into a padded scratch, split by the source stride, so that every
//! tap becomes a plain load at a constant offset; the register tile is `rows` × [several vectors of
//! destination pixels]. All residue classes of a strided gradient share the strip and are interleaved
//! when they are written.

use std::ops::Range;

use super::lattice::Lattice;
use super::{Shapes, k_channels};
use crate::epilogue::Epilogue;
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::simd::{Isa, Kernel, Simd, low_mask};

/// Most destination channels per group.
pub(super) const MAX_ROWS: usize = 4;
/// Elements of a padded strip: half the second-level cache of a small core.
const STRIP: usize = 32 * 1024;
/// Source elements per task.
const TASK: usize = 32 * 1024;

/// A convolution of a few rows per group, all its residue classes together.
#[derive(Debug, Clone)]
pub(super) struct Direct<T> {
    shapes: Shapes,
    classes: Vec<Class>,
    /// `[group][class][channel][tap][row]`.
    filter: Vec<T>,
    /// Elements of `filter` per group.
    filter_step: usize,
    strip: Strip,
    isa: Isa,
}

/// The destination pixels of one residue class modulo the destination stride.
#[derive(Debug, Clone)]
struct Class {
    grid: [usize; 2],
    offset: [usize; 2],
    /// Offset of each tap in the padded strip.
    taps: Vec<usize>,
    /// Start of the class in a group's filter.
    filter: usize,
    /// Start of the class in the sums, in vectors per row.
    sums: usize,
}

/// The padded copy of some source rows.
///
/// Row i, phase p, column q is source row `first · stride + origin + i`, column
/// `origin + q · stride + p`; zero where the source has no such pixel.
#[derive(Debug, Clone)]
struct Strip {
    /// Source position, relative to `grid point · stride`, of the strip's corner.
    origin: [isize; 2],
    /// Step in the source per grid point.
    src_stride: [usize; 2],
    /// Step in the destination per grid point.
    dst_stride: [usize; 2],
    /// Grid rows per strip.
    rows: usize,
    /// Source rows beyond those of the grid rows themselves.
    extra_rows: usize,
    /// Columns per phase.
    phase_len: usize,
    /// Vectors per grid row.
    vectors: usize,
    /// Source channels per strip; also the length of an accumulator chain.
    channels: usize,
    /// Number of strips.
    count: usize,
}

impl Strip {
    fn row_len(&self) -> usize {
        self.src_stride[1] * self.phase_len
    }

    fn channel_len(&self) -> usize {
        ((self.rows - 1) * self.src_stride[0] + 1 + self.extra_rows) * self.row_len()
    }
}

struct Lanes;

impl<T> Kernel<T> for Lanes {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> usize {
        S::LANES
    }
}

impl<T: Float> Direct<T> {
    /// Packs `weight(class, destination channel, source channel in its group, tap)`; `lattices` are the
    /// residue classes, in row-major order of their offsets.
    pub(super) fn new(
        isa: Isa,
        shapes: Shapes,
        lattices: &[Lattice],
        weight: impl Fn(usize, usize, usize, usize) -> T,
    ) -> Self {
        let lanes = T::dispatch(isa, Lanes);
        let strip = Strip::new(lattices, shapes.channels, lanes);
        let mut classes = Vec::new();
        let (mut filter_step, mut sums) = (0, 0);
        for lattice in lattices {
            let taps = lattice.taps.iter().map(|tap| {
                let [row, column] = [0, 1].map(|axis| (tap[axis] - strip.origin[axis]) as usize);
                let step = strip.src_stride[1];
                row * strip.row_len() + column % step * strip.phase_len + column / step
            });
            classes.push(Class {
                grid: lattice.grid,
                offset: lattice.dst_offset,
                taps: taps.collect(),
                filter: filter_step,
                sums,
            });
            filter_step += shapes.channels * lattice.taps.len() * shapes.rows;
            sums += strip.rows * strip.vectors;
        }
        let mut filter = Vec::with_capacity(shapes.groups * filter_step);
        for group in 0..shapes.groups {
            for (class, lattice) in lattices.iter().enumerate() {
                for channel in 0..shapes.channels {
                    for tap in 0..lattice.taps.len() {
                        let first = group * shapes.rows;
                        filter
                            .extend((first..first + shapes.rows).map(|row| weight(class, row, channel, tap)));
                    }
                }
            }
        }
        Self { shapes, classes, filter, filter_step, strip, isa }
    }

    /// Runs the convolution; lengths have been checked by the caller.
    pub(super) fn run(&self, batch: usize, src: &[T], epilogue: &Epilogue<'_, T>, dst: &mut [T]) {
        let Shapes { groups, channels, rows, .. } = self.shapes;
        let strip = &self.strip;
        let lanes = T::dispatch(self.isa, Lanes);
        let units = batch * groups * strip.count;
        let unit = channels * strip.channel_len().min(self.shapes.src[0] * self.shapes.src[1]);
        let each = (TASK / unit.max(1)).max(1).min(units.div_ceil(4 * rayon::current_num_threads()).max(1));
        let strip_len = strip.channels * strip.channel_len();
        let sums_len = rows * self.classes.len() * strip.rows * strip.vectors * lanes;
        let dst = SharedMut::new(dst);
        run_tasks(
            units.div_ceil(each),
            || {
                let mut strip = Scratch::<T>::new(strip_len);
                // Borders stay zero: filling a strip only ever writes the same pixels.
                strip.zeroed(strip_len);
                (strip, Scratch::<T>::new(sums_len))
            },
            |(strip, sums), task| {
                let units = task * each..((task + 1) * each).min(units);
                let (strip, sums) = (strip.pointer(), sums.pointer());
                T::dispatch(self.isa, Task { direct: self, units, src, epilogue, dst, strip, sums });
            },
        );
    }
}

impl Strip {
    fn new(lattices: &[Lattice], channels: usize, lanes: usize) -> Self {
        // A gradient may have no tap at all: padding can keep the kernel off the few pixels there are.
        let all = || lattices.iter().flat_map(|lattice| &lattice.taps);
        let low = [0, 1].map(|axis| all().map(|tap| tap[axis]).min().unwrap_or(0));
        let high = [0, 1].map(|axis| all().map(|tap| tap[axis]).max().unwrap_or(0));
        // The class of offset (0, 0) has the largest grid.
        let Lattice { grid, src_stride, dst_stride, ref taps, .. } = lattices[0];
        let span = [0, 1].map(|axis| (high[axis] - low[axis]) as usize);
        let vectors = grid[1].div_ceil(lanes);
        let mut strip = Self {
            origin: low,
            src_stride,
            dst_stride,
            rows: grid[0],
            extra_rows: span[0],
            phase_len: vectors * lanes + span[1] / src_stride[1],
            vectors,
            channels: k_channels(channels, taps.len()),
            count: 1,
        };
        // Halve the strip while it is too large, unless the overlap would be most of the work.
        while strip.channels * strip.channel_len() > STRIP && strip.rows * src_stride[0] > 2 * span[0].max(4)
        {
            strip.rows = strip.rows.div_ceil(2);
        }
        strip.count = grid[0].div_ceil(strip.rows);
        strip
    }
}

struct Task<'a, T> {
    direct: &'a Direct<T>,
    /// Indices of (sample, group, strip).
    units: Range<usize>,
    src: &'a [T],
    epilogue: &'a Epilogue<'a, T>,
    dst: SharedMut<'a, T>,
    strip: *mut T,
    sums: *mut T,
}

impl<T: Float> Kernel<T> for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let direct = self.direct;
        let Shapes { groups, channels, rows, src, dst } = direct.shapes;
        let strip = &direct.strip;
        for unit in self.units.clone() {
            let (sample_group, index) = (unit / strip.count, unit % strip.count);
            let group = sample_group % groups;
            let first_row = index * strip.rows;
            let source = &self.src[sample_group * channels * src[0] * src[1]..][..channels * src[0] * src[1]];
            let filter = &direct.filter[group * direct.filter_step..][..direct.filter_step];
            let mut channel = 0;
            while channel < channels {
                let count = strip.channels.min(channels - channel);
                for at in 0..count {
                    let plane = &source[(channel + at) * src[0] * src[1]..][..src[0] * src[1]];
                    // SAFETY: the scratch holds `strip.channels` channels.
                    unsafe { fill::<S>(direct, plane, first_row, self.strip.add(at * strip.channel_len())) };
                }
                for class in &direct.classes {
                    let grid_rows = class.grid[0].saturating_sub(first_row).min(strip.rows);
                    let filter = &filter[class.filter + channel * class.taps.len() * rows..];
                    let pass = Pass { strip, class, rows: grid_rows, channels: count, opens: channel == 0 };
                    // SAFETY: the strip is filled, and the sums have room for all classes of a strip.
                    unsafe {
                        sum::<S>(
                            &pass,
                            self.strip,
                            filter.as_ptr(),
                            rows,
                            self.sums.add(class.sums * rows * S::LANES),
                        );
                    };
                }
                channel += count;
            }
            for row in 0..rows {
                let out = group * rows + row;
                let plane = (sample_group * rows + row) * dst[0] * dst[1];
                // SAFETY: each destination row of each channel belongs to one unit.
                unsafe { store::<S>(&self, first_row, row, out, plane) };
            }
        }
    }
}

/// Copies the strip of `plane` that starts at grid row `first_row`.
///
/// # Safety
/// `out` has room for a channel of the strip.
#[inline(always)]
unsafe fn fill<S: Simd>(direct: &Direct<S::T>, plane: &[S::T], first_row: usize, out: *mut S::T) {
    let strip = &direct.strip;
    let [height, width] = direct.shapes.src;
    let row_len = strip.row_len();
    let step = strip.src_stride[1];
    let rows = strip.channel_len() / row_len;
    for i in 0..rows {
        let row = (first_row * strip.src_stride[0] + i) as isize + strip.origin[0];
        // SAFETY: writes stay within the row of the strip, reads within the row of the plane.
        unsafe {
            let out = out.add(i * row_len);
            if row < 0 || row >= height as isize {
                std::slice::from_raw_parts_mut(out, row_len).fill(S::T::ZERO);
                continue;
            }
            let line = plane.as_ptr().add(row as usize * width);
            for phase in 0..step {
                // Columns q with 0 ≤ start + q · step < width.
                let start = strip.origin[1] + phase as isize;
                let low = if start < 0 { start.unsigned_abs().div_ceil(step) } else { 0 };
                let room = width as isize - start;
                let high = if room > 0 { (room as usize).div_ceil(step).min(strip.phase_len) } else { 0 };
                let mut q = low;
                while q < high {
                    let mask = low_mask(S::LANES.min(high - q));
                    let from = line.wrapping_offset(start + (q * step) as isize);
                    let x = S::merge_any(S::zero(), from, step, mask);
                    S::store_masked(out.add(phase * strip.phase_len + q), mask, x);
                    q += S::LANES;
                }
            }
        }
    }
}

/// One class of one block of channels.
struct Pass<'a> {
    strip: &'a Strip,
    class: &'a Class,
    /// Grid rows that the strip has of the class.
    rows: usize,
    channels: usize,
    /// Whether this is the first block of channels.
    opens: bool,
}

/// Sums all grid rows of a class into `sums`, `[grid row][vector][row]`.
///
/// # Safety
/// The strip is filled, `filter` holds the pass's weights, `sums` has room.
#[inline(always)]
unsafe fn sum<S: Simd>(
    pass: &Pass<'_>,
    strip: *const S::T,
    filter: *const S::T,
    rows: usize,
    sums: *mut S::T,
) {
    // SAFETY: the caller's contract, passed on.
    unsafe {
        match (S::TILE_ROWS, rows) {
            (_, 1) => items::<S, 1, 8>(pass, strip, filter, sums),
            (8, 2) => items::<S, 2, 8>(pass, strip, filter, sums),
            (8, 3) => items::<S, 3, 8>(pass, strip, filter, sums),
            (8, _) => items::<S, 4, 6>(pass, strip, filter, sums),
            (_, 2) => items::<S, 2, 4>(pass, strip, filter, sums),
            (_, 3) => items::<S, 3, 3>(pass, strip, filter, sums),
            (_, _) => items::<S, 4, 2>(pass, strip, filter, sums),
        }
    }
}

/// [`sum`] for `R` rows, `N` vectors of pixels at a time.
///
/// # Safety
/// As [`sum`].
#[allow(clippy::needless_range_loop)] // these loops have to unroll into registers
#[inline(always)]
unsafe fn items<S: Simd, const R: usize, const N: usize>(
    pass: &Pass<'_>,
    strip: *const S::T,
    filter: *const S::T,
    sums: *mut S::T,
) {
    let vectors = pass.strip.vectors;
    let row_step = pass.strip.src_stride[0] * pass.strip.row_len();
    let total = pass.rows * vectors;
    let channel_len = pass.strip.channel_len();
    let (mut row, mut vector) = (0, 0);
    let mut first = 0;
    while first < total {
        let count = N.min(total - first);
        // Missing items repeat the last one; what they sum is not stored.
        let mut at = [strip; N];
        for j in 0..N {
            at[j] = strip.wrapping_add(row * row_step + vector * S::LANES);
            if first + j + 1 < total {
                vector += 1;
                if vector == vectors {
                    (row, vector) = (row + 1, 0);
                }
            }
        }
        // SAFETY: taps are offsets within the strip, and the filter has R weights per channel and tap.
        unsafe {
            let mut sum = [[S::zero(); R]; N];
            let mut weight = filter;
            for channel in 0..pass.channels {
                let base = channel * channel_len;
                for &tap in &pass.class.taps {
                    let mut w = [S::zero(); R];
                    for r in 0..R {
                        w[r] = S::splat(*weight.add(r));
                    }
                    weight = weight.add(R);
                    for j in 0..N {
                        let x = S::load(at[j].wrapping_add(base + tap));
                        for r in 0..R {
                            sum[j][r] = S::fma(x, w[r], sum[j][r]);
                        }
                    }
                }
            }
            let out = sums.add(first * R * S::LANES);
            for j in 0..N {
                if j < count {
                    for r in 0..R {
                        let place = out.add((j * R + r) * S::LANES);
                        let value = if pass.opens { sum[j][r] } else { S::add(S::load(place), sum[j][r]) };
                        S::store(place, value);
                    }
                }
            }
        }
        first += count;
    }
}

/// Applies the epilogue to one channel of a strip and writes it to the destination plane at `plane`.
///
/// # Safety
/// The sums are complete; the strip's destination rows belong to this task.
#[inline(always)]
unsafe fn store<S: Simd>(task: &Task<'_, S::T>, first_row: usize, row: usize, channel: usize, plane: usize) {
    let direct = task.direct;
    let (strip, rows) = (&direct.strip, direct.shapes.rows);
    let width = direct.shapes.dst[1];
    let step = strip.dst_stride[1];
    // SAFETY: `sums` holds a vector per item; every lane of a mask is a destination pixel of the strip.
    unsafe {
        for (index, class) in direct.classes.iter().enumerate() {
            let [row_offset, offset] = class.offset;
            // With stride 2, the class to the right is interleaved with this one.
            if step == 2 && offset == 1 {
                continue;
            }
            let partner = direct.classes.get(index + 1);
            let partner = partner.filter(|partner| step == 2 && partner.offset == [row_offset, 1]);
            for grid_row in 0..class.grid[0].saturating_sub(first_row).min(strip.rows) {
                let line = plane + ((first_row + grid_row) * strip.dst_stride[0] + row_offset) * width;
                for vector in 0..strip.vectors {
                    let item = grid_row * strip.vectors + vector;
                    let y = S::load(task.sums.add(((class.sums + item) * rows + row) * S::LANES));
                    if let Some(partner) = partner {
                        let odd = S::load(task.sums.add(((partner.sums + item) * rows + row) * S::LANES));
                        let (low, high) = S::interleave(y, odd);
                        let start = vector * S::LANES * 2;
                        let mask = low_mask(S::LANES.min(width - start));
                        write::<S>(task, channel, line + start, 1, mask, low);
                        let start = start + S::LANES;
                        if start < width {
                            let mask = low_mask(S::LANES.min(width - start));
                            write::<S>(task, channel, line + start, 1, mask, high);
                        }
                    } else {
                        let start = vector * S::LANES;
                        let mask = low_mask(S::LANES.min(class.grid[1] - start));
                        write::<S>(task, channel, line + offset + start * step, step, mask, y);
                    }
                }
            }
        }
    }
}

/// Applies the epilogue to destination pixels `at + stride · lane` and writes them.
///
/// # Safety
/// The lanes of the mask are pixels that belong to this task.
#[inline(always)]
unsafe fn write<S: Simd>(
    task: &Task<'_, S::T>,
    channel: usize,
    at: usize,
    stride: usize,
    mask: u32,
    mut y: S::V,
) {
    // SAFETY: the caller's contract; the residual has the destination's length.
    unsafe {
        if let Some(bias) = task.epilogue.bias {
            y = S::add(y, S::splat(*bias.get_unchecked(channel)));
        }
        if let Some(residual) = task.epilogue.residual {
            y = S::add(y, S::merge_any(S::zero(), residual.as_ptr().wrapping_add(at), stride, mask));
        }
        y = task.epilogue.activation.apply::<S>(y);
        let to = task.dst.pointer().wrapping_add(at);
        if stride == 1 {
            S::store_masked(to, mask, y);
        } else {
            S::store_strided(to, stride, mask, y);
        }
    }
}
