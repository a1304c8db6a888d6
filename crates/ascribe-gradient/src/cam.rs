//! Class activation maps: what all of them share. A variant is its weights.
//!
//! The channels A_k of a layer, weighted and summed:
//!
//! L = Σ_k w_k ⊙ A_k
//!
//! The base finds the layer ([`last_spatial_layer`](crate::last_spatial_layer)), brings its value and its gradient to a grid
//! `[N, C, H, W]` whatever their axes are (tokens of a vision transformer, windows, channels last), goes through the batch,
//! and brings the map to the input's resolution. [`CamWeights`] says what w_k is.

use std::fmt::Debug;

use ascribe_core::{
    Card, Composite, Configured, Cost, Error, Explainer, Found, Gradient, Graph, GraphRoles, GridView,
    Inputs, NodeId, Result, Samples, Task, Tensor,
};
use derive_setters::Setters;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::interpolate::Interpolation;
use crate::layers::{layer_grid, spatial, spatial_layer};

/// How a class activation map weights the channels of its layer.
///
/// The type's fields are settings of the method, beside those of [`Cam`].
pub trait CamWeights: Clone + Debug + Default + Serialize + DeserializeOwned + Send + Sync {
    /// What there is to say about the method.
    const CARD: Card;

    /// Whether [`Activations::gradient`] is wanted; without, no backward walk is done.
    const GRADIENT: bool = true;

    /// The weights w, which broadcast to the layer's value `[n, C, H, W]`: `[n, C, 1, 1]` for one weight per channel.
    ///
    /// # Errors
    /// Those of the model, or if the weights cannot be found.
    fn weights(&self, at: &Activations<'_>) -> Result<Tensor>;

    /// The map `[n, 1, H, W]`: Σ_k w_k ⊙ A_k, unless the method is no weighted sum.
    ///
    /// # Errors
    /// As [`CamWeights::weights`].
    fn map(&self, at: &Activations<'_>) -> Result<Tensor> {
        Ok(at.value.broadcast_mul(&self.weights(at)?)?.sum_keepdim(1)?)
    }

    /// How many rows the weights cost, all in all.
    fn cost(&self, x: &Inputs) -> Cost {
        let once = Cost::once(x);
        if Self::GRADIENT { once } else { Cost { backward: 0, ..once } }
    }
}

/// A layer for some samples, as a grid, and the call it is part of.
#[derive(Debug)]
pub struct Activations<'a> {
    /// The layer's value A `[n, C, H, W]`; `[n, C, L]` where inputs have one axis of positions.
    pub value: Tensor,
    /// Its gradient ∂S/∂A, shaped like the value, if [`CamWeights::GRADIENT`] asks for it.
    gradient: Option<Tensor>,
    /// The samples' inputs.
    pub x: &'a Inputs,
    /// Their positions in the whole batch.
    pub samples: &'a [usize],
    /// The layer.
    pub layer: NodeId,
    /// How the layer's value is a grid.
    pub view: &'a GridView,
    /// The call: evaluates and counts.
    pub task: &'a Task<'a, Graph>,
}

impl Activations<'_> {
    /// The gradient of the score with respect to the layer's value, `[n, C, H, W]`.
    ///
    /// # Errors
    /// If [`CamWeights::GRADIENT`] is false.
    pub fn gradient(&self) -> Result<&Tensor> {
        self.gradient.as_ref().ok_or_else(|| {
            Error::invalid("weights", "ask for a gradient that was not computed", "`GRADIENT` to be true")
        })
    }

    /// The axes of positions, from 2 on.
    pub fn positions(&self) -> Vec<usize> {
        (2..self.value.rank()).collect()
    }
}

/// A class activation map: its settings, and how channels are weighted.
///
/// The attribution is `[N, 1, H, W]` at the input's resolution, or `[N, 1, h, w]` at the layer's; `[N, 1, L]` for
/// inputs with one axis of positions. An input with channels last has `[N, H, W, 1]`.
///
/// A method of its own is a type with [`CamWeights`]:
///
/// ```
/// use ascribe_core::{Card, Device, Explainer, Family, GraphBuilder, Inputs, Result, Run, Target, Tensor};
/// use ascribe_core::ops::{Pointwise, Structure};
/// use ascribe_gradient::{Activations, Cam, CamWeights};
/// use serde::{Deserialize, Serialize};
///
/// /// Gradients weight each position by itself: HiRes-CAM.
/// #[derive(Clone, Debug, Default, Serialize, Deserialize)]
/// struct Positions {}
///
/// impl CamWeights for Positions {
///     const CARD: Card = Card { id: "positions", name: "Positions", ..Card::gradient(Family::Vanilla).with_layer() };
///
///     fn weights(&self, at: &Activations<'_>) -> Result<Tensor> {
///         Ok(at.gradient()?.clone())
///     }
/// }
///
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(1), Some(1), Some(2)]);
/// let a = b.op("act", Pointwise::Relu, &[x])?;
/// let y = b.op("flat", Structure::Flatten { axis: 1 }, &[a])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[[[5_f32, 7.0]]]], &Device::Cpu)?)?;
/// let found = Cam::<Positions>::default().explain(&graph, &x, &Target::Class(1), &Run::new())?;
/// assert_eq!(found.values().flatten_all()?.to_vec1::<f32>()?, [0.0, 7.0]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields, remote = "Self", bound = "W: CamWeights")]
pub struct Cam<W> {
    /// Node whose channels are weighted; by default [`last_spatial_layer`](crate::last_spatial_layer).
    #[setters(into, strip_option)]
    pub layer: Option<String>,
    /// Whether negative values are set to zero, before the map is resized.
    pub relu: bool,
    /// Whether the map is brought to the input's resolution.
    pub upsample: bool,
    /// How the map is brought to the input's resolution.
    pub interpolate: Interpolation,
    /// How channels are weighted; its fields are settings as those above are.
    #[setters(skip)]
    #[serde(flatten)]
    pub weights: W,
}

impl<W: Default> Default for Cam<W> {
    fn default() -> Self {
        Self {
            layer: None,
            relu: false,
            upsample: true,
            interpolate: Interpolation::Bilinear,
            weights: W::default(),
        }
    }
}

impl<W: CamWeights> Serialize for Cam<W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de, W: CamWeights> Deserialize<'de> for Cam<W> {
    /// As derived, with the names that exist in the message about one that does not, which serde leaves out for structs in
    /// two parts.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::deserialize(deserializer).map_err(|e| {
            let problem = e.to_string();
            let fields = ascribe_core::config::write(&Self::default());
            let names: Vec<String> = fields
                .as_object()
                .into_iter()
                .flat_map(|o| o.keys())
                .map(|name| format!("`{name}`"))
                .collect();
            let unknown = problem.starts_with("unknown field") && !problem.contains("expected");
            if unknown {
                D::Error::custom(format!("{problem}, expected one of {}", names.join(", ")))
            } else {
                e
            }
        })
    }
}

/// The maps of all samples at the layer's resolution.
pub(crate) struct Maps {
    /// The map `[N, 1, h, w]`, and scores.
    pub samples: Samples,
    /// The layer.
    pub layer: NodeId,
    roles: GraphRoles,
    view: GridView,
}

impl<W: CamWeights> Cam<W> {
    pub(crate) fn maps(&self, task: &Task<'_, Graph>) -> Result<Maps> {
        let graph = task.model;
        let roles = graph.roles(task.x)?;
        let layer = match &self.layer {
            Some(name) => graph.find(name)?,
            None => spatial_layer(graph, task.x, &roles)?,
        };
        let node = graph.node(layer);
        let view = layer_grid(roles.of(layer)).ok_or_else(|| {
            let expected = "[N, C, H, W], [N, C, L] or tokens of a grid: channels with spatial positions";
            let problem = format!("has a value with the axes {}", roles.of(layer));
            Error::invalid("layer", problem, expected).at(node.name(), node.op_name())
        })?;
        let samples = task.by_samples(|x, samples| {
            let wanted: &[NodeId] = if W::GRADIENT { &[layer] } else { &[] };
            let found = task.propagate_to(x, samples, &Composite::gradient(), &[layer], wanted)?;
            let value = view.to_grid(&found.values[0])?;
            let gradient = found.signals.first().map(|signal| view.to_grid(signal)).transpose()?;
            let at = Activations { value, gradient, x, samples, layer, view: &view, task };
            let map = self.weights.map(&at).map_err(|e| e.at(node.name(), node.op_name()))?;
            Ok(Gradient { scores: found.scores, values: vec![if self.relu { map.relu()? } else { map }] })
        })?;
        Ok(Maps { samples, layer, roles, view })
    }

    /// The maps at the resolution of each explained input, with a channel axis of length 1.
    pub(crate) fn at_inputs(&self, task: &Task<'_, Graph>, maps: &Maps) -> Result<Vec<Tensor>> {
        let graph = task.model;
        let map = &maps.samples.values[0];
        let mut found = Vec::new();
        for (input, id) in task.x.explained().zip(graph.explained_nodes(task.x)?) {
            let own = maps.roles.of(id).grid().filter(|own| spatial(own) == spatial(&maps.view));
            let own = own.ok_or_else(|| {
                Error::invalid(
                    "layer",
                    format!("has a map of shape {:?}", map.dims()),
                    format!(
                        "one with the same spatial axes as the input {:?}, or upsample = false",
                        input.value.dims()
                    ),
                )
            })?;
            let sides: Vec<usize> = own.spatial().iter().map(|(_, len)| *len).collect();
            found.push(own.from_grid(&self.interpolate.resize(map, &sides, graph.backend())?)?);
        }
        Ok(found)
    }

    /// `layer 'name', resolution [h, w]`.
    pub(crate) fn describe(task: &Task<'_, Graph>, maps: &Maps) -> String {
        let size = &maps.samples.values[0].dims()[2..];
        format!("layer '{}', resolution {size:?}", task.model.node(maps.layer).name())
    }
}

impl<W: CamWeights> Configured for Cam<W> {
    const CARD: Card = W::CARD;

    fn cost(&self, x: &Inputs) -> Cost {
        self.weights.cost(x)
    }
}

impl<W: CamWeights> Explainer<Graph> for Cam<W> {
    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        let maps = self.maps(task)?;
        let values = if self.upsample {
            self.at_inputs(task, &maps)?
        } else {
            task.x.explained().map(|_| maps.samples.values[0].clone()).collect()
        };
        let notes = vec![format!("map of {}", Self::describe(task, &maps))];
        Ok(Found { notes, ..Found::new(values, maps.samples.scores) })
    }
}
