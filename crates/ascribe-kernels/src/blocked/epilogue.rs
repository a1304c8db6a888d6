//! Epilogues on blocked tensors: what is done to finished sums before they are stored.

use super::layout::{BLOCK, BlockedShape};
use crate::epilogue::Activation;
use crate::error::{KernelError, Result, check_len};

/// What is done to a sum before it is stored: y ← mask · activation(sum + bias\[channel\] + residual).
///
/// Bit masks have one bit per value: bit c of the `u16` at \[n\]\[block\]\[y\]\[x\] is that of channel 16 · block + c.
/// They have [`BlockedShape::mask_len`] elements.
#[derive(Debug)]
pub struct BlockedEpilogue<'a> {
    /// One value per channel, padded to a multiple of 16.
    pub bias: Option<&'a [f32]>,
    /// A tensor that is added before the activation. Its shape is that of the destination, except that the border may
    /// differ.
    pub residual: Option<(&'a BlockedShape, &'a [f32])>,
    /// Applied to sum + bias + residual.
    pub activation: Activation<f32>,
    /// Receives a bit mask of the values at which the activation passes its gradient on: where sum > 0 for `Relu`,
    /// where min < sum < max for `Clip` (as in `PyTorch`, the gradient is 0 at the bounds), everywhere for `None`.
    pub record: Option<&'a mut [u16]>,
    /// A bit mask that is applied last: a value is kept where its bit is set, and replaced by 0 elsewhere. With the
    /// bits that the forward pass recorded, this multiplies by the gradient of the activation.
    pub mask: Option<&'a [u16]>,
}

impl Default for BlockedEpilogue<'_> {
    fn default() -> Self {
        Self { bias: None, residual: None, activation: Activation::None, record: None, mask: None }
    }
}

impl BlockedEpilogue<'_> {
    /// Whether the epilogue does nothing, so that sums are stored unchanged.
    pub(super) fn is_plain(&self) -> bool {
        self.bias.is_none()
            && self.residual.is_none()
            && self.activation == Activation::None
            && self.record.is_none()
            && self.mask.is_none()
    }

    /// Checks all parts against the shape of the destination.
    pub(super) fn check(&self, kernel: &'static str, dst: &BlockedShape) -> Result<()> {
        if let Some(bias) = self.bias {
            check_len(kernel, "bias", dst.blocks() * BLOCK, bias.len())?;
        }
        if let Some((shape, residual)) = self.residual {
            same_tensor(kernel, "residual", dst, shape)?;
            check_len(kernel, "residual", shape.len(), residual.len())?;
        }
        if let Some(record) = &self.record {
            check_len(kernel, "record", dst.mask_len(), record.len())?;
        }
        if let Some(mask) = self.mask {
            check_len(kernel, "mask", dst.mask_len(), mask.len())?;
        }
        Ok(())
    }
}

/// Checks that two shapes are the same, except that borders may differ.
pub(super) fn same_tensor(
    kernel: &'static str,
    name: &str,
    expected: &BlockedShape,
    found: &BlockedShape,
) -> Result<()> {
    let of = |shape: &BlockedShape| (shape.batch, shape.channels, shape.size);
    if of(expected) == of(found) {
        return Ok(());
    }
    let text = |shape: &BlockedShape| {
        format!("{} × {} × {} × {}", shape.batch, shape.channels, shape.size[0], shape.size[1])
    };
    Err(KernelError::Shape {
        what: kernel,
        problem: format!("`{name}` is {}, it has to be {}", text(found), text(expected)),
    })
}
