//! Poolings on blocked tensors.

use super::epilogue::same_tensor;
use super::layout::{BLOCK, BlockedShape};
use crate::error::{KernelError, Result, check_len};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::pool::{Window, Windows};
use crate::shape::PoolShape;
use crate::simd::{Isa, Kernel, Simd};

/// Number of elements of the winners of a maximum pooling: `[N][C/16][H'][W'][16]`, without a border.
pub fn winners_len(shape: &PoolShape) -> usize {
    shape
        .batch
        .saturating_mul(shape.channels.div_ceil(BLOCK))
        .saturating_mul(shape.output[0].saturating_mul(shape.output[1]))
        .saturating_mul(BLOCK)
}

/// y\[p\] = max over the window of p; `winners[p]` is the tap that won, as row · width + column of the window
/// ([`winners_len`] of them).
///
/// Padding never wins. Of equal values the first in row-major order wins, and a `NaN` wins over everything
/// (the last one of the window), as in `PyTorch` and [`crate::max_pool2d`]. Writes the border of `y` too.
///
/// # Errors
/// [`KernelError::Shape`] when a tensor's shape is not that of `shape`, the window has more than 256 taps, or
/// a window lies in the padding altogether; [`KernelError::Length`] when a slice does not have the length of
/// its shape.
pub fn max_pool(
    shape: &PoolShape,
    x_shape: &BlockedShape,
    x: &[f32],
    y_shape: &BlockedShape,
    y: &mut [f32],
    winners: &mut [u8],
) -> Result<()> {
    const KERNEL: &str = "blocked max_pool";
    check(KERNEL, shape, ("x", x_shape, x), ("y", y_shape, y))?;
    check_len(KERNEL, "winners", winners_len(shape), winners.len())?;
    check_taps(KERNEL, shape)?;
    let windows = Windows::new(shape);
    if let Some(axis) = windows.first_empty() {
        return Err(KernelError::Shape {
            what: KERNEL,
            problem: format!("{axis}: a window lies in the padding altogether and has no maximum"),
        });
    }
    let (y, winners) = (SharedMut::new(y), SharedMut::new(winners));
    let out = shape.output[0] * shape.output[1] * BLOCK;
    for_planes(x_shape, |isa, plane, _| {
        let x = &x[plane * x_shape.plane()..][..x_shape.plane()];
        // SAFETY: each plane belongs to one task.
        let (y, winners) =
            unsafe { (y.range(plane * y_shape.plane(), y_shape.plane()), winners.range(plane * out, out)) };
        f32::dispatch(isa, MaxPlane { shape, windows: &windows, x_shape, x, y_shape, y, winners });
    });
    Ok(())
}

/// dx\[i\] = mask · Σ dy\[p\] over the windows p that i has won. `dx` is overwritten, border included.
///
/// `mask` holds the bits of an activation before the pooling (see [`super::BlockedEpilogue::mask`]).
///
/// # Errors
/// As [`max_pool`]; [`KernelError::Index`] when a winner is no tap of the window, or lies in the padding.
pub fn max_pool_input_grad(
    shape: &PoolShape,
    dy_shape: &BlockedShape,
    dy: &[f32],
    winners: &[u8],
    mask: Option<&[u16]>,
    dx_shape: &BlockedShape,
    dx: &mut [f32],
) -> Result<()> {
    const KERNEL: &str = "blocked max_pool_input_grad";
    check(KERNEL, shape, ("dx", dx_shape, dx), ("dy", dy_shape, dy))?;
    check_len(KERNEL, "winners", winners_len(shape), winners.len())?;
    check_taps(KERNEL, shape)?;
    let taps = shape.kernel[0] * shape.kernel[1];
    if let Some(&tap) = winners.iter().find(|&&tap| usize::from(tap) >= taps) {
        return Err(KernelError::Index {
            kernel: KERNEL,
            argument: "winners",
            found: tap.into(),
            limit: taps,
        });
    }
    if let Some(mask) = mask {
        check_len(KERNEL, "mask", dx_shape.mask_len(), mask.len())?;
    }
    let windows = Windows::new(shape);
    let out = shape.output[0] * shape.output[1] * BLOCK;
    let dx = SharedMut::new(dx);
    for_planes(dx_shape, |isa, plane, _| {
        let winners = &winners[plane * out..][..out];
        let dy = &dy[plane * dy_shape.plane()..][..dy_shape.plane()];
        // SAFETY: each plane belongs to one task.
        let dx = unsafe { dx.range(plane * dx_shape.plane(), dx_shape.plane()) };
        let mask = mask.map(|mask| &mask[plane * dx_shape.pixels()..][..dx_shape.pixels()]);
        f32::dispatch(isa, MaxGrad { shape, windows: &windows, dy_shape, dy, winners, mask, dx_shape, dx });
    });
    Ok(())
}

/// y\[p\] = Σ over the window of p / divisor; divisors as in [`crate::avg_pool2d`]. Writes the border too.
///
/// A window as large as the plane is global average pooling.
///
/// # Errors
/// [`KernelError::Shape`] when a tensor's shape is not that of `shape`; [`KernelError::Length`] when a slice
/// does not have the length of its shape.
pub fn avg_pool(
    shape: &PoolShape,
    count_include_pad: bool,
    x_shape: &BlockedShape,
    x: &[f32],
    y_shape: &BlockedShape,
    y: &mut [f32],
) -> Result<()> {
    check("blocked avg_pool", shape, ("x", x_shape, x), ("y", y_shape, y))?;
    let windows = Windows::new(shape);
    let y = SharedMut::new(y);
    for_planes(x_shape, |isa, plane, _| {
        let x = &x[plane * x_shape.plane()..][..x_shape.plane()];
        // SAFETY: each plane belongs to one task.
        let y = unsafe { y.range(plane * y_shape.plane(), y_shape.plane()) };
        f32::dispatch(isa, Average { shape, windows: &windows, count_include_pad, x_shape, x, y_shape, y });
    });
    Ok(())
}

/// dx\[i\] = mask · Σ dy\[p\] / divisor\[p\] over the windows p that contain i. `dx` is overwritten, border
/// included; `mask` as in [`max_pool_input_grad`].
///
/// # Errors
/// As [`avg_pool`].
pub fn avg_pool_input_grad(
    shape: &PoolShape,
    count_include_pad: bool,
    dy_shape: &BlockedShape,
    dy: &[f32],
    mask: Option<&[u16]>,
    dx_shape: &BlockedShape,
    dx: &mut [f32],
) -> Result<()> {
    const KERNEL: &str = "blocked avg_pool_input_grad";
    check(KERNEL, shape, ("dx", dx_shape, dx), ("dy", dy_shape, dy))?;
    if let Some(mask) = mask {
        check_len(KERNEL, "mask", dx_shape.mask_len(), mask.len())?;
    }
    let windows = Windows::new(shape);
    let dx = SharedMut::new(dx);
    for_planes(dx_shape, |isa, plane, _| {
        let dy = &dy[plane * dy_shape.plane()..][..dy_shape.plane()];
        // SAFETY: each plane belongs to one task.
        let dx = unsafe { dx.range(plane * dx_shape.plane(), dx_shape.plane()) };
        let mask = mask.map(|mask| &mask[plane * dx_shape.pixels()..][..dx_shape.pixels()]);
        f32::dispatch(
            isa,
            AverageGrad { shape, windows: &windows, count_include_pad, dy_shape, dy, mask, dx_shape, dx },
        );
    });
    Ok(())
}

/// Checks that `outer` and `inner` are the tensors of `shape`.
fn check(
    kernel: &'static str,
    shape: &PoolShape,
    outer: (&'static str, &BlockedShape, &[f32]),
    inner: (&'static str, &BlockedShape, &[f32]),
) -> Result<()> {
    for ((name, found, data), size) in [(outer, shape.input), (inner, shape.output)] {
        let wanted = BlockedShape { batch: shape.batch, channels: shape.channels, size, pad: [0, 0] };
        same_tensor(kernel, name, &wanted, found)?;
        check_len(kernel, name, found.len(), data.len())?;
    }
    Ok(())
}

fn check_taps(kernel: &'static str, shape: &PoolShape) -> Result<()> {
    let [height, width] = shape.kernel;
    if height.saturating_mul(width) > 256 {
        return Err(KernelError::Shape {
            what: kernel,
            problem: format!("the window has {height} × {width} taps, a byte tells 256 apart"),
        });
    }
    Ok(())
}

/// Calls `body(isa, plane, block)` for every block of every sample.
pub(super) fn for_planes(shape: &BlockedShape, body: impl Fn(Isa, usize, usize) + Sync) {
    let (isa, blocks) = (Isa::detect(), shape.blocks());
    run_tasks(shape.batch * blocks, || (), |(), plane| body(isa, plane, plane % blocks));
}

/// The pixels of a window along one axis: pairs of (index in the window, input position).
fn pixels(window: &Window, dilation: usize) -> impl Iterator<Item = (usize, usize)> + use<'_> {
    window.range.clone().step_by(dilation).enumerate().map(|(at, place)| (window.skipped + at, place))
}

struct MaxPlane<'a> {
    shape: &'a PoolShape,
    windows: &'a Windows,
    x_shape: &'a BlockedShape,
    x: &'a [f32],
    y_shape: &'a BlockedShape,
    y: &'a mut [f32],
    winners: &'a mut [u8],
}

impl Kernel<f32> for MaxPlane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, windows, x_shape, x, y_shape, y, winners } = self;
        let [dilation_h, dilation_w] = shape.dilation;
        // SAFETY: the plane is that long.
        unsafe { y_shape.clear_rows(y.as_mut_ptr(), 0, y_shape.size[0]) };
        let mut winners = winners.chunks_exact_mut(BLOCK);
        for (row, rows) in windows.rows.iter().enumerate() {
            for (column, columns) in windows.columns.iter().enumerate() {
                let at = y_shape.at(row, column);
                let (out, Some(won)) = (&mut y[at..][..BLOCK], winners.next()) else { return };
                let first = rows.skipped * shape.kernel[1] + columns.skipped;
                let mut lane = 0;
                while lane < BLOCK {
                    let mut places = [0_i32; BLOCK];
                    // SAFETY: slices hold whole vectors.
                    unsafe {
                        let mut best = S::splat(f32::NEG_INFINITY);
                        // While nothing is larger than −∞, the first pixel is the winner.
                        let mut place = S::splat(first as f32);
                        for (i, y) in pixels(rows, dilation_h) {
                            for (j, x_at) in pixels(columns, dilation_w) {
                                let from = &x[x_shape.at(y, x_at) + lane..][..S::LANES];
                                let tap = S::splat((i * shape.kernel[1] + j) as f32);
                                (best, place) = S::take_larger(best, place, S::load(from.as_ptr()), tap);
                            }
                        }
                        S::store(out[lane..].as_mut_ptr(), best);
                        S::store_i32(places.as_mut_ptr(), place);
                    }
                    for (won, place) in won[lane..lane + S::LANES].iter_mut().zip(places) {
                        *won = place as u8;
                    }
                    lane += S::LANES;
                }
            }
        }
    }
}

struct MaxGrad<'a> {
    shape: &'a PoolShape,
    windows: &'a Windows,
    dy_shape: &'a BlockedShape,
    dy: &'a [f32],
    winners: &'a [u8],
    mask: Option<&'a [u16]>,
    dx_shape: &'a BlockedShape,
    dx: &'a mut [f32],
}

impl Kernel<f32> for MaxGrad<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, windows, dy_shape, dy, winners, mask, dx_shape, dx } = self;
        let [dilation_h, dilation_w] = shape.dilation;
        dx.fill(0.0);
        let mut winners = winners.chunks_exact(BLOCK);
        for (row, rows) in windows.rows.iter().enumerate() {
            for (column, columns) in windows.columns.iter().enumerate() {
                let from = &dy[dy_shape.at(row, column)..][..BLOCK];
                let Some(won) = winners.next() else { return };
                for (i, y) in pixels(rows, dilation_h) {
                    for (j, x) in pixels(columns, dilation_w) {
                        let tap = (i * shape.kernel[1] + j) as u8;
                        let to = &mut dx[dx_shape.at(y, x)..][..BLOCK];
                        // Compares become a mask, additions stay vectors.
                        for ((to, &from), &won) in to.iter_mut().zip(from).zip(won) {
                            *to += if won == tap { from } else { 0.0 };
                        }
                    }
                }
            }
        }
        if let Some(mask) = mask {
            apply_mask::<S>(dx_shape, mask, dx);
        }
    }
}

/// Zeros the values of a plane whose bits are not set.
#[inline(always)]
fn apply_mask<S: Simd<T = f32>>(shape: &BlockedShape, mask: &[u16], plane: &mut [f32]) {
    let [height, width] = shape.size;
    for (at, &bits) in mask.iter().enumerate().take(height * width) {
        let pixel = &mut plane[shape.at(at / width, at % width)..][..BLOCK];
        for (part, lanes) in pixel.chunks_exact_mut(S::LANES).enumerate() {
            // SAFETY: chunks are whole vectors, and the caller runs on a processor with `S`.
            unsafe {
                let kept = S::keep(u32::from(bits) >> (part * S::LANES), S::load(lanes.as_ptr()));
                S::store(lanes.as_mut_ptr(), kept);
            }
        }
    }
}

struct Average<'a> {
    shape: &'a PoolShape,
    windows: &'a Windows,
    count_include_pad: bool,
    x_shape: &'a BlockedShape,
    x: &'a [f32],
    y_shape: &'a BlockedShape,
    y: &'a mut [f32],
}

impl Kernel<f32> for Average<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, windows, count_include_pad, x_shape, x, y_shape, y } = self;
        let [dilation_h, dilation_w] = shape.dilation;
        // SAFETY: the plane is that long.
        unsafe { y_shape.clear_rows(y.as_mut_ptr(), 0, y_shape.size[0]) };
        for (row, rows) in windows.rows.iter().enumerate() {
            for (column, columns) in windows.columns.iter().enumerate() {
                let share: f32 = rows.reciprocal(columns, count_include_pad);
                let out = &mut y[y_shape.at(row, column)..][..BLOCK];
                let mut sums = [0.0_f32; BLOCK];
                for (_, y) in pixels(rows, dilation_h) {
                    for (_, x_at) in pixels(columns, dilation_w) {
                        let from = &x[x_shape.at(y, x_at)..][..BLOCK];
                        sums.iter_mut().zip(from).for_each(|(sum, &value)| *sum += value);
                    }
                }
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * share);
            }
        }
    }
}

struct AverageGrad<'a> {
    shape: &'a PoolShape,
    windows: &'a Windows,
    count_include_pad: bool,
    dy_shape: &'a BlockedShape,
    dy: &'a [f32],
    mask: Option<&'a [u16]>,
    dx_shape: &'a BlockedShape,
    dx: &'a mut [f32],
}

impl Kernel<f32> for AverageGrad<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { shape, windows, count_include_pad, dy_shape, dy, mask, dx_shape, dx } = self;
        let [dilation_h, dilation_w] = shape.dilation;
        dx.fill(0.0);
        for (row, rows) in windows.rows.iter().enumerate() {
            for (column, columns) in windows.columns.iter().enumerate() {
                let share: f32 = rows.reciprocal(columns, count_include_pad);
                let from = &dy[dy_shape.at(row, column)..][..BLOCK];
                for (_, y) in pixels(rows, dilation_h) {
                    for (_, x) in pixels(columns, dilation_w) {
                        let to = &mut dx[dx_shape.at(y, x)..][..BLOCK];
                        to.iter_mut().zip(from).for_each(|(to, &value)| *to += value * share);
                    }
                }
            }
        }
        if let Some(mask) = mask {
            apply_mask::<S>(dx_shape, mask, dx);
        }
    }
}
