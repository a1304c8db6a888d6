//! Golden cases: reference numbers of methods and metrics, see `fixtures/golden/methods/README.md`.
//!
//! References are computed in f64, where ours must agree to a relative L2 error of 1e-7. In f32, rounding flips
//! gates: each case also holds the reference's own f32 error, and ours may be at most twice that, or 1e-5 if that is
//! more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ascribe_core::{DType, Device, Graph, Inputs, Target, Tensor};
use ascribe_models::onnx::{LoadOptions, load};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::{distance, flat};

/// Why a golden test failed.
pub type Failure = Box<dyn std::error::Error>;

/// Tensors by name, all in f64.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a crate computes for some tensors of a case.
pub type Answers = Vec<(&'static str, Tensor)>;

/// Largest relative L2 error in f64.
const ALLOWED_F64: f64 = 1e-7;
/// Largest relative L2 error in f32, unless the reference's own is more than half of that.
const ALLOWED_F32: f64 = 1e-5;

/// A folder of the golden methods: that of a network, or `metrics`.
pub fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/golden/methods", name].iter().collect()
}

/// One file: reference tensors, and what they are.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// Method, configuration, the reference's f32 errors, conventions.
    pub about: Value,
    /// The tensors.
    pub tensors: Tensors,
}

impl Case {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
        let about = metadata.metadata().as_ref().and_then(|m| m.get("case")).map_or("null", String::as_str);
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

    /// The method's or metric's identifier.
    pub fn method(&self) -> &str {
        self.about["method"].as_str().unwrap_or_default()
    }

    /// A tensor.
    ///
    /// # Errors
    /// If the file does not have it.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Failure> {
        self.tensors.get(name).ok_or_else(|| format!("{} has no tensor '{name}'", self.name).into())
    }

    /// The relative L2 error of an answer, and the one allowed.
    fn error(&self, tensor: &str, answer: &Tensor, dtype: DType) -> Result<(f64, f64), Failure> {
        let expected = self.tensor(tensor)?;
        if answer.dims() != expected.dims() {
            let message = format!("{tensor} has shape {:?} instead of {:?}", answer.dims(), expected.dims());
            return Err(message.into());
        }
        let theirs = self.about["f32_errors"][tensor].as_f64().unwrap_or(0.0);
        let allowed = if dtype == DType::F64 { ALLOWED_F64 } else { ALLOWED_F32.max(2.0 * theirs) };
        Ok((distance(&flat(answer)?, &flat(expected)?), allowed))
    }
}

/// A network of the folder in one precision, and its data.
#[derive(Debug)]
pub struct Network {
    /// The network.
    pub graph: Graph,
    /// Its precision.
    pub dtype: DType,
    /// One class per sample.
    pub targets: Vec<usize>,
    data: Tensors,
}

impl Network {
    /// Loads a network: weights are exact in f32, so that widening them gives the reference's network.
    pub fn load(name: &str, dtype: DType) -> Result<Self, Failure> {
        let graph = load(folder(name).join("model.onnx"), &LoadOptions::default().dtype(dtype))?.graph;
        let case = Case::read(&folder(name).join("inputs.safetensors"))?;
        let targets = flat(case.tensor("targets")?)?.into_iter().map(|t| t as usize).collect();
        Ok(Self { graph, dtype, targets, data: case.tensors })
    }

    /// A tensor of its data in its precision: `input`, `baseline`, `noise`.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn value(&self, name: &str) -> Result<Tensor, Failure> {
        let value = self.data.get(name).ok_or_else(|| format!("the network has no data '{name}'"))?;
        Ok(value.to_dtype(self.dtype)?)
    }

    /// Its batch of inputs.
    pub fn inputs(&self) -> Result<Inputs, Failure> {
        Ok(Inputs::single(self.value("input")?)?)
    }

    /// The logit of each sample's class.
    pub fn target(&self) -> Target {
        Target::Classes(self.targets.clone())
    }
}

/// What [`compare`] compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compared {
    /// Cases with at least one answer.
    pub cases: usize,
    /// Tensors, in f64 and f32 together.
    pub tensors: usize,
    /// Largest relative L2 errors in f64 and f32.
    pub worst: [f64; 2],
}

/// Compares the answers to all cases of a network with the references, in f64 and f32. No answers: the case belongs to
/// another crate.
///
/// # Errors
/// Lists everything that is off.
pub fn compare(
    network: &str,
    answers: impl Fn(&Network, &Case) -> Result<Answers, Failure>,
) -> Result<Compared, Failure> {
    let networks = [Network::load(network, DType::F64)?, Network::load(network, DType::F32)?];
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(network))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.retain(|p| {
        p.extension().is_some_and(|e| e == "safetensors") && p.file_stem().is_some_and(|s| s != "inputs")
    });
    paths.sort();
    let (mut compared, mut wrong) = (Compared::default(), Vec::new());
    for path in &paths {
        let case = Case::read(path)?;
        let mut answered = false;
        for (precision, network) in networks.iter().enumerate() {
            let mut fail =
                |problem: String| wrong.push(format!("{} in {:?}: {problem}", case.name, network.dtype));
            let answers = match answers(network, &case) {
                Ok(answers) => answers,
                Err(error) => {
                    fail(error.to_string());
                    continue;
                }
            };
            for (tensor, answer) in answers {
                answered = true;
                compared.tensors += 1;
                match case.error(tensor, &answer, network.dtype) {
                    Ok((error, allowed)) => {
                        compared.worst[precision] = compared.worst[precision].max(error);
                        if error.is_nan() || error > allowed {
                            fail(format!("{tensor} is off by {error:.2e}, allowed {allowed:.1e}"));
                        }
                    }
                    Err(error) => fail(error.to_string()),
                }
            }
        }
        compared.cases += usize::from(answered);
    }
    let Compared { cases, tensors, worst } = compared;
    println!(
        "{network}: {cases} cases, {tensors} tensors, largest error {:.1e}, {:.1e} in f32",
        worst[0], worst[1]
    );
    if wrong.is_empty() {
        return Ok(compared);
    }
    Err(format!("{network}: {} of {tensors} tensors are wrong:\n{}", wrong.len(), wrong.join("\n")).into())
}
