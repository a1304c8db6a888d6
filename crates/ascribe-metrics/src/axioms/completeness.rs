//! Completeness: Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks", §3, Proposition 1.
//!
//! An attribution is complete if it accounts for the score: `Σ_i A_i = S(x) − S(x′)`. The metric is the gap
//! `|Σ_i A_i − (S(x) − S(x′))|`, relative to |S(x) − S(x′)|. 0 is best.
//!
//! Limits: the metric says nothing about *where* the attribution is; a map that attributes everything to one pixel
//! can be complete. Methods that do not guarantee completeness (saliency) fail it without being wrong.

use ascribe_core::{Baseline, Methodology, Predictor, Result};
use serde::{Deserialize, Serialize};

use crate::card::{Better, Group, MetricCard};
use crate::metric::{Case, Evaluation, Metric, MetricConfig};

/// Configuration of the completeness metric.
///
/// ```
/// use ascribe_core::{Autograd, Device, Explainer, Inputs, Run, Target, Tensor};
/// use ascribe_gradient::InputXGradient;
/// use ascribe_metrics::{Case, Completeness, Metric};
/// let model = Autograd::new(|x: &Tensor| x.sqr());
/// let (target, run) = (Target::Class(0), Run::new());
/// let x = Inputs::single(Tensor::new(&[[3_f64]], &Device::Cpu)?)?;
/// let found = InputXGradient::default().explain(&model, &x, &target, &run)?; // 3 · 6 = 18
/// let value = Completeness::default().evaluate(&Case::new(&model, &x, &target, &found, &run))?;
/// assert_eq!(value.values, [Some(1.0)]); // |18 − 9| of 9
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Completeness {
    /// The baseline x′ for methods without a baseline of their own; a method's own baseline takes precedence.
    pub baseline: Baseline,
}

impl MetricConfig for Completeness {
    const CARD: MetricCard = MetricCard {
        id: "completeness",
        name: "Completeness",
        also: &["efficiency", "summation to delta"],
        summary: "gap between the attribution's sum and the change of the score, as a fraction of the change",
        paper: "Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks",
        year: 2017,
        range: [Some(0.0), None],
        limits: "says nothing about where the attribution lies; methods that promise no completeness fail it without \
                 being wrong",
        ..MetricCard::new(Group::Axioms, Better::Zero)
    };
}

impl<M: Predictor + ?Sized> Metric<M> for Completeness {
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation> {
        let provenance = &case.attribution.provenance;
        let own = provenance.baseline_scores.clone();
        let references = match own {
            Some(scores) => scores,
            None => self.reference_scores(case)?,
        };
        let totals = case.attribution.totals()?;
        let mut values = Vec::with_capacity(totals.len());
        let mut details = Vec::with_capacity(totals.len());
        for ((total, score), reference) in totals.iter().zip(&provenance.scores).zip(references) {
            let change = score - reference;
            let gap = (total - change).abs();
            // If the score does not change, there is no scale to compare with, and the gap itself is reported.
            let value = if change == 0.0 { gap } else { gap / change.abs() };
            values.push(Some(value));
            details.push(
                serde_json::json!({ "sum": total, "score": score, "baseline_score": reference, "gap": gap }),
            );
        }
        Ok(Evaluation { details, ..Evaluation::new(self, values) })
    }
}

impl Completeness {
    fn reference_scores<M: Predictor + ?Sized>(&self, case: &Case<'_, M>) -> Result<Vec<f64>> {
        let seed = case.run.get_seed();
        let references: Result<Vec<_>> =
            case.x.explained().map(|i| self.baseline.reference(&i.value, 0, seed)).collect();
        let x = case.x.with_explained(references?)?;
        let samples: Vec<usize> = (0..x.batch()?).collect();
        let mut target = case.target.resolve(&case.model.predict(case.x)?)?;
        if case.explainer.is_none_or(|e| e.card().methodology == Methodology::BackPropagation) {
            target = target.anchored();
        }
        let scores = target.score(&case.model.predict(&x)?, &samples)?;
        Ok(scores.to_dtype(ascribe_core::DType::F64)?.to_vec1()?)
    }
}
