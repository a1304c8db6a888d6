//! Detects the format of a parameter file from its contents, and reads it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{StateDict, safetensors, torch};
use crate::error::{Error, Result};
use crate::files;

/// The first bytes of PyTorch's older format: a pickle of protocol 2 with a magic number.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";

pub(super) fn load(path: &Path) -> Result<StateDict> {
    let (mut file, length) = files::open(path)?;
    let mut start = Vec::new();
    (&file).take(16).read_to_end(&mut start).map_err(Error::io("read", path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;

    let dict = if start.starts_with(b"PK\x03\x04") {
        torch::read_zip(path, file, length)?
    } else if start.starts_with(LEGACY_MAGIC) {
        torch::read_legacy(path, file, length)?
    } else if start.get(8) == Some(&b'{') || has_extension(path, &["safetensors"]) {
        safetensors::read(path, file, length)?
    } else {
        return Err(Error::malformed(path, "parameter file", unknown(path, &start)));
    };
    // PyTorch's wrappers for parallel training and for compilation put the name of their attribute in front of every
    // name.
    Ok(dict.strip_prefixes(&["module.", "_orig_mod."]))
}

/// The message for a file of unknown format.
fn unknown(path: &Path, start: &[u8]) -> String {
    let wanted = "expected a safetensors file or a checkpoint written by torch.save";
    if start.is_empty() {
        format!("it is empty; {wanted}")
    } else if start.starts_with(b"\x80") {
        format!("it is a pickle, but not one written by torch.save; {wanted}")
    } else if start.starts_with(b"<") || start.starts_with(b"version https://git-lfs") {
        format!("it is text, such as a web page or a Git LFS pointer to the real file; {wanted}")
    } else if has_extension(path, &["onnx"]) {
        format!("it looks like an ONNX model, which contains a graph, not only parameters; {wanted}")
    } else if start.starts_with(b"\x89HDF") {
        format!("it is an HDF5 file (Keras); {wanted}")
    } else {
        format!("its first bytes do not belong to any known format; {wanted}")
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|e| extensions.iter().any(|wanted| e.eq_ignore_ascii_case(wanted)))
}
