//! The methods, metrics and studies of all crates by name.
//!
//! Each crate lists its own ([`ascribe_gradient::METHODS`], [`ascribe_perturb::METHODS`], [`ascribe_metrics::METRICS`]); this
//! module joins the lists. A method or metric is described by its card, beside its code.
//!
//! ```
//! use ascribe::catalogue;
//! let entry = catalogue::method("integrated-gradients")?;
//! assert_eq!(entry.card.year, 2017);
//! let explainer = catalogue::explainer("integrated-gradients", &serde_json::json!({ "steps": 20 }))?;
//! assert_eq!(explainer.config()["steps"], 20);
//! # Ok::<(), ascribe::Error>(())
//! ```

#[cfg(feature = "models")]
use ascribe_core::Spec;
use ascribe_core::{Boxed, Configured, Entry, Graph, Registry};
use ascribe_gradient::IntegratedGradients;
use ascribe_metrics::{BoxedMetric, BoxedStudy, METRICS, MetricEntry, STUDIES, StudyEntry};
#[cfg(feature = "models")]
use serde::Deserialize;
use serde_json::Value;

use crate::error::Result;

/// All methods.
pub const METHODS: Registry<'static> = Registry::new(&[ascribe_gradient::METHODS, ascribe_perturb::METHODS]);

/// Identifier of the default method.
pub const DEFAULT_METHOD: &str = IntegratedGradients::CARD.id;

/// The method of this identifier.
///
/// # Errors
/// If there is none: the message suggests one with this as another name, or the most similar identifier.
pub fn method(id: &str) -> Result<&'static Entry> {
    Ok(METHODS.find(id)?)
}

/// The explainer of this identifier with this configuration: a JSON object with the fields that differ from the
/// defaults. Methods that wrap another take it as `explainer`: an identifier, or `{"method": …, "config": …}`.
///
/// # Errors
/// If there is no such method, or the configuration has an unknown field (the message lists the valid ones) or
/// an invalid value.
pub fn explainer(id: &str, config: &Value) -> Result<Boxed<Graph>> {
    Ok(METHODS.build(id, config)?)
}

/// As [`explainer`], for pictures of a model: the fields `low` and `high` of methods that have them, where the configuration
/// leaves them open, become the range of the model's pictures, also in a method that another one wraps.
///
/// # Errors
/// As [`explainer`].
#[cfg(feature = "models")]
pub fn explainer_for(id: &str, config: &Value, model: &crate::Model) -> Result<Boxed<Graph>> {
    explainer(id, &with_range(id, config, model)?)
}

/// The configuration with the range of the model's pictures where it leaves that open.
#[cfg(feature = "models")]
fn with_range(id: &str, config: &Value, model: &crate::Model) -> Result<Value> {
    let takes = method(id)?.card.takes;
    let mut config = config.clone();
    if (takes.range || takes.method) && config.is_null() {
        config = Value::Object(serde_json::Map::new());
    }
    let Some(fields) = config.as_object_mut() else { return Ok(config) };
    if takes.range {
        for (name, values) in ["low", "high"].into_iter().zip(model.range()) {
            if fields.get(name).is_none_or(Value::is_null) {
                fields.insert(name.into(), values.into());
            }
        }
    }
    if takes.method {
        let inside = fields.get("explainer").and_then(|inside| Spec::deserialize(inside).ok());
        // What is wrong with it is reported when this one is built.
        if let Some(Spec { method: id, config: own }) = inside.filter(|inside| method(&inside.method).is_ok())
        {
            let spec = Spec { config: with_range(&id, &own, model)?, method: id };
            fields.insert("explainer".into(), ascribe_core::config::write(&spec));
        }
    }
    Ok(config)
}

/// All metrics.
pub fn metrics() -> &'static [MetricEntry] {
    METRICS
}

/// The metric of this identifier with this configuration.
///
/// # Errors
/// As [`explainer`].
pub fn metric(id: &str, config: &Value) -> Result<BoxedMetric> {
    Ok(ascribe_metrics::find(id)?.build(config)?)
}

/// All studies: what needs datasets, and trains networks of its own.
pub fn studies() -> &'static [StudyEntry] {
    STUDIES
}

/// The study of this identifier with this configuration.
///
/// # Errors
/// As [`explainer`].
pub fn study(id: &str, config: &Value) -> Result<BoxedStudy> {
    Ok(ascribe_metrics::find_study(id)?.build(config)?)
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Needs, Score};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_method_can_be_built_and_says_what_it_is() {
        for entry in METHODS.entries() {
            let card = entry.card;
            let listed = METHODS.entries().filter(|other| other.card.id == card.id);
            assert_eq!(listed.count(), 1, "{} is listed twice", card.id);
            let built = explainer(card.id, &Value::Null).unwrap();
            assert_eq!((built.id(), built.card()), (card.id, card));
            let config = built.config();
            assert_eq!(explainer(card.id, &config).unwrap().config(), config, "{}", card.id);
            for text in [card.name, card.summary, card.paper] {
                assert!(!text.is_empty(), "{}", card.id);
            }
            assert!((1990..2100).contains(&card.year), "{}", card.id);
            // What the card says about the configuration is true.
            for (takes, field) in [
                (card.takes.layer, "layer"),
                (card.takes.baseline, "baseline"),
                (card.takes.method, "explainer"),
                (card.takes.range, "low"),
                (card.takes.range, "high"),
            ] {
                assert_eq!(config.get(field).is_some(), takes, "{}: {field}", card.id);
            }
            assert_eq!(entry.needs == Needs::Inner, card.takes.method, "{}", card.id);
        }
    }

    #[test]
    fn wrappers_are_asked_for_what_they_wrap() {
        let of = |id: &str, config| explainer(id, &config).unwrap();
        assert_eq!(of("rise", json!({})).score(), Score::Probability);
        assert_eq!(of("smooth-grad", json!({})).score(), Score::Logit);
        assert_eq!(of("smooth-grad", json!({ "explainer": "rise" })).score(), Score::Probability);
        let inside = json!({ "explainer": { "method": "rise", "config": { "masks": 9 } } });
        assert_eq!(of("var-grad", inside.clone()).score(), Score::Probability);
        assert!(of("smooth-grad", inside.clone()).is_relative() && !of("var-grad", inside).is_relative());
        let twice = json!({ "explainer": { "method": "smooth-grad", "config": { "explainer": "rise" } } });
        assert!(of("smooth-grad", twice).is_relative());
    }

    #[test]
    fn wrappers_take_a_method_and_its_configuration() {
        let config = json!({
            "samples": 3,
            "explainer": { "method": "integrated-gradients", "config": { "steps": 5 } },
        });
        let built = explainer("smooth-grad", &config).unwrap();
        assert_eq!(built.config()["samples"], 3);
        assert_eq!(built.config()["explainer"]["config"]["steps"], 5);
        for wrong in
            [json!(3), json!("nothing"), json!({ "method": "rise", "confg": {} }), json!({ "config": {} })]
        {
            assert!(explainer("smooth-grad", &json!({ "explainer": wrong })).is_err());
        }
    }

    #[test]
    fn unknown_names_suggest_near_ones() {
        let message = |id: &str, config| explainer(id, &config).unwrap_err().to_string();
        assert!(message("saliensy", json!({})).contains("'saliency'"));
        assert!(message("gradcam", json!({})).contains("'grad-cam'"));
        assert!(message("Vanilla Gradient", json!({})).contains("'saliency'"));
        let error = message("saliency", json!({ "abbs": true }));
        assert!(error.contains("abbs") && error.contains("abs"), "{error}");
        let error = message("smooth-grad", json!({ "smaples": 3 }));
        assert!(
            error.contains("smaples") && error.contains("samples") && error.contains("explainer"),
            "{error}"
        );
        let error = message("integrated-gradients", json!({ "steps": "abc" }));
        assert!(error.contains("`steps`") && error.contains("abc"), "{error}");
    }
}
