//! Average pooling.

use ascribe_kernels as kernels;
use candle_core::Tensor;

use super::Geometry;
use crate::error::Result;
use crate::ops::fast;
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::ops::window::Window;

/// Mean over each window: input `x [N, C, H, W]` (or `[N, C, L]`), output `[N, C, H′, W′]`.
///
/// A sum is divided by the number of the window's values within the input or, with `count_include_pad`, within
/// the padded input; what ceil mode adds behind the padding never counts (`PyTorch`, ONNX).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AveragePool {
    /// Size, stride, dilation, padding and rounding mode.
    pub window: Window,
    /// Whether zeros of the padding count as values.
    pub count_include_pad: bool,
}

impl AveragePool {
    /// What each window's sum is multiplied with: `[1, 1, H′, W′]`, zero for windows without a value.
    fn factors(&self, geometry: &Geometry<'_>, like: &Tensor) -> Result<Tensor> {
        let counts = |axis: usize| -> Vec<usize> {
            if !self.count_include_pad {
                return geometry.taps_inside(axis).map(|(_, inside)| inside).collect();
            }
            let (before, after) = self.window.pad(axis);
            let end = before + geometry.input[axis + 2] + after;
            (0..geometry.output[axis + 2]).map(|at| geometry.taps_before(axis, at, end)).collect()
        };
        let [rows, cols] = [counts(0), counts(1)];
        let factor = |count: usize| if count == 0 { 0.0 } else { 1.0 / count as f64 };
        let values: Vec<f64> = rows.iter().flat_map(|r| cols.iter().map(move |c| factor(r * c))).collect();
        let on_host = Tensor::from_vec(values, (1, 1, rows.len(), cols.len()), &candle_core::Device::Cpu)?;
        Ok(on_host.to_dtype(like.dtype())?.to_device(like.device())?)
    }
}

impl Operator for AveragePool {
    fn name(&self) -> &'static str {
        "AveragePool"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Average
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        Ok(Geometry::new(&self.window, x)?.output_shape(x.len()))
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let geometry = Geometry::new(&self.window, x.dims())?;
        let shape = geometry.output_shape(x.rank());
        let x = x.reshape(&geometry.input)?.contiguous()?;
        fast::dispatch!(backend, [&x], T => {
            let pool = geometry.kernel_shape()?;
            let mut y = vec![<T as fast::Element>::zero_(); pool.output_len()];
            kernels::avg_pool2d(&pool, self.count_include_pad, &fast::slice::<T>(&x)?, &mut y)?;
            return fast::tensor(y, &shape);
        });
        let [.., oh, ow] = geometry.output;
        let padded = self.window.pad_input(&x, 0.0)?;
        let mut sum = Tensor::zeros(&geometry.output, x.dtype(), x.device())?;
        for at in self.window.offsets() {
            sum = (sum + self.window.gather(&padded, at, [oh, ow])?)?;
        }
        Ok(sum.broadcast_mul(&self.factors(&geometry, &x)?)?.reshape(shape)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let geometry = Geometry::new(&self.window, x.dims())?;
        let grad = args.grad.reshape(&geometry.output)?.contiguous()?;
        fast::dispatch!(args.backend, [&grad], T => {
            let pool = geometry.kernel_shape()?;
            let mut dx = vec![<T as fast::Element>::zero_(); pool.input_len()];
            kernels::avg_pool2d_input_grad(&pool, self.count_include_pad, &fast::slice::<T>(&grad)?, &mut dx)?;
            return Ok(vec![Some(fast::tensor(dx, x.dims())?)]);
        });
        let [.., h, w] = geometry.input;
        let share = grad.broadcast_mul(&self.factors(&geometry, &grad)?)?;
        let mut padded = self.window.padded_zeros(geometry.input, grad.dtype(), &grad)?;
        for at in self.window.offsets() {
            padded = self.window.scatter_add(&padded, at, &share)?;
        }
        Ok(vec![Some(self.window.unpad(&padded, [h, w])?.reshape(x.shape())?)])
    }
}
