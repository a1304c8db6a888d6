//! Average pooling to a given output size.

use candle_core::{Device, Tensor};

use super::AveragePool;
use crate::error::{Error, Result};
use crate::ops::linear::Linear;
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::ops::window::{Window, image_shape};

/// Average pooling to a fixed output size: input `x [N, C, H, W]` (or `[N, C, L]`, with `output[0] = 1`).
///
/// Output `i` of `n` along a side of length `s` is the mean over `⌊i·s/n⌋ … ⌈(i+1)·s/n⌉ − 1`, as `PyTorch`'s
/// `adaptive_avg_pool2d` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdaptiveAveragePool {
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl AdaptiveAveragePool {
    fn check(&self, x: &[usize]) -> Result<[usize; 4]> {
        let sizes @ [.., h, w] = image_shape(x)?;
        if x.len() == 3 && self.output[0] != 1 {
            return Err(Error::invalid(
                "output",
                format!("{:?}", self.output),
                "height 1 for an input [N, C, L]",
            ));
        }
        if self.output.contains(&0) || h == 0 || w == 0 {
            return Err(Error::invalid(
                "output",
                format!("{:?} of an input {x:?}", self.output),
                "sides of at least 1",
            ));
        }
        Ok(sizes)
    }

    fn output_dims(&self, x: &[usize]) -> Vec<usize> {
        let [oh, ow] = self.output;
        match *x {
            [n, c, _] => vec![n, c, ow],
            [n, c, ..] => vec![n, c, oh, ow],
            _ => x.to_vec(),
        }
    }

    /// The plain pooling that does the same, where the output divides the input.
    fn plain(&self, [.., h, w]: [usize; 4]) -> Option<AveragePool> {
        let [oh, ow] = self.output;
        let kernel = [h / oh, w / ow];
        (h % oh == 0 && w % ow == 0)
            .then(|| AveragePool { window: Window::new(kernel).stride(kernel), count_include_pad: false })
    }

    /// The `[n, side]` matrix whose row `i` averages bin `i`.
    fn bins(n: usize, side: usize, like: &Tensor) -> Result<Tensor> {
        let count = n.checked_mul(side).ok_or_else(|| {
            Error::invalid("output", format!("{n} bins"), "a number that fits the address space")
        })?;
        let mut values = vec![0.0; count];
        for (i, row) in values.chunks_exact_mut(side).enumerate() {
            let bin = i * side / n..((i + 1) * side).div_ceil(n);
            let weight = 1.0 / bin.len() as f64;
            row[bin].fill(weight);
        }
        let on_host = Tensor::from_vec(values, (n, side), &Device::Cpu)?;
        Ok(on_host.to_dtype(like.dtype())?.to_device(like.device())?)
    }

    /// `R x Cᵀ` for every plane of `x`.
    fn sandwich(x: &Tensor, rows: &Tensor, cols: &Tensor, backend: Backend) -> Result<Tensor> {
        let product = |x: &Tensor, matrix: &Tensor| {
            let y = Linear.forward(&[x, matrix], backend)?;
            Ok::<_, Error>(y.transpose(2, 3)?.contiguous()?)
        };
        product(&product(x, cols)?, rows)
    }
}

impl Operator for AdaptiveAveragePool {
    fn name(&self) -> &'static str {
        "AdaptiveAveragePool"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Average
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        self.check(x)?;
        Ok(self.output_dims(x))
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let sizes @ [.., h, w] = self.check(x.dims())?;
        let shape = self.output_dims(x.dims());
        let x = x.reshape(&sizes)?;
        let y = if let Some(pool) = self.plain(sizes) {
            pool.forward(&[&x], backend)?
        } else {
            let [oh, ow] = self.output;
            Self::sandwich(&x, &Self::bins(oh, h, &x)?, &Self::bins(ow, w, &x)?, backend)?
        };
        Ok(y.reshape(shape)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let sizes @ [n, c, h, w] = self.check(x.dims())?;
        let [oh, ow] = self.output;
        let grad = args.grad.reshape((n, c, oh, ow))?;
        if let Some(pool) = self.plain(sizes) {
            let (image, output) = (x.reshape(&sizes)?, args.output.reshape((n, c, oh, ow))?);
            let inner = Vjp { inputs: &[&image], output: &output, grad: &grad, ..*args };
            let grads = pool.vjp(&inner)?;
            return grads.into_iter().map(|g| g.map(|g| Ok(g.reshape(x.shape())?)).transpose()).collect();
        }
        let (rows, cols) = (Self::bins(oh, h, &grad)?, Self::bins(ow, w, &grad)?);
        let dx = Self::sandwich(&grad, &rows.t()?.contiguous()?, &cols.t()?.contiguous()?, args.backend)?;
        Ok(vec![Some(dx.reshape(x.shape())?)])
    }
}
