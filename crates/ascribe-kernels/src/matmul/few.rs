//! Products of a few rows with a large matrix: linear layers with small batches.
//!
//! The matrix is read once, in the order in which it is stored, and nothing is packed, since the speed is limited by
//! reading the matrix from memory. Sums are computed in the order of [`tile`](crate::tile), so that the number of rows
//! has no influence on any of them.

use super::{K_BLOCK, SharedPointer};
use crate::float::Float;
use crate::parallel::{Scratch, run_tasks};
use crate::simd::{Geometry, Isa, Kernel, Simd, low_mask, transpose};

/// Most rows of the left operand for which this is used.
pub(super) const FEW: usize = 8;
/// Number of sums, over all rows, that a task of [`Wide`] computes at the same time. They stay in the first-level
/// cache, and there are enough of them for long consecutive reads.
const RUNNING: usize = 4096;
/// Rows of the matrix that are multiplied in one pass over the sums.
const TOGETHER: usize = 4;
/// How far ahead the matrix is prefetched, in elements.
const AHEAD: usize = 128;

/// c\[m, n\] = a\[m, k\] · B, with B stored as \[n, k\] (`trans_b`) or \[k, n\].
#[derive(Clone, Copy)]
pub(super) struct Few<T> {
    pub(super) isa: Isa,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: *const T,
    pub(super) b: *const T,
    pub(super) trans_b: bool,
    pub(super) c: *mut T,
}

// SAFETY: `a` and `b` point to shared slices, and tasks write disjoint parts of `c`.
unsafe impl<T: Sync + Send> Sync for Few<T> {}

impl<T: Float> Few<T> {
    /// Computes the product.
    pub(super) fn run(&self) {
        let Geometry { lanes, .. } = Geometry::of::<T>(self.isa);
        let step = if self.trans_b { lanes } else { (RUNNING / self.m).next_multiple_of(lanes) };
        let sums = if self.trans_b { 0 } else { 2 * self.m * step };
        // Several steps per task if they are short, so that a task takes longer than starting it.
        let steps = self.n.div_ceil(step);
        let together = ((1 << 16) / (step * self.k * self.m).max(1)).clamp(1, steps.max(1));
        run_tasks(
            steps.div_ceil(together),
            || Scratch::<T>::new(sums),
            |scratch, task| {
                let sums = SharedPointer(scratch.pointer());
                for first in (task * together..steps.min((task + 1) * together)).map(|at| at * step) {
                    let (few, count) = (self, step.min(self.n - first));
                    if self.trans_b {
                        T::dispatch(self.isa, Tall { few, first, count });
                    } else {
                        T::dispatch(self.isa, Wide { few, first, count, step, sums: sums.get() });
                    }
                }
            },
        );
    }
}

/// Computes `count` columns of the result, from `first` on, for a matrix stored as \[k, n\].
struct Wide<'a, T> {
    few: &'a Few<T>,
    first: usize,
    count: usize,
    /// Elements from one row of sums to the next.
    step: usize,
    /// Room for the sums of one chain and, behind them, for those of all chains.
    sums: *mut T,
}

impl<T: Float> Kernel<T> for Wide<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Wide { few, first, count, step, sums: chain } = self;
        let &Few { m, n, k, a, b, c, .. } = few;
        let total = chain.wrapping_add(m * step);
        // SAFETY: masks keep reads and writes within `n` columns; the scratch has room for whole vectors; no other task
        // writes these columns of `c`.
        unsafe {
            for start in (0..k.max(1)).step_by(K_BLOCK) {
                let end = k.min(start + K_BLOCK);
                chain.write_bytes(0, m * step);
                let mut at = start;
                while at < end {
                    let rows = b.wrapping_add(at * n + first);
                    let x = a.wrapping_add(at);
                    if at + TOGETHER <= end {
                        add_rows::<S, TOGETHER>(rows, n, count, x, k, m, chain, step);
                        at += TOGETHER;
                    } else {
                        add_rows::<S, 1>(rows, n, count, x, k, m, chain, step);
                        at += 1;
                    }
                }
                for at in (0..m * step).step_by(S::LANES) {
                    let sum = S::load(chain.add(at));
                    let sum = if start > 0 { S::add(S::load(total.add(at)), sum) } else { sum };
                    S::store(total.add(at), sum);
                }
            }
            for row in 0..m {
                for at in (0..count).step_by(S::LANES) {
                    let mask = low_mask(S::LANES.min(count - at));
                    let to = c.wrapping_add(row * n + first + at);
                    S::store_masked(to, mask, S::load(total.add(row * step + at)));
                }
            }
        }
    }
}

/// Adds `K` rows of the matrix, each multiplied by its factor, to the sums of `m` rows.
///
/// # Safety
/// `matrix` has `K` rows of `count` elements, `n` apart; `x` has `K` factors for each of `m` rows, `k` apart; `sums`
/// has `m` rows of whole vectors, `step` apart.
#[inline(always)]
unsafe fn add_rows<S: Simd, const K: usize>(
    matrix: *const S::T,
    n: usize,
    count: usize,
    x: *const S::T,
    k: usize,
    m: usize,
    sums: *mut S::T,
    step: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        for at in (0..count).step_by(S::LANES) {
            let mask = low_mask(S::LANES.min(count - at));
            let mut w = [S::zero(); K];
            for (i, w) in w.iter_mut().enumerate() {
                let from = matrix.wrapping_add(i * n + at);
                S::prefetch(from.wrapping_add(AHEAD));
                *w = S::merge(S::zero(), from, mask);
            }
            for row in 0..m {
                let place = sums.add(row * step + at);
                let mut sum = S::load(place);
                for (i, &w) in w.iter().enumerate() {
                    sum = S::fma(S::splat(*x.add(row * k + i)), w, sum);
                }
                S::store(place, sum);
            }
        }
    }
}

/// Computes `count` ≤ `LANES` columns of the result, from `first` on, for a matrix stored as \[n, k\].
struct Tall<'a, T> {
    few: &'a Few<T>,
    first: usize,
    count: usize,
}

impl<T: Float> Kernel<T> for Tall<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: the contract of `Few`; `M` is at least the number of rows.
        unsafe {
            match (S::LANES, self.few.m) {
                (16, 1) => columns::<S, 16, 1>(&self),
                (16, 2) => columns::<S, 16, 2>(&self),
                (16, 3 | 4) => columns::<S, 16, 4>(&self),
                (16, _) => columns::<S, 16, FEW>(&self),
                (8, 1) => columns::<S, 8, 1>(&self),
                (8, 2..=4) => columns::<S, 8, 4>(&self),
                (8, _) => columns::<S, 8, FEW>(&self),
                (4, 1) => columns::<S, 4, 1>(&self),
                (4, _) => columns::<S, 4, FEW>(&self),
                (_, 1) => columns::<S, 2, 1>(&self),
                _ => columns::<S, 2, FEW>(&self),
            }
        }
    }
}

/// Computes up to `L` = `LANES` columns for at most `M` rows. Vectors are read along k, and `L` of them are transposed,
/// so that each lane is a column of the result.
///
/// # Safety
/// No other task writes these columns of `c`; `m` ≤ `M`, `count` ≤ `L`.
#[inline(always)]
unsafe fn columns<S: Simd, const L: usize, const M: usize>(tall: &Tall<'_, S::T>) {
    let &Few { m, n, k, a, b, c, .. } = tall.few;
    let from = b.wrapping_add(tall.first * k);
    // SAFETY: masks and counts keep reads within the operands.
    unsafe {
        let mut total = [S::zero(); M];
        for start in (0..k).step_by(K_BLOCK) {
            let end = k.min(start + K_BLOCK);
            let mut chain = [S::zero(); M];
            for at in (start..end).step_by(L) {
                let mask = low_mask(L.min(end - at));
                let mut turned = [S::zero(); L];
                for (l, row) in turned.iter_mut().enumerate() {
                    if l < tall.count {
                        let from = from.wrapping_add(l * k + at);
                        S::prefetch(from.wrapping_add(AHEAD));
                        *row = S::merge(S::zero(), from, mask);
                    }
                }
                let turned = transpose::<S, L>(turned);
                let a = a.wrapping_add(at);
                if end - at >= L {
                    // The loop has a constant length, so that it is unrolled and the columns stay in registers.
                    for (i, &column) in turned.iter().enumerate() {
                        add_column::<S, M>(&mut chain, column, a.wrapping_add(i), k, m);
                    }
                } else {
                    for (i, &column) in turned.iter().enumerate().take(end - at) {
                        add_column::<S, M>(&mut chain, column, a.wrapping_add(i), k, m);
                    }
                }
            }
            for (total, chain) in total.iter_mut().zip(chain) {
                *total = if start > 0 { S::add(*total, chain) } else { chain };
            }
        }
        for (row, total) in total.into_iter().enumerate().take(m) {
            S::store_masked(c.wrapping_add(row * n + tall.first), low_mask(tall.count), total);
        }
    }
}

/// Adds a column, multiplied by each row's factor, to the chains of `m` ≤ `M` rows; chains beyond `m` repeat the last
/// row and are not used.
///
/// # Safety
/// `x` has a factor for each row, `k` apart.
#[inline(always)]
unsafe fn add_column<S: Simd, const M: usize>(
    chain: &mut [S::V; M],
    column: S::V,
    x: *const S::T,
    k: usize,
    m: usize,
) {
    for (row, chain) in chain.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        *chain = unsafe { S::fma(S::splat(*x.wrapping_add(row.min(m - 1) * k)), column, *chain) };
    }
}
