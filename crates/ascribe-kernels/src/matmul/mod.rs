//! Batched matrix products.

mod block;
mod few;

use crate::error::{KernelError, Result, check_len, checked_product};
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::simd::{Geometry, Isa, TILE_VECTORS};
use block::{Block, PackAhead};
use few::{FEW, Few};

/// Most products that are summed in one accumulator before it is added to the total.
const K_BLOCK: usize = 192;
/// From this number of elements on, one matrix of a batch is enough work for all threads.
const LARGE: usize = 1 << 16;
/// Vectors of the lane operand per task, about.
const BLOCK_VECTORS: usize = 24;
/// Rows of the row operand (whose elements are broadcast) per task, about.
const BLOCK_ROWS: usize = 256;

/// Sizes of a batched product C = op(A) · op(B), where op is the identity or the transposition.
///
/// op(A) is m × k and op(B) is k × n. All matrices are row-major.
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
    /// Whether A is stored transposed, as k × m.
    pub trans_a: bool,
    /// Whether B is stored transposed, as n × k.
    pub trans_b: bool,
}

/// C\[i\] = op(A\[i\]) · op(B\[i\]) for i < `batch`, all row-major and contiguous.
///
/// `a` has `batch · m · k` elements, or `m · k` if all products of the batch use the same matrix; `b` likewise. `c` is
/// overwritten; with k = 0 it becomes zero. A row of C is bit-identical for any m, batch and number of threads, so that
/// a linear layer gives the same result for a sample in any batch.
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
    if m <= FEW && !trans_a && k > 0 && (batch == 1 || n * k >= LARGE) {
        for entry in 0..batch {
            let (a, b) = (&a[entry * a_step..], &b[entry * b_step..]);
            let c = c[entry * c_step..].as_mut_ptr();
            Few { isa, m, n, k, a: a.as_ptr(), b: b.as_ptr(), trans_b, c }.run();
        }
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
    // An operand is best used as the lane operand if it is contiguous along m or n. B is, unless it is stored
    // transposed, as in a linear layer. Then A becomes the lane operand, so that B, the weights, is read without
    // packing it into lanes. The choice depends on the layouts alone and does not change the order of any sum.
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

/// A strided operand: element (row, k) of matrix i of the batch is at `i · self.batch + row · self.row + k · self.k`.
#[derive(Clone, Copy)]
struct View<T> {
    pointer: *const T,
    batch: usize,
    row: usize,
    k: usize,
}

/// A batched product `c[row, lane] = Σ_k rows[row, k] · lanes[lane, k]`.
struct Product<'a, T> {
    isa: Isa,
    k: usize,
    batch: usize,
    /// The row operand, whose elements are broadcast.
    rows: View<T>,
    row_count: usize,
    /// The lane operand, which fills vectors.
    lanes: View<T>,
    lane_count: usize,
    c: SharedMut<'a, T>,
    /// Elements of C from one matrix of the batch to the next.
    c_batch: usize,
    /// Elements of C from one row to the next.
    c_row: usize,
    /// Elements of C from one lane to the next.
    c_lane: usize,
}

// SAFETY: the views point to shared slices of `T: Sync`.
unsafe impl<T: Sync + Send> Sync for Product<'_, T> {}

/// How a product is divided among tasks. This has no influence on any result.
#[derive(Clone, Copy)]
struct Blocks {
    /// Vectors of lanes per block.
    vectors: usize,
    /// Rows per block.
    rows: usize,
    /// Number of blocks of lanes.
    lane_count: usize,
    /// Number of blocks of rows.
    row_count: usize,
}

impl<T: Float> Product<'_, T> {
    /// Starts with blocks of the preferred size and halves them until there are enough tasks for the threads.
    fn blocks(&self, tile_rows: usize, lanes: usize) -> Blocks {
        /// If tasks pack their lanes themselves, the vectors of lanes per task are not halved below this number before
        /// the rows are: every task with the same lanes packs them again.
        const LEAST: usize = 4 * TILE_VECTORS;
        let vectors = self.lane_count.div_ceil(lanes);
        let wanted = 4 * rayon::current_num_threads();
        let mut lane_blocks = vectors.div_ceil(BLOCK_VECTORS);
        let mut row_blocks = self.row_count.div_ceil(BLOCK_ROWS);
        while self.batch * lane_blocks * row_blocks < wanted {
            let wide = vectors.div_ceil(lane_blocks);
            if !self.ahead() && wide > LEAST {
                lane_blocks *= 2;
            } else if self.row_count.div_ceil(row_blocks) > 8 * tile_rows {
                row_blocks *= 2;
            } else if wide > TILE_VECTORS {
                lane_blocks *= 2;
            } else {
                break;
            }
        }
        let block_vectors = vectors.div_ceil(lane_blocks);
        let block_rows = self.row_count.div_ceil(row_blocks).next_multiple_of(tile_rows);
        Blocks {
            vectors: block_vectors,
            rows: block_rows,
            lane_count: vectors.div_ceil(block_vectors),
            row_count: self.row_count.div_ceil(block_rows),
        }
    }

    /// Whether the lane operand is packed once, before the product, instead of by every task that needs it. This is so
    /// if it has to be transposed, as for a linear layer, where the lane operand is the activations.
    fn ahead(&self) -> bool {
        self.lanes.row != 1
    }

    fn run(&self) {
        let Geometry { tile_rows, lanes } = Geometry::of::<T>(self.isa);
        let blocks = self.blocks(tile_rows, lanes);
        let block_lanes = blocks.vectors * lanes;
        let block_len = block_lanes * self.k;
        let ahead = self.ahead();
        let mut packed =
            Scratch::<T>::new(if ahead { self.batch * blocks.lane_count * block_len } else { 0 });
        let packed = SharedPointer(packed.pointer());
        let block = |task: usize, columns: *mut T, packed_rows: *mut T, sums: *mut T| {
            let (rest, lane_block) = (task / blocks.lane_count, task % blocks.lane_count);
            let (entry, row_block) = (rest / blocks.row_count, rest % blocks.row_count);
            let first_row = row_block * blocks.rows;
            let first_lane = lane_block * block_lanes;
            let lanes = block_lanes.min(self.lane_count - first_lane);
            let rows = blocks.rows.min(self.row_count - first_row);
            let ahead = ahead
                .then(|| packed.get().wrapping_add((entry * blocks.lane_count + lane_block) * block_len));
            Block {
                product: self,
                entry,
                first_row,
                rows,
                first_lane,
                lanes,
                columns,
                ahead,
                packed_rows,
                sums,
            }
        };
        if ahead {
            run_tasks(
                self.batch * blocks.lane_count,
                || (),
                |(), task| {
                    let (entry, lane_block) = (task / blocks.lane_count, task % blocks.lane_count);
                    let task = (entry * blocks.row_count) * blocks.lane_count + lane_block;
                    let none = std::ptr::null_mut();
                    T::dispatch(self.isa, PackAhead(block(task, none, none, none)));
                },
            );
        }
        run_tasks(
            self.batch * blocks.lane_count * blocks.row_count,
            || {
                (
                    Scratch::<T>::new(if ahead { 0 } else { K_BLOCK.min(self.k) * block_lanes }),
                    Scratch::<T>::new(K_BLOCK * blocks.rows),
                    Scratch::<T>::new(blocks.rows * block_lanes),
                )
            },
            |(columns, packed_rows, sums), task| {
                T::dispatch(self.isa, block(task, columns.pointer(), packed_rows.pointer(), sums.pointer()));
            },
        );
    }
}

/// A pointer that tasks share.
#[derive(Clone, Copy)]
struct SharedPointer<T>(*mut T);

// SAFETY: tasks write disjoint parts, and read them only after all writing tasks have ended.
unsafe impl<T: Send> Send for SharedPointer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedPointer<T> {}

impl<T> SharedPointer<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}
