//! The arithmetic of convolutions, in both directions.

use ascribe_kernels as kernels;
use candle_core::Tensor;

use crate::error::Result;
use crate::ops::fast;
use crate::ops::operator::Backend;
use crate::ops::window::Window;

/// A convolution from `[n, c, ih, iw]` to `[n, o, oh, ow]`, in either direction.
pub(super) struct Geometry<'a> {
    pub(super) window: &'a Window,
    pub(super) groups: usize,
    pub(super) small: [usize; 4],
    pub(super) large: [usize; 4],
}

impl Geometry<'_> {
    /// The geometry as the kernels take it. They compute every window that fits; a transposed convolution whose
    /// output padding is at least the stride leaves some out, and is computed by the portable path.
    fn shape(&self) -> Result<Option<kernels::ConvShape>> {
        let [n, o, oh, ow] = self.small;
        let [_, c, h, w] = self.large;
        let shape = kernels::ConvShape::new(kernels::ConvParams {
            batch: n,
            in_channels: c,
            out_channels: o,
            groups: self.groups,
            input: [h, w],
            kernel: self.window.kernel,
            stride: self.window.stride,
            dilation: self.window.dilation,
            padding: self.window.padding,
        })?;
        Ok((shape.output() == [oh, ow]).then_some(shape))
    }

    /// `y = W x + b`.
    pub(super) fn apply(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        backend: Backend,
    ) -> Result<Tensor> {
        let [n, o, oh, ow] = self.small;
        let x = x.reshape(&self.large)?;
        let weight = self.flat_weight(weight)?;
        fast::dispatch!(backend, [&x, &weight], T => {
            if let Some(shape) = self.shape()? {
                let (x, weight) = (fast::slice::<T>(&x)?, fast::slice::<T>(&weight)?);
                let bias = bias.map(fast::slice::<T>).transpose()?;
                let mut y = vec![<T as fast::Element>::zero_(); n * o * oh * ow];
                kernels::conv2d(&shape, &x, &weight, bias.as_deref(), &mut y)?;
                return fast::tensor(y, &self.small);
            }
        });
        let groups = self.groups;
        let padded = self.window.pad_input(&x, 0.0)?;
        let mut parts = Vec::with_capacity(groups);
        for g in 0..groups {
            let per = self.large[1] / groups;
            let own = padded.narrow(1, g * per, per)?.contiguous()?;
            let cols: Result<Vec<Tensor>> =
                self.window.offsets().map(|at| self.window.gather(&own, at, [oh, ow])).collect();
            // [N, C·k, OH·OW], channels outermost, as the weight has them.
            let cols = Tensor::stack(&cols?, 2)?.reshape((n, (), oh * ow))?;
            let w = weight.narrow(0, g * (o / groups), o / groups)?.flatten_from(1)?;
            parts.push(w.unsqueeze(0)?.broadcast_matmul(&cols)?);
        }
        let y = Tensor::cat(&parts, 1)?.reshape(&self.small)?;
        add_bias(y, bias)
    }

    /// `x = Wᵀ y`.
    pub(super) fn transpose(&self, y: &Tensor, weight: &Tensor, backend: Backend) -> Result<Tensor> {
        let [n, o, oh, ow] = self.small;
        let [_, c, h, w] = self.large;
        let y = y.reshape(&self.small)?;
        let weight = self.flat_weight(weight)?;
        fast::dispatch!(backend, [&y, &weight], T => {
            if let Some(shape) = self.shape()? {
                let (y, weight) = (fast::slice::<T>(&y)?, fast::slice::<T>(&weight)?);
                let mut x = vec![<T as fast::Element>::zero_(); n * c * h * w];
                kernels::conv2d_input_grad(&shape, &y, &weight, &mut x)?;
                return fast::tensor(x, &self.large);
            }
        });
        let groups = self.groups;
        let (per_o, per_c) = (o / groups, c / groups);
        let [kh, kw] = self.window.kernel;
        let mut parts = Vec::with_capacity(groups);
        for g in 0..groups {
            let grad = y.narrow(1, g * per_o, per_o)?.reshape((n, per_o, oh * ow))?;
            let w_t = weight.narrow(0, g * per_o, per_o)?.flatten_from(1)?.t()?.contiguous()?;
            let cols = w_t.unsqueeze(0)?.broadcast_matmul(&grad.contiguous()?)?;
            let cols = cols.reshape((n, per_c, kh * kw, oh * ow))?;
            let mut padded = self.window.padded_zeros([n, per_c, h, w], y.dtype(), &y)?;
            for (tap, at) in self.window.offsets().enumerate() {
                let values = cols.narrow(2, tap, 1)?.reshape((n, per_c, oh, ow))?;
                padded = self.window.scatter_add(&padded, at, &values)?;
            }
            parts.push(self.window.unpad(&padded, [h, w])?);
        }
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// `∂⟨g, W x⟩ / ∂W`, shaped `[O, C/groups, kh, kw]`.
    pub(super) fn weight_grad(&self, x: &Tensor, grad: &Tensor, backend: Backend) -> Result<Tensor> {
        let [n, o, oh, ow] = self.small;
        let groups = self.groups;
        let (per_o, per_c) = (o / groups, self.large[1] / groups);
        let [kh, kw] = self.window.kernel;
        let (x, grad) = (x.reshape(&self.large)?, grad.reshape(&self.small)?);
        fast::dispatch!(backend, [&x, &grad], T => {
            if let Some(shape) = self.shape()? {
                let (x, grad) = (fast::slice::<T>(&x)?, fast::slice::<T>(&grad)?);
                let mut dw = vec![<T as fast::Element>::zero_(); o * per_c * kh * kw];
                kernels::conv2d_weight_grad(&shape, &x, &grad, &mut dw)?;
                return fast::tensor(dw, &[o, per_c, kh, kw]);
            }
        });
        let padded = self.window.pad_input(&x, 0.0)?;
        let mut parts = Vec::with_capacity(groups);
        for g in 0..groups {
            let own = padded.narrow(1, g * per_c, per_c)?.contiguous()?;
            let grad = grad.narrow(1, g * per_o, per_o)?.reshape((n, per_o, oh * ow))?.contiguous()?;
            let taps: Result<Vec<Tensor>> = self
                .window
                .offsets()
                .map(|at| {
                    let col = self.window.gather(&own, at, [oh, ow])?.reshape((n, per_c, oh * ow))?;
                    Ok(grad.matmul(&col.t()?.contiguous()?)?.sum(0)?)
                })
                .collect();
            parts.push(Tensor::stack(&taps?, 2)?.reshape((per_o, per_c, kh, kw))?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    fn flat_weight(&self, weight: &Tensor) -> Result<Tensor> {
        let [kh, kw] = self.window.kernel;
        Ok(weight.reshape((self.small[1], self.large[1] / self.groups, kh, kw))?.contiguous()?)
    }
}

pub(super) fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?),
        None => Ok(y),
    }
}
