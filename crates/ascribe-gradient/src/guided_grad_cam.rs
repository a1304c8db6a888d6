//! Guided Grad-CAM: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
//! Localization", §3.2.
//!
//! The rectified Grad-CAM map L at the input's resolution, times guided backpropagation G, channel by channel:
//!
//! A = G ⊙ upsample(ReLU(L))
//!
//! Fine-grained where Grad-CAM is coarse. The fine structure is guided backpropagation's, which hardly depends on the
//! upper layers (Adebayo et al. 2018). Where Grad-CAM is positive nowhere, the attribution is zero everywhere.
//!
//! Cost: two evaluations and two backward walks; finding the layer takes one more evaluation of one sample.

use ascribe_core::{
    Attribution, Cost, Explainer, Found, Graph, Inputs, Method, Result, Run, Target, Tensor, explain,
};
use serde::{Deserialize, Serialize};

use crate::grad_cam::GradCam;
use crate::guided_backprop::GuidedBackprop;
use crate::interpolate::Interpolation;
use crate::walk;

/// Configuration of guided Grad-CAM. The attribution has the input's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuidedGradCam {
    /// Node whose channels Grad-CAM weights; by default [`crate::last_spatial_layer`].
    pub layer: Option<String>,
    /// How the map is brought to the input's resolution: bilinearly in the paper; captum's default is nearest.
    pub interpolate: Interpolation,
}

impl GuidedGradCam {
    /// At the last spatial layer, bilinear.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the layer.
    pub fn layer(self, name: impl Into<String>) -> Self {
        Self { layer: Some(name.into()), ..self }
    }

    /// Sets how the map is brought to the input's resolution.
    pub fn interpolate(self, interpolate: Interpolation) -> Self {
        Self { interpolate, ..self }
    }

    fn cam(&self) -> GradCam {
        GradCam { layer: self.layer.clone(), interpolate: self.interpolate, ..GradCam::new().relu(true) }
    }
}

impl Method for GuidedGradCam {
    fn id(&self) -> &'static str {
        "guided-grad-cam"
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cost(&self, x: &Inputs) -> Cost {
        self.cam().cost(x) + walk::once(x)
    }
}

impl Explainer<Graph> for GuidedGradCam {
    fn explain(&self, graph: &Graph, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution> {
        explain(self, graph, x, target, run, |task| {
            let cam = self.cam();
            let (maps, layer) = cam.maps(task)?;
            let guided = walk::propagate(task, &graph.canonical()?, &GuidedBackprop::composite())?;
            let values: Result<Vec<Tensor>> = x
                .explained()
                .zip(&guided.values)
                .map(|(input, g)| {
                    Ok(g.broadcast_mul(&cam.at_input(&maps.values[0], &input.value, graph.backend())?)?)
                })
                .collect();
            let size = &maps.values[0].dims()[2..];
            let notes =
                vec![format!("Grad-CAM of layer '{}', resolution {size:?}", graph.node(layer).name())];
            Ok(Found { values: values?, scores: Some(maps.scores), notes, ..Found::default() })
        })
    }
}
