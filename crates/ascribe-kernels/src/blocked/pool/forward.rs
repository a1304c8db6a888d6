//! Forward poolings, a window after the other.

use std::ops::Range;

use crate::blocked::layout::{BLOCK, BlockedShape};
use crate::pool::Windows;
use crate::shape::PoolShape;
use crate::simd::{Kernel, Simd};

/// What becomes of the pixels of a window.
pub(super) trait Reduce {
    /// Before the first pixel, given its tap as (row, column).
    ///
    /// # Safety
    /// The processor has `S`; also in the other functions.
    unsafe fn start<S: Simd<T = f32>>(&self, tap: (usize, usize)) -> [S::V; 2];

    /// Takes the pixel of a tap.
    ///
    /// # Safety
    /// The tap is one of the window.
    unsafe fn take<S: Simd<T = f32>>(&self, state: [S::V; 2], tap: (usize, usize), x: S::V) -> [S::V; 2];

    /// The result of the window `at` of the plane, in channels from `lane` on.
    ///
    /// # Safety
    /// There is such a window, and it is the caller's alone.
    unsafe fn finish<S: Simd<T = f32>>(&self, state: [S::V; 2], at: usize, lane: usize) -> S::V;
}

/// The maximum and its place.
pub(super) struct Maximum<'a> {
    /// The numbers of the taps.
    pub(super) taps: &'a [f32],
    /// Taps in a row of the window.
    pub(super) width: usize,
    /// Those of the plane.
    pub(super) winners: *mut u8,
}

impl Reduce for Maximum<'_> {
    #[inline(always)]
    unsafe fn start<S: Simd<T = f32>>(&self, (row, column): (usize, usize)) -> [S::V; 2] {
        // While nothing is larger than −∞, the first pixel is the winner.
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
        // SAFETY: `places` holds a vector; the window's winners are the caller's.
        let winners = unsafe {
            S::store_i32(places.as_mut_ptr(), place);
            std::slice::from_raw_parts_mut(self.winners.add(at * BLOCK + lane), S::LANES)
        };
        winners.iter_mut().zip(places).for_each(|(winner, place)| *winner = place as u8);
        best
    }
}

/// The sum times 1 / divisor.
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
    /// The plane; the rows are this kernel's alone.
    pub(super) y: *mut f32,
    pub(super) window: R,
}

impl<R: Reduce> Kernel<f32> for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, windows, rows, x_shape, x, y_shape, y, window } = self;
        let [step_h, step_w] = [shape.dilation[0] * x_shape.pitch(), shape.dilation[1] * BLOCK];
        // SAFETY: windows are within the input and those of the output's pixels; vectors are parts of a block.
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
                            // The usual numbers of columns are known to the loop.
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
