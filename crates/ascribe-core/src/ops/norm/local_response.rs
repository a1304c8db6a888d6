//! Local response normalisation across channels.

use candle_core::Tensor;

use super::channels;
use crate::error::{Error, Result};
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::ops::window::pad_axis;

/// Local response normalisation (Krizhevsky 2012), as ONNX defines it, of `x [N, C, …]`:
/// `y_c = x_c / (bias + alpha / size · Σ x_k²)^beta` with the sum over the channels `k` from
/// `c − ⌊(size − 1) / 2⌋` to `c + ⌈(size − 1) / 2⌉` that exist.
///
/// For even sizes `PyTorch` looks one channel further back and one less ahead.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LocalResponseNorm {
    /// Number of channels in the sum.
    pub size: usize,
    /// Factor of the mean of squares.
    pub alpha: f64,
    /// Exponent of the divisor.
    pub beta: f64,
    /// Offset of the divisor.
    pub bias: f64,
}

impl LocalResponseNorm {
    /// Number of channels in the sum before and after the own one.
    fn reach(self) -> (usize, usize) {
        let others = self.size.saturating_sub(1);
        (others / 2, others.div_ceil(2))
    }

    /// Sum over the channels from `before` positions before to `after` behind each channel.
    fn channel_window(value: &Tensor, (before, after): (usize, usize)) -> Result<Tensor> {
        let count = value.dim(1)?;
        let (before, after) = (before.min(count - 1), after.min(count - 1));
        let padded = pad_axis(value, 1, before, after, 0.0)?;
        let mut sum = padded.narrow(1, 0, count)?;
        for start in 1..=before + after {
            sum = (sum + padded.narrow(1, start, count)?)?;
        }
        Ok(sum)
    }

    /// `bias + alpha / size · Σ x²`.
    fn divisor(self, x: &Tensor) -> Result<Tensor> {
        let sum = Self::channel_window(&x.sqr()?, self.reach())?;
        Ok(sum.affine(self.alpha / self.size as f64, self.bias)?)
    }
}

impl Operator for LocalResponseNorm {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Normalisation
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        channels(x)?;
        if self.size == 0 {
            return Err(Error::invalid("size", "0", "at least one channel"));
        }
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        Ok((x * self.divisor(x)?.powf(-self.beta)?)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let (x, grad) = (args.input(0)?, args.grad);
        let divisor = self.divisor(x)?;
        let power = divisor.powf(-self.beta)?;
        // y_c depends on x_k if k is in the window of c, so the sum over c runs over the mirrored window.
        let (before, after) = self.reach();
        let spread = (((grad * x)? * &power)? / divisor)?;
        let spread = Self::channel_window(&spread, (after, before))?;
        let cross = ((x * spread)? * (-2.0 * self.beta * self.alpha / self.size as f64))?;
        Ok(vec![Some(((grad * power)? + cross)?)])
    }
}
