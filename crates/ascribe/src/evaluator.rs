//! Evaluates methods by metrics on many pictures and targets.
//!
//! The result of each metric for each method, target and picture is a [`Row`]. An interrupted evaluation can be continued with the
//! rows that it has produced: [`Evaluator::run`] skips pictures for which all rows are known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ascribe_core::{Boxed, Explainer, Graph, Inputs, Run, Target};
use ascribe_metrics::localisation::Scene;
use ascribe_metrics::{BoxedMetric, Case, Sample, Summary};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::annotations::Annotations;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::target;

/// The value of a metric for a method, a target and a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The picture.
    pub picture: PathBuf,
    /// What was explained, in words.
    pub target: String,
    /// The class that was explained, if the target is one.
    pub class: Option<usize>,
    /// Identifier of the method.
    pub method: String,
    /// Identifier of the metric.
    pub metric: String,
    /// The value; `None` where the metric is not defined.
    pub value: Option<f64>,
    /// More numbers.
    pub detail: Value,
    /// Notes.
    pub notes: Vec<String>,
}

/// A metric of a method over all rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// Identifier of the method.
    pub method: String,
    /// Identifier of the metric.
    pub metric: String,
    /// Which way is better.
    pub better: ascribe_metrics::Better,
    /// The metric's own summary: the mean, for the pointing game the mean over classes, with a confidence interval.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What is evaluated.
#[derive(Debug)]
pub struct Evaluator<'a> {
    /// The model.
    pub model: &'a Model,
    /// The methods; an identifier may occur once.
    pub methods: Vec<Boxed<Graph>>,
    /// The metrics; an identifier may occur once.
    pub metrics: Vec<BoxedMetric>,
    /// What is explained, as text for [`target::parse`]. Metrics that need the truth explain the annotated classes instead.
    pub target: String,
    /// What the pictures show.
    pub annotations: Annotations,
}

impl Evaluator<'_> {
    /// Whether a metric needs annotations.
    pub fn asks_for_truth(&self) -> bool {
        self.metrics.iter().any(|metric| metric.card().asks.truth)
    }

    /// Evaluates pictures, one after the other, in their order. `known` are rows of an earlier run of the same evaluation:
    /// pictures that occur in them are skipped. `watch` is called before each picture, with its number and the number of all
    /// pictures; `take` gets the rows of each picture as soon as they are complete.
    ///
    /// # Errors
    /// If a method or metric occurs twice, a picture, method or metric fails, or the run is cancelled. The rows that `take`
    /// has received are complete.
    pub fn run(
        &self,
        pictures: &[PathBuf],
        known: &[Row],
        run: &Run,
        mut watch: impl FnMut(&Path, usize, usize),
        mut take: impl FnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let done: BTreeSet<&Path> = known.iter().map(|row| row.picture.as_path()).collect();
        for (number, picture) in pictures.iter().enumerate() {
            if !done.contains(picture.as_path()) {
                watch(picture, number, pictures.len());
                take(self.picture(picture, run)?)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let ids = self.methods.iter().map(|m| m.id()).chain(self.metrics.iter().map(|m| m.id()));
        let mut seen = BTreeSet::new();
        match ids.into_iter().find(|id| !seen.insert(*id)) {
            Some(id) => Err(Error::request(
                "evaluation",
                format!("'{id}' occurs twice"),
                "each method and metric once",
            )),
            None => Ok(()),
        }
    }

    /// The rows of one picture.
    ///
    /// # Errors
    /// If the picture, a method or a metric fails, or the run is cancelled.
    pub fn picture(&self, picture: &Path, run: &Run) -> Result<Vec<Row>> {
        let loaded = self.model.read(picture)?;
        let outputs = run.install(|| self.model.graph.forward(&loaded.inputs))?;
        let scene = loaded.picture.as_ref().and_then(|p| self.annotations.scene(picture, &p.geometry));
        let mut rows = Vec::new();
        for method in &self.methods {
            let of =
                |truth: bool| self.metrics.iter().filter(move |metric| metric.card().asks.truth == truth);
            let asked = target::parse(&self.target, method.score(), self.model, &outputs)?;
            for target in asked {
                let target = target.resolve(&outputs)?;
                rows.extend(self.target(picture, &loaded.inputs, &target, method, of(false), None, run)?);
            }
            let Some(scene) = &scene else { continue };
            for class in self.annotations.classes(picture) {
                let target = method.score().of(Target::Class(class));
                rows.extend(self.target(
                    picture,
                    &loaded.inputs,
                    &target,
                    method,
                    of(true),
                    Some(scene),
                    run,
                )?);
            }
        }
        Ok(rows)
    }

    #[expect(clippy::too_many_arguments, reason = "one evaluation is about all of these")]
    fn target<'m>(
        &self,
        picture: &Path,
        x: &Inputs,
        target: &Target,
        method: &Boxed<Graph>,
        metrics: impl Iterator<Item = &'m BoxedMetric>,
        scene: Option<&Scene>,
        run: &Run,
    ) -> Result<Vec<Row>> {
        let mut metrics = metrics.peekable();
        if metrics.peek().is_none() {
            return Ok(Vec::new());
        }
        let graph = &self.model.graph;
        let attribution = method.explain(graph, x, target, run)?;
        let scenes: Vec<Scene> = scene.into_iter().cloned().collect();
        let mut case = Case::new(graph, x, target, &attribution, run).explained_by(&**method);
        if scene.is_some() {
            case = case.showing(&scenes);
        }
        let row = |metric: &BoxedMetric| {
            let found = run.install(|| metric.evaluate(&case))?;
            Ok(Row {
                picture: picture.to_path_buf(),
                target: target::words(target, 0, self.model),
                class: target.class(0),
                method: method.id().to_string(),
                metric: metric.id().to_string(),
                value: found.values.first().copied().flatten(),
                detail: found.details.into_iter().next().unwrap_or(Value::Null),
                notes: found.notes,
            })
        };
        metrics.map(row).collect()
    }

    /// The summary of every method by every metric, method by method.
    pub fn summaries(&self, rows: &[Row], seed: u64) -> Vec<Overall> {
        let pairs =
            self.methods.iter().flat_map(|method| self.metrics.iter().map(move |metric| (method, metric)));
        pairs
            .map(|(method, metric)| {
                let samples: Vec<Sample> = rows
                    .iter()
                    .filter(|row| row.method == method.id() && row.metric == metric.id())
                    .map(|row| Sample { value: row.value, class: row.class })
                    .collect();
                Overall {
                    method: method.id().into(),
                    metric: metric.id().into(),
                    better: metric.card().better,
                    summary: metric.summarise(&samples, seed),
                }
            })
            .collect()
    }
}
