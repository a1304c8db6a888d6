//! What every metric has in common.

use std::fmt::Debug;

use ascribe_core::{Attribution, Error, Explainer, Inputs, Result, Run, Target};
use serde::{Deserialize, Serialize};

use crate::localisation::Scene;

/// Which way a metric's value is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Higher values are better.
    Higher,
    /// Lower values are better.
    Lower,
    /// Values closer to zero are better.
    Zero,
}

/// What is evaluated: an attribution, how it came about, and what is known of the truth.
#[derive(Clone, Copy)]
pub struct Case<'a, M: ?Sized> {
    /// The model.
    pub model: &'a M,
    /// The inputs that were explained.
    pub x: &'a Inputs,
    /// The target that was explained.
    pub target: &'a Target,
    /// The attribution.
    pub attribution: &'a Attribution,
    /// The method, for metrics that explain again.
    pub explainer: Option<&'a dyn Explainer<M>>,
    /// The objects in each sample's picture, for localisation.
    pub scenes: Option<&'a [Scene]>,
    /// How to run.
    pub run: &'a Run,
}

impl<'a, M: ?Sized> Case<'a, M> {
    /// A case without method and scenes.
    pub fn new(
        model: &'a M,
        x: &'a Inputs,
        target: &'a Target,
        attribution: &'a Attribution,
        run: &'a Run,
    ) -> Self {
        Self { model, x, target, attribution, explainer: None, scenes: None, run }
    }

    /// Adds the method.
    pub fn explained_by(self, explainer: &'a dyn Explainer<M>) -> Self {
        Self { explainer: Some(explainer), ..self }
    }

    /// Adds what the pictures show.
    pub fn showing(self, scenes: &'a [Scene]) -> Self {
        Self { scenes: Some(scenes), ..self }
    }

    pub(crate) fn need_explainer(&self, metric: &str) -> Result<&'a dyn Explainer<M>> {
        self.explainer
            .ok_or_else(|| Error::invalid(metric, "has no method to explain with", "Case::explained_by"))
    }
}

/// A curve that a metric's values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Position along the curve.
    pub x: Vec<f64>,
    /// Value there.
    pub y: Vec<f64>,
}

/// What a metric found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Identifier of the metric.
    pub metric: String,
    /// Full configuration.
    pub config: serde_json::Value,
    /// One value per sample; `None` where the metric is not defined for the sample.
    pub values: Vec<Option<f64>>,
    /// Which way is better.
    pub better: Better,
    /// One curve per sample, for metrics that have them.
    pub curves: Vec<Curve>,
    /// More numbers, by name: one entry per sample.
    pub details: Vec<serde_json::Value>,
    /// Remarks.
    pub notes: Vec<String>,
}

impl Evaluation {
    pub(crate) fn new(
        metric: &str,
        config: serde_json::Value,
        better: Better,
        values: Vec<Option<f64>>,
    ) -> Self {
        let metric = metric.into();
        Self { metric, config, values, better, curves: Vec::new(), details: Vec::new(), notes: Vec::new() }
    }

    /// Mean of the values that are defined.
    pub fn mean(&self) -> Option<f64> {
        let defined: Vec<f64> = self.values.iter().flatten().copied().collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    }
}

/// A configured metric for attributions of models of type `M`.
pub trait Metric<M: ?Sized>: Debug + Send + Sync {
    /// The identifier that the catalogue and the command line use.
    fn id(&self) -> &'static str;

    /// The full configuration.
    fn config(&self) -> serde_json::Value;

    /// Which way is better.
    fn better(&self) -> Better;

    /// Evaluates the samples of a case.
    ///
    /// # Errors
    /// If the case lacks what the metric needs, or the model cannot compute.
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation>;
}
