//! The cache folder.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;

/// The environment variable that names the cache folder.
pub const CACHE_VARIABLE: &str = "ASCRIBE_CACHE";

/// The folder in which downloaded weights are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `folder`, or else in the folder that `ASCRIBE_CACHE` names, or else in `ascribe` in the platform's
    /// cache folder. Nothing is created.
    ///
    /// # Errors
    /// [`Error::Invalid`] when neither is given and the account has no home folder.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let set = || std::env::var_os(CACHE_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = folder
            .map(Path::to_owned)
            .or_else(set)
            .or_else(|| Some(dirs::cache_dir()?.join("ascribe")))
            .ok_or_else(|| {
                Error::invalid(
                    "cache folder",
                    "is unknown, because this account has no home folder",
                    format!("a folder in the environment variable {CACHE_VARIABLE}"),
                )
            })?;
        // A relative path would mean another folder if the working folder changed.
        let root = std::path::absolute(&root).map_err(Error::io("use", &root))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path for the weights of the model called `name`, whether the file exists or not.
    pub fn place(&self, name: &str) -> PathBuf {
        self.root.join("models").join(format!("{name}.safetensors"))
    }

    /// The weights of a model, if they are in the cache: a file from a pull, or else a checkpoint that the user put
    /// there.
    pub(super) fn model(&self, name: &str) -> Option<PathBuf> {
        let place = self.place(name);
        ["safetensors", "pth", "pt", "bin"].iter().map(|e| place.with_extension(e)).find(|p| p.is_file())
    }

    /// A folder in the cache, which is created if it does not exist.
    pub(super) fn working(&self, name: &str) -> Result<PathBuf> {
        files::create_dir(&self.root.join(name))
    }

    /// Waits until no other process pulls this model, and locks it. The lock ends when the returned file is dropped, or
    /// with the process. `waiting` is called if it has to wait.
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
