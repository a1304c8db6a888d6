//! Strided copies: permuting, broadcasting or slicing the axes of an array.

use crate::error::{KernelError, Result, check_len, checked_product};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};

/// A transposition copies square tiles with this side: the cache lines of such a tile fit the first-level cache.
const SQUARE: usize = 16;
/// Elements that one task copies.
const TASK: usize = 16 * 1024;

/// y\[i₀, …, iₙ\] = x\[Σ iₐ · `strides`ₐ\] for all indices within `shape`, with y in row-major order.
/// Strides can permute axes, broadcast them (stride 0), or select part of a larger array.
///
/// # Errors
/// [`KernelError::Shape`] when there is not one stride per axis, [`KernelError::Length`] when `y` does not have as many
/// elements as `shape` implies or `x` ends before the last element that is read, [`KernelError::Overflow`] for sizes
/// beyond the address space.
pub fn strided_copy<T: Float>(x: &[T], shape: &[usize], strides: &[usize], y: &mut [T]) -> Result<()> {
    const KERNEL: &str = "strided copy";
    if shape.len() != strides.len() {
        let problem = format!("{} strides for {} axes", strides.len(), shape.len());
        return Err(KernelError::Shape { what: KERNEL, problem });
    }
    check_len(KERNEL, "y", checked_product(KERNEL, "y", shape)?, y.len())?;
    if y.is_empty() {
        return Ok(());
    }
    let mut last = 0_usize;
    for (side, stride) in shape.iter().zip(strides) {
        let reach = (side - 1).checked_mul(*stride).and_then(|way| last.checked_add(way));
        last = reach.ok_or(KernelError::Overflow { what: KERNEL, argument: "x" })?;
    }
    if last >= x.len() {
        return Err(KernelError::Length {
            kernel: KERNEL,
            argument: "x",
            expected: last + 1,
            found: x.len(),
        });
    }
    let axes = joined(shape, strides);
    let Some((&Axis { side, stride, .. }, outer)) = axes.split_last() else {
        y[0] = x[0];
        return Ok(());
    };
    let y = SharedMut::new(y);
    // The axis along which x is contiguous, if that is not the last axis of y: then the copy is a transposition.
    let along = outer.iter().position(|axis| axis.stride == 1 && stride > 1 && axis.side >= SQUARE / 2);
    let Some(along) = along else {
        let lines = Counter(outer);
        share(lines.len(), side, |from, to| {
            for line in from..to {
                let [read, write] = lines.at(line);
                // SAFETY: the lines of y are disjoint.
                let y = unsafe { y.range(write, side) };
                match stride {
                    0 => y.fill(x[read]),
                    1 => y.copy_from_slice(&x[read..][..side]),
                    _ => y.iter_mut().zip(x[read..].iter().step_by(stride)).for_each(|(y, &x)| *y = x),
                }
            }
        });
        return Ok(());
    };
    // Square tiles of that axis and the last one, for each index of the other axes.
    let Axis { side: height, write: line, .. } = outer[along];
    let others: Vec<Axis> =
        outer.iter().enumerate().filter(|(at, _)| *at != along).map(|(_, axis)| *axis).collect();
    let (others, bands) = (Counter(&others), height.div_ceil(SQUARE));
    share(others.len() * bands, SQUARE * side, |from, to| {
        for band in from..to {
            let [read, write] = others.at(band / bands);
            let first = band % bands * SQUARE;
            let count = SQUARE.min(height - first);
            for start in (0..side).step_by(SQUARE) {
                let width = SQUARE.min(side - start);
                for i in first..first + count {
                    // SAFETY: the lines of y are disjoint.
                    let y = unsafe { y.range(write + i * line + start, width) };
                    let x = x[read + i + start * stride..].iter().step_by(stride);
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x);
                }
            }
        }
    });
    Ok(())
}

/// An axis of the copy.
#[derive(Clone, Copy)]
struct Axis {
    /// Number of indices.
    side: usize,
    /// Elements of x from one index to the next.
    stride: usize,
    /// Elements of y from one index to the next.
    write: usize,
}

/// The axes longer than one; neighbouring axes that can be traversed as one in both x and y are merged.
fn joined(shape: &[usize], strides: &[usize]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut write = 1;
    for (&side, &stride) in shape.iter().zip(strides).rev().filter(|(side, _)| **side > 1) {
        match axes.last_mut() {
            Some(inner) if stride == inner.side * inner.stride => inner.side *= side,
            _ => axes.push(Axis { side, stride, write }),
        }
        write *= side;
    }
    axes.reverse();
    axes
}

/// Enumerates the indices of some axes in row-major order.
struct Counter<'a>(&'a [Axis]);

impl Counter<'_> {
    /// Number of index combinations.
    fn len(&self) -> usize {
        self.0.iter().map(|axis| axis.side).product()
    }

    /// Offsets in x and in y of index combination number `at`.
    fn at(&self, mut at: usize) -> [usize; 2] {
        let mut place = [0, 0];
        for axis in self.0.iter().rev() {
            place[0] += at % axis.side * axis.stride;
            place[1] += at % axis.side * axis.write;
            at /= axis.side;
        }
        place
    }
}

/// Runs `body(from, to)` in parallel for ranges that cover `count` items of `size` elements each.
fn share(count: usize, size: usize, body: impl Fn(usize, usize) + Sync) {
    let each = TASK.div_ceil(size.max(1));
    run_tasks(count.div_ceil(each), || (), |(), task| body(task * each, ((task + 1) * each).min(count)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same copy, one element at a time.
    fn plain(x: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        let place = |mut at: usize| {
            let mut from = 0;
            for (side, stride) in shape.iter().zip(strides).rev() {
                from += at % side * stride;
                at /= side;
            }
            x[from]
        };
        (0..count).map(place).collect()
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(256))]

        #[test]
        fn any_order_of_axes(
            sides in prop::collection::vec(1_usize..40, 0..4),
            order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
            broadcast in any::<[bool; 4]>(),
            gap in 0_usize..3,
        ) {
            let mut strides = vec![0; sides.len()];
            let mut len = 1;
            for &axis in order.iter().filter(|axis| **axis < sides.len()) {
                strides[axis] = if broadcast[axis] && broadcast[(axis + 1) % 4] { 0 } else { len };
                len *= sides[axis] + gap;
            }
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut y = vec![-1.0; sides.iter().product()];
            strided_copy(&x, &sides, &strides, &mut y).unwrap();
            prop_assert_eq!(y, plain(&x, &sides, &strides));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = [0.0_f32; 6];
        assert!(strided_copy(&x, &[2, 3], &[3, 1], &mut [0.0; 5]).is_err(), "y");
        assert!(strided_copy(&x, &[2, 3], &[4, 1], &mut [0.0; 6]).is_err(), "x");
        assert!(strided_copy(&x, &[2, 3], &[1], &mut [0.0; 6]).is_err(), "strides");
        assert!(strided_copy(&x, &[2, 3], &[usize::MAX, 2], &mut [0.0; 6]).is_err(), "overflow");
        assert!(strided_copy::<f32>(&[], &[0, 3], &[3, 1], &mut []).is_ok(), "nothing");
        let mut one = [0.0];
        strided_copy(&[7.0_f32], &[], &[], &mut one).unwrap();
        assert_eq!(one, [7.0]);
    }
}
