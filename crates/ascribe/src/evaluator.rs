//! Samples × targets × methods × metrics.
//!
//! The unit is a [`Row`]: the value of one metric for one method on one target of one sample. An interrupted run can
//! be continued from the rows it produced: [`Evaluator::run`] skips the samples whose rows are complete.

use std::collections::BTreeSet;
use std::mem::discriminant;

use ascribe_core::dataset::{Sample, like, stack};
use ascribe_core::{Boxed, Boxes, Dataset, Explainer, Graph, Inputs, Outputs, Run, Segments, Target, Truth};
use ascribe_metrics::{BoxedMetric, Case};
pub use ascribe_metrics::{Overall, Row};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::target;

/// Default number of samples that are evaluated together.
const BATCH: usize = 8;

/// The target to explain for each sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A target as [`target::parse`] reads it: `top1`, a class, …
    Words(String),
    /// The sample's label.
    Label,
}

/// An evaluation of methods by metrics on a model.
///
/// ```
/// use ascribe::core::dataset::InMemory;
/// use ascribe::core::{Device, GraphBuilder, Run, Tensor, ops::Linear};
/// use ascribe::evaluator::Evaluator;
/// use ascribe::models::preprocess::Preprocessing;
/// use ascribe::{Model, catalogue};
/// use serde_json::json;
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(2)]);
/// let w = b.constant("w", Tensor::new(&[[1_f32, 2.0], [0.0, 1.0]], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[x, w])?;
/// let (name, preprocessing) = ("linear".to_string(), Preprocessing::default());
/// let model = Model::new(name, b.finish(&[y])?, preprocessing);
/// let data = InMemory::labelled(&Tensor::new(&[[1_f32, 1.0], [2.0, -1.0]], &Device::Cpu)?, &[0, 1])?;
/// let methods = vec![catalogue::explainer("input-x-gradient", &json!({}))?];
/// let evaluator = Evaluator::new(&model, methods, vec![catalogue::metric("completeness", &json!({}))?]);
/// let rows = evaluator.rows(&data, &Run::new())?;
/// assert_eq!(rows.iter().map(|row| row.value).collect::<Vec<_>>(), [Some(0.0); 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Evaluator<'a> {
    /// The model.
    pub model: &'a Model,
    /// The methods; each identifier may occur only once.
    pub methods: Vec<Boxed<Graph>>,
    /// The metrics; each identifier may occur only once.
    pub metrics: Vec<BoxedMetric>,
    /// The target to explain. Metrics that need ground truth use the classes named by the truth instead, or the
    /// sample's label if the truth names no class and the sample has a label.
    pub target: Asked,
    /// Largest number of samples in memory. Samples whose inputs have the same shape are evaluated together; this
    /// does not change any result.
    pub batch: usize,
}

/// A sample with its name.
struct Named {
    name: String,
    sample: Sample,
}

impl<'a> Evaluator<'a> {
    /// Evaluates these methods and metrics on the class with the highest output, eight samples at a time.
    pub fn new(model: &'a Model, methods: Vec<Boxed<Graph>>, metrics: Vec<BoxedMetric>) -> Self {
        Self { model, methods, metrics, target: Asked::Words("top1".into()), batch: BATCH }
    }

    /// Whether any metric needs ground truth.
    pub fn asks_for_truth(&self) -> bool {
        self.metrics.iter().any(|metric| metric.card().asks.for_truth())
    }

    /// Evaluates the samples of a dataset in order. `known` are rows of an earlier run of the same evaluation;
    /// samples that occur in them are skipped. `watch` receives the names of the next samples, the number of the
    /// first one, and the number of samples. `take` receives the rows of each sample once they are complete. A metric
    /// that needs ground truth has no rows for samples without it.
    ///
    /// # Errors
    /// If an identifier occurs twice or the batch is 0; errors of the samples, methods and metrics; if the run is
    /// cancelled. The rows that `take` has received are complete.
    pub fn run(
        &self,
        data: &dyn Dataset,
        known: &[Row],
        run: &Run,
        mut watch: impl FnMut(&[String], usize, usize),
        mut take: impl FnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let done: BTreeSet<&str> = known.iter().map(|row| row.sample.as_str()).collect();
        let open: Vec<(usize, String)> = (0..data.len())
            .map(|number| (number, data.name(number)))
            .filter(|(_, name)| !done.contains(name.as_str()))
            .collect();
        for chunk in open.chunks(self.batch) {
            let names: Vec<String> = chunk.iter().map(|(_, name)| name.clone()).collect();
            watch(&names, chunk[0].0, data.len());
            let mut samples = Vec::with_capacity(chunk.len());
            let mut failed = None;
            for (number, name) in chunk {
                match data.sample(*number) {
                    Ok(sample) => samples.push(Named { name: name.clone(), sample }),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            // When a sample cannot be read, the results of the samples before it are not lost.
            self.together(&samples, run)?.into_iter().try_for_each(&mut take)?;
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// All rows of a dataset.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn rows(&self, data: &dyn Dataset, run: &Run) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.run(
            data,
            &[],
            run,
            |_, _, _| (),
            |of_sample| {
                rows.extend(of_sample);
                Ok(())
            },
        )?;
        Ok(rows)
    }

    /// The summary of every metric for every method, ordered by method.
    pub fn summaries(&self, rows: &[Row], seed: u64) -> Vec<Overall> {
        let of = |method: &Boxed<Graph>| {
            let id = method.id();
            self.metrics.iter().map(move |metric| Overall::of(id, &**metric, rows, seed))
        };
        self.methods.iter().flat_map(of).collect()
    }

    fn check(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::request("evaluation", "a batch of 0 samples", "at least 1"));
        }
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

    /// The rows of each of these samples.
    fn together(&self, samples: &[Named], run: &Run) -> Result<Vec<Vec<Row>>> {
        let inputs: Vec<Inputs> = samples.iter().map(|named| named.sample.inputs.clone()).collect();
        let mut rows = vec![Vec::new(); samples.len()];
        for group in like(&inputs) {
            let x = stack(group.iter().map(|&place| &inputs[place]))?;
            let graph = self.model.graph_for(&x)?;
            let outputs = run.install(|| graph.forward(&x))?;
            let samples = group.iter().map(|&place| &samples[place]).collect();
            let batch = Batch { evaluator: self, graph, samples, x, outputs, run };
            for (place, found) in group.into_iter().zip(batch.rows()?) {
                rows[place] = found;
            }
        }
        Ok(rows)
    }
}

/// Samples whose inputs have the same shape.
struct Batch<'a> {
    evaluator: &'a Evaluator<'a>,
    graph: Graph,
    samples: Vec<&'a Named>,
    x: Inputs,
    outputs: Outputs,
    run: &'a Run,
}

/// One requested explanation: a target, resolved for this sample alone.
struct Job {
    /// Position of the sample in the batch.
    place: usize,
    target: Target,
}

impl Batch<'_> {
    /// The rows of each sample.
    fn rows(&self) -> Result<Vec<Vec<Row>>> {
        let metrics = &self.evaluator.metrics;
        let (known, free): (Vec<_>, Vec<_>) = metrics.iter().partition(|m| m.card().asks.for_truth());
        let mut rows = vec![Vec::new(); self.samples.len()];
        for method in &self.evaluator.methods {
            for (metrics, truth) in [(&free, false), (&known, true)] {
                if metrics.is_empty() {
                    continue;
                }
                let mut jobs = Vec::new();
                for place in 0..self.samples.len() {
                    let targets =
                        if truth { self.annotated(place, method)? } else { self.asked(place, method)? };
                    jobs.extend(targets.into_iter().map(|target| Job { place, target }));
                }
                for (job, found) in jobs.iter().zip(self.evaluate(method, metrics, &jobs, truth)?) {
                    rows[job.place].extend(found);
                }
            }
        }
        Ok(rows)
    }

    /// The requested targets.
    fn asked(&self, place: usize, method: &Boxed<Graph>) -> Result<Vec<Target>> {
        let Named { name, sample } = self.samples[place];
        let outputs = self.outputs.sample(place)?;
        let targets = match (&self.evaluator.target, sample.label) {
            (Asked::Words(words), _) => target::parse(words, method.score(), self.evaluator.model, &outputs)?,
            (Asked::Label, Some(label)) => vec![method.score().of(Target::Class(label), outputs.kind())],
            (Asked::Label, None) => {
                let problem = format!("sample {name} has no label");
                return Err(Error::request("evaluation", problem, "a label, or another target"));
            }
        };
        targets.into_iter().map(|target| Ok(target.resolve(&outputs)?)).collect()
    }

    /// The targets that the ground truth refers to; none if there is no ground truth for the sample.
    fn annotated(&self, place: usize, method: &Boxed<Graph>) -> Result<Vec<Target>> {
        let sample = &self.samples[place].sample;
        let Some(truth) = &sample.truth else { return Ok(Vec::new()) };
        let classes = match (truth.classes(), sample.label) {
            (classes, Some(label)) if classes.is_empty() && truth.boxes().is_none() => vec![label],
            (classes, None) if classes.is_empty() && truth.boxes().is_none() => {
                return self.asked(place, method);
            }
            (classes, _) => classes,
        };
        let kind = self.outputs.kind();
        Ok(classes.into_iter().map(|class| method.score().of(Target::Class(class), kind)).collect())
    }

    /// The rows of each job.
    fn evaluate(
        &self,
        method: &Boxed<Graph>,
        metrics: &[&BoxedMetric],
        jobs: &[Job],
        truth: bool,
    ) -> Result<Vec<Vec<Row>>> {
        let (model, run) = (self.evaluator.model, self.run);
        let mut rows = vec![Vec::new(); jobs.len()];
        for numbers in alike(jobs).iter().flat_map(|numbers| numbers.chunks(self.evaluator.batch)) {
            let places: Vec<usize> = numbers.iter().map(|&number| jobs[number].place).collect();
            let x = self.x.select(&places)?;
            let target = joined(&numbers.iter().map(|&number| &jobs[number].target).collect::<Vec<_>>())?;
            let attribution = method.explain(&self.graph, &x, &target, run)?;
            let known =
                places.iter().map(|&place| self.samples[place].sample.truth.clone().unwrap_or_default());
            let known: Vec<Truth> = known.collect();
            let mut case = Case::new(&self.graph, &x, &target, &attribution, run).explained_by(&**method);
            if truth {
                case = case.showing(&known);
            }
            for metric in metrics {
                let found = run.install(|| metric.evaluate(&case))?;
                for (row, (&number, &place)) in numbers.iter().zip(&places).enumerate() {
                    let target = &jobs[number].target;
                    rows[number].push(Row {
                        sample: self.samples[place].name.clone(),
                        target: target::words(target, 0, model),
                        class: target.class(0),
                        method: method.id().to_string(),
                        metric: metric.id().to_string(),
                        value: found.values.get(row).copied().flatten(),
                        detail: found.details.get(row).cloned().unwrap_or(Value::Null),
                        notes: found.notes.get(row).cloned().unwrap_or_default(),
                    });
                }
            }
        }
        Ok(rows)
    }
}

/// The property that targets must share to be combined into one target of a batch.
enum Kind<'a> {
    Class,
    Probability,
    Segment,
    Box(&'a Boxes),
    Same(String),
}

impl PartialEq for Kind<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Box(a), Self::Box(b)) => a.is_like(b),
            (Self::Same(a), Self::Same(b)) => a == b,
            _ => discriminant(self) == discriminant(other),
        }
    }
}

fn kind(target: &Target) -> Kind<'_> {
    match target {
        Target::Class(_) | Target::Classes(_) => Kind::Class,
        Target::Probability(_) | Target::Probabilities(_) => Kind::Probability,
        Target::Segments(_) => Kind::Segment,
        Target::Boxes(boxes) => Kind::Box(boxes),
        other => Kind::Same(other.describe()),
    }
}

/// Indices of the jobs whose targets can be combined, group by group.
fn alike(jobs: &[Job]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Kind<'_>, Vec<usize>)> = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let kind = kind(&job.target);
        match groups.iter_mut().find(|group| group.0 == kind) {
            Some(group) => group.1.push(number),
            None => groups.push((kind, vec![number])),
        }
    }
    groups.into_iter().map(|group| group.1).collect()
}

/// Combines the targets of the samples of a batch, which must be alike, into one.
fn joined(targets: &[&Target]) -> Result<Target> {
    let Some(first) = targets.first() else { return Ok(Target::Top1) };
    let classes = || targets.iter().map(|target| target.class(0)).collect::<Option<Vec<usize>>>();
    let segments = targets.iter().filter_map(|target| match target {
        Target::Segments(segments) => Some(segments),
        _ => None,
    });
    let boxes = targets.iter().filter_map(|target| match target {
        Target::Boxes(boxes) => Some(boxes),
        _ => None,
    });
    Ok(match (kind(first), classes()) {
        (Kind::Segment, _) => Target::Segments(Segments::joined(&segments.collect::<Vec<_>>())?),
        (Kind::Box(_), _) => Target::Boxes(Boxes::joined(&boxes.collect::<Vec<_>>())?),
        (Kind::Class, Some(classes)) => Target::Classes(classes),
        (Kind::Probability, Some(classes)) => Target::Probabilities(classes),
        _ => (*first).clone(),
    })
}
