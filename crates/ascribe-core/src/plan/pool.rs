//! Pooling of blocked images.

use ascribe_kernels::blocked::BlockedShape;

use crate::error::Result;
use crate::ops::Op;

/// A pooling with its geometry.
#[derive(Debug)]
pub(super) struct Pool {}

impl Pool {
    /// The pooling that an operator does on an image `[C, H, W]`; `None` if it is none that the kernels serve.
    pub(super) fn of(_op: &Op, _input: &[usize], _output: &[usize]) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn run(
        &self,
        _: &BlockedShape,
        _: &[f32],
        _: &BlockedShape,
        _: &mut [f32],
        _: Option<&mut [u8]>,
    ) -> Result<()> {
        Ok(())
    }

    pub(super) fn gradient(
        &self,
        _: &BlockedShape,
        _: &[f32],
        _: Option<&[u8]>,
        _: &BlockedShape,
        _: &mut [f32],
    ) -> Result<()> {
        Ok(())
    }

    /// Whether the gradient needs to know the winners.
    pub(super) fn has_winners(&self) -> bool {
        false
    }
}
