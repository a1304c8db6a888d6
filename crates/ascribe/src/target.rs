//! Targets as the command line writes them.

use ascribe_core::{Outputs, Target};

use crate::error::{Error, Result};
use crate::model::Model;

/// Reads a target: `top1`; `top5` (several targets); a class number; a label, matched exactly; `A-B`, the
/// difference of two logits; `prob:C` and `logprob:C`. `outputs` are those of the input to be explained; `topN`
/// counts for its first sample.
///
/// # Errors
/// If the text is none of these; an unknown label suggests near ones.
pub fn parse(text: &str, model: &Model, outputs: &Outputs) -> Result<Vec<Target>> {
    let text = text.trim();
    if let Some(count) = text.strip_prefix("top").and_then(|n| n.parse::<usize>().ok()) {
        return match count {
            0 => Err(Error::request("target", "'top0'", "top1, top5, …")),
            1 => Ok(vec![Target::Top1]),
            _ => {
                let best = model.predictions(outputs, 0, count)?.ok_or_else(|| {
                    Error::request(
                        "target",
                        format!("'{text}' for a model that is not a classifier"),
                        "a neuron",
                    )
                })?;
                Ok(best.into_iter().map(|p| Target::Class(p.class)).collect())
            }
        };
    }
    let class = |text: &str| class(text, model);
    let target = if let Some(of) = text.strip_prefix("prob:") {
        Target::Probability(class(of)?)
    } else if let Some(of) = text.strip_prefix("logprob:") {
        Target::LogProbability(class(of)?)
    } else if let Some((a, b)) = difference(text) {
        Target::Difference(a, b)
    } else {
        Target::Class(class(text)?)
    };
    Ok(vec![target])
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
            "a class number, or --labels",
        )
    })?;
    Ok(labels.find(text.trim().trim_matches(['"', '\'']))?)
}
