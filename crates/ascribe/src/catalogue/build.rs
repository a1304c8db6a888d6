//! From an identifier and a configuration to an explainer or a metric.

use ascribe_core::{Explainer, Graph, Method};
use ascribe_gradient::{
    DeconvNet, GradCam, GuidedBackprop, GuidedGradCam, InputXGradient, IntegratedGradients, Lrp, Noise,
    NoiseTunnel, Saliency, Statistic,
};
use ascribe_metrics::{Completeness, Metric, ModelRandomisation, PixelCurve, PointingGame};
use ascribe_perturb::{Occlusion, Rise};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::target::Score;

/// A method for graphs, whatever it needs of them.
pub type BoxedExplainer = Box<dyn Explainer<Graph>>;

/// A metric for attributions of graphs.
pub type BoxedMetric = Box<dyn Metric<Graph>>;

/// Reads a configuration; fields that are absent keep their defaults.
fn read<T: DeserializeOwned>(id: &str, config: &Value) -> Result<T> {
    serde_json::from_value(config.clone())
        .map_err(|e| Error::Config { id: id.into(), problem: e.to_string() })
}

fn boxed<T: DeserializeOwned + Explainer<Graph> + 'static>(
    id: &str,
    config: &Value,
) -> Result<BoxedExplainer> {
    Ok(Box::new(read::<T>(id, config)?))
}

/// The explainer of this identifier with this configuration: a JSON object with the fields that differ from the
/// defaults. Noise methods take the method inside as `explainer`: an identifier, or `{"method": …, "config": …}`.
///
/// # Errors
/// If there is no such method, or the configuration has an unknown field (the message lists the valid ones) or
/// a value that makes no sense.
pub fn explainer(id: &str, config: &Value) -> Result<BoxedExplainer> {
    let built = match id {
        "saliency" => boxed::<Saliency>(id, config),
        "input-x-gradient" => boxed::<InputXGradient>(id, config),
        "guided-backprop" => boxed::<GuidedBackprop>(id, config),
        "deconvnet" => boxed::<DeconvNet>(id, config),
        "grad-cam" => boxed::<GradCam>(id, config),
        "guided-grad-cam" => boxed::<GuidedGradCam>(id, config),
        "integrated-gradients" => boxed::<IntegratedGradients>(id, config),
        "lrp" => boxed::<Lrp>(id, config),
        "occlusion" => boxed::<Occlusion>(id, config),
        "rise" => boxed::<Rise>(id, config),
        "smooth-grad" => noisy(id, config, Statistic::Mean),
        "smooth-grad-sq" => noisy(id, config, Statistic::MeanSquare),
        "var-grad" => noisy(id, config, Statistic::Variance),
        _ => super::method(id).and(Err(Error::Catalogue(format!("'{id}' is listed but cannot be built")))),
    }?;
    built.check()?;
    Ok(built)
}

fn noisy(id: &str, config: &Value, statistic: Statistic) -> Result<BoxedExplainer> {
    let mut fields = config.as_object().cloned().unwrap_or_default();
    let inner = match fields.remove("explainer").unwrap_or_else(|| "saliency".into()) {
        Value::String(name) => explainer(&name, &Value::Object(Map::new()))?,
        Value::Object(spec) => {
            let name = spec.get("method").and_then(Value::as_str).ok_or_else(|| Error::Config {
                id: id.into(),
                problem: "`explainer` lacks the field `method`".into(),
            })?;
            explainer(name, spec.get("config").unwrap_or(&Value::Object(Map::new())))?
        }
        other => {
            let problem =
                format!("`explainer` is {other}; expected a method, or an object with `method` and `config`");
            return Err(Error::Config { id: id.into(), problem });
        }
    };
    let noise: Noise = read(id, &Value::Object(fields)).map_err(|e| match e {
        Error::Config { id, problem } => Error::Config { id, problem: format!("{problem} (or `explainer`)") },
        other => other,
    })?;
    Ok(Box::new(NoiseTunnel::new(inner, statistic, noise)))
}

/// What scores a class that a target names, in the paper of this method; for noise methods, in that of the method
/// inside.
///
/// # Errors
/// If there is no such method.
pub fn score(id: &str, config: &Value) -> Result<Score> {
    let nothing = Value::Null;
    let inside = match config.get("explainer") {
        Some(Value::String(name)) => Some((name.as_str(), &nothing)),
        Some(Value::Object(spec)) => {
            let name = spec.get("method").and_then(Value::as_str);
            name.map(|name| (name, spec.get("config").unwrap_or(&nothing)))
        }
        _ => None,
    };
    match inside {
        Some((name, config)) => score(name, config),
        None => Ok(super::method(id)?.score),
    }
}

/// The fields of a method's configuration with their defaults.
///
/// # Errors
/// If there is no such method.
pub fn fields(id: &str) -> Result<Value> {
    Ok(explainer(id, &Value::Object(Map::new()))?.config())
}

/// Identifiers of the metrics.
pub fn metrics() -> &'static [&'static str] {
    &["completeness", "pointing-game", "insertion", "deletion", "model-randomisation"]
}

/// The metric of this identifier with this configuration.
///
/// # Errors
/// As [`explainer`].
pub fn metric(id: &str, config: &Value) -> Result<BoxedMetric> {
    // `insertion` and `deletion` are one configuration with different defaults.
    let curve = |default: PixelCurve| -> Result<BoxedMetric> {
        let mut fields = serde_json::to_value(default).map_err(|e| Error::Catalogue(e.to_string()))?;
        if let (Some(fields), Some(given)) = (fields.as_object_mut(), config.as_object()) {
            fields.extend(given.clone());
        }
        Ok(Box::new(read::<PixelCurve>(id, &fields)?))
    };
    match id {
        "completeness" => Ok(Box::new(read::<Completeness>(id, config)?)),
        "pointing-game" => Ok(Box::new(read::<PointingGame>(id, config)?)),
        "insertion" => curve(PixelCurve::insertion()),
        "deletion" => curve(PixelCurve::deletion()),
        "model-randomisation" => Ok(Box::new(read::<ModelRandomisation>(id, config)?)),
        _ => Err(Error::unknown("metric", id, metrics().iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_built_and_knows_its_id() {
        for id in metrics() {
            assert_eq!(metric(id, &serde_json::json!({})).unwrap().id(), *id);
        }
        assert!(
            metric("insertoin", &serde_json::json!({})).is_err_and(|e| e.to_string().contains("insertion"))
        );
    }

    #[test]
    fn noise_methods_take_a_method_inside() {
        let config = serde_json::json!({
            "samples": 3,
            "explainer": { "method": "integrated-gradients", "config": { "steps": 5 } },
        });
        let built = explainer("smooth-grad", &config).unwrap();
        assert_eq!(built.config()["samples"], 3);
        assert_eq!(built.config()["explainer"]["config"]["steps"], 5);
        assert!(explainer("smooth-grad", &serde_json::json!({ "explainer": 3 })).is_err());
        assert!(explainer("smooth-grad", &serde_json::json!({ "explainer": "nothing" })).is_err());
    }
}
