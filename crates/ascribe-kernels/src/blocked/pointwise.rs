//! Element-wise operations on blocked tensors, for what does not fit a convolution's epilogue.

use super::epilogue::{BlockedEpilogue, Finish, same_tensor};
use super::layout::{BLOCK, BlockedShape};
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::simd::{Isa, Kernel, Simd};

/// Pixels per task.
const TASK: usize = 1024;

/// y ← epilogue(x): bias, residual, activation with record, and mask, as after a convolution. Writes the
/// border and the channel tail of `y` too.
///
/// With a residual this is an addition, with a mask alone the gradient of an activation.
///
/// # Errors
/// [`crate::KernelError::Shape`] when shapes differ in more than their borders; [`crate::KernelError::Length`] when a slice
/// does not have the length of its shape.
pub fn apply(
    x_shape: &BlockedShape,
    x: &[f32],
    epilogue: BlockedEpilogue<'_>,
    y_shape: &BlockedShape,
    y: &mut [f32],
) -> Result<()> {
    scaled("blocked apply", None, x_shape, x, epilogue, y_shape, y)
}

/// y ← epilogue(scale\[channel\] · x), the product and the bias rounded once: a batch normalisation that was
/// not folded into a convolution. `scale` is padded to 16 · blocks, as the bias is.
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

/// a ← a + b. Borders may differ; `a` keeps its own.
///
/// # Errors
/// As [`apply`].
pub fn add_assign(a_shape: &BlockedShape, a: &mut [f32], b_shape: &BlockedShape, b: &[f32]) -> Result<()> {
    const KERNEL: &str = "blocked add_assign";
    same_tensor(KERNEL, "b", a_shape, b_shape)?;
    check_len(KERNEL, "a", a_shape.len(), a.len())?;
    check_len(KERNEL, "b", b_shape.len(), b.len())?;
    let a = SharedMut::new(a);
    for_rows(a_shape, |isa, plane, row, count| {
        for row in row..row + count {
            let len = a_shape.size[1] * BLOCK;
            let b = &b[plane * b_shape.plane() + b_shape.at(row, 0)..][..len];
            // SAFETY: each row belongs to one task.
            let a = unsafe { a.range(plane * a_shape.plane() + a_shape.at(row, 0), len) };
            f32::dispatch(isa, AddRow { a, b });
        }
    });
    Ok(())
}

struct AddRow<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
}

impl Kernel<f32> for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        self.a.iter_mut().zip(self.b).for_each(|(a, &b)| *a += b);
    }
}

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
    let BlockedEpilogue { bias, residual, activation, record, mask } = epilogue;
    let (y, record) = (SharedMut::new(y), record.map(SharedMut::new));
    let blocks = y_shape.blocks();
    for_rows(y_shape, |isa, plane, row, count| {
        let channel = plane % blocks * BLOCK;
        let bits = plane * y_shape.pixels();
        let finish = Finish {
            // The scaled sum takes the bias along.
            bias: if scale.is_some() { None } else { bias }
                .map_or(std::ptr::null(), |bias| bias[channel..].as_ptr()),
            residual: residual
                .map_or(std::ptr::null(), |(shape, data)| data[plane * shape.plane()..].as_ptr()),
            record: record.map_or(std::ptr::null_mut(), |record| record.pointer().wrapping_add(bits)),
            mask: mask.map_or(std::ptr::null(), |mask| mask[bits..].as_ptr()),
            activation,
            lanes: y_shape.lanes(plane % blocks),
        };
        // SAFETY: lengths are checked, and each row belongs to one task.
        unsafe {
            let to = y.pointer().add(plane * y_shape.plane());
            y_shape.clear_rows(to, row, row + count);
            for row in row..row + count {
                let work = Row {
                    scale: scale.map(|scale| &scale[channel..][..BLOCK]),
                    shift: bias.map(|bias| &bias[channel..][..BLOCK]),
                    x: &x[plane * x_shape.plane() + x_shape.at(row, 0)..][..x_shape.size[1] * BLOCK],
                    finish,
                    residual: residual.map_or(0, |(shape, _)| shape.at(row, 0)),
                    bits: row * y_shape.size[1],
                    y: to.add(y_shape.at(row, 0)),
                };
                f32::dispatch(isa, work);
            }
        }
    });
    Ok(())
}

/// A row of a plane.
struct Row<'a> {
    scale: Option<&'a [f32]>,
    shift: Option<&'a [f32]>,
    x: &'a [f32],
    finish: Finish,
    /// Offsets of the first pixel.
    residual: usize,
    bits: usize,
    y: *mut f32,
}

impl Kernel<f32> for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        for (pixel, x) in self.x.chunks_exact(BLOCK).enumerate() {
            // SAFETY: slices hold whole pixels, pointers are valid for the row.
            unsafe {
                let mut from = x.as_ptr();
                let mut sums = [0.0_f32; BLOCK];
                if let Some(scale) = self.scale {
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        let shift = self.shift.map_or(S::zero(), |shift| S::load(shift[lane..].as_ptr()));
                        let y = S::fma(S::load(scale[lane..].as_ptr()), S::load(from.add(lane)), shift);
                        S::store(sums[lane..].as_mut_ptr(), y);
                    }
                    from = sums.as_ptr();
                }
                let at = pixel * BLOCK;
                self.finish.apply::<S>(from, self.y.add(at), self.residual + at, self.bits + pixel);
            }
        }
    }
}

/// Calls `body(isa, plane, first row, rows)` for all rows of all planes, some rows at a time.
fn for_rows(shape: &BlockedShape, body: impl Fn(Isa, usize, usize, usize) + Sync) {
    let [height, width] = shape.size;
    if shape.is_empty() || shape.pixels() == 0 {
        return;
    }
    let isa = Isa::detect();
    let rows = TASK.div_ceil(width).min(height);
    let strips = height.div_ceil(rows);
    run_tasks(
        shape.batch * shape.blocks() * strips,
        || (),
        |(), task| {
            let first = task % strips * rows;
            body(isa, task / strips, first, rows.min(height - first));
        },
    );
}
