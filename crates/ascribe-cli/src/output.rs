//! Where results go.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ascribe::core::{Attribution, Target};
use ascribe::models::preprocess::Prepared;
use ascribe::models::tensors;
use ascribe::viz::{About, Heatmap, Overlay, Picture, Reduction, Region, ScaleKind, Style};
use ascribe::{Model, catalogue};
use image::RgbImage;

use crate::error::{Failure, Result};

/// What a file is, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `.png`, `.jpg`, `.jpeg`, `.webp`.
    Picture,
    /// `.safetensors`, `.npy`.
    Values,
    /// `.json`.
    Json,
    /// `.csv`.
    Csv,
    /// `.html`.
    Report,
}

/// The forms of the output files, among those that a command writes; checked before anything is computed.
pub fn forms(paths: &[PathBuf], allowed: &[Form]) -> Result<Vec<Form>> {
    paths
        .iter()
        .map(|path| {
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
            let form = match ending.as_str() {
                "png" | "jpg" | "jpeg" | "webp" => Some(Form::Picture),
                "safetensors" | "npy" => Some(Form::Values),
                "json" => Some(Form::Json),
                "csv" => Some(Form::Csv),
                "html" | "htm" => Some(Form::Report),
                _ => None,
            };
            let Some(form) = form.filter(|f| allowed.contains(f)) else {
                let endings: Vec<&str> = allowed.iter().map(|f| f.endings()).collect();
                return Err(Failure::request(format!(
                    "output '{}': the ending '{ending}' is not one of {}",
                    path.display(),
                    endings.join(", ")
                )));
            };
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                let message =
                    format!("output '{}': there is no folder '{}'", path.display(), folder.display());
                return Err(Failure::request(message));
            }
            if path.is_dir() {
                return Err(Failure::request(format!("output '{}': this is a folder", path.display())));
            }
            Ok(form)
        })
        .collect()
}

impl Form {
    fn endings(self) -> &'static str {
        match self {
            Self::Picture => ".png, .jpg, .webp",
            Self::Values => ".safetensors, .npy",
            Self::Json => ".json",
            Self::Csv => ".csv",
            Self::Report => ".html",
        }
    }
}

/// The path with a suffix before its ending, for one of several explanations.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{suffix}.{ending}"))
}

/// A JSON value with a line break.
pub fn json_text(value: &serde_json::Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).map_err(|e| Failure::Other(e.to_string()))? + "\n")
}

/// Writes text completely or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    Ok(ascribe::core::file::write(path, text.as_bytes())?)
}

/// Columns aligned by spaces, widths counted in characters.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut all: Vec<Vec<String>> = vec![head.iter().map(ToString::to_string).collect()];
    all.extend(rows);
    let width = |column: usize| {
        all.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"))
}

/// Whether a file of this ending can hold the values.
pub fn check_values(attribution: &Attribution, path: &Path) -> Result<()> {
    if is_npy(path) && attribution.parts.len() > 1 {
        let message =
            format!("output '{}': .npy holds one tensor, this attribution has several", path.display());
        return Err(Failure::request(message));
    }
    Ok(())
}

/// Raw values, with provenance in the metadata where the format has one.
pub fn save_values(attribution: &Attribution, path: &Path) -> Result<()> {
    if is_npy(path) {
        return Ok(tensors::write_npy(path, attribution.values())?);
    }
    Ok(attribution.save(path)?)
}

/// One sample's map, reduced over channels.
pub fn heatmap(attribution: &Attribution, sample: usize) -> Result<Heatmap> {
    let values = attribution.values();
    if values.rank() != 4 {
        return Err(Failure::request(format!(
            "the attribution has shape {:?}; a picture needs [N, C, H, W]: write .safetensors, .npy or .json",
            values.dims()
        )));
    }
    let one = values.narrow(0, sample, 1).map_err(ascribe::core::Error::from)?;
    Ok(Heatmap::from_tensor(&one, Reduction::Sum)?)
}

/// The photograph, and the part of it that the network saw.
pub fn photograph(path: &Path, prepared: &Prepared) -> Result<(RgbImage, Option<Region>)> {
    let options = ascribe::models::preprocess::DecodeOptions::default();
    let photo = ascribe::models::preprocess::decode(path, options)?;
    let geometry = &prepared.geometry;
    let [height, width] = geometry.output.map(|n| n as f64);
    let seen = geometry.to_original(ascribe::models::preprocess::BoundingBox {
        x0: 0.0,
        y0: 0.0,
        x1: width,
        y1: height,
    });
    let inside = seen.x0 >= 0.0
        && seen.y0 >= 0.0
        && seen.x1 <= f64::from(photo.width()) + 1e-6
        && seen.y1 <= f64::from(photo.height()) + 1e-6
        && geometry.original == [photo.height() as usize, photo.width() as usize];
    if inside {
        let region = Region { x: seen.x0, y: seen.y0, width: seen.x1 - seen.x0, height: seen.y1 - seen.y0 };
        return Ok((photo, Some(region)));
    }
    // The crop reaches beyond the photograph, or it was turned: what the network saw is shown instead.
    Ok((prepared.image.clone(), None))
}

/// The style for a method's map: fine maps are smoothed a little for display, which the picture says, and maps of
/// which only differences have a meaning are spread over all colours.
pub fn style(map: &Heatmap, method: &str, input: &Prepared, smoothing: Option<f64>) -> Style {
    let relative = catalogue::method(method).is_ok_and(|m| m.relative);
    let side = map.height().min(map.width());
    let fine = [map.height(), map.width()] == input.geometry.output;
    let smoothing = smoothing.unwrap_or(if fine { side as f64 / 100.0 } else { 0.0 });
    Style { smoothing, scale: relative.then_some(ScaleKind::Range), ..Style::default() }
}

/// The target in words: label and class.
pub fn target_words(target: &Target, sample: usize, model: &Model) -> String {
    let name = |class: usize| match model.label(class) {
        Some(label) => format!("{label} ({class})"),
        None => format!("class {class}"),
    };
    match target {
        Target::Difference(a, b) => format!("{} rather than {}", name(*a), name(*b)),
        Target::Probability(c) => format!("probability of {}", name(*c)),
        Target::Probabilities(_) => {
            target.class(sample).map_or_else(|| target.describe(), |c| format!("probability of {}", name(c)))
        }
        Target::LogProbability(c) => format!("log-probability of {}", name(*c)),
        other => other.class(sample).map_or_else(|| other.describe_sample(sample), name),
    }
}

/// What a picture says about an explanation.
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

/// The overlay of one sample.
pub fn overlay(
    attribution: &Attribution,
    sample: usize,
    photo: (RgbImage, Option<Region>),
    input: &Prepared,
    about: About,
    smoothing: Option<f64>,
) -> Result<Picture> {
    let map = heatmap(attribution, sample)?;
    let provenance = &attribution.provenance;
    let style = style(&map, &provenance.method, input, smoothing);
    let mut overlay = Overlay::new(photo.0, map).style(style).about(about).cropped(true);
    if let Some(region) = photo.1 {
        overlay = overlay.region(region);
    }
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
    overlay = overlay.note(note);
    Ok(overlay.render()?)
}
