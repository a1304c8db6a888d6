//! Maximum and average pooling with their input gradients.

use std::ops::Range;

use crate::error::{KernelError, Result, check_len};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::shape::PoolShape;
use crate::simd::{Geometry, Isa, Kernel, MAX_LANES, Simd, low_mask};

/// y\[p\] = maximum of window p; `argmax[p]` is the position of the maximum, as row · W + column of the input plane.
///
/// Padding is never the maximum. Of equal values the first in row-major order counts. If a window contains `NaN`, the
/// result is `NaN`, and its position is that of the last `NaN`, as in `PyTorch`.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies; [`KernelError::Shape`] when a
/// window lies entirely in the padding, [`KernelError::Overflow`] when a window spans more than 2²⁴ pixels of the input
/// plane.
pub fn max_pool2d<T: Float>(shape: &PoolShape, x: &[T], y: &mut [T], argmax: &mut [u32]) -> Result<()> {
    const KERNEL: &str = "max_pool2d";
    check_len(KERNEL, "x", shape.input_len(), x.len())?;
    check_len(KERNEL, "y", shape.output_len(), y.len())?;
    check_len(KERNEL, "argmax", shape.output_len(), argmax.len())?;
    // Offsets within a window are stored as floats; `f32` represents integers exactly up to 2²⁴.
    let extent = [0, 1].map(|axis| (shape.kernel[axis] - 1).saturating_mul(shape.dilation[axis]));
    if extent[0].saturating_mul(shape.input[1]).saturating_add(extent[1]) > 1 << 24 {
        return Err(KernelError::Overflow { what: KERNEL, argument: "window (it may span 2^24 pixels)" });
    }
    let windows = Windows::new(shape);
    if let Some(axis) = windows.first_empty() {
        return Err(KernelError::Shape {
            what: KERNEL,
            problem: format!("{axis}: a window lies entirely in the padding, so it has no maximum"),
        });
    }
    let (plane, out) = (shape.input[0] * shape.input[1], shape.output[0] * shape.output[1]);
    let (y, argmax) = (SharedMut::new(y), SharedMut::new(argmax));
    let isa = Isa::detect();
    let accesses = Accesses::new(shape, Geometry::of::<T>(isa).lanes);
    let taps: Vec<_> = (0..shape.kernel[0] * shape.kernel[1])
        .map(|tap| (tap / shape.kernel[1], tap % shape.kernel[1]))
        .map(|(i, j)| T::from_f64((i * shape.dilation[0] * shape.input[1] + j * shape.dilation[1]) as f64))
        .collect();
    for_planes(shape, |channel| {
        let x = &x[channel * plane..][..plane];
        // SAFETY: each channel of each sample belongs to one task.
        let (y, argmax) = unsafe { (y.range(channel * out, out), argmax.range(channel * out, out)) };
        T::dispatch(
            isa,
            MaxPlane { shape, windows: &windows, accesses: &accesses, taps: &taps, x, y, argmax },
        );
    });
    Ok(())
}

/// For each pair of a vector of outputs and a column of the window: which elements of an input row the vector reads.
struct Accesses {
    /// The input column of lane 0, and a mask of the lanes whose column lies within the row.
    all: Vec<(isize, u32)>,
    kernel: usize,
    stride: usize,
}

impl Accesses {
    fn new(shape: &PoolShape, lanes: usize) -> Self {
        let (width, out_width) = (shape.input[1], shape.output[1]);
        let (kernel, stride) = (shape.kernel[1], shape.stride[1]);
        let mut all = Vec::new();
        for first in (0..out_width).step_by(lanes) {
            for j in 0..kernel {
                let start = (first * stride + j * shape.dilation[1]) as isize - shape.padding[1] as isize;
                let low = if start < 0 { start.unsigned_abs().div_ceil(stride).min(lanes) } else { 0 };
                let room = usize::try_from(width as isize - start).unwrap_or(0);
                let high = room.div_ceil(stride).min(lanes).min(out_width - first);
                all.push((start, low_mask(high) & !low_mask(low)));
            }
        }
        Self { all, kernel, stride }
    }

    /// The accesses of vector number `vector`, one for each column of the window.
    #[inline(always)]
    fn of(&self, vector: usize) -> &[(isize, u32)] {
        &self.all[vector * self.kernel..][..self.kernel]
    }
}

/// The maximum pooling of one plane.
struct MaxPlane<'a, T> {
    shape: &'a PoolShape,
    windows: &'a Windows,
    accesses: &'a Accesses,
    /// Offset of each window element from the first element of the window, in elements of the plane.
    taps: &'a [T],
    x: &'a [T],
    y: &'a mut [T],
    argmax: &'a mut [u32],
}

impl<T: Float> Kernel<T> for MaxPlane<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Self { shape, windows, accesses, taps, x, y, argmax } = self;
        let (width, out_width) = (shape.input[1], shape.output[1]);
        let step = accesses.stride;
        let lines = y.chunks_exact_mut(out_width).zip(argmax.chunks_exact_mut(out_width));
        for (rows, (y, argmax)) in windows.rows.iter().zip(lines) {
            for vector in 0..out_width.div_ceil(S::LANES) {
                let first = vector * S::LANES;
                let count = S::LANES.min(out_width - first);
                let mut places = [0_i32; MAX_LANES];
                // SAFETY: the mask only has lanes whose column lies within the row; `places` has room for a vector.
                unsafe {
                    // Position of each lane's maximum relative to the window's corner; −1 while nothing larger than −∞
                    // was found. Both float types represent these positions exactly.
                    let mut best = S::splat(T::NEG_INFINITY);
                    let mut place = S::splat(-T::ONE);
                    let mut taps = taps.iter();
                    for row in rows.range.clone().step_by(shape.dilation[0]) {
                        let line = x[row * width..][..width].as_ptr();
                        for (&(start, mask), &tap) in accesses.of(vector).iter().zip(&mut taps) {
                            let none = S::splat(T::NEG_INFINITY);
                            let candidate = S::merge_any(none, line.wrapping_offset(start), step, mask);
                            (best, place) = S::take_larger(best, place, candidate, S::splat(tap));
                        }
                    }
                    S::store_masked(y.as_mut_ptr().wrapping_add(first), low_mask(count), best);
                    S::store_i32(places.as_mut_ptr(), place);
                }
                // Wrapping arithmetic: the corner may lie in the padding to the left, but the maximum does not.
                let corner = (rows.range.start * width + first * step).wrapping_sub(shape.padding[1]) as u32;
                let argmax = &mut argmax[first..first + count];
                for (lane, (argmax, &place)) in argmax.iter_mut().zip(&places).enumerate() {
                    *argmax = corner.wrapping_add((lane * step) as u32).wrapping_add(place as u32);
                }
                if places[..count].iter().any(|&place| place < 0) {
                    for (lane, argmax) in argmax.iter_mut().enumerate().filter(|(lane, _)| places[*lane] < 0)
                    {
                        // All pixels of the window are −∞: the first one counts.
                        *argmax =
                            (rows.range.start * width + windows.columns[first + lane].range.start) as u32;
                    }
                }
            }
        }
    }
}

/// dx\[i\] = Σ dy\[p\] over the windows p whose maximum is at i. `dx` is overwritten.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies;
/// [`KernelError::Index`] when `argmax` points outside the input plane.
pub fn max_pool2d_input_grad<T: Float>(
    shape: &PoolShape,
    dy: &[T],
    argmax: &[u32],
    dx: &mut [T],
) -> Result<()> {
    const KERNEL: &str = "max_pool2d_input_grad";
    check_len(KERNEL, "dy", shape.output_len(), dy.len())?;
    check_len(KERNEL, "argmax", shape.output_len(), argmax.len())?;
    check_len(KERNEL, "dx", shape.input_len(), dx.len())?;
    let (plane, out) = (shape.input[0] * shape.input[1], shape.output[0] * shape.output[1]);
    if let Some(&index) = argmax.iter().max().filter(|&&index| index as usize >= plane) {
        return Err(KernelError::Index {
            kernel: KERNEL,
            argument: "argmax",
            found: index as usize,
            limit: plane,
        });
    }
    let dx = SharedMut::new(dx);
    for_planes(shape, |channel| {
        // SAFETY: each channel of each sample belongs to one task.
        let dx = unsafe { dx.range(channel * plane, plane) };
        dx.fill(T::ZERO);
        let places = channel * out..(channel + 1) * out;
        for (&gradient, &index) in dy[places.clone()].iter().zip(&argmax[places]) {
            dx[index as usize] += gradient;
        }
    });
    Ok(())
}

/// y\[p\] = sum of window p / divisor.
///
/// The divisor is the number of window pixels within the input or, with `count_include_pad`, within the
/// padded input. Pixels beyond the padded input, which windows in ceil mode can cover, never count (as in `PyTorch` and
/// ONNX). A window that lies entirely in the padding gives 0.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn avg_pool2d<T: Float>(shape: &PoolShape, count_include_pad: bool, x: &[T], y: &mut [T]) -> Result<()> {
    const KERNEL: &str = "avg_pool2d";
    check_len(KERNEL, "x", shape.input_len(), x.len())?;
    check_len(KERNEL, "y", shape.output_len(), y.len())?;
    let windows = Windows::new(shape);
    let (plane, out) = (shape.input[0] * shape.input[1], shape.output[0] * shape.output[1]);
    let y = SharedMut::new(y);
    let isa = Isa::detect();
    let accesses = Accesses::new(shape, Geometry::of::<T>(isa).lanes);
    // Divisors differ only near the borders, so there are few distinct rows of reciprocals.
    let line = |rows: &Window| -> Vec<T> {
        windows.columns.iter().map(|columns| rows.reciprocal(columns, count_include_pad)).collect()
    };
    let mut kinds = Vec::<(usize, Vec<T>)>::new();
    let kind_of_row: Vec<usize> = windows
        .rows
        .iter()
        .map(|rows| {
            let count = if count_include_pad { rows.padded } else { rows.inside };
            kinds.iter().position(|kind| kind.0 == count).unwrap_or_else(|| {
                kinds.push((count, line(rows)));
                kinds.len() - 1
            })
        })
        .collect();
    for_planes(shape, |channel| {
        let x = &x[channel * plane..][..plane];
        // SAFETY: each channel of each sample belongs to one task.
        let y = unsafe { y.range(channel * out, out) };
        for ((rows, &kind), y) in
            windows.rows.iter().zip(&kind_of_row).zip(y.chunks_exact_mut(shape.output[1]))
        {
            let reciprocals = &kinds[kind].1;
            T::dispatch(isa, AverageLine { shape, rows, accesses: &accesses, reciprocals, x, y });
        }
    });
    Ok(())
}

/// The average pooling of one output row.
struct AverageLine<'a, T> {
    shape: &'a PoolShape,
    rows: &'a Window,
    accesses: &'a Accesses,
    reciprocals: &'a [T],
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Float> Kernel<T> for AverageLine<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let width = self.shape.input[1];
        for vector in 0..self.y.len().div_ceil(S::LANES) {
            let first = vector * S::LANES;
            // SAFETY: the mask only has lanes whose column lies within the row.
            unsafe {
                let mut sum = S::zero();
                for row in self.rows.range.clone().step_by(self.shape.dilation[0]) {
                    let line = self.x[row * width..][..width].as_ptr();
                    for &(start, mask) in self.accesses.of(vector) {
                        let from = line.wrapping_offset(start);
                        sum = S::add(sum, S::merge_any(S::zero(), from, self.accesses.stride, mask));
                    }
                }
                let mask = low_mask(S::LANES.min(self.y.len() - first));
                S::store_masked(self.y.as_mut_ptr().wrapping_add(first), mask, sum);
            }
        }
        for (y, &reciprocal) in self.y.iter_mut().zip(self.reciprocals) {
            *y = *y * reciprocal;
        }
    }
}

/// dx\[i\] = Σ dy\[p\] / divisor\[p\] over the windows p that contain i. `dx` is overwritten.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn avg_pool2d_input_grad<T: Float>(
    shape: &PoolShape,
    count_include_pad: bool,
    dy: &[T],
    dx: &mut [T],
) -> Result<()> {
    const KERNEL: &str = "avg_pool2d_input_grad";
    check_len(KERNEL, "dy", shape.output_len(), dy.len())?;
    check_len(KERNEL, "dx", shape.input_len(), dx.len())?;
    let windows = Windows::new(shape);
    let (plane, out) = (shape.input[0] * shape.input[1], shape.output[0] * shape.output[1]);
    let width = shape.input[1];
    let dx = SharedMut::new(dx);
    for_planes(shape, |channel| {
        // SAFETY: each channel of each sample belongs to one task.
        let dx = unsafe { dx.range(channel * plane, plane) };
        dx.fill(T::ZERO);
        let pairs = windows.rows.iter().flat_map(|rows| windows.columns.iter().map(move |c| (rows, c)));
        for (&gradient, (rows, columns)) in dy[channel * out..][..out].iter().zip(pairs) {
            let share = gradient * rows.reciprocal::<T>(columns, count_include_pad);
            for row in rows.range.clone().step_by(shape.dilation[0]) {
                let line = &mut dx[row * width..][columns.range.clone()];
                line.iter_mut().step_by(shape.dilation[1]).for_each(|v| *v += share);
            }
        }
    });
    Ok(())
}

/// Runs `body` in parallel for every channel of every sample; small planes share a task.
fn for_planes(shape: &PoolShape, body: impl Fn(usize) + Sync) {
    const TASK: usize = 32 * 1024;
    let planes = shape.batch * shape.channels;
    let size = shape.input[0] * shape.input[1] + shape.output[0] * shape.output[1];
    let each = TASK.div_ceil(size.max(1));
    run_tasks(
        planes.div_ceil(each),
        || (),
        |(), task| {
            (task * each..((task + 1) * each).min(planes)).for_each(&body);
        },
    );
}

/// The extent of a window along one axis.
pub(crate) struct Window {
    /// Number of window pixels that lie before the input, in the padding.
    pub(crate) skipped: usize,
    /// Input positions from the first to the last pixel of the window that lies within the input. The window uses every
    /// `dilation`-th of them.
    pub(crate) range: Range<usize>,
    /// Number of window pixels within the input.
    pub(crate) inside: usize,
    /// Number of window pixels within the padded input.
    padded: usize,
}

impl Window {
    /// 1 / number of pixels that the average over the window `self` × `other` counts; 0 if there are none.
    pub(crate) fn reciprocal<T: Float>(&self, other: &Self, count_include_pad: bool) -> T {
        let count = if count_include_pad { self.padded * other.padded } else { self.inside * other.inside };
        if count == 0 { T::ZERO } else { T::ONE / T::from_f64(count as f64) }
    }
}

/// The windows along both axes; a window of the plane is a pair of a row window and a column window.
pub(crate) struct Windows {
    pub(crate) rows: Vec<Window>,
    pub(crate) columns: Vec<Window>,
}

impl Windows {
    pub(crate) fn new(shape: &PoolShape) -> Self {
        let axis = |axis: usize| {
            let [input, kernel, stride, dilation] =
                [shape.input[axis], shape.kernel[axis], shape.stride[axis], shape.dilation[axis]];
            let [before, after] = [shape.padding[axis], shape.padding[axis + 2]];
            (0..shape.output[axis])
                .map(|at| {
                    // Positions in the padded input; pixel k of the window is at start + k · dilation.
                    let start = at * stride;
                    let count_below =
                        |limit: usize| limit.saturating_sub(start).div_ceil(dilation).min(kernel);
                    let (skipped, below) = (count_below(before), count_below(before + input));
                    let first = start + skipped * dilation;
                    let inside = below - skipped;
                    let range = if inside == 0 {
                        0..0
                    } else {
                        first - before..first - before + (inside - 1) * dilation + 1
                    };
                    Window { skipped, range, inside, padded: count_below(before + input + after) }
                })
                .collect()
        };
        Self { rows: axis(0), columns: axis(1) }
    }

    /// The first axis along which a window has no pixel within the input, if there is one.
    pub(crate) fn first_empty(&self) -> Option<&'static str> {
        if self.rows.iter().any(|window| window.inside == 0) {
            Some("height")
        } else {
            self.columns.iter().any(|window| window.inside == 0).then_some("width")
        }
    }
}
