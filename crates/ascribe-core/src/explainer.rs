//! The trait of explainers, and what all explanations have in common.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Tensor};
use serde_json::{Map, Value};

use crate::attribution::{Attribution, Cost, Provenance, Values, totals};
use crate::card::Methodology;
use crate::error::{Error, Result};
use crate::gradient_sum::GradientSum;
use crate::inputs::{Inputs, check_finite};
use crate::method::Method;
use crate::model::Predictor;
use crate::moments::Moments;
use crate::run::Run;
use crate::target::Target;
use crate::task::{Samples, Task};

/// A method that can explain models of type `M`.
///
/// The bound on `M` in each implementation says what the method needs: [`Predictor`] (a black box),
/// [`crate::Differentiable`] (gradients) or [`crate::Graph`] (a white box). Applying a white-box method to a closure
/// does not compile. Authors write [`Explainer::find`], callers use [`Explainer::explain`].
pub trait Explainer<M: Predictor + ?Sized>: Method {
    /// Computes the attribution. The configuration and the inputs are checked, and the target is resolved.
    ///
    /// # Errors
    /// If the inputs or the target do not fit the model.
    fn find(&self, task: &Task<'_, M>) -> Result<Found>;

    /// Explains the target's score of each sample: checks configuration and inputs, resolves the target, computes the
    /// attribution with [`Explainer::find`], records its cost, and checks the result.
    ///
    /// # Errors
    /// If the configuration, the inputs or the target do not fit the model, a value is not finite, or more than 10⁸ rows
    /// would be evaluated.
    fn explain(&self, model: &M, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution> {
        explain(self, model, x, target, run)
    }

    /// Checks, without computing anything, that the method is defined for this model and inputs, and returns reasons to doubt
    /// any explanation of this model: the warnings that do not depend on samples.
    ///
    /// # Errors
    /// If it is not; the message names the node, where there is one.
    fn check_model(&self, model: &M, x: &Inputs) -> Result<Vec<String>> {
        let _ = (model, x);
        Ok(Vec::new())
    }

    /// How many rows this model evaluates for an explanation of these inputs, if that depends on the model.
    ///
    /// # Errors
    /// If the inputs do not fit the model.
    fn cost_of(&self, model: &M, x: &Inputs) -> Result<Cost> {
        let _ = model;
        Ok(self.cost(x))
    }

    /// A cheaper way to sum this method's attributions of inputs like `x`, where they are gradients and the model has
    /// one: see [`crate::Differentiable::gradient_sum`].
    ///
    /// # Errors
    /// Those of the model.
    fn gradient_sum<'a>(&self, model: &'a M, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        let _ = (model, x);
        Ok(None)
    }
}

/// What a method found; [`Explainer::explain`] turns it into an [`Attribution`].
#[derive(Debug, Default)]
pub struct Found {
    /// One tensor per explained input.
    pub values: Vec<Tensor>,
    /// Standard errors, where estimated: one tensor per explained input.
    pub spread: Option<Vec<Tensor>>,
    /// Scores of the samples, if the method has computed them.
    pub scores: Option<Vec<f64>>,
    /// Scores of the baselines. If given, the attribution should sum to score minus baseline score.
    pub baseline_scores: Option<Vec<f64>>,
    /// What each sample's attribution should sum to, if that is not score minus baseline score.
    pub expected_totals: Option<Vec<f64>>,
    /// Further results by name, first axis the batch: superpixels, coefficients, relevance of layers, …
    pub extras: BTreeMap<String, Tensor>,
    /// Further results by name that are not tensors: rules, a local R², steps of a path, …
    pub details: Map<String, Value>,
    /// Remarks.
    pub notes: Vec<String>,
    /// Reasons to doubt the result, and what to do about them.
    pub warnings: Vec<String>,
}

impl Found {
    /// Values, with the scores that were computed along with them.
    pub fn new(values: Vec<Tensor>, scores: Vec<f64>) -> Self {
        Self { values, scores: Some(scores), ..Self::default() }
    }

    /// The means of what was collected for each sample, each with a first axis of length 1, and their standard errors where
    /// there are two values or more; all of the type and on the device of `like`.
    ///
    /// # Errors
    /// If nothing was collected for a sample, or not the same for all.
    pub fn means(of_samples: &[Moments], like: &Tensor) -> Result<Self> {
        let (mut means, mut errors) = (Vec::new(), Vec::new());
        for moments in of_samples {
            let (mean, error) =
                moments.mean()?.ok_or_else(|| Error::invalid("mean", "of nothing", "at least one value"))?;
            means.push(mean);
            errors.extend(error);
        }
        let joined = |rows: &[Tensor]| -> Result<Vec<Tensor>> {
            let dtype = if like.dtype().is_float() { like.dtype() } else { DType::F32 };
            Ok(vec![Tensor::cat(rows, 0)?.to_dtype(dtype)?.to_device(like.device())?])
        };
        let spread = if errors.is_empty() { None } else { Some(joined(&errors)?) };
        Ok(Self { values: joined(&means)?, spread, ..Self::default() })
    }
}

impl From<Samples> for Found {
    fn from(samples: Samples) -> Self {
        Self::new(samples.values, samples.scores)
    }
}

/// The largest number of rows that a call may evaluate. Each row takes some bytes of memory: a mistyped number of samples
/// should give an error message, and not exhaust the memory.
const MAX_ROWS: usize = 100_000_000;

/// [`Explainer::explain`].
fn explain<M: Predictor + ?Sized, E: Explainer<M> + ?Sized>(
    method: &E,
    model: &M,
    x: &Inputs,
    target: &Target,
    run: &Run,
) -> Result<Attribution> {
    let started = Instant::now();
    method.check()?;
    x.check_finite()?;
    let mut warnings = method.check_model(model, x)?;
    let cost = method.cost_of(model, x)?;
    if cost.forward.max(cost.backward) > MAX_ROWS {
        return Err(Error::invalid(
            method.id(),
            format!("would evaluate {} rows", cost.forward.max(cost.backward)),
            format!("at most {MAX_ROWS}: fewer steps, samples, masks or windows"),
        ));
    }
    run.install(|| {
        let run = &run.or_batch(|| model.preferred_batch(x));
        let mut task = Task::new(model, x, target.clone(), run);
        if target.is_open() {
            task.target = target.resolve(&task.outputs()?)?;
        }
        if method.card().methodology == Methodology::BackPropagation {
            task.target = task.target.anchored();
        }
        let found = method.find(&task)?;
        let batch = x.batch()?;
        let scores = match found.scores {
            Some(scores) => scores,
            None => task.score(x, &(0..batch).collect::<Vec<_>>())?,
        };
        let parts = parts(method.id(), x, found.values, found.spread)?;
        let expected = found.expected_totals.or_else(|| {
            found.baseline_scores.as_ref().map(|b| scores.iter().zip(b).map(|(s, b)| s - b).collect())
        });
        let gap = match expected {
            Some(expected) => {
                let totals = totals(parts.iter().map(|part| &part.values))?;
                Some(totals.iter().zip(expected).map(|(t, e)| t - e).collect())
            }
            None => None,
        };
        let provenance = Provenance {
            method: method.id().into(),
            config: method.config(),
            relative: method.is_relative(),
            targets: (0..batch).map(|s| task.target.describe_sample(s)).collect(),
            scores,
            baseline_scores: found.baseline_scores,
            completeness_gap: gap,
            cost: task.cost(),
            seconds: started.elapsed().as_secs_f64(),
            seed: run.get_seed(),
            details: found.details,
            notes: found.notes,
            warnings: {
                warnings.extend(found.warnings);
                warnings
            },
        };
        let mut attribution = Attribution { parts, extras: found.extras, provenance };
        let findings = attribution.findings()?;
        attribution.provenance.notes.extend(findings);
        Ok(attribution)
    })
}

/// The values of each explained input, with its name and its standard errors.
fn parts(id: &str, x: &Inputs, values: Vec<Tensor>, spread: Option<Vec<Tensor>>) -> Result<Vec<Values>> {
    let names: Vec<&str> = x.explained().map(|input| input.name.as_str()).collect();
    if names.is_empty() {
        return Err(Error::invalid("inputs", "none is explained", "at least one floating-point input"));
    }
    // This is a bug of the method, which must not go unnoticed.
    let counts = |what: &str, count: usize| {
        if count == names.len() {
            return Ok(());
        }
        let problem = format!("{count} tensors for the explained inputs {names:?}");
        Err(Error::invalid(format!("{what} by {id}"), problem, "one each"))
    };
    counts("attribution", values.len())?;
    let spread = match spread {
        Some(spread) => {
            counts("standard errors", spread.len())?;
            spread.into_iter().map(Some).collect()
        }
        None => vec![None; names.len()],
    };
    names
        .into_iter()
        .zip(values)
        .zip(spread)
        .map(|((name, values), spread)| {
            check_finite(&format!("attribution by {id}"), &values)?;
            Ok(Values { name: name.to_string(), values, spread, layout: None })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::card::{Card, Family};
    use crate::method::Configured;
    use crate::{BlackBox, Score};

    /// Returns a number of copies of the input.
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Copies {
        values: usize,
        spread: usize,
    }

    impl Configured for Copies {
        const CARD: Card = Card { id: "copies", year: 2026, ..Card::gradient(Family::Vanilla) };
    }

    impl<M: Predictor + ?Sized> Explainer<M> for Copies {
        fn find(&self, task: &Task<'_, M>) -> Result<Found> {
            let copies = |count| vec![task.x.explained().next().unwrap().value.clone(); count];
            let extras = BTreeMap::from([("twice".to_string(), (&copies(1)[0] * 2.0)?)]);
            let mut details = Map::new();
            details.insert("answer".into(), 42.into());
            let spread = Some(copies(self.spread));
            Ok(Found { values: copies(self.values), spread, extras, details, ..Found::default() })
        }
    }

    fn run(values: usize, spread: usize) -> Result<Attribution> {
        let model = BlackBox::new(|x: &Tensor| Ok(x.clone()));
        let x = Inputs::single(Tensor::new(&[[1_f64, 2.0]], &Device::Cpu)?)?;
        Copies { values, spread }.explain(&model, &x, &Target::Class(0), &Run::new())
    }

    #[test]
    fn surplus_and_missing_values_are_an_error() {
        assert!(run(1, 1).is_ok());
        for (values, spread) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
            let message = run(values, spread).unwrap_err().to_string();
            assert!(message.contains("copies") && message.contains("one each"), "{message}");
        }
    }

    #[test]
    fn further_results_reach_the_file() -> Result<()> {
        let found = run(1, 1)?;
        assert_eq!(found.provenance.details["answer"], 42);
        let file = found.to_safetensors()?;
        let read = safetensors::SafeTensors::deserialize(&file).unwrap();
        let mut names = read.names();
        names.sort_unstable();
        assert_eq!(names, ["attribution", "extra.twice", "spread"]);
        Ok(())
    }

    #[test]
    fn a_card_answers_for_its_method() {
        let method: &dyn Method = &Copies::default();
        assert_eq!((method.id(), method.score(), method.is_relative()), ("copies", Score::Logit, false));
        assert!(Copies::CARD.is_called("Copies") && !Copies::CARD.is_called("copy"));
    }
}
