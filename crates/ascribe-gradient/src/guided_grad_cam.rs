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
//! Cost: two evaluations and two backward walks. Finding the layer takes none.

use ascribe_core::{
    Card, Configured, Cost, Domain, Explainer, Family, Found, Graph, Inputs, Result, Task, Tensor,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use crate::grad_cam::GradCam;
use crate::guided_backprop::GuidedBackprop;
use crate::interpolate::Interpolation;

/// Configuration of guided Grad-CAM. The attribution has the input's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct GuidedGradCam {
    /// Node whose channels Grad-CAM weights; by default [`crate::last_spatial_layer`].
    #[setters(into, strip_option)]
    pub layer: Option<String>,
    /// How the map is brought to the input's resolution: bilinearly in the paper; captum's default is nearest.
    pub interpolate: Interpolation,
}

impl GuidedGradCam {
    fn cam(&self) -> GradCam {
        GradCam { layer: self.layer.clone(), interpolate: self.interpolate, ..GradCam::default().relu(true) }
    }
}

impl Configured for GuidedGradCam {
    const CARD: Card = Card {
        id: "guided-grad-cam",
        name: "Guided Grad-CAM",
        summary: "Grad-CAM's map times guided backpropagation",
        paper: "Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks",
        year: 2017,
        domain: Domain::Image,
        networks: &["VGG-16", "AlexNet", "GoogLeNet"],
        ..Card::gradient(Family::Vanilla).with_layer()
    };

    fn cost(&self, x: &Inputs) -> Cost {
        Cost::once(x) * 2
    }
}

impl Explainer<Graph> for GuidedGradCam {
    fn check_model(&self, model: &Graph, _: &Inputs) -> Result<Vec<String>> {
        GuidedBackprop::doubts(model)
    }

    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        let cam = self.cam();
        let maps = cam.maps(task)?;
        let guided = GuidedBackprop::run(task)?;
        let weights = cam.at_inputs(task, &maps)?;
        let values: Result<Vec<Tensor>> =
            guided.values.iter().zip(&weights).map(|(g, map)| Ok(g.broadcast_mul(map)?)).collect();
        let notes = vec![format!("Grad-CAM of {}", GradCam::describe(task, &maps))];
        Ok(Found { notes, ..Found::new(values?, maps.samples.scores) })
    }
}
