//! Sliding windows over the two spatial axes, written with candle operations.
//!
//! Convolution and pooling share this. The portable implementation handles one kernel offset at a time, so that it
//! supports every stride, dilation and padding on every device, with gradients.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};

/// Geometry of a two-dimensional sliding window. One-dimensional windows have height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Step between neighbouring windows.
    pub stride: [usize; 2],
    /// Distance between neighbouring taps of one window.
    pub dilation: [usize; 2],
    /// Padding at the top, left, bottom and right.
    pub padding: [usize; 4],
    /// Whether a last, partial window is kept.
    pub ceil_mode: bool,
}

impl Window {
    /// A window of this size, stride 1, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1, 1], dilation: [1, 1], padding: [0; 4], ceil_mode: false }
    }

    /// Sets the stride.
    pub fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Sets the same padding on both sides: vertical, horizontal.
    pub fn padding(self, [v, h]: [usize; 2]) -> Self {
        Self { padding: [v, h, v, h], ..self }
    }

    /// Sets the dilation.
    pub fn dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// Padding before and after along spatial axis `axis` (0: vertical, 1: horizontal).
    pub fn pad(&self, axis: usize) -> (usize, usize) {
        if axis == 0 { (self.padding[0], self.padding[2]) } else { (self.padding[1], self.padding[3]) }
    }

    /// Number of windows along each axis for an input of this size.
    ///
    /// # Errors
    /// If the window does not fit, or a stride, dilation or kernel side is zero.
    pub fn output(&self, input: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            if kernel == 0 || stride == 0 || dilation == 0 {
                return Err(Error::invalid(
                    "window",
                    format!("kernel {kernel}, stride {stride}, dilation {dilation}"),
                    "values of at least 1",
                ));
            }
            let (before, after) = self.pad(axis);
            let padded = input[axis].saturating_add(before).saturating_add(after);
            let extent = dilation.saturating_mul(kernel - 1).saturating_add(1);
            let missing = extent.saturating_sub(padded);
            // Ceil mode keeps a first window that misses less than a stride.
            if missing > 0 && !(self.ceil_mode && missing < stride && input[axis] > 0) {
                return Err(Error::invalid(
                    "window",
                    format!("covers {extent} values, but the padded input has {padded}"),
                    "a larger input",
                ));
            }
            let free = padded.saturating_sub(extent);
            out[axis] = free / stride + 1;
            // A partial window counts only if it starts inside the input or its leading padding.
            if self.ceil_mode && free % stride != 0 && out[axis] * stride < input[axis] + before {
                out[axis] += 1;
            }
        }
        Ok(out)
    }

    /// How far the last window reaches beyond the padded input, along each axis (ceil mode only).
    pub(crate) fn overhang(&self, input: [usize; 2], output: [usize; 2]) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let (before, after) = self.pad(axis);
            let reach =
                (output[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            reach.saturating_sub(input[axis] + before + after)
        })
    }

    /// Rows (or columns) of the padded input that tap `offset` of all windows reads.
    fn taps(&self, axis: usize, offset: usize, count: usize, like: &Tensor) -> Result<Tensor> {
        let first = offset * self.dilation[axis];
        let taps: Vec<u32> = (0..count).map(|i| (first + i * self.stride[axis]) as u32).collect();
        Ok(Tensor::from_vec(taps, count, like.device())?)
    }

    /// All offsets of the kernel, row by row.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = [usize; 2]> {
        let [rows, cols] = self.kernel;
        (0..rows).flat_map(move |r| (0..cols).map(move |c| [r, c]))
    }

    /// Pads an `[N, C, H, W]` tensor with `value`, on the right and bottom also for partial windows.
    pub(crate) fn pad_input(&self, x: &Tensor, value: f64) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let [extra_h, extra_w] = self.overhang([h, w], self.output([h, w])?);
        let [top, left, bottom, right] = self.padding;
        let x = pad_axis(x, 2, top, bottom + extra_h, value)?;
        pad_axis(&x, 3, left, right + extra_w, value)
    }

    /// The transpose of [`Window::pad_input`] with zeros: cuts the padding off again.
    pub(crate) fn unpad(&self, padded: &Tensor, input: [usize; 2]) -> Result<Tensor> {
        Ok(padded.narrow(2, self.padding[0], input[0])?.narrow(3, self.padding[1], input[1])?)
    }

    /// What tap `[r, c]` of every window reads: `[N, C, OH, OW]`.
    pub(crate) fn gather(&self, padded: &Tensor, [r, c]: [usize; 2], out: [usize; 2]) -> Result<Tensor> {
        let rows = self.taps(0, r, out[0], padded)?;
        let cols = self.taps(1, c, out[1], padded)?;
        Ok(padded.index_select(&rows, 2)?.index_select(&cols, 3)?)
    }

    /// The transpose of [`Window::gather`]: adds `values` to where tap `[r, c]` read.
    pub(crate) fn scatter_add(&self, padded: &Tensor, [r, c]: [usize; 2], values: &Tensor) -> Result<Tensor> {
        let (n, ch, oh, ow) = values.dims4()?;
        let width = padded.dim(3)?;
        let rows = self.taps(0, r, oh, padded)?;
        let cols = self.taps(1, c, ow, padded)?;
        let wide = Tensor::zeros((n, ch, oh, width), values.dtype(), values.device())?;
        let wide = wide.index_add(&cols, &values.contiguous()?, 3)?;
        Ok(padded.index_add(&rows, &wide, 2)?)
    }

    /// Zeros shaped like the padded input of [`Window::gather`].
    pub(crate) fn padded_zeros(&self, shape: [usize; 4], dtype: DType, like: &Tensor) -> Result<Tensor> {
        let [n, c, h, w] = shape;
        let [extra_h, extra_w] = self.overhang([h, w], self.output([h, w])?);
        let [top, left, bottom, right] = self.padding;
        Ok(Tensor::zeros(
            (n, c, h + top + bottom + extra_h, w + left + right + extra_w),
            dtype,
            like.device(),
        )?)
    }
}

/// Pads one axis with a constant.
pub(crate) fn pad_axis(x: &Tensor, axis: usize, before: usize, after: usize, value: f64) -> Result<Tensor> {
    if before == 0 && after == 0 {
        return Ok(x.clone());
    }
    let block = |len: usize| -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        dims[axis] = len;
        Ok(Tensor::full(value, dims, x.device())?.to_dtype(x.dtype())?)
    };
    let (front, back) = (block(before)?, block(after)?);
    let parts: Vec<&Tensor> = match (before, after) {
        (0, _) => vec![x, &back],
        (_, 0) => vec![&front, x],
        _ => vec![&front, x, &back],
    };
    Ok(Tensor::cat(&parts, axis)?)
}

/// Splits the shape of an image-like value into `[N, C, H, W]`; `[N, C, L]` gets height 1.
///
/// # Errors
/// If the value has neither 3 nor 4 axes.
pub(crate) fn image_shape(shape: &[usize]) -> Result<[usize; 4]> {
    match *shape {
        [n, c, l] => Ok([n, c, 1, l]),
        [n, c, h, w] => Ok([n, c, h, w]),
        _ => Err(Error::invalid("input", format!("has shape {shape:?}"), "[N, C, L] or [N, C, H, W]")),
    }
}

#[cfg(test)]
mod tests;
