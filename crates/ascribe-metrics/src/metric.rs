//! What every metric has in common.

use std::fmt::Debug;

use ascribe_core::{Attribution, Error, Explainer, Inputs, Predictor, Result, Run, Target, config};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::card::{Better, MetricCard};
use crate::localisation::Scene;
use crate::statistics::{Interval, bootstrap};

/// What is evaluated: an attribution, how it came about, and what is known of the truth.
#[derive(Clone, Copy)]
pub struct Case<'a, M: Predictor + ?Sized> {
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

impl<'a, M: Predictor + ?Sized> Case<'a, M> {
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
    pub(crate) fn new(metric: &(impl Measure + ?Sized), values: Vec<Option<f64>>) -> Self {
        Self {
            metric: metric.id().into(),
            config: metric.config(),
            values,
            better: metric.card().better,
            curves: Vec::new(),
            details: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Mean of the values that are defined.
    pub fn mean(&self) -> Option<f64> {
        let defined: Vec<f64> = self.values.iter().flatten().copied().collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    }
}

/// A metric's configuration: a struct whose fields are the settings, with its card.
///
/// It is what the author of a metric writes beside [`Metric::evaluate`]; [`Measure`] follows.
pub trait MetricConfig: Serialize + DeserializeOwned + Default + Debug + Send + Sync {
    /// What there is to say about the metric.
    const CARD: MetricCard;

    /// Checks the settings.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A configured metric, whatever it evaluates.
pub trait Measure: Debug + Send + Sync {
    /// What there is to say about the metric.
    fn card(&self) -> &'static MetricCard;

    /// The full configuration.
    fn config(&self) -> Value;

    /// Checks the configuration.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()>;

    /// The identifier that the catalogue and the command line use.
    fn id(&self) -> &'static str {
        self.card().id
    }
}

impl<T: MetricConfig> Measure for T {
    fn card(&self) -> &'static MetricCard {
        &T::CARD
    }

    fn config(&self) -> Value {
        config::write(self)
    }

    fn check(&self) -> Result<()> {
        MetricConfig::check(self)
    }
}

/// The value of one sample, as a summary needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The value; `None` where the metric is not defined for the sample.
    pub value: Option<f64>,
    /// The class that was explained, if the target is one.
    pub class: Option<usize>,
}

/// A metric's values over many samples in one number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The number; `None` where no sample has a value.
    pub mean: Option<f64>,
    /// Its 95 % confidence interval.
    pub interval: Option<Interval>,
    /// Number of samples that have a value.
    pub count: usize,
}

/// A configured metric for attributions of models of type `M`.
pub trait Metric<M: Predictor + ?Sized>: Measure {
    /// Evaluates the samples of a case.
    ///
    /// # Errors
    /// If the case lacks what the metric needs, or the model cannot compute.
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation>;

    /// What the values of some samples are summed up by: their mean, unless the metric's paper has something else.
    fn statistic(&self, samples: &[Sample]) -> Option<f64> {
        let defined: Vec<f64> = samples.iter().filter_map(|sample| sample.value).collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    }

    /// [`Metric::statistic`] with its 95 % confidence interval: the percentiles of 1000 bootstrap samples (Efron 1979),
    /// drawn over the samples that have a value. Two at least are needed for an interval.
    fn summarise(&self, samples: &[Sample], seed: u64) -> Summary {
        let defined: Vec<Sample> = samples.iter().copied().filter(|sample| sample.value.is_some()).collect();
        Summary {
            mean: self.statistic(&defined),
            interval: bootstrap(&defined, |drawn| self.statistic(drawn), seed),
            count: defined.len(),
        }
    }
}
