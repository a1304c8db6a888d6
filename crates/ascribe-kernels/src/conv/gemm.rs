//! Convolution as a matrix product: packed filters times columns gathered from the source.
//!
//! The product is `dst[row, column] = Σ_k filter[row, k] · src[k, column]`: rows are destination channels, columns are
//! the grid points (pixels that are computed) of all samples, and k runs over (channel, tap). Consecutive columns fill
//! the lanes of a vector, so that NCHW memory is read and written in long runs. A task computes a block of rows and
//! columns. It packs the columns for one block of k at a time, which is where zero padding is inserted, and multiplies
//! them with the register tile.

use super::lattice::{Lattice, Run, Runs};
use super::{Shapes, k_channels};
use crate::epilogue::Epilogue;
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::simd::{Geometry, Isa, Kernel, Simd, TILE_VECTORS};
use crate::tile::{Rows, tile};

/// Vectors of columns per task: their packed values take a fraction of the second-level cache.
const BLOCK_VECTORS: usize = 24;
/// Most rows per task. This limits the memory for the sums, which are kept from one block of k to the next.
const BLOCK_ROWS: usize = 512;
/// Fewest rows per task: with fewer, packing the columns would cost too much compared with the product.
const MIN_ROWS: usize = 64;

/// A convolution (or one residue class of an input gradient) with its filters packed for the register tile.
#[derive(Debug, Clone)]
pub(super) struct Product<T> {
    pub(super) lattice: Lattice,
    groups: usize,
    /// Source channels per group.
    channels: usize,
    /// Destination channels per group.
    rows: usize,
    /// The weights, `[group][row tile][channel][tap][row in tile]`; zeros in rows beyond the last.
    filter: Vec<T>,
    isa: Isa,
    tile_rows: usize,
    lanes: usize,
}

impl<T: Float> Product<T> {
    /// Packs `weight(destination channel, source channel in its group, tap)`.
    pub(super) fn new(
        isa: Isa,
        lattice: Lattice,
        Shapes { groups, channels, rows, .. }: Shapes,
        weight: impl Fn(usize, usize, usize) -> T + Sync,
    ) -> Self {
        let Geometry { tile_rows, lanes } = Geometry::of::<T>(isa);
        let taps = lattice.taps.len();
        let tiles = rows.div_ceil(tile_rows);
        let tile_len = channels * taps * tile_rows;
        let mut filter = vec![T::ZERO; groups * tiles * tile_len];
        let shared = SharedMut::new(&mut filter);
        run_tasks(
            if tile_len == 0 { 0 } else { groups * tiles },
            || (),
            |(), task| {
                // SAFETY: each task has its own tile.
                let packed = unsafe { shared.range(task * tile_len, tile_len) };
                let (group, first) = (task / tiles, task % tiles * tile_rows);
                let count = tile_rows.min(rows - first);
                for (k, packed) in packed.chunks_exact_mut(tile_rows).enumerate() {
                    let (channel, tap) = (k / taps, k % taps);
                    for (row, value) in packed[..count].iter_mut().enumerate() {
                        *value = weight(group * rows + first + row, channel, tap);
                    }
                }
            },
        );
        Self { lattice, groups, channels, rows, filter, isa, tile_rows, lanes }
    }

    /// Runs the convolution; lengths have been checked by the caller.
    pub(super) fn run(&self, batch: usize, src: &[T], epilogue: &Epilogue<'_, T>, dst: &mut [T]) {
        let vectors = (batch * self.lattice.points()).div_ceil(self.lanes);
        if vectors == 0 {
            return;
        }
        let blocks = Blocks::choose(vectors, self.rows, self.groups, self.tile_rows);
        let taps = self.lattice.taps.len();
        let k_channels = k_channels(self.channels, taps);
        let k_blocks = self.channels.div_ceil(k_channels);
        let columns_len = k_channels * taps * TILE_VECTORS * self.lanes;
        let sums_rows = if k_blocks > 1 { blocks.rows } else { self.tile_rows };
        let sums_vectors = if k_blocks > 1 { blocks.vectors } else { TILE_VECTORS };
        let sums_len = sums_rows * sums_vectors * self.lanes;
        let dst = SharedMut::new(dst);
        run_tasks(
            blocks.tasks(self.groups),
            || {
                (
                    Scratch::<T>::new(columns_len),
                    Scratch::<T>::new(sums_len),
                    Runs::default(),
                    Runs::default(),
                )
            },
            |(columns, sums, source, destination), task| {
                let [group, rows, vectors] = blocks.locate(task);
                let lattice = &self.lattice;
                let [src_step, dst_step] = [
                    self.groups * self.channels * lattice.src_plane(),
                    self.groups * self.rows * lattice.dst_plane(),
                ];
                let first = vectors * blocks.vectors;
                let vectors = blocks.vectors.min(blocks.total_vectors - first);
                source.source(lattice, batch, src_step, self.lanes, first, vectors);
                destination.destination(lattice, batch, dst_step, self.lanes, first, vectors);
                let first_row = rows * blocks.rows;
                let task = Task {
                    product: self,
                    src: src.as_ptr().wrapping_add(group * self.channels * lattice.src_plane()),
                    dst,
                    epilogue,
                    group,
                    first_row,
                    rows: blocks.rows.min(self.rows - first_row),
                    vectors,
                    k_channels,
                    columns: columns.pointer(),
                    sums: sums.pointer(),
                    source,
                    destination,
                };
                T::dispatch(self.isa, task);
            },
        );
    }
}

/// How rows and columns are divided among tasks. This has no influence on any result.
struct Blocks {
    /// Vectors of columns per block.
    vectors: usize,
    /// Vectors of all columns.
    total_vectors: usize,
    /// Rows per block.
    rows: usize,
    /// Number of blocks of columns.
    column_count: usize,
    /// Number of blocks of rows.
    row_count: usize,
}

impl Blocks {
    /// Starts with blocks of the preferred size and halves them until there are enough tasks for the threads.
    fn choose(total_vectors: usize, rows: usize, groups: usize, tile_rows: usize) -> Self {
        let wanted = 4 * rayon::current_num_threads();
        let mut column_blocks = total_vectors.div_ceil(BLOCK_VECTORS);
        let mut row_blocks = rows.div_ceil(BLOCK_ROWS);
        while groups * column_blocks * row_blocks < wanted {
            if total_vectors.div_ceil(column_blocks) > 2 * TILE_VECTORS {
                column_blocks *= 2;
            } else if rows.div_ceil(row_blocks * 2) >= MIN_ROWS {
                row_blocks *= 2;
            } else {
                break;
            }
        }
        let vectors = total_vectors.div_ceil(column_blocks);
        let rows_block = rows.div_ceil(row_blocks).next_multiple_of(tile_rows);
        Self {
            vectors,
            total_vectors,
            rows: rows_block,
            column_count: total_vectors.div_ceil(vectors),
            row_count: rows.div_ceil(rows_block),
        }
    }

    /// Number of tasks for all groups.
    fn tasks(&self, groups: usize) -> usize {
        groups * self.column_count * self.row_count
    }

    /// Group, row block and column block of a task. Tasks with the same columns follow each other.
    fn locate(&self, task: usize) -> [usize; 3] {
        let rows = task % self.row_count;
        let rest = task / self.row_count;
        [rest / self.column_count, rows, rest % self.column_count]
    }
}

/// One block of rows and columns, and the scratch to compute it in.
struct Task<'a, T> {
    product: &'a Product<T>,
    /// First source channel of the group.
    src: *const T,
    dst: SharedMut<'a, T>,
    epilogue: &'a Epilogue<'a, T>,
    group: usize,
    first_row: usize,
    rows: usize,
    vectors: usize,
    /// Source channels per block of k.
    k_channels: usize,
    /// Room for the packed columns of one block of k.
    columns: *mut T,
    /// Room for the sums.
    sums: *mut T,
    /// Where the columns are in the source.
    source: &'a Runs,
    /// Where the columns are in the destination.
    destination: &'a Runs,
}

impl<T: Float> Kernel<T> for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let p = self.product;
        let taps = p.lattice.taps.len();
        let tiles = p.rows.div_ceil(S::TILE_ROWS);
        let tile_len = p.channels * taps * S::TILE_ROWS;
        let panels = self.vectors.div_ceil(TILE_VECTORS);
        let panel_vectors = self.vectors.div_ceil(panels);
        let mut channel = 0;
        loop {
            let count = self.k_channels.min(p.channels - channel);
            let (opens, closes) = (channel == 0, channel + count == p.channels);
            let k = count * taps;
            let mut first = 0;
            while first < self.vectors {
                let vectors = panel_vectors.min(self.vectors - first);
                let target =
                    simple(self.destination, first, vectors).filter(|_| p.lattice.dst_stride[1] == 1);
                // SAFETY: `columns` has room for a panel of `vectors` vectors and k rows. Filters, sums and
                // destinations of the tiles are those of this task's rows.
                unsafe {
                    let panel = self.columns;
                    pack::<S>(&self, channel, count, first, vectors, panel);
                    let mut row = 0;
                    while row < self.rows {
                        let tile_index = (self.first_row + row) / S::TILE_ROWS;
                        let filter = p
                            .filter
                            .as_ptr()
                            .wrapping_add((self.group * tiles + tile_index) * tile_len)
                            .wrapping_add(channel * taps * S::TILE_ROWS);
                        let rows = Rows { pointer: filter, row_step: 1, k_step: S::TILE_ROWS };
                        let sums = if opens && closes {
                            self.sums
                        } else {
                            self.sums.add(
                                (first * self.rows.next_multiple_of(S::TILE_ROWS) + row * vectors) * S::LANES,
                            )
                        };
                        tile::<S>(vectors, k, rows, panel, sums, !opens);
                        if closes {
                            store::<S>(&self, target.as_ref(), row, first, vectors, sums);
                        }
                        row += S::TILE_ROWS;
                    }
                }
                first += vectors;
            }
            channel += count;
            if channel >= p.channels {
                break;
            }
        }
    }
}

/// Packs `count` source channels, from `channel` on, of `vectors` vectors of columns into `panel`,
/// `[channel][tap][vector]`.
///
/// # Safety
/// `panel` has room for them; the task's runs lie within the source.
#[inline(always)]
unsafe fn pack<S: Simd>(
    task: &Task<'_, S::T>,
    channel: usize,
    count: usize,
    first: usize,
    vectors: usize,
    panel: *mut S::T,
) {
    let lattice = &task.product.lattice;
    let plane = lattice.src_plane();
    let taps = lattice.taps.len();
    let step = lattice.src_stride[1];
    let src = task.src.wrapping_add(channel * plane);
    let row_len = taps * vectors * S::LANES;
    if taps == 1
        && step == 1
        && let Some(runs) = simple(task.source, first, vectors)
    {
        // The pixels of a channel are consecutive: read all vectors of a channel before going to the next.
        let (mut from, mut out) = (src, panel);
        for _ in 0..count {
            for Run { mask, offset } in &runs[..vectors] {
                let at = from.wrapping_offset(*offset);
                // SAFETY: every lane of a run's mask is a pixel; the panel has room.
                unsafe { S::store(out, S::merge(S::zero(), at, *mask)) };
                S::prefetch(at.wrapping_add(vectors * S::LANES));
                out = out.wrapping_add(S::LANES);
            }
            from = from.wrapping_add(plane);
        }
        return;
    }
    for tap in 0..taps {
        for vector in 0..vectors {
            let runs = task.source.get(tap, first + vector);
            let mut out = panel.wrapping_add((tap * vectors + vector) * S::LANES);
            // SAFETY: every lane of a run's mask is an element of the channel's plane, and the output
            // advances by one row of the panel per channel.
            unsafe {
                match *runs {
                    [] => {
                        for _ in 0..count {
                            S::store(out, S::zero());
                            out = out.wrapping_add(row_len);
                        }
                    }
                    [Run { mask, offset }] if step == 1 => {
                        let mut from = src.wrapping_offset(offset);
                        for _ in 0..count {
                            S::store(out, S::merge(S::zero(), from, mask));
                            if tap + 1 == taps {
                                // Prefetch what the next panel reads. The planes of different channels are too far
                                // apart for the hardware prefetcher.
                                S::prefetch(from.wrapping_add(vectors * S::LANES));
                            }
                            from = from.wrapping_add(plane);
                            out = out.wrapping_add(row_len);
                        }
                    }
                    _ => {
                        let mut from = src;
                        for _ in 0..count {
                            let mut v = S::zero();
                            for run in runs {
                                let at = from.wrapping_offset(run.offset);
                                v = S::merge_any(v, at, step, run.mask);
                            }
                            S::store(out, v);
                            from = from.wrapping_add(plane);
                            out = out.wrapping_add(row_len);
                        }
                    }
                }
            }
        }
    }
}

/// The memory accesses of a panel's vectors (position 0), if each vector takes exactly one.
fn simple(runs: &Runs, first: usize, vectors: usize) -> Option<[Run; TILE_VECTORS]> {
    let mut all = [Run { mask: 0, offset: 0 }; TILE_VECTORS];
    for (vector, run) in all.iter_mut().enumerate().take(vectors) {
        match *runs.get(0, first + vector) {
            [only] => *run = only,
            _ => return None,
        }
    }
    Some(all)
}

/// Adds bias and residual to a finished tile, applies the activation, and writes it. `target` are the destination runs
/// of the vectors, if each has exactly one.
///
/// # Safety
/// `sums` holds the tile; the task's destination runs lie within the destination and belong to it.
#[inline(always)]
unsafe fn store<S: Simd>(
    task: &Task<'_, S::T>,
    target: Option<&[Run; TILE_VECTORS]>,
    row: usize,
    first: usize,
    vectors: usize,
    mut sums: *const S::T,
) {
    let p = task.product;
    let plane = p.lattice.dst_plane();
    let channel = task.group * p.rows + task.first_row + row;
    for channel in channel..channel + S::TILE_ROWS.min(task.rows - row) {
        // SAFETY: every lane of a run's mask is an element of this channel's plane that only this task
        // writes; bias and residual have the lengths that the epilogue's check found.
        unsafe {
            let bias = task.epilogue.bias.map(|bias| S::splat(*bias.get_unchecked(channel)));
            let to = task.dst.pointer().wrapping_add(channel * plane);
            let residual = task.epilogue.residual.map(|all| all.as_ptr().wrapping_add(channel * plane));
            for vector in 0..vectors {
                let mut y = S::load(sums);
                sums = sums.add(S::LANES);
                if let Some(bias) = bias {
                    y = S::add(y, bias);
                }
                if let Some(all) = target {
                    let Run { mask, offset } = *all.get_unchecked(vector);
                    if let Some(residual) = residual {
                        y = S::add(y, S::merge(S::zero(), residual.wrapping_offset(offset), mask));
                    }
                    let y = task.epilogue.activation.apply::<S>(y);
                    S::store_masked(to.wrapping_offset(offset), mask, y);
                } else {
                    let runs = task.destination.get(0, first + vector);
                    let step = p.lattice.dst_stride[1];
                    if let Some(residual) = residual {
                        let mut v = S::zero();
                        for run in runs {
                            v = S::merge_any(v, residual.wrapping_offset(run.offset), step, run.mask);
                        }
                        y = S::add(y, v);
                    }
                    let y = task.epilogue.activation.apply::<S>(y);
                    for run in runs {
                        let at = to.wrapping_offset(run.offset);
                        if step == 1 {
                            S::store_masked(at, run.mask, y);
                        } else {
                            S::store_strided(at, step, run.mask, y);
                        }
                    }
                }
            }
        }
    }
}
