//! What is explained: one score per sample.

use std::fmt::{self, Debug};
use std::sync::Arc;

use candle_core::{D, Device, Tensor, Var};

use crate::error::{Error, Result};
use crate::inputs::Outputs;
use crate::values;

/// A function from the outputs and the samples' positions in the original batch to one score per row.
pub type ScoreFn = Arc<dyn Fn(&Outputs, &[usize]) -> Result<Tensor> + Send + Sync>;

/// One score per sample, computed from a model's outputs.
///
/// Class targets refer to the last axis of the first output, which must be `[N, classes]`.
#[derive(Clone)]
#[non_exhaustive]
pub enum Target {
    /// The output of one class, for all samples: its logit, unless the model ends with a softmax.
    Class(usize),
    /// The output of one class per sample.
    Classes(Vec<usize>),
    /// For each sample the class with the highest output; resolved once, on the input itself.
    Top1,
    /// The output of the first class minus that of the second: why the first and not the second?
    Difference(usize, usize),
    /// Softmax probability of a class.
    Probability(usize),
    /// Softmax probability of one class per sample.
    Probabilities(Vec<usize>),
    /// Logarithm of the softmax probability of a class.
    LogProbability(usize),
    /// One value of the first output: index of the axes after the batch.
    Neuron(Vec<usize>),
    /// Any differentiable candle function of the outputs (segmentation masks, boxes, similarities), with a
    /// name for the record.
    Custom(String, ScoreFn),
}

impl Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.describe())
    }
}

impl Target {
    /// A target from a closure; see [`Target::Custom`].
    pub fn custom(
        name: impl Into<String>,
        score: impl Fn(&Outputs, &[usize]) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self::Custom(name.into(), Arc::new(score))
    }

    /// The target as text: `281`, `281-285`, `prob:281`, …
    pub fn describe(&self) -> String {
        match self {
            Self::Class(c) => c.to_string(),
            Self::Classes(all) => format!("{all:?}"),
            Self::Top1 => "top1".into(),
            Self::Difference(a, b) => format!("{a}-{b}"),
            Self::Probability(c) => format!("prob:{c}"),
            Self::Probabilities(all) => format!("prob:{all:?}"),
            Self::LogProbability(c) => format!("logprob:{c}"),
            Self::Neuron(index) => format!("neuron:{index:?}"),
            Self::Custom(name, _) => name.clone(),
        }
    }

    /// The target of one sample, described.
    pub fn describe_sample(&self, sample: usize) -> String {
        match self {
            Self::Classes(all) => all.get(sample).map_or_else(|| self.describe(), ToString::to_string),
            Self::Probabilities(all) => {
                all.get(sample).map_or_else(|| self.describe(), |&c| Self::Probability(c).describe())
            }
            other => other.describe(),
        }
    }

    /// The class that a sample's score belongs to, if the target is a class.
    pub fn class(&self, sample: usize) -> Option<usize> {
        match self {
            Self::Class(c) | Self::Probability(c) | Self::LogProbability(c) => Some(*c),
            Self::Classes(all) | Self::Probabilities(all) => all.get(sample).copied(),
            _ => None,
        }
    }

    /// The target of a batch whose row `i` varies sample `samples[i]` of the batch that this one was made for.
    ///
    /// # Errors
    /// If there are classes for fewer samples.
    pub fn for_rows(&self, samples: &[usize]) -> Result<Self> {
        match self {
            Self::Classes(all) => Ok(Self::Classes(classes_of(all, samples)?)),
            Self::Probabilities(all) => Ok(Self::Probabilities(classes_of(all, samples)?)),
            Self::Custom(name, score) => {
                let (score, samples) = (score.clone(), samples.to_vec());
                Ok(Self::custom(name.clone(), move |outputs: &Outputs, rows: &[usize]| {
                    let of: Option<Vec<usize>> = rows.iter().map(|&r| samples.get(r).copied()).collect();
                    let of = of.ok_or_else(|| {
                        let problem = format!("one of {rows:?}");
                        Error::invalid("row", problem, format!("below {}", samples.len()))
                    })?;
                    score(outputs, &of)
                }))
            }
            shared => Ok(shared.clone()),
        }
    }

    /// The softmax probability of the class that this target names. Targets that do not name a class, among them
    /// [`Target::Top1`] before it is resolved, are returned unchanged.
    #[must_use]
    pub fn probability(self) -> Self {
        match self {
            Self::Class(c) | Self::LogProbability(c) => Self::Probability(c),
            Self::Classes(all) => Self::Probabilities(all),
            other => other,
        }
    }

    /// Replaces [`Target::Top1`] by the classes it stands for; other targets are checked and returned.
    ///
    /// # Errors
    /// If the target does not fit the outputs.
    pub fn resolve(&self, outputs: &Outputs) -> Result<Self> {
        let resolved = match self {
            Self::Top1 => {
                let scores = class_scores(outputs)?;
                let best = scores.argmax(D::Minus1)?.to_device(&Device::Cpu)?.to_vec1::<u32>()?;
                Self::Classes(best.into_iter().map(|c| c as usize).collect())
            }
            other => other.clone(),
        };
        let batch = outputs.primary().dim(0)?;
        let samples: Vec<usize> = (0..batch).collect();
        resolved.score(outputs, &samples)?;
        Ok(resolved)
    }

    /// One score per row of the outputs: `[rows]`. `samples[i]` is the position in the original batch of the
    /// sample that row `i` is a variation of.
    ///
    /// # Errors
    /// If a class or index is out of range, the outputs have an unsuitable shape, or the target is
    /// [`Target::Top1`], which must be resolved first.
    pub fn score(&self, outputs: &Outputs, samples: &[usize]) -> Result<Tensor> {
        let rows = outputs.primary().dim(0)?;
        if rows != samples.len() {
            let problem = format!("has {rows} rows");
            return Err(Error::invalid(
                "model output",
                problem,
                format!("{}, one per sample", samples.len()),
            ));
        }
        match self {
            Self::Class(c) => column(&class_scores(outputs)?, *c),
            Self::Classes(all) => column_per_sample(&class_scores(outputs)?, all, samples),
            Self::Top1 => Err(Error::invalid("target", "top1 is not resolved", "a call of Target::resolve")),
            Self::Difference(a, b) => {
                let scores = class_scores(outputs)?;
                Ok((column(&scores, *a)? - column(&scores, *b)?)?)
            }
            Self::Probability(c) => column(&candle_nn::ops::softmax(&class_scores(outputs)?, 1)?, *c),
            Self::Probabilities(all) => {
                column_per_sample(&candle_nn::ops::softmax(&class_scores(outputs)?, 1)?, all, samples)
            }
            Self::LogProbability(c) => column(&candle_nn::ops::log_softmax(&class_scores(outputs)?, 1)?, *c),
            Self::Neuron(index) => {
                let mut value = outputs.primary().clone();
                let sides = value.dims()[1..].to_vec();
                if index.len() != sides.len() || index.iter().zip(&sides).any(|(i, side)| i >= side) {
                    return Err(Error::invalid(
                        "neuron",
                        format!("index {index:?}"),
                        format!("one index per axis, below {sides:?}"),
                    ));
                }
                for &i in index {
                    value = value.narrow(1, i, 1)?.squeeze(1)?;
                }
                Ok(value)
            }
            Self::Custom(name, score) => {
                let scores = score(outputs, samples)?;
                if scores.dims() != [rows] {
                    let problem = format!("gave shape {:?}", scores.dims());
                    return Err(Error::invalid(format!("target '{name}'"), problem, format!("[{rows}]")));
                }
                Ok(scores)
            }
        }
    }

    /// Scores and their gradients with respect to each output, from which a backward walk starts.
    ///
    /// # Errors
    /// As [`Target::score`].
    pub fn seed(&self, outputs: &Outputs, samples: &[usize]) -> Result<(Tensor, Vec<Tensor>)> {
        let vars: Result<Vec<(String, Var)>> = outputs
            .iter()
            .map(|(name, value)| Ok((name.to_string(), Var::from_tensor(&value.detach())?)))
            .collect();
        let vars = vars?;
        let free = Outputs::new(vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect())?;
        let scores = self.score(&free, samples)?;
        let grads = scores.sum_all()?.backward()?;
        let seeds: Result<Vec<Tensor>> = vars
            .iter()
            .map(|(_, var)| match grads.get(var) {
                Some(grad) => Ok(grad.contiguous()?),
                None => Ok(var.zeros_like()?),
            })
            .collect();
        Ok((scores.detach(), seeds?))
    }
}

fn class_scores(outputs: &Outputs) -> Result<Tensor> {
    let scores = outputs.primary();
    if scores.rank() == 2 {
        return Ok(scores.clone());
    }
    Err(Error::invalid(
        "target",
        format!("is a class, but the model's output has shape {:?}", scores.dims()),
        "an output [N, classes]; for other outputs use Target::custom or Target::Neuron",
    ))
}

fn check_class(class: usize, scores: &Tensor) -> Result<()> {
    let classes = scores.dim(1)?;
    if class < classes {
        return Ok(());
    }
    Err(Error::invalid(
        "target",
        format!("class {class}"),
        format!("a class from 0 to {}", classes.saturating_sub(1)),
    ))
}

fn column(scores: &Tensor, class: usize) -> Result<Tensor> {
    check_class(class, scores)?;
    Ok(scores.narrow(1, class, 1)?.squeeze(1)?)
}

/// For each row the value of its sample's class.
fn column_per_sample(scores: &Tensor, classes: &[usize], samples: &[usize]) -> Result<Tensor> {
    let index: Result<Vec<u32>> = samples
        .iter()
        .map(|&s| {
            let class = *classes.get(s).ok_or_else(|| {
                let expected = format!("one per sample, {} or more", s + 1);
                Error::invalid("target", format!("{} classes given", classes.len()), expected)
            })?;
            check_class(class, scores)?;
            Ok(class as u32)
        })
        .collect();
    let index = Tensor::from_vec(index?, (samples.len(), 1), scores.device())?;
    Ok(scores.contiguous()?.gather(&index, 1)?.squeeze(1)?)
}

/// The class of each row's sample.
fn classes_of(all: &[usize], samples: &[usize]) -> Result<Vec<usize>> {
    let classes: Option<Vec<usize>> = samples.iter().map(|&s| all.get(s).copied()).collect();
    classes.ok_or_else(|| {
        let most = samples.iter().max().map_or(0, |s| s + 1);
        Error::invalid("target", format!("{} classes given", all.len()), format!("{most}, one per sample"))
    })
}

/// A tensor with one axis as numbers.
///
/// # Errors
/// If it has another number of axes.
pub fn to_f64(scores: &Tensor) -> Result<Vec<f64>> {
    scores.dims1()?;
    values::numbers(scores)
}
