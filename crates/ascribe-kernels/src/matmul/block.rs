//! One block of a matrix product: packing, the loop over tiles, and writing the result.

use super::{K_BLOCK, Product, View};
use crate::float::Float;
use crate::simd::{Kernel, Simd, TILE_VECTORS, columns, low_mask, transpose};
use crate::tile::{Rows, tile};

/// With up to this many vectors of lanes, rows are read directly from the operand instead of being packed.
const DIRECT_VECTORS: usize = 6;

/// A block of rows and lanes of one product, and the memory to compute it in.
pub(super) struct Block<'a, T> {
    pub(super) product: &'a Product<'a, T>,
    /// Index in the batch.
    pub(super) entry: usize,
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_lane: usize,
    pub(super) lanes: usize,
    /// Room for the packed lanes of one block of k.
    pub(super) columns: *mut T,
    /// The lanes of the block, packed for all of k, if that is done before the product.
    pub(super) ahead: Option<*mut T>,
    /// Room for the packed rows of the block, one tile after the other.
    pub(super) packed_rows: *mut T,
    /// Room for the sums of the block.
    pub(super) sums: *mut T,
}

impl<T: Float> Block<'_, T> {
    /// Number of vectors of `lanes` lanes.
    fn vectors(&self, lanes: usize) -> usize {
        self.lanes.div_ceil(lanes)
    }

    /// The first row of the block.
    fn row_start(&self) -> *const T {
        let view = self.product.rows;
        view.pointer.wrapping_add(self.entry * view.batch + self.first_row * view.row)
    }

    /// The packed lanes for `k` products from `start` on; packs them if they are not packed yet.
    ///
    /// # Safety
    /// They lie within the operand, and the scratch has room.
    #[inline(always)]
    unsafe fn columns<S: Simd<T = T>>(&self, start: usize, k: usize) -> *const T {
        if let Some(ahead) = self.ahead {
            return ahead.wrapping_add(start * self.vectors(S::LANES) * S::LANES);
        }
        let from = self.lane_start().wrapping_add(start * self.product.lanes.k);
        // SAFETY: the caller's contract.
        unsafe { pack_lanes::<S>(self, from, k, self.columns) };
        self.columns
    }

    /// Packs the rows of a tile for `k` products from `start` on, unless they are read directly from the operand.
    ///
    /// # Safety
    /// As [`Block::columns`].
    #[inline(always)]
    unsafe fn pack_tile<S: Simd<T = T>>(&self, tile: usize, start: usize, k: usize, in_place: bool) {
        let (view, row) = (self.product.rows, tile * S::TILE_ROWS);
        let count = S::TILE_ROWS.min(self.rows - row);
        if count == S::TILE_ROWS && in_place {
            return;
        }
        let from = self.row_start().wrapping_add(row * view.row + start * view.k);
        let out = self.packed_rows.wrapping_add(row * K_BLOCK);
        // SAFETY: the caller's contract.
        unsafe {
            match S::TILE_ROWS {
                8 => pack_rows::<S, 8>(view, from, count, k, out),
                _ => pack_rows::<S, 4>(view, from, count, k, out),
            }
        }
    }

    /// Sums tile `number` of `width` vectors, from vector `first` on, over block `block` of `blocks` blocks of k. After
    /// the last block, writes it to C.
    ///
    /// # Safety
    /// `rows` and `panel` are those of the tile, and no other task writes its part of C.
    #[inline(always)]
    unsafe fn tile<S: Simd<T = T>>(
        &self,
        number: usize,
        rows: Rows<T>,
        [first, width]: [usize; 2],
        panel: *const T,
        k: usize,
        [block, blocks]: [usize; 2],
    ) {
        let row = number * S::TILE_ROWS;
        let sums = self.sums.wrapping_add((row * self.vectors(S::LANES) + first * S::TILE_ROWS) * S::LANES);
        // SAFETY: the caller's contract.
        unsafe {
            tile::<S>(width, k, rows, panel, sums, block > 0);
            if block + 1 == blocks {
                store::<S>(self, row, S::TILE_ROWS.min(self.rows - row), first, width, sums);
            }
        }
    }

    /// The first lane of the block.
    fn lane_start(&self) -> *const T {
        let view = self.product.lanes;
        view.pointer.wrapping_add(self.entry * view.batch + self.first_lane * view.row)
    }
}

/// Packs the lanes of a block for all of k.
pub(super) struct PackAhead<'a, T>(pub(super) Block<'a, T>);

impl<T: Float> Kernel<T> for PackAhead<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Some(out) = self.0.ahead else { return };
        let (p, vectors) = (self.0.product, self.0.vectors(S::LANES));
        for start in (0..p.k).step_by(K_BLOCK) {
            let from = self.0.lane_start().wrapping_add(start * p.lanes.k);
            let out = out.wrapping_add(start * vectors * S::LANES);
            // SAFETY: the buffer has room for all of k, and no other task writes the part of this block.
            unsafe { pack_lanes::<S>(&self.0, from, K_BLOCK.min(p.k - start), out) };
        }
    }
}

impl<T: Float> Kernel<T> for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let p = self.product;
        let vectors = self.vectors(S::LANES);
        let panel_vectors = vectors.div_ceil(vectors.div_ceil(TILE_VECTORS));
        let tiles = self.rows.div_ceil(S::TILE_ROWS);
        let k_blocks = p.k.div_ceil(K_BLOCK).max(1);
        // Copying the rows is worth it if many lanes use them. A last tile with too few rows is always copied, to fill
        // it up.
        let in_place = p.rows.row == 1 || vectors <= DIRECT_VECTORS;
        let rows_of = |tile: usize, start: usize| {
            let count = S::TILE_ROWS.min(self.rows - tile * S::TILE_ROWS);
            let from = self.row_start().wrapping_add(tile * S::TILE_ROWS * p.rows.row + start * p.rows.k);
            if count == S::TILE_ROWS && in_place {
                return Rows { pointer: from, row_step: p.rows.row, k_step: p.rows.k };
            }
            let packed = self.packed_rows.wrapping_add(tile * S::TILE_ROWS * K_BLOCK);
            Rows { pointer: packed.cast_const(), row_step: 1, k_step: S::TILE_ROWS }
        };
        // SAFETY: blocks lie within the operands; the scratch has room for a block; no other task has these sums and
        // this block of C.
        unsafe {
            // With few lanes, most of the time goes into reading the rows. Compute one tile after the other over all of
            // k, so that each row is read from start to end.
            if self.ahead.is_some() && vectors <= TILE_VECTORS {
                for tile in 0..tiles {
                    for block in 0..k_blocks {
                        let k = K_BLOCK.min(p.k - block * K_BLOCK);
                        let columns = self.columns::<S>(block * K_BLOCK, k);
                        self.pack_tile::<S>(tile, block * K_BLOCK, k, in_place);
                        let rows = rows_of(tile, block * K_BLOCK);
                        self.tile::<S>(tile, rows, [0, vectors], columns, k, [block, k_blocks]);
                    }
                }
                return;
            }
            // With many lanes, use a packed panel of lanes for all rows while it is in the first-level cache.
            for block in 0..k_blocks {
                let (start, k) = (block * K_BLOCK, K_BLOCK.min(p.k - block * K_BLOCK));
                let columns = self.columns::<S>(start, k);
                for tile in 0..tiles {
                    self.pack_tile::<S>(tile, start, k, in_place);
                }
                let mut first = 0;
                while first < vectors {
                    let width = panel_vectors.min(vectors - first);
                    let panel = columns.wrapping_add(first * k * S::LANES);
                    for tile in 0..tiles {
                        let rows = rows_of(tile, start);
                        self.tile::<S>(tile, rows, [first, width], panel, k, [block, k_blocks]);
                    }
                    first += width;
                }
            }
        }
    }
}

/// Packs `k` rows of the lane operand, `[panel][k][vector]`, zeros beyond the last lane.
///
/// # Safety
/// `b` is the first element of the block; `out` has room for it.
#[inline(always)]
unsafe fn pack_lanes<S: Simd>(block: &Block<'_, S::T>, b: *const S::T, k: usize, out: *mut S::T) {
    let view = block.product.lanes;
    let vectors = block.vectors(S::LANES);
    let panel_vectors = vectors.div_ceil(vectors.div_ceil(TILE_VECTORS));
    if view.row == 1 {
        // For each k, read all vectors of the block, which are consecutive.
        for i in 0..k {
            let from = b.wrapping_add(i * view.k);
            let mut first = 0;
            while first < vectors {
                let width = panel_vectors.min(vectors - first);
                for v in first..first + width {
                    let mask = low_mask(S::LANES.min(block.lanes - v * S::LANES));
                    // SAFETY: as the function's; lanes beyond the last are masked.
                    unsafe {
                        let x = S::merge(S::zero(), from.wrapping_add(v * S::LANES), mask);
                        S::store(out.add((first * k + i * width + v - first) * S::LANES), x);
                    }
                }
                first += width;
            }
        }
        return;
    }
    let mut first = 0;
    while first < vectors {
        let width = panel_vectors.min(vectors - first);
        for v in 0..width {
            let lane = (first + v) * S::LANES;
            let from = b.wrapping_add(lane * view.row);
            let count = S::LANES.min(block.lanes - lane);
            // SAFETY: as the function's.
            unsafe {
                let out = out.add((first * k + v) * S::LANES);
                columns::<S>(view.row, from, count, k, out, width);
            }
        }
        first += width;
    }
}

/// Packs the rows of a tile, `[k][row]`, with zeros beyond `count`.
///
/// # Safety
/// `from` has `count` ≤ `R` = `S::TILE_ROWS` rows of `k` elements; `out` has room for k rounded up to whole
/// vectors.
#[inline(always)]
unsafe fn pack_rows<S: Simd, const R: usize>(
    view: View<S::T>,
    from: *const S::T,
    count: usize,
    k: usize,
    out: *mut S::T,
) {
    // SAFETY: the caller's contract; masks keep reads within k.
    unsafe {
        if view.k == 1 {
            for start in (0..k).step_by(S::LANES) {
                let mask = low_mask(S::LANES.min(k - start));
                let mut rows = [S::zero(); R];
                for (r, row) in rows.iter_mut().enumerate() {
                    if r < count {
                        *row = S::merge(S::zero(), from.wrapping_add(r * view.row + start), mask);
                    }
                }
                for (i, columns) in transpose::<S, R>(rows).into_iter().enumerate() {
                    S::store(out.add(start * R + i * S::LANES), columns);
                }
            }
        } else {
            for i in 0..k {
                for r in 0..R {
                    let value = if r < count { *from.add(r * view.row + i * view.k) } else { S::T::ZERO };
                    *out.add(i * R + r) = value;
                }
            }
        }
    }
}

/// Writes a finished tile to C.
///
/// # Safety
/// `sums` holds the tile, and no other task writes its part of C.
#[inline(always)]
unsafe fn store<S: Simd>(
    block: &Block<'_, S::T>,
    row: usize,
    rows: usize,
    first: usize,
    vectors: usize,
    sums: *const S::T,
) {
    let p = block.product;
    let c = p.c.pointer().wrapping_add(block.entry * p.c_batch + (block.first_row + row) * p.c_row);
    if p.c_lane != 1 {
        // SAFETY: as the function's.
        unsafe {
            match S::TILE_ROWS {
                8 => store_transposed::<S, 8>(block, c, rows, first, vectors, sums),
                _ => store_transposed::<S, 4>(block, c, rows, first, vectors, sums),
            }
        }
        return;
    }
    for r in 0..rows {
        for v in 0..vectors {
            let lane = (first + v) * S::LANES;
            let mask = low_mask(S::LANES.min(block.lanes - lane));
            let at = c.wrapping_add(r * p.c_row + block.first_lane + lane);
            // SAFETY: only the lanes that exist are written.
            unsafe { S::store_masked(at, mask, S::load(sums.add((r * vectors + v) * S::LANES))) };
        }
    }
}

/// Writes a finished tile to C where C is contiguous along the rows of the tile, not along its lanes.
///
/// # Safety
/// As [`store`]; `R` = `S::TILE_ROWS`, and `c` is where the tile's first row starts.
#[inline(always)]
unsafe fn store_transposed<S: Simd, const R: usize>(
    block: &Block<'_, S::T>,
    c: *mut S::T,
    count: usize,
    first: usize,
    vectors: usize,
    sums: *const S::T,
) {
    // Number of lanes whose columns fit into one vector of the transposed tile.
    let together = S::LANES / R;
    for v in 0..vectors {
        let lane = (first + v) * S::LANES;
        // SAFETY: only rows and lanes that exist are written.
        unsafe {
            let mut rows = [S::zero(); R];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = S::load(sums.add((r * vectors + v) * S::LANES));
            }
            let columns = transpose::<S, R>(rows);
            if together == 0 {
                // A vector is shorter than a column (portable vectors).
                let all = columns.as_ptr().cast::<S::T>();
                for l in 0..S::LANES.min(block.lanes - lane) {
                    let to = c.wrapping_add((block.first_lane + lane + l) * block.product.c_lane);
                    std::ptr::copy_nonoverlapping(all.add(l * R), to, count);
                }
                continue;
            }
            for (i, column) in columns.into_iter().enumerate() {
                for j in 0..together {
                    let l = i * together + j;
                    if lane + l < block.lanes {
                        let to = c.wrapping_add((block.first_lane + lane + l) * block.product.c_lane);
                        let mask = low_mask(count) << (j * R);
                        S::store_masked(to.wrapping_sub(j * R), mask, column);
                    }
                }
            }
        }
    }
}
