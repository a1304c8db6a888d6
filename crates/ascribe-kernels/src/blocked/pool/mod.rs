//! Poolings on blocked tensors.

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
            problem: format!("{axis}: a window lies in the padding altogether and has no maximum"),
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

/// dx\[i\] = mask · Σ dy\[p\] over the windows p that i has won. `dx` is overwritten, border included.
///
/// `mask` holds the bits of an activation before the pooling (see [`super::BlockedEpilogue::mask`]). A winner
/// in the padding, which [`max_pool`] never writes, passes nothing on.
///
/// # Errors
/// As [`max_pool`]; [`KernelError::Index`] when a winner is no tap of the window.
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

/// Runs an input gradient; `part(plane)` tells what a window of the plane passes on.
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

/// The largest winner; 0 if there is none.
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

fn check_mask(kernel: &'static str, mask: Option<&[u16]>, shape: &BlockedShape) -> Result<()> {
    mask.map_or(Ok(()), |mask| check_len(kernel, "mask", shape.mask_len(), mask.len()))
}

/// Calls `body(plane, rows)` for all rows of all blocks of all samples of `to`, which come from as many of `from`.
fn for_rows(to: &BlockedShape, from: &BlockedShape, body: impl Fn(usize, Range<usize>) + Sync) {
    let height = to.size[0];
    let pixels = to.pixels().max(from.pixels()).max(1);
    let rows = (TASK * height).div_ceil(pixels).min(height);
    if rows == 0 {
        return;
    }
    let strips = height.div_ceil(rows);
    // Small planes go together.
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
