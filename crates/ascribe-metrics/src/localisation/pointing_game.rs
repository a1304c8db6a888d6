//! Pointing game: Zhang et al. 2018, "Top-Down Neural Attention by Excitation Backprop", §4.1.
//!
//! A hit is an attribution whose maximum is on an object of the explained class, or strictly less than the tolerance
//! (15 pixels of the original image) away from it. The position of an object is given by its box, as in the paper for
//! VOC, or by its mask, as in the paper for COCO. Accuracy is hits / (hits + misses) per class, and the score is the
//! mean over classes ([`PointingGameScore`]). Higher is better.
//!
//! Limits: the metric uses a single point; a centre prior alone scores well on centred images.

use std::collections::BTreeMap;

use ascribe_core::{Error, Predictor, Reduction, Result, TruthKind};
use serde::{Deserialize, Serialize};

use crate::card::{Asks, Better, Group, MetricCard};
use crate::metric::{Case, Evaluation, Metric, MetricConfig, Sample};

/// Configuration of the pointing game.
///
/// ```
/// use ascribe_core::{Autograd, Device, Explainer, Inputs, Run, Target, Tensor};
/// use ascribe_gradient::Saliency;
/// use ascribe_metrics::localisation::{Object, Scene};
/// use ascribe_metrics::{Case, Metric, PointingGame};
/// // The score of class 0 is the value of the right pixel.
/// let model = Autograd::new(|x: &Tensor| x.narrow(3, 1, 1)?.flatten_from(1));
/// let (target, run) = (Target::Class(0), Run::new());
/// let x = Inputs::single(Tensor::new(&[[[[1_f64, 2.0]]]], &Device::Cpu)?)?;
/// let found = Saliency::default().explain(&model, &x, &target, &run)?;
/// let object = Object { class: 0, bounds: [1.0, 0.0, 2.0, 1.0], difficult: false };
/// let case = Case::new(&model, &x, &target, &found, &run);
/// let truth = [Scene::new(vec![object]).into()];
/// assert_eq!(PointingGame::default().evaluate(&case.showing(&truth))?.values, [Some(1.0)]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointingGame {
    /// Distances strictly below this number of pixels of the original image count as hits; with 0, the maximum must
    /// be on the object itself.
    pub tolerance: f64,
    /// How the channels are reduced to one map.
    pub reduction: Reduction,
}

impl Default for PointingGame {
    fn default() -> Self {
        Self { tolerance: 15.0, reduction: Reduction::Sum }
    }
}

impl PointingGame {
    /// Whether a distance counts as a hit.
    fn is_hit(&self, distance: f64) -> bool {
        distance == 0.0 || distance < self.tolerance
    }
}

/// Row and column of the first maximum.
fn maximum(map: &[Vec<f64>]) -> (usize, usize) {
    let mut best = (0, 0, f64::NEG_INFINITY);
    for (y, row) in map.iter().enumerate() {
        for (x, &value) in row.iter().enumerate() {
            if value > best.2 {
                best = (y, x, value);
            }
        }
    }
    (best.0, best.1)
}

impl MetricConfig for PointingGame {
    const CARD: MetricCard = MetricCard {
        id: "pointing-game",
        name: "Pointing game",
        summary: "share of maps whose maximum lies on an object of the class; mean over classes",
        paper: "Zhang, Bargal, Lin, Brandt, Shen & Sclaroff, Top-Down Neural Attention by Excitation Backprop",
        year: 2018,
        range: [Some(0.0), Some(1.0)],
        limits: "looks at a single point; the centre of the picture alone scores well on centred pictures",
        asks: Asks { truth: &[TruthKind::Boxes, TruthKind::Masks], ..Asks::NOTHING },
        ..MetricCard::new(Group::Localisation, Better::Higher)
    };

    fn check(&self) -> Result<()> {
        if self.tolerance >= 0.0 && self.tolerance.is_finite() {
            return Ok(());
        }
        Err(Error::invalid("tolerance", self.tolerance.to_string(), "0 or a positive number of pixels"))
    }

    /// The mean over classes of hits / (hits + misses).
    fn statistic(&self, samples: &[Sample]) -> Option<f64> {
        let mut score = PointingGameScore::default();
        for sample in samples {
            if let (Some(value), Some(class)) = (sample.value, sample.class) {
                score.add(class, value > 0.5);
            }
        }
        score.mean()
    }
}

impl<M: Predictor + ?Sized> Metric<M> for PointingGame {
    /// Values are 1 for a hit and 0 for a miss; `None` if the image contains no object of the class, or only
    /// difficult ones. The details hold the class, the point and the distance.
    fn evaluate(&self, case: &Case<'_, M>) -> Result<Evaluation> {
        let known = case.need_truth(&Self::CARD)?;
        let maps = self.reduction.reduce(case.attribution.values())?;
        if maps.rank() != 3 {
            let problem = format!("attribution {:?}", case.attribution.values().dims());
            return Err(Error::invalid(Self::CARD.id, problem, "maps of pictures: [N, C, H, W]"));
        }
        let (mut values, mut details, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for (sample, (map, truth)) in maps.to_vec3::<f64>()?.iter().zip(known).enumerate() {
            let class = case.target.class(sample).ok_or_else(|| {
                Error::invalid(
                    Self::CARD.id,
                    format!("the target of sample {sample} is {}", case.target.describe_sample(sample)),
                    "a class",
                )
            })?;
            let (row, column) = maximum(map);
            // The centre of a cell of a coarse map, in pixels of the input.
            let pixel = |at: usize, cells: usize, pixels: usize| (2 * at + 1) * pixels / (2 * cells);
            let (row, column) = match case.x.explained().next().map(|input| input.value.dims()) {
                Some(&[_, _, height, width]) if !map.is_empty() && !map[0].is_empty() => {
                    (pixel(row, map.len(), height), pixel(column, map[0].len(), width))
                }
                _ => (row, column),
            };
            let distance = truth.distance(class, row, column);
            let counts = distance.filter(|_| !truth.all_difficult(class));
            let missing = format!("the picture shows no object of class {class} that counts");
            notes.push(if counts.is_none() { vec![missing] } else { Vec::new() });
            values.push(counts.map(|d| f64::from(u8::from(self.is_hit(d)))));
            details.push(
                serde_json::json!({ "class": class, "row": row, "column": column, "distance": distance }),
            );
        }
        Ok(Evaluation { details, notes, ..Evaluation::new(self, values) })
    }
}

/// Hits and misses by class over many images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointingGameScore {
    /// Hits and misses of each class.
    pub classes: BTreeMap<usize, [usize; 2]>,
}

impl PointingGameScore {
    /// Counts a hit or a miss of a class.
    pub fn add(&mut self, class: usize, hit: bool) {
        self.classes.entry(class).or_default()[usize::from(!hit)] += 1;
    }

    /// Mean over classes of hits / (hits + misses); `None` if nothing was counted.
    pub fn mean(&self) -> Option<f64> {
        let accuracy = |[hits, misses]: &[usize; 2]| *hits as f64 / (hits + misses) as f64;
        let count = self.classes.len();
        (count > 0).then(|| self.classes.values().map(accuracy).sum::<f64>() / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerance_is_strict_and_zero_means_on_the_object() {
        let game = PointingGame { tolerance: 5.0, ..PointingGame::default() };
        assert!(game.is_hit(4.999) && !game.is_hit(5.0));
        let strict = PointingGame { tolerance: 0.0, ..PointingGame::default() };
        assert!(strict.is_hit(0.0) && !strict.is_hit(1.0));
    }

    #[test]
    fn the_score_is_the_mean_over_classes() {
        let mut score = PointingGameScore::default();
        assert_eq!(score.mean(), None);
        for (class, hit) in [(1, true), (1, true), (1, true), (1, false), (2, false)] {
            score.add(class, hit);
        }
        assert_eq!(score.mean(), Some(0.375));
    }
}
