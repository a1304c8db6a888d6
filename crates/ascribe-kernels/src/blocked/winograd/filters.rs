//! The transformed filters of a convolution by minimal filtering.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::super::buffer::Buffer;
use super::super::conv::BlockedConv;
use super::super::layout::BLOCK;
use super::super::pack::Panel;
use super::Minimal;
use super::transform::FilterTransform;
use crate::error::{KernelError, Result};
use crate::float::Float;

/// Weights that stay where they are, to be read when a convolution runs; their values must stay the same.
pub trait Weights: Send + Sync {
    /// Calls `reader` with all of them, `[out, in / groups, kh, kw]`.
    fn read(&self, reader: &mut dyn FnMut(&[f32]));

    /// What they are to be clipped to.
    fn bounds(&self) -> [f32; 2] {
        NO_BOUNDS
    }
}

const NO_BOUNDS: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

impl Weights for Vec<f32> {
    fn read(&self, reader: &mut dyn FnMut(&[f32])) {
        reader(self);
    }
}

/// Weights that a convolution does not own.
#[derive(Clone)]
pub(in super::super) struct Lent {
    pub(super) weights: Arc<dyn Weights>,
    /// The transformed filters, once there were tiles enough to keep them.
    pub(super) packed: Arc<OnceLock<Buffer>>,
}

impl Lent {
    pub(super) fn new(weights: Arc<dyn Weights>) -> Self {
        Self { weights, packed: Arc::default() }
    }

    /// Calls `reader` with all `len` weights.
    pub(super) fn read<T>(&self, len: usize, mut reader: impl FnMut(Raw<'_>) -> T) -> Result<T> {
        let (mut found, mut result) = (0, None);
        self.weights.read(&mut |values| {
            found = values.len();
            if found == len {
                result = Some(reader(Raw { values, bounds: self.weights.bounds() }));
            }
        });
        let (kernel, argument) = ("winograd convolution", "weights");
        result.ok_or(KernelError::Length { kernel, argument, expected: len, found })
    }
}

/// Weights as the network has them.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    /// `[out, in, 3, 3]`.
    pub(super) values: &'a [f32],
    /// What they are clipped to.
    pub(super) bounds: [f32; 2],
}

impl<'a> From<&'a [f32]> for Raw<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self { values, bounds: NO_BOUNDS }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("packed", &self.packed.get().is_some()).finish_non_exhaustive()
    }
}

impl BlockedConv {
    /// The filters of one panel to transform to `out`.
    pub(super) fn filters<'a>(
        &self,
        minimal: Minimal,
        weight: Raw<'a>,
        panel: &Panel,
        out: *mut f32,
    ) -> FilterTransform<'a> {
        FilterTransform {
            outputs: minimal.outputs,
            weight,
            gradient: minimal.gradient,
            channels: [self.dst.0, self.src.0],
            first: panel.block * BLOCK,
            lanes: panel.blocks * BLOCK,
            out,
        }
    }

    /// The filters of all panels, one after the other.
    pub(super) fn pack_filters(&self, minimal: Minimal, weight: Raw<'_>) -> Buffer {
        let lanes: usize = self.panels.iter().map(|panel| panel.blocks * BLOCK).sum();
        let mut packed = Buffer::new(minimal.points() * self.src.0 * lanes);
        for panel in &self.panels {
            let out = packed[panel.weights[0]..].as_mut_ptr();
            f32::dispatch(self.isa, self.filters(minimal, weight, panel, out));
        }
        packed
    }
}
