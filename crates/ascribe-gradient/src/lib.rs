//! Gradient and rule-based attribution methods of Ascribe: one file per method.
//!
//! Every method of this crate consists of one or several backward walks over a graph, whose results are added up:
//!
//! | method | signal at a node |
//! | --- | --- |
//! | [`Saliency`], [`InputXGradient`], [`IntegratedGradients`] | true gradient |
//! | [`GuidedBackprop`], [`DeconvNet`] | another rule at rectifiers |
//! | [`Lrp`] | another rule at affine nodes, sums and averages |
//! | [`GradCam`], [`GuidedGradCam`] | true gradient, down to an inner node |
//! | [`NoiseTunnel`] | whatever the method inside does, at noisy copies of the input |
//!
//! [`ascribe_core::explain_at`] applies any of them to a layer or a neuron by cutting the graph.

#![allow(clippy::doc_markdown, reason = "formulas are written in prose, with the papers' symbols")]

mod cam;
mod deconvnet;
mod grad_cam;
mod guided_backprop;
mod guided_grad_cam;
mod input_x_gradient;
mod integrated_gradients;
mod interpolate;
mod layers;
mod lrp;
mod noise;
mod noise_tunnel;
pub mod path;
mod rectifier;
mod saliency;

pub use cam::{Activations, Cam, CamWeights};
pub use deconvnet::DeconvNet;
pub use grad_cam::{GradCam, MeanGradient};
pub use guided_backprop::GuidedBackprop;
pub use guided_grad_cam::GuidedGradCam;
pub use input_x_gradient::InputXGradient;
pub use integrated_gradients::IntegratedGradients;
pub use interpolate::Interpolation;
pub use layers::last_spatial_layer;
pub use lrp::{Bias, Lrp, LrpComposite, LrpRule};
pub use noise::{Noise, NoiseUnit};
pub use noise_tunnel::{NoiseTunnel, Statistic};
pub use path::Quadrature;
pub use saliency::Saliency;

use ascribe_core::Entry;

/// The methods of this crate, in the order in which they are listed.
pub const METHODS: &[Entry] = &[
    Entry::gradient::<Saliency>(),
    Entry::gradient::<InputXGradient>(),
    Entry::white_box::<GuidedBackprop>(),
    Entry::white_box::<DeconvNet>(),
    Entry::white_box::<GradCam>(),
    Entry::white_box::<GuidedGradCam>(),
    Entry::gradient::<IntegratedGradients>(),
    Entry::wrapper(&noise_tunnel::SMOOTH_GRAD, noise_tunnel::smooth_grad),
    Entry::wrapper(&noise_tunnel::SMOOTH_GRAD_SQ, noise_tunnel::smooth_grad_sq),
    Entry::wrapper(&noise_tunnel::VAR_GRAD, noise_tunnel::var_grad),
    Entry::white_box::<Lrp>(),
];
