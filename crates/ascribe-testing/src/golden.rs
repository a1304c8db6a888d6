//! Golden files: reference results of methods and metrics, see `fixtures/golden/methods/README.md`.
//!
//! References are computed in f64; results in f64 must agree with them to a relative L2 error of 1e-7. In f32,
//! rounding errors may open or close gates. Therefore each case also contains the reference's own f32 error, and f32
//! results may have at most twice that error, or 1e-5 if that is larger.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ascribe_core::{DType, Device, Graph, Inputs, Tensor};
use ascribe_models::onnx::{LoadOptions, load};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::flat;

/// Why a golden test failed.
pub type Failure = Box<dyn std::error::Error>;

/// Tensors by name, all in f64.
pub type Tensors = BTreeMap<String, Tensor>;

/// Largest relative L2 error in f64.
const ALLOWED_F64: f64 = 1e-7;
/// Largest relative L2 error in f32, unless twice the reference's own error is larger.
const ALLOWED_F32: f64 = 1e-5;

/// The largest allowed relative L2 error in this precision, where the reference's own f32 error is `theirs`.
pub fn allowed(dtype: DType, theirs: f64) -> f64 {
    if dtype == DType::F64 { ALLOWED_F64 } else { ALLOWED_F32.max(2.0 * theirs) }
}

/// A folder of golden files: that of a network, or `metrics`; for an empty name, the parent folder of all of them.
pub fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/golden/methods", name].iter().collect()
}

/// One file: reference tensors and their metadata.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without extension.
    pub name: String,
    /// The metadata.
    pub about: Value,
    /// The tensors.
    pub tensors: Tensors,
}

impl Case {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
        let about = metadata.metadata().as_ref().and_then(|m| m.get("case"));
        let about = about.ok_or_else(|| format!("{} has no metadata 'case'", path.display()))?;
        let about = serde_json::from_str(about)?;
        let mut tensors = Tensors::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let words = || view.data().as_chunks().0.iter().copied();
            let values: Vec<f64> = match view.dtype() {
                Dtype::F64 => words().map(f64::from_le_bytes).collect(),
                Dtype::I64 => words().map(|w| i64::from_le_bytes(w) as f64).collect(),
                other => return Err(format!("{}: {name} holds {other:?}", path.display()).into()),
            };
            tensors.insert(name, Tensor::from_vec(values, view.shape(), &Device::Cpu)?);
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, about, tensors })
    }

    /// The cases of a network, in alphabetical order.
    pub fn all(network: &str) -> Result<Vec<Self>, Failure> {
        let files = std::fs::read_dir(folder(network))?.map(|entry| entry.map(|e| e.path()));
        let mut paths = files.collect::<Result<Vec<PathBuf>, _>>()?;
        paths.retain(|path| {
            path.extension().is_some_and(|end| end == "safetensors")
                && path.file_stem().is_some_and(|stem| stem != "inputs")
        });
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// If the file does not contain it.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Failure> {
        self.tensors.get(name).ok_or_else(|| format!("{} has no tensor '{name}'", self.name).into())
    }
}

/// A network of the folder in one precision, with its data.
#[derive(Debug)]
pub struct Network {
    /// The network.
    pub graph: Graph,
    /// Its precision.
    pub dtype: DType,
    /// One class per sample.
    pub targets: Vec<usize>,
    /// `input`, `baseline`, `noise`, `targets`, in f64.
    pub data: Tensors,
}

impl Network {
    /// Loads a network. Its weights are exact in f32, so that conversion to f64 gives the reference's network.
    pub fn load(name: &str, dtype: DType) -> Result<Self, Failure> {
        let graph = load(folder(name).join("model.onnx"), &LoadOptions::default().dtype(dtype))?.graph;
        let case = Case::read(&folder(name).join("inputs.safetensors"))?;
        let targets = flat(case.tensor("targets")?)?.into_iter().map(|t| t as usize).collect();
        Ok(Self { graph, dtype, targets, data: case.tensors })
    }

    /// The batch of inputs of the network.
    ///
    /// # Errors
    /// If the file does not contain them.
    pub fn inputs(&self) -> Result<Inputs, Failure> {
        let input = self.data.get("input").ok_or("the network has no tensor 'input'")?;
        Ok(Inputs::single(input.to_dtype(self.dtype)?)?)
    }
}
