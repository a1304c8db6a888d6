//! What is done to finished sums before they are stored.

use super::layout::{BLOCK, BlockedShape};
use crate::epilogue::Activation;
use crate::error::{KernelError, Result, check_len};

/// y ← mask · activation(sum + bias\[channel\] + residual).
///
/// Bit masks have one bit per value, bit c of entry \[n\]\[block\]\[y\]\[x\] for channel 16 · block + c
/// ([`BlockedShape::mask_len`] entries).
#[derive(Debug)]
pub struct BlockedEpilogue<'a> {
    /// One value per channel, padded to 16 · blocks.
    pub bias: Option<&'a [f32]>,
    /// Added before the activation; batch, channels and size are the destination's, the border its own.
    pub residual: Option<(&'a BlockedShape, &'a [f32])>,
    /// Applied to the sum.
    pub activation: Activation<f32>,
    /// Receives the bits of the values through which the activation passes the gradient: sum > 0 for
    /// `Relu`, min < sum < max for `Clip` (as in `PyTorch`, 0 at the bounds), all for `None`.
    pub record: Option<&'a mut [u16]>,
    /// Applied last: a value is kept where its bit is set, and 0 elsewhere. With the bits recorded in the
    /// forward pass this is the gradient of the activation.
    pub mask: Option<&'a [u16]>,
}

impl Default for BlockedEpilogue<'_> {
    fn default() -> Self {
        Self { bias: None, residual: None, activation: Activation::None, record: None, mask: None }
    }
}

impl BlockedEpilogue<'_> {
    /// Whether sums are stored as they are.
    pub(super) fn is_plain(&self) -> bool {
        self.bias.is_none()
            && self.residual.is_none()
            && self.activation == Activation::None
            && self.record.is_none()
            && self.mask.is_none()
    }

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

/// Checks that two tensors differ in their borders at most.
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
