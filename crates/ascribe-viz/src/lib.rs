//! Pictures of attributions: heatmaps, overlays, grids, plots, HTML reports.
//!
//! An attribution is a tensor of signed, unnormalised numbers. This crate turns it into something that a person can
//! look at without being misled:
//!
//! - [`Heatmap`]: one value per place, by a stated channel [`Reduction`]; an all-zero, all-negative or not-a-number
//!   map is a [`Finding`], drawn as it is;
//! - [`Scale`]: percentile clipping, diverging and centred on zero for signed values, sequential for magnitudes;
//! - [`Colormap`]: perceptually uniform maps; [`Style`]: how they are laid over a photograph;
//! - [`Overlay`] (one attribution), [`Grid`] (rows images, columns methods), [`Plot`] (curves): builders that render a
//!   [`Picture`], which knows how it was made ([`Metadata`], kept in the file) and saves itself as png, jpeg or webp;
//! - [`report::Report`]: text, figures, tables and claims as one HTML file.
//!
//! ```
//! use ascribe_viz::{About, Heatmap, Overlay, Reduction, Style};
//! use candle_core::{Device, Tensor};
//! use image::RgbImage;
//!
//! // An attribution as a method returns it: [1, C, H, W], signed.
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
