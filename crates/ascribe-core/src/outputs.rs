//! Outputs of a model, and what they mean.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::detections::Detections;
use crate::error::{Error, Result};

/// What the first output of a model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OutputKind {
    /// One of several classes: logits `[N, C]`, whose softmax are probabilities.
    Classes,
    /// Several labels, each yes or no: logits `[N, C]`, whose sigmoids are probabilities.
    Labels,
    /// Yes or no: one logit `[N, 1]`, whose sigmoid is the probability of yes.
    Binary,
    /// The probabilities of several classes `[N, C]`, which sum to one, where the model has no logits: random forests, for
    /// example.
    Probabilities,
    /// Numbers (regression): `[N, 1]` or `[N, D]`.
    Number,
    /// A class for each pixel: logits `[N, C, H, W]`.
    Pixels,
    /// A class for each token: logits `[N, T, C]`.
    Tokens,
    /// Boxes of a detector.
    Boxes,
    /// A vector that is compared with others: `[N, D]`.
    Embedding,
}

impl OutputKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Classes,
        Self::Labels,
        Self::Binary,
        Self::Probabilities,
        Self::Number,
        Self::Pixels,
        Self::Tokens,
        Self::Boxes,
        Self::Embedding,
    ];

    /// The kind that an output of this shape has where nothing else is known: `[N, C]` are logits of classes, `[N, 1]` and
    /// `[N]` numbers, `[N, T, C]` classes of tokens, `[N, C, H, W]` classes of pixels.
    pub fn of_shape(shape: &[usize]) -> Self {
        match columns(shape) {
            Some(0 | 1) => Self::Number,
            Some(_) => Self::Classes,
            None if shape.len() == 3 => Self::Tokens,
            None => Self::Pixels,
        }
    }

    /// The name in settings.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::Labels => "labels",
            Self::Binary => "binary",
            Self::Probabilities => "probabilities",
            Self::Number => "number",
            Self::Pixels => "pixels",
            Self::Tokens => "tokens",
            Self::Boxes => "boxes",
            Self::Embedding => "embedding",
        }
    }

    /// Whether scores of single classes have probabilities.
    pub const fn has_probabilities(self) -> bool {
        matches!(self, Self::Classes | Self::Labels | Self::Binary | Self::Probabilities)
    }
}

impl fmt::Display for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for OutputKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == name).ok_or_else(|| {
            let all = Self::ALL.map(Self::id).join(", ");
            Error::invalid("task", format!("'{name}'"), format!("one of {all}"))
        })
    }
}

/// Number of columns of an output that is one row of numbers per sample, with or without further axes of length 1 behind.
fn columns(shape: &[usize]) -> Option<usize> {
    match shape {
        [_] => Some(1),
        [_, columns, rest @ ..] => rest.iter().all(|&side| side == 1).then_some(*columns),
        [] => None,
    }
}

/// The named outputs of a model.
#[derive(Clone, Debug)]
pub struct Outputs {
    values: Vec<(String, Tensor)>,
    kind: Option<OutputKind>,
}

impl Outputs {
    /// From name and value of each output.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(values: Vec<(String, Tensor)>) -> Result<Self> {
        if values.is_empty() {
            return Err(Error::invalid("outputs", "none given", "at least one"));
        }
        Ok(Self { values, kind: None })
    }

    /// States what the first output says; `None` if only its shape is known.
    #[must_use]
    pub fn with_kind(self, kind: Option<OutputKind>) -> Self {
        Self { kind, ..self }
    }

    /// Other values for the same outputs.
    pub(crate) fn like(&self, values: Vec<(String, Tensor)>) -> Result<Self> {
        Ok(Self::new(values)?.with_kind(self.kind))
    }

    /// What the first output says: as stated, or else by the shapes: boxes `[N, A, 4]` beside scores `[N, A, C]`, or
    /// [`OutputKind::of_shape`].
    pub fn kind(&self) -> OutputKind {
        let by_shape = || {
            if Detections::evident(self) {
                OutputKind::Boxes
            } else {
                OutputKind::of_shape(self.primary().dims())
            }
        };
        self.kind.unwrap_or_else(by_shape)
    }

    /// What the first output says, if it was stated.
    pub fn stated_kind(&self) -> Option<OutputKind> {
        self.kind
    }

    /// The outputs of one sample of a batch.
    ///
    /// # Errors
    /// If there is no such sample.
    pub fn sample(&self, sample: usize) -> Result<Self> {
        let row = |(name, value): &(String, Tensor)| Ok((name.clone(), value.narrow(0, sample, 1)?));
        self.like(self.values.iter().map(row).collect::<Result<_>>()?)
    }

    /// The first output, which class targets refer to.
    pub fn primary(&self) -> &Tensor {
        &self.values[0].1
    }

    /// The output of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The output of this name; the first one without a name.
    ///
    /// # Errors
    /// If there is none of this name; the message lists the names.
    pub fn named(&self, name: Option<&str>) -> Result<&Tensor> {
        let Some(name) = name else { return Ok(self.primary()) };
        self.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
            Error::invalid("output", format!("there is no '{name}'"), format!("one of {}", names.join(", ")))
        })
    }

    /// Names and values of all outputs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.values.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// The scores of the classes or labels, or the numbers: `[N, C]`. Axes of length 1 behind them are removed.
    ///
    /// # Errors
    /// If the first output is not one row of numbers per sample.
    pub fn scores(&self) -> Result<Tensor> {
        let value = self.primary();
        match columns(value.dims()) {
            Some(columns) if value.dims() != [value.dims()[0], columns] => {
                Ok(value.reshape((value.dims()[0], columns))?)
            }
            Some(_) => Ok(value.clone()),
            None => Err(Error::invalid(
                "target",
                format!("is a class, but the model's output has shape {:?} ({})", value.dims(), self.kind()),
                match self.kind() {
                    OutputKind::Boxes => "an output [N, classes]; for detections use Target::Box",
                    OutputKind::Pixels => "an output [N, classes]; for classes of pixels use Target::Segment",
                    _ => {
                        "an output [N, classes]; for other outputs use Target::Output, Mean, Sum, Similarity or custom"
                    }
                },
            )),
        }
    }

    /// Their probabilities `[N, C]`: the softmax of classes, the sigmoids of labels, the scores if they are probabilities.
    ///
    /// # Errors
    /// As [`Outputs::scores`]; if the scores are not those of classes or labels.
    pub fn probabilities(&self) -> Result<Tensor> {
        let scores = self.scores()?;
        match self.kind() {
            OutputKind::Classes => Ok(candle_nn::ops::softmax(&scores, 1)?),
            OutputKind::Labels | OutputKind::Binary => Ok(candle_nn::ops::sigmoid(&scores)?),
            OutputKind::Probabilities => Ok(scores),
            other => Err(no_probabilities(other)),
        }
    }

    /// The logarithms of the probabilities.
    ///
    /// # Errors
    /// As [`Outputs::probabilities`].
    pub fn log_probabilities(&self) -> Result<Tensor> {
        let scores = self.scores()?;
        match self.kind() {
            OutputKind::Classes => Ok(candle_nn::ops::log_softmax(&scores, 1)?),
            // log σ(z) = min(z, 0) − log(1 + e^−|z|)
            OutputKind::Labels | OutputKind::Binary => {
                let rest = ((scores.abs()?.neg()?.exp()? + 1.0)?).log()?;
                Ok((scores.minimum(&scores.zeros_like()?)? - rest)?)
            }
            OutputKind::Probabilities => Ok(scores.log()?),
            other => Err(no_probabilities(other)),
        }
    }
}

fn no_probabilities(kind: OutputKind) -> Error {
    Error::invalid(
        "target",
        format!("is a probability, but the model's output is taken as {kind}"),
        "a model of classes, labels or one yes-or-no answer; the task of the model can be stated",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn outputs(rows: &[[f64; 2]; 2], kind: Option<OutputKind>) -> Result<Outputs> {
        Ok(Outputs::new(vec![("y".into(), Tensor::new(rows, &Device::Cpu)?)])?.with_kind(kind))
    }

    #[test]
    fn probabilities_follow_the_kind() -> Result<()> {
        let rows = [[0.0, 2.0], [-800.0, 800.0]];
        let close = |found: Tensor, expected: [[f64; 2]; 2]| -> Result<()> {
            for (a, b) in found.to_vec2::<f64>()?.concat().into_iter().zip(expected.concat()) {
                assert!((a - b).abs() < 1e-12 || a == b, "{a} {b}");
            }
            Ok(())
        };
        let classes = outputs(&rows, None)?;
        assert_eq!(classes.kind(), OutputKind::Classes);
        // 1 / (1 + e²) and 1 / (1 + e⁻²)
        close(classes.probabilities()?, [[0.119_202_922_022_117_57, 0.880_797_077_977_882_3], [0.0, 1.0]])?;
        let labels = outputs(&rows, Some(OutputKind::Labels))?;
        close(labels.probabilities()?, [[0.5, 0.880_797_077_977_882_3], [0.0, 1.0]])?;
        close(
            labels.log_probabilities()?,
            [[-std::f64::consts::LN_2, -0.126_928_011_042_972_6], [-800.0, 0.0]],
        )?;
        let certain = [[0.25, 0.75], [1.0, 1.0]];
        let own = outputs(&certain, Some(OutputKind::Probabilities))?;
        close(own.probabilities()?, certain)?;
        close(own.log_probabilities()?, [[-1.386_294_361_119_890_6, -0.287_682_072_451_780_9], [0.0, 0.0]])?;
        let error = outputs(&rows, Some(OutputKind::Number))?.probabilities().unwrap_err().to_string();
        assert!(error.contains("taken as number"), "{error}");
        Ok(())
    }

    #[test]
    fn shapes_say_what_they_can() -> Result<()> {
        for (shape, kind) in [
            (&[2, 10][..], OutputKind::Classes),
            (&[2, 10, 1, 1], OutputKind::Classes),
            (&[2, 1], OutputKind::Number),
            (&[2], OutputKind::Number),
            (&[2, 7, 10], OutputKind::Tokens),
            (&[2, 21, 8, 8], OutputKind::Pixels),
        ] {
            assert_eq!(OutputKind::of_shape(shape), kind, "{shape:?}");
            let value = Tensor::zeros(shape, DType::F64, &Device::Cpu)?;
            let scores = Outputs::new(vec![("y".into(), value)])?.scores();
            assert_eq!(scores.is_ok(), shape.len() < 3 || shape.len() == 4 && shape[3] == 1, "{shape:?}");
        }
        assert_eq!("labels".parse::<OutputKind>()?, OutputKind::Labels);
        assert!("label".parse::<OutputKind>().unwrap_err().to_string().contains("classes, labels"));
        Ok(())
    }
}
