//! PyTorch checkpoints: zip archives, and the older format from before 2020 (legacy format).
//!
//! Both contain a pickle that describes tensors, which refer to storages (arrays of numbers) outside the pickle. In a
//! zip archive, each storage is an uncompressed file `…/data/KEY`. In the legacy format, the storages follow the
//! pickles, each preceded by its length.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use candle_core::Tensor;
use zip::{CompressionMethod, ZipArchive};

use super::StateDict;
use super::pickle::{Node, Pickle};
use super::torch_views::{Entries, View, entries, storages};
use crate::error::{Error, Result};

const FORMAT: &str = "PyTorch checkpoint";
/// How many times the size of the file its tensors may take. Tensors can share a storage (tied weights), but a small
/// file must not be able to fill the memory.
const MAX_EXPANSION: u64 = 16;

pub(super) fn read_zip(path: &Path, file: File, length: u64) -> Result<StateDict> {
    zip_archive(BufReader::new(file), length).map_err(|problem| Error::malformed(path, FORMAT, problem))
}

pub(super) fn read_legacy(path: &Path, file: File, length: u64) -> Result<StateDict> {
    let input = BufReader::with_capacity(1 << 20, file);
    legacy(input, length).map_err(|problem| Error::malformed(path, FORMAT, problem))
}

/// Reads a zip archive.
fn zip_archive(input: impl Read + Seek, length: u64) -> Result<StateDict, String> {
    let mut archive =
        ZipArchive::new(input).map_err(|e| format!("the zip archive is damaged or truncated ({e})"))?;
    let names: Vec<String> = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let root = names
        .iter()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .find(|root| root.is_empty() || root.ends_with('/'))
        .ok_or("the zip archive has no file 'data.pkl', so it was not written by torch.save")?;
    let order = format!("{root}byteorder");
    if names.contains(&order) && read_member(&mut archive, &order, 64)? == b"big" {
        return Err(
            "it was written in big-endian byte order; save it again on a little-endian machine".into()
        );
    }
    let pickle =
        Pickle::read(&mut read_member(&mut archive, &format!("{root}data.pkl"), length)?.as_slice())?;
    let entries = entries(&pickle)?;
    let mut made = Made::new(&entries, length)?;
    for key in made.keys() {
        let bytes = read_member(&mut archive, &format!("{root}data/{key}"), length)?;
        made.fill(&key, &bytes)?;
    }
    made.finish(entries)
}

/// Reads a file of the archive of at most `limit` bytes.
fn read_member(
    archive: &mut ZipArchive<impl Read + Seek>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, String> {
    let member = archive.by_name(name).map_err(|e| format!("file '{name}' of the archive: {e}"))?;
    if member.compression() != CompressionMethod::Stored {
        return Err(format!("file '{name}' of the archive is compressed, but torch.save does not compress"));
    }
    let size = member.size();
    if size > limit {
        return Err(format!("file '{name}' of the archive claims {size} bytes, more than the archive has"));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // Reading to the end also verifies the checksum.
    member
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("file '{name}' of the archive: {e}"))?;
    Ok(bytes)
}

/// Reads the legacy format.
fn legacy(mut input: impl BufRead, length: u64) -> Result<StateDict, String> {
    // The magic number, which has already been checked, and the version of the format.
    Pickle::read(&mut input)?;
    Pickle::read(&mut input)?;
    let system = Pickle::read(&mut input)?;
    if let Node::Dict(facts) = system.root() {
        let is = |id, text| system.text(id) == Some(text);
        if facts.iter().any(|(k, v)| is(*k, "little_endian") && matches!(system.get(*v), Node::Bool(false))) {
            return Err("it was written on a big-endian machine; save it again on a little-endian one".into());
        }
    }
    let pickle = Pickle::read(&mut input)?;
    let entries = entries(&pickle)?;
    let elements = storages(&pickle);
    let keys = Pickle::read(&mut input)?;
    let Node::List(order) = keys.root() else {
        return Err("the list of storages is missing; it is truncated or corrupt".into());
    };
    let mut made = Made::new(&entries, length)?;
    for key in order {
        let key = keys.text(*key).ok_or("a storage is named by something that is not a string")?;
        let element =
            elements.get(key).ok_or_else(|| format!("storage '{key}' has no type that this reader knows"))?;
        let mut count = [0; 8];
        input.read_exact(&mut count).map_err(|_| truncated(key))?;
        let size = u64::from_le_bytes(count)
            .checked_mul(element.size() as u64)
            .filter(|size| *size <= length)
            .ok_or_else(|| format!("storage '{key}' claims more bytes than the file has"))?;
        let mut bytes = Vec::with_capacity(size as usize);
        input.by_ref().take(size).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 != size {
            return Err(truncated(key));
        }
        made.fill(key, &bytes)?;
    }
    made.finish(entries)
}

fn truncated(key: &str) -> String {
    format!("it ends within storage '{key}'; it is truncated")
}

/// The tensors created so far. Storages are read one at a time, so that at most one of them is in memory twice.
struct Made {
    /// For each storage, the tensors that are still to be created from it.
    by_storage: HashMap<String, Vec<View>>,
    /// Keys of the storages, in the order of the tensors.
    order: Vec<String>,
    tensors: HashMap<View, Tensor>,
}

impl Made {
    fn new(entries: &Entries, file_length: u64) -> Result<Self, String> {
        let (mut by_storage, mut order): (HashMap<String, Vec<View>>, Vec<String>) = Default::default();
        let mut seen = std::collections::HashSet::new();
        let mut total = 0u64;
        for (name, view) in &entries.tensors {
            if !seen.insert(view) {
                continue;
            }
            let bytes = view
                .bytes()
                .ok_or_else(|| format!("parameter '{name}' has an impossible shape {:?}", view.shape))?;
            total = total.saturating_add(bytes);
            if total > file_length.saturating_mul(MAX_EXPANSION) {
                return Err(format!(
                    "its tensors up to parameter '{name}' would take {total} bytes, over {MAX_EXPANSION} times more than the file has"
                ));
            }
            by_storage
                .entry(view.key.clone())
                .or_insert_with(|| {
                    order.push(view.key.clone());
                    Vec::new()
                })
                .push(view.clone());
        }
        Ok(Self { by_storage, order, tensors: HashMap::new() })
    }

    fn keys(&self) -> Vec<String> {
        self.order.clone()
    }

    /// Creates the tensors that refer to storage `key`.
    fn fill(&mut self, key: &str, bytes: &[u8]) -> Result<(), String> {
        for view in self.by_storage.remove(key).unwrap_or_default() {
            let tensor = view.tensor(bytes)?;
            self.tensors.insert(view, tensor);
        }
        Ok(())
    }

    /// All tensors by name.
    fn finish(self, entries: Entries) -> Result<StateDict, String> {
        let mut dict = StateDict::new();
        for (name, view) in entries.tensors {
            let tensor = self.tensors.get(&view).ok_or_else(|| {
                format!("parameter '{name}' is in storage '{}', which is missing", view.key)
            })?;
            dict.insert(name, tensor.clone());
        }
        dict.set_ignored(entries.ignored);
        // Lightning puts the name of the module's attribute in front of every name.
        Ok(if entries.is_lightning {
            dict.strip_prefixes(&["module.", "_orig_mod.", "model."])
        } else {
            dict
        })
    }
}
