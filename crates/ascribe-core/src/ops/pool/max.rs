//! Maximum pooling.

use ascribe_kernels as kernels;
use candle_core::Tensor;

use super::Geometry;
use crate::error::{Error, Result};
use crate::ops::fast;
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::ops::window::Window;

/// Maximum over each window: input `x [N, C, H, W]` (or `[N, C, L]`), output `[N, C, H′, W′]`.
///
/// Padding never wins. Of equal values the first in row-major order does, and takes the whole gradient; NaN
/// wins over everything (`PyTorch`'s conventions).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MaxPool {
    /// Size, stride, dilation, padding and rounding mode.
    pub window: Window,
}

/// The maximum of every window and the number of the tap that holds it.
pub(super) struct Maxima {
    value: Tensor,
    pub(super) tap: Tensor,
}

impl MaxPool {
    /// The kernel offset that wins in windows without a value above −∞: the first one within the input.
    fn first_taps(geometry: &Geometry<'_>) -> Result<Vec<u32>> {
        let mut first = [Vec::new(), Vec::new()];
        for (axis, first) in first.iter_mut().enumerate() {
            for (tap, inside) in geometry.taps_inside(axis) {
                if inside == 0 {
                    return Err(Error::invalid(
                        "window",
                        "lies in the padding altogether, where there is no maximum",
                        "a smaller dilation or padding",
                    ));
                }
                first.push(tap as u32);
            }
        }
        let [rows, cols] = &first;
        let width = geometry.window.kernel[1] as u32;
        Ok(rows.iter().flat_map(|r| cols.iter().map(move |c| r * width + c)).collect())
    }

    pub(super) fn maxima(geometry: &Geometry<'_>, x: &Tensor) -> Result<Maxima> {
        let [.., oh, ow] = geometry.output;
        let window = geometry.window;
        let padded = window.pad_input(x, f64::NEG_INFINITY)?;
        let first = Tensor::from_vec(Self::first_taps(geometry)?, (1, 1, oh, ow), x.device())?;
        let mut tap = first.broadcast_as(&geometry.output)?.contiguous()?;
        let mut value = Tensor::full(f64::NEG_INFINITY, &geometry.output, x.device())?.to_dtype(x.dtype())?;
        for (number, at) in window.offsets().enumerate() {
            let candidate = window.gather(&padded, at, [oh, ow])?;
            // Only NaN differs from itself.
            let wins = candidate.gt(&value)?.maximum(&candidate.ne(&candidate)?)?;
            tap = wins.where_cond(&tap.ones_like()?.affine(number as f64, 0.0)?, &tap)?;
            value = wins.where_cond(&candidate, &value)?;
        }
        Ok(Maxima { value, tap })
    }
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::MaxPool
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        let geometry = Geometry::new(&self.window, x)?;
        Self::first_taps(&geometry)?;
        Ok(geometry.output_shape(x.len()))
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let geometry = Geometry::new(&self.window, x.dims())?;
        let shape = geometry.output_shape(x.rank());
        let x = x.reshape(&geometry.input)?.contiguous()?;
        fast::dispatch!(backend, [&x], T => {
            let pool = geometry.kernel_shape()?;
            let mut y = vec![<T as fast::Element>::zero_(); pool.output_len()];
            let mut argmax = vec![0; pool.output_len()];
            kernels::max_pool2d(&pool, &fast::slice::<T>(&x)?, &mut y, &mut argmax)?;
            return fast::tensor(y, &shape);
        });
        Ok(Self::maxima(&geometry, &x)?.value.reshape(shape)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let shape = x.shape();
        let geometry = Geometry::new(&self.window, x.dims())?;
        let [n, c, h, w] = geometry.input;
        let x = x.reshape(&geometry.input)?.contiguous()?;
        let grad = args.grad.reshape(&geometry.output)?.contiguous()?;
        fast::dispatch!(args.backend, [&x, &grad], T => {
            let pool = geometry.kernel_shape()?;
            let mut y = vec![<T as fast::Element>::zero_(); pool.output_len()];
            let mut argmax = vec![0; pool.output_len()];
            kernels::max_pool2d(&pool, &fast::slice::<T>(&x)?, &mut y, &mut argmax)?;
            let mut dx = vec![<T as fast::Element>::zero_(); pool.input_len()];
            kernels::max_pool2d_input_grad(&pool, &fast::slice::<T>(&grad)?, &argmax, &mut dx)?;
            return Ok(vec![Some(fast::tensor(dx, shape.dims())?)]);
        });
        let tap = Self::maxima(&geometry, &x)?.tap;
        let mut padded = self.window.padded_zeros([n, c, h, w], x.dtype(), &x)?;
        for (number, at) in self.window.offsets().enumerate() {
            let own = (&grad * tap.eq(number as u32)?.to_dtype(grad.dtype())?)?;
            padded = self.window.scatter_add(&padded, at, &own)?;
        }
        Ok(vec![Some(self.window.unpad(&padded, [h, w])?.reshape(shape)?)])
    }
}
