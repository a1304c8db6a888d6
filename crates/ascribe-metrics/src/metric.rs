//! The interface of metrics.

use std::fmt::Debug;

use ascribe_core::{
    Attribution, Error, Explainer, Inputs, Predictor, Result, Run, Target, Truth, TruthKind, config,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::card::{Better, MetricCard};
use crate::statistics::{Interval, bootstrap};

/// The input of a metric: an attribution, how it was computed, and the ground truth.
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
    /// The method, for metrics that compute further explanations.
    pub explainer: Option<&'a dyn Explainer<M>>,
    /// The ground truth: one entry per sample.
    pub truth: Option<&'a [Truth]>,
    /// How to run.
    pub run: &'a Run,
}

impl<'a, M: Predictor + ?Sized> Case<'a, M> {
    /// A case without method and ground truth.
    pub fn new(
        model: &'a M,
        x: &'a Inputs,
        target: &'a Target,
        attribution: &'a Attribution,
        run: &'a Run,
    ) -> Self {
        Self { model, x, target, attribution, explainer: None, truth: None, run }
    }

    /// Adds the method.
    pub fn explained_by(self, explainer: &'a dyn Explainer<M>) -> Self {
        Self { explainer: Some(explainer), ..self }
    }

    /// Adds the ground truth of each sample.
    pub fn showing(self, truth: &'a [Truth]) -> Self {
        Self { truth: Some(truth), ..self }
    }

    pub(crate) fn need_explainer(&self, metric: &str) -> Result<&'a dyn Explainer<M>> {
        self.explainer
            .ok_or_else(|| Error::invalid(metric, "has no method to explain with", "Case::explained_by"))
    }

    /// The ground truth of each sample, for a metric whose card says which kinds it can use. Checks that every sample
    /// has at least one of these kinds, and that it has the shape of the attribution.
    pub(crate) fn need_truth(&self, card: &MetricCard) -> Result<&'a [Truth]> {
        let serve = TruthKind::join(card.asks.truth, "or");
        let Some(all) = self.truth else {
            return Err(Error::invalid(
                card.id,
                "nothing is known of the samples",
                format!("{serve}: Case::showing"),
            ));
        };
        let shape = self.attribution.values().dims();
        if shape.first() != Some(&all.len()) {
            let problem =
                format!("an attribution {shape:?} and {} samples of which something is known", all.len());
            return Err(Error::invalid(card.id, problem, "equally many samples"));
        }
        for (sample, truth) in all.iter().enumerate() {
            let kinds = truth.kinds();
            if !kinds.iter().any(|kind| card.asks.truth.contains(kind)) {
                let problem = match &*kinds {
                    [] => format!("nothing is known of sample {sample}"),
                    some => format!("sample {sample} has {} only", TruthKind::join(some, "and")),
                };
                return Err(Error::invalid(card.id, problem, serve));
            }
            truth.check_shape(&shape[1..]).map_err(|error| match error {
                Error::Invalid { what, problem, expected } => {
                    Error::invalid(card.id, format!("the {what} of sample {sample} {problem}"), expected)
                }
                other => other,
            })?;
        }
        Ok(all)
    }
}

/// A curve from which the value of a metric is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Position along the curve.
    pub x: Vec<f64>,
    /// Value at each position.
    pub y: Vec<f64>,
}

/// The result of a metric.
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
    /// Further numbers by name, one entry per sample.
    pub details: Vec<serde_json::Value>,
    /// Notes on each sample: one entry per sample, or none at all.
    pub notes: Vec<Vec<String>>,
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

    /// The mean of the values that are defined.
    pub fn mean(&self) -> Option<f64> {
        mean(self.values.iter().copied())
    }
}

/// The mean of the values that are defined.
pub(crate) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let defined: Vec<f64> = values.flatten().collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

/// The configuration of a metric or study: a struct whose fields are the settings, with its card.
///
/// The author of a metric implements it in addition to [`Metric::evaluate`], the author of a study in addition to
/// [`crate::Study::conduct`]; [`Measure`] is derived from it.
pub trait MetricConfig: Serialize + DeserializeOwned + Default + Debug + Send + Sync {
    /// The description of the metric.
    const CARD: MetricCard;

    /// Checks the settings.
    ///
    /// # Errors
    /// If a setting is invalid; the error says which field is wrong and what is expected.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The statistic that summarises the values of some samples: their mean, unless the paper uses another one.
    fn statistic(&self, samples: &[Sample]) -> Option<f64> {
        mean(samples.iter().map(|sample| sample.value))
    }
}

/// A configured metric or study, for any type of model.
pub trait Measure: Debug + Send + Sync {
    /// The description of the metric.
    fn card(&self) -> &'static MetricCard;

    /// The full configuration.
    fn config(&self) -> Value;

    /// Checks the configuration.
    ///
    /// # Errors
    /// If a setting is invalid; the error says which field is wrong and what is expected.
    fn check(&self) -> Result<()>;

    /// The identifier in the catalogue and on the command line.
    fn id(&self) -> &'static str {
        self.card().id
    }

    /// The statistic that summarises the values of some samples: [`MetricConfig::statistic`].
    fn statistic(&self, samples: &[Sample]) -> Option<f64>;

    /// [`Measure::statistic`] with its 95 % confidence interval: the percentiles over 1000 bootstrap samples (Efron
    /// 1979) of the samples that have a value. An interval requires at least two samples.
    fn summarise(&self, samples: &[Sample], seed: u64) -> Summary {
        let defined: Vec<Sample> = samples.iter().copied().filter(|sample| sample.value.is_some()).collect();
        Summary {
            mean: self.statistic(&defined),
            interval: bootstrap(&defined, |drawn| self.statistic(drawn), seed),
            count: defined.len(),
        }
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

    fn statistic(&self, samples: &[Sample]) -> Option<f64> {
        MetricConfig::statistic(self, samples)
    }
}

/// The value of one sample, for a summary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The value; `None` where the metric is not defined for the sample.
    pub value: Option<f64>,
    /// The class that was explained, if the target is one.
    pub class: Option<usize>,
}

/// A summary of a metric's values over many samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The statistic; `None` if no sample has a value.
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
    /// If the case lacks what the metric needs, or the model fails.
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation>;
}
