//! Pictures of attributions: heatmaps, overlays, grids, plots, HTML reports.
//!
//! An attribution is a tensor of signed, unnormalised numbers. This crate draws it such that the picture does not
//! mislead:
//!
//! - [`Heatmap`]: one value per position, by a stated channel [`Reduction`]. A map that is all zero, has no positive
//!   value or contains NaN is drawn unchanged and reported as a [`Finding`];
//! - [`Scale`]: percentile clipping; diverging and centred on zero for signed values, sequential for magnitudes;
//! - [`Colormap`]: perceptually uniform colour maps; [`Style`]: how they are blended with a photograph;
//! - [`Overlay`] (one attribution), [`Grid`] (one row per image, one column per method), [`Plot`] (curves): builders
//!   that render a [`Picture`], which contains [`Metadata`] on how it was made and can be saved as PNG, JPEG or WebP;
//! - [`report::Report`]: text, figures, tables and claims as one HTML file.
//!
//! ```
//! use ascribe_viz::{About, Heatmap, Overlay, Reduction, Style};
//! use candle_core::{Device, Tensor};
//! use image::RgbImage;
//!
//! // A signed attribution of shape [1, C, H, W], as a method returns it.
//! let attribution = Tensor::randn(0f32, 1.0, (1, 3, 14, 14), &Device::Cpu)?;
//! let photo = RgbImage::from_pixel(224, 224, image::Rgb([120, 100, 80]));
//!
//! let picture = Overlay::new(photo, Heatmap::from_tensor(&attribution, Reduction::Sum)?)
//!     .about(About::new().model("resnet50").method("Saliency").target("Egyptian cat (285)").probability(0.62))
//!     .style(Style { percentile: 99.0, ..Style::default() })
//!     .render()?;
//! for finding in picture.findings() {
//!     eprintln!("{finding}");
//! }
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("cat.png");
//! picture.save(&path)?;
//! assert_eq!(ascribe_viz::Metadata::read(&path)?.panels[0].scale.percentile, 99.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
mod paint;
mod plot;
pub mod report;
mod resample;
mod scale;
mod scene;
mod setters;
mod style;
mod text;
mod write;

pub use ascribe_core::Reduction;
pub use colormap::Colormap;
pub use error::{Error, Result};
pub use finding::{Finding, FindingKind};
pub use grid::{Bars, Grid, GridRow};
pub use heatmap::{Heatmap, Upsampling};
pub use metadata::{About, METADATA_KEYWORD, Metadata, PanelInfo};
pub use overlay::Overlay;
pub use paint::Region;
pub use plot::{Plot, Series};
pub use scale::{DEFAULT_PERCENTILE, Scale, ScaleKind, percentile};
pub use style::{Backdrop, Style};
pub use write::{Format, Picture};
