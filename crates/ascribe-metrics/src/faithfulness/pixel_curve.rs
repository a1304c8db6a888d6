//! Insertion and deletion: Petsiuk, Das & Saenko 2018, "RISE", §4.1.
//!
//! Deletion replaces pixels of the input, most important first, by a baseline, and watches the probability of
//! the class; insertion starts from a baseline, and puts pixels of the input back. The value is the area under
//! the curve over the fraction of pixels replaced: lower is better for deletion, higher for insertion.
//!
//! Ties in the attribution are taken in row-major order. The authors' code spaces the points equally even if
//! the last step is smaller than the others: the detail `auc_equal` holds that area.
//!
//! Limits: replaced pixels leave the distribution that the model was trained on; results depend on the
//! baseline and the step.

use ascribe_core::{Baseline, Error, Predictor, Reduction, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::metric::{Better, Case, Curve, Evaluation, Metric};
use crate::statistics::area;

/// Where the curve starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At the baseline: pixels of the input are put in.
    Insertion,
    /// At the input: its pixels are taken out.
    Deletion,
}

/// Configuration of insertion and deletion.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelCurve {
    /// Which of the two it is.
    pub start: Start,
    /// What takes the place of missing pixels.
    pub baseline: Baseline,
    /// Pixels replaced at a time; 0 for as many as one row has, as the paper does.
    pub step: usize,
    /// Whether the class's softmax probability is watched, as in the paper, or the target's own score.
    pub probability: bool,
    /// How the channels of the attribution become one map.
    pub reduction: Reduction,
}

impl Default for PixelCurve {
    fn default() -> Self {
        Self::insertion()
    }
}

impl PixelCurve {
    /// Insertion into a blurred input (σ = 5 pixels).
    pub fn insertion() -> Self {
        let baseline = Baseline::Blurred { sigma: 5.0 };
        Self { start: Start::Insertion, baseline, step: 0, probability: true, reduction: Reduction::Sum }
    }

    /// Deletion to zero.
    pub fn deletion() -> Self {
        Self { start: Start::Deletion, baseline: Baseline::Zero, ..Self::insertion() }
    }

    /// Sets the number of pixels replaced at a time.
    pub fn step(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// Sets what takes the place of missing pixels.
    pub fn baseline(self, baseline: Baseline) -> Self {
        Self { baseline, ..self }
    }
}

/// Positions by descending value; ties in their own order.
fn order(map: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..map.len()).collect();
    order.sort_by(|&a, &b| map[b].total_cmp(&map[a]));
    order
}

impl<M: Predictor + ?Sized> Metric<M> for PixelCurve {
    fn id(&self) -> &'static str {
        match self.start {
            Start::Insertion => "insertion",
            Start::Deletion => "deletion",
        }
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn better(&self) -> Better {
        match self.start {
            Start::Insertion => Better::Higher,
            Start::Deletion => Better::Lower,
        }
    }

    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation> {
        let id = Metric::<M>::id(self);
        let mut inputs = case.x.explained();
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            let problem = format!("{} inputs are explained", case.x.explained().count());
            return Err(Error::invalid(id, problem, "one batch of images"));
        };
        let &[batch, channels, height, width] = input.value.dims() else {
            let problem = format!("input has shape {:?}", input.value.dims());
            return Err(Error::invalid(id, problem, "images [N, C, H, W]"));
        };
        let maps = self.reduction.reduce(case.attribution.values())?;
        if maps.dims() != [batch, height, width] {
            let problem = format!("attribution maps have shape {:?}", maps.dims());
            return Err(Error::invalid(id, problem, format!("[{batch}, {height}, {width}], as the input")));
        }
        let area_of_map = height * width;
        let step = if self.step == 0 { width } else { self.step };
        let counts: Vec<usize> =
            (0..area_of_map.div_ceil(step)).map(|i| i * step).chain([area_of_map]).collect();
        let reference = self.baseline.reference(&input.value, 0, case.run.get_seed())?;
        let target = case.target.resolve(&case.model.predict(case.x)?)?;
        let target = if self.probability { target.probability() } else { target };
        let fractions: Vec<f64> = counts.iter().map(|&c| c as f64 / area_of_map as f64).collect();
        let equal: Vec<f64> = (0..counts.len()).map(|i| i as f64 / (counts.len() - 1) as f64).collect();

        let mut evaluation =
            Evaluation::new(id, Metric::<M>::config(self), Metric::<M>::better(self), Vec::new());
        let total = batch * counts.len();
        for (sample, map) in maps.flatten_from(1)?.to_vec2::<f64>()?.iter().enumerate() {
            // Rank of each pixel: it is replaced once that many pixels are.
            let mut rank = vec![0_u32; area_of_map];
            order(map).into_iter().enumerate().for_each(|(rank_of, pixel)| rank[pixel] = rank_of as u32);
            let rank = Tensor::from_vec(rank, (1, 1, height, width), input.value.device())?;
            let rank = rank.broadcast_as((1, channels, height, width))?;
            let (x, reference) = (input.value.narrow(0, sample, 1)?, reference.narrow(0, sample, 1)?);
            let (from, to) = match self.start {
                Start::Insertion => (&reference, &x),
                Start::Deletion => (&x, &reference),
            };
            let mut curve = Vec::with_capacity(counts.len());
            for chunk in counts.chunks(case.run.get_batch()) {
                case.run.step(sample * counts.len() + curve.len(), total)?;
                let rows: Result<Vec<Tensor>> =
                    chunk.iter().map(|&count| Ok(rank.lt(count as u32)?.where_cond(to, from)?)).collect();
                let samples = vec![sample; chunk.len()];
                let rows = case.x.select(&samples)?.with_explained(vec![Tensor::cat(&rows?, 0)?])?;
                let scores = target.score(&case.model.predict(&rows)?, &samples)?;
                curve.extend(scores.to_dtype(ascribe_core::DType::F64)?.to_vec1::<f64>()?);
            }
            evaluation.values.push(Some(area(&fractions, &curve)));
            evaluation.details.push(serde_json::json!({ "auc_equal": area(&equal, &curve) }));
            evaluation.curves.push(Curve { x: fractions.clone(), y: curve });
        }
        case.run.step(total, total)?;
        Ok(evaluation)
    }
}
