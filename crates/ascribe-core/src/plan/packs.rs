//! Weights for the kernels: packed once per graph, or read from their original tensor where packed ones would take
//! much memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ascribe_kernels::blocked::{BLOCK, BlockedConv, Weights};
use ascribe_kernels::{ConvShape, PackedConv};
use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::fast;

/// The purpose that a convolution's weights are packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    Forward,
    /// Forward, from a plain (row-major) image.
    Planar,
    InputGrad,
    /// The input gradient for quotients of relevance and activations, whose magnitude is unbounded: numbers so small
    /// that a matrix unit treats them as zero must count, too.
    Relevance,
    /// The input gradient as a plain image.
    PlanarGrad,
}

impl Use {
    fn pack(self, shape: &ConvShape, weight: &Stored) -> Result<Option<BlockedConv>> {
        match self {
            Self::Forward => forward(shape, weight),
            Self::Planar => weight.with(|w| BlockedConv::forward_planar(shape, w)),
            Self::InputGrad => input_grad(shape, weight),
            Self::Relevance => weight.with(|w| BlockedConv::input_grad(shape, w)),
            Self::PlanarGrad => weight.with(|w| BlockedConv::input_grad_planar(shape, w)),
        }
    }
}

/// Which of the weights are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    All,
    /// max(w, 0)
    Positive,
    /// min(w, 0)
    Negative,
}

impl Part {
    /// The range that weights are clipped to.
    fn bounds(self) -> [f32; 2] {
        match self {
            Self::All => [f32::NEG_INFINITY, f32::INFINITY],
            Self::Positive => [0.0, f32::INFINITY],
            Self::Negative => [f32::NEG_INFINITY, 0.0],
        }
    }

    fn of(self, values: &[f32]) -> Vec<f32> {
        let [low, high] = self.bounds();
        // NaN stays NaN.
        values.iter().map(|v| v.clamp(low, high)).collect()
    }
}

/// A weight in the graph's own memory.
#[derive(Clone)]
struct Stored {
    tensor: Tensor,
    part: Part,
}

impl Stored {
    fn new(graph: &Graph, weight: NodeId, part: Part) -> Result<Self> {
        Ok(Self { tensor: values(graph, weight)?, part })
    }

    /// Calls `pack` with the selected part of the weights.
    fn with<T>(&self, pack: impl FnOnce(&[f32]) -> ascribe_kernels::Result<T>) -> Result<T> {
        let values = fast::slice::<f32>(&self.tensor)?;
        Ok(match self.part {
            Part::All => pack(&values)?,
            part => pack(&part.of(&values))?,
        })
    }
}

impl Weights for Stored {
    fn read(&self, reader: &mut dyn FnMut(&[f32])) {
        // A plan is only compiled if all floating-point constants are f32 on the CPU, so reading the weights
        // succeeds.
        if let Ok(values) = fast::slice::<f32>(&self.tensor) {
            reader(&values);
        }
    }

    fn bounds(&self) -> [f32; 2] {
        self.part.bounds()
    }
}

type Key = (usize, Use, Part, ConvShape);

/// The packed weights of convolutions, shared by all plans of a graph. The first plan that needs a weight packs it.
///
/// Nothing is packed while a lock is held: while a rayon thread waits, it may run another task that requests the same
/// weights.
#[derive(Default)]
pub(super) struct Packs {
    /// `None` for shapes without a blocked kernel.
    blocked: Mutex<HashMap<Key, Option<Arc<BlockedConv>>>>,
    plain: Mutex<HashMap<Key, Arc<PackedConv<f32>>>>,
}

/// Returns the value of a key, creating it if necessary. If several threads create it at the same time, one result is
/// kept.
fn entry<V: Clone>(all: &Mutex<HashMap<Key, V>>, key: Key, make: impl FnOnce() -> Result<V>) -> Result<V> {
    let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get(&key) {
        return Ok(found.clone());
    }
    let made = make()?;
    Ok(lock().entry(key).or_insert(made).clone())
}

impl Packs {
    /// The convolution on blocked images; `None` if there is no kernel for the shape.
    pub(super) fn blocked(
        &self,
        graph: &Graph,
        purpose: Use,
        weight: NodeId,
        part: Part,
        shape: &ConvShape,
    ) -> Result<Option<Arc<BlockedConv>>> {
        let purpose = match purpose {
            Use::Relevance if !is_split(shape) => Use::InputGrad,
            purpose => purpose,
        };
        let key = (weight.index(), purpose, part, *shape);
        entry(&self.blocked, key, || {
            Ok(purpose.pack(shape, &Stored::new(graph, weight, part)?)?.map(Arc::new))
        })
    }

    /// The input gradient by the kernels for plain (row-major) images, which support every shape.
    pub(super) fn plain_input_grad(
        &self,
        graph: &Graph,
        weight: NodeId,
        shape: &ConvShape,
    ) -> Result<Arc<PackedConv<f32>>> {
        entry(&self.plain, (weight.index(), Use::InputGrad, Part::All, *shape), || {
            let weight = values(graph, weight)?;
            Ok(Arc::new(PackedConv::input_grad(shape, &fast::slice::<f32>(&weight)?)?))
        })
    }
}

/// A bias, padded with zeros to a whole number of blocks.
pub(super) fn padded_bias(graph: &Graph, bias: NodeId, part: Part, channels: usize) -> Result<Arc<Vec<f32>>> {
    let bias = values(graph, bias)?;
    let mut padded = part.of(&fast::slice::<f32>(&bias)?);
    padded.resize(channels.next_multiple_of(BLOCK), 0.0);
    Ok(Arc::new(padded))
}

/// Side lengths of feature maps from which Winograd convolutions F(4 × 4) and F(2 × 2) are faster than direct
/// convolution.
const LARGE: [usize; 2] = [28, 14];
/// Number of channels from which this holds: with few channels, the transforms dominate.
const MANY: usize = 32;
/// Number of channels from which a matrix unit, if the processor has one, is faster than vector instructions for
/// gradients.
const WIDE: usize = 96;

/// The shorter side of the feature map if Winograd convolution is faster than direct convolution.
fn filtered_side(shape: &ConvShape) -> Option<usize> {
    let side = shape.input[0].min(shape.input[1]);
    let fits = shape.kernel == [3, 3] && shape.stride == [1, 1] && shape.groups == 1;
    (fits && channels(shape) >= MANY && side >= LARGE[1]).then_some(side)
}

/// Whether an input gradient uses the matrix unit, if the processor has one.
fn is_split(shape: &ConvShape) -> bool {
    filtered_side(shape).is_none() && channels(shape) >= WIDE
}

/// The smaller of the numbers of input and output channels.
fn channels(shape: &ConvShape) -> usize {
    shape.in_channels.min(shape.out_channels)
}

/// Size in bytes from which transformed filters are not kept in memory until a run with many pixels needs them.
const HEAVY: usize = 8 << 20;

/// Whether the transformed filters of F(`outputs` × `outputs`) take much memory.
fn is_heavy(shape: &ConvShape, outputs: usize) -> bool {
    let points = (outputs + 2) * (outputs + 2);
    shape.weight_len() / 9 * points * size_of::<f32>() >= HEAVY
}

/// The forward pass. Rounding errors may open or close the gates of activations. Those of F(2 × 2) are nearly as
/// small as those of direct convolution; those of F(4 × 4) and of numbers split into two parts are ten times as
/// large, so the forward pass does not use these.
fn forward(shape: &ConvShape, weight: &Stored) -> Result<Option<BlockedConv>> {
    let found = match filtered_side(shape) {
        Some(_) if is_heavy(shape, 2) => BlockedConv::forward_winograd_lent(shape, Arc::new(weight.clone())),
        Some(_) => weight.with(|w| BlockedConv::forward_winograd(shape, w))?,
        None => None,
    };
    found.map_or_else(|| weight.with(|w| BlockedConv::forward(shape, w)), |packed| Ok(Some(packed)))
}

/// The input gradient. The forward pass has fixed all gates, so the larger rounding errors of F(4 × 4) and of numbers
/// split into two parts (about 10⁻⁵ of the largest gradient) are not amplified.
fn input_grad(shape: &ConvShape, weight: &Stored) -> Result<Option<BlockedConv>> {
    let found = match filtered_side(shape) {
        Some(side) => {
            let outputs = if side >= LARGE[0] { 4 } else { 2 };
            if is_heavy(shape, outputs) {
                BlockedConv::input_grad_winograd_lent(shape, outputs, Arc::new(weight.clone()))
            } else {
                weight.with(|w| BlockedConv::input_grad_winograd(shape, outputs, w))?
            }
        }
        None if is_split(shape) => weight.with(|w| BlockedConv::input_grad_split(shape, w))?,
        None => None,
    };
    found.map_or_else(|| weight.with(|w| BlockedConv::input_grad(shape, w)), |packed| Ok(Some(packed)))
}

/// The values of a constant as a contiguous tensor.
fn values(graph: &Graph, id: NodeId) -> Result<Tensor> {
    let node = graph.node(id);
    let value = node
        .constant()
        .ok_or_else(|| Error::invalid(format!("node '{}'", node.name()), "is computed", "a stored value"))?;
    Ok(value.contiguous()?)
}

#[cfg(test)]
mod tests;
