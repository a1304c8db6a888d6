//! Preprocessing in a JSON file next to the model (a sidecar file).

use std::path::{Path, PathBuf};

use super::Preprocessing;
use crate::error::{Error, Result};
use crate::files;

const FORMAT: &str = "preprocessing file";

impl Preprocessing {
    /// The path of the sidecar file of a model: `net.preprocess.json` for `net.onnx`.
    pub fn sidecar_path(model: impl AsRef<Path>) -> PathBuf {
        model.as_ref().with_extension("preprocess.json")
    }

    /// Reads the sidecar file of a model, if there is one: `net.preprocess.json` or
    /// `net.onnx.preprocess.json` for `net.onnx`.
    ///
    /// # Errors
    /// As [`Preprocessing::from_json_file`], if there is one.
    pub fn sidecar(model: impl AsRef<Path>) -> Result<Option<Self>> {
        let model = model.as_ref();
        let mut appended = model.as_os_str().to_owned();
        appended.push(".preprocess.json");
        for path in [Self::sidecar_path(model), PathBuf::from(appended)] {
            if path.exists() {
                return Self::from_json_file(path).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads a JSON file with the fields of [`Preprocessing`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Malformed`] when it is not valid JSON, or has an unknown field or
    /// a value that is out of range.
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path, 1 << 20)?;
        let read: Self =
            serde_json::from_str(&text).map_err(|e| Error::malformed(path, FORMAT, e.to_string()))?;
        read.validate().map_err(|e| Error::malformed(path, FORMAT, e.to_string()))?;
        Ok(read)
    }

    /// Writes the JSON format atomically.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_atomically(path.as_ref(), |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_are_found_by_either_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("net.v2.onnx");
        assert!(Preprocessing::sidecar(&model).unwrap().is_none());
        Preprocessing::efficientnet_lite(224)
            .save(folder.path().join("net.v2.onnx.preprocess.json"))
            .unwrap();
        assert_eq!(Preprocessing::sidecar(&model).unwrap(), Some(Preprocessing::efficientnet_lite(224)));
        Preprocessing::imagenet().save(folder.path().join("net.v2.preprocess.json")).unwrap();
        assert_eq!(Preprocessing::sidecar(&model).unwrap(), Some(Preprocessing::imagenet()));
    }

    #[test]
    fn a_wrong_sidecar_is_an_error_that_names_file_and_field() {
        let folder = tempfile::tempdir().unwrap();
        for (text, what) in [
            (r#"{"crop": "all"}"#, "`crop`: expected a number of pixels or [height, width]"),
            (r#"{"resize": [1, 2, 3]}"#, "`resize`"),
            (r#"{"std": [0, 0, 0]}"#, "std"),
            ("[", "EOF"),
            ("", "EOF"),
        ] {
            let path = folder.path().join("net.preprocess.json");
            std::fs::write(&path, text).unwrap();
            let message = Preprocessing::sidecar(folder.path().join("net.onnx")).unwrap_err().to_string();
            assert!(message.contains(what) && message.contains("net.preprocess.json"), "{message}");
        }
    }
}
