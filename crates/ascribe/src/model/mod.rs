//! A model with its graph, preprocessing and labels.

mod predictions;
mod read;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ascribe_core::{Arrangement, Attribution, DType, Graph, Inputs, OutputKind, Tensor};
use ascribe_models::labels::Labels;
use ascribe_models::preprocess::{Layout, Preprocessing};
use ascribe_models::registry::Registry;
use ascribe_models::weights::StateDict;
use ascribe_models::{fetch, onnx, tensors, zoo};

pub use predictions::{LabelledDetection, Prediction};
pub use read::Loaded;
use source::{Layouts, Source};

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
    /// The order of axes of inputs, by their names; without a name, of the only floating-point input. By default, what the
    /// preprocessing says, or what the graph does with the input, or `[N, C, positions…]`.
    pub layouts: BTreeMap<String, Arrangement>,
    /// Shapes of inputs whose sides the file leaves open, the batch included, by their names. By default, pictures have
    /// the size of the preprocessing's crop, and [`Model::graph_for`] fits the graph to an input.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are constants, such as a sampling rate, by their names.
    pub constants: BTreeMap<String, Tensor>,
    /// What the first output says, if the file does not.
    pub task: Option<OutputKind>,
    /// The output that comes first, instead of the file's first one.
    pub output: Option<String>,
    /// Names of nodes that are not folded into others (a convolution into the batch norm behind it), so that they can be
    /// layers and neurons.
    pub keep: Vec<String>,
}

impl OpenOptions {
    fn dtype(&self) -> DType {
        if self.double { DType::F64 } else { DType::F32 }
    }
}

/// A model, ready to be explained.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name or path.
    pub name: String,
    /// Its graph in canonical form. Its inputs have the axes `[N, C, positions…]`, whatever the order in the file
    /// ([`Model::layout`]).
    pub graph: Graph,
    /// How pictures become inputs.
    pub preprocessing: Preprocessing,
    /// Names of its classes, if known.
    pub labels: Option<Labels>,
    /// Notes of the loader.
    pub notes: Vec<String>,
    /// The order of axes in the file, for inputs where it matters.
    layouts: Layouts,
    /// The file, for models from an ONNX file.
    source: Option<Arc<Source>>,
    /// What the sides that the file leaves open are taken as.
    open: Option<String>,
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
        let dtype = options.dtype();
        let mut model = match ending.as_str() {
            "onnx" => return Self::from_onnx(onnx::File::open(path)?, options, dtype),
            "safetensors" | "pth" | "pt" | "bin" | "ckpt" | "tar" => Self::from_parameters(path, options)?,
            _ => Self::from_registry(name, options)?,
        };
        model.arrange(options, dtype)?;
        model.with_options(options)
    }

    /// With the preprocessing and the labels that the options state.
    fn with_options(mut self, options: &OpenOptions) -> Result<Self> {
        if let Some(preprocessing) = &options.preprocessing {
            preprocessing.validate()?;
            self.preprocessing = Preprocessing { layout: Layout::Nchw, ..preprocessing.clone() };
        }
        if let Some(path) = &options.labels {
            self.labels = Some(Labels::load(path)?);
        }
        Ok(self)
    }

    /// As [`Model::open`], for an input: sides that the file leaves open are those of its tensors.
    ///
    /// # Errors
    /// As [`Model::open`], or if the input cannot be read.
    pub fn open_for(name: &str, options: &OpenOptions, input: impl AsRef<Path>) -> Result<Self> {
        let (path, input) = (Path::new(name), input.as_ref());
        let is_onnx = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
        if !is_onnx || !tensors::is_tensor_file(input) {
            return Self::open(name, options);
        }
        let file = onnx::File::open(path)?;
        let declared = file.inputs();
        let given = tensors::read(input)?;
        let find = |name: &str| {
            let own = if given.contains(name) { name } else { "input" };
            let alone = given.iter().next().filter(|_| given.len() == 1 && declared.len() == 1);
            alone.map(|(_, tensor)| tensor).or_else(|| given.get(own).ok())
        };
        let options = Source::options_for(declared, find, options);
        Self::from_onnx(file, &options, options.dtype())
    }

    /// A model from a graph whose inputs have the axes `[N, C, positions…]`.
    pub fn new(name: impl Into<String>, graph: Graph, preprocessing: Preprocessing) -> Self {
        Self {
            name: name.into(),
            graph,
            preprocessing,
            labels: None,
            notes: Vec::new(),
            layouts: Layouts::new(),
            source: None,
            open: None,
        }
    }

    /// With these names of its classes.
    #[must_use]
    pub fn with_labels(self, labels: Labels) -> Self {
        Self { labels: Some(labels), ..self }
    }

    /// Brings a network of the zoo to the canonical form, with the order of axes and the task that the options state.
    fn arrange(&mut self, options: &OpenOptions, dtype: DType) -> Result<()> {
        let only = self.graph.inputs().first().map(|&id| self.graph.node(id).name().to_string());
        let stated: Vec<(String, Arrangement)> = options
            .layouts
            .iter()
            .map(|(name, layout)| {
                let name = if name.is_empty() { only.clone().unwrap_or_default() } else { name.clone() };
                (name, layout.clone())
            })
            .collect();
        let arranged: Vec<(&str, Arrangement)> =
            stated.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
        let graph = self.graph.to_dtype(dtype)?.arranged(&arranged)?.canonical_keeping(&options.keep)?;
        self.graph = graph.clone().with_output_kind(options.task.or(graph.output_kind()));
        self.layouts.extend(stated);
        Ok(())
    }

    fn from_onnx(file: onnx::File, options: &OpenOptions, dtype: DType) -> Result<Self> {
        let name = file.path().display().to_string();
        let sidecar = || Preprocessing::sidecar(file.path());
        let own = options.preprocessing.clone().map_or_else(sidecar, |p| Ok(Some(p)))?;
        let assumed = own.is_none();
        let mut preprocessing = own.unwrap_or_else(Preprocessing::imagenet);
        let source = Source::new(file, options, &preprocessing, dtype)?;
        let built = source.open(&preprocessing)?;
        // Pictures become [N, C, H, W]; the graph restores the order of the file.
        preprocessing.layout = Layout::Nchw;
        if assumed {
            if let Some(one) = channel_count(&built.graph).filter(|&count| count == 1) {
                preprocessing = preprocessing.for_channels(one);
            }
            if let Some(sides) =
                picture_sides(&built.graph).filter(|&sides| preprocessing.crop != Some(sides))
            {
                preprocessing = preprocessing.for_sides(sides);
            }
            if takes_integers(&built.graph) {
                // Levels from 0 to 255.
                let channels = preprocessing.channels.count();
                preprocessing.mean = vec![0.0; channels];
                preprocessing.std = vec![1.0 / 255.0; channels];
            }
        }
        let classes = class_count(&built.graph);
        let own = built.labels.map(Labels::new);
        let model = Self {
            labels: own.or(classes.filter(|&n| n == 1000).map(|_| Labels::imagenet_1k())),
            notes: built.notes,
            layouts: built.layouts,
            source: Some(Arc::new(source.settled())),
            open: built.open,
            ..Self::new(name, built.graph, preprocessing)
        };
        model.with_options(options)
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
        let preprocessing = sidecar.or(known).unwrap_or_else(Preprocessing::imagenet);
        Ok(Self {
            labels: class_count(&graph).filter(|&n| n == 1000).map(|_| Labels::imagenet_1k()),
            ..Self::new(path.display().to_string(), graph, preprocessing)
        })
    }

    fn from_registry(name: &str, options: &OpenOptions) -> Result<Self> {
        let entry = Registry::builtin().get(name)?;
        let parameters = fetch::load(entry, options.cache.as_deref())?;
        let graph = zoo::build(&entry.architecture, &parameters, &zoo::BuildOptions::default())?;
        let labels = Labels::builtin(&entry.labels)?;
        Ok(Self::new(&*entry.name, graph, entry.preprocessing.clone()).with_labels(labels))
    }

    /// The lowest and the highest values of each channel of a preprocessed picture: those of black and white.
    pub fn range(&self) -> [Vec<f64>; 2] {
        let Preprocessing { mean, std, .. } = &self.preprocessing;
        [0.0, 1.0].map(|level| mean.iter().zip(std).map(|(mean, std)| (level - mean) / std).collect())
    }

    /// The number of channels of the model's first input, if it takes pictures.
    pub fn channels(&self) -> Option<usize> {
        channel_count(&self.graph)
    }

    /// The type of the model's numbers.
    pub fn dtype(&self) -> DType {
        self.graph.dtype()
    }

    /// The order of an input's axes in the model's file; `None` if it is `[N, C, positions…]`, as in [`Model::graph`].
    pub fn layout(&self, input: &str) -> Option<&Arrangement> {
        self.layouts.get(input).filter(|arrangement| !arrangement.is_plain())
    }

    /// The graph for these inputs: [`Model::graph`], or, if the file leaves sides open and they are other ones, the graph for
    /// them.
    ///
    /// # Errors
    /// If the file cannot be read any more, or these sizes do not fit it.
    pub fn graph_for(&self, x: &Inputs) -> Result<Graph> {
        let fitted = self.source.as_ref().map(|source| source.fit(&self.graph, &self.layouts, x));
        Ok(fitted.transpose()?.flatten().unwrap_or_else(|| self.graph.clone()))
    }

    /// A sentence on the sides that the file leaves open, and their lengths in [`Model::graph`]; `None` if it fixes all.
    pub fn open_sides(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// The shapes of the inputs as the file declares them, open sides by their names; empty for networks of the zoo.
    pub fn declared_inputs(&self) -> &[onnx::DeclaredInput] {
        self.source.as_ref().map_or(&[], |source| source.declared())
    }

    /// An attribution of inputs in the order of axes that the file has, to be written for other programs.
    ///
    /// # Errors
    /// If a part of it has another number of axes than its input.
    pub fn in_file_order(&self, attribution: &Attribution) -> Result<Attribution> {
        let mut restored = attribution.clone();
        let only = self.graph.inputs().first().map(|&id| self.graph.node(id).name()).unwrap_or_default();
        for part in &mut restored.parts {
            let name = if part.name.is_empty() { only } else { part.name.as_str() };
            let Some(arrangement) = self.layout(name) else { continue };
            *part = part.clone().restored(arrangement)?;
        }
        Ok(restored)
    }

    /// The label of a class, if known.
    pub fn label(&self, class: usize) -> Option<&str> {
        self.labels.as_ref().and_then(|l| l.get(class))
    }
}

/// Height and width of the first input, if that is `[N, C, H, W]`.
fn picture_sides(graph: &Graph) -> Option<[usize; 2]> {
    channel_count(graph)?;
    match graph.input_spec(*graph.inputs().first()?)?.sides.as_slice() {
        &[_, Some(height), Some(width)] => Some([height, width]),
        _ => None,
    }
}

/// Whether the first input holds integers.
fn takes_integers(graph: &Graph) -> bool {
    graph.inputs().first().and_then(|&id| graph.input_spec(id)).is_some_and(|spec| spec.integer)
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
