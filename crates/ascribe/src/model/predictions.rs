//! A model's outputs as predictions.

use ascribe_core::{DType, Detection, Detections, Device, OutputKind, Outputs};

use super::Model;
use crate::error::{Error, Result};

/// A class with its label and probability.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// Number of the class.
    pub class: usize,
    /// Its label.
    pub label: Option<String>,
    /// Its logit; the probability where the model gives no logits.
    pub logit: f64,
    /// Its probability: the softmax, the sigmoid where several labels may hold, or the score itself if that is one.
    pub probability: f64,
}

impl Model {
    /// The outputs as predictions of one sample, most probable first, `count` of them; `None` if the outputs have no
    /// probabilities of classes.
    ///
    /// # Errors
    /// If the outputs cannot be read, or the labels are not as many as the classes.
    pub fn predictions(
        &self,
        outputs: &Outputs,
        sample: usize,
        count: usize,
    ) -> Result<Option<Vec<Prediction>>> {
        if !outputs.kind().has_probabilities() {
            return Ok(None);
        }
        let one = outputs.sample(sample)?;
        let exact =
            Outputs::new(vec![("scores".into(), double(&one.scores()?)?)])?.with_kind(Some(outputs.kind()));
        let numbers = |tensor: ascribe_core::Tensor| -> Result<Vec<f64>> {
            Ok(tensor.flatten_all().and_then(|t| t.to_vec1()).map_err(ascribe_core::Error::from)?)
        };
        let (logits, probabilities) = (numbers(exact.scores()?)?, numbers(exact.probabilities()?)?);
        if let Some(labels) = self.labels.as_ref().filter(|l| l.len() != logits.len()) {
            let binary = outputs.kind() == OutputKind::Binary && labels.len() == 2;
            if !binary {
                return Err(Error::request(
                    "labels",
                    format!("{} names for a model with {} classes", labels.len(), logits.len()),
                    "one name per class",
                ));
            }
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let prediction = |class: usize| Prediction {
            class,
            label: self.label(class).map(str::to_string),
            logit: logits[class],
            probability: probabilities[class],
        };
        Ok(Some(order.into_iter().take(count).map(prediction).collect()))
    }
}

/// A detection with its label.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LabelledDetection {
    /// The detection.
    #[serde(flatten)]
    pub detection: Detection,
    /// The label of its class.
    pub label: Option<String>,
}

impl Model {
    /// The detections of one sample, best first, `count` of them; `None` if the outputs are not those of a detector.
    ///
    /// # Errors
    /// If the form of the boxes is not known ([`Detections`]).
    pub fn detections(
        &self,
        outputs: &Outputs,
        sample: usize,
        count: usize,
    ) -> Result<Option<Vec<LabelledDetection>>> {
        if outputs.kind() != OutputKind::Boxes {
            return Ok(None);
        }
        let found = Detections::of(outputs)?.list(sample, count)?.into_iter();
        let labelled = |detection: Detection| LabelledDetection {
            label: self.label(detection.class).map(str::to_string),
            detection,
        };
        Ok(Some(found.map(labelled).collect()))
    }
}

fn double(tensor: &ascribe_core::Tensor) -> Result<ascribe_core::Tensor> {
    Ok(tensor
        .to_dtype(DType::F64)
        .and_then(|t| t.to_device(&Device::Cpu))
        .map_err(ascribe_core::Error::from)?)
}
