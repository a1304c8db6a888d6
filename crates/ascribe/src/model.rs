//! A model with its graph, preprocessing and labels.

use std::path::{Path, PathBuf};

use ascribe_core::{DType, Device, Graph, Inputs, Outputs, Tensor};
use ascribe_models::labels::Labels;
use ascribe_models::preprocess::{Prepared, Preprocessing};
use ascribe_models::registry::Registry;
use ascribe_models::weights::StateDict;
use ascribe_models::{fetch, onnx, tensors, zoo};

use crate::error::{Error, Result};

/// The model that is used if none is named.
pub const DEFAULT_MODEL: &str = "efficientnet-lite0";

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Architecture, for parameter files.
    pub architecture: Option<String>,
    /// Preprocessing instead of the model's own.
    pub preprocessing: Option<Preprocessing>,
    /// Labels instead of the model's own.
    pub labels: Option<PathBuf>,
    /// Whether to compute in f64 instead of f32.
    pub double: bool,
    /// Folder for downloaded weights instead of the default.
    pub cache: Option<PathBuf>,
}

/// A model, ready to be explained.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name or path.
    pub name: String,
    /// Its graph in canonical form.
    pub graph: Graph,
    /// How pictures become inputs.
    pub preprocessing: Preprocessing,
    /// Names of its classes, if known.
    pub labels: Option<Labels>,
    /// Notes of the loader.
    pub notes: Vec<String>,
}

/// An input, read from a file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The tensors.
    pub inputs: Inputs,
    /// The picture that they were made from, as the network sees it.
    pub picture: Option<Prepared>,
}

/// A class with its label and probability.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// Number of the class.
    pub class: usize,
    /// Its label.
    pub label: Option<String>,
    /// Its logit.
    pub logit: f64,
    /// Its softmax probability.
    pub probability: f64,
}

impl Model {
    /// Opens a model by its name in the registry, or from a file: `.onnx`; `.safetensors`, `.pth`, `.pth.tar`, `.pt`, `.bin` or
    /// `.ckpt` with an architecture.
    ///
    /// # Errors
    /// If there is no such model or file, it cannot be read, or the architecture is missing or does not fit.
    pub fn open(name: &str, options: &OpenOptions) -> Result<Self> {
        let path = Path::new(name);
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
        let dtype = if options.double { DType::F64 } else { DType::F32 };
        let mut model = match ending.as_str() {
            "onnx" => Self::from_onnx(path)?,
            "safetensors" | "pth" | "pt" | "bin" | "ckpt" | "tar" => Self::from_parameters(path, options)?,
            _ => Self::from_registry(name, options)?,
        };
        model.graph = model.graph.to_dtype(dtype)?.canonical()?;
        if let Some(preprocessing) = &options.preprocessing {
            preprocessing.validate()?;
            model.preprocessing = preprocessing.clone();
        }
        if let Some(path) = &options.labels {
            model.labels = Some(Labels::load(path)?);
        }
        Ok(model)
    }

    fn from_onnx(path: &Path) -> Result<Self> {
        let loaded = onnx::load(path, &onnx::LoadOptions::default())?;
        let preprocessing = Preprocessing::sidecar(path)?.unwrap_or_else(|| {
            let channels = channel_count(&loaded.graph).filter(|&count| count == 1);
            channels.map_or_else(Preprocessing::imagenet, |one| Preprocessing::imagenet().for_channels(one))
        });
        let classes = class_count(&loaded.graph);
        Ok(Self {
            name: path.display().to_string(),
            graph: loaded.graph,
            preprocessing,
            labels: classes.filter(|&n| n == 1000).map(|_| Labels::imagenet_1k()),
            notes: loaded.notes,
        })
    }

    fn from_parameters(path: &Path, options: &OpenOptions) -> Result<Self> {
        let architecture = options.architecture.as_deref().ok_or_else(|| {
            Error::request(
                format!("model '{}'", path.display()),
                "a parameter file does not say which network it belongs to",
                "`OpenOptions::architecture`, such as resnet50",
            )
        })?;
        let parameters = StateDict::load(path)?;
        let graph = zoo::build(architecture, &parameters, &zoo::BuildOptions::default())?;
        let own = Registry::builtin().models().iter().find(|m| m.architecture == architecture);
        let sidecar = Preprocessing::sidecar(path)?;
        let known = own.map(|m| m.preprocessing.clone());
        Ok(Self {
            name: path.display().to_string(),
            labels: class_count(&graph).filter(|&n| n == 1000).map(|_| Labels::imagenet_1k()),
            graph,
            preprocessing: sidecar.or(known).unwrap_or_else(Preprocessing::imagenet),
            notes: Vec::new(),
        })
    }

    fn from_registry(name: &str, options: &OpenOptions) -> Result<Self> {
        let entry = Registry::builtin().get(name)?;
        let parameters = fetch::load(entry, options.cache.as_deref())?;
        let graph = zoo::build(&entry.architecture, &parameters, &zoo::BuildOptions::default())?;
        Ok(Self {
            name: entry.name.clone(),
            graph,
            preprocessing: entry.preprocessing.clone(),
            labels: Some(Labels::builtin(&entry.labels)?),
            notes: Vec::new(),
        })
    }

    /// The lowest and the highest values of each channel of a preprocessed picture: those of black and white.
    pub fn range(&self) -> [Vec<f64>; 2] {
        let Preprocessing { mean, std, .. } = &self.preprocessing;
        [0.0, 1.0].map(|level| mean.iter().zip(std).map(|(mean, std)| (level - mean) / std).collect())
    }

    /// The number of channels of the model's first input, if it takes pictures with the channels first.
    pub fn channels(&self) -> Option<usize> {
        channel_count(&self.graph)
    }

    /// The type of the model's numbers.
    pub fn dtype(&self) -> DType {
        self.graph.dtype()
    }

    /// Reads an input: a picture, which is preprocessed, or tensors that are already
    /// preprocessed (`.safetensors`, `.npy`).
    ///
    /// # Errors
    /// If the file cannot be read or does not fit the model.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Loaded> {
        let path = path.as_ref();
        if tensors::is_tensor_file(path) {
            return Ok(Loaded { inputs: self.tensors(path, &tensors::read(path)?)?, picture: None });
        }
        let prepared = self.preprocessing.load(path)?;
        let inputs =
            Inputs::single(prepared.tensor.to_dtype(self.dtype()).map_err(ascribe_core::Error::from)?)?;
        Ok(Loaded { inputs, picture: Some(prepared) })
    }

    /// Matches tensors with the model's inputs: a single one may be called `input`, several are matched by name.
    fn tensors(&self, path: &Path, given: &StateDict) -> Result<Inputs> {
        let own: Vec<&str> = self.graph.inputs().iter().map(|&id| self.graph.node(id).name()).collect();
        let convert = |t: &Tensor| -> Result<Tensor> {
            let dtype = if t.dtype().is_float() { self.dtype() } else { DType::I64 };
            Ok(t.to_dtype(dtype)
                .and_then(|t| t.to_device(&Device::Cpu))
                .map_err(ascribe_core::Error::from)?)
        };
        let find = |name: &str| {
            given.get(name).map_err(|_| {
                let names: Vec<&str> = given.iter().map(|(name, _)| name).collect();
                let problem = format!("holds no tensor '{name}', but {}", names.join(", "));
                let expected = format!("a tensor for each input of the model: {}", own.join(", "));
                Error::request(format!("input '{}'", path.display()), problem, expected)
            })
        };
        let found: Result<Vec<(String, Tensor)>> = match own.as_slice() {
            [only] => {
                let alone = given.iter().next().filter(|_| given.len() == 1);
                let name = if given.contains(only) { only } else { "input" };
                let tensor = alone.map_or_else(|| find(name), |(_, tensor)| Ok(tensor))?;
                Ok(vec![((*only).to_string(), convert(tensor)?)])
            }
            several => several.iter().map(|name| Ok(((*name).to_string(), convert(find(name)?)?))).collect(),
        };
        Ok(Inputs::named(found?)?)
    }

    /// The outputs as predictions of one sample, most probable first, `count` of them; `None` if the model is
    /// not a classifier.
    ///
    /// # Errors
    /// If the outputs cannot be read, or the labels are not as many as the classes.
    pub fn predictions(
        &self,
        outputs: &Outputs,
        sample: usize,
        count: usize,
    ) -> Result<Option<Vec<Prediction>>> {
        let logits = outputs.primary();
        if logits.rank() != 2 {
            return Ok(None);
        }
        let read = || logits.get(sample)?.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec1::<f64>();
        let logits = read().map_err(ascribe_core::Error::from)?;
        if let Some(labels) = self.labels.as_ref().filter(|l| l.len() != logits.len()) {
            return Err(Error::request(
                "labels",
                format!("{} names for a model with {} classes", labels.len(), logits.len()),
                "one name per class",
            ));
        }
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let prediction = |class: usize| Prediction {
            class,
            label: self.label(class).map(str::to_string),
            logit: logits[class],
            probability: (logits[class] - largest).exp() / total,
        };
        Ok(Some(order.into_iter().take(count).map(prediction).collect()))
    }

    /// The label of a class, if known.
    pub fn label(&self, class: usize) -> Option<&str> {
        self.labels.as_ref().and_then(|l| l.get(class))
    }
}

/// Number of channels of the first input, if that is `[N, C, H, W]`.
fn channel_count(graph: &Graph) -> Option<usize> {
    let spec = graph.input_spec(*graph.inputs().first()?)?;
    match spec.sides.as_slice() {
        [channels, _, _] => channels.filter(|count| [1, 3].contains(count)),
        _ => None,
    }
}

/// Number of classes, from the size of the bias or the weight of the last linear layer.
fn class_count(graph: &Graph) -> Option<usize> {
    let output = *graph.outputs().first()?;
    let user = graph.parameters().into_iter().rev().find(|p| p.user <= output)?;
    let value = graph.node(user.constant).constant()?;
    value.dims().first().copied()
}
