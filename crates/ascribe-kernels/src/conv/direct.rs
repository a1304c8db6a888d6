//! Direct convolution for few destination channels per group: depthwise layers, and the input gradient of a network's
//! first layer.
//!
//! With one to four destination channels, packing columns for a matrix product would cost as much as the product.
//! Instead, a strip of source rows is copied once into padded scratch memory, split by the source stride, so that every
//! tap is a plain load at a constant offset. The register tile is `rows` × (several vectors of destination pixels). All
//! residue classes of a strided input gradient use the same strip, and their pixels are interleaved when they are
//! written.

use std::ops::Range;

use super::Shapes;
use super::lattice::Lattice;
use super::strip::Strip;
use crate::epilogue::Epilogue;
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::simd::{Geometry, Isa, Kernel, Simd, low_mask};

/// Most destination channels per group for which this is used.
pub(super) const MAX_ROWS: usize = 4;
/// Source elements per task, about.
const TASK: usize = 32 * 1024;

/// A convolution with few destination channels per group, all residue classes together.
#[derive(Debug, Clone)]
pub(super) struct Direct<T> {
    shapes: Shapes,
    classes: Vec<Class>,
    /// The weights, `[group][class][channel][tap][row]`; a row is a destination channel of the group.
    filter: Vec<T>,
    /// Elements of `filter` per group.
    filter_step: usize,
    strip: Strip,
    isa: Isa,
}

/// The destination pixels of one residue class modulo the destination stride.
#[derive(Debug, Clone)]
struct Class {
    /// Rows and columns of pixels of the class.
    grid: [usize; 2],
    /// Position of its first pixel in the destination.
    offset: [usize; 2],
    /// Offset of each tap in the padded strip.
    taps: Vec<usize>,
    /// Start of the class in a group's filter.
    filter: usize,
    /// Start of the class in the sums, in vectors per destination channel.
    sums: usize,
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
        let Geometry { lanes, .. } = Geometry::of::<T>(isa);
        let strip = Strip::new(lattices, shapes.channels, lanes);
        let mut classes = Vec::new();
        let (mut filter_step, mut sums) = (0, 0);
        for lattice in lattices {
            classes.push(Class {
                grid: lattice.grid,
                offset: lattice.dst_offset,
                taps: lattice.taps.iter().map(|&tap| strip.tap(tap)).collect(),
                filter: filter_step,
                sums,
            });
            filter_step += shapes.channels * lattice.taps.len() * shapes.rows;
            sums += strip.items;
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
        let units = batch * groups * strip.count;
        let unit = channels * strip.channel_len().min(self.shapes.src[0] * self.shapes.src[1]);
        let each = (TASK / unit.max(1)).max(1).min(units.div_ceil(4 * rayon::current_num_threads()).max(1));
        let strip_len = strip.scratch_len();
        let sums_len = rows * self.classes.len() * strip.items * strip.lanes;
        let dst = SharedMut::new(dst);
        run_tasks(
            units.div_ceil(each),
            || {
                let mut strip = Scratch::<T>::new(strip_len);
                // The padding is zeroed only once: filling a strip always writes the same positions.
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

/// Some strips to compute, and the scratch for it.
struct Task<'a, T> {
    direct: &'a Direct<T>,
    /// Indices of (sample, group, strip).
    units: Range<usize>,
    src: &'a [T],
    epilogue: &'a Epilogue<'a, T>,
    dst: SharedMut<'a, T>,
    /// Room for the padded copy of the source rows.
    strip: *mut T,
    /// Room for the sums of all classes of a strip.
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
                    unsafe {
                        strip.fill::<S>(plane, src, first_row, self.strip.add(at * strip.channel_len()));
                    };
                }
                for class in &direct.classes {
                    let grid_rows = class.grid[0].saturating_sub(first_row).min(strip.rows);
                    let filter = filter[class.filter + channel * class.taps.len() * rows..].as_ptr();
                    let items = strip.items_of(strip.flat, grid_rows);
                    let pass = Pass { strip, class, items, channels: count, opens: channel == 0 };
                    // SAFETY: the strip is filled, and the sums have room for all classes of a strip.
                    unsafe {
                        let sums = self.sums.add(class.sums * rows * S::LANES);
                        sum::<S>(&pass, self.strip, filter, rows, sums);
                    }
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

/// The products of one residue class with one block of source channels.
struct Pass<'a> {
    strip: &'a Strip,
    class: &'a Class,
    /// Number of vectors of destination pixels of the class in the strip.
    items: usize,
    /// Number of source channels of the block.
    channels: usize,
    /// Whether this is the first block of channels, which overwrites the sums instead of adding to them.
    opens: bool,
}

/// Sums all vectors (items) of a class into `sums`, `[row][item]`.
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
    // As many items at a time as there are registers for, in rounds of nearly equal size.
    let together = pass.items.div_ceil(pass.items.div_ceil(8).max(1));
    // SAFETY: the caller's contract, passed on.
    unsafe {
        match (S::TILE_ROWS, rows, together) {
            (_, 1, 8) => items::<S, 1, 8>(pass, strip, filter, sums),
            (_, 1, 7) => items::<S, 1, 7>(pass, strip, filter, sums),
            (_, 1, 6) => items::<S, 1, 6>(pass, strip, filter, sums),
            (_, 1, 5) => items::<S, 1, 5>(pass, strip, filter, sums),
            (_, 1, 4) => items::<S, 1, 4>(pass, strip, filter, sums),
            (_, 1, _) => items::<S, 1, 3>(pass, strip, filter, sums),
            (8, 2, _) => items::<S, 2, 8>(pass, strip, filter, sums),
            (8, 3, _) => items::<S, 3, 8>(pass, strip, filter, sums),
            (8, _, _) => items::<S, 4, 6>(pass, strip, filter, sums),
            (_, 2, _) => items::<S, 2, 4>(pass, strip, filter, sums),
            (_, 3, _) => items::<S, 3, 3>(pass, strip, filter, sums),
            (_, _, _) => items::<S, 4, 2>(pass, strip, filter, sums),
        }
    }
}

/// [`sum`] for `R` rows, `N` items at a time.
///
/// # Safety
/// As [`sum`].
#[allow(clippy::needless_range_loop)] // these loops have to be unrolled, so that the sums stay in registers
#[inline(always)]
unsafe fn items<S: Simd, const R: usize, const N: usize>(
    pass: &Pass<'_>,
    strip: *const S::T,
    filter: *const S::T,
    sums: *mut S::T,
) {
    let channel_len = pass.strip.channel_len();
    let mut first = 0;
    while first < pass.items {
        // If fewer than N items are left, the last one is repeated; the superfluous sums are not stored.
        let mut at = [strip; N];
        for j in 0..N {
            at[j] = strip.wrapping_add(pass.strip.item((first + j).min(pass.items - 1)));
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
            for j in 0..N {
                if first + j < pass.items {
                    for r in 0..R {
                        let place = sums.add((r * pass.strip.items + first + j) * S::LANES);
                        let value = if pass.opens { sum[j][r] } else { S::add(S::load(place), sum[j][r]) };
                        S::store(place, value);
                    }
                }
            }
        }
        first += N;
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
    for (index, class) in direct.classes.iter().enumerate() {
        let [row_offset, offset] = class.offset;
        // With stride 2, the pixels of the class to the right are interleaved with those of its left neighbour.
        if step == 2 && offset == 1 {
            continue;
        }
        let partner = direct.classes.get(index + 1);
        let partner = partner.filter(|partner| step == 2 && partner.offset == [row_offset, 1]);
        let sums = |class: &Class| task.sums.wrapping_add((class.sums * rows + row * strip.items) * S::LANES);
        let (even, odd) = (sums(class), partner.map(sums));
        for grid_row in 0..class.grid[0].saturating_sub(first_row).min(strip.rows) {
            let line = plane + ((first_row + grid_row) * strip.dst_stride[0] + row_offset) * width;
            for vector in 0..strip.vectors {
                let at = strip.sum(grid_row, vector);
                let start = vector * S::LANES;
                // SAFETY: the masks keep reads within the sums of the row, and writes within the strip's destination
                // pixels.
                unsafe {
                    let mask = low_mask(S::LANES.min(class.grid[1] - start));
                    let y = S::merge(S::zero(), even.wrapping_add(at), mask);
                    let Some((odd, partner)) = odd.zip(partner) else {
                        write::<S>(task, channel, line + offset + start * step, step, mask, y);
                        continue;
                    };
                    let mask = low_mask(S::LANES.min(partner.grid[1].saturating_sub(start)));
                    let odd = S::merge(S::zero(), odd.wrapping_add(at), mask);
                    let (low, high) = S::interleave(y, odd);
                    let mask = low_mask(S::LANES.min(width - 2 * start));
                    write::<S>(task, channel, line + 2 * start, 1, mask, low);
                    let start = 2 * start + S::LANES;
                    if start < width {
                        let mask = low_mask(S::LANES.min(width - start));
                        write::<S>(task, channel, line + start, 1, mask, high);
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
