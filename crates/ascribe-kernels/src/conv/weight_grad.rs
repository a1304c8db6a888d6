//! The weight gradient, for training and for tests. Correct and tolerable, not tuned.

use super::check_lengths;
use super::lattice::kernel_positions;
use crate::error::Result;
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::shape::ConvShape;

/// Number of independent partial sums per dot product.
const LANES: usize = 8;

/// The gradient of a loss L by the weights:
/// `dw[o, c, i, j] = Σ_n Σ_p dy[n, o, p] · x[n, c, p · stride + (i, j) · dilation − padding]`.
///
/// `dw` is overwritten. Sums run over samples in order.
///
/// # Errors
/// [`crate::KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn conv2d_weight_grad<T: Float>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()> {
    check_lengths(
        "convolution weight gradient",
        &[
            ("x", shape.input_len(), x.len()),
            ("dy", shape.output_len(), dy.len()),
            ("dw", shape.weight_len(), dw.len()),
        ],
    )?;
    let (channels, rows) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let taps: Vec<_> = kernel_positions(shape).map(|(_, offset)| offset).collect();
    let points = shape.output()[0] * shape.output()[1];
    let plane = shape.input[0] * shape.input[1];
    dw.fill(T::ZERO);
    let gradient = SharedMut::new(dw);
    // One task per input channel: its shifted copy is made once and meets all filters of the group.
    run_tasks(
        shape.in_channels,
        || vec![T::ZERO; points],
        |column, task| {
            let (group, channel) = (task / channels, task % channels);
            for (tap, &offset) in taps.iter().enumerate() {
                for sample in 0..shape.batch {
                    let start = (sample * shape.in_channels + task) * plane;
                    shift(shape, &x[start..start + plane], offset, column);
                    for row in 0..rows {
                        let out = group * rows + row;
                        let start = (sample * shape.out_channels + out) * points;
                        let sum = dot(&dy[start..start + points], column);
                        // SAFETY: each (filter, channel) pair belongs to one task.
                        let place =
                            unsafe { gradient.range((out * channels + channel) * taps.len() + tap, 1) };
                        place[0] += sum;
                    }
                }
            }
        },
    );
    Ok(())
}

/// The input pixels that one kernel element meets at each output position.
fn shift<T: Float>(shape: &ConvShape, plane: &[T], [tap_h, tap_w]: [isize; 2], column: &mut [T]) {
    let [height, width] = shape.input;
    for (out_row, line) in column.chunks_exact_mut(shape.output()[1]).enumerate() {
        let row = (out_row * shape.stride[0]) as isize + tap_h;
        if row < 0 || row >= height as isize {
            line.fill(T::ZERO);
            continue;
        }
        let source = &plane[row as usize * width..][..width];
        for (out_column, value) in line.iter_mut().enumerate() {
            let at = (out_column * shape.stride[1]) as isize + tap_w;
            *value = usize::try_from(at).ok().and_then(|at| source.get(at)).copied().unwrap_or(T::ZERO);
        }
    }
}

fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for (sum, (&a, &b)) in sums.iter_mut().zip(tail) {
        *sum += a * b;
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}
