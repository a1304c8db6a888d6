//! From arguments to models, runs, targets and configurations.

mod model;

use std::path::Path;

use ascribe::core::{Baseline, Card, DType, Location, Run, Target};
use ascribe::models::tensors;
use ascribe::{Loaded, Model};
use serde_json::{Map, Value, json};

pub use model::model;

use crate::args::{RunArgs, TargetArgs};
use crate::error::{Failure, Result};
use crate::progress;

/// Where to explain, as the arguments say.
pub fn location(args: &TargetArgs) -> Result<Location> {
    let of = args.neuron.as_deref().map_or(Ok(Location::Input), Location::parse_neuron)?;
    Ok(match &args.layer {
        Some(layer) => of.at_layer(layer),
        None => of,
    })
}

/// Where a method explains. For methods that have a setting `layer`, like Grad-CAM, `--layer` is that setting.
pub fn location_of(location: &Location, card: &Card, config: &mut Value) -> Location {
    match (location.layer(), config.as_object_mut()) {
        (Some(layer), Some(config)) if card.takes.layer => {
            config.insert("layer".into(), layer.into());
            match location.neuron() {
                Some((node, index)) => Location::Neuron(node.into(), index.to_vec()),
                None => Location::Input,
            }
        }
        _ => location.clone(),
    }
}

/// What was done to a picture before it was preprocessed, if anything.
pub fn picture_note(loaded: &Loaded) -> Option<String> {
    loaded.picture.as_ref().filter(|picture| picture.turned).map(|_| {
        "the picture was turned as its EXIF orientation says; --no-exif leaves it as it is stored".to_string()
    })
}

/// The run that the arguments describe, which reports its progress to a bar.
pub fn run(args: &RunArgs, bar: &progress::Bar) -> Result<Run> {
    if args.threads == Some(0) || args.batch == Some(0) {
        return Err(Failure::request("--threads and --batch must be at least 1"));
    }
    let mut run = Run::new().seed(args.seed).on_progress(bar.callback());
    if let Some(threads) = args.threads {
        run = run.threads(threads);
    }
    if let Some(batch) = args.batch {
        run = run.batch(batch);
    }
    Ok(run)
}

/// Sets a field. The value is JSON if it can be parsed as such, else text. Dots in the key select fields of inner objects.
fn assign(config: &mut Map<String, Value>, key: &str, value: &str) -> Result<()> {
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
    let mut at = config;
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or(key);
    for part in parts {
        let inner = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
        at = inner.as_object_mut().ok_or_else(|| {
            Failure::request(format!("--set {key}: '{part}' already has a value without fields"))
        })?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

fn split(setting: &str) -> Result<(&str, &str)> {
    setting
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| Failure::request(format!("--set '{setting}': expected KEY=VALUE")))
}

/// The object in a JSON file; an empty one without a file.
fn object(file: Option<&Path>) -> Result<Map<String, Value>> {
    Ok(match file {
        None => Map::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Failure::request(format!("--config {}: {e}", path.display())))?;
            match serde_json::from_str(&text) {
                Ok(Value::Object(config)) => config,
                Ok(_) => {
                    return Err(Failure::request(format!(
                        "--config {}: expected a JSON object",
                        path.display()
                    )));
                }
                Err(e) => {
                    return Err(Failure::request(format!("--config {} is not JSON: {e}", path.display())));
                }
            }
        }
    })
}

/// A configuration from a file and settings.
pub fn config(file: Option<&Path>, settings: &[String]) -> Result<Value> {
    let mut config = object(file)?;
    for setting in settings {
        let (key, value) = split(setting)?;
        assign(&mut config, key, value)?;
    }
    Ok(Value::Object(config))
}

/// The configurations of several methods or metrics: first from a file, an object that maps identifiers to configurations;
/// then from settings `ID.KEY=VALUE`, or `KEY=VALUE` for all that have the field. A setting that applies to none of them is
/// an error. `known` are the full configurations, which say what fields there are; the result has the fields that are set.
pub fn configs(
    file: Option<&Path>,
    ids: &[impl AsRef<str>],
    settings: &[String],
    known: &[Value],
) -> Result<Vec<Value>> {
    let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
    let mut configs: Vec<Map<String, Value>> = vec![Map::new(); ids.len()];
    for (id, config) in object(file)? {
        let Some(place) = ids.iter().position(|i| *i == id) else {
            return Err(Failure::request(format!(
                "--config: '{id}' is not one of the methods that are compared: {}",
                ids.join(", ")
            )));
        };
        let Value::Object(config) = config else {
            return Err(Failure::request(format!("--config: the configuration of '{id}' is not an object")));
        };
        configs[place] = config;
    }
    for setting in settings {
        let (key, value) = split(setting)?;
        let mut used = false;
        for ((id, known), config) in ids.iter().zip(known).zip(&mut configs) {
            let own = key.strip_prefix(id).and_then(|rest| rest.strip_prefix('.'));
            let first = key.split('.').next().unwrap_or(key);
            if let Some(key) = own.or_else(|| known.get(first).is_some().then_some(key)) {
                assign(config, key, value)?;
                used = true;
            }
        }
        if !used {
            let all: Vec<String> = ids
                .iter()
                .zip(known)
                .map(|(id, known)| {
                    let names: Vec<&str> =
                        known.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
                    format!("{id}: {}", names.join(", "))
                })
                .collect();
            return Err(Failure::request(format!(
                "--set {key}: there is no such field; the fields are {}",
                all.join("; ")
            )));
        }
    }
    Ok(configs.into_iter().map(Value::Object).collect())
}

/// Parses the argument of `--baseline`.
pub fn baseline(text: &str, model: &Model) -> Result<Baseline> {
    let numbers = |text: &str, count: usize| -> Result<Vec<f64>> {
        let found: std::result::Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        found.ok().filter(|n: &Vec<f64>| n.len() == count && n.iter().all(|v| v.is_finite())).ok_or_else(
            || {
                Failure::request(format!(
                    "--baseline: '{text}' is not {count} finite number(s) separated by commas"
                ))
            },
        )
    };
    let level = |level: f64| Baseline::pixel(level, &model.preprocessing.mean, &model.preprocessing.std);
    let (name, argument) = text.split_once(':').unwrap_or((text, ""));
    Ok(match (name, argument) {
        ("zero", "") => Baseline::Zero,
        ("black", "") => level(0.0),
        ("white", "") => level(1.0),
        ("blur", "") => Baseline::Blurred { sigma: 10.0 },
        ("blur", sigma) => Baseline::Blurred { sigma: numbers(sigma, 1)?[0] },
        ("gaussian", std) => Baseline::Gaussian { std: numbers(std, 1)?[0] },
        ("uniform", bounds) => {
            let bounds = numbers(bounds, 2)?;
            Baseline::Uniform { low: bounds[0], high: bounds[1] }
        }
        ("max-distance", bounds) => {
            let bounds = numbers(bounds, 2)?;
            Baseline::MaxDistance { low: bounds[0], high: bounds[1] }
        }
        _ if text.parse::<f64>().is_ok() => Baseline::Constant(numbers(text, 1)?[0]),
        _ if tensors::is_tensor_file(text) => {
            let file = tensors::read(text)?;
            let mut all = file.iter();
            let (Some((_, tensor)), None) = (all.next(), all.next()) else {
                return Err(Failure::request(format!(
                    "--baseline {text}: the file holds {} tensors; expected one",
                    file.len()
                )));
            };
            Baseline::Tensor(tensor.clone())
        }
        _ => {
            return Err(Failure::request(format!(
                "--baseline '{text}': expected zero, black, white, blur[:SIGMA], a number, uniform:LOW,HIGH, \
                 gaussian:STD, max-distance:LOW,HIGH, or a .safetensors or .npy file"
            )));
        }
    })
}

/// Sets the baseline in the configuration of a method that has one.
pub fn set_baseline(config: &mut Value, baseline: &Baseline) -> Result<()> {
    let value = match baseline {
        // Records name a tensor by its shape; here its values are needed.
        Baseline::Tensor(tensor) => {
            let read = || tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
            let values = read().map_err(ascribe::core::Error::from)?;
            json!({ "tensor": { "shape": tensor.dims(), "values": values } })
        }
        other => serde_json::to_value(other).map_err(|e| Failure::Other(e.to_string()))?,
    };
    if let Some(config) = config.as_object_mut() {
        config.insert("baseline".into(), value);
    }
    Ok(())
}

/// Checks the width of the Gaussian that drawn maps are smoothed by.
pub fn check_smoothing(sigma: Option<f64>) -> Result<()> {
    match sigma {
        Some(sigma) if !(sigma >= 0.0 && sigma.is_finite()) => {
            Err(Failure::request(format!("--smoothing {sigma}: expected a number of pixels, 0 or more")))
        }
        _ => Ok(()),
    }
}

/// A note that the score of the class is its probability, where that follows from the method and not from `--target`.
pub fn score_note(args: &TargetArgs, target: &Target) -> Option<String> {
    let decided = matches!(target, Target::Probability(_) | Target::Probabilities(_))
        && ascribe::target::leaves_score(&args.target);
    decided.then(|| {
        "the score is the class's probability, as in the method's paper; --target logit:C takes its logit"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text_and_dots_are_objects() {
        let settings = ["steps=20", "quadrature=gauss-legendre", "baseline.constant=0.5", "window=[2,3]"];
        let found = config(None, &settings.map(String::from)).unwrap();
        assert_eq!(
            found,
            serde_json::json!({
                "steps": 20, "quadrature": "gauss-legendre", "baseline": { "constant": 0.5 }, "window": [2, 3]
            })
        );
        assert!(config(None, &["steps".into()]).is_err());
        assert!(config(None, &["a=1".into(), "a.b=2".into()]).is_err());
    }

    #[test]
    fn settings_find_their_method() {
        let ids = ["a", "b"];
        let known = [json!({ "x": 1, "y": 2 }), json!({ "x": 1 })];
        let found = configs(None, &ids, &["x=3".into(), "y=4".into(), "b.x=5".into()], &known).unwrap();
        assert_eq!(found, [serde_json::json!({ "x": 3, "y": 4 }), serde_json::json!({ "x": 5 })]);
        let error = configs(None, &ids, &["z=1".into()], &known).unwrap_err().to_string();
        assert!(error.contains("a: x, y; b: x"), "{error}");
    }
}
