//! Targets as text, such as `top1`, `281`, `tabby` or `prob:281`.

use ascribe_core::{DType, OutputKind, Outputs, Score, Target};
use ascribe_models::tensors;

use crate::error::{Error, Result};
use crate::model::Model;

/// The score of a class, as the prefix of a text states it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Logit,
    Probability,
    LogProbability,
}

/// The form of a text, and what follows its prefix.
fn form(text: &str) -> (Form, &str) {
    let text = text.trim();
    match text.split_once(':') {
        Some(("logit", of)) => (Form::Logit, of.trim()),
        Some(("prob", of)) => (Form::Probability, of.trim()),
        Some(("logprob", of)) => (Form::LogProbability, of.trim()),
        _ => (Form::Plain, text),
    }
}

/// Reads a target:
///
/// - `top1`, `top5` (several targets, for each sample its own classes), a class number, a label, matched exactly; `A-B`, the
///   difference of two logits. `score` is what scores a class, unless the text says it: `logit:C`, `prob:C` and
///   `logprob:C`, where C is a class, a label, `top1` or `top5`.
/// - `box:K`, the class score of detection K of a detector, counted from the best one, 0.
/// - `segment:C`, the mean logit of a class over the pixels that have it.
/// - `output:NAME[i,j,…]`, one value of an output (the first without NAME); `mean:NAME` and `sum:NAME`.
/// - `similarity:FILE`, cosine similarity of the first output with the vector in a `.safetensors` or `.npy` file.
///
/// `outputs` are those of the input to be explained.
///
/// # Errors
/// If the text is none of these; an unknown label suggests near ones.
pub fn parse(text: &str, score: Score, model: &Model, outputs: &Outputs) -> Result<Vec<Target>> {
    if let Some(target) = other(text, model)? {
        return Ok(vec![target]);
    }
    let (form, of) = form(text);
    if form == Form::Plain
        && let Some((a, b)) = difference(of)
    {
        return Ok(vec![Target::Difference(a, b)]);
    }
    let kind = outputs.kind();
    let targets = classes(of, model, outputs)?;
    let scored = |target: Target| {
        if form == Form::Logit || (form == Form::Plain && score == Score::Logit) {
            return Ok(target);
        }
        if form != Form::Plain && !kind.has_probabilities() {
            return Err(Error::request(
                "target",
                format!("'{text}', but the model's output is taken as {kind}, which has no probabilities"),
                "another target, or the task of the model (`OpenOptions::task`)",
            ));
        }
        let target = target.resolve(outputs)?;
        match (form, target) {
            (Form::LogProbability, Target::Class(c)) => Ok(Target::LogProbability(c)),
            (Form::LogProbability, Target::Classes(all)) => match *all {
                [c] => Ok(Target::LogProbability(c)),
                _ => Err(Error::request(
                    "target",
                    format!("'{text}' for {} samples", all.len()),
                    "prob:top1, or logprob: with a class",
                )),
            },
            (_, target) => Ok(target.probability(kind)),
        }
    };
    targets.into_iter().map(scored).collect()
}

/// Targets that are not scores of classes of the whole input.
#[derive(Clone, Copy)]
enum Other {
    Segment,
    Box,
    Output,
    Mean,
    Sum,
    Similarity,
}

/// The kind of a text that is no score of a class of the whole input, and what follows its prefix.
fn prefixed(text: &str) -> Option<(Other, &str)> {
    let (prefix, of) = text.trim().split_once(':')?;
    let kind = match prefix {
        "segment" => Other::Segment,
        "box" => Other::Box,
        "output" => Other::Output,
        "mean" => Other::Mean,
        "sum" => Other::Sum,
        "similarity" => Other::Similarity,
        _ => return None,
    };
    Some((kind, of.trim()))
}

/// The target of such a text.
fn other(text: &str, model: &Model) -> Result<Option<Target>> {
    let Some((kind, of)) = prefixed(text) else { return Ok(None) };
    let name = |name: &str| Some(name.trim().to_string()).filter(|name| !name.is_empty());
    Ok(Some(match kind {
        Other::Segment => Target::Segment(class(of, model)?),
        Other::Mean => Target::Mean(name(of)),
        Other::Sum => Target::Sum(name(of)),
        Other::Box => Target::Box(of.parse().map_err(|_| {
            let expected = "box:0 for the best detection, box:1 for the next, …";
            Error::request("target", format!("'{text}'"), expected)
        })?),
        Other::Output => {
            let parts = of.strip_suffix(']').and_then(|of| of.rsplit_once('['));
            let index = parts.and_then(|(_, index)| {
                let numbers = index.split(',').filter(|part| !part.trim().is_empty());
                numbers.map(|part| part.trim().parse().ok()).collect::<Option<Vec<usize>>>()
            });
            let (Some((own, _)), Some(index)) = (parts, index) else {
                let expected = "output:NAME[i,j,…], with an index for each axis after the batch";
                return Err(Error::request("target", format!("'{text}'"), expected));
            };
            Target::Output(name(own), index)
        }
        Other::Similarity => Target::Similarity(vector(of)?),
    }))
}

/// The values of the only tensor in a file.
fn vector(path: &str) -> Result<Vec<f64>> {
    let file = tensors::read(path)?;
    let mut all = file.iter();
    let (Some((_, tensor)), None) = (all.next(), all.next()) else {
        let problem = format!("'{path}' holds {} tensors", file.len());
        return Err(Error::request("similarity", problem, "one, the embedding to compare with"));
    };
    let read = || tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    Ok(read().map_err(ascribe_core::Error::from)?)
}

/// One sample's target in words: label and class.
pub fn words(target: &Target, sample: usize, model: &Model) -> String {
    let name = |class: usize| match model.label(class) {
        Some(label) => format!("{label} ({class})"),
        None => format!("class {class}"),
    };
    match target {
        Target::Difference(a, b) => format!("{} rather than {}", name(*a), name(*b)),
        Target::Probability(c) => format!("probability of {}", name(*c)),
        Target::Probabilities(_) => {
            target.class(sample).map_or_else(|| target.describe(), |c| format!("probability of {}", name(c)))
        }
        Target::LogProbability(c) => format!("log-probability of {}", name(*c)),
        Target::Segment(_) | Target::Segments(_) => match target.class(sample) {
            Some(class) => format!("pixels of {}", name(class)),
            None => target.describe(),
        },
        Target::Boxes(boxes) => match target.class(sample) {
            Some(class) => format!("box {}, {}", boxes.rank(), name(class)),
            None => target.describe(),
        },
        other => other.class(sample).map_or_else(|| other.describe_sample(sample), name),
    }
}

/// Whether a text leaves the choice of the score to the method.
pub fn leaves_score(text: &str) -> bool {
    let (form, of) = form(text);
    form == Form::Plain && difference(of).is_none() && prefixed(text).is_none()
}

/// The classes that `top1`, `topN`, a number or a label stand for.
fn classes(text: &str, model: &Model, outputs: &Outputs) -> Result<Vec<Target>> {
    let Some(count) = text.strip_prefix("top").and_then(|n| n.parse::<usize>().ok()) else {
        return Ok(vec![Target::Class(class(text, model)?)]);
    };
    match count {
        0 => Err(Error::request("target", "'top0'", "top1, top5, …")),
        1 => Ok(vec![Target::Top1]),
        _ if outputs.kind() == OutputKind::Boxes => Ok((0..count).map(Target::Box).collect()),
        _ => {
            let samples = outputs.primary().dim(0).map_err(ascribe_core::Error::from)?;
            let mut best = Vec::with_capacity(samples);
            for sample in 0..samples {
                best.push(model.predictions(outputs, sample, count)?.ok_or_else(|| {
                    let problem = format!("'{text}', but the model's output is taken as {}", outputs.kind());
                    Error::request("target", problem, "top1, or a target of another kind")
                })?);
            }
            let rank = |rank: usize| match best.as_slice() {
                [one] => Target::Class(one[rank].class),
                all => Target::Classes(all.iter().map(|best| best[rank].class).collect()),
            };
            let shown = best.iter().map(Vec::len).min().unwrap_or(0);
            Ok((0..shown).map(rank).collect())
        }
    }
}

/// `A-B` with two numbers; labels may contain hyphens.
fn difference(text: &str) -> Option<(usize, usize)> {
    let (a, b) = text.split_once('-')?;
    Some((a.trim().parse().ok()?, b.trim().parse().ok()?))
}

fn class(text: &str, model: &Model) -> Result<usize> {
    if let Ok(number) = text.trim().parse() {
        return Ok(number);
    }
    if text.trim().bytes().all(|b| b.is_ascii_digit()) && !text.trim().is_empty() {
        return Err(Error::request("target", format!("class {}", text.trim()), "one that the model has"));
    }
    let labels = model.labels.as_ref().ok_or_else(|| {
        Error::request(
            "target",
            format!("'{text}' is not a number and the model has no labels"),
            "a class number, or `OpenOptions::labels`",
        )
    })?;
    Ok(labels.find(text.trim().trim_matches(['"', '\'']))?)
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Device, GraphBuilder, Tensor, ops::Structure};
    use ascribe_models::labels::Labels;
    use ascribe_models::preprocess::Preprocessing;

    use super::*;

    /// A model with the first classes of ImageNet, and outputs of two samples.
    fn model() -> (Model, Outputs) {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(4)]);
        let y = b.op("y", Structure::Identity, &[x]).unwrap();
        let labels = Labels::new(["tench", "goldfish", "great white shark", "tiger shark"]);
        let model =
            Model::new("test", b.finish(&[y]).unwrap(), Preprocessing::imagenet()).with_labels(labels);
        let rows = Tensor::new(&[[0.0, 3.0, 1.0, 2.0], [5.0, 3.0, 1.0, 2.0]], &Device::Cpu).unwrap();
        (model, Outputs::new(vec![("y".into(), rows)]).unwrap())
    }

    fn words(text: &str, score: Score) -> Vec<String> {
        let (model, outputs) = model();
        parse(text, score, &model, &outputs).unwrap().iter().map(Target::describe).collect()
    }

    #[test]
    fn a_class_is_scored_as_the_method_or_the_text_says() {
        for (text, logit, probability) in [
            ("top1", "top1", "prob:[1, 0]"),
            ("2", "2", "prob:2"),
            ("goldfish", "1", "prob:1"),
            ("1-2", "1-2", "1-2"),
            ("logit:2", "2", "2"),
            ("logit:top1", "top1", "top1"),
            ("prob:'goldfish'", "prob:1", "prob:1"),
            ("prob:top1", "prob:[1, 0]", "prob:[1, 0]"),
            (" logprob: 3 ", "logprob:3", "logprob:3"),
        ] {
            assert_eq!(words(text, Score::Logit), [logit], "{text}");
            assert_eq!(words(text, Score::Probability), [probability], "{text}");
            assert_eq!(leaves_score(text), logit != probability, "{text}");
        }
        // Each sample has its own classes.
        assert_eq!(words("top3", Score::Logit), ["[1, 0]", "[3, 1]", "[2, 3]"]);
        assert_eq!(words("top2", Score::Probability), ["prob:[1, 0]", "prob:[3, 1]"]);
        for (text, described) in [
            ("segment:2", "segment:2"),
            ("segment:tench", "segment:0"),
            ("output:y[1]", "output:y[1]"),
            ("output:[0, 3]", "output:[0, 3]"),
            ("mean:", "mean:"),
            ("sum:y", "sum:y"),
            ("box:3", "box:3"),
        ] {
            assert_eq!(words(text, Score::Probability), [described], "{text}");
            assert!(!leaves_score(text), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (mut model, outputs) = model();
        for (text, word) in [
            ("top0", "top1"),
            ("goldfsh", "goldfish"),
            ("prob:", "label"),
            ("logprob:top1", "2 samples"),
            ("prob:7", "class 7"),
            ("output:y", "output:NAME[i,j,…]"),
            ("box:a", "box:0"),
        ] {
            let error = parse(text, Score::Logit, &model, &outputs).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        model.labels = None;
        let error = parse("goldfish", Score::Logit, &model, &outputs).unwrap_err().to_string();
        assert!(error.contains("OpenOptions::labels"), "{error}");
    }
}
