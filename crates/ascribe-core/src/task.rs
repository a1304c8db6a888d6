//! The context of one call of a method.

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::NodeId;
use crate::attribution::Cost;
use crate::error::{Error, Result};
use crate::gradient_sum::GradientSum;
use crate::graph::Graph;
use crate::graph::fixed_batch::joined_outputs;
use crate::inputs::{Inputs, check_finite};
use crate::line::Line;
use crate::model::{Differentiable, Gradient, Predictor};
use crate::outputs::Outputs;
use crate::rule::Composite;
use crate::run::Run;
use crate::target::{Target, to_f64};
use crate::variations::Variations;
use crate::walk::{Propagated, Walk, Walked};

/// One call of a method or a metric: the resolved target, and a model whose evaluations are counted.
#[derive(Debug)]
pub struct Task<'a, M: ?Sized> {
    /// The model.
    pub model: &'a M,
    /// The inputs.
    pub x: &'a Inputs,
    /// The target, with `top1` resolved to classes.
    pub target: Target,
    /// How to run.
    pub run: &'a Run,
    cost: Mutex<Cost>,
}

/// Results for each sample of a batch.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Score of each sample.
    pub scores: Vec<f64>,
    /// One tensor per explained input, or per other requested value.
    pub values: Vec<Tensor>,
}

impl<'a, M: ?Sized> Task<'a, M> {
    /// A task for a method or a metric; `target` must be resolved ([`Target::resolve`]).
    pub fn new(model: &'a M, x: &'a Inputs, target: Target, run: &'a Run) -> Self {
        Self { model, x, target, run, cost: Mutex::default() }
    }

    /// Adds the cost of rows that were evaluated without this task.
    pub fn count(&self, cost: Cost) {
        let mut sum = self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = *sum + cost;
    }

    /// The number of rows evaluated so far.
    pub fn cost(&self) -> Cost {
        *self.cost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The positions of all samples.
    ///
    /// # Errors
    /// Never for inputs made through [`Inputs`].
    pub fn samples(&self) -> Result<Vec<usize>> {
        Ok((0..self.x.batch()?).collect())
    }

    /// The only explained input, with the sides of its positions: height and width of images `[N, C, H, W]`, the length of
    /// series `[N, C, T]`, three sides of volumes `[N, C, D, H, W]`, the columns of tables `[N, F]`.
    ///
    /// # Errors
    /// If there are several explained inputs, or the shape is none of these.
    pub fn positions(&self) -> Result<(&'a Tensor, Vec<usize>)> {
        let mut explained = self.x.explained();
        let (Some(one), None) = (explained.next(), explained.next()) else {
            let problem = format!("{} are explained", self.x.explained().count());
            return Err(Error::invalid("inputs", problem, "one, with positions"));
        };
        match one.value.dims() {
            [_, columns] => Ok((&one.value, vec![*columns])),
            [_, _, sides @ ..] if (1..=3).contains(&sides.len()) => Ok((&one.value, sides.to_vec())),
            other => {
                let expected = "[N, F], [N, C, T], [N, C, H, W] or [N, C, D, H, W]";
                Err(Error::invalid("input", format!("has shape {other:?}"), expected))
            }
        }
    }

    /// Calls `part` on batches of samples, as large as the run's batch budget allows, and concatenates the results
    /// along the first axis.
    ///
    /// # Errors
    /// Errors of `part`; if a score is not finite, or the run is cancelled.
    pub fn by_samples(&self, mut part: impl FnMut(&Inputs, &[usize]) -> Result<Gradient>) -> Result<Samples> {
        let samples = self.samples()?;
        let mut scores = Vec::with_capacity(samples.len());
        let mut columns: Vec<Vec<Tensor>> = Vec::new();
        for chunk in samples.chunks(self.run.get_batch()) {
            self.run.step(scores.len(), samples.len())?;
            let found = part(&self.x.select(chunk)?, chunk)?;
            check_finite("score", &found.scores)?;
            scores.extend(to_f64(&found.scores)?);
            columns.resize(found.values.len(), Vec::new());
            columns.iter_mut().zip(found.values).for_each(|(column, value)| column.push(value));
        }
        self.run.step(scores.len(), samples.len())?;
        let values: Result<Vec<Tensor>> = columns
            .into_iter()
            .map(|column| match column.as_slice() {
                [one] => Ok(one.clone()),
                all => Ok(Tensor::cat(all, 0)?),
            })
            .collect();
        Ok(Samples { scores, values: values? })
    }

    /// Adds gradients at inputs to a sum and counts the cost; `samples` as in [`Differentiable::gradient`].
    ///
    /// # Errors
    /// Errors of the model and the target, or if a score is not finite.
    pub fn add_to_sum(&self, sum: &mut dyn GradientSum, x: &Inputs, samples: &[usize]) -> Result<()> {
        self.count(Cost { forward: samples.len(), backward: samples.len() });
        finite_scores(&to_f64(&sum.add(x, &self.target, samples)?)?)
    }
}

impl<M: Predictor + ?Sized> Task<'_, M> {
    /// The model's outputs.
    ///
    /// # Errors
    /// Errors of the model.
    pub fn predict(&self, x: &Inputs) -> Result<Outputs> {
        self.count(Cost { forward: x.batch()?, backward: 0 });
        self.model.predict(x)
    }

    /// The model's outputs for the samples, evaluated in batches as large as the run's budget allows.
    ///
    /// # Errors
    /// Errors of the model.
    pub fn outputs(&self) -> Result<Outputs> {
        let samples: Vec<usize> = (0..self.x.batch()?).collect();
        let part =
            |chunk: &[usize]| Ok((chunk[0]..chunk[0] + chunk.len(), self.predict(&self.x.select(chunk)?)?));
        let parts = samples.chunks(self.run.get_batch()).map(part).collect::<Result<Vec<_>>>()?;
        match parts.as_slice() {
            [(_, whole)] => Ok(whole.clone()),
            several => joined_outputs(several),
        }
    }

    /// The target's score of each row; `samples` as in [`Target::score`]. Evaluates at most as many rows at a time as
    /// the run's batch budget allows.
    ///
    /// # Errors
    /// Errors of the model and the target, or if a score is not finite.
    pub fn score(&self, x: &Inputs, samples: &[usize]) -> Result<Vec<f64>> {
        let rows: Vec<usize> = (0..x.batch()?).collect();
        if rows.len() != samples.len() {
            let problem = format!("are {} for {} rows", samples.len(), rows.len());
            return Err(Error::invalid("samples", problem, "one for each row"));
        }
        let mut scores = Vec::with_capacity(samples.len());
        for chunk in rows.chunks(self.run.get_batch()) {
            let of = &samples[chunk[0]..chunk[0] + chunk.len()];
            let outputs = self.predict(&x.select(chunk)?)?;
            scores.extend(to_f64(&self.target.score(&outputs, of)?)?);
        }
        finite_scores(&scores)?;
        Ok(scores)
    }

    /// The target's score of each variation; `x` and `rectangles` as in [`Variations::predict`], `samples` as in
    /// [`Target::score`]. Evaluates all rows in one batch, and counts each as one evaluation.
    ///
    /// # Errors
    /// Errors of the model and the target, or if a score is not finite.
    pub fn score_variations(
        &self,
        variations: &dyn Variations,
        x: &Inputs,
        rectangles: &[usize],
        samples: &[usize],
    ) -> Result<Vec<f64>> {
        self.count(Cost { forward: x.batch()?, backward: 0 });
        let outputs = variations.predict(x, rectangles)?;
        let scores = to_f64(&self.target.score(&outputs, samples)?)?;
        finite_scores(&scores)?;
        Ok(scores)
    }
}

impl<M: Differentiable + ?Sized> Task<'_, M> {
    /// Score and gradient of each sample.
    ///
    /// # Errors
    /// Errors of the model and the target; if a score is not finite, or the run is cancelled.
    pub fn gradients(&self) -> Result<Samples> {
        self.by_samples(|x, samples| self.gradient(x, samples))
    }

    /// Score and gradient of each row. Evaluates all rows in one batch; see [`crate::sweep`] for more rows than the
    /// batch budget allows.
    ///
    /// # Errors
    /// Errors of the model and the target, or if a score is not finite.
    pub fn gradient(&self, x: &Inputs, samples: &[usize]) -> Result<Gradient> {
        let rows = samples.len();
        self.count(Cost { forward: rows, backward: rows });
        let gradient = self.model.gradient(x, &self.target, samples)?;
        finite_scores(&to_f64(&gradient.scores)?)?;
        Ok(gradient)
    }

    /// Adds gradients at nodes of a line to its sum, in one batch; the arguments are those of [`Line::add`].
    ///
    /// # Errors
    /// As [`Task::gradient`].
    pub fn add_to_line(&self, line: &mut dyn Line, nodes: &[(f64, f64)], sample: usize) -> Result<()> {
        self.count(Cost { forward: nodes.len(), backward: nodes.len() });
        finite_scores(&to_f64(&line.add(nodes, &self.target, sample)?)?)
    }
}

impl Task<'_, Graph> {
    /// One walk of a composite over the canonical graph for every sample: the whole computation of most rule-based
    /// methods.
    ///
    /// # Errors
    /// As [`Graph::propagate`]; if a score is not finite, or the run is cancelled.
    pub fn propagate(&self, composite: &Composite) -> Result<Samples> {
        self.propagate_over(&self.model.canonical()?, composite)
    }

    /// [`Task::propagate`] over a graph that computes the same function as the model, such as its canonical form.
    ///
    /// # Errors
    /// As [`Task::propagate`].
    pub fn propagate_over(&self, graph: &Graph, composite: &Composite) -> Result<Samples> {
        self.by_samples(|x, samples| {
            self.count(Cost { forward: samples.len(), backward: samples.len() });
            graph.propagate(x, &self.target, samples, composite)
        })
    }

    /// [`Graph::propagate_to`] on the model's graph for some samples; counts the cost.
    ///
    /// # Errors
    /// As [`Graph::propagate_to`].
    pub fn propagate_to(
        &self,
        x: &Inputs,
        samples: &[usize],
        composite: &Composite,
        keep: &[NodeId],
        wanted: &[NodeId],
    ) -> Result<Propagated> {
        let backward = if wanted.is_empty() { 0 } else { samples.len() };
        self.count(Cost { forward: samples.len(), backward });
        self.model.propagate_to(x, &self.target, samples, composite, keep, wanted)
    }

    /// [`Walk::run`] on a graph that computes the same function as the model; counts the cost.
    ///
    /// # Errors
    /// As [`Walk::run`].
    pub fn walk<T>(
        &self,
        walk: &Walk<'_>,
        x: &Inputs,
        start: impl FnOnce(&Outputs) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<(T, Walked)> {
        let rows = x.batch()?;
        let runs = 1 + usize::from(walk.reference().is_some());
        self.count(Cost { forward: runs * rows, backward: rows });
        walk.run(x, start)
    }
}

/// Checks that all scores are finite.
fn finite_scores(scores: &[f64]) -> Result<()> {
    match scores.iter().position(|s| !s.is_finite()) {
        Some(row) => Err(Error::invalid(
            "score",
            format!("is {} in row {row}", scores[row]),
            "a finite score: the model's weights or its arithmetic may overflow",
        )),
        None => Ok(()),
    }
}
