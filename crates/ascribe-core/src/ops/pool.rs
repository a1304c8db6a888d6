//! Pooling over sliding windows, one- and two-dimensional.

mod adaptive;
mod average;
mod indices;
mod max;
#[cfg(test)]
mod tests;

use ascribe_kernels as kernels;

pub use adaptive::AdaptiveAveragePool;
pub use average::AveragePool;
pub use indices::MaxPoolIndices;
pub use max::MaxPool;

use super::window::{Window, image_shape};
use crate::error::{Error, Result};

/// The geometry of a pooling of an image `[N, C, H, W]`, as the kernels take it.
///
/// # Errors
/// If the window does not fit the image.
pub(crate) fn pool_shape(window: &Window, image: &[usize]) -> Result<kernels::PoolShape> {
    Geometry::new(window, image)?.kernel_shape()
}

/// A pooling of an input `[n, c, h, w]` with its output `[n, c, oh, ow]`.
#[derive(Clone, Copy)]
struct Geometry<'a> {
    window: &'a Window,
    input: [usize; 4],
    output: [usize; 4],
}

impl<'a> Geometry<'a> {
    /// # Errors
    /// If the input is not image-like, the window does not fit it, or a padding is as wide as the window.
    fn new(window: &'a Window, x: &[usize]) -> Result<Self> {
        let input @ [n, c, h, w] = image_shape(x)?;
        if x.len() == 3 && (window.kernel[0] != 1 || window.padding[0] != 0 || window.padding[2] != 0) {
            return Err(Error::invalid(
                "window",
                format!("has height {} and padding {:?}", window.kernel[0], window.padding),
                "height 1 without vertical padding for an input [N, C, L]",
            ));
        }
        let [oh, ow] = window.output([h, w])?;
        for axis in 0..2 {
            let extent = window.dilation[axis].saturating_mul(window.kernel[axis] - 1).saturating_add(1);
            let (before, after) = window.pad(axis);
            if before >= extent || after >= extent {
                return Err(Error::invalid(
                    "padding",
                    format!("{before} and {after}"),
                    format!("less than the {extent} values that the window covers"),
                ));
            }
        }
        Ok(Self { window, input, output: [n, c, oh, ow] })
    }

    /// The shape of the output, with as many axes as the input had.
    fn output_shape(&self, rank: usize) -> Vec<usize> {
        let [n, c, oh, ow] = self.output;
        if rank == 3 { vec![n, c, ow] } else { vec![n, c, oh, ow] }
    }

    fn kernel_shape(&self) -> Result<kernels::PoolShape> {
        let [batch, channels, h, w] = self.input;
        let [.., oh, ow] = self.output;
        let Window { mut kernel, mut stride, dilation, padding, .. } = *self.window;
        for axis in 0..2 {
            let end = padding[axis] + self.input[axis + 2] + padding[axis + 2];
            let taps = self.taps_before(axis, 0, end);
            // In ceil mode the window may be larger than a small input. There is only one window then, and the kernels
            // need not handle the taps outside of the input.
            if taps < kernel[axis] {
                (kernel[axis], stride[axis]) = (taps, end);
            }
        }
        Ok(kernels::PoolShape::new(kernels::PoolParams {
            batch,
            channels,
            input: [h, w],
            output: [oh, ow],
            kernel,
            stride,
            dilation,
            padding,
        })?)
    }

    /// Number of taps of window `at` along `axis` that lie before `limit` of the padded input.
    fn taps_before(&self, axis: usize, at: usize, limit: usize) -> usize {
        let start = at * self.window.stride[axis];
        limit.saturating_sub(start).div_ceil(self.window.dilation[axis]).min(self.window.kernel[axis])
    }

    /// For each window along `axis`: its first tap within the input, and how many taps are.
    fn taps_inside(&self, axis: usize) -> impl Iterator<Item = (usize, usize)> {
        let (before, _) = self.window.pad(axis);
        let end = before + self.input[axis + 2];
        (0..self.output[axis + 2]).map(move |at| {
            let first = self.taps_before(axis, at, before);
            (first, self.taps_before(axis, at, end) - first)
        })
    }
}
