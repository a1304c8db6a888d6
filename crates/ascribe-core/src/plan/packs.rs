//! Weights packed for the kernels, once per graph.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ascribe_kernels::blocked::{BLOCK, BlockedConv, Weights};
use ascribe_kernels::{ConvShape, PackedConv};
use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::fast;

/// What a convolution is packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    Forward,
    /// Forward from a plain image.
    Planar,
    InputGrad,
    /// The input gradient for quotients of relevance and what it came from, whose size knows no bounds: those below what
    /// a matrix unit takes for zero count too.
    Relevance,
    /// The input gradient as a plain image.
    PlanarGrad,
}

impl Use {
    fn pack(self, shape: &ConvShape, weight: &Stored) -> ascribe_kernels::Result<Option<BlockedConv>> {
        match self {
            Self::Forward => forward(shape, weight),
            Self::Planar => weight.with(|w| BlockedConv::forward_planar(shape, w)),
            Self::InputGrad => input_grad(shape, weight),
            Self::Relevance => weight.with(|w| BlockedConv::input_grad(shape, w)),
            Self::PlanarGrad => weight.with(|w| BlockedConv::input_grad_planar(shape, w)),
        }
    }
}

/// Which weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    All,
    /// max(w, 0)
    Positive,
    /// min(w, 0)
    Negative,
}

impl Part {
    fn of(self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::All => values.to_vec(),
            Self::Positive => values.iter().map(|v| v.max(0.0)).collect(),
            Self::Negative => values.iter().map(|v| v.min(0.0)).collect(),
        }
    }
}

/// A weight of the graph, where it lies.
#[derive(Clone)]
struct Stored {
    tensor: Tensor,
    part: Part,
}

impl Stored {
    fn new(graph: &Graph, weight: NodeId, part: Part) -> Result<Self> {
        let tensor = values(graph, weight)?;
        // That it can be read is known from here on.
        fast::slice::<f32>(&tensor)?;
        Ok(Self { tensor, part })
    }

    fn with<T>(&self, reader: impl FnOnce(&[f32]) -> T) -> T {
        let values = fast::slice::<f32>(&self.tensor);
        let values = values.as_deref().unwrap_or_default();
        match self.part {
            Part::All => reader(values),
            part => reader(&part.of(values)),
        }
    }
}

impl Weights for Stored {
    fn read(&self, reader: &mut dyn FnMut(&[f32])) {
        self.with(reader);
    }
}

type Key = (usize, Use, Part, ConvShape);

/// Packed weights, shared by all plans of a graph. A plan packs what it is the first to need.
#[derive(Default)]
pub(super) struct Packs {
    /// `None` for shapes that the blocked kernels do not serve.
    blocked: Mutex<HashMap<Key, Option<Arc<BlockedConv>>>>,
    plain: Mutex<HashMap<Key, Arc<PackedConv<f32>>>>,
}

impl Packs {
    /// The convolution on blocked images; `None` where there is no kernel for the shape.
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
        let mut all = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (weight.index(), purpose, part, *shape);
        if let Some(found) = all.get(&key) {
            return Ok(found.clone());
        }
        let packed = purpose.pack(shape, &Stored::new(graph, weight, part)?)?.map(Arc::new);
        all.insert(key, packed.clone());
        Ok(packed)
    }

    /// The input gradient by the kernels for plain images, which serve every shape.
    pub(super) fn plain_input_grad(
        &self,
        graph: &Graph,
        weight: NodeId,
        shape: &ConvShape,
    ) -> Result<Arc<PackedConv<f32>>> {
        let mut all = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (weight.index(), Use::InputGrad, Part::All, *shape);
        if let Some(found) = all.get(&key) {
            return Ok(found.clone());
        }
        let weight = values(graph, weight)?;
        let packed = Arc::new(PackedConv::input_grad(shape, &fast::slice::<f32>(&weight)?)?);
        all.insert(key, packed.clone());
        Ok(packed)
    }
}

/// A bias with zeros behind it up to a whole number of blocks.
pub(super) fn padded_bias(graph: &Graph, bias: NodeId, part: Part, channels: usize) -> Result<Arc<Vec<f32>>> {
    let bias = values(graph, bias)?;
    let mut padded = part.of(&fast::slice::<f32>(&bias)?);
    padded.resize(channels.next_multiple_of(BLOCK), 0.0);
    Ok(Arc::new(padded))
}

/// Sides of maps from which minimal filtering F(4 × 4) and F(2 × 2) are faster than the definition.
const LARGE: [usize; 2] = [28, 14];
/// The same for channels: the transforms cost as much for few of them.
const MANY: usize = 32;
/// Channels from which a matrix unit, if there is one, is faster than vectors for gradients.
const WIDE: usize = 96;

/// The side of the map, where minimal filtering is faster than the definition.
fn filtered_side(shape: &ConvShape) -> Option<usize> {
    let side = shape.input[0].min(shape.input[1]);
    let fits = shape.kernel == [3, 3] && shape.stride == [1, 1] && shape.groups == 1;
    (fits && channels(shape) >= MANY && side >= LARGE[1]).then_some(side)
}

/// Whether an input gradient goes to a matrix unit, if there is one.
fn is_split(shape: &ConvShape) -> bool {
    filtered_side(shape).is_none() && channels(shape) >= WIDE
}

/// Channels of the thinner side.
fn channels(shape: &ConvShape) -> usize {
    shape.in_channels.min(shape.out_channels)
}

/// Bytes of transformed filters from which they are not kept as long as few pixels need them.
const HEAVY: usize = 8 << 20;

/// Whether the transformed filters of F(`outputs` × `outputs`) weigh much.
fn is_heavy(shape: &ConvShape, outputs: usize) -> bool {
    let points = (outputs + 2) * (outputs + 2);
    shape.weight_len() / 9 * points * size_of::<f32>() >= HEAVY
}

/// A forward pass: errors open and close gates of activations. Those of F(2 × 2) are nearly the definition's; those of
/// F(4 × 4) and of numbers in two parts, ten times as large, are not for it.
fn forward(shape: &ConvShape, weight: &Stored) -> ascribe_kernels::Result<Option<BlockedConv>> {
    let found = match filtered_side(shape) {
        Some(_) if is_heavy(shape, 2) => BlockedConv::forward_winograd_lent(shape, Arc::new(weight.clone())),
        Some(_) => weight.with(|w| BlockedConv::forward_winograd(shape, w))?,
        None => None,
    };
    found.map_or_else(|| weight.with(|w| BlockedConv::forward(shape, w)), |packed| Ok(Some(packed)))
}

/// An input gradient: gates are fixed by the forward pass, so that the larger rounding errors of F(4 × 4) and of numbers in
/// two parts (about 10⁻⁵ of the largest gradient) stay what they are.
fn input_grad(shape: &ConvShape, weight: &Stored) -> ascribe_kernels::Result<Option<BlockedConv>> {
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

/// The values of a constant, contiguous.
fn values(graph: &Graph, id: NodeId) -> Result<Tensor> {
    let node = graph.node(id);
    let value = node
        .constant()
        .ok_or_else(|| Error::invalid(format!("node '{}'", node.name()), "is computed", "a stored value"))?;
    Ok(value.contiguous()?)
}

#[cfg(test)]
mod tests;
