//! Element-wise operations on blocked tensors, for those that cannot be part of a convolution's epilogue.

use super::epilogue::{BlockedEpilogue, same_tensor};
use super::finish::PanelFinish;
use super::layout::{BLOCK, BlockedShape};
use super::output::Output;
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::simd::{Isa, Kernel, Simd};

/// Pixels per task, about.
const TASK: usize = 1024;

/// y ← epilogue(x): bias, residual, activation with record, and mask, as after a convolution. Writes the zeros of the
/// border and of the padded channels of `y` too.
///
/// With a residual this is an addition; with only a mask it is the gradient of an activation.
///
/// # Errors
/// [`crate::KernelError::Shape`] when shapes differ in more than their borders; [`crate::KernelError::Length`] when a
/// slice does not have the length of its shape.
pub fn apply(
    x_shape: &BlockedShape,
    x: &[f32],
    epilogue: BlockedEpilogue<'_>,
    y_shape: &BlockedShape,
    y: &mut [f32],
) -> Result<()> {
    scaled("blocked apply", None, x_shape, x, epilogue, y_shape, y)
}

/// y ← epilogue(scale\[channel\] · x), for a batch normalisation that was not folded into a convolution. Product and
/// bias are added with a single rounding. `scale` is padded to a multiple of 16, as the bias is.
///
/// # Errors
/// As [`apply`].
pub fn scale_shift(
    scale: &[f32],
    x_shape: &BlockedShape,
    x: &[f32],
    epilogue: BlockedEpilogue<'_>,
    y_shape: &BlockedShape,
    y: &mut [f32],
) -> Result<()> {
    scaled("blocked scale_shift", Some(scale), x_shape, x, epilogue, y_shape, y)
}

/// a ← a + Σₙ weights\[n\] · bₙ over the samples bₙ of `b`, in order; `a` is one sample. Borders may differ, and that
/// of `a` is not written.
///
/// # Errors
/// As [`apply`]; [`crate::KernelError::Length`] when there is not one weight per sample.
pub fn accumulate(
    a_shape: &BlockedShape,
    a: &mut [f32],
    weights: &[f32],
    b_shape: &BlockedShape,
    b: &[f32],
) -> Result<()> {
    const KERNEL: &str = "blocked accumulate";
    same_tensor(KERNEL, "a", &BlockedShape { batch: 1, ..*b_shape }, a_shape)?;
    check_len(KERNEL, "a", a_shape.len(), a.len())?;
    check_len(KERNEL, "weights", b_shape.batch, weights.len())?;
    check_len(KERNEL, "b", b_shape.len(), b.len())?;
    let a = SharedMut::new(a);
    for_rows(a_shape, 0, |_, isa, plane, row, count| {
        for row in row..row + count {
            let len = a_shape.size[1] * BLOCK;
            // SAFETY: each row belongs to one task.
            let a = unsafe { a.range(plane * a_shape.plane() + a_shape.at(row, 0), len) };
            for (sample, &weight) in weights.iter().enumerate() {
                let start = sample * b_shape.sample() + plane * b_shape.plane() + b_shape.at(row, 0);
                f32::dispatch(isa, AddRow { a: &mut *a, weight, b: &b[start..][..len] });
            }
        }
    });
    Ok(())
}

/// a ← a + weight · b for a row of pixels.
struct AddRow<'a> {
    a: &'a mut [f32],
    weight: f32,
    b: &'a [f32],
}

impl Kernel<f32> for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let weight = self.weight;
        self.a.iter_mut().zip(self.b).for_each(|(a, &b)| *a += weight * b);
    }
}

/// [`apply`] without a scale, [`scale_shift`] with one.
fn scaled(
    kernel: &'static str,
    scale: Option<&[f32]>,
    x_shape: &BlockedShape,
    x: &[f32],
    epilogue: BlockedEpilogue<'_>,
    y_shape: &BlockedShape,
    y: &mut [f32],
) -> Result<()> {
    same_tensor(kernel, "y", x_shape, y_shape)?;
    check_len(kernel, "x", x_shape.len(), x.len())?;
    check_len(kernel, "y", y_shape.len(), y.len())?;
    epilogue.check(kernel, y_shape)?;
    if let Some(scale) = scale {
        check_len(kernel, "scale", y_shape.blocks() * BLOCK, scale.len())?;
    }
    let bias = epilogue.bias;
    let output = Output::new(epilogue, y_shape, y);
    let blocks = y_shape.blocks();
    let sums_len = if scale.is_some() { y_shape.size[1] * BLOCK } else { 0 };
    for_rows(y_shape, sums_len, |sums, isa, plane, row, count| {
        let channel = plane % blocks * BLOCK;
        let mut finish = output.finish(plane / blocks, plane % blocks);
        if scale.is_some() {
            // The bias is already added when x is scaled.
            finish.bias = std::ptr::null();
        }
        let finish = PanelFinish::of_row(isa, finish, 1);
        let width = y_shape.size[1];
        // SAFETY: lengths are checked, each row belongs to one task, and `sums` has room for a row.
        unsafe {
            let to = output.plane(plane / blocks, plane % blocks);
            y_shape.clear_rows(to, row, row + count);
            for row in row..row + count {
                let x = &x[plane * x_shape.plane() + x_shape.at(row, 0)..][..width * BLOCK];
                let mut from = x.as_ptr();
                if let Some(scale) = scale {
                    let scale = &scale[channel..][..BLOCK];
                    let shift = bias.map(|bias| &bias[channel..][..BLOCK]);
                    f32::dispatch(isa, ScaleRow { scale, shift, x, sums: sums.pointer() });
                    from = sums.pointer();
                }
                output.finish_row(&finish, to, [row, 0], width, from);
            }
        }
    });
    Ok(())
}

/// sums ← scale · x + shift, pixel by pixel.
struct ScaleRow<'a> {
    scale: &'a [f32],
    shift: Option<&'a [f32]>,
    x: &'a [f32],
    sums: *mut f32,
}

impl Kernel<f32> for ScaleRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        for (pixel, x) in self.x.chunks_exact(BLOCK).enumerate() {
            for lane in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: slices hold whole pixels, `sums` as many as `x`.
                unsafe {
                    let shift = self.shift.map_or(S::zero(), |shift| S::load(shift[lane..].as_ptr()));
                    let y = S::fma(S::load(self.scale[lane..].as_ptr()), S::load(x[lane..].as_ptr()), shift);
                    S::store(self.sums.add(pixel * BLOCK + lane), y);
                }
            }
        }
    }
}

/// Runs `body(scratch, isa, plane, first row, number of rows)` in parallel for all rows of all planes, several rows at
/// a time. `scratch` is the number of floats of scratch per thread.
pub(super) fn for_rows(
    shape: &BlockedShape,
    scratch: usize,
    body: impl Fn(&mut Scratch<f32>, Isa, usize, usize, usize) + Sync,
) {
    let [height, width] = shape.size;
    if shape.is_empty() || shape.pixels() == 0 {
        return;
    }
    let isa = Isa::detect();
    let rows = TASK.div_ceil(width).min(height);
    let strips = height.div_ceil(rows);
    run_tasks(
        shape.batch * shape.blocks() * strips,
        || Scratch::new(scratch),
        |scratch, task| {
            let first = task % strips * rows;
            body(scratch, isa, task / strips, first, rows.min(height - first));
        },
    );
}
