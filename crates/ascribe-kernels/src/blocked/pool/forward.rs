//! Forward pooling, one window after the other.

use std::ops::Range;

use crate::blocked::layout::{BLOCK, BlockedShape};
use crate::pool::Windows;
use crate::shape::PoolShape;
use crate::simd::{Kernel, Simd};

/// How the pixels of a window are reduced to one value. The state during the reduction is two vectors.
pub(super) trait Reduce {
    /// The state before the first pixel of the window, whose tap is given as (row, column).
    ///
    /// # Safety
    /// The processor has the instructions of `S`; this also holds for the other functions.
    unsafe fn start<S: Simd<T = f32>>(&self, tap: (usize, usize)) -> [S::V; 2];

    /// The state after pixel x of tap `tap`.
    ///
    /// # Safety
    /// The tap is one of the window.
    unsafe fn take<S: Simd<T = f32>>(&self, state: [S::V; 2], tap: (usize, usize), x: S::V) -> [S::V; 2];

    /// The result for window number `at` of the plane, for the channels from `lane` on.
    ///
    /// # Safety
    /// The window exists, and no other task has it.
    unsafe fn finish<S: Simd<T = f32>>(&self, state: [S::V; 2], at: usize, lane: usize) -> S::V;
}

/// The maximum, and the tap where it was found.
pub(super) struct Maximum<'a> {
    /// The indices of the taps, as floats.
    pub(super) taps: &'a [f32],
    /// Number of taps in a row of the window.
    pub(super) width: usize,
    /// Where to write the indices of the winning taps, for the plane.
    pub(super) winners: *mut u8,
}

impl Reduce for Maximum<'_> {
    #[inline(always)]
    unsafe fn start<S: Simd<T = f32>>(&self, (row, column): (usize, usize)) -> [S::V; 2] {
        // If no pixel is larger than −∞, the first pixel of the window is the winner.
        // SAFETY: the caller's contract.
        unsafe { [S::splat(f32::NEG_INFINITY), S::splat(self.taps[row * self.width + column])] }
    }

    #[inline(always)]
    unsafe fn take<S: Simd<T = f32>>(
        &self,
        [best, place]: [S::V; 2],
        (row, column): (usize, usize),
        x: S::V,
    ) -> [S::V; 2] {
        let tap = row * self.width + column;
        debug_assert!(tap < self.taps.len());
        // SAFETY: the caller's contract.
        let (best, place) = unsafe { S::take_larger(best, place, x, S::splat(*self.taps.as_ptr().add(tap))) };
        [best, place]
    }

    #[inline(always)]
    unsafe fn finish<S: Simd<T = f32>>(&self, [best, place]: [S::V; 2], at: usize, lane: usize) -> S::V {
        let mut places = [0_i32; BLOCK];
        // SAFETY: `places` has room for a vector; no other task has this window.
        let winners = unsafe {
            S::store_i32(places.as_mut_ptr(), place);
            std::slice::from_raw_parts_mut(self.winners.add(at * BLOCK + lane), S::LANES)
        };
        winners.iter_mut().zip(places).for_each(|(winner, place)| *winner = place as u8);
        best
    }
}

/// The average: the sum times 1 / divisor.
pub(super) struct Average<'a> {
    /// 1 / divisor of every window of a plane.
    pub(super) shares: &'a [f32],
}

impl Reduce for Average<'_> {
    #[inline(always)]
    unsafe fn start<S: Simd<T = f32>>(&self, _: (usize, usize)) -> [S::V; 2] {
        // SAFETY: the caller's contract.
        unsafe { [S::zero(), S::zero()] }
    }

    #[inline(always)]
    unsafe fn take<S: Simd<T = f32>>(&self, [sum, zero]: [S::V; 2], _: (usize, usize), x: S::V) -> [S::V; 2] {
        // SAFETY: the caller's contract.
        unsafe { [S::add(sum, x), zero] }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd<T = f32>>(&self, [sum, zero]: [S::V; 2], at: usize, _: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::fma(sum, S::splat(self.shares[at]), zero) }
    }
}

/// Some rows of a plane's output.
pub(super) struct Forward<'a, R> {
    pub(super) shape: &'a PoolShape,
    pub(super) windows: &'a Windows,
    pub(super) rows: Range<usize>,
    pub(super) x_shape: &'a BlockedShape,
    pub(super) x: &'a [f32],
    pub(super) y_shape: &'a BlockedShape,
    /// The plane to write. No other task writes these rows.
    pub(super) y: *mut f32,
    pub(super) window: R,
}

impl<R: Reduce> Kernel<f32> for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, windows, rows, x_shape, x, y_shape, y, window } = self;
        let [step_h, step_w] = [shape.dilation[0] * x_shape.pitch(), shape.dilation[1] * BLOCK];
        // SAFETY: windows lie within the input, there is one for each pixel of the output, and vectors lie within a
        // block.
        unsafe {
            y_shape.clear_rows(y, rows.start, rows.end);
            for row in rows {
                let high = &windows.rows[row];
                let line = x[x_shape.at(high.range.start, 0)..].as_ptr();
                let mut out = y.add(y_shape.at(row, 0));
                for (column, wide) in windows.columns.iter().enumerate() {
                    let at = row * windows.columns.len() + column;
                    let corner = line.wrapping_add(wide.range.start * BLOCK);
                    let mut lane = 0;
                    while lane < BLOCK {
                        let mut state = window.start::<S>((high.skipped, wide.skipped));
                        let mut from = corner.wrapping_add(lane);
                        for i in high.skipped..high.skipped + high.inside {
                            let mut take = |j: usize| {
                                let x = S::load(from.wrapping_add(j * step_w));
                                state = window.take::<S>(state, (i, wide.skipped + j), x);
                            };
                            // Separate loops for the usual numbers of columns, so that the compiler unrolls them.
                            match wide.inside {
                                2 => (0..2).for_each(&mut take),
                                3 => (0..3).for_each(&mut take),
                                inside => (0..inside).for_each(&mut take),
                            }
                            from = from.wrapping_add(step_h);
                        }
                        S::store(out.add(lane), window.finish::<S>(state, at, lane));
                        lane += S::LANES;
                    }
                    out = out.add(BLOCK);
                }
            }
        }
    }
}
