//! The transforms of Winograd convolution, along one axis and along both.

// Loops over indices instead of iterators, so that they are unrolled and the values stay in registers.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::super::layout::{BLOCK, BlockedShape};
use super::filters::Raw;
use crate::simd::{Kernel, Simd, columns};

/// x − y.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn sub<S: Simd<T = f32>>(x: S::V, y: S::V) -> S::V {
    // SAFETY: the caller's contract. The product −y is exact, so that only the difference is rounded.
    unsafe { S::fma(S::splat(-1.0), y, x) }
}

/// x + a · y.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn axpy<S: Simd<T = f32>>(x: S::V, a: f32, y: S::V) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { S::fma(S::splat(a), y, x) }
}

/// a · x.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn scale<S: Simd<T = f32>>(a: f32, x: S::V) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { S::fma(S::splat(a), x, S::zero()) }
}

/// G g, for three kernel elements; N values.
///
/// # Safety
/// The processor has the instructions of `S`; N is 4 or 6.
#[inline(always)]
unsafe fn filter<S: Simd<T = f32>, const N: usize>([a, b, c]: [S::V; 3]) -> [S::V; N] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut t = [S::zero(); N];
        let outer = S::add(a, c);
        if N == 4 {
            let (outer, inner) = (scale::<S>(0.5, outer), scale::<S>(0.5, b));
            t[0] = a;
            t[1] = S::add(outer, inner);
            t[2] = sub::<S>(outer, inner);
        } else {
            t[0] = scale::<S>(0.25, a);
            t[1] = scale::<S>(-1.0 / 6.0, S::add(outer, b));
            t[2] = scale::<S>(-1.0 / 6.0, sub::<S>(outer, b));
            let (even, odd) = (axpy::<S>(scale::<S>(1.0 / 24.0, a), 1.0 / 6.0, c), scale::<S>(1.0 / 12.0, b));
            t[3] = S::add(even, odd);
            t[4] = sub::<S>(even, odd);
        }
        t[N - 1] = c;
        t
    }
}

/// Bᵀ d, for N source pixels.
///
/// # Safety
/// The processor has the instructions of `S`; N is 4 or 6.
#[inline(always)]
unsafe fn input<S: Simd<T = f32>, const N: usize>(d: [S::V; N]) -> [S::V; N] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut t = [S::zero(); N];
        if N == 4 {
            t[0] = sub::<S>(d[0], d[2]);
            t[1] = S::add(d[1], d[2]);
            t[2] = sub::<S>(d[2], d[1]);
            t[3] = sub::<S>(d[1], d[3]);
        } else {
            t[0] = axpy::<S>(axpy::<S>(d[4], -5.0, d[2]), 4.0, d[0]);
            let (even, odd) = (axpy::<S>(d[4], -4.0, d[2]), axpy::<S>(d[3], -4.0, d[1]));
            t[1] = S::add(even, odd);
            t[2] = sub::<S>(even, odd);
            let (even, odd) = (sub::<S>(d[4], d[2]), sub::<S>(d[3], d[1]));
            t[3] = axpy::<S>(even, 2.0, odd);
            t[4] = axpy::<S>(even, -2.0, odd);
            t[5] = axpy::<S>(axpy::<S>(d[5], -5.0, d[3]), 4.0, d[1]);
        }
        t
    }
}

/// Aᵀ m, for N points; the first N − 2 values are the result.
///
/// # Safety
/// The processor has the instructions of `S`; N is 4 or 6.
#[inline(always)]
unsafe fn output<S: Simd<T = f32>, const N: usize>(m: [S::V; N]) -> [S::V; N] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut y = [S::zero(); N];
        let (sum, difference) = (S::add(m[1], m[2]), sub::<S>(m[1], m[2]));
        if N == 4 {
            y[0] = S::add(m[0], sum);
            y[1] = sub::<S>(difference, m[3]);
        } else {
            let (sum2, difference2) = (S::add(m[3], m[4]), sub::<S>(m[3], m[4]));
            y[0] = S::add(S::add(m[0], sum), sum2);
            y[1] = axpy::<S>(difference, 2.0, difference2);
            y[2] = axpy::<S>(sum, 4.0, sum2);
            y[3] = S::add(axpy::<S>(difference, 8.0, difference2), m[5]);
        }
        y
    }
}

/// Computes Bᵀ d B for rows of tiles of one source block.
pub(super) struct InputTransform<'a> {
    /// M, the number of destination pixels of a tile along each axis.
    pub(super) outputs: usize,
    /// Position of a tile's first source pixel, relative to its first destination pixel.
    pub(super) origin: [isize; 2],
    pub(super) shape: &'a BlockedShape,
    pub(super) plane: &'a [f32],
    /// The rows of tiles.
    pub(super) rows: Range<usize>,
    /// Tiles per row.
    pub(super) columns: usize,
    /// Where to write `[tile][16]` for each point, with room for all tiles.
    pub(super) out: *mut f32,
    /// Floats from one point to the next.
    pub(super) point_step: usize,
}

impl Kernel<f32> for InputTransform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        // SAFETY: the caller's contract.
        unsafe {
            if self.outputs == 2 {
                self.tiles::<S, 4>();
            } else {
                self.tiles::<S, 6>();
            }
        }
    }
}

impl InputTransform<'_> {
    #[inline(always)]
    unsafe fn tiles<S: Simd<T = f32>, const N: usize>(&self) {
        let shape = self.shape;
        let pitch = shape.pitch();
        // Pixels of the padded plane.
        let [height, width] = [0, 1].map(|axis| (shape.size[axis] + 2 * shape.pad[axis]) as isize);
        let mut index = 0;
        for row in self.rows.clone() {
            let top = (row * self.outputs) as isize + self.origin[0] + shape.pad[0] as isize;
            for column in 0..self.columns {
                let left = (column * self.outputs) as isize + self.origin[1] + shape.pad[1] as isize;
                let inside =
                    top >= 0 && left >= 0 && top + N as isize <= height && left + N as isize <= width;
                let mut lane = 0;
                while lane < BLOCK {
                    // SAFETY: pixels within the padded plane are read, the others are zeros; `out` has room
                    // for all tiles.
                    unsafe {
                        let mut t = [[S::zero(); N]; N];
                        for j in 0..N {
                            let mut d = [S::zero(); N];
                            for i in 0..N {
                                let (y, x) = (top + i as isize, left + j as isize);
                                if inside || (0..height).contains(&y) && (0..width).contains(&x) {
                                    let at = y as usize * pitch + x as usize * BLOCK + lane;
                                    d[i] = S::load(self.plane.as_ptr().add(at));
                                }
                            }
                            let column = input::<S, N>(d);
                            for i in 0..N {
                                t[i][j] = column[i];
                            }
                        }
                        for i in 0..N {
                            let points = input::<S, N>(t[i]);
                            for j in 0..N {
                                let at = (i * N + j) * self.point_step + index * BLOCK + lane;
                                S::store(self.out.add(at), points[j]);
                            }
                        }
                    }
                    lane += S::LANES;
                }
                index += 1;
            }
        }
    }
}

/// Computes Aᵀ m A for one row of tiles of one destination block.
pub(super) struct OutputTransform {
    /// M, the number of destination pixels of a tile along each axis.
    pub(super) outputs: usize,
    /// Tiles per row.
    pub(super) columns: usize,
    /// The sums m, `[tile][16]` for each point.
    pub(super) sums: *const f32,
    /// Floats from one point to the next.
    pub(super) point_step: usize,
    /// Where to write `[row][pixel][16]`: `outputs` rows of `outputs` · `columns` pixels.
    pub(super) out: *mut f32,
}

impl Kernel<f32> for OutputTransform {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        // SAFETY: the caller's contract.
        unsafe {
            if self.outputs == 2 {
                self.tiles::<S, 4>();
            } else {
                self.tiles::<S, 6>();
            }
        }
    }
}

impl OutputTransform {
    #[inline(always)]
    unsafe fn tiles<S: Simd<T = f32>, const N: usize>(&self) {
        for column in 0..self.columns {
            let mut lane = 0;
            while lane < BLOCK {
                // SAFETY: the caller provides sums and room for a row of tiles.
                unsafe {
                    let mut t = [[S::zero(); N]; N];
                    for j in 0..N {
                        let mut m = [S::zero(); N];
                        for i in 0..N {
                            let at = (i * N + j) * self.point_step + column * BLOCK + lane;
                            m[i] = S::load(self.sums.add(at));
                        }
                        let column = output::<S, N>(m);
                        for i in 0..N - 2 {
                            t[i][j] = column[i];
                        }
                    }
                    for i in 0..N - 2 {
                        let y = output::<S, N>(t[i]);
                        for j in 0..N - 2 {
                            let pixel = (i * self.columns + column) * (N - 2) + j;
                            S::store(self.out.add(pixel * BLOCK + lane), y[j]);
                        }
                    }
                }
                lane += S::LANES;
            }
        }
    }
}

/// Computes G g Gᵀ for the filters of some destination channels.
#[derive(Clone, Copy)]
pub(super) struct FilterTransform<'a> {
    /// M, the number of destination pixels of a tile along each axis.
    pub(super) outputs: usize,
    pub(super) weight: Raw<'a>,
    /// Whether it is an input gradient: destination channels are then input channels, and filters are rotated by 180°.
    pub(super) gradient: bool,
    /// Number of destination and source channels of the convolution.
    pub(super) channels: [usize; 2],
    /// The first of these destination channels.
    pub(super) first: usize,
    /// Number of these destination channels, a multiple of [`BLOCK`]. Filters of channels that do not exist are zero.
    pub(super) lanes: usize,
    /// Where to write `[point][source channel][lane]`.
    pub(super) out: *mut f32,
}

impl Kernel<f32> for FilterTransform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        // SAFETY: the caller's contract.
        unsafe {
            if self.outputs == 2 {
                self.filters::<S, 4>();
            } else {
                self.filters::<S, 6>();
            }
        }
    }
}

impl FilterTransform<'_> {
    #[inline(always)]
    unsafe fn filters<S: Simd<T = f32>, const N: usize>(&self) {
        const TAPS: usize = 9;
        let [rows, channels] = self.channels;
        let (values, [low, high]) = (self.weight.values.as_ptr(), self.weight.bounds);
        // The kernel elements of some source channels, `[channel][tap][lane]`.
        let mut taps = [0.0_f32; BLOCK * TAPS * BLOCK];
        for lane in (0..self.lanes).step_by(S::LANES) {
            let row = (self.first + lane).min(rows);
            let count = S::LANES.min(rows - row);
            for start in (0..channels).step_by(BLOCK) {
                let together = BLOCK.min(channels - start);
                // SAFETY: the filters of `count` destination channels lie within the weights, and masks keep reads
                // within them. `taps` has room for a block of source channels, `out` for all of them.
                unsafe {
                    if self.gradient {
                        for channel in 0..together {
                            let from = values.wrapping_add(((start + channel) * rows + row) * TAPS);
                            let out = taps.as_mut_ptr().add(channel * TAPS * S::LANES);
                            columns::<S>(TAPS, from, count, TAPS, out, 1);
                        }
                    } else {
                        let from = values.wrapping_add((row * channels + start) * TAPS);
                        columns::<S>(channels * TAPS, from, count, together * TAPS, taps.as_mut_ptr(), 1);
                    }
                    for channel in 0..together {
                        let tap = |at: usize| {
                            let at = if self.gradient { TAPS - 1 - at } else { at };
                            let tap = S::load(taps.as_ptr().add((channel * TAPS + at) * S::LANES));
                            // The order of the operands keeps NaN.
                            S::min(S::splat(high), S::max(S::splat(low), tap))
                        };
                        let mut t = [[S::zero(); 3]; N];
                        for j in 0..3 {
                            let column = filter::<S, N>([tap(j), tap(3 + j), tap(6 + j)]);
                            for i in 0..N {
                                t[i][j] = column[i];
                            }
                        }
                        let out = self.out.add((start + channel) * self.lanes + lane);
                        for i in 0..N {
                            let points = filter::<S, N>(t[i]);
                            for j in 0..N {
                                S::store(out.add((i * N + j) * channels * self.lanes), points[j]);
                            }
                        }
                    }
                }
            }
        }
    }
}
