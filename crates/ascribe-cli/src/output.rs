//! Output files and tables.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ascribe::core::Attribution;
use ascribe::models::tensors;

use crate::error::{Failure, Result};

/// What a file holds, as its ending says.
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

/// What each output file holds. A command checks this, with the forms that it can write, before it computes anything.
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
                    "--output {}: the ending '{ending}' is not one of {}",
                    path.display(),
                    endings.join(", ")
                )));
            };
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                let message =
                    format!("--output {}: there is no folder '{}'", path.display(), folder.display());
                return Err(Failure::request(message));
            }
            if path.is_dir() {
                return Err(Failure::request(format!("--output {}: this is a folder", path.display())));
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

/// A value of a card, as it is written in JSON.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => other.map(|value| value.to_string()).unwrap_or_default(),
    }
}

/// The last part of the description of a method or metric: its settings with their defaults.
pub fn settings(config: &serde_json::Value) -> String {
    fields("settings (--set KEY=VALUE) and their defaults", config)
}

/// The fields of a configuration, under a heading.
pub fn fields(heading: &str, config: &serde_json::Value) -> String {
    let mut text = format!("\n{heading}:\n\n");
    for (key, value) in config.as_object().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {key} = {value}");
    }
    text
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"))
}

/// Checks that a file with this ending can hold the values.
pub fn check_values(attribution: &Attribution, path: &Path) -> Result<()> {
    if is_npy(path) && attribution.parts.len() > 1 {
        let message = format!(
            "--output {}: a .npy file holds one tensor, but this attribution has several",
            path.display()
        );
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
