//! Insertion and deletion: Petsiuk, Das & Saenko 2018, "RISE", §4.1.
//!
//! Deletion replaces pixels of the input by a baseline, most important pixels first, and measures the probability of
//! the class; insertion starts from a baseline and restores pixels of the input. The value is the area under the
//! curve over the fraction of pixels replaced: lower is better for deletion, higher for insertion.
//!
//! Ties in the attribution are ordered by position, in row-major order. The authors' code spaces the points equally
//! even if the last step is smaller than the others: the detail `auc_equal` holds the area computed that way.
//!
//! Limits: inputs with replaced pixels are outside the distribution that the model was trained on; results depend on
//! the baseline and the step.

use ascribe_core::features::{Features, Mask, References};
use ascribe_core::{Baseline, Error, Predictor, Reduction, Result, Task, sweep};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use crate::card::{Better, Group, MetricCard};
use crate::metric::{Case, Curve, Evaluation, Measure, Metric, MetricConfig};
use crate::statistics::area;

/// The settings that insertion and deletion share.
#[derive(Clone, Debug, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct PixelCurve {
    /// The replacement of missing pixels.
    pub baseline: Baseline,
    /// Number of pixels replaced per step; 0 for the number of pixels in a row of the image, as in the paper. Of series and
    /// tables, which have no rows, 0 replaces a hundredth.
    pub step: usize,
    /// Whether the score is the class's probability, as in the paper, or the target's own score. Targets and outputs
    /// without probabilities (regression, segments) keep their score.
    pub probability: bool,
    /// How the channels of the attribution are reduced to one map.
    pub reduction: Reduction,
}

impl Default for PixelCurve {
    fn default() -> Self {
        Self { baseline: Baseline::Zero, step: 0, probability: true, reduction: Reduction::Sum }
    }
}

/// Configuration of insertion: pixels of the input are inserted into the baseline.
///
/// ```
/// use ascribe_core::{Autograd, Device, Explainer, Inputs, Run, Target, Tensor};
/// use ascribe_gradient::Saliency;
/// use ascribe_metrics::{Case, Deletion, Insertion, Metric, PixelCurve};
/// let model = Autograd::new(|x: &Tensor| x.narrow(3, 1, 1)?.flatten_from(1));
/// let (target, run) = (Target::Class(0), Run::new());
/// let x = Inputs::single(Tensor::new(&[[[[4_f64, 2.0]]]], &Device::Cpu)?)?;
/// let found = Saliency::default().explain(&model, &x, &target, &run)?;
/// let case = Case::new(&model, &x, &target, &found, &run);
/// // The right pixel is inserted or deleted first: the score is 0, 2, 2, or 2, 0, 0.
/// let curve = PixelCurve::default().step(1).probability(false);
/// assert_eq!(Insertion(curve.clone()).evaluate(&case)?.values, [Some(1.5)]);
/// assert_eq!(Deletion(curve).evaluate(&case)?.values, [Some(0.5)]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Insertion(pub PixelCurve);

impl Default for Insertion {
    /// Inserts into a blurred input (σ = 5 pixels), as in the paper.
    fn default() -> Self {
        Self(PixelCurve { baseline: Baseline::Blurred { sigma: 5.0 }, ..PixelCurve::default() })
    }
}

/// Configuration of deletion: pixels of the input are replaced by the baseline, zero by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Deletion(pub PixelCurve);

/// The fields that both cards share.
const PIXELS: MetricCard = MetricCard {
    paper: "Petsiuk, Das & Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models",
    year: 2018,
    range: [Some(0.0), Some(1.0)],
    limits: "replaced pixels leave the distribution that the model was trained on; results depend on the baseline and \
             the step",
    ..MetricCard::new(Group::Faithfulness, Better::Higher)
};

impl MetricConfig for Insertion {
    const CARD: MetricCard = MetricCard {
        id: "insertion",
        name: "Insertion",
        summary: "area under the class's probability while the most important pixels are put in first",
        ..PIXELS
    };

    fn check(&self) -> Result<()> {
        self.0.baseline.check_single()
    }
}

impl MetricConfig for Deletion {
    const CARD: MetricCard = MetricCard {
        id: "deletion",
        name: "Deletion",
        summary: "area under the class's probability while the most important pixels are taken out first",
        better: Better::Lower,
        ..PIXELS
    };

    fn check(&self) -> Result<()> {
        self.0.baseline.check_single()
    }
}

impl<M: Predictor + ?Sized> Metric<M> for Insertion {
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation> {
        self.0.evaluate(self, case, true)
    }
}

impl<M: Predictor + ?Sized> Metric<M> for Deletion {
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation> {
        self.0.evaluate(self, case, false)
    }
}

/// Number of steps for inputs without rows.
const STEPS: usize = 100;

/// Positions by descending value; ties stay in row-major order.
fn order(map: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..map.len()).collect();
    order.sort_by(|&a, &b| map[b].total_cmp(&map[a]));
    order
}

impl PixelCurve {
    /// The curve of each sample, from the baseline (`insertion`) or from the input.
    fn evaluate<M: Predictor + ?Sized>(
        &self,
        metric: &impl Measure,
        case: &Case<'_, M>,
        insertion: bool,
    ) -> Result<Evaluation> {
        let outputs = case.model.predict(case.x)?;
        let target = case.target.resolve(&outputs)?;
        let target = if self.probability { target.probability(outputs.kind()) } else { target };
        let task = Task::new(case.model, case.x, target, case.run);
        let (inputs, sides) = task.positions()?;
        let batch = inputs.dim(0)?;
        let maps = self.reduction.reduce(case.attribution.values())?;
        let expected: Vec<usize> = std::iter::once(batch).chain(sides.iter().copied()).collect();
        if maps.dims() != expected {
            let problem = format!("attribution maps have shape {:?}", maps.dims());
            return Err(Error::invalid(metric.id(), problem, format!("{expected:?}, as the input")));
        }
        let area_of_map: usize = sides.iter().product();
        let step = match (self.step, sides.as_slice()) {
            (0, [one]) => one.div_ceil(STEPS),
            (0, [.., width]) => *width,
            (step, _) => step,
        };
        let counts: Vec<usize> =
            (0..area_of_map.div_ceil(step)).map(|i| i * step).chain([area_of_map]).collect();
        let fractions: Vec<f64> = counts.iter().map(|&c| c as f64 / area_of_map as f64).collect();
        let equal: Vec<f64> = (0..counts.len()).map(|i| i as f64 / (counts.len() - 1) as f64).collect();
        let orders: Vec<Vec<usize>> =
            maps.flatten_from(1)?.to_vec2::<f64>()?.iter().map(|map| order(map)).collect();

        let pixels = Features::positions(case.x)?;
        let fill = References::new(&self.baseline, case.x, case.run.get_seed())?;
        let first = |point: sweep::Point| {
            let most = orders[point.sample][..counts[point.index]].to_vec();
            Ok(if insertion { Mask::With(most) } else { Mask::Without(most) })
        };
        let mut curves = vec![Vec::with_capacity(counts.len()); batch];
        let points = sweep::every(&task.samples()?, counts.len());
        task.masked(&pixels, &fill, &points, first, |point, _, score| {
            curves[point.sample].push(score[0]);
            Ok(())
        })?;
        let mut evaluation = Evaluation::new(metric, Vec::new());
        for curve in curves {
            evaluation.values.push(Some(area(&fractions, &curve)));
            evaluation.details.push(serde_json::json!({ "auc_equal": area(&equal, &curve) }));
            evaluation.curves.push(Curve { x: fractions.clone(), y: curve });
        }
        Ok(evaluation)
    }
}
