//! The register tile: the inner loop of convolutions on NCHW and of matrix products.
//!
//! A tile has `R` rows and `V` vectors of columns. An element of the row operand is broadcast to all lanes and
//! multiplied by vectors of the lane operand. Each element of the tile is a chain of fused multiply-adds in the order
//! of `k`, whatever the size of the tile, so that a result does not depend on the place of the element in the matrix or
//! on the size of the matrix.

use crate::simd::Simd;

/// The row operand of a tile, whose elements are broadcast: element `(row, k)` is at `pointer[row · row_step + k ·
/// k_step]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<T> {
    pub(crate) pointer: *const T,
    pub(crate) row_step: usize,
    pub(crate) k_step: usize,
}

/// Computes a tile of `S::TILE_ROWS` × `vectors` and stores it row by row at `out`; with `accumulate`, adds it to the
/// values that are there.
///
/// `lanes` holds the lane operand: for each of the `k` products, `vectors` vectors.
///
/// # Safety
/// `rows` has `S::TILE_ROWS` × `k` readable elements, `lanes` `k · vectors` readable vectors, `out`
/// `S::TILE_ROWS · vectors` writable ones; `vectors` is 1, 2 or 3.
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd>(
    vectors: usize,
    k: usize,
    rows: Rows<S::T>,
    lanes: *const S::T,
    out: *mut S::T,
    accumulate: bool,
) {
    // SAFETY: the caller's contract, passed on.
    unsafe {
        match (S::TILE_ROWS, vectors) {
            (8, 3) => fixed::<S, 8, 3>(k, rows, lanes, out, accumulate),
            (8, 2) => fixed::<S, 8, 2>(k, rows, lanes, out, accumulate),
            (8, _) => fixed::<S, 8, 1>(k, rows, lanes, out, accumulate),
            (_, 3) => fixed::<S, 4, 3>(k, rows, lanes, out, accumulate),
            (_, 2) => fixed::<S, 4, 2>(k, rows, lanes, out, accumulate),
            (_, _) => fixed::<S, 4, 1>(k, rows, lanes, out, accumulate),
        }
    }
}

/// [`tile`] for `R` rows and `V` vectors, known at compile time.
///
/// # Safety
/// As [`tile`].
// Loops over indices instead of iterators, so that they are unrolled and the sums stay in registers.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn fixed<S: Simd, const R: usize, const V: usize>(
    k: usize,
    rows: Rows<S::T>,
    mut lanes: *const S::T,
    out: *mut S::T,
    accumulate: bool,
) {
    // SAFETY: the pointers advance over what the caller provides. Accumulators are only indexed by
    // constants once the loops over `R` and `V` are unrolled, so that they stay in registers.
    unsafe {
        let mut sum = [[S::zero(); V]; R];
        let mut a = rows.pointer;
        for _ in 0..k {
            let mut x = [S::zero(); V];
            for v in 0..V {
                x[v] = S::load(lanes.add(v * S::LANES));
            }
            for r in 0..R {
                let w = S::splat(*a.add(r * rows.row_step));
                for v in 0..V {
                    sum[r][v] = S::fma(w, x[v], sum[r][v]);
                }
            }
            lanes = lanes.add(V * S::LANES);
            a = a.wrapping_add(rows.k_step);
        }
        for r in 0..R {
            for v in 0..V {
                let place = out.add((r * V + v) * S::LANES);
                let value = if accumulate { S::add(S::load(place), sum[r][v]) } else { sum[r][v] };
                S::store(place, value);
            }
        }
    }
}
