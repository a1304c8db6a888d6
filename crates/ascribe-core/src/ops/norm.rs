//! Normalisation: by stored statistics (affine) and by those of the input.

mod batch;
mod local_response;
mod rows;
mod standard;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

pub use batch::{BatchNorm, ScaleShift};
pub use local_response::LocalResponseNorm;
pub use standard::{GroupNorm, InstanceNorm, LayerNorm};

use super::operator::Slot;
use crate::error::{Error, Result};

/// Number of channels of `[N, C, …]`.
fn channels(x: &[usize]) -> Result<usize> {
    match *x {
        [_, c, ..] if c > 0 => Ok(c),
        _ => Err(Error::invalid("input", format!("has shape {x:?}"), "[N, C, …] with at least one channel")),
    }
}

/// Checks that each parameter has one value per channel.
fn check_parameters(names: &[&str], parameters: &[&[usize]], channels: usize) -> Result<()> {
    for (name, shape) in names.iter().zip(parameters) {
        if shape.iter().product::<usize>() != channels {
            return Err(Error::invalid(*name, format!("has shape {shape:?}"), format!("[{channels}]")));
        }
    }
    Ok(())
}

/// One value per channel, shaped to broadcast with a value `[N, C, …]` of this rank.
fn per_channel(parameter: &Tensor, rank: usize) -> Result<Tensor> {
    let mut shape = vec![1; rank];
    shape[1] = parameter.elem_count();
    Ok(parameter.reshape(shape)?)
}

/// Sums a value `[N, C, …]` over everything but the channels, into the shape of a parameter.
fn channel_sum(value: &Tensor, parameter: &Tensor) -> Result<Tensor> {
    let axes: Vec<usize> = (0..value.rank()).filter(|&axis| axis != 1).collect();
    Ok(value.sum(axes)?.reshape(parameter.shape())?)
}

/// Slots of `x, scale, bias, …`.
fn scale_bias_slot(slot: usize) -> Slot {
    [Slot::Data, Slot::Weight, Slot::Bias].get(slot).copied().unwrap_or(Slot::Other)
}

/// Number of chunks of this length per parallel task.
fn chunks_per_task(len: usize) -> usize {
    const VALUES: usize = 16 * 1024;
    (VALUES / len.max(1)).max(1)
}
