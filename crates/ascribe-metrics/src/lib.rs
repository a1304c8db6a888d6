//! Evaluation metrics for attributions, grouped by what they test.
//!
//! - [`localisation`]: does the attribution lie on the object? Pointing game.
//! - [`faithfulness`]: does the score follow the attribution? Insertion, deletion.
//! - [`randomisation`]: does the attribution depend on the model? Model parameter randomisation.
//! - [`axioms`]: does the attribution keep its promises? Completeness.
//!
//! A metric implements [`Metric`] for the models it can be asked about, like an explainer: the pointing game for
//! anything, insertion for black boxes, model randomisation for graphs.

pub mod axioms;
mod card;
pub mod faithfulness;
mod list;
pub mod localisation;
mod metric;
pub mod randomisation;
pub mod statistics;

pub use axioms::Completeness;
pub use card::{Asks, Better, Group, MetricCard, MetricEntry};
pub use faithfulness::{Deletion, Insertion, PixelCurve};
pub use list::{BoxedMetric, METRICS, find};
pub use localisation::PointingGame;
pub use metric::{Case, Curve, Evaluation, Measure, Metric, MetricConfig, Sample, Summary};
pub use randomisation::ModelRandomisation;
