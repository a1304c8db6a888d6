//! How an attribution is drawn: the map, the photograph under it, and the scale.
//!
//! The command line and all reports use this module, so that a method's maps look the same everywhere.

use std::fmt::Write;
use std::path::Path;

use ascribe_core::Attribution;
use ascribe_models::preprocess::{BoundingBox, DecodeOptions, Prepared, decode};
use ascribe_viz::{About, Heatmap, Overlay, Picture, Reduction, Region, Style};
use image::RgbImage;

use crate::error::{Error, Result};
use crate::model::Model;

/// One sample's map, reduced over channels, with the information whether the value zero is meaningful.
///
/// # Errors
/// If the attribution is not one of images, `[N, C, H, W]`.
pub fn heatmap(attribution: &Attribution, sample: usize) -> Result<Heatmap> {
    let values = attribution.parts[0].arranged()?;
    if values.rank() != 4 {
        return Err(Error::request(
            "picture",
            format!("the attribution has shape {:?}", values.dims()),
            "[N, C, H, W]; other shapes can be written as .safetensors, .npy or .json",
        ));
    }
    let one = values.narrow(0, sample, 1).map_err(ascribe_core::Error::from)?;
    Ok(Heatmap::from_tensor(&one, Reduction::Sum)?.with_relative(attribution.provenance.relative))
}

/// Smooths a map for display by a Gaussian of this width in pixels of the map (`None`: a hundredth of the map's side if it has
/// the input's resolution, else 0). Returns the map and the width.
///
/// # Errors
/// If the width is not finite.
pub fn smoothed(map: Heatmap, input: &Prepared, smoothing: Option<f64>) -> Result<(Heatmap, f64)> {
    let sigma = sigma(&map, input, smoothing);
    Ok((if sigma > 0.0 { map.smooth(sigma)? } else { map }, sigma))
}

fn sigma(map: &Heatmap, input: &Prepared, smoothing: Option<f64>) -> f64 {
    let side = map.height().min(map.width());
    let fine = [map.height(), map.width()] == input.geometry.output;
    smoothing.unwrap_or(if fine { side as f64 / 100.0 } else { 0.0 })
}

/// A photograph, and the part of it that the network saw.
#[derive(Clone, Debug)]
pub struct Photograph {
    /// The photograph, or the network's input if that reaches beyond the photograph.
    pub image: RgbImage,
    /// The part that the network saw; `None` for all of it.
    pub region: Option<Region>,
}

impl Photograph {
    /// Reads the photograph that was prepared for a network.
    ///
    /// # Errors
    /// If the file cannot be decoded.
    pub fn read(path: impl AsRef<Path>, prepared: &Prepared) -> Result<Self> {
        let options = DecodeOptions::default().with_exif_orientation(prepared.turned);
        let photo = decode(path.as_ref(), options)?;
        let geometry = &prepared.geometry;
        let [height, width] = geometry.output.map(|n| n as f64);
        let seen = geometry.to_original(BoundingBox { x0: 0.0, y0: 0.0, x1: width, y1: height });
        let inside = seen.x0 >= 0.0
            && seen.y0 >= 0.0
            && seen.x1 <= f64::from(photo.width()) + 1e-6
            && seen.y1 <= f64::from(photo.height()) + 1e-6
            && geometry.original == [photo.height() as usize, photo.width() as usize];
        if !inside {
            return Ok(Self { image: prepared.image.clone(), region: None });
        }
        let region = Region { x: seen.x0, y: seen.y0, width: seen.x1 - seen.x0, height: seen.y1 - seen.y0 };
        Ok(Self { image: photo, region: Some(region) })
    }
}

/// What a picture says about an explanation: the model, the name of the method, the target and its probability, and, in the
/// picture's metadata, the provenance.
pub fn about(
    attribution: &Attribution,
    target: &str,
    probability: Option<f64>,
    model: &Model,
    method: &str,
) -> About {
    let provenance = serde_json::to_value(&attribution.provenance).unwrap_or_default();
    let about =
        About::new().model(&*model.name).method(method).target(target).extra("provenance", provenance);
    match probability {
        Some(p) => about.probability(p),
        None => about,
    }
}

/// The overlay of one sample over its photograph, with a line of numbers under it.
///
/// # Errors
/// As [`heatmap`], or if it cannot be drawn.
pub fn overlay(
    attribution: &Attribution,
    sample: usize,
    photo: Photograph,
    input: &Prepared,
    about: About,
    smoothing: Option<f64>,
) -> Result<Picture> {
    let map = heatmap(attribution, sample)?;
    let style = Style { smoothing: sigma(&map, input, smoothing), ..Style::default() };
    let mut overlay = Overlay::new(photo.image, map).style(style).about(about).cropped(true);
    if let Some(region) = photo.region {
        overlay = overlay.region(region);
    }
    let provenance = &attribution.provenance;
    let mut note = format!(
        "score {:.4}; {} forward and {} backward rows in {:.2} s",
        provenance.scores.get(sample).copied().unwrap_or(f64::NAN),
        provenance.cost.forward,
        provenance.cost.backward,
        provenance.seconds
    );
    if let Some(gap) = provenance.completeness_gap.as_ref().and_then(|g| g.get(sample)) {
        // Writing to a string cannot fail.
        let _ = write!(note, "; completeness gap {gap:.2e}");
    }
    Ok(overlay.note(note).render()?)
}
