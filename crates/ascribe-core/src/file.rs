//! Writing files so that an interrupted run leaves no half-written result.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file completely or not at all: to a temporary name in the same folder, then renamed.
///
/// # Errors
/// [`Error::Io`], naming the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |source| Error::Io { path: path.display().to_string(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}
