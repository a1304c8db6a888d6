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
//! Cost: one evaluation and one backward walk down to the layer. Finding the layer takes none.

use ascribe_core::{Card, Domain, Family, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::cam::{Activations, Cam, CamWeights};

/// Grad-CAM: [`Cam`] with the channels weighted by their [`MeanGradient`].
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
pub type GradCam = Cam<MeanGradient>;

/// How Grad-CAM weights channels: α_k, the mean of the gradient over positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeanGradient {
    /// Whether the gradient is negated: what speaks against the target.
    pub counterfactual: bool,
}

impl CamWeights for MeanGradient {
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

    fn weights(&self, at: &Activations<'_>) -> Result<Tensor> {
        let mean = at.gradient()?.mean_keepdim(at.positions())?;
        Ok(if self.counterfactual { mean.neg()? } else { mean })
    }
}

impl GradCam {
    /// Sets whether the gradient is negated: what speaks against the target.
    pub fn counterfactual(mut self, value: bool) -> Self {
        self.weights.counterfactual = value;
        self
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::ops::{Linear, Pointwise, Structure};
    use ascribe_core::{Device, Explainer, Graph, GraphBuilder, Inputs, Run, Target};

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
