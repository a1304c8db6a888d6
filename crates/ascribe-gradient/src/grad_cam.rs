//! Grad-CAM: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
//! Localization", eqs. 1 and 2.
//!
//! The channels A_k of a layer, weighted by the mean of the score's gradient over their Z positions:
//!
//! α_k = 1/Z Σ_ij ∂S/∂A_k,ij,  L = Σ_k α_k A_k
//!
//! The paper keeps ReLU(L). Here the map is raw and signed unless `relu` is set: where it is negative, the layer speaks
//! against the target. `counterfactual` (§3.3) negates the gradient: regions whose absence would raise the score.
//!
//! Cost: one evaluation and one backward walk down to the layer; finding the layer takes one evaluation of one sample.

use ascribe_core::ops::Backend;
use ascribe_core::{
    Card, Composite, Configured, Domain, Error, Explainer, Family, Found, Gradient, Graph, NodeId, Result,
    Samples, Task, Tensor,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use crate::interpolate::Interpolation;
use crate::layers::last_spatial_layer;

/// Configuration of Grad-CAM.
///
/// The attribution is `[N, 1, H, W]` at the input's resolution, or `[N, 1, h, w]` at the layer's; `[N, 1, L]` for
/// inputs with one spatial axis.
///
/// ```
/// use ascribe_core::{Device, Explainer, GraphBuilder, Inputs, Run, Target, Tensor};
/// use ascribe_core::ops::{Linear, Pointwise, Structure};
/// use ascribe_gradient::GradCam;
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(1), Some(1), Some(2)]);
/// let a = b.op("act", Pointwise::Relu, &[x])?;
/// let flat = b.op("flat", Structure::Flatten { axis: 1 }, &[a])?;
/// let w = b.constant("w", Tensor::new(&[[1_f64, 3.0]], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[flat, w])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[[[5_f64, -1.0]]]], &Device::Cpu)?)?;
/// let found = GradCam::default().layer("act").explain(&graph, &x, &Target::Class(0), &Run::new())?;
/// // The mean gradient, 2, times the layer's values, 5 and 0.
/// assert_eq!(found.values().flatten_all()?.to_vec1::<f64>()?, [10.0, 0.0]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct GradCam {
    /// Node whose channels are weighted; by default [`last_spatial_layer`].
    #[setters(into, strip_option)]
    pub layer: Option<String>,
    /// Whether negative values are set to zero (before the map is resized), as in the paper.
    pub relu: bool,
    /// Whether the gradient is negated: what speaks against the target.
    pub counterfactual: bool,
    /// Whether the map is brought to the input's resolution.
    pub upsample: bool,
    /// How the map is brought to the input's resolution.
    pub interpolate: Interpolation,
}

impl Default for GradCam {
    fn default() -> Self {
        Self {
            layer: None,
            relu: false,
            counterfactual: false,
            upsample: true,
            interpolate: Interpolation::Bilinear,
        }
    }
}

impl GradCam {
    fn find_layer(&self, task: &Task<'_, Graph>) -> Result<NodeId> {
        if let Some(name) = &self.layer {
            return task.model.find(name);
        }
        last_spatial_layer(task.model, task.x)
    }

    /// The map of each sample at the layer's resolution, and the layer.
    pub(crate) fn maps(&self, task: &Task<'_, Graph>) -> Result<(Samples, NodeId)> {
        let graph = task.model;
        let layer = self.find_layer(task)?;
        let found = task.by_samples(|x, samples| {
            let found = task.propagate_to(x, samples, &Composite::gradient(), &[layer], &[layer])?;
            let map = weighted(&found.values[0], &found.signals[0], samples.len())
                .map_err(|e| e.at(graph.node(layer).name(), graph.node(layer).op_name()))?;
            let map = if self.counterfactual { map.neg()? } else { map };
            Ok(Gradient { scores: found.scores, values: vec![if self.relu { map.relu()? } else { map }] })
        })?;
        Ok((found, layer))
    }

    /// A map at the resolution of an input.
    pub(crate) fn at_input(&self, map: &Tensor, input: &Tensor, backend: Backend) -> Result<Tensor> {
        if input.rank() != map.rank() {
            return Err(Error::invalid(
                "layer",
                format!("has a map of shape {:?}", map.dims()),
                format!("one with as many spatial axes as the input {:?}, or upsample = false", input.dims()),
            ));
        }
        self.interpolate.resize(map, &input.dims()[2..], backend)
    }
}

/// Σ_k mean(∂S/∂A_k) A_k with a channel axis of length 1.
fn weighted(value: &Tensor, gradient: &Tensor, samples: usize) -> Result<Tensor> {
    if !matches!(value.rank(), 3 | 4) || value.dim(0)? != samples {
        return Err(Error::invalid(
            "layer",
            format!("has a value of shape {:?}", value.dims()),
            "[N, C, H, W] or [N, C, L]: channels with spatial positions",
        ));
    }
    let positions: Vec<usize> = (2..value.rank()).collect();
    let weights = gradient.mean_keepdim(positions)?;
    Ok(value.broadcast_mul(&weights)?.sum_keepdim(1)?)
}

impl Configured for GradCam {
    const CARD: Card = Card {
        id: "grad-cam",
        name: "Grad-CAM",
        summary: "channels of a convolutional layer, weighted by their mean gradient",
        paper: "Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks",
        year: 2017,
        domain: Domain::Image,
        networks: &["VGG-16", "AlexNet", "GoogLeNet"],
        ..Card::gradient(Family::Vanilla).with_layer()
    };
}

impl Explainer<Graph> for GradCam {
    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        let graph = task.model;
        let (found, layer) = self.maps(task)?;
        let map = &found.values[0];
        let values: Result<Vec<Tensor>> = task
            .x
            .explained()
            .map(|input| {
                if self.upsample {
                    self.at_input(map, &input.value, graph.backend())
                } else {
                    Ok(map.clone())
                }
            })
            .collect();
        let size = &map.dims()[2..];
        let notes = vec![format!("map of layer '{}', resolution {size:?}", graph.node(layer).name())];
        Ok(Found { notes, ..Found::new(values?, found.scores) })
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::ops::{Linear, Pointwise, Structure};
    use ascribe_core::{Device, GraphBuilder, Inputs, Run, Target};

    use super::*;

    /// ReLU of a 2-channel 1 × 2 image, then a linear layer on its four values.
    fn graph() -> Result<Graph> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(2), Some(1), Some(2)]);
        let a = b.op("act", Pointwise::Relu, &[x])?;
        let flat = b.op("flat", Structure::Flatten { axis: 1 }, &[a])?;
        let w = b.constant("w", Tensor::new(&[[1_f64, 3.0, -1.0, -5.0]], &Device::Cpu)?);
        let y = b.op("y", Linear, &[flat, w])?;
        b.finish(&[y])
    }

    fn image() -> Result<Inputs> {
        Inputs::single(Tensor::new(&[[[[1_f64, 2.0]], [[1.0, 0.5]]]], &Device::Cpu)?)
    }

    fn run(method: &GradCam) -> Result<Vec<f64>> {
        let found = method.explain(&graph()?, &image()?, &Target::Class(0), &Run::new())?;
        Ok(found.values().flatten_all()?.to_vec1()?)
    }

    #[test]
    fn channels_weighted_by_mean_gradient() -> Result<()> {
        // α = (2, −3), A = ((1, 2), (1, ½)).
        let method = GradCam::default();
        assert_eq!(run(&method)?, [-1.0, 2.5]);
        assert_eq!(run(&method.clone().relu(true))?, [0.0, 2.5]);
        assert_eq!(run(&method.clone().counterfactual(true))?, [1.0, -2.5]);
        assert_eq!(run(&method.layer("x"))?, [-1.0, 2.5], "any layer with positions, the input too");
        Ok(())
    }

    #[test]
    fn unsuitable_layers_are_an_error() {
        let fail = |layer: &str| {
            run(&GradCam::default().layer(layer)).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(fail("flat").contains("[N, C, H, W]"), "{}", fail("flat"));
        assert!(fail("actt").contains("did you mean 'act'"), "{}", fail("actt"));
    }
}
