//! Loading ONNX files.
//!
//! [`load`] reads files of operator sets 7 to 28, as PyTorch's two exporters, tf2onnx and others write them, with
//! weights inside the file or in other files (external data). Shape arithmetic and other computations on constants are
//! done at load time (constant folding), for the given input sizes. The batch size stays variable, even where the file
//! fixes it: the first axis of every input is the batch axis. If a node cannot be computed exactly as the format
//! defines it, loading fails with an error that lists all such nodes ([`Error::Nodes`]); [`supported`] lists the
//! supported operators.
//!
//! Files of scikit-learn, XGBoost and LightGBM (domain `ai.onnx.ml`) are read, too: see [`ModelInput::categories`] for columns of
//! text, and [`LoadedModel::labels`] for the names of classes.
//!
//! ```no_run
//! let model = ascribe_models::onnx::load("resnet50.onnx", &Default::default())?;
//! println!("{} nodes, operator set {}", model.graph.len(), model.opset);
//! # Ok::<(), ascribe_models::Error>(())
//! ```

mod answers;
mod array;
mod attributes;
mod build;
mod census;
mod columns;
mod context;
mod control;
mod declared;
mod fold;
mod interface;
mod ops;
mod proto;
mod sequences;
mod supported;
mod tensors;
mod text;
mod translate;
mod value;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use ascribe_core::{DType, Graph, Tensor};
use bytes::Bytes;
use prost::Message;

pub use declared::{AxisLength, DeclaredInput};
pub use supported::{SUPPORTED, SupportedOperator, supported};

use crate::error::{Error, Result};

/// Options for loading a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Whether a softmax, log-softmax or sigmoid at the end is removed, so that the output is the logits. Default: true.
    pub peel: bool,
    /// Type to compute in: f32 or f64. Default: f64 if an input of the file is f64, f32 otherwise. Half-precision
    /// models are computed in f32.
    pub dtype: Option<DType>,
    /// For inputs with dynamic axes, the sizes of the axes after the batch axis, by the name of the input. (The batch
    /// axis is always dynamic.)
    pub input_sides: BTreeMap<String, Vec<usize>>,
    /// Which axis of an input counts the samples, by the name of the input. Default: the first, or one that the file names
    /// so.
    pub batch_axes: BTreeMap<String, usize>,
    /// Inputs that are constants instead, such as the sampling rate of a speech model, by their names.
    pub constants: BTreeMap<String, Tensor>,
    /// The output that comes first, and that class targets refer to. Default: the file's first one; of a classifier of
    /// `ai.onnx.ml`, the first one that holds scores instead of labels.
    pub output: Option<String>,
    /// Most values that the constants computed at load time may have in total. Default: 2²⁸, which is 1 GiB in f32.
    pub max_folded_values: usize,
    /// Most values that the result of a node may have per sample. Default: 2²⁸, which is 1 GiB in f32.
    pub max_values_per_sample: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            peel: true,
            dtype: None,
            input_sides: BTreeMap::new(),
            batch_axes: BTreeMap::new(),
            constants: BTreeMap::new(),
            output: None,
            max_folded_values: 1 << 28,
            max_values_per_sample: 1 << 28,
        }
    }
}

impl LoadOptions {
    /// Sets whether a softmax or sigmoid at the end is removed.
    pub fn peel(self, peel: bool) -> Self {
        Self { peel, ..self }
    }

    /// Sets the output that comes first.
    pub fn output(self, name: impl Into<String>) -> Self {
        Self { output: Some(name.into()), ..self }
    }

    /// Sets the type to compute in.
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// Sets how many values the constants computed at load time may have in total.
    pub fn max_folded_values(self, max_folded_values: usize) -> Self {
        Self { max_folded_values, ..self }
    }

    /// Sets how many values the result of a node may have per sample.
    pub fn max_values_per_sample(self, max_values_per_sample: usize) -> Self {
        Self { max_values_per_sample, ..self }
    }

    /// Sets the sizes of an input's axes after the batch axis.
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
    /// Sizes of the axes after the batch axis.
    pub sides: Vec<usize>,
    /// Whether it holds integers that are no quantities: tokens, or positions in the list of categories.
    pub integer: bool,
    /// For an input of texts: the categories that the file's encoders know. The input of the graph holds their positions in this
    /// list, or −1 for any other text. Empty for inputs of numbers.
    pub categories: Vec<String>,
    /// The batch size that the file fixes, if it fixes one.
    pub stated_batch: Option<usize>,
    /// Which axis of the file's input counts the samples, which the graph has along the first; `None` for a scalar, which
    /// all samples share.
    pub batch_axis: Option<usize>,
}

/// A model read from a file.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// The network as a graph.
    pub graph: Graph,
    /// Version of the default operator set.
    pub opset: i64,
    /// The program that wrote the file, with its version.
    pub producer: String,
    /// The inputs.
    pub inputs: Vec<ModelInput>,
    /// The batch size of the file, if it could not be made variable: the graph computes other batches in parts.
    pub fixed_batch: Option<usize>,
    /// Names of the classes of the first output, if the file holds them.
    pub labels: Option<Vec<String>>,
    /// Messages for the user: what was changed, and other things worth knowing.
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

/// A decoded file, from which graphs for inputs of several sizes can be built.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// The file beside which external data is.
    beside: Option<PathBuf>,
    model: proto::Model,
    inputs: Vec<DeclaredInput>,
}

impl File {
    /// Reads and decodes a file; its external data is read when a graph is built.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] if it is not an ONNX model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, length) = crate::files::open(path)?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Self::decoded(bytes.into(), path.to_owned(), Some(path.to_owned()))
    }

    fn decoded(bytes: Bytes, path: PathBuf, beside: Option<PathBuf>) -> Result<Self> {
        let model = decode(bytes, &path)?;
        let none = || Error::malformed(&path, "ONNX model", "it holds no graph");
        let inputs = declared::inputs(model.graph.as_ref().ok_or_else(none)?, &path)?;
        Ok(Self { path, beside, model, inputs })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The inputs, as the file declares them.
    pub fn inputs(&self) -> &[DeclaredInput] {
        &self.inputs
    }

    /// Builds the graph.
    ///
    /// # Errors
    /// [`Error::Nodes`] with all nodes that cannot be loaded, [`Error::Invalid`] if an option does not fit the file,
    /// [`Error::Malformed`] or [`Error::Io`] if stored values cannot be read.
    pub fn load(&self, options: &LoadOptions) -> Result<LoadedModel> {
        build::build(self, options).map_err(|e| match e {
            // If the graph cannot be built, the file is wrong: report it with the path of the file.
            Error::Graph(error) => Error::malformed(&self.path, "ONNX model", error.to_string()),
            other => other,
        })
    }
}

/// Loads a file.
///
/// External data has to be in the folder of the file; from elsewhere it is an error.
///
/// # Errors
/// As [`File::open`] and [`File::load`].
pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<LoadedModel> {
    File::open(path)?.load(options)
}

/// Loads a model from memory. `folder` is where its external data is; without a folder, external data is an error.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(bytes: Vec<u8>, folder: Option<&Path>, options: &LoadOptions) -> Result<LoadedModel> {
    let name = PathBuf::from("ONNX model in memory");
    File::decoded(bytes.into(), name, folder.map(Path::to_owned))?.load(options)
}

fn decode(bytes: Bytes, path: &Path) -> Result<proto::Model> {
    let malformed = |problem: String| Error::malformed(path, "ONNX model", problem);
    if bytes.is_empty() {
        return Err(malformed("it is empty".into()));
    }
    census::check(&bytes).map_err(malformed)?;
    proto::Model::decode(bytes).map_err(|e| malformed(e.to_string()))
}
