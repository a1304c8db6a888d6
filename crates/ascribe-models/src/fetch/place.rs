//! Verifies a downloaded checkpoint, converts it and puts it into the cache.

use std::path::{Path, PathBuf};

use super::{Cache, Progress, Raw};
use crate::files;
use crate::registry::{ModelEntry, Source, canonical_names};
use crate::weights::StateDict;

/// Converts a verified download to safetensors and puts it atomically into the cache.
pub(super) fn place(
    entry: &ModelEntry,
    source: &Source,
    raw: &Raw,
    cache: &Cache,
    progress: &dyn Fn(Progress<'_>),
) -> Result<PathBuf, String> {
    progress(Progress::Converting);
    let text = |e: crate::Error| e.to_string();
    let weights = StateDict::load(&raw.path).map_err(text)?;
    let mut weights = canonical_names(&entry.architecture, weights).map_err(text)?;
    let naming = serde_json::to_value(entry.naming).ok().and_then(|v| v.as_str().map(str::to_owned));
    let metadata = weights.metadata_mut();
    metadata.clear();
    for (key, value) in [
        ("name", entry.name.clone()),
        ("architecture", entry.architecture.clone()),
        ("naming", naming.unwrap_or_default()),
        ("licence", entry.licence.clone()),
        ("source", source.to_string()),
        ("source_sha256", raw.sha256.clone()),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    cache.working("models").map_err(text)?;
    let place = cache.place(&entry.name);
    weights.save(&place, None).map_err(text)?;
    let _ = &raw.leftovers;
    Ok(place)
}

/// Compares the size and hash of a file with those that the registry or the server state; returns the hash.
pub(super) fn verify(
    path: &Path,
    size: Option<u64>,
    sha256: Option<&str>,
    progress: &dyn Fn(Progress<'_>),
) -> Result<String, String> {
    progress(Progress::Verifying);
    let found = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if let Some(size) = size
        && size != found
    {
        return Err(format!("the file has {found} bytes, expected {size}"));
    }
    let digest = files::sha256(path).map_err(|e| e.to_string())?;
    match sha256 {
        Some(expected) if !digest.starts_with(expected) => Err(format!(
            "the file's SHA-256 is {digest}, expected {expected}; it is damaged, or has been replaced on the server"
        )),
        _ => Ok(digest),
    }
}
