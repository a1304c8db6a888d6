//! How the outputs of a detector hold its boxes.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::outputs::Outputs;

/// Where boxes and scores are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// In the first output, box and scores in rows: `[N, A, …]`, or `[N, …, A]` if `across`.
    Rows { across: bool, objectness: bool },
    /// In the first output `[N, A, 6]`: corners, score and class.
    Listed,
    /// In outputs of these names.
    Pair { boxes: String, scores: String, classes: Option<String> },
}

/// How the outputs of a detector hold its boxes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    place: Place,
    /// Whether boxes are given by their corners, not by centre and size.
    pub(super) corners: bool,
    /// Whether scores are logits, not probabilities.
    logits: bool,
    /// The class that stands for the background.
    pub(super) background: Option<usize>,
}

/// Boxes `[N, A, 4]`, scores `[N, A, C]`, and the classes `[N, A]` of scores `[N, A, 1]`, where they are given.
pub(crate) struct Parts {
    pub boxes: Tensor,
    pub scores: Tensor,
    pub classes: Option<Tensor>,
}

impl Form {
    /// The form of these outputs.
    pub fn recognise(outputs: &Outputs) -> Result<Self> {
        let place = match Self::pair(outputs) {
            Some(place) => place,
            None => rows(outputs.primary())?,
        };
        let mut form = Self { place, corners: true, logits: false, background: None };
        let parts = form.parts(outputs)?;
        form.corners = ordered(&parts.boxes)?;
        if !form.corners && negative(&parts.boxes)? {
            return Err(Error::invalid(
                "boxes",
                "are neither corners nor centre and size: some sizes are negative",
                "boxes in the units of the picture; one value of a detector that is not decoded is Target::Output",
            ));
        }
        let scores = numbers(&parts.scores)?;
        form.logits = scores.iter().any(|v| !(0.0..=1.0).contains(v));
        if parts.classes.is_none() {
            form.background = background(&scores, parts.scores.dim(2)?, form.logits);
        }
        Ok(form)
    }

    /// A score as a number from 0 to 1.
    pub fn confidence(&self, score: f64) -> f64 {
        if self.logits { 1.0 / (1.0 + (-score).exp()) } else { score }
    }

    /// Boxes and scores in outputs of their own.
    pub(super) fn pair(outputs: &Outputs) -> Option<Place> {
        let dims: Vec<(&str, &[usize])> = outputs.iter().map(|(name, value)| (name, value.dims())).collect();
        let (boxes, candidates) = dims.iter().find_map(|(name, dims)| match dims {
            [_, candidates, 4] => Some((*name, *candidates)),
            _ => None,
        })?;
        let others = || dims.iter().filter(|(name, dims)| *name != boxes && dims.get(1) == Some(&candidates));
        let place = |scores: &str, classes: Option<&str>| Place::Pair {
            boxes: boxes.into(),
            scores: scores.into(),
            classes: classes.map(Into::into),
        };
        if let Some((scores, _)) = others().find(|(_, dims)| dims.len() == 3) {
            return Some(place(scores, None));
        }
        let flat: Vec<&str> = others().filter(|(_, dims)| dims.len() == 2).map(|(name, _)| *name).collect();
        let whole = |name: &&str| outputs.get(name).is_some_and(|v| are_classes(v).unwrap_or(false));
        let classes = flat.iter().copied().find(|name| whole(name))?;
        let scores = flat.iter().copied().find(|name| *name != classes)?;
        Some(place(scores, Some(classes)))
    }

    /// Boxes, scores and classes; derivatives pass.
    pub fn parts(&self, outputs: &Outputs) -> Result<Parts> {
        match &self.place {
            Place::Pair { boxes, scores, classes } => {
                let (boxes, scores) = (outputs.named(Some(boxes))?, outputs.named(Some(scores))?);
                let classes = classes.as_deref().map(|name| outputs.named(Some(name))).transpose()?;
                let scores = if classes.is_some() { scores.unsqueeze(2)? } else { scores.clone() };
                Ok(Parts { boxes: boxes.clone(), scores, classes: classes.cloned() })
            }
            Place::Listed => {
                let value = outputs.primary();
                Ok(Parts {
                    boxes: value.narrow(2, 0, 4)?,
                    scores: value.narrow(2, 4, 1)?,
                    classes: Some(value.narrow(2, 5, 1)?.squeeze(2)?),
                })
            }
            &Place::Rows { across, objectness } => {
                let value = outputs.primary();
                let value = if across { value.transpose(1, 2)? } else { value.clone() };
                let first = if objectness { 5 } else { 4 };
                let classes = value.dim(2)?.saturating_sub(first);
                let scores = value.narrow(2, first, classes)?;
                let scores = if objectness { scores.broadcast_mul(&value.narrow(2, 4, 1)?)? } else { scores };
                Ok(Parts { boxes: value.narrow(2, 0, 4)?, scores, classes: None })
            }
        }
    }
}

/// The form of a single output.
fn rows(value: &Tensor) -> Result<Place> {
    let unknown = || {
        Error::invalid(
            "boxes",
            format!("cannot be recognised in an output of shape {:?}", value.dims()),
            "[N, 4 + classes, boxes], [N, boxes, 5 + classes], [N, boxes, 6] of corners, score and class, or boxes [N, boxes, 4] and scores [N, boxes, classes] in two outputs",
        )
    };
    let &[_, second, third] = value.dims() else { return Err(unknown()) };
    // There are more candidates than classes.
    let across = third > second;
    let columns = second.min(third);
    if !across && columns == 6 && are_classes(&value.narrow(2, 5, 1)?)? && ordered(&value.narrow(2, 0, 4)?)? {
        return Ok(Place::Listed);
    }
    if columns < 5 || (!across && columns < 6) {
        return Err(unknown());
    }
    Ok(Place::Rows { across, objectness: !across })
}

fn numbers(value: &Tensor) -> Result<Vec<f64>> {
    Ok(value.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

/// Whether all values are whole numbers from 0 on.
fn are_classes(value: &Tensor) -> Result<bool> {
    Ok(numbers(value)?.iter().all(|&v| v >= 0.0 && v.fract() == 0.0))
}

/// Whether right ≥ left and bottom ≥ top for all boxes.
fn ordered(boxes: &Tensor) -> Result<bool> {
    Ok(numbers(boxes)?.chunks(4).all(|b| b[2] >= b[0] && b[3] >= b[1]))
}

/// Whether a box has a negative size, if the last two values are its size.
fn negative(boxes: &Tensor) -> Result<bool> {
    Ok(numbers(boxes)?.chunks(4).any(|b| b[2] < 0.0 || b[3] < 0.0))
}

/// The class of the background, if there is one; see [`super::Detections`].
fn background(scores: &[f64], classes: usize, logits: bool) -> Option<usize> {
    let rows = || scores.chunks(classes.max(1));
    let sums_to_one = |row: &[f64]| (row.iter().sum::<f64>() - 1.0).abs() < 1e-3;
    if classes < 2 || !(logits || rows().all(sums_to_one)) {
        return None;
    }
    let wins = |class: usize| {
        let best = |row: &&[f64]| row.iter().all(|v| *v <= row[class]);
        2 * rows().filter(best).count() > rows().count()
    };
    [0, classes - 1].into_iter().find(|&class| wins(class))
}
