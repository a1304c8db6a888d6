//! wip
#![allow(dead_code)]
mod canvas;
mod colorbar;
mod colormap;
mod error;
mod finding;
mod grid;
mod heatmap;
mod metadata;
mod number;
mod oklab;
mod overlay;
mod plot;
mod resample;
mod scale;
mod scene;
mod style;
mod text;
mod write;

pub use colormap::Colormap;
pub use error::{Error, Result};
pub use finding::{Finding, FindingKind};
pub use grid::{Bars, Grid, GridRow};
pub use heatmap::{Heatmap, Reduction, Upsampling};
pub use metadata::{About, METADATA_KEYWORD, Metadata, PanelInfo};
pub use overlay::Overlay;
pub use plot::{Plot, Series};
pub use scale::{DEFAULT_PERCENTILE, Scale, ScaleKind, percentile};
pub use style::{Backdrop, Region, Style};
pub use write::{Format, Picture, write_atomic};
