//! Maximum and average pooling on blocked tensors, with input gradients.

mod forward;
mod gradient;

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use self::forward::{Average, Forward, Maximum};
use self::gradient::{Cover, Gather, Share, Won};
use super::epilogue::same_tensor;
use super::layout::{BLOCK, BlockedShape};
use crate::error::{KernelError, Result, check_len};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::pool::Windows;
use crate::shape::PoolShape;
use crate::simd::Isa;

/// Pixels per task, about.
const TASK: usize = 1024;

/// Number of elements of the `winners` of a maximum pooling, `[N][C/16][H'][W'][16]`, without a border.
pub fn winners_len(shape: &PoolShape) -> usize {
    shape
        .batch
        .saturating_mul(shape.channels.div_ceil(BLOCK))
        .saturating_mul(shape.output[0].saturating_mul(shape.output[1]))
        .saturating_mul(BLOCK)
}

/// y\[p\] = maximum of window p; `winners[p]` is the pixel of the window where the maximum was found, as row · width +
/// column within the window ([`winners_len`] elements).
///
/// Padding is never the maximum. Of equal values the first in row-major order counts. If a window contains `NaN`, the
/// result is `NaN`, and the winner is the last `NaN`, as in `PyTorch` and [`crate::max_pool2d`]. Writes the border of
/// `y` too.
///
/// # Errors
/// [`KernelError::Shape`] when the shape of a tensor does not fit `shape`, the window has more than 256 pixels, or a
/// window lies entirely in the padding; [`KernelError::Length`] when a slice does not have the length of its shape.
pub fn max_pool(
    shape: &PoolShape,
    x_shape: &BlockedShape,
    x: &[f32],
    y_shape: &BlockedShape,
    y: &mut [f32],
    winners: &mut [u8],
) -> Result<()> {
    max_pool_with(Isa::detect(), shape, (x_shape, x), (y_shape, y), winners)
}

pub(super) fn max_pool_with(
    isa: Isa,
    shape: &PoolShape,
    (x_shape, x): (&BlockedShape, &[f32]),
    (y_shape, y): (&BlockedShape, &mut [f32]),
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
            problem: format!("{axis}: a window lies entirely in the padding, so it has no maximum"),
        });
    }
    let taps: Vec<_> = (0..shape.kernel[0] * shape.kernel[1]).map(|tap| tap as f32).collect();
    let (y, winners) = (SharedMut::new(y), SharedMut::new(winners));
    let out = shape.output[0] * shape.output[1] * BLOCK;
    for_rows(y_shape, x_shape, |plane, rows| {
        let x = &x[plane * x_shape.plane()..][..x_shape.plane()];
        // SAFETY: the slices are long enough; each row of each plane belongs to one task.
        let (y, winners) =
            unsafe { (y.pointer().add(plane * y_shape.plane()), winners.pointer().add(plane * out)) };
        let window = Maximum { taps: &taps, width: shape.kernel[1], winners };
        f32::dispatch(isa, Forward { shape, windows: &windows, rows, x_shape, x, y_shape, y, window });
    });
    Ok(())
}

/// dx\[i\] = mask\[i\] · Σ dy\[p\] over the windows p whose maximum is at i. `dx` is overwritten, border included.
///
/// `mask` holds the bits of an activation before the pooling (see [`super::BlockedEpilogue::mask`]). A winner that lies
/// in the padding, which [`max_pool`] never writes, is ignored.
///
/// # Errors
/// As [`max_pool`]; [`KernelError::Index`] when a winner is not a pixel of the window.
pub fn max_pool_input_grad(
    shape: &PoolShape,
    dy_shape: &BlockedShape,
    dy: &[f32],
    winners: &[u8],
    mask: Option<&[u16]>,
    dx_shape: &BlockedShape,
    dx: &mut [f32],
) -> Result<()> {
    max_pool_input_grad_with(Isa::detect(), shape, (dy_shape, dy), winners, mask, (dx_shape, dx))
}

pub(super) fn max_pool_input_grad_with(
    isa: Isa,
    shape: &PoolShape,
    dy: (&BlockedShape, &[f32]),
    winners: &[u8],
    mask: Option<&[u16]>,
    dx: (&BlockedShape, &mut [f32]),
) -> Result<()> {
    const KERNEL: &str = "blocked max_pool_input_grad";
    check(KERNEL, shape, ("dx", dx.0, dx.1), ("dy", dy.0, dy.1))?;
    check_len(KERNEL, "winners", winners_len(shape), winners.len())?;
    check_taps(KERNEL, shape)?;
    check_mask(KERNEL, mask, dx.0)?;
    let taps = shape.kernel[0] * shape.kernel[1];
    let last = last_winner(winners);
    if usize::from(last) >= taps {
        return Err(KernelError::Index {
            kernel: KERNEL,
            argument: "winners",
            found: last.into(),
            limit: taps,
        });
    }
    let out = shape.output[0] * shape.output[1] * BLOCK;
    let share = |plane: usize| Won { winners: &winners[plane * out..][..out] };
    gather(isa, shape, &Windows::new(shape), share, dy, mask, dx);
    Ok(())
}

/// y\[p\] = sum of window p / divisor, with divisors as in [`crate::avg_pool2d`]. Writes the border of `y` too.
///
/// With a window as large as the plane, this is global average pooling.
///
/// # Errors
/// [`KernelError::Shape`] when the shape of a tensor does not fit `shape`; [`KernelError::Length`] when a slice does
/// not have the length of its shape.
pub fn avg_pool(
    shape: &PoolShape,
    count_include_pad: bool,
    x_shape: &BlockedShape,
    x: &[f32],
    y_shape: &BlockedShape,
    y: &mut [f32],
) -> Result<()> {
    avg_pool_with(Isa::detect(), shape, count_include_pad, (x_shape, x), (y_shape, y))
}

pub(super) fn avg_pool_with(
    isa: Isa,
    shape: &PoolShape,
    count_include_pad: bool,
    (x_shape, x): (&BlockedShape, &[f32]),
    (y_shape, y): (&BlockedShape, &mut [f32]),
) -> Result<()> {
    check("blocked avg_pool", shape, ("x", x_shape, x), ("y", y_shape, y))?;
    let windows = Windows::new(shape);
    let shares = shares(&windows, count_include_pad);
    let y = SharedMut::new(y);
    for_rows(y_shape, x_shape, |plane, rows| {
        let x = &x[plane * x_shape.plane()..][..x_shape.plane()];
        // SAFETY: the slice is long enough; each row of each plane belongs to one task.
        let y = unsafe { y.pointer().add(plane * y_shape.plane()) };
        let window = Average { shares: &shares };
        f32::dispatch(isa, Forward { shape, windows: &windows, rows, x_shape, x, y_shape, y, window });
    });
    Ok(())
}

/// dx\[i\] = mask\[i\] · Σ dy\[p\] / divisor\[p\] over the windows p that contain i. `dx` is overwritten, border
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
    let isa = Isa::detect();
    avg_pool_input_grad_with(isa, shape, count_include_pad, (dy_shape, dy), mask, (dx_shape, dx))
}

pub(super) fn avg_pool_input_grad_with(
    isa: Isa,
    shape: &PoolShape,
    count_include_pad: bool,
    dy: (&BlockedShape, &[f32]),
    mask: Option<&[u16]>,
    dx: (&BlockedShape, &mut [f32]),
) -> Result<()> {
    const KERNEL: &str = "blocked avg_pool_input_grad";
    check(KERNEL, shape, ("dx", dx.0, dx.1), ("dy", dy.0, dy.1))?;
    check_mask(KERNEL, mask, dx.0)?;
    let windows = Windows::new(shape);
    let shares = shares(&windows, count_include_pad);
    gather(isa, shape, &windows, |_| Share { shares: &shares }, dy, mask, dx);
    Ok(())
}

/// Computes an input gradient; `part(plane)` says how the windows of a plane distribute their gradient.
fn gather<P: gradient::Part>(
    isa: Isa,
    shape: &PoolShape,
    windows: &Windows,
    part: impl Fn(usize) -> P + Sync,
    (dy_shape, dy): (&BlockedShape, &[f32]),
    mask: Option<&[u16]>,
    (dx_shape, dx): (&BlockedShape, &mut [f32]),
) {
    let cover = [
        Cover::new(&windows.rows, shape.input[0], shape.dilation[0]),
        Cover::new(&windows.columns, shape.input[1], shape.dilation[1]),
    ];
    let dx = SharedMut::new(dx);
    for_rows(dx_shape, dy_shape, |plane, rows| {
        let dy = &dy[plane * dy_shape.plane()..][..dy_shape.plane()];
        let mask = mask.map(|mask| &mask[plane * dx_shape.pixels()..][..dx_shape.pixels()]);
        // SAFETY: the slice is long enough; each row of each plane belongs to one task.
        let dx = unsafe { dx.pointer().add(plane * dx_shape.plane()) };
        let kernel_width = shape.kernel[1];
        f32::dispatch(
            isa,
            Gather { cover: &cover, kernel_width, rows, part: part(plane), dy_shape, dy, mask, dx_shape, dx },
        );
    });
}

/// 1 / divisor of every window of a plane.
fn shares(windows: &Windows, count_include_pad: bool) -> Vec<f32> {
    let pairs = windows.rows.iter().flat_map(|rows| windows.columns.iter().map(move |c| (rows, c)));
    pairs.map(|(rows, columns)| rows.reciprocal(columns, count_include_pad)).collect()
}

/// The largest winner; 0 if there are none.
fn last_winner(winners: &[u8]) -> u8 {
    const CHUNK: usize = 64 * 1024;
    let last = AtomicU8::new(0);
    run_tasks(
        winners.len().div_ceil(CHUNK),
        || (),
        |(), task| {
            let chunk = &winners[task * CHUNK..][..CHUNK.min(winners.len() - task * CHUNK)];
            last.fetch_max(chunk.iter().fold(0, |last, &tap| last.max(tap)), Ordering::Relaxed);
        },
    );
    last.into_inner()
}

/// Checks that `outer` has the shape of the pooling's input and `inner` that of its output.
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

/// Checks that the index of a tap fits a byte.
fn check_taps(kernel: &'static str, shape: &PoolShape) -> Result<()> {
    let [height, width] = shape.kernel;
    if height.saturating_mul(width) > 256 {
        return Err(KernelError::Shape {
            what: kernel,
            problem: format!(
                "the window has {height} × {width} taps; at most 256 are possible, since a tap's index is stored in a byte"
            ),
        });
    }
    Ok(())
}

fn check_mask(kernel: &'static str, mask: Option<&[u16]>, shape: &BlockedShape) -> Result<()> {
    mask.map_or(Ok(()), |mask| check_len(kernel, "mask", shape.mask_len(), mask.len()))
}

/// Runs `body(plane, rows)` in parallel for all rows of all planes of `to`, which are computed from the same planes of
/// `from`.
fn for_rows(to: &BlockedShape, from: &BlockedShape, body: impl Fn(usize, Range<usize>) + Sync) {
    let height = to.size[0];
    let pixels = to.pixels().max(from.pixels()).max(1);
    let rows = (TASK * height).div_ceil(pixels).min(height);
    if rows == 0 {
        return;
    }
    let strips = height.div_ceil(rows);
    // Several small planes share a task.
    let each = if strips == 1 { TASK.div_ceil(pixels) } else { 1 };
    let all = to.batch * to.blocks() * strips;
    run_tasks(
        all.div_ceil(each),
        || (),
        |(), task| {
            for strip in task * each..all.min((task + 1) * each) {
                let first = strip % strips * rows;
                body(strip / strips, first..height.min(first + rows));
            }
        },
    );
}
