//! The error type of this crate.

use std::path::{Path, PathBuf};

use crate::fetch::FetchError;
use crate::onnx::NodeProblem;
use crate::weights::ParameterMismatch;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong when models, weights, images and labels are loaded.
///
/// Each message says what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error when a file was read or written.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The contents of a file are not valid in its format: it is truncated, corrupt, or of another kind.
    #[error("'{}' is not a usable {format}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An ONNX file has nodes that cannot be loaded; they are all listed.
    #[error("'{}' cannot be loaded because of {} of its nodes:{}", path.display(), nodes.len(), list(nodes))]
    Nodes {
        /// The file.
        path: PathBuf,
        /// The nodes, with the reasons.
        nodes: Vec<NodeProblem>,
    },
    /// A value that the user gave is out of range, or does not fit another value.
    #[error("{what}: {problem}; expected {expected}")]
    Invalid {
        /// Which value.
        what: String,
        /// What is wrong with it.
        problem: String,
        /// What is expected.
        expected: String,
    },
    /// Parameters are missing, unexpected or of the wrong shape.
    #[error(transparent)]
    Parameters(#[from] ParameterMismatch),
    /// A parameter that the state dict does not have.
    #[error("there is no parameter '{name}'{}", did_you_mean(near))]
    UnknownParameter {
        /// The name asked for.
        name: String,
        /// Similar names that exist.
        near: Vec<String>,
    },
    /// A model name that the registry does not have.
    #[error("there is no model '{name}' in the registry (`ascribe models` lists them){}", did_you_mean(near))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// Similar names that exist.
        near: Vec<String>,
    },
    /// An architecture that the zoo does not have.
    #[error("there is no architecture '{name}' in the zoo; {}", near_or_all(near))]
    UnknownArchitecture {
        /// The name asked for.
        name: String,
        /// Similar names that exist.
        near: Vec<String>,
    },
    /// A label that is not among the model's class names.
    #[error("there is no class labelled '{label}'{}", did_you_mean(near))]
    UnknownLabel {
        /// The label asked for.
        label: String,
        /// Similar labels that exist.
        near: Vec<String>,
    },
    /// Several classes have the same label.
    #[error("the label '{label}' belongs to {} classes ({}); give the class number instead", classes.len(), join(classes))]
    AmbiguousLabel {
        /// The label asked for.
        label: String,
        /// Numbers of the classes that have it.
        classes: Vec<usize>,
    },
    /// Weights could not be downloaded, and are not on this machine.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A graph could not be built, or a value in it cannot be used.
    #[error(transparent)]
    Graph(#[from] ascribe_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, format: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), format, problem: problem.into() }
    }

    pub(crate) fn invalid(
        what: impl Into<String>,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Invalid { what: what.into(), problem: problem.into(), expected: expected.into() }
    }
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!("; did you mean '{one}'?"),
        [most @ .., last] => format!("; did you mean '{}' or '{last}'?", most.join("', '")),
    }
}

/// Similar architectures, or all of them if none is similar.
fn near_or_all(near: &[String]) -> String {
    if let Some(near) = did_you_mean(near).strip_prefix("; ") {
        return near.into();
    }
    let all: Vec<&str> = crate::zoo::architectures().iter().map(|a| a.name).collect();
    format!("there are {}", all.join(", "))
}

fn list(nodes: &[NodeProblem]) -> String {
    nodes.iter().fold(String::new(), |text, node| text + "\n  " + &node.to_string())
}

fn join(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Up to `limit` of `names` that resemble `wanted`, best first.
///
/// A name is similar when it contains `wanted` (ignoring case), or when its normalised Damerau-Levenshtein similarity
/// is at least one half.
pub(crate) fn nearest<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
    limit: usize,
) -> Vec<String> {
    let lower = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let candidate = name.to_lowercase();
            let similarity = strsim::normalized_damerau_levenshtein(&lower, &candidate);
            let contained = lower.len() > 2 && candidate.contains(&lower);
            let score = if contained { similarity + 1.0 } else { similarity };
            (score >= 0.5).then_some((score, name))
        })
        .collect();
    // The sort is stable: names with equal scores keep their order.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(limit);
    scored.into_iter().map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_prefers_contained_then_similar() {
        let names = ["tabby", "tiger cat", "Egyptian cat", "tiger"];
        assert_eq!(nearest("egyptian", names, 3), ["Egyptian cat"]);
        assert_eq!(nearest("tigr", names, 3), ["tiger"]);
        assert!(nearest("zzzzzz", names, 3).is_empty());
    }

    #[test]
    fn messages_suggest_what_would_be_right() {
        let error =
            Error::UnknownModel { name: "resnet5".into(), near: vec!["resnet50".into(), "resnet152".into()] };
        assert_eq!(
            error.to_string(),
            "there is no model 'resnet5' in the registry (`ascribe models` lists them); did you mean 'resnet50' or 'resnet152'?"
        );
    }
}
