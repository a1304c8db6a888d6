//! Tensor files, for network inputs and attributions.
//!
//! A `.safetensors` file contains any number of named tensors and text metadata; an `.npy` file (NumPy's format)
//! contains one tensor without a name.
//!
//! ```
//! use ascribe_models::tensors;
//! use candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("input.npy");
//! tensors::write_npy(&path, &Tensor::zeros((1, 3, 8, 8), DType::F32, &Device::Cpu)?)?;
//! let inputs = tensors::read(&path)?;
//! assert_eq!(inputs.get("input")?.dims(), [1, 3, 8, 8]);
//! # Ok(())
//! # }
//! ```

mod npy;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::weights::{self, StateDict};

pub use npy::{read_npy, write_npy};

/// The name given to the tensor of an `.npy` file, and the usual name of an input in `.safetensors`.
pub const INPUT: &str = "input";

/// Whether the extension of a file is that of a tensor file (`.npy` or `.safetensors`), not of an image.
pub fn is_tensor_file(path: impl AsRef<Path>) -> bool {
    matches!(extension(path.as_ref()).as_str(), "npy" | "safetensors")
}

/// Reads all tensors of an `.npy` or `.safetensors` file by name, each with the type it has in the file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Malformed`] when it does not have the format that its extension
/// says, [`Error::Invalid`] for other extensions.
pub fn read(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    match extension(path).as_str() {
        "npy" => Ok([(INPUT, read_npy(path)?)].into_iter().collect()),
        "safetensors" => StateDict::load(path),
        _ => Err(wrong_ending(path)),
    }
}

/// Writes one tensor called `name` atomically, as `.npy` or `.safetensors` according to the extension of the path.
///
/// `metadata` is text to store with it; `.npy` cannot store metadata, so it is left out there. The bytes depend only on
/// the arguments.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Invalid`] for other extensions.
pub fn write(
    path: impl AsRef<Path>,
    name: &str,
    tensor: &Tensor,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    match extension(path).as_str() {
        "npy" => write_npy(path, tensor),
        "safetensors" => write_safetensors(path, [(name, tensor)], metadata),
        _ => Err(wrong_ending(path)),
    }
}

/// Writes named tensors and metadata as safetensors, atomically and deterministically.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Invalid`] for a tensor type that the format does not
/// support.
pub fn write_safetensors<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    weights::safetensors::write(path.as_ref(), tensors.into_iter(), metadata)
}

fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn wrong_ending(path: &Path) -> Error {
    Error::invalid(
        format!("tensor file '{}'", path.display()),
        "has another extension",
        "a path that ends in .npy or .safetensors",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn both_formats_give_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = Tensor::arange(0f32, 24., &Device::Cpu).unwrap().reshape((1, 2, 3, 4)).unwrap();
        let metadata = BTreeMap::from([("method".to_owned(), "saliency".to_owned())]);
        for (file, name) in [("a.npy", INPUT), ("a.safetensors", "attribution")] {
            let path = folder.path().join(file);
            assert!(is_tensor_file(&path));
            write(&path, "attribution", &tensor, &metadata).unwrap();
            let read = read(&path).unwrap();
            let back = read.get(name).unwrap();
            assert_eq!(back.dims(), tensor.dims());
            assert_eq!(
                back.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                (0..24u8).map(f32::from).collect::<Vec<_>>()
            );
            assert_eq!(read.metadata().get("method").is_some(), file == "a.safetensors");
        }
        assert!(write(folder.path().join("a.csv"), "x", &tensor, &metadata).is_err());
        assert!(read(folder.path().join("a.csv")).is_err());
    }

    #[test]
    fn transposed_tensors_are_written_in_row_major_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npy");
        let tensor = Tensor::new(&[[1f64, 2., 3.], [4., 5., 6.]], &Device::Cpu).unwrap().t().unwrap();
        write_npy(&path, &tensor).unwrap();
        assert_eq!(read_npy(&path).unwrap().to_vec2::<f64>().unwrap(), [[1., 4.], [2., 5.], [3., 6.]]);
    }
}
