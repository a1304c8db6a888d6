//! The metrics of this crate by name.

use ascribe_core::{Differentiable, Error, Graph, Needs, Predictor, Result, config};
use serde_json::Value;

use crate::axioms::Completeness;
use crate::card::MetricEntry;
use crate::faithfulness::{Deletion, Insertion};
use crate::localisation::PointingGame;
use crate::metric::{Metric, MetricConfig};
use crate::randomisation::ModelRandomisation;

/// A metric for attributions of graphs, known when the program runs.
pub type BoxedMetric = Box<dyn Metric<Graph>>;

/// How an entry makes a metric from a configuration.
pub type Build = fn(&Value) -> Result<BoxedMetric>;

/// The metrics of this crate, in the order in which they are shown.
pub const METRICS: &[MetricEntry] = &[
    MetricEntry::black_box::<Completeness>(),
    MetricEntry::black_box::<PointingGame>(),
    MetricEntry::black_box::<Insertion>(),
    MetricEntry::black_box::<Deletion>(),
    MetricEntry::white_box::<ModelRandomisation>(),
];

impl MetricEntry {
    /// A metric that needs a model's outputs, or nothing of it.
    pub const fn black_box<T>() -> Self
    where
        T: MetricConfig + Metric<dyn Predictor> + Metric<Graph> + 'static,
    {
        Self::of::<T>(Needs::BlackBox)
    }

    /// A metric that needs gradients.
    pub const fn gradient<T>() -> Self
    where
        T: MetricConfig + Metric<dyn Differentiable> + Metric<Graph> + 'static,
    {
        Self::of::<T>(Needs::Gradient)
    }

    /// A metric that needs the graph.
    pub const fn white_box<T: MetricConfig + Metric<Graph> + 'static>() -> Self {
        Self::of::<T>(Needs::WhiteBox)
    }

    const fn of<T: MetricConfig + Metric<Graph> + 'static>(needs: Needs) -> Self {
        Self { card: &T::CARD, needs, build: |given| Ok(Box::new(config::read::<T>(T::CARD.id, given)?)) }
    }

    /// The metric with this configuration: an object with the fields that differ from the defaults, or `null`.
    ///
    /// # Errors
    /// If the configuration has an unknown field (the message lists the valid ones) or a value that makes no sense.
    pub fn build(&self, given: &Value) -> Result<BoxedMetric> {
        let built = (self.build)(given)?;
        built.check()?;
        Ok(built)
    }
}

/// The metric of this identifier.
///
/// # Errors
/// [`Error::Unknown`], which suggests the metric that has this as another name, or the most similar identifier.
pub fn find(id: &str) -> Result<&'static MetricEntry> {
    METRICS.iter().find(|entry| entry.card.id == id).ok_or_else(|| {
        let called = METRICS.iter().map(|entry| entry.card).find(|card| card.also.contains(&id));
        Error::unknown("metric", id, called.map(|card| card.id), METRICS.iter().map(|entry| entry.card.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_built_and_says_what_it_is() {
        for entry in METRICS {
            let card = entry.card;
            let listed = METRICS.iter().filter(|other| other.card.id == card.id);
            assert_eq!(listed.count(), 1, "{} is listed twice", card.id);
            let built = entry.build(&Value::Null).unwrap();
            assert_eq!(built.id(), card.id);
            let again = entry.build(&built.config()).unwrap();
            assert_eq!(again.config(), built.config(), "{}", card.id);
            for text in [card.name, card.summary, card.paper, card.limits] {
                assert!(!text.is_empty(), "{}", card.id);
            }
        }
        assert!(find("insertoin").is_err_and(|e| e.to_string().contains("'insertion'")));
        let error =
            find("deletion").unwrap().build(&serde_json::json!({ "stpe": 3 })).unwrap_err().to_string();
        assert!(error.contains("deletion") && error.contains("`step`"), "{error}");
    }
}
