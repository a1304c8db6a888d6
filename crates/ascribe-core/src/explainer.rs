//! What every method has in common.

use std::cell::Cell;
use std::fmt::Debug;
use std::time::Instant;

use candle_core::Tensor;

use crate::attribution::{Attribution, Cost, Provenance, Values, totals};
use crate::error::{Error, Result};
use crate::gradient_sum::GradientSum;
use crate::inputs::{Inputs, check_finite};
use crate::line::Line;
use crate::model::{Differentiable, Gradient, Predictor};
use crate::run::Run;
use crate::target::{Target, to_f64};
use crate::variations::Variations;

/// A configured method, whatever it explains.
pub trait Method: Debug + Send + Sync {
    /// The identifier that the catalogue, the command line and configuration files use.
    fn id(&self) -> &'static str;

    /// The full configuration.
    fn config(&self) -> serde_json::Value;

    /// How many rows an explanation of these inputs will push through the model.
    fn cost(&self, x: &Inputs) -> Cost;

    /// Checks the configuration.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A method that can explain models of type `M`.
///
/// The bound on `M` in each implementation says what the method needs: [`Predictor`] (a black box),
/// [`Differentiable`] (gradients) or [`crate::Graph`] (a white box). Asking a white-box method about a closure
/// does not compile.
pub trait Explainer<M: ?Sized>: Method {
    /// Explains the target's score of each sample.
    ///
    /// # Errors
    /// If the configuration, the inputs or the target do not fit the model, or a value is not finite.
    fn explain(&self, model: &M, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution>;

    /// A cheaper way to sum this method's attributions of inputs like `x`, where they are gradients and the model has
    /// one: see [`Differentiable::gradient_sum`].
    ///
    /// # Errors
    /// Those of the model.
    fn gradient_sum<'a>(&self, model: &'a M, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        let _ = (model, x);
        Ok(None)
    }
}

impl<T: Method + ?Sized> Method for Box<T> {
    fn id(&self) -> &'static str {
        (**self).id()
    }

    fn config(&self) -> serde_json::Value {
        (**self).config()
    }

    fn cost(&self, x: &Inputs) -> Cost {
        (**self).cost(x)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }
}

impl<M: ?Sized, T: Explainer<M> + ?Sized> Explainer<M> for Box<T> {
    fn explain(&self, model: &M, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution> {
        (**self).explain(model, x, target, run)
    }

    fn gradient_sum<'a>(&self, model: &'a M, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        (**self).gradient_sum(model, x)
    }
}

/// What a method found; [`explain`] turns it into an [`Attribution`].
#[derive(Debug, Default)]
pub struct Found {
    /// One tensor per explained input.
    pub values: Vec<Tensor>,
    /// Standard errors, where estimated.
    pub spread: Option<Vec<Tensor>>,
    /// Scores of the samples, if the method has computed them.
    pub scores: Option<Vec<f64>>,
    /// Scores of the baselines. If given, the attribution is to sum to score minus baseline score.
    pub baseline_scores: Option<Vec<f64>>,
    /// What each sample's attribution is to sum to, if that is not score minus baseline score.
    pub expected_totals: Option<Vec<f64>>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// One call of a method: the resolved target, and a model that counts its evaluations.
#[derive(Debug)]
pub struct Task<'a, M: ?Sized> {
    /// The model.
    pub model: &'a M,
    /// The inputs.
    pub x: &'a Inputs,
    /// The target, with `top1` replaced by classes.
    pub target: Target,
    /// How to run.
    pub run: &'a Run,
    cost: Cell<Cost>,
}

/// Most rows that a call may evaluate. Its bookkeeping takes some bytes per row: a slip of the keyboard should be an
/// error, not the end of all memory.
const MAX_ROWS: usize = 100_000_000;

/// Runs a method: checks configuration and inputs, resolves the target, measures, and checks the result.
///
/// # Errors
/// Those of the method; a value that is not finite; a cost of more than 10⁸ rows.
pub fn explain<M: Predictor + ?Sized>(
    method: &dyn Method,
    model: &M,
    x: &Inputs,
    target: &Target,
    run: &Run,
    body: impl FnOnce(&Task<'_, M>) -> Result<Found> + Send,
) -> Result<Attribution> {
    let started = Instant::now();
    method.check()?;
    x.check_finite()?;
    let cost = method.cost(x);
    if cost.forward.max(cost.backward) > MAX_ROWS {
        return Err(Error::invalid(
            method.id(),
            format!("would evaluate {} rows", cost.forward.max(cost.backward)),
            format!("at most {MAX_ROWS}: fewer steps, samples, masks or windows"),
        ));
    }
    run.install(|| {
        let run = &run.or_batch(|| model.preferred_batch(x));
        let mut task = Task { model, x, target: target.clone(), run, cost: Cell::default() };
        if matches!(target, Target::Top1) {
            task.target = target.resolve(&task.predict(x)?)?;
        }
        let found = body(&task)?;
        let batch = x.batch()?;
        let scores = match found.scores {
            Some(scores) => scores,
            None => task.score(x, &(0..batch).collect::<Vec<_>>())?,
        };
        let mut notes = found.notes;
        let expected = found.expected_totals.or_else(|| {
            found.baseline_scores.as_ref().map(|b| scores.iter().zip(b).map(|(s, b)| s - b).collect())
        });
        let gap = match expected {
            Some(expected) => {
                let totals = totals(found.values.iter())?;
                Some(totals.iter().zip(expected).map(|(t, e)| t - e).collect())
            }
            None => None,
        };
        let mut spread = found.spread.map(Vec::into_iter);
        let parts: Result<Vec<Values>> = found
            .values
            .into_iter()
            .zip(x.explained())
            .map(|(values, input)| {
                check_finite(&format!("attribution by {}", method.id()), &values)?;
                let spread = spread.as_mut().and_then(Iterator::next);
                Ok(Values { name: input.name.clone(), values, spread })
            })
            .collect();
        let parts = parts?;
        if parts.is_empty() {
            return Err(Error::invalid("inputs", "none is explained", "at least one floating-point input"));
        }
        let provenance = Provenance {
            method: method.id().into(),
            config: method.config(),
            targets: (0..batch).map(|s| task.target.describe_sample(s)).collect(),
            scores,
            baseline_scores: found.baseline_scores,
            completeness_gap: gap,
            cost: task.cost.get(),
            seconds: started.elapsed().as_secs_f64(),
            seed: run.get_seed(),
            notes: Vec::new(),
        };
        let mut attribution = Attribution { parts, provenance };
        notes.extend(attribution.findings()?);
        attribution.provenance.notes = notes;
        Ok(attribution)
    })
}

impl<M: ?Sized> Task<'_, M> {
    /// Adds rows evaluated by means that the task does not see (walks of a white-box method).
    pub fn count(&self, cost: Cost) {
        self.cost.set(self.cost.get() + cost);
    }

    /// Rows evaluated so far.
    pub fn cost(&self) -> Cost {
        self.cost.get()
    }

    /// Positions of all samples.
    ///
    /// # Errors
    /// Never for inputs made through [`Inputs`].
    pub fn samples(&self) -> Result<Vec<usize>> {
        Ok((0..self.x.batch()?).collect())
    }

    /// Adds gradients at inputs to a sum, and counts them; `samples` as in [`Differentiable::gradient`].
    ///
    /// # Errors
    /// Those of the model and the target, or if a score is not finite.
    pub fn add_to_sum(&self, sum: &mut dyn GradientSum, x: &Inputs, samples: &[usize]) -> Result<()> {
        self.count(Cost { forward: samples.len(), backward: samples.len() });
        finite_scores(&to_f64(&sum.add(x, &self.target, samples)?)?)
    }
}

impl<M: Predictor + ?Sized> Task<'_, M> {
    /// The model's outputs.
    ///
    /// # Errors
    /// Those of the model.
    pub fn predict(&self, x: &Inputs) -> Result<crate::Outputs> {
        self.count(Cost { forward: x.batch()?, backward: 0 });
        self.model.predict(x)
    }

    /// The target's score of each row; `samples` as in [`Target::score`]. Evaluates at most the run's batch
    /// budget of rows at a time.
    ///
    /// # Errors
    /// Those of the model and the target, or if a score is not finite.
    pub fn score(&self, x: &Inputs, samples: &[usize]) -> Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(samples.len());
        let rows: Vec<usize> = (0..x.batch()?).collect();
        for chunk in rows.chunks(self.run.get_batch()) {
            let of = &samples[chunk[0]..chunk[0] + chunk.len()];
            let outputs = self.predict(&x.select(chunk)?)?;
            scores.extend(to_f64(&self.target.score(&outputs, of)?)?);
        }
        finite_scores(&scores)?;
        Ok(scores)
    }

    /// The target's score of each variation; `x` and `rectangles` as in [`Variations::predict`], `samples` as in
    /// [`Target::score`]. Evaluates all rows at once, and counts each as one.
    ///
    /// # Errors
    /// Those of the model and the target, or if a score is not finite.
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
    /// Score and gradient of each row. Evaluates all rows at once: see [`crate::sweep`] for more than fit.
    ///
    /// # Errors
    /// Those of the model and the target, or if a score is not finite.
    pub fn gradient(&self, x: &Inputs, samples: &[usize]) -> Result<Gradient> {
        let rows = samples.len();
        self.count(Cost { forward: rows, backward: rows });
        let gradient = self.model.gradient(x, &self.target, samples)?;
        finite_scores(&to_f64(&gradient.scores)?)?;
        Ok(gradient)
    }

    /// Adds gradients at nodes of a line to its sum, all at once; the arguments are those of [`Line::add`].
    ///
    /// # Errors
    /// As [`Task::gradient`].
    pub fn add_to_line(&self, line: &mut dyn Line, nodes: &[(f64, f64)], sample: usize) -> Result<()> {
        self.count(Cost { forward: nodes.len(), backward: nodes.len() });
        finite_scores(&to_f64(&line.add(nodes, &self.target, sample)?)?)
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
