//! Downloads weights from the Hugging Face hub.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Repo, RepoType};

use super::{Cache, Leftovers, Progress, Raw, place::verify};
use crate::registry::Source;

/// Downloads and verifies a file.
pub(super) fn fetch(source: &Source, cache: &Cache, progress: &dyn Fn(Progress<'_>)) -> Result<Raw, String> {
    // hf-hub panics if a server (a captive portal, a broken mirror) sends a redirection that is not well-formed. Only
    // the callback is shared with it, so that catching the panic leaves nothing in an inconsistent state.
    let result = catch_unwind(AssertUnwindSafe(|| try_fetch(source, cache, progress)));
    result.unwrap_or_else(|_| Err("the server does not respond like the Hugging Face hub".into()))
}

fn try_fetch(source: &Source, cache: &Cache, progress: &dyn Fn(Progress<'_>)) -> Result<Raw, String> {
    let Source::Hub { hub, file, revision, sha256 } = source else {
        return Err("not a source on the hub".into());
    };
    let folder = cache.working("hub").map_err(|e| e.to_string())?;
    // The environment gives the endpoint (for mirrors) and the user's token.
    let api = ApiBuilder::from_env()
        .with_cache_dir(folder.clone())
        .with_progress(false)
        .with_retries(3)
        .with_user_agent("ascribe", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|e| e.to_string())?;
    let revision = revision.clone().unwrap_or_else(|| "main".to_owned());
    let repo = Repo::with_revision(hub.clone(), RepoType::Model, revision);
    let repo_folder = folder.join(repo.folder_name());
    let repo = api.repo(repo);
    let metadata = api.metadata(&repo.url(file)).map_err(|e| format!("not available: {e}"))?;
    let size = metadata.size() as u64;
    // The ETag of a large file is its SHA-256; that of a small file is a git hash, which is shorter.
    let stated = Some(metadata.etag()).filter(|tag| tag.len() == 64);
    let Some(expected) = sha256.as_deref().or(stated) else {
        return Err(format!("neither the registry nor the hub states a SHA-256 of '{file}'"));
    };
    let partial = repo_folder.join("blobs").join(format!("{}.part", metadata.etag()));
    let download = || repo.download_with_progress(file, Bar { progress, done: 0, total: 0 });
    let path = match download() {
        // A partial file that is already complete, or that belongs to another version: start again.
        Err(ApiError::InvalidResume) => restart(&partial, download),
        Err(_) if complete(&partial, size) => restart(&partial, download),
        other => other.map_err(|e| e.to_string()),
    }?;
    match verify(&path, Some(size), Some(expected), progress) {
        Ok(sha256) => Ok(Raw { path, sha256, leftovers: Leftovers::Path(repo_folder) }),
        Err(reason) => {
            drop(Leftovers::Path(repo_folder));
            Err(reason)
        }
    }
}

/// Whether a partial file has all bytes.
fn complete(partial: &Path, size: u64) -> bool {
    std::fs::metadata(partial).is_ok_and(|m| m.len() >= size)
}

/// Removes a partial file and downloads again.
fn restart(partial: &Path, download: impl FnOnce() -> Result<PathBuf, ApiError>) -> Result<PathBuf, String> {
    std::fs::remove_file(partial).map_err(|e| e.to_string())?;
    download().map_err(|e| e.to_string())
}

/// Passes the progress of hf-hub on.
struct Bar<'a> {
    progress: &'a dyn Fn(Progress<'_>),
    done: u64,
    total: u64,
}

impl hf_hub::api::Progress for Bar<'_> {
    fn init(&mut self, size: usize, _name: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.progress)(Progress::Downloading { done: self.done, total: Some(self.total) });
    }

    fn finish(&mut self) {}
}
