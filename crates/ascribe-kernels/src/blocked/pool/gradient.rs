//! Input gradients of poolings: each input pixel sums the shares of the gradient that it gets from the windows that
//! contain it.

use std::ops::Range;

use crate::blocked::layout::{BLOCK, BlockedShape};
use crate::pool::Window;
use crate::simd::{Kernel, Simd};

/// The windows that contain each input position along one axis, in ascending order.
pub(super) struct Cover {
    /// Pairs of a window and the index of the position within the window.
    all: Vec<(usize, usize)>,
    /// Index of the first pair of each position, and at the end the number of pairs.
    starts: Vec<usize>,
}

impl Cover {
    /// Computes it for `positions` input positions.
    pub(super) fn new(windows: &[Window], positions: usize, dilation: usize) -> Self {
        let mut of = vec![Vec::new(); positions];
        for (at, window) in windows.iter().enumerate() {
            for (index, position) in window.range.clone().step_by(dilation).enumerate() {
                of[position].push((at, window.skipped + index));
            }
        }
        let starts = std::iter::once(0).chain(of.iter().scan(0, |end, pairs| {
            *end += pairs.len();
            Some(*end)
        }));
        Self { starts: starts.collect(), all: of.concat() }
    }

    /// The pairs of a position.
    #[inline(always)]
    fn of(&self, position: usize) -> &[(usize, usize)] {
        &self.all[self.starts[position]..self.starts[position + 1]]
    }
}

/// Which part of its gradient a window passes on to one of its pixels.
pub(super) trait Part: Copy {
    /// The part of the gradient `dy` of window number `at` that its pixel number `tap` gets, for the channels from
    /// `lane` on.
    ///
    /// # Safety
    /// The window exists, and the lanes lie within a block; the processor has the instructions of `S`.
    unsafe fn part<S: Simd<T = f32>>(self, at: usize, tap: usize, lane: usize, dy: S::V) -> S::V;
}

/// Maximum pooling: the winning pixel gets everything.
#[derive(Clone, Copy)]
pub(super) struct Won<'a> {
    /// The winning taps of the plane's windows.
    pub(super) winners: &'a [u8],
}

impl Part for Won<'_> {
    #[inline(always)]
    unsafe fn part<S: Simd<T = f32>>(self, at: usize, tap: usize, lane: usize, dy: S::V) -> S::V {
        debug_assert!(at * BLOCK + lane + S::LANES <= self.winners.len());
        // SAFETY: the caller's contract.
        unsafe { S::keep_equal(self.winners.as_ptr().add(at * BLOCK + lane), tap as u8, dy) }
    }
}

/// Average pooling: every pixel gets the same.
#[derive(Clone, Copy)]
pub(super) struct Share<'a> {
    /// 1 / divisor of every window of a plane.
    pub(super) shares: &'a [f32],
}

impl Part for Share<'_> {
    #[inline(always)]
    unsafe fn part<S: Simd<T = f32>>(self, at: usize, _: usize, _: usize, dy: S::V) -> S::V {
        debug_assert!(at < self.shares.len());
        // SAFETY: the caller's contract. The product is rounded before it is added to others, so that the result is the
        // same with and without fused multiply-add.
        unsafe { S::fma(dy, S::splat(*self.shares.as_ptr().add(at)), S::zero()) }
    }
}

/// Some rows of a plane's input gradient.
pub(super) struct Gather<'a, P> {
    /// The windows that contain each row and each column.
    pub(super) cover: &'a [Cover; 2],
    pub(super) kernel_width: usize,
    pub(super) rows: Range<usize>,
    pub(super) part: P,
    pub(super) dy_shape: &'a BlockedShape,
    pub(super) dy: &'a [f32],
    pub(super) mask: Option<&'a [u16]>,
    pub(super) dx_shape: &'a BlockedShape,
    /// The plane to write. No other task writes these rows.
    pub(super) dx: *mut f32,
}

/// A row of windows that contain a row of pixels.
#[derive(Clone, Copy)]
struct Line {
    /// The gradients of the windows.
    dy: *const f32,
    /// Number of the first window.
    window: usize,
    /// Index within a window of the first pixel of the row of pixels.
    tap: usize,
}

impl<P: Part> Kernel<f32> for Gather<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        // SAFETY: the plane is that long, and no other task writes these rows.
        unsafe { self.dx_shape.clear_rows(self.dx, self.rows.start, self.rows.end) };
        let mut lines = Vec::new();
        for row in self.rows.clone() {
            lines.clear();
            lines.extend(self.cover[0].of(row).iter().map(|&(window, index)| Line {
                dy: self.dy[self.dy_shape.at(window, 0)..].as_ptr(),
                window: window * self.dy_shape.size[1],
                tap: index * self.kernel_width,
            }));
            // The usual numbers of lines are passed as arrays, so that the compiler knows them and unrolls the loops.
            // SAFETY: the caller's contract; lines are those of the row.
            unsafe {
                match lines[..] {
                    [] => self.row::<S, _>(row, []),
                    [line] => self.row::<S, _>(row, [line]),
                    [first, second] => self.row::<S, _>(row, [first, second]),
                    [first, second, third] => self.row::<S, _>(row, [first, second, third]),
                    _ => self.row::<S, _>(row, &lines[..]),
                }
            }
        }
    }
}

impl<P: Part> Gather<'_, P> {
    /// Computes a row of pixels; the sums go over the windows in row-major order.
    #[inline(always)]
    unsafe fn row<S: Simd<T = f32>, L: AsRef<[Line]>>(&self, row: usize, lines: L) {
        let width = self.dx_shape.size[1];
        let mask = self.mask.map(|mask| &mask[row * width..][..width]);
        // SAFETY: columns and windows lie within the planes `dx` and `dy`, and vectors lie within a block.
        unsafe {
            let out = self.dx.add(self.dx_shape.at(row, 0));
            for column in 0..width {
                let windows = self.cover[1].of(column);
                let kept = mask.map_or(u32::MAX, |mask| u32::from(mask[column]));
                let mut lane = 0;
                while lane < BLOCK {
                    let mut sum = S::zero();
                    for line in lines.as_ref() {
                        for &(window, index) in windows {
                            let dy = S::load(line.dy.add(window * BLOCK + lane));
                            let part = self.part.part::<S>(line.window + window, line.tap + index, lane, dy);
                            sum = S::add(sum, part);
                        }
                    }
                    S::store(out.add(column * BLOCK + lane), S::keep(kept >> lane, sum));
                    lane += S::LANES;
                }
            }
        }
    }
}
