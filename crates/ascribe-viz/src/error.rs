//! The error type of this crate.

use std::path::PathBuf;

/// An error of this crate. The message says what was wrong, where, and what is expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shape of the attribution is not that of a single map.
    #[error(
        "an attribution of shape {shape:?} cannot be drawn: expected [H, W], [C, H, W] or [1, C, H, W]{hint}"
    )]
    Shape {
        /// The shape of the attribution.
        shape: Vec<usize>,
        /// What to do instead, appended to the message; may be empty.
        hint: String,
    },
    /// The number of values does not fit the stated size.
    #[error("a heatmap of height {height} and width {width} needs {} values, got {found}", .height.saturating_mul(*.width))]
    ValueCount {
        /// Height in cells.
        height: usize,
        /// Width in cells.
        width: usize,
        /// Number of values given.
        found: usize,
    },
    /// A name that does not exist.
    #[error("no {what} is called `{name}`; there are: {valid}")]
    UnknownName {
        /// What it should name, for example "colour map".
        what: &'static str,
        /// The name given.
        name: String,
        /// The valid names, separated by commas.
        valid: String,
    },
    /// A setting is out of range.
    #[error("{what} is {value}: it must be {expected}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// The value given.
        value: f64,
        /// The valid range.
        expected: &'static str,
    },
    /// Parts of a picture, a photograph or a table do not fit together.
    #[error("{what}: {problem}")]
    Layout {
        /// Which part, for example "row 2 of the grid".
        what: String,
        /// What was wrong, and what is expected.
        problem: String,
    },
    /// The picture would be too large.
    #[error(
        "the picture would be {width} × {height} pixels; at most {limit} pixels are drawn: use smaller cells or fewer rows"
    )]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The largest possible number of pixels.
        limit: u64,
    },
    /// The extension of the file is not that of a supported format.
    #[error("cannot write a picture to `{}`: {found}; supported extensions are .png, .jpg, .jpeg and .webp", .path.display())]
    Ending {
        /// The path.
        path: PathBuf,
        /// What is wrong with its extension.
        found: String,
    },
    /// The file could not be written.
    #[error("cannot write `{}`: {source}", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file could not be read.
    #[error("cannot read `{}`: {source}", .path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a picture, or has no metadata of this crate.
    #[error("`{}` has no readable picture metadata: {problem}", .path.display())]
    Metadata {
        /// The path.
        path: PathBuf,
        /// What was wrong.
        problem: String,
    },
    /// The picture could not be encoded.
    #[error("cannot encode the picture as {format}: {problem}")]
    Encode {
        /// The name of the format.
        format: &'static str,
        /// The error of the encoder.
        problem: String,
    },
    /// The tensor could not be read.
    #[error("cannot read the attribution's values: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The template of the report could not be rendered.
    #[error("cannot render the report: {0}")]
    Template(#[from] minijinja::Error),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
