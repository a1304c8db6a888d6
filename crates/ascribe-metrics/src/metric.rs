//! What every metric has in common.

use std::fmt::Debug;

use ascribe_core::{
    Attribution, Error, Explainer, Inputs, Predictor, Result, Run, Target, Truth, TruthKind, config,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::card::{Better, MetricCard};
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
    /// What is known of each sample: one entry per sample.
    pub truth: Option<&'a [Truth]>,
    /// How to run.
    pub run: &'a Run,
}

impl<'a, M: Predictor + ?Sized> Case<'a, M> {
    /// A case without method and truth.
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

    /// Adds what is known of each sample.
    pub fn showing(self, truth: &'a [Truth]) -> Self {
        Self { truth: Some(truth), ..self }
    }

    pub(crate) fn need_explainer(&self, metric: &str) -> Result<&'a dyn Explainer<M>> {
        self.explainer
            .ok_or_else(|| Error::invalid(metric, "has no method to explain with", "Case::explained_by"))
    }

    /// What is known of each sample, for a metric whose card says which kinds serve it: there is one of them for every sample,
    /// and it has the shape of the attribution.
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
    /// Remarks on each sample: one entry per sample, or none at all.
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

    /// Mean of the values that are defined.
    pub fn mean(&self) -> Option<f64> {
        mean(self.values.iter().copied())
    }
}

/// Mean of the values that are defined.
pub(crate) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let defined: Vec<f64> = values.flatten().collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

/// A metric's or a study's configuration: a struct whose fields are the settings, with its card.
///
/// It is what the author of a metric writes beside [`Metric::evaluate`], or that of a study beside [`crate::Study::conduct`];
/// [`Measure`] follows.
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

    /// What the values of some samples are summed up by: their mean, unless the paper has something else.
    fn statistic(&self, samples: &[Sample]) -> Option<f64> {
        mean(samples.iter().map(|sample| sample.value))
    }
}

/// A configured metric or study, whatever it evaluates.
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

    /// What the values of some samples are summed up by: [`MetricConfig::statistic`].
    fn statistic(&self, samples: &[Sample]) -> Option<f64>;

    /// [`Measure::statistic`] with its 95 % confidence interval: the percentiles of 1000 bootstrap samples (Efron 1979), drawn
    /// over the samples that have a value. Two at least are needed for an interval.
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
}
