//! Explain the decisions of trained neural networks, in Rust, with nothing but the model file.
//!
#![cfg_attr(all(feature = "gradient", feature = "models"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "gradient", feature = "models")), doc = "```ignore")]
//! use ascribe::prelude::*;
//!
//! let model = Model::open("resnet50.onnx", &OpenOptions::default())?;
//! let input = model.read("photo.jpg")?;
//! let method = IntegratedGradients::default();
//! let attribution = method.explain(&model.graph, &input.inputs, &Target::Top1, &Run::new())?;
//! attribution.save("attribution.safetensors")?;
//! # Ok::<(), ascribe::Error>(())
//! ```
//!
//! This crate re-exports the others, which can also be used by themselves: [`core`] (graphs, rules, targets), [`models`]
//! (loading), [`gradient`] and [`perturb`] (methods), [`metrics`], [`viz`] (pictures). [`catalogue`] builds methods
//! and metrics by name.
//!
//! Each of them is a feature of the same name, so that nothing is compiled that is not needed: `models`, `gradient`,
//! `perturb`, `metrics`, `viz`; then `catalogue` (methods by name), `annotations` (boxes and masks beside pictures, the
//! evaluator) and `download`
//! (weights over the network). All are on by default; [`core`] always is.

#[cfg(feature = "annotations")]
pub mod annotations;
#[cfg(feature = "catalogue")]
pub mod catalogue;
mod error;
#[cfg(feature = "annotations")]
pub mod evaluator;
#[cfg(feature = "models")]
mod model;
#[cfg(all(feature = "models", feature = "viz"))]
pub mod picture;
#[cfg(feature = "annotations")]
pub mod pictures;
#[cfg(feature = "models")]
pub mod target;

pub use ascribe_core as core;
#[cfg(feature = "gradient")]
pub use ascribe_gradient as gradient;
pub use ascribe_kernels as kernels;
#[cfg(feature = "metrics")]
pub use ascribe_metrics as metrics;
#[cfg(feature = "models")]
pub use ascribe_models as models;
#[cfg(feature = "perturb")]
pub use ascribe_perturb as perturb;
#[cfg(feature = "viz")]
pub use ascribe_viz as viz;
pub use error::{Error, Result};
#[cfg(feature = "models")]
pub use model::{DEFAULT_MODEL, LabelledDetection, Loaded, Model, OpenOptions, Prediction};

/// What most programs need.
pub mod prelude {
    pub use ascribe_core::{
        Attribution, Autograd, Baseline, BlackBox, Differentiable, Explainer, Graph, GraphBuilder, Inputs,
        Location, Method, Predictor, Run, Target, explain_at,
    };
    #[cfg(feature = "gradient")]
    pub use ascribe_gradient::{
        DeconvNet, GradCam, GuidedBackprop, GuidedGradCam, InputXGradient, IntegratedGradients, Lrp,
        NoiseTunnel, Saliency,
    };
    #[cfg(feature = "metrics")]
    pub use ascribe_metrics::{
        Case, Completeness, Deletion, Insertion, Metric, ModelRandomisation, PixelCurve, PointingGame,
    };
    #[cfg(feature = "perturb")]
    pub use ascribe_perturb::{Occlusion, Rise};

    #[cfg(feature = "models")]
    pub use crate::{Loaded, Model, OpenOptions, Prediction};
}
