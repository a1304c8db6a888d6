//! wip
mod colormap;
mod error;
mod finding;
mod heatmap;
mod oklab;
mod resample;
mod scale;
pub use colormap::Colormap;
pub use error::{Error, Result};
pub use finding::{Finding, FindingKind};
pub use heatmap::{Heatmap, Reduction, Upsampling};
pub use scale::{DEFAULT_PERCENTILE, Scale, ScaleKind, percentile};
