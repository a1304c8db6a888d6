//! The core of Ascribe: model graphs, operators, rules, traces, targets and attributions.
//!
//! A model is a [`Graph`] of named operators, and every white-box method is one backward walk over that graph
//! with a different [`Rule`] at some nodes ([`Graph::propagate`]). Cutting the graph ([`Graph::from_node`],
//! [`Graph::until_node`]) gives attribution at layers and of neurons to every method. The traits [`Predictor`] and
//! [`Differentiable`], and `Graph` itself, say what a method needs of a model.

mod adapters;
mod at;
mod attribution;
mod baseline;
mod card;
pub mod config;
pub mod dataset;
mod detections;
mod error;
mod explainer;
pub mod features;
pub mod file;
mod fit;
pub mod game;
mod gradient_sum;
mod graph;
mod inputs;
mod line;
mod method;
mod model;
mod moments;
pub mod ops;
mod outputs;
mod plan;
pub mod random;
mod reduction;
mod registry;
pub mod relevance;
mod roles;
mod rule;
mod run;
mod suggest;
pub mod surrogate;
pub mod sweep;
mod target;
mod task;
pub mod truth;
mod values;
mod variations;
mod walk;

pub use adapters::{Autograd, BlackBox};
pub use at::{Location, explain_at};
pub use attribution::{Attribution, Cost, Provenance, Values};
pub use baseline::{Baseline, blur};
pub use candle_core::{DType, Device, Tensor};
pub use card::{Card, Domain, Family, Methodology, Needs, Place, Scope, Score, Takes, Usage, is_called};
pub use dataset::Dataset;
pub use detections::{Corners, Detection, Detections, overlap};
pub use error::{Error, Result};
pub use explainer::{Explainer, Found};
pub use fit::Fit;
pub use gradient_sum::GradientSum;
pub use graph::{Body, Graph, GraphBuilder, InputSpec, Keep, Node, NodeId, Parameter, Trace};
pub use inputs::{Input, Inputs, Role, check_finite};
pub use line::Line;
pub use method::{Configured, Method};
pub use model::{Differentiable, Gradient, Predictor};
pub use moments::Moments;
pub use outputs::{OutputKind, Outputs};
pub use plan::StepTime;
pub use reduction::Reduction;
pub use registry::{Boxed, Build, Entry, Registry, Spec};
pub use roles::{Arrangement, AxisRole, GraphRoles, GridView, Roles, Tokens, layout};
pub use rule::{
    Composite, Contributions, Gradient as GradientRule, Planned, Predicate, Rule, Selector, Site,
    is_first_affine, undefined_rule,
};
pub use run::{Progress, ProgressFn, Run};
pub use suggest::nearest;
pub use target::{Boxes, ScoreFn, Segments, Target, to_f64};
pub use task::{Samples, Task};
pub use truth::{Truth, TruthKind};
pub use variations::{Rectangle, Variations};
pub use walk::{Propagated, Signals, Walk, Walked};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
