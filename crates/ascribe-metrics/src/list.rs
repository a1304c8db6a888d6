//! The metrics and studies of this crate by name.

use ascribe_core::{Differentiable, Error, Graph, Needs, Predictor, Result, config};
use serde_json::Value;

use crate::axioms::Completeness;
use crate::card::{MetricCard, MetricEntry, StudyEntry};
use crate::faithfulness::{Deletion, Insertion};
use crate::localisation::PointingGame;
use crate::metric::{Metric, MetricConfig};
use crate::randomisation::{DataRandomisation, ModelRandomisation};
use crate::study::Study;

/// A metric for attributions of graphs that is selected at run time.
pub type BoxedMetric = Box<dyn Metric<Graph>>;

/// Builds a metric from a configuration.
pub type Build = fn(&Value) -> Result<BoxedMetric>;

/// A study of graphs that is selected at run time.
pub type BoxedStudy = Box<dyn Study<Graph>>;

/// Builds a study from a configuration.
pub type BuildStudy = fn(&Value) -> Result<BoxedStudy>;

/// The metrics of this crate, in the order in which they are listed.
pub const METRICS: &[MetricEntry] = &[
    MetricEntry::black_box::<Completeness>(),
    MetricEntry::black_box::<PointingGame>(),
    MetricEntry::black_box::<Insertion>(),
    MetricEntry::black_box::<Deletion>(),
    MetricEntry::white_box::<ModelRandomisation>(),
];

/// The studies of this crate, in the order in which they are listed.
pub const STUDIES: &[StudyEntry] = &[StudyEntry::of::<DataRandomisation>(Needs::BlackBox)];

impl MetricEntry {
    /// A metric that needs only a model's outputs, or no model.
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

    /// Builds the metric with this configuration: an object with the fields that differ from the defaults, or `null`.
    ///
    /// # Errors
    /// If the configuration has an unknown field (the message lists the valid ones) or an invalid value.
    pub fn build(&self, given: &Value) -> Result<BoxedMetric> {
        let built = (self.build)(given)?;
        built.check()?;
        Ok(built)
    }
}

impl StudyEntry {
    const fn of<T: MetricConfig + Study<Graph> + 'static>(needs: Needs) -> Self {
        Self { card: &T::CARD, needs, build: |given| Ok(Box::new(config::read::<T>(T::CARD.id, given)?)) }
    }

    /// Builds the study with this configuration, as [`MetricEntry::build`] does.
    ///
    /// # Errors
    /// As [`MetricEntry::build`].
    pub fn build(&self, given: &Value) -> Result<BoxedStudy> {
        let built = (self.build)(given)?;
        built.check()?;
        Ok(built)
    }
}

/// The entry with this identifier; the error for an unknown one suggests the metric or study that has it as another
/// name, or the most similar identifier.
fn named<'a, T>(what: &str, id: &str, list: &'a [T], card: fn(&T) -> &'static MetricCard) -> Result<&'a T> {
    list.iter().find(|entry| card(entry).id == id).ok_or_else(|| {
        let metrics = METRICS.iter().map(|entry| entry.card);
        let cards: Vec<&MetricCard> = metrics.chain(STUDIES.iter().map(|entry| entry.card)).collect();
        let called = cards.iter().find(|card| card.is_called(id)).map(|card| card.id);
        Error::unknown(what, id, called, cards.iter().map(|card| card.id))
    })
}

/// The metric with this identifier.
///
/// # Errors
/// [`Error::Unknown`], which suggests the metric that has this as another name, or the most similar identifier. For
/// the identifier of a study, the error says that it is not a metric.
pub fn find(id: &str) -> Result<&'static MetricEntry> {
    if STUDIES.iter().any(|entry| entry.card.id == id) {
        let problem = format!("'{id}' is a study, which trains networks of its own");
        return Err(Error::invalid("metric", problem, "a metric, or the library's `ascribe_metrics::Study`"));
    }
    named("metric", id, METRICS, |entry| entry.card)
}

/// The study with this identifier.
///
/// # Errors
/// [`Error::Unknown`], which suggests the study that has this as another name, or the most similar identifier.
pub fn find_study(id: &str) -> Result<&'static StudyEntry> {
    named("study", id, STUDIES, |entry| entry.card)
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
        for entry in STUDIES {
            let card = entry.card;
            let ids =
                METRICS.iter().map(|other| other.card.id).chain(STUDIES.iter().map(|other| other.card.id));
            assert_eq!(ids.filter(|id| *id == card.id).count(), 1, "{} is listed twice", card.id);
            let built = entry.build(&Value::Null).unwrap();
            assert_eq!(
                (built.id(), entry.build(&built.config()).unwrap().config()),
                (card.id, built.config())
            );
            assert!(card.asks.training, "{}", card.id);
            assert!([card.name, card.summary, card.paper, card.limits].iter().all(|text| !text.is_empty()));
            assert!(find(card.id).unwrap_err().to_string().contains("is a study"));
            assert_eq!(find_study(card.id).unwrap().card, card);
        }
        assert!(METRICS.iter().all(|entry| !entry.card.asks.training));
        for other in ["Sanity checks", "sanity_checks", "MPRT"] {
            assert!(find(other).is_err_and(|e| e.to_string().contains("'model-randomisation'")), "{other}");
        }
        assert!(find("insertoin").is_err_and(|e| e.to_string().contains("'insertion'")));
        let error =
            find("deletion").unwrap().build(&serde_json::json!({ "stpe": 3 })).unwrap_err().to_string();
        assert!(error.contains("deletion") && error.contains("`step`"), "{error}");
    }
}
