//! Batch normalisation at inference, and the per-channel affine map that it is.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{channel_sum, channels, check_parameters, chunks_per_task, per_channel, scale_bias_slot};
use crate::error::Result;
use crate::ops::fast;
use crate::ops::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};

/// Batch normalisation with stored statistics (Ioffe & Szegedy 2015): inputs `x [N, C, …]` and `scale`, `bias`,
/// `mean` and `variance`, each `[C]`; `y = scale · (x − mean) / √(variance + ε) + bias`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BatchNorm {
    /// ε.
    pub epsilon: f64,
}

/// `y = scale · x + shift` per channel: inputs `x [N, C, …]`, `scale [C]` and `shift [C]`. What a batch norm
/// that cannot be folded becomes in canonical form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScaleShift;

/// Affine while all parameters are constants.
fn kind(dynamic: &[bool]) -> Kind {
    if dynamic.iter().skip(1).any(|&d| d) { Kind::Product } else { Kind::Affine }
}

/// `scale · x + shift` per channel, in one pass on the CPU.
fn scale_shift(x: &Tensor, scale: &Tensor, shift: Option<&Tensor>, backend: Backend) -> Result<Tensor> {
    let scale = scale.flatten_all()?.contiguous()?;
    let shift = shift.map(|s| s.flatten_all()?.contiguous()).transpose()?;
    let x = x.contiguous()?;
    let shift_or_any = shift.as_ref().unwrap_or(&scale);
    fast::dispatch!(backend, [&x, &scale, shift_or_any], T => {
        let plane = x.dims().iter().skip(2).product::<usize>().max(1);
        let (values, scale) = (fast::slice::<T>(&x)?, fast::slice::<T>(&scale)?);
        let shift = shift.as_ref().map(fast::slice::<T>).transpose()?;
        let (values, scale, shift): (&[T], &[T], Option<&[T]>) = (&values, &scale, shift.as_deref());
        let mut y = vec![<T as fast::Element>::zero_(); values.len()];
        let planes = y.par_chunks_mut(plane).zip(values.par_chunks(plane)).with_min_len(chunks_per_task(plane));
        planes.enumerate().for_each(|(at, (y, x))| {
            let channel = at % scale.len();
            let factor = scale[channel];
            let offset = shift.map_or(<T as fast::Element>::zero_(), |s| s[channel]);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * factor + offset);
        });
        return fast::tensor(y, x.dims());
    });
    let y = x.broadcast_mul(&per_channel(&scale, x.rank())?)?;
    match shift {
        Some(shift) => Ok(y.broadcast_add(&per_channel(&shift, x.rank())?)?),
        None => Ok(y),
    }
}

impl BatchNorm {
    const PARAMETERS: [&'static str; 4] = ["scale", "bias", "mean", "variance"];

    /// `1 / √(variance + ε)`.
    fn inverse_deviation(self, variance: &Tensor) -> Result<Tensor> {
        Ok((variance + self.epsilon)?.sqrt()?.recip()?)
    }

    /// The factor and offset per channel that do the same, in the shape of the parameters.
    ///
    /// # Errors
    /// If the four parameters do not have the same shape.
    pub fn to_scale_shift(
        self,
        scale: &Tensor,
        bias: &Tensor,
        mean: &Tensor,
        variance: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let factor = (scale * self.inverse_deviation(variance)?)?;
        let offset = (bias - (mean * &factor)?)?;
        Ok((factor, offset))
    }
}

impl Operator for BatchNorm {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        scale_bias_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, ..] = shapes::<5>(inputs)?;
        check_parameters(&Self::PARAMETERS, &inputs[1..], channels(x)?)?;
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let parameter = |slot| Ok::<_, crate::Error>(input(inputs, slot)?.flatten_all()?);
        let (factor, offset) =
            self.to_scale_shift(&parameter(1)?, &parameter(2)?, &parameter(3)?, &parameter(4)?)?;
        scale_shift(x, &factor, Some(&offset), backend)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, scale, bias) = (args.input(0)?, args.input(1)?, args.input(2)?);
        let (mean, variance) = (args.input(3)?, args.input(4)?);
        let inverse = self.inverse_deviation(&variance.flatten_all()?)?;
        let factor = (scale.flatten_all()? * &inverse)?;
        let mut grads = vec![None; 5];
        if args.wants(0) {
            grads[0] = Some(scale_shift(args.grad, &factor, None, args.backend)?);
        }
        if args.wants(1) || args.wants(4) {
            let centred = x.broadcast_sub(&per_channel(mean, x.rank())?)?;
            let moment = channel_sum(&(args.grad * centred)?, &inverse)?;
            if args.wants(1) {
                grads[1] = Some((&moment * &inverse)?.reshape(scale.shape())?);
            }
            if args.wants(4) {
                // d (v + ε)^{−½} / dv = −½ (v + ε)^{−3/2}.
                let slope = ((&factor * inverse.sqr()?)? * -0.5)?;
                grads[4] = Some((moment * slope)?.reshape(variance.shape())?);
            }
        }
        if args.wants(2) {
            grads[2] = Some(channel_sum(args.grad, bias)?);
        }
        if args.wants(3) {
            let sum = channel_sum(args.grad, &factor)?;
            grads[3] = Some((sum * factor)?.neg()?.reshape(mean.shape())?);
        }
        Ok(grads)
    }
}

impl Operator for ScaleShift {
    fn name(&self) -> &'static str {
        "ScaleShift"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        scale_bias_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, ..] = shapes::<3>(inputs)?;
        check_parameters(&["scale", "shift"], &inputs[1..], channels(x)?)?;
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        scale_shift(input(inputs, 0)?, input(inputs, 1)?, Some(input(inputs, 2)?), backend)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, scale, shift) = (args.input(0)?, args.input(1)?, args.input(2)?);
        let mut grads = vec![None; 3];
        if args.wants(0) {
            grads[0] = Some(scale_shift(args.grad, scale, None, args.backend)?);
        }
        if args.wants(1) {
            grads[1] = Some(channel_sum(&(args.grad * x)?, scale)?);
        }
        if args.wants(2) {
            grads[2] = Some(channel_sum(args.grad, shift)?);
        }
        Ok(grads)
    }
}
