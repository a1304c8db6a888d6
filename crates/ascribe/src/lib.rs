//! Explain the decisions of trained neural networks, in Rust, from the model file alone.
//!
//! ```no_run
//! use ascribe::prelude::*;
//!
//! let model = Model::open("resnet50.onnx", &OpenOptions::default())?;
//! let input = model.read("photo.jpg".as_ref())?;
//! let method = IntegratedGradients::new().steps(50);
//! let attribution = method.explain(&model.graph, &input.inputs, &Target::Top1, &Run::new())?;
//! attribution.save("attribution.safetensors")?;
//! # Ok::<(), ascribe::Error>(())
//! ```
//!
//! This crate gathers the others, which can be used by themselves: [`core`] (graphs, rules, targets), [`models`]
//! (loading), [`gradient`] and [`perturb`] (methods), [`metrics`], [`viz`] (pictures). [`catalogue`] builds methods
//! and metrics by name.

pub mod annotations;
pub mod catalogue;
mod error;
mod model;
pub mod target;

pub use ascribe_core as core;
pub use ascribe_gradient as gradient;
pub use ascribe_metrics as metrics;
pub use ascribe_models as models;
pub use ascribe_perturb as perturb;
pub use ascribe_viz as viz;
pub use error::{Error, Result};
pub use model::{DEFAULT_MODEL, Loaded, Model, OpenOptions, Prediction};

/// What most programs need.
pub mod prelude {
    pub use ascribe_core::{
        Attribution, Autograd, Baseline, BlackBox, Differentiable, Explainer, Graph, GraphBuilder, Inputs,
        Method, Predictor, Run, Target,
    };
    pub use ascribe_gradient::{
        DeconvNet, GradCam, GuidedBackprop, GuidedGradCam, InputXGradient, IntegratedGradients, Location,
        Lrp, NoiseTunnel, Saliency, explain_at,
    };
    pub use ascribe_metrics::{Case, Completeness, Metric, ModelRandomisation, PixelCurve, PointingGame};
    pub use ascribe_perturb::{Occlusion, Rise};

    pub use crate::{Loaded, Model, OpenOptions, Prediction};
}
