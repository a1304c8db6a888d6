//! What can go wrong while drawing, and how it is said.

use std::path::PathBuf;

/// An error of the picture crate: what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The attribution has a rank or batch size that is no single map.
    #[error(
        "an attribution of shape {shape:?} is no picture: expected [H, W], [C, H, W] or [1, C, H, W]{hint}"
    )]
    Shape {
        /// The shape that came.
        shape: Vec<usize>,
        /// What to do instead; empty, or starting with a space.
        hint: String,
    },
    /// The number of values does not fit the stated size.
    #[error("a heatmap of height {height} and width {width} needs {} values, got {found}", .height.saturating_mul(*.width))]
    ValueCount {
        /// Stated height in cells.
        height: usize,
        /// Stated width in cells.
        width: usize,
        /// How many values came.
        found: usize,
    },
    /// A name that is not one of a closed list.
    #[error("no {what} is called `{name}`; there are: {valid}")]
    UnknownName {
        /// Which list, e.g. "colour map".
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names there are, separated by commas.
        valid: String,
    },
    /// A setting outside its range.
    #[error("{what} is {value}: it must be {expected}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// The value that was asked for.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// A picture, photograph or table whose parts do not fit together.
    #[error("{what}: {problem}")]
    Layout {
        /// Which part, e.g. "row 2 of the grid".
        what: String,
        /// What was wrong and what would be right.
        problem: String,
    },
    /// The picture would be larger than this crate draws.
    #[error(
        "the picture would be {width} × {height} pixels; at most {limit} pixels are drawn: use smaller cells or fewer rows"
    )]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The limit on width × height.
        limit: u64,
    },
    /// The file's ending does not name a format that can be written.
    #[error("cannot write a picture to `{}`: {found}; supported endings are .png, .jpg, .jpeg and .webp", .path.display())]
    Ending {
        /// The path that was asked for.
        path: PathBuf,
        /// What its ending is.
        found: String,
    },
    /// The file could not be written.
    #[error("cannot write `{}`: {source}", .path.display())]
    Write {
        /// The path that was asked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file could not be read.
    #[error("cannot read `{}`: {source}", .path.display())]
    Read {
        /// The path that was asked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no picture, or its metadata is not this crate's.
    #[error("`{}` carries no readable picture metadata: {problem}", .path.display())]
    Metadata {
        /// The path that was asked for.
        path: PathBuf,
        /// What was wrong.
        problem: String,
    },
    /// The encoder refused the picture.
    #[error("cannot encode the picture as {format}: {problem}")]
    Encode {
        /// The format's name.
        format: &'static str,
        /// The encoder's reason.
        problem: String,
    },
    /// The tensor could not be read.
    #[error("cannot read the attribution's values: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The report's template failed.
    #[error("cannot render the report: {0}")]
    Template(#[from] minijinja::Error),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
