//! Loading ONNX files.
//!
//! [`load`] reads a file of any operator set from 7 on, as PyTorch's two exporters, tf2onnx and others write them,
//! with weights inside or in files beside it. Shape arithmetic and other computations on constants are folded away
//! for the sizes of the input, while the batch stays free, also where the file fixes it: the first axis of
//! every input counts samples. What cannot be computed exactly as the format defines it is an error that lists all
//! nodes concerned ([`Error::Nodes`]); [`supported`] lists what can.
//!
//! ```no_run
//! let model = ascribe_models::onnx::load("resnet50.onnx".as_ref(), &Default::default())?;
//! println!("{} nodes, operator set {}", model.graph.len(), model.opset);
//! # Ok::<(), ascribe_models::Error>(())
//! ```

mod array;
mod attributes;
mod build;
mod census;
mod context;
mod fold;
mod ops;
mod peel;
mod proto;
mod supported;
mod tensors;
mod translate;
mod value;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use ascribe_core::{DType, Graph};
use bytes::Bytes;
use prost::Message;

pub use supported::{SUPPORTED, SupportedOperator, supported};

use crate::error::{Error, Result};

/// How a file is loaded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Whether a softmax (or log-softmax) at the end is removed, so that the output is the logits. Default: yes.
    pub peel_softmax: bool,
    /// Type to compute in: f32 or f64. Default: f64 if the file's inputs are, f32 otherwise; half precision is
    /// computed in f32.
    pub dtype: Option<DType>,
    /// For inputs whose sizes the file leaves open, the sides after the batch axis, by the input's name. (The first
    /// axis is always open.)
    pub input_sides: BTreeMap<String, Vec<usize>>,
    /// How many values the constants that the file computes may have together. Default: 2²⁸, which is 1 GiB in f32.
    pub max_folded_values: usize,
    /// How many values a node may have per sample. Default: 2²⁸, which is 1 GiB in f32.
    pub max_values_per_sample: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            peel_softmax: true,
            dtype: None,
            input_sides: BTreeMap::new(),
            max_folded_values: 1 << 28,
            max_values_per_sample: 1 << 28,
        }
    }
}

impl LoadOptions {
    /// Sets whether a softmax at the end is removed.
    pub fn peel_softmax(self, peel_softmax: bool) -> Self {
        Self { peel_softmax, ..self }
    }

    /// Sets the type to compute in.
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// Sets how many values the constants that the file computes may have together.
    pub fn max_folded_values(self, max_folded_values: usize) -> Self {
        Self { max_folded_values, ..self }
    }

    /// Sets how many values a node may have per sample.
    pub fn max_values_per_sample(self, max_values_per_sample: usize) -> Self {
        Self { max_values_per_sample, ..self }
    }

    /// Sets the sides of an input after the batch axis.
    pub fn input_sides(mut self, name: &str, sides: &[usize]) -> Self {
        self.input_sides.insert(name.into(), sides.to_vec());
        self
    }
}

/// An input of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInput {
    /// Its name.
    pub name: String,
    /// Sides after the batch axis.
    pub sides: Vec<usize>,
    /// Whether it holds integers.
    pub integer: bool,
    /// The batch size that the file states, if it does.
    pub stated_batch: Option<usize>,
}

/// A model read from a file.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// The network.
    pub graph: Graph,
    /// Version of the default operator set.
    pub opset: i64,
    /// The program that wrote the file, with its version.
    pub producer: String,
    /// The inputs.
    pub inputs: Vec<ModelInput>,
    /// The batch size, if it could not be freed: inputs must then have this many samples.
    pub fixed_batch: Option<usize>,
    /// What was changed or is worth knowing.
    pub notes: Vec<String>,
}

/// A node (or a stored tensor) that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProblem {
    /// Name of the node, or of its first output if it has none.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Why it cannot be loaded.
    pub why: String,
}

impl std::fmt::Display for NodeProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} '{}': {}", self.op, self.name, self.why)
    }
}

/// Loads a file.
///
/// External data is looked for in the file's folder and refused elsewhere.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] if it is not an ONNX model, [`Error::Nodes`] with all
/// nodes that cannot be loaded, [`Error::Invalid`] if an option does not fit the file.
pub fn load(path: &Path, options: &LoadOptions) -> Result<LoadedModel> {
    let (file, length) = crate::files::open(path)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    read(bytes.into(), path, Some(path), options)
}

/// Loads a model from memory; `folder` is where external data lies, without one it is refused.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(bytes: Vec<u8>, folder: Option<&Path>, options: &LoadOptions) -> Result<LoadedModel> {
    let name = PathBuf::from("ONNX model in memory");
    read(bytes.into(), &name, folder, options)
}

fn read(bytes: Bytes, path: &Path, beside: Option<&Path>, options: &LoadOptions) -> Result<LoadedModel> {
    let malformed = |problem: String| Error::malformed(path, "ONNX model", problem);
    if bytes.is_empty() {
        return Err(malformed("it is empty".into()));
    }
    census::check(&bytes).map_err(malformed)?;
    let model = proto::Model::decode(bytes).map_err(|e| malformed(e.to_string()))?;
    build::build(&model, path, beside, options).map_err(|e| match e {
        // A graph that cannot be put together is the file's fault, and its name must be known.
        Error::Graph(error) => malformed(error.to_string()),
        other => other,
    })
}
