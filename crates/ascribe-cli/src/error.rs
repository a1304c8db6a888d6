//! Why a command failed, and the exit status for it.

use std::fmt;

use ascribe::catalogue;
use ascribe::core::Needs;

/// Result of a command: what it prints.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The request is wrong: the message says what, and what would be right.
    Request(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// A wrong request.
    pub fn request(message: impl Into<String>) -> Self {
        Self::Request(message.into())
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Request(_) => 2,
            Self::Other(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(message) | Self::Other(message) => f.write_str(message),
        }
    }
}

/// What the library's messages suggest, and what a user of the command line does instead.
const OPTIONS: [(&str, &str); 12] = [
    (
        "one value (Target::Output), Target::Mean, Target::Sum, or Target::Similarity with an embedding",
        "--target output:NAME[i,j], mean:NAME, sum:NAME or similarity:FILE",
    ),
    (
        "(inputs that decide it can be given as constants)",
        "(--constant NAME=NUMBER gives an input that decides it)",
    ),
    ("`OpenOptions::architecture`", "--arch"),
    ("`OpenOptions::labels`", "--labels"),
    ("`Location::Layer`", "--layer"),
    (
        "the sizes of the axes after the batch axis in the load options (input_sides)",
        "--shape NAME=N,N,… with the length of each axis",
    ),
    ("its shape in `OpenOptions::shapes`", "--shape NAME=N,N,… with the length of each axis"),
    ("`OpenOptions::task`", "--task"),
    ("use Target::Segment", "--target segment:C"),
    (
        "use Target::Output, Mean, Sum, Similarity or custom",
        "--target output:NAME[i,j], mean:NAME, sum:NAME or similarity:FILE",
    ),
    (" (max_folded_values)", ""),
    (
        "`Preprocessing::crop` sets the size, `Preprocessing::channels` the channels",
        "--crop sets the size (and --resize what it is cropped from), --channels the channels",
    ),
];

/// The methods that need only the outputs of a model.
fn black_boxes() -> Vec<&'static str> {
    let entries = catalogue::METHODS.entries();
    entries.filter(|entry| entry.needs == Needs::BlackBox).map(|entry| entry.card.id).collect()
}

/// The message of an error, in terms of the command line.
fn words(error: &impl fmt::Display) -> String {
    OPTIONS.iter().fold(error.to_string(), |message, (name, option)| message.replace(name, option))
}

impl From<ascribe::Error> for Failure {
    fn from(error: ascribe::Error) -> Self {
        let message = words(&error);
        match error {
            ascribe::Error::Core(error) => error.into(),
            ascribe::Error::Models(error) => error.into(),
            ascribe::Error::Viz(error) => error.into(),
            _ => Self::Request(message),
        }
    }
}

impl From<ascribe::core::Error> for Failure {
    fn from(error: ascribe::core::Error) -> Self {
        use ascribe::core::Error as Core;
        let message = words(&error);
        match error {
            Core::Flat { .. } => Self::Request(format!("{message}: {}", black_boxes().join(", "))),
            Core::Candle(_)
            | Core::Kernel(_)
            | Core::Io { .. }
            | Core::Serialise { .. }
            | Core::Cancelled { .. } => Self::Other(message),
            Core::Dataset(error) => match error.downcast::<ascribe::Error>() {
                Ok(error) => (*error).into(),
                Err(_) => Self::Request(message),
            },
            _ => Self::Request(message),
        }
    }
}

impl From<ascribe::models::Error> for Failure {
    fn from(error: ascribe::models::Error) -> Self {
        use ascribe::models::Error as Models;
        let message = words(&error);
        match error {
            Models::Fetch(_) => Self::Other(message),
            _ => Self::Request(message),
        }
    }
}

impl From<ascribe::viz::Error> for Failure {
    fn from(error: ascribe::viz::Error) -> Self {
        let message = error.to_string();
        match error {
            ascribe::viz::Error::Setting { .. } => Self::Request(message),
            _ => Self::Other(message),
        }
    }
}
