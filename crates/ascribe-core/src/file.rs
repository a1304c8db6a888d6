//! Writing files so that an interrupted run leaves no half-written result.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file completely or not at all: into a temporary file in the same folder, then renamed.
///
/// Other processes see the old contents or the new ones, never a part. The folder must exist.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("summary.json");
/// ascribe_core::file::write_with(&path, |out| out.write_all(b"{}"))?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Errors of the system and of `write`.
pub fn write_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ascribe-").suffix(".tmp");
    // Temporary files are private by default; a result gets the usual permissions of new files.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(parent)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    // Renaming before the data is on the disk could leave an empty file after a power cut.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Writes bytes completely or not at all: [`write_with`], with an error that names the path.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let fail = |source| Error::Io { path: path.display().to_string(), source };
    write_with(path, |out| out.write_all(bytes)).map_err(fail)
}
