//! The cache folder.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;

/// The environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "ASCRIBE_CACHE";

/// The folder that fetched weights are kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `folder`, else what `ASCRIBE_CACHE` says, else `ascribe` in the platform's cache folder.
    /// Nothing is created.
    ///
    /// # Errors
    /// [`Error::Invalid`] when none of them exists, because the platform knows no home folder.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let set = || std::env::var_os(CACHE_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = folder
            .map(Path::to_owned)
            .or_else(set)
            .or_else(|| Some(dirs::cache_dir()?.join("ascribe")))
            .ok_or_else(|| {
                Error::invalid(
                    "cache folder",
                    "is not known, since this account has no home folder",
                    format!("the environment variable {CACHE_VARIABLE} with a folder"),
                )
            })?;
        // Relative paths would change their meaning with the working folder.
        let root = std::path::absolute(&root).map_err(Error::io("use", &root))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the weights of the model called `name` belong, whether they are there or not.
    pub fn place(&self, name: &str) -> PathBuf {
        self.root.join("models").join(format!("{name}.safetensors"))
    }

    /// The weights of a model: what a pull has placed, else a checkpoint put there by hand.
    pub(super) fn model(&self, name: &str) -> Option<PathBuf> {
        let place = self.place(name);
        ["safetensors", "pth", "pt", "bin"].iter().map(|e| place.with_extension(e)).find(|p| p.is_file())
    }

    /// A folder of working space, created if need be.
    pub(super) fn working(&self, name: &str) -> Result<PathBuf> {
        files::create_dir(&self.root.join(name))
    }

    /// Waits until no other process pulls this model. The lock ends with the value, or the process.
    pub(super) fn lock(&self, name: &str, waiting: impl FnOnce()) -> Result<File> {
        let path = self.working("locks")?.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(Error::io("lock", &path))?;
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
        }
        Ok(file)
    }
}
