//! The error type of the facade.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that does not exist.
    #[error("there is no {what} '{name}'; {}", near(suggestion.as_deref(), candidates))]
    Unknown {
        /// What was looked for.
        what: String,
        /// The name.
        name: String,
        /// The most similar existing name.
        suggestion: Option<String>,
        /// All existing names.
        candidates: Vec<String>,
    },
    /// A configuration cannot be read.
    #[error("configuration of '{id}': {problem}")]
    Config {
        /// The method or metric.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// The request makes no sense.
    #[error("{what}: {problem}; expected {expected}")]
    Request {
        /// Which part of it.
        what: String,
        /// What is wrong.
        problem: String,
        /// What would be right.
        expected: String,
    },
    /// The catalogue itself is broken.
    #[error("the catalogue of methods is broken: {0}")]
    Catalogue(String),
    /// From the core or a method.
    #[error(transparent)]
    Core(#[from] ascribe_core::Error),
    /// From loading a model or an input.
    #[cfg(feature = "models")]
    #[error(transparent)]
    Models(#[from] ascribe_models::Error),
    /// From drawing.
    #[cfg(feature = "viz")]
    #[error(transparent)]
    Viz(#[from] ascribe_viz::Error),
}

impl Error {
    #[cfg(feature = "catalogue")]
    pub(crate) fn unknown<'a>(what: &str, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<String> = candidates.into_iter().map(str::to_string).collect();
        let suggestion = ascribe_core::nearest(name, candidates.iter().map(String::as_str));
        Self::Unknown { what: what.into(), name: name.into(), suggestion, candidates }
    }

    /// An [`Error::Request`] from its three parts.
    pub fn request(what: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Request { what: what.into(), problem: problem.into(), expected: expected.into() }
    }
}

/// The most similar name, or all of them.
fn near(suggestion: Option<&str>, candidates: &[String]) -> String {
    match suggestion {
        Some(name) => format!("did you mean '{name}'?"),
        None => format!("there are {}", candidates.join(", ")),
    }
}
