//! The weight gradient, for training and for tests: the input is unfolded into columns (im2col), which a matrix product
//! multiplies with the output gradient.

use super::check_lengths;
use super::lattice::kernel_positions;
use crate::error::{Result, checked_product};
use crate::float::Float;
use crate::matmul::{MatmulShape, matmul};
use crate::parallel::{SharedMut, run_tasks};
use crate::shape::ConvShape;

/// Elements of the columns that are unfolded at a time. They stay in the cache, and the memory for them is bounded.
const COLUMN_LEN: usize = 1 << 19;

/// The gradient of a loss L with respect to the weights, from `dy` = ∂L/∂y:
/// `dw[o, c, i, j] = Σ_n Σ_p dy[n, o, p] · x[n, c, p · stride + (i, j) · dilation − padding]`.
///
/// `dw` is overwritten. The order of summation depends on the shape alone.
///
/// # Errors
/// [`crate::KernelError::Length`] when a slice does not have the length that `shape` implies,
/// [`crate::KernelError::Overflow`] when one row of the unfolded input would not fit the address space.
pub fn conv2d_weight_grad<T: Float>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()> {
    by_parts(shape, x, dy, dw, COLUMN_LEN)
}

/// [`conv2d_weight_grad`], unfolding at most `column_max` elements at a time (at least one output row).
fn by_parts<T: Float>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], column_max: usize) -> Result<()> {
    const KERNEL: &str = "convolution weight gradient";
    check_lengths(
        KERNEL,
        &[
            ("x", shape.input_len(), x.len()),
            ("dy", shape.output_len(), dy.len()),
            ("dw", shape.weight_len(), dw.len()),
        ],
    )?;
    let taps: Vec<_> = kernel_positions(shape).map(|(_, offset)| offset).collect();
    let [height, width] = shape.output();
    let column_len = checked_product(KERNEL, "columns", &[shape.in_channels, taps.len(), width])?;
    let lines = shape.batch * height;
    let at_a_time = (column_max / column_len.max(1)).clamp(1, lines.max(1));
    let mut columns = vec![T::ZERO; column_len * at_a_time];
    let mut signal = vec![T::ZERO; shape.out_channels * width * at_a_time];
    let mut part = vec![T::ZERO; if at_a_time < lines { dw.len() } else { 0 }];
    dw.fill(T::ZERO);
    for first in (0..lines).step_by(at_a_time) {
        let chunk = Lines { shape, first, count: at_a_time.min(lines - first) };
        let k = chunk.count * width;
        let columns = &mut columns[..shape.in_channels * taps.len() * k];
        let signal = &mut signal[..shape.out_channels * k];
        chunk.unfold(x, &taps, columns);
        chunk.collect(dy, signal);
        let product = MatmulShape {
            batch: shape.groups,
            m: shape.out_channels / shape.groups,
            n: shape.in_channels / shape.groups * taps.len(),
            k,
            trans_b: true,
            ..MatmulShape::default()
        };
        if at_a_time == lines {
            return matmul(&product, signal, columns, dw);
        }
        matmul(&product, signal, columns, &mut part)?;
        for (sum, &part) in dw.iter_mut().zip(&part) {
            *sum += part;
        }
    }
    Ok(())
}

/// Consecutive rows of the output; rows are numbered through all samples.
#[derive(Clone, Copy)]
struct Lines<'a> {
    shape: &'a ConvShape,
    first: usize,
    count: usize,
}

impl Lines<'_> {
    /// Sample and output row of each line.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let height = self.shape.output()[0];
        (self.first..self.first + self.count).map(move |line| (line / height, line % height))
    }

    /// Writes the columns, `[channel, tap, line]`: for each kernel element, the input pixels it is multiplied with,
    /// line by line.
    fn unfold<T: Float>(&self, x: &[T], taps: &[[isize; 2]], columns: &mut [T]) {
        let [in_height, in_width] = self.shape.input;
        let width = self.shape.output()[1];
        let row_len = self.count * width;
        let columns = SharedMut::new(columns);
        run_tasks(
            self.shape.in_channels,
            || (),
            |(), channel| {
                for (tap, &[tap_h, tap_w]) in taps.iter().enumerate() {
                    let start = (channel * taps.len() + tap) * row_len;
                    // SAFETY: each channel belongs to one task.
                    let row = unsafe { columns.range(start, row_len) };
                    for ((sample, out_row), line) in self.places().zip(row.chunks_exact_mut(width)) {
                        let in_row = (out_row * self.shape.stride[0]) as isize + tap_h;
                        let source = usize::try_from(in_row).ok().filter(|&r| r < in_height).map(|r| {
                            let plane = sample * self.shape.in_channels + channel;
                            &x[(plane * in_height + r) * in_width..][..in_width]
                        });
                        match source {
                            Some(source) => shifted(source, tap_w, self.shape.stride[1], line),
                            None => line.fill(T::ZERO),
                        }
                    }
                }
            },
        );
    }

    /// Copies these rows of the output gradient to `[channel, line]`.
    fn collect<T: Float>(&self, dy: &[T], signal: &mut [T]) {
        let [height, width] = self.shape.output();
        for (channel, row) in signal.chunks_exact_mut(self.count * width).enumerate() {
            for ((sample, out_row), line) in self.places().zip(row.chunks_exact_mut(width)) {
                let plane = sample * self.shape.out_channels + channel;
                line.copy_from_slice(&dy[(plane * height + out_row) * width..][..width]);
            }
        }
    }
}

/// `line[i] = source[i · stride + offset]`, zero outside.
fn shifted<T: Float>(source: &[T], offset: isize, stride: usize, line: &mut [T]) {
    // The first element of the line that lies within the source, and the first one beyond its end.
    let before = if offset < 0 { offset.unsigned_abs().div_ceil(stride) } else { 0 }.min(line.len());
    let room = source.len().saturating_add_signed(-offset);
    let end = room.div_ceil(stride).clamp(before, line.len());
    line[..before].fill(T::ZERO);
    line[end..].fill(T::ZERO);
    if before == end {
        return;
    }
    let from = &source[(before * stride).saturating_add_signed(offset)..];
    let inside = &mut line[before..end];
    if stride == 1 {
        inside.copy_from_slice(&from[..inside.len()]);
    } else {
        for (value, &pixel) in inside.iter_mut().zip(from.iter().step_by(stride)) {
            *value = pixel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::ConvParams;

    #[test]
    fn parts_add_up() {
        let shape = ConvShape::new(ConvParams {
            batch: 3,
            in_channels: 4,
            out_channels: 6,
            groups: 2,
            input: [9, 7],
            kernel: [3, 2],
            stride: [2, 1],
            padding: [1, 0, 1, 1],
            ..ConvParams::default()
        })
        .unwrap();
        let wave = |n: usize| (0..n).map(|i| (i as f64 * 0.7).sin()).collect::<Vec<_>>();
        let (x, dy) = (wave(shape.input_len()), wave(shape.output_len()));
        let found = |column_max| {
            let mut dw = vec![7.0; shape.weight_len()];
            by_parts(&shape, &x, &dy, &mut dw, column_max).unwrap();
            dw
        };
        let whole = found(COLUMN_LEN);
        // One line at a time, and a number of lines that does not divide the whole.
        for column_max in [1, 4 * 6 * 7 * 4] {
            let worst = found(column_max).iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-12, "{worst}");
        }
    }
}
