//! The safetensors format: the length of the header in eight bytes, a JSON header, and the bytes of the tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use ::safetensors::tensor::{Metadata, TensorInfo};
use candle_core::Tensor;

use super::StateDict;
use super::element::{Element, bytes_of};
use crate::error::{Error, Result};
use crate::files::write_atomically;

const FORMAT: &str = "safetensors file";
/// Largest header, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

/// Reads a file. Each tensor is read directly into its own memory, so that peak memory is not more than the size of the
/// tensors.
///
/// The file is not memory-mapped: if another process truncated a mapped file, this process would be killed, and each
/// tensor would have to be copied anyway.
pub(super) fn read(path: &Path, mut file: File, length: u64) -> Result<StateDict> {
    let bad = |problem: String| Error::malformed(path, FORMAT, problem);
    let io = |e: std::io::Error| Error::io("read", path)(e);
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    if length < 8 {
        return Err(bad(format!("it has {length} bytes, fewer than the 8 bytes of the header's length")));
    }
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(io)?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > MAX_HEADER.min(length - 8) {
        return Err(bad(format!(
            "it announces a header of {header_length} bytes, but only {} bytes follow \
             (and a header has at most {MAX_HEADER} bytes)",
            length - 8
        )));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header).map_err(io)?;
    // Deserialising also checks that offsets have no gaps or overlaps, and that sizes fit the shapes.
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|e| bad(format!("its header is not valid: {e}")))?;
    let data = length - 8 - header_length;
    if header.data_len() as u64 != data {
        return Err(bad(format!(
            "its header describes {} bytes of tensors, but {data} follow; it may be truncated",
            header.data_len()
        )));
    }
    let mut dict = StateDict::new();
    for name in header.offset_keys() {
        let Some(TensorInfo { dtype, shape, data_offsets: (start, end) }) = header.info(&name) else {
            return Err(bad(format!("tensor '{name}' has no description")));
        };
        let Some(element) = Element::of_safetensors(*dtype) else {
            return Err(bad(format!(
                "tensor '{name}' has type {dtype:?}; supported are BOOL, integers, F16, BF16, F32 and F64"
            )));
        };
        let tensor = element.read(&mut file, end - start, shape).map_err(io)?;
        let tensor = tensor.map_err(|e| bad(format!("tensor '{name}': {e}")))?;
        dict.insert(name, tensor);
    }
    if let Some(metadata) = header.metadata() {
        dict.metadata_mut().extend(metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    Ok(dict)
}

/// Writes a file atomically and deterministically. Tensors are sorted by descending size of their element type, so that
/// each is aligned, and otherwise keep their order; the keys of the header are in alphabetical order.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut entries = Vec::new();
    for (name, tensor) in tensors {
        let Some((element, dtype)) = Element::of_candle(tensor.dtype()) else {
            return Err(Error::invalid(
                format!("tensor '{name}'"),
                format!("has type {:?}", tensor.dtype()),
                "an integer type, F16, BF16, F32 or F64",
            ));
        };
        if name == "__metadata__" {
            return Err(Error::invalid("tensor name '__metadata__'", "is reserved", "another name"));
        }
        entries.push((name, tensor, element, dtype));
    }
    entries.sort_by_key(|(_, _, element, _)| std::cmp::Reverse(element.size()));

    let mut header = BTreeMap::new();
    if !metadata.is_empty() {
        header.insert("__metadata__", serde_json::json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor, element, dtype) in &entries {
        let end = offset + tensor.elem_count() * element.size();
        let info = TensorInfo { dtype: *dtype, shape: tensor.dims().to_vec(), data_offsets: (offset, end) };
        header.insert(name, serde_json::json!(info));
        offset = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| {
        Error::invalid("safetensors header", e.to_string(), "names and metadata that are text")
    })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomically(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, tensor, _, _) in &entries {
            out.write_all(&bytes_of(tensor).map_err(std::io::Error::other)?)?;
        }
        Ok(())
    })
}
