//! Normalisation by mean and variance of the input: layer, group and instance norm.

use candle_core::Tensor;

use super::rows::{standardise, standardise_grad};
use super::{channel_sum, channels, check_parameters, per_channel, scale_bias_slot};
use crate::error::{Error, Result};
use crate::ops::binary::{Binary, broadcast_shape, sum_to};
use crate::ops::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};

/// Layer normalisation (Ba 2016): standardises each sample over the axes from `axis` on, with the biased variance,
/// then scales and shifts.
///
/// Inputs `x`, `scale` and optionally `bias`, both of which broadcast to the normalised axes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerNorm {
    /// The first normalised axis.
    pub axis: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// Group normalisation (Wu & He 2018): standardises `C / groups` channels of `x [N, C, …]` together; inputs `x`,
/// `scale [C]` and `bias [C]`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroupNorm {
    /// Number of groups; divides the number of channels.
    pub groups: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// Instance normalisation (Ulyanov 2016): standardises each channel of each sample by itself; inputs
/// `x [N, C, …]`, `scale [C]` and `bias [C]`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InstanceNorm {
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// A kind that is normalisation while the parameters are constants.
fn kind(dynamic: &[bool]) -> Kind {
    if dynamic.iter().skip(1).any(|&d| d) { Kind::Product } else { Kind::Normalisation }
}

impl LayerNorm {
    /// The value as one row per standardised part.
    fn rows(self, x: &Tensor) -> Result<Tensor> {
        let len: usize = x.dims().iter().skip(self.axis).product();
        Ok(x.reshape(((), len))?)
    }
}

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        scale_bias_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let (x, parameters) = match *inputs {
            [x, ref parameters @ ..] if (1..=2).contains(&parameters.len()) => (x, parameters),
            _ => return Err(Error::invalid("inputs", format!("{} given", inputs.len()), "x, scale, bias")),
        };
        let tail = x.get(self.axis..).unwrap_or(&[]);
        if self.axis == 0 || tail.is_empty() || tail.contains(&0) {
            return Err(Error::invalid(
                "axis",
                format!("{} for an input {x:?}", self.axis),
                "an axis behind the batch axis",
            ));
        }
        for (name, shape) in ["scale", "bias"].iter().zip(parameters) {
            if broadcast_shape(tail, shape).is_ok_and(|all| all == tail) {
                continue;
            }
            let expected = format!("one that broadcasts to the normalised {tail:?}");
            return Err(Error::invalid(*name, format!("has shape {shape:?}"), expected));
        }
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, scale) = (input(inputs, 0)?, input(inputs, 1)?);
        let y = standardise(&self.rows(x)?, self.epsilon, backend)?.reshape(x.shape())?;
        let y = Binary::Mul.forward(&[&y, scale], backend)?;
        match inputs.get(2) {
            Some(bias) => Binary::Add.forward(&[&y, bias], backend),
            None => Ok(y),
        }
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, scale) = (args.input(0)?, args.input(1)?);
        let rows = self.rows(x)?;
        let mut grads = vec![None; args.inputs.len()];
        if args.wants(0) {
            let inner = self.rows(&Binary::Mul.forward(&[args.grad, scale], args.backend)?)?;
            let dx = standardise_grad(&rows, &inner, self.epsilon, args.backend)?;
            grads[0] = Some(dx.reshape(x.shape())?);
        }
        if args.wants(1) {
            let y = standardise(&rows, self.epsilon, args.backend)?.reshape(x.shape())?;
            grads[1] = Some(sum_to(&(args.grad * y)?, scale.dims())?);
        }
        if args.wants(2) {
            grads[2] = Some(sum_to(args.grad, args.input(2)?.dims())?);
        }
        Ok(grads)
    }
}

/// A group norm with the groups of a given input.
#[derive(Clone, Copy)]
struct Grouped {
    groups: usize,
    epsilon: f64,
}

impl Grouped {
    fn output_shape(self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, ..] = shapes::<3>(inputs)?;
        let count = channels(x)?;
        if self.groups == 0 || count % self.groups != 0 || x.contains(&0) {
            return Err(Error::invalid(
                "groups",
                format!("{} for an input {x:?}", self.groups),
                format!("a divisor of its {count} channels, and no empty axis"),
            ));
        }
        check_parameters(&["scale", "bias"], &inputs[1..], count)?;
        Ok(x.to_vec())
    }

    fn rows(self, x: &Tensor) -> Result<Tensor> {
        Ok(x.reshape((x.dim(0)? * self.groups, ()))?)
    }

    fn forward(self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, scale, bias) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
        let y = standardise(&self.rows(x)?, self.epsilon, backend)?.reshape(x.shape())?;
        let y = Binary::Mul.forward(&[&y, &per_channel(scale, x.rank())?], backend)?;
        Binary::Add.forward(&[&y, &per_channel(bias, x.rank())?], backend)
    }

    fn vjp(self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, scale) = (args.input(0)?, args.input(1)?);
        let rows = self.rows(x)?;
        let mut grads = vec![None; 3];
        if args.wants(0) {
            let scale = per_channel(scale, x.rank())?;
            let inner = self.rows(&Binary::Mul.forward(&[args.grad, &scale], args.backend)?)?;
            let dx = standardise_grad(&rows, &inner, self.epsilon, args.backend)?;
            grads[0] = Some(dx.reshape(x.shape())?);
        }
        if args.wants(1) {
            let y = standardise(&rows, self.epsilon, args.backend)?.reshape(x.shape())?;
            grads[1] = Some(channel_sum(&(args.grad * y)?, scale)?);
        }
        if args.wants(2) {
            grads[2] = Some(channel_sum(args.grad, args.input(2)?)?);
        }
        Ok(grads)
    }
}

impl GroupNorm {
    fn grouped(self) -> Grouped {
        Grouped { groups: self.groups, epsilon: self.epsilon }
    }
}

impl InstanceNorm {
    /// One group per channel.
    fn grouped(self, x: &[usize]) -> Grouped {
        Grouped { groups: x.get(1).copied().unwrap_or(0), epsilon: self.epsilon }
    }
}

impl Operator for GroupNorm {
    fn name(&self) -> &'static str {
        "GroupNormalization"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        scale_bias_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        self.grouped().output_shape(inputs)
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        self.grouped().forward(inputs, backend)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        self.grouped().vjp(args)
    }
}

impl Operator for InstanceNorm {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        scale_bias_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        self.grouped(inputs.first().copied().unwrap_or(&[])).output_shape(inputs)
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        self.grouped(input(inputs, 0)?.dims()).forward(inputs, backend)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        self.grouped(args.input(0)?.dims()).vjp(args)
    }
}
