//! Element-wise operations of layer-wise relevance propagation (LRP) that its rules need between two convolutions.

use super::epilogue::same_tensor;
use super::layout::{BLOCK, BlockedShape};
use super::pointwise::for_rows;
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::SharedMut;
use crate::simd::{Kernel, Simd};

/// A blocked tensor with its shape.
pub type Blocked<'a> = (&'a BlockedShape, &'a [f32]);

/// Operands of [`redistribute`]. They have the same shape, except that borders may differ.
#[derive(Debug, Clone, Copy)]
pub struct Redistribution<'a> {
    /// The relevance R.
    pub signal: Blocked<'a>,
    /// R is divided by the sum of these; it is not divided if both are absent.
    pub denominators: [Option<Blocked<'a>>; 2],
    /// The stabiliser ε of the denominator d: stab(d) = d + ε sign(d), with sign(0) = 1. With ε = 0, the quotient is 0
    /// where the denominator is 0.
    pub epsilon: f32,
    /// The quotient is multiplied by this.
    pub factor: Option<Blocked<'a>>,
    /// This is added at the end.
    pub addend: Option<Blocked<'a>>,
}

/// y ← factor · R / stab(d₁ + d₂) + addend, element by element. Sets the border of `y` to zero too.
///
/// # Errors
/// [`crate::KernelError::Shape`] when shapes differ in more than their borders; [`crate::KernelError::Length`] when a
/// slice does not have the length of its shape.
pub fn redistribute<'a>(operands: &Redistribution<'a>, y_shape: &BlockedShape, y: &mut [f32]) -> Result<()> {
    const KERNEL: &str = "blocked redistribute";
    let Redistribution { signal, denominators: [first, second], epsilon, factor, addend } = *operands;
    let named = [
        ("signal", Some(signal)),
        ("denominators", first),
        ("denominators", second),
        ("factor", factor),
        ("addend", addend),
    ];
    for (name, (shape, data)) in named.into_iter().filter_map(|(name, image)| Some((name, image?))) {
        same_tensor(KERNEL, name, y_shape, shape)?;
        check_len(KERNEL, name, shape.len(), data.len())?;
    }
    check_len(KERNEL, "y", y_shape.len(), y.len())?;
    let len = y_shape.size[1] * BLOCK;
    let y = SharedMut::new(y);
    for_rows(y_shape, 0, |_, isa, plane, first_row, count| {
        // SAFETY: the plane lies within `y`, and these rows of it belong to this task.
        unsafe {
            let plane = y.pointer().add(plane * y_shape.plane());
            y_shape.clear_rows(plane, first_row, first_row + count);
        }
        for row in first_row..first_row + count {
            let of = |image: Blocked<'a>| at(image, plane, row);
            // SAFETY: each row belongs to one task.
            let y = unsafe { y.range(plane * y_shape.plane() + y_shape.at(row, 0), len) };
            let row = Row {
                y,
                signal: of(signal),
                denominators: [first.map(of), second.map(of)],
                epsilon,
                factor: factor.map(of),
                addend: addend.map(of),
            };
            f32::dispatch(isa, row);
        }
    });
    Ok(())
}

/// Row `row` of plane number `plane`.
fn at((shape, data): Blocked<'_>, plane: usize, row: usize) -> &[f32] {
    &data[plane * shape.plane() + shape.at(row, 0)..][..shape.size[1] * BLOCK]
}

/// Operands of one row of pixels.
struct Row<'a> {
    y: &'a mut [f32],
    signal: &'a [f32],
    denominators: [Option<&'a [f32]>; 2],
    epsilon: f32,
    factor: Option<&'a [f32]>,
    addend: Option<&'a [f32]>,
}

impl Kernel<f32> for Row<'_> {
    type Output = ();

    // Plain loops, which the compiler vectorises for the instruction set. A row stays in the first-level cache from one
    // loop to the next.
    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Row { y, signal, denominators, epsilon, factor, addend } = self;
        match denominators {
            [Some(a), Some(b)] => {
                for (((y, &r), &a), &b) in y.iter_mut().zip(signal).zip(a).zip(b) {
                    *y = quotient(r, a + b, epsilon);
                }
            }
            [Some(d), None] | [None, Some(d)] => {
                for ((y, &r), &d) in y.iter_mut().zip(signal).zip(d) {
                    *y = quotient(r, d, epsilon);
                }
            }
            [None, None] => y.copy_from_slice(signal),
        }
        if let Some(factor) = factor {
            y.iter_mut().zip(factor).for_each(|(y, &factor)| *y *= factor);
        }
        if let Some(addend) = addend {
            y.iter_mut().zip(addend).for_each(|(y, &addend)| *y += addend);
        }
    }
}

/// r / stab(d).
#[inline(always)]
fn quotient(r: f32, d: f32, epsilon: f32) -> f32 {
    let stable = d + if d >= 0.0 { epsilon } else { -epsilon };
    let quotient = r / if stable == 0.0 { 1.0 } else { stable };
    if stable == 0.0 { 0.0 } else { quotient }
}
