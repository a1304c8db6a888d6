//! The boxes in the outputs of a detector.

mod form;
mod suppress;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::outputs::Outputs;

pub(crate) use form::Form;
pub use suppress::overlap;

/// Left, top, right and bottom of a box, in the units of the model.
pub type Corners = [f64; 4];

/// One box that a detector has found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Detection {
    /// Its position among the candidates of the model.
    pub candidate: usize,
    /// Its class.
    pub class: usize,
    /// The score of the class as the model gives it: a probability, or a logit.
    pub score: f64,
    /// Left, top, right and bottom, in the units of the model.
    pub corners: Corners,
}

/// The candidates of a detector: boxes, each with scores of classes.
///
/// Recognised from the shapes and values of the outputs:
/// - boxes `[N, A, 4]` and scores of classes `[N, A, C]` in two outputs, or scores `[N, A]` and classes `[N, A]` in two
///   more;
/// - one output `[N, 4 + C, A]`, or `[N, A, 5 + C]` with the probability of an object after the box, which multiplies the
///   scores;
/// - one output `[N, A, 6]` of corners, score and class, where non-maximum suppression is part of the model.
///
/// A box is given by its corners if right ≥ left and bottom ≥ top for all candidates, by its centre and size otherwise.
/// If the first or the last class wins for more than half of all candidates, and the scores are logits or sum to 1 for
/// each candidate, that class is the background.
#[derive(Clone, Debug)]
pub struct Detections {
    pub(crate) form: Form,
    /// For each sample, the boxes of its candidates.
    pub(crate) corners: Vec<Vec<Corners>>,
    /// For each sample, the scores of each candidate: `[A][C]`.
    pub(crate) scores: Vec<Vec<Vec<f64>>>,
    /// For each sample, the only class of each candidate, where the model states it.
    pub(crate) classes: Option<Vec<Vec<usize>>>,
}

impl Detections {
    /// The candidates in these outputs.
    ///
    /// # Errors
    /// If the outputs are not boxes in one of the forms that are known.
    pub fn of(outputs: &Outputs) -> Result<Self> {
        Self::read(Form::recognise(outputs)?, outputs)
    }

    /// Whether the outputs are boxes for certain: one of them is `[N, A, 4]`, and another one has scores `[N, A, …]`.
    pub(crate) fn evident(outputs: &Outputs) -> bool {
        Form::pair(outputs).is_some()
    }

    /// The candidates in outputs of a form that is known.
    pub(crate) fn read(form: Form, outputs: &Outputs) -> Result<Self> {
        let parts = form.parts(outputs)?;
        let numbers = |t: &Tensor| Ok::<_, Error>(t.to_dtype(DType::F64)?.to_device(&Device::Cpu)?);
        let corner = |b: &Vec<f64>| match (b.as_slice(), form.corners) {
            (&[a, b, c, d], true) => [a, b, c, d],
            (&[x, y, w, h], false) => [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0],
            _ => [f64::NAN; 4],
        };
        let boxes = numbers(&parts.boxes)?.to_vec3::<f64>()?;
        let corners = boxes.iter().map(|sample| sample.iter().map(corner).collect()).collect();
        let classes = parts.classes.as_ref().map(|classes| {
            let rows = numbers(classes)?.to_vec2::<f64>()?;
            Ok::<_, Error>(rows.iter().map(|row| row.iter().map(|&c| c as usize).collect()).collect())
        });
        let scores = numbers(&parts.scores)?.to_vec3::<f64>()?;
        Ok(Self { corners, scores, classes: classes.transpose()?, form })
    }

    /// Whether each candidate has a place of its own in the model, which it keeps when the input changes. The rows of a list
    /// after non-maximum suppression have none.
    pub fn are_anchored(&self) -> bool {
        self.classes.is_none()
    }

    /// The class that stands for the background.
    pub fn background(&self) -> Option<usize> {
        self.form.background
    }

    /// The best class of a candidate and its score.
    fn best(&self, sample: usize, candidate: usize) -> (usize, f64) {
        let scores = &self.scores[sample][candidate];
        if let Some(classes) = &self.classes {
            return (classes[sample][candidate], scores[0]);
        }
        let others = scores.iter().copied().enumerate().filter(|(c, _)| self.form.background != Some(*c));
        others.fold((0, f64::NEG_INFINITY), |best, one| if one.1 > best.1 { one } else { best })
    }

    /// How certain the model is of a candidate: the score of its best class as a number from 0 to 1.
    pub(crate) fn confidence(&self, sample: usize, candidate: usize) -> f64 {
        self.form.confidence(self.best(sample, candidate).1)
    }

    /// The detections of a sample with the highest scores, `count` of them, best first. Of boxes of the same class that
    /// overlap by more than half (intersection over union), only the best one is kept, unless the model has done so.
    ///
    /// # Errors
    /// If there is no such sample.
    pub fn list(&self, sample: usize, count: usize) -> Result<Vec<Detection>> {
        let corners = self.corners.get(sample).ok_or_else(|| {
            let expected = format!("below {}", self.corners.len());
            Error::invalid("sample", sample.to_string(), expected)
        })?;
        let candidates = corners.iter().enumerate().map(|(candidate, &corners)| {
            let (class, score) = self.best(sample, candidate);
            Detection { candidate, class, score, corners }
        });
        Ok(suppress::suppressed(candidates.collect(), count, self.are_anchored()))
    }
}

#[cfg(test)]
mod tests;
