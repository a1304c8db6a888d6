//! Reading files with size limits, writing them atomically, and hashing them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Writes `path` atomically, see [`ascribe_core::file::write_with`].
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    ascribe_core::file::write_with(path, write).map_err(Error::io("write", path))
}

/// Opens a regular file; returns it with its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        // Reading a folder, a pipe or a device would fail with a confusing error or never end.
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(Error::Io { action: "read", path: path.to_owned(), source });
    }
    Ok((file, metadata.len()))
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String> {
    let (file, length) = open(path)?;
    if length > limit {
        return Err(Error::malformed(
            path,
            "text file",
            format!("it has {length} bytes; at most {limit} are allowed"),
        ));
    }
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text).map_err(Error::io("read", path))?;
    Ok(text)
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let (mut file, _) = open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&buffer[..n]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn create_dir(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "old").unwrap();
        let result = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("interrupted"))
        });
        assert!(result.unwrap_err().to_string().contains("interrupted"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn sha256_of_a_known_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn folders_are_not_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).is_err());
    }
}
