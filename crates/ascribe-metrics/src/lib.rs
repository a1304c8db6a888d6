//! Evaluation metrics for attributions, grouped by what they test.
//!
//! - [`localisation`]: is the attribution on the object? Pointing game.
//! - [`faithfulness`]: does the score follow the attribution? Insertion, deletion.
//! - [`randomisation`]: does the attribution depend on the model, and on its data? Model parameter and data randomisation.
//! - [`axioms`]: does the attribution have the properties that its method guarantees? Completeness.
//!
//! A metric implements [`Metric`] for the models it supports, like an explainer: the pointing game for any model,
//! insertion for black boxes, model randomisation for graphs. An evaluation that needs more than one case, because it
//! trains networks ([`training`]), is a [`Study`]: data randomisation.

pub mod axioms;
mod card;
pub mod faithfulness;
mod list;
pub mod localisation;
mod metric;
pub mod randomisation;
mod row;
pub mod statistics;
mod study;
pub mod training;

pub use ascribe_core::{Truth, TruthKind};
pub use axioms::Completeness;
pub use card::{Asks, Better, Group, MetricCard, MetricEntry, StudyEntry};
pub use faithfulness::{Deletion, Insertion, PixelCurve};
pub use list::{BoxedMetric, BoxedStudy, METRICS, STUDIES, find, find_study};
pub use localisation::PointingGame;
pub use metric::{Case, Curve, Evaluation, Measure, Metric, MetricConfig, Sample, Summary};
pub use randomisation::{DataRandomisation, ModelRandomisation};
pub use row::{Overall, Row};
pub use study::{Study, StudyCase, Train};
