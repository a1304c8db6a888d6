//! The transformed filters of a Winograd convolution, and weights that stay in the caller's memory.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::super::buffer::Buffer;
use super::super::conv::BlockedConv;
use super::super::layout::BLOCK;
use super::super::pack::Panel;
use super::Winograd;
use super::transform::FilterTransform;
use crate::error::{KernelError, Result};
use crate::float::Float;

/// Weights that stay in the caller's memory (*lent* weights) and are read when a convolution runs. Their values must
/// not change.
pub trait Weights: Send + Sync {
    /// Calls `reader` with all weights, `[out, in / groups, kh, kw]`.
    fn read(&self, reader: &mut dyn FnMut(&[f32]));

    /// Lower and upper bound to which the convolution clips the weights; by default they are not clipped.
    fn bounds(&self) -> [f32; 2] {
        NO_BOUNDS
    }
}

/// Bounds that do not clip anything.
const NO_BOUNDS: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

impl Weights for Vec<f32> {
    fn read(&self, reader: &mut dyn FnMut(&[f32])) {
        reader(self);
    }
}

/// Lent weights, and what a convolution keeps with them.
#[derive(Clone)]
pub(in super::super) struct Lent {
    pub(super) weights: Arc<dyn Weights>,
    /// The transformed filters, after the first run with so many tiles that it keeps them.
    pub(super) packed: Arc<OnceLock<Buffer>>,
}

impl Lent {
    pub(super) fn new(weights: Arc<dyn Weights>) -> Self {
        Self { weights, packed: Arc::default() }
    }

    /// Calls `reader` with the weights; an error if there are not `len` of them.
    pub(super) fn read<T>(&self, len: usize, mut reader: impl FnMut(Raw<'_>) -> T) -> Result<T> {
        let (mut found, mut result) = (0, None);
        self.weights.read(&mut |values| {
            found = values.len();
            if found == len {
                result = Some(reader(Raw { values, bounds: self.weights.bounds() }));
            }
        });
        let (kernel, argument) = ("Winograd convolution", "weights");
        result.ok_or(KernelError::Length { kernel, argument, expected: len, found })
    }
}

/// Weights as the network stores them, with bounds to clip them to.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    /// `[out, in, 3, 3]`.
    pub(super) values: &'a [f32],
    /// Lower and upper bound.
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
    /// The transformation of the filters of one panel, which writes them to `out`.
    pub(super) fn filters<'a>(
        &self,
        winograd: Winograd,
        weight: Raw<'a>,
        panel: &Panel,
        out: *mut f32,
    ) -> FilterTransform<'a> {
        FilterTransform {
            outputs: winograd.outputs,
            weight,
            gradient: winograd.gradient,
            channels: [self.dst.0, self.src.0],
            first: panel.block * BLOCK,
            lanes: panel.blocks * BLOCK,
            out,
        }
    }

    /// The transformed filters of all panels, one panel after the other.
    pub(super) fn pack_filters(&self, winograd: Winograd, weight: Raw<'_>) -> Buffer {
        let lanes: usize = self.panels.iter().map(|panel| panel.blocks * BLOCK).sum();
        let mut packed = Buffer::new(winograd.points() * self.src.0 * lanes);
        for panel in &self.panels {
            let out = packed[panel.weights[0]..].as_mut_ptr();
            f32::dispatch(self.isa, self.filters(winograd, weight, panel, out));
        }
        packed
    }
}
