//! The error type of the facade.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is invalid.
    #[error("{what}: {problem}; expected {expected}")]
    Request {
        /// Which part of it.
        what: String,
        /// What is wrong.
        problem: String,
        /// What would be right.
        expected: String,
    },
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
    /// An [`Error::Request`] from its three parts.
    pub fn request(what: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Request { what: what.into(), problem: problem.into(), expected: expected.into() }
    }
}
