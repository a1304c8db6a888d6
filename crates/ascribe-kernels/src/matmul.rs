//! Batched matrix products.

use crate::error::{KernelError, Result, check_len, checked_product};
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::simd::{Geometry, Isa, Kernel, Simd, TILE_VECTORS};
use crate::tile::{Rows, tile};

/// Products per accumulator chain.
const K_BLOCK: usize = 192;
/// Vectors of the lane operand per task.
const BLOCK_VECTORS: usize = 12;
/// Rows of the broadcast operand per task.
const BLOCK_ROWS: usize = 256;

/// Sizes of a batched product C = op(A) · op(B).
///
/// op(A) is m × k and op(B) k × n. An operand is stored row-major as op(·) says, or transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MatmulShape {
    /// Number of independent products.
    pub batch: usize,
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Inner dimension.
    pub k: usize,
    /// A is stored k × m.
    pub trans_a: bool,
    /// B is stored n × k.
    pub trans_b: bool,
}

/// C\[i\] = op(A\[i\]) · op(B\[i\]) for i < `batch`, all row-major and contiguous.
///
/// `a` has `batch · m · k` elements, or `m · k` when all products share it; `b` likewise. `c` is
/// overwritten; with k = 0 it becomes zero. Row r of C is bit for bit the same whatever m, the batch and
/// the number of threads are: a linear layer gives each sample the same numbers in any batch.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have one of these lengths, [`KernelError::Overflow`]
/// when a matrix would not fit the address space.
pub fn matmul<T: Float>(shape: &MatmulShape, a: &[T], b: &[T], c: &mut [T]) -> Result<()> {
    matmul_with(Isa::detect(), shape, a, b, c)
}

pub(crate) fn matmul_with<T: Float>(
    isa: Isa,
    shape: &MatmulShape,
    a: &[T],
    b: &[T],
    c: &mut [T],
) -> Result<()> {
    const KERNEL: &str = "matmul";
    let &MatmulShape { batch, m, n, k, trans_a, trans_b } = shape;
    let step = |argument, size: usize, found: usize| -> Result<usize> {
        let all = checked_product(KERNEL, argument, &[batch, size])?;
        if found == all {
            Ok(size)
        } else if found == size {
            Ok(0)
        } else {
            Err(KernelError::Length { kernel: KERNEL, argument, expected: all, found })
        }
    };
    let a_step = step("a", checked_product(KERNEL, "a", &[m, k])?, a.len())?;
    let b_step = step("b", checked_product(KERNEL, "b", &[k, n])?, b.len())?;
    let c_step = checked_product(KERNEL, "c", &[m, n])?;
    check_len(KERNEL, "c", checked_product(KERNEL, "c", &[batch, c_step])?, c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    let a = View {
        pointer: a.as_ptr(),
        batch: a_step,
        row: if trans_a { 1 } else { k },
        k: if trans_a { m } else { 1 },
    };
    let b = View {
        pointer: b.as_ptr(),
        batch: b_step,
        row: if trans_b { k } else { 1 },
        k: if trans_b { 1 } else { n },
    };
    let c = SharedMut::new(c);
    // The operand that is contiguous along its own dimension fills the lanes. With B transposed
    // (a linear layer) that is neither: then A fills them, so that B, the weights, is read as it lies.
    // The choice depends on the layouts alone, and does not change the order of any sum.
    let product = if trans_b {
        Product {
            isa,
            k,
            batch,
            rows: b,
            row_count: n,
            lanes: a,
            lane_count: m,
            c,
            c_batch: c_step,
            c_row: 1,
            c_lane: n,
        }
    } else {
        Product {
            isa,
            k,
            batch,
            rows: a,
            row_count: m,
            lanes: b,
            lane_count: n,
            c,
            c_batch: c_step,
            c_row: n,
            c_lane: 1,
        }
    };
    product.run();
    Ok(())
}

/// A strided operand: element (row, k) of entry i is at `i · batch + row · self.row + k · self.k`.
#[derive(Clone, Copy)]
struct View<T> {
    pointer: *const T,
    batch: usize,
    row: usize,
    k: usize,
}

/// `c[row, lane] = Σ_k rows[row, k] · lanes[lane, k]`.
struct Product<'a, T> {
    isa: Isa,
    k: usize,
    batch: usize,
    rows: View<T>,
    row_count: usize,
    lanes: View<T>,
    lane_count: usize,
    c: SharedMut<'a, T>,
    c_batch: usize,
    c_row: usize,
    c_lane: usize,
}

// SAFETY: the views stand for shared slices of `T: Sync`.
unsafe impl<T: Sync + Send> Sync for Product<'_, T> {}

impl<T: Float> Product<'_, T> {
    fn run(&self) {
        let Geometry { tile_rows, lanes } = Geometry::of::<T>(self.isa);
        let vectors = self.lane_count.div_ceil(lanes);
        let wanted = 4 * rayon::current_num_threads();
        let mut lane_blocks = vectors.div_ceil(BLOCK_VECTORS);
        let mut row_blocks = self.row_count.div_ceil(BLOCK_ROWS);
        while self.batch * lane_blocks * row_blocks < wanted {
            if self.row_count.div_ceil(row_blocks) > 8 * tile_rows {
                row_blocks *= 2;
            } else if vectors.div_ceil(lane_blocks) > TILE_VECTORS {
                lane_blocks *= 2;
            } else {
                break;
            }
        }
        let block_vectors = vectors.div_ceil(lane_blocks);
        let block_rows = self.row_count.div_ceil(row_blocks).next_multiple_of(tile_rows);
        let lane_blocks = vectors.div_ceil(block_vectors);
        let row_blocks = self.row_count.div_ceil(block_rows);
        run_tasks(
            self.batch * lane_blocks * row_blocks,
            || {
                (
                    Scratch::<T>::new(K_BLOCK * block_vectors * lanes),
                    Scratch::<T>::new(K_BLOCK * tile_rows),
                    Scratch::<T>::new(block_rows * block_vectors * lanes),
                )
            },
            |(columns, packed, sums), task| {
                let (rest, lane_block) = (task / lane_blocks, task % lane_blocks);
                let (entry, row_block) = (rest / row_blocks, rest % row_blocks);
                let first_row = row_block * block_rows;
                let first_lane = lane_block * block_vectors * lanes;
                T::dispatch(
                    self.isa,
                    Block {
                        product: self,
                        entry,
                        first_row,
                        rows: block_rows.min(self.row_count - first_row),
                        first_lane,
                        lanes: (block_vectors * lanes).min(self.lane_count - first_lane),
                        columns: columns.pointer(),
                        packed: packed.pointer(),
                        sums: sums.pointer(),
                    },
                );
            },
        );
    }
}

struct Block<'a, T> {
    product: &'a Product<'a, T>,
    entry: usize,
    first_row: usize,
    rows: usize,
    first_lane: usize,
    lanes: usize,
    columns: *mut T,
    packed: *mut T,
    sums: *mut T,
}

impl<T: Float> Kernel<T> for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let p = self.product;
        let vectors = self.lanes.div_ceil(S::LANES);
        let panels = vectors.div_ceil(TILE_VECTORS);
        let panel_vectors = vectors.div_ceil(panels);
        let a = p.rows.pointer.wrapping_add(self.entry * p.rows.batch + self.first_row * p.rows.row);
        let b = p.lanes.pointer.wrapping_add(self.entry * p.lanes.batch + self.first_lane * p.lanes.row);
        let mut start = 0;
        loop {
            let k = K_BLOCK.min(p.k - start);
            let (opens, closes) = (start == 0, start + k == p.k);
            // SAFETY: blocks lie within the operands; scratch has room for a block; sums and the block of
            // C belong to this task.
            unsafe {
                pack_lanes::<S>(&self, b.wrapping_add(start * p.lanes.k), k, vectors, panel_vectors);
                let mut row = 0;
                while row < self.rows {
                    let from = a.wrapping_add(row * p.rows.row + start * p.rows.k);
                    let count = S::TILE_ROWS.min(self.rows - row);
                    // Few columns do not repay a copy of rows that can be read in place.
                    let rows = if count == S::TILE_ROWS && (panels == 1 || p.rows.row == 1) {
                        Rows { pointer: from, row_step: p.rows.row, k_step: p.rows.k }
                    } else {
                        for i in 0..k {
                            for r in 0..S::TILE_ROWS {
                                let place = self.packed.add(i * S::TILE_ROWS + r);
                                *place = if r < count {
                                    *from.add(r * p.rows.row + i * p.rows.k)
                                } else {
                                    T::ZERO
                                };
                            }
                        }
                        Rows { pointer: self.packed.cast_const(), row_step: 1, k_step: S::TILE_ROWS }
                    };
                    let mut first = 0;
                    while first < vectors {
                        let width = panel_vectors.min(vectors - first);
                        let panel = self.columns.add(first * k * S::LANES);
                        let sums = self.sums.add((row * vectors + first * S::TILE_ROWS) * S::LANES);
                        tile::<S>(width, k, rows, panel, sums, !opens);
                        if closes {
                            store::<S>(&self, row, count, first, width, sums);
                        }
                        first += width;
                    }
                    row += S::TILE_ROWS;
                }
            }
            start += k;
            if start >= p.k {
                break;
            }
        }
    }
}

/// Packs `k` rows of the lane operand, `[panel][k][vector]`, zeros beyond the last lane.
///
/// # Safety
/// `b` is the first element of the block; `block.columns` has room for it.
#[inline(always)]
unsafe fn pack_lanes<S: Simd>(
    block: &Block<'_, S::T>,
    b: *const S::T,
    k: usize,
    vectors: usize,
    panel_vectors: usize,
) {
    let view = block.product.lanes;
    let mut first = 0;
    while first < vectors {
        let width = panel_vectors.min(vectors - first);
        // SAFETY: as the function's; lanes beyond the last are masked.
        unsafe {
            let panel = block.columns.add(first * k * S::LANES);
            for v in 0..width {
                let lane = (first + v) * S::LANES;
                let count = S::LANES.min(block.lanes - lane);
                let mask = crate::simd::low_mask(count);
                let from = b.wrapping_add(lane * view.row);
                if view.row == 1 {
                    for i in 0..k {
                        let x = S::merge(S::zero(), from.wrapping_add(i * view.k), mask);
                        S::store(panel.add((i * width + v) * S::LANES), x);
                    }
                } else {
                    for i in 0..k {
                        S::store(panel.add((i * width + v) * S::LANES), S::zero());
                    }
                    for l in 0..count {
                        let from = from.wrapping_add(l * view.row);
                        for i in 0..k {
                            *panel.add((i * width + v) * S::LANES + l) = *from.wrapping_add(i * view.k);
                        }
                    }
                }
            }
        }
        first += width;
    }
}

/// Writes a finished tile to C.
///
/// # Safety
/// `sums` holds the tile, and its place in C belongs to this task.
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
    for r in 0..rows {
        for v in 0..vectors {
            let lane = (first + v) * S::LANES;
            let count = S::LANES.min(block.lanes - lane);
            let at = c.wrapping_add(r * p.c_row + (block.first_lane + lane) * p.c_lane);
            // SAFETY: only the lanes that exist are written.
            unsafe {
                let y = S::load(sums.add((r * vectors + v) * S::LANES));
                let mask = crate::simd::low_mask(count);
                if p.c_lane == 1 {
                    S::store_masked(at, mask, y);
                } else {
                    S::store_strided(at, p.c_lane, mask, y);
                }
            }
        }
    }
}
