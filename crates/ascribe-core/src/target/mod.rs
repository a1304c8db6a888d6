//! What is explained: one score per sample.

use std::fmt::{self, Debug};
use std::sync::Arc;

use candle_core::{D, Device, Tensor, Var};

use crate::error::{Error, Result};
use crate::outputs::{OutputKind, Outputs};
use crate::values;

mod boxes;
mod segment;

pub use boxes::Boxes;
pub use segment::Segments;

/// A function from the outputs and the samples' positions in the original batch to one score per row.
pub type ScoreFn = Arc<dyn Fn(&Outputs, &[usize]) -> Result<Tensor> + Send + Sync>;

/// One score per sample, computed from a model's outputs.
///
/// Class targets refer to the columns of the first output `[N, classes]`; what their probabilities are follows from
/// [`Outputs::kind`].
#[derive(Clone)]
#[non_exhaustive]
pub enum Target {
    /// The output of one class, for all samples: its logit, unless the model ends with a softmax.
    Class(usize),
    /// The output of one class per sample.
    Classes(Vec<usize>),
    /// For each sample the class with the highest output; resolved once, on the input itself. For classes of pixels, the
    /// class that most pixels have; for a model with a single output, that output.
    Top1,
    /// The output of the first class minus that of the second: why the first and not the second?
    Difference(usize, usize),
    /// Probability of a class: softmax, or sigmoid where several labels may hold ([`Outputs::probabilities`]).
    Probability(usize),
    /// Probability of one class per sample.
    Probabilities(Vec<usize>),
    /// Logarithm of the probability of a class.
    LogProbability(usize),
    /// One value of the first output: index of the axes after the batch.
    Neuron(Vec<usize>),
    /// For classes of pixels `[N, C, H, W]`: the mean logit of a class over the pixels that have this class; resolved once,
    /// on the input itself.
    Segment(usize),
    /// As [`Target::Segment`], over given pixels.
    Segments(Segments),
    /// For detectors: the class score of a detection, counted from the best one, 0 ([`crate::Detections::list`]); resolved once,
    /// on the input itself.
    Box(usize),
    /// As [`Target::Box`], for given detections.
    Boxes(Boxes),
    /// One value of an output: its name (the first output without), and an index for each axis after the batch.
    Output(Option<String>, Vec<usize>),
    /// The mean of an output.
    Mean(Option<String>),
    /// The sum of an output.
    Sum(Option<String>),
    /// Cosine similarity of the first output, an embedding, with this vector.
    Similarity(Vec<f64>),
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
            Self::Segment(c) => format!("segment:{c}"),
            Self::Segments(segments) => format!("segment:{:?}", segments.classes()),
            Self::Box(rank) => format!("box:{rank}"),
            Self::Boxes(boxes) => format!("box:{}", boxes.rank()),
            Self::Output(name, index) => format!("output:{}{index:?}", name.as_deref().unwrap_or_default()),
            Self::Mean(name) => format!("mean:{}", name.as_deref().unwrap_or_default()),
            Self::Sum(name) => format!("sum:{}", name.as_deref().unwrap_or_default()),
            Self::Similarity(with) => format!("similarity with a vector of {} values", with.len()),
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
            Self::Segments(segments) => segments
                .classes()
                .get(sample)
                .map_or_else(|| self.describe(), |&class| Self::Segment(class).describe()),
            Self::Boxes(boxes) => match boxes.detections().nth(sample) {
                Some(one) => format!("box:{} (class {})", boxes.rank(), one.class),
                None => self.describe(),
            },
            other => other.describe(),
        }
    }

    /// Whether the target depends on the outputs for the input itself, and has to be resolved ([`Target::resolve`]).
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Top1 | Self::Segment(_) | Self::Box(_))
    }

    /// The class that a sample's score belongs to, if the target is a class.
    pub fn class(&self, sample: usize) -> Option<usize> {
        match self {
            Self::Class(c) | Self::Probability(c) | Self::LogProbability(c) | Self::Segment(c) => Some(*c),
            Self::Classes(all) | Self::Probabilities(all) => all.get(sample).copied(),
            Self::Segments(segments) => segments.classes().get(sample).copied(),
            Self::Boxes(boxes) => boxes.detections().nth(sample).map(|one| one.class),
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
            Self::Segments(segments) => Ok(Self::Segments(segments.for_rows(samples)?)),
            Self::Boxes(boxes) => Ok(Self::Boxes(boxes.for_rows(samples)?)),
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

    /// The probability of the class that this target names, where outputs of this kind have probabilities. Other targets,
    /// among them [`Target::Top1`] before it is resolved, are returned unchanged.
    #[must_use]
    pub fn probability(self, kind: OutputKind) -> Self {
        match self {
            target if !kind.has_probabilities() => target,
            Self::Class(c) | Self::LogProbability(c) => Self::Probability(c),
            Self::Classes(all) => Self::Probabilities(all),
            other => other,
        }
    }

    /// The target for methods that use gradients: a detection stays the candidate that it was ([`Boxes::anchored`]). Other
    /// targets are returned unchanged.
    #[must_use]
    pub fn anchored(self) -> Self {
        match self {
            Self::Boxes(boxes) => Self::Boxes(boxes.anchored()),
            other => other,
        }
    }

    /// Replaces [`Target::Top1`] by the classes or the detections it stands for, [`Target::Segment`] by its pixels, and
    /// [`Target::Box`] by its detections; other targets are checked and returned.
    ///
    /// # Errors
    /// If the target does not fit the outputs.
    pub fn resolve(&self, outputs: &Outputs) -> Result<Self> {
        let resolved = match self {
            Self::Top1 if outputs.kind() == OutputKind::Pixels => Self::Segments(Segments::largest(outputs)?),
            Self::Top1 if outputs.kind() == OutputKind::Boxes => Self::Boxes(Boxes::ranked(outputs, 0)?),
            Self::Box(rank) => Self::Boxes(Boxes::ranked(outputs, *rank)?),
            Self::Top1 if matches!(outputs.kind(), OutputKind::Tokens | OutputKind::Embedding) => {
                return Err(Error::invalid(
                    "target",
                    format!("is a class, but the model's output is taken as {}", outputs.kind()),
                    "one value (Target::Output), Target::Mean, Target::Sum, or Target::Similarity with an embedding",
                ));
            }
            Self::Top1 => {
                let scores = outputs.scores()?;
                let best = scores.argmax(D::Minus1)?.to_device(&Device::Cpu)?.to_vec1::<u32>()?;
                Self::Classes(best.into_iter().map(|c| c as usize).collect())
            }
            Self::Segment(class) => Self::Segments(Segments::of_class(outputs, *class)?),
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
            Self::Class(c) => column(&outputs.scores()?, *c),
            Self::Classes(all) => column_per_sample(&outputs.scores()?, all, samples),
            Self::Top1 | Self::Segment(_) | Self::Box(_) => Err(Error::invalid(
                "target",
                format!("{} is not resolved", self.describe()),
                "a call of Target::resolve",
            )),
            Self::Difference(a, b) => {
                let scores = outputs.scores()?;
                Ok((column(&scores, *a)? - column(&scores, *b)?)?)
            }
            Self::Probability(c) => column(&outputs.probabilities()?, *c),
            Self::Probabilities(all) => column_per_sample(&outputs.probabilities()?, all, samples),
            Self::LogProbability(c) => column(&outputs.log_probabilities()?, *c),
            Self::Neuron(index) => entry(outputs.primary(), index, "neuron"),
            Self::Boxes(boxes) => boxes.score(outputs, samples),
            Self::Segments(segments) => segments.score(outputs.primary(), samples),
            Self::Output(name, index) => entry(outputs.named(name.as_deref())?, index, "output"),
            Self::Mean(name) => Ok(flat(outputs.named(name.as_deref())?)?.mean(1)?),
            Self::Sum(name) => Ok(flat(outputs.named(name.as_deref())?)?.sum(1)?),
            Self::Similarity(with) => similarity(outputs.primary(), with),
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
        let free = outputs.like(vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect())?;
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

/// One value of each row: an index for each axis after the batch.
fn entry(value: &Tensor, index: &[usize], what: &str) -> Result<Tensor> {
    let sides = value.dims().get(1..).unwrap_or_default();
    if index.len() != sides.len() || index.iter().zip(sides).any(|(i, side)| i >= side) {
        return Err(Error::invalid(
            what,
            format!("index {index:?}"),
            format!("one index per axis, below {sides:?}"),
        ));
    }
    let mut value = value.clone();
    for &i in index {
        value = value.narrow(1, i, 1)?.squeeze(1)?;
    }
    Ok(value)
}

/// The values of each row: `[rows, values]`.
fn flat(value: &Tensor) -> Result<Tensor> {
    Ok(value.reshape((value.dim(0)?, ()))?)
}

/// Cosine similarity of each row with a vector: e · v / (‖e‖ ‖v‖).
fn similarity(value: &Tensor, with: &[f64]) -> Result<Tensor> {
    let value = flat(value)?;
    let length = with.iter().map(|v| v * v).sum::<f64>().sqrt();
    if value.dim(1)? != with.len() || length == 0.0 || !length.is_finite() {
        return Err(Error::invalid(
            "similarity",
            format!("a vector of {} values with length {length}", with.len()),
            format!("{} finite values, not all zero, as the embedding", value.dim(1)?),
        ));
    }
    let unit: Vec<f64> = with.iter().map(|v| v / length).collect();
    let unit = Tensor::from_vec(unit, with.len(), value.device())?.to_dtype(value.dtype())?;
    let own = value.sqr()?.sum(1)?.sqrt()?;
    Ok((value.broadcast_mul(&unit)?.sum(1)? / own)?)
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
