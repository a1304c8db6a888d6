//! Checks every golden case, in f64 and f32, as its metadata describes it: see `fixtures/golden/methods/README.md`. A
//! new method or metric adds cases, but no code here.
#![cfg(all(feature = "catalogue", feature = "models"))]

use std::collections::{BTreeMap, BTreeSet};

use ascribe::catalogue;
use ascribe::core::{
    Attribution, Boxed, DType, Device, Graph, Keep, Location, Run, Spec, Target, Tensor, explain_at,
};
use ascribe::metrics::Case as Evaluated;
use ascribe::metrics::Truth;
use ascribe::metrics::localisation::Scene;
use ascribe_testing::golden::{self, Failure, Network, allowed, folder};
use ascribe_testing::{attribution, distance, flat};
use serde::Deserialize;
use serde_json::{Value, json};

/// The metadata of a case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The method whose attributions are compared.
    method: Option<String>,
    /// The metric whose results are compared, if it is not a method.
    metric: Option<String>,
    /// The fields of the configuration that differ from the defaults.
    #[serde(default)]
    config: Value,
    /// For a metric: the name of the tensor that holds the attribution; without it, `explainer` computes one.
    attribution: Option<String>,
    /// For a metric: the method that it may use.
    explainer: Option<Spec>,
    /// For a metric: the objects in each sample.
    scenes: Option<Vec<Scene>>,
    #[serde(default)]
    at: Location,
    /// `None` for the value of a neuron.
    target: Option<Score>,
    network: String,
    answers: BTreeMap<String, Answer>,
    /// Tensors that are not compared, and the reason.
    beside: BTreeMap<String, String>,
    f32_errors: BTreeMap<String, f64>,
    /// The source of the reference numbers.
    reference: String,
    /// Notes for readers.
    #[serde(rename = "notes")]
    _notes: serde::de::IgnoredAny,
}

/// The score of each sample's class.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Score {
    Classes,
    Probabilities,
}

/// What a tensor of the case is compared with: the attribution, unless `node`, `extra` or `read` selects something
/// else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Fields of the configuration that differ from those of the case.
    #[serde(default)]
    config: Value,
    /// Another layer or neuron than that of the case.
    at: Option<Location>,
    /// The name of a node whose value in a forward pass is compared.
    node: Option<String>,
    /// The name of a further tensor of the attribution.
    extra: Option<String>,
    /// Numbers in the provenance of the attribution or in the metric's evaluation: a JSON pointer, in which `*`
    /// stands for every element of an array.
    read: Option<String>,
    /// The largest allowed absolute difference in f64, instead of a relative error; in f32 nothing is compared.
    absolute: Option<f64>,
}

/// The computed result for some of the tensors.
enum Outcome {
    Attribution(Box<Attribution>),
    Evaluation(Value),
}

/// A case that is run with a network.
struct Runner<'a> {
    network: &'a Network,
    file: &'a golden::Case,
    case: &'a Case,
    /// Names of the tensors that were compared or given to a method or metric.
    used: BTreeSet<String>,
    /// The results, by configuration and by layer or neuron.
    outcomes: BTreeMap<String, Outcome>,
}

impl Runner<'_> {
    /// A tensor of the case, or of its network.
    fn tensor(&mut self, name: &str) -> Result<Tensor, Failure> {
        if let Some(found) = self.file.tensors.get(name) {
            self.used.insert(name.into());
            return Ok(found.clone());
        }
        self.network.data.get(name).cloned().ok_or_else(|| format!("no tensor '{name}' to be given").into())
    }

    /// A configuration in which `{"$tensor": NAME}` is replaced by the tensor's shape and values.
    fn filled(&mut self, config: &Value) -> Result<Value, Failure> {
        Ok(match config {
            Value::Object(fields) => {
                if let Some(name) = fields.get("$tensor") {
                    let tensor = self.tensor(name.as_str().ok_or("`$tensor` is not a name")?)?;
                    return Ok(json!({ "shape": tensor.dims(), "values": flat(&tensor)? }));
                }
                let filled = fields.iter().map(|(name, value)| Ok((name.clone(), self.filled(value)?)));
                Value::Object(filled.collect::<Result<_, Failure>>()?)
            }
            Value::Array(all) => {
                Value::Array(all.iter().map(|value| self.filled(value)).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn target(&self) -> Target {
        let classes = self.network.targets.clone();
        match self.case.target {
            Some(Score::Classes) => Target::Classes(classes),
            Some(Score::Probabilities) => Target::Probabilities(classes),
            // The value of a neuron is explained, whatever the target is.
            None => Target::Top1,
        }
    }

    fn run() -> Run {
        Run::new().batch(7)
    }

    fn explain(&self, explainer: &Boxed<Graph>, at: &Location) -> Result<Attribution, Failure> {
        let x = self.network.inputs()?;
        Ok(explain_at(&**explainer, &self.network.graph, &x, &self.target(), at, &Self::run())?)
    }

    fn evaluate(&mut self, id: &str, config: &Value, at: &Location) -> Result<Value, Failure> {
        let metric = catalogue::metric(id, config)?;
        let explainer = match &self.case.explainer {
            Some(spec) => Some(catalogue::explainer(&spec.method, &self.filled(&spec.config)?)?),
            None => None,
        };
        let given = match (&self.case.attribution, &explainer) {
            (Some(name), _) => {
                attribution(self.tensor(name)?, vec![String::new(); self.network.targets.len()])
            }
            (None, Some(explainer)) => self.explain(explainer, at)?,
            (None, None) => return Err("a metric without an attribution".into()),
        };
        let (x, target, run) = (self.network.inputs()?, self.target(), Self::run());
        let mut case = Evaluated::new(&self.network.graph, &x, &target, &given, &run);
        if let Some(explainer) = &explainer {
            case = case.explained_by(&**explainer);
        }
        let truth: Vec<Truth> = self.case.scenes.iter().flatten().cloned().map(Truth::from).collect();
        if self.case.scenes.is_some() {
            case = case.showing(&truth);
        }
        Ok(serde_json::to_value(metric.evaluate(&case)?)?)
    }

    /// The result that an answer is read from.
    fn outcome(&mut self, answer: &Answer) -> Result<&Outcome, Failure> {
        let at = answer.at.clone().unwrap_or_else(|| self.case.at.clone());
        let config = merged(&self.case.config, &answer.config)?;
        let key = json!([config, at]).to_string();
        if !self.outcomes.contains_key(&key) {
            let config = self.filled(&config)?;
            let outcome = match (&self.case.method, &self.case.metric) {
                (Some(id), None) => {
                    Outcome::Attribution(Box::new(self.explain(&catalogue::explainer(id, &config)?, &at)?))
                }
                (None, Some(id)) => Outcome::Evaluation(self.evaluate(id, &config, &at)?),
                _ => return Err("a case is about a method or a metric".into()),
            };
            self.outcomes.insert(key.clone(), outcome);
        }
        Ok(&self.outcomes[&key])
    }

    fn answer(&mut self, answer: &Answer) -> Result<Tensor, Failure> {
        match (&answer.node, &answer.extra, &answer.read) {
            (Some(name), None, None) => {
                let graph = &self.network.graph;
                let id = graph.find(name)?;
                Ok(graph.trace(&self.network.inputs()?, Keep::Nodes(&[id]))?.value(id)?.clone())
            }
            (None, Some(name), None) => match self.outcome(answer)? {
                Outcome::Attribution(found) => {
                    Ok(found.extras.get(name).ok_or_else(|| format!("no extra '{name}'"))?.clone())
                }
                Outcome::Evaluation(_) => Err("a metric has no extras".into()),
            },
            (None, None, Some(path)) => {
                let record = match self.outcome(answer)? {
                    Outcome::Attribution(found) => serde_json::to_value(&found.provenance)?,
                    Outcome::Evaluation(record) => record.clone(),
                };
                numbers(&record, path)
            }
            (None, None, None) => match self.outcome(answer)? {
                Outcome::Attribution(found) => Ok(found.values().clone()),
                Outcome::Evaluation(_) => Err("`read` is missing".into()),
            },
            _ => Err("more than one of `node`, `extra` and `read`".into()),
        }
    }

    /// Compares an answer; returns the error if it is a relative one.
    fn compare(&mut self, name: &str, answer: &Answer) -> Result<Option<f64>, Failure> {
        let expected = self.file.tensor(name)?;
        let own = self.answer(answer)?;
        self.used.insert(name.into());
        if own.dims() != expected.dims() {
            return Err(format!("has shape {:?} instead of {:?}", own.dims(), expected.dims()).into());
        }
        let (own, expected) = (flat(&own)?, flat(expected)?);
        let dtype = self.network.dtype;
        if let Some(bound) = answer.absolute {
            let gap = own.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let bad = own.iter().any(|v| v.is_nan()) || (dtype == DType::F64 && gap > bound);
            return if bad { Err(format!("is {own:?} instead of {expected:?}").into()) } else { Ok(None) };
        }
        let error = distance(&own, &expected);
        let allowed = allowed(dtype, self.case.f32_errors.get(name).copied().unwrap_or(0.0));
        if error.is_nan() || error > allowed {
            return Err(format!("is off by {error:.2e}, allowed {allowed:.1e}").into());
        }
        Ok(Some(error))
    }
}

/// A configuration with some fields replaced.
fn merged(config: &Value, differing: &Value) -> Result<Value, Failure> {
    Ok(match (config, differing) {
        (all, Value::Null) => all.clone(),
        (Value::Object(all), Value::Object(some)) => {
            Value::Object(all.iter().chain(some).map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        _ => return Err(format!("{config} and {differing} are not configurations").into()),
    })
}

/// The numbers at a path of a JSON value, in a tensor with the shape of the arrays that contain them.
fn numbers(record: &Value, path: &str) -> Result<Tensor, Failure> {
    fn walk(value: &Value, path: &[&str], depth: usize, found: &mut (Vec<usize>, Vec<f64>)) -> Option<()> {
        match (path, value) {
            ([], Value::Number(number)) => found.1.push(number.as_f64()?),
            ([] | ["*", ..], Value::Array(all)) => {
                if found.0.len() == depth {
                    found.0.push(all.len());
                }
                let rest = path.get(1..).unwrap_or_default();
                all.iter().try_for_each(|v| walk(v, rest, depth + 1, found))?;
            }
            ([at, rest @ ..], Value::Array(all)) => {
                walk(all.get(at.parse::<usize>().ok()?)?, rest, depth, found)?;
            }
            ([name, rest @ ..], value) => {
                walk(value.get(name)?, rest, depth, found)?;
            }
            _ => return None,
        }
        Some(())
    }
    let steps: Vec<&str> = path.strip_prefix('/').ok_or("a path begins with /")?.split('/').collect();
    let mut found = Default::default();
    walk(record, &steps, 0, &mut found).ok_or_else(|| format!("no numbers at {path}"))?;
    let (mut shape, values) = found;
    if shape.is_empty() {
        shape = vec![1];
    }
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Compares all cases of a network in f64 and f32. Reports all failures together, and fails if there are fewer than
/// `least` cases.
fn check(name: &str, least: usize) -> Result<(), Failure> {
    let networks = [Network::load(name, DType::F64)?, Network::load(name, DType::F32)?];
    let files = golden::Case::all(name)?;
    let (mut wrong, mut tensors, mut worst) = (Vec::new(), 0, [0.0_f64; 2]);
    for file in &files {
        let case: Case =
            serde_json::from_value(file.about.clone()).map_err(|e| format!("{}: {e}", file.name))?;
        if case.network != name || case.reference.is_empty() || case.answers.is_empty() {
            wrong.push(format!("{}: another network, no reference, or no answers", file.name));
        }
        for (network, worst) in networks.iter().zip(&mut worst) {
            let mut runner =
                Runner { network, file, case: &case, used: BTreeSet::new(), outcomes: BTreeMap::new() };
            for (tensor, answer) in &case.answers {
                tensors += 1;
                match runner.compare(tensor, answer) {
                    Ok(error) => *worst = worst.max(error.unwrap_or(0.0)),
                    Err(problem) => {
                        wrong.push(format!("{} in {:?}: {tensor} {problem}", file.name, network.dtype));
                    }
                }
            }
            let skipped: Vec<&String> = file
                .tensors
                .keys()
                .filter(|tensor| {
                    !runner.used.contains(*tensor)
                        && !case.answers.contains_key(*tensor)
                        && !case.beside.contains_key(*tensor)
                })
                .collect();
            if !skipped.is_empty() {
                wrong.push(format!("{}: {skipped:?} are neither compared nor used", file.name));
            }
        }
    }
    println!(
        "{name}: {} cases, {tensors} tensors, largest error {:.1e}, {:.1e} in f32",
        files.len(),
        worst[0],
        worst[1]
    );
    if files.len() < least {
        wrong.push(format!("only {} cases, there were {least}", files.len()));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{name}: {} problems:\n{}", wrong.len(), wrong.join("\n")).into())
}

/// The networks, with the number of cases that each has at least.
macro_rules! networks {
    ($($name:ident: $least:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() -> Result<(), Failure> {
                check(stringify!($name), $least)
            }
        )*

        #[test]
        fn no_network_is_left_out() -> Result<(), Failure> {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(folder(""))? {
                let path = entry?.path();
                if path.join("model.onnx").exists() {
                    found.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
                }
            }
            found.sort();
            let mut listed = vec![$(stringify!($name)),*];
            listed.sort_unstable();
            assert_eq!(found, listed);
            Ok(())
        }
    };
}

networks! {
    plain: 46,
    residual: 31,
    functional: 30,
    depthwise: 32,
    smooth: 21,
    mlp: 30,
}
