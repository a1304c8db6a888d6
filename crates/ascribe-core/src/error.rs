//! The error type of this crate.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in `ascribe-core`.
///
/// Each message says what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator of a graph failed; `source` says why.
    #[error("node '{node}' ({op}): {source}")]
    Node {
        /// Name of the node.
        node: String,
        /// Name of its operator.
        op: String,
        /// What went wrong there.
        #[source]
        source: Box<Error>,
    },
    /// A value has the wrong shape, type or content.
    #[error("{what}: {problem}; expected {expected}")]
    Invalid {
        /// Which value.
        what: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        expected: String,
    },
    /// A method or a metric that does not exist.
    #[error("there is no {what} '{name}'; {hint}")]
    Unknown {
        /// What was looked for.
        what: String,
        /// The name.
        name: String,
        /// The most similar existing name, or all of them.
        hint: String,
    },
    /// A configuration cannot be read.
    #[error("configuration of '{id}': {problem}")]
    Config {
        /// The method or metric.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// A node name that the graph does not have.
    #[error("no node is called '{name}'{}", suggestion.as_ref().map(|s| format!("; did you mean '{s}'?")).unwrap_or_default())]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// The most similar existing name.
        suggestion: Option<String>,
    },
    /// A backward rule has no definition for a node's operator.
    #[error("rule '{rule}' is not defined for node '{node}' ({op}): {why}")]
    UndefinedRule {
        /// The rule.
        rule: String,
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// Why the rule cannot be applied, and what could be used instead.
        why: String,
    },
    /// The method cannot be applied to this model.
    #[error("{method} cannot explain this model: {why}")]
    Unsupported {
        /// Identifier of the method.
        method: String,
        /// Reason, and what to use instead.
        why: String,
    },
    /// The score depends on what is explained only through operators without gradient.
    #[error(
        "the output is piecewise constant: {op} '{node}' has no gradient; methods that need only the outputs of a model can \
         explain it"
    )]
    Flat {
        /// The first such node on the way back from the output.
        node: String,
        /// Its operator.
        op: String,
    },
    /// The run was cancelled through [`crate::Run`].
    #[error("cancelled after {done} of {total} steps")]
    Cancelled {
        /// Steps done.
        done: usize,
        /// Steps planned.
        total: usize,
    },
    /// A dataset could not make or read a sample, by an error of its own.
    #[error(transparent)]
    Dataset(Box<dyn std::error::Error + Send + Sync>),
    /// An error of the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// An error of a kernel.
    #[error(transparent)]
    Kernel(#[from] ascribe_kernels::KernelError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A value could not be serialised.
    #[error("cannot serialise {what}: {problem}")]
    Serialise {
        /// What.
        what: String,
        /// Why.
        problem: String,
    },
}

impl Error {
    /// An [`Error::Invalid`] from its three parts.
    pub fn invalid(what: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), problem: problem.into(), expected: expected.into() }
    }

    /// An [`Error::Unknown`] that suggests a name: the given one, or the most similar of the candidates.
    pub fn unknown<'a>(
        what: &str,
        name: &str,
        suggestion: Option<&str>,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        let similar = || crate::nearest(name, candidates.iter().copied());
        let hint = match suggestion.map(str::to_string).or_else(similar) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("there are {}", candidates.join(", ")),
        };
        Self::Unknown { what: what.into(), name: name.into(), hint }
    }

    /// Adds the node of a graph at which this error happened.
    #[must_use]
    pub fn at(self, node: &str, op: &str) -> Self {
        match self {
            already @ (Self::Node { .. }
            | Self::UndefinedRule { .. }
            | Self::Flat { .. }
            | Self::Cancelled { .. }) => already,
            source => Self::Node { node: node.into(), op: op.into(), source: Box::new(source) },
        }
    }
}
