//! From a file to a graph: the order of axes, and the sides that a file leaves open.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use ascribe_core::{Arrangement, AxisRole, DType, Graph, Inputs, OutputKind, Tensor};
use ascribe_models::onnx::{self, AxisLength, DeclaredInput, LoadOptions};
use ascribe_models::preprocess::{Layout, Preprocessing};

use super::OpenOptions;
use crate::error::{Error, Result};

/// The order of the axes of each input, by its name.
pub(super) type Layouts = BTreeMap<String, Arrangement>;

/// Lengths that are tried for open axes until the graph can be built, after the crop for pictures.
const TRIED: [usize; 11] = [64, 16, 48, 32, 128, 256, 512, 1024, 8, 1, 16_000];
/// Side of a picture where neither the file nor the preprocessing says one.
const SIDE: usize = 224;

/// An ONNX file, from which graphs for inputs of other sizes are built if it leaves sides open.
#[derive(Debug)]
pub(super) struct Source {
    /// Kept while graphs can be built from it.
    file: Option<onnx::File>,
    declared: Vec<DeclaredInput>,
    options: OpenOptions,
    dtype: DType,
    /// Whether the preprocessing says that channels are last.
    channels_last: bool,
    /// Graphs by the sides of their inputs.
    fitted: Mutex<HashMap<Vec<Vec<usize>>, Graph>>,
}

/// A graph with the order of axes of its inputs, and notes.
pub(super) struct Built {
    pub graph: Graph,
    pub layouts: Layouts,
    pub notes: Vec<String>,
    /// The names of the classes that the file holds.
    pub labels: Option<Vec<String>>,
    /// What the open sides are taken as, if there are any.
    pub open: Option<String>,
}

impl Source {
    pub fn new(
        file: onnx::File,
        options: &OpenOptions,
        preprocessing: &Preprocessing,
        dtype: DType,
    ) -> Result<Self> {
        let declared = file.inputs().to_vec();
        let known = |name: &String| {
            if declared.iter().any(|d| d.name == *name) {
                return Ok(());
            }
            let names: Vec<&str> = declared.iter().map(|d| d.name.as_str()).collect();
            let expected = format!("one of the inputs {}", names.join(", "));
            Err(Error::request(format!("input '{name}'"), "there is no such input", expected))
        };
        options.shapes.keys().chain(options.constants.keys()).try_for_each(known)?;
        Ok(Self {
            file: Some(file),
            declared,
            options: options.clone(),
            dtype,
            channels_last: preprocessing.layout == Layout::Nhwc,
            fitted: Mutex::default(),
        })
    }

    /// Frees the file, unless other sizes of inputs need it.
    pub fn settled(mut self) -> Self {
        self.file = self.file.filter(|_| self.declared.iter().any(DeclaredInput::is_open));
        self
    }

    fn file(&self) -> Result<&onnx::File> {
        self.file.as_ref().ok_or_else(|| {
            Error::request("inputs of other sizes", "the file fixes all sides", "inputs of the model's sizes")
        })
    }

    /// The order of axes that the options state for an input.
    fn stated(&self, name: &str) -> Option<&Arrangement> {
        let alone = self.declared.iter().filter(|d| !d.integer).count() == 1;
        let whole = || self.options.layouts.get("").filter(|_| alone);
        self.options.layouts.get(name).or_else(whole)
    }

    /// Which axis of an input counts the samples.
    fn batch_axis(&self, declared: &DeclaredInput) -> Option<usize> {
        let stated = self.stated(&declared.name);
        let axis = stated.and_then(|a| a.roles().iter().position(|role| *role == AxisRole::Batch));
        axis.or(declared.batch_axis)
    }

    /// The lengths of the axes of an input, with those that the options state.
    fn axes(&self, declared: &DeclaredInput) -> Option<Vec<AxisLength>> {
        let stated = self.options.shapes.get(&declared.name);
        match (stated, &declared.axes) {
            (Some(shape), _) => Some(shape.iter().map(|&side| AxisLength::Fixed(side)).collect()),
            (None, axes) => axes.clone(),
        }
    }

    /// Builds the graph, with the sides that the options leave open as small as works.
    pub fn open(&self, preprocessing: &Preprocessing) -> Result<Built> {
        let mut named: HashMap<&str, usize> = HashMap::new();
        for (name, shape) in &self.options.shapes {
            let axes = self.declared.iter().find(|d| d.name == *name).and_then(|d| d.axes.as_ref());
            for (axis, &side) in axes.into_iter().flatten().zip(shape) {
                if let AxisLength::Named(symbol) = axis {
                    named.insert(symbol, side);
                }
            }
        }
        let mut open = Vec::new();
        let mut first = None;
        for (attempt, length) in TRIED.into_iter().enumerate() {
            let mut sides = BTreeMap::new();
            for declared in self.declared.iter().filter(|d| !self.options.constants.contains_key(&d.name)) {
                let Some(axes) = self.axes(declared) else {
                    let expected = "its shape in `OpenOptions::shapes`";
                    let what = format!("input '{}'", declared.name);
                    return Err(Error::request(what, "the file does not state its shape", expected));
                };
                let picture = self.picture(declared, &axes, preprocessing, (attempt > 0).then_some(length));
                let batch = self.batch_axis(declared);
                let side = |(at, axis): (usize, &AxisLength)| match axis {
                    AxisLength::Fixed(side) => *side,
                    AxisLength::Named(symbol) if named.contains_key(symbol.as_str()) => {
                        named[symbol.as_str()]
                    }
                    _ => {
                        let side = picture.as_ref().and_then(|sides| sides.get(at).copied().flatten());
                        if batch != Some(at) {
                            open.push((declared.name.clone(), at, axis.to_string(), side.unwrap_or(length)));
                        }
                        side.unwrap_or(length)
                    }
                };
                let mut all: Vec<usize> = axes.iter().enumerate().map(side).collect();
                if let Some(batch) = batch.filter(|&batch| batch < all.len()) {
                    all.remove(batch);
                }
                sides.insert(declared.name.clone(), all);
            }
            match self.build(&sides) {
                Ok(mut built) => {
                    built.open = open_note(&open);
                    return Ok(built);
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
            if open.is_empty() {
                break;
            }
            open.clear();
        }
        let unknown = || Error::request("model", "cannot be opened", "a model");
        Err(first.unwrap_or_else(unknown))
    }

    /// Guesses for the open sides of a picture, by axis: `side`, or the crop; `None` if the input does not look like one.
    fn picture(
        &self,
        declared: &DeclaredInput,
        axes: &[AxisLength],
        preprocessing: &Preprocessing,
        side: Option<usize>,
    ) -> Option<Vec<Option<usize>>> {
        let [_, second, _, last] = axes else { return None };
        if declared.integer {
            return None;
        }
        let roles = self.stated(&declared.name).map(|arrangement| arrangement.roles().to_vec());
        let channels = |axis: &AxisLength| axis.fixed().is_some_and(|n| matches!(n, 1 | 3 | 4));
        let last = self.channels_last || (!channels(second) && channels(last));
        let roles = roles.unwrap_or_else(|| {
            use AxisRole::{Batch, Channel, Height, Width};
            if last { vec![Batch, Height, Width, Channel] } else { vec![Batch, Channel, Height, Width] }
        });
        let crop = side.map_or_else(|| preprocessing.crop.unwrap_or([SIDE; 2]), |side| [side; 2]);
        let guess = |role: &AxisRole| match role {
            AxisRole::Channel => Some(preprocessing.channels.count()),
            AxisRole::Height => Some(crop[0]),
            AxisRole::Width => Some(crop[1]),
            _ => None,
        };
        Some(roles.iter().map(guess).collect())
    }

    /// Builds the graph for inputs with these sides after the batch.
    fn build(&self, sides: &BTreeMap<String, Vec<usize>>) -> Result<Built> {
        let mut options = LoadOptions::default().dtype(self.dtype);
        options.input_sides.clone_from(sides);
        for (name, value) in &self.options.constants {
            // A number, where the file declares a tensor of one value.
            let axes = self.declared.iter().find(|d| d.name == *name).and_then(|d| d.axes.as_ref());
            let rank = axes.map_or(value.rank(), Vec::len);
            let whole =
                if value.elem_count() == 1 { value.reshape(vec![1; rank]) } else { Ok(value.clone()) };
            options.constants.insert(name.clone(), whole.map_err(ascribe_core::Error::from)?);
        }
        options.output.clone_from(&self.options.output);
        options.peel = self.options.task != Some(OutputKind::Number);
        for declared in &self.declared {
            if let Some(axis) = self.batch_axis(declared) {
                options.batch_axes.insert(declared.name.clone(), axis);
            }
        }
        let loaded = self.file()?.load(&options)?;
        let graph = loaded.graph.to_dtype(self.dtype)?;
        let kind = self.options.task.or(graph.output_kind());
        let mut layouts = Layouts::new();
        for input in &loaded.inputs {
            if let Some(arrangement) = self.layout(&graph, input)? {
                layouts.insert(input.name.clone(), arrangement);
            }
        }
        let first =
            |(name, arrangement): (&String, &Arrangement)| Ok((name.clone(), arrangement.batch_first()?));
        let arranged = layouts.iter().map(first).collect::<Result<Vec<_>>>()?;
        let arranged: Vec<(&str, Arrangement)> =
            arranged.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
        let graph = graph.arranged(&arranged)?.canonical_keeping(&self.options.keep)?.with_output_kind(kind);
        let mut notes = loaded.notes;
        for (name, arrangement) in layouts.iter().filter(|(_, a)| !a.is_plain()) {
            let roles: Vec<String> = arrangement.roles().iter().map(ToString::to_string).collect();
            notes.push(format!("input '{name}' has the axes [{}]", roles.join(", ")));
        }
        Ok(Built { graph, layouts, notes, labels: loaded.labels, open: None })
    }

    /// The order of an input's axes: as stated, or as the graph or the place of the samples makes it.
    fn layout(&self, graph: &Graph, input: &onnx::ModelInput) -> Result<Option<Arrangement>> {
        let Some(batch) = input.batch_axis else { return Ok(None) };
        let rank = input.sides.len() + 1;
        let unknown = || {
            let role = |axis| if axis == batch { AxisRole::Batch } else { AxisRole::Unknown };
            Arrangement::new(&(0..rank).map(role).collect::<Vec<_>>())
        };
        let picture = rank == 4;
        if let (Some(stated), false) = (self.stated(&input.name), input.integer && !picture) {
            return Ok(Some(stated.clone()));
        }
        if input.integer && !picture {
            return Ok(if batch == 0 { None } else { Some(unknown()?) });
        }
        if self.channels_last && rank == 4 && batch == 0 {
            return Ok(Some(ascribe_core::layout("nhwc")?));
        }
        let evident = graph.evident_roles(&input.name)?;
        let Some(mut roles) = evident else {
            return Ok(if batch == 0 { None } else { Some(unknown()?) });
        };
        // The graph's input has the samples first.
        roles.retain(|role| *role != AxisRole::Batch);
        roles.insert(batch, AxisRole::Batch);
        Ok(Some(Arrangement::new(&roles)?).filter(|arrangement| !arrangement.is_plain()))
    }

    /// The graph for inputs of these sizes, from the file again if `graph` was made for others.
    pub fn fit(&self, graph: &Graph, layouts: &Layouts, x: &Inputs) -> Result<Option<Graph>> {
        let mut sides = BTreeMap::new();
        let mut differs = false;
        for &id in graph.inputs() {
            let name = graph.node(id).name();
            let (Some(spec), Some(value)) = (graph.input_spec(id), x.find(name)) else { return Ok(None) };
            let declared = self.declared.iter().find(|d| d.name == *name);
            let own: Vec<Option<usize>> = value.dims().iter().skip(1).copied().map(Some).collect();
            if own.len() != spec.sides.len() {
                return Ok(None);
            }
            differs |= own != spec.sides && declared.is_some_and(DeclaredInput::is_open);
            let shape = match layouts.get(name) {
                Some(arrangement) => arrangement.own_shape(value.dims()),
                None => value.dims().to_vec(),
            };
            let batch = layouts.get(name).and_then(|a| a.roles().iter().position(|r| *r == AxisRole::Batch));
            let mut shape = shape;
            shape.remove(batch.unwrap_or(0));
            sides.insert(name.to_string(), shape);
        }
        if !differs {
            return Ok(None);
        }
        let key: Vec<Vec<usize>> = sides.values().cloned().collect();
        let cached = || self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(graph) = cached().get(&key) {
            return Ok(Some(graph.clone()));
        }
        let built = self.build(&sides)?;
        cached().insert(key, built.graph.clone());
        Ok(Some(built.graph))
    }

    /// The shapes and the constants that tensors decide: of inputs with open sides, and integers that all samples share.
    pub fn options_for<'a>(
        declared: &[DeclaredInput],
        tensors: impl Fn(&str) -> Option<&'a Tensor>,
        options: &OpenOptions,
    ) -> OpenOptions {
        let mut options = options.clone();
        for input in declared {
            let Some(tensor) = tensors(&input.name) else { continue };
            if input.integer && (input.batch_axis.is_none() || tensor.rank() == 0) {
                options.constants.entry(input.name.clone()).or_insert_with(|| tensor.clone());
            } else if input.is_open() && !options.shapes.contains_key(&input.name) {
                options.shapes.insert(input.name.clone(), tensor.dims().to_vec());
            }
        }
        options
    }

    pub fn declared(&self) -> &[DeclaredInput] {
        &self.declared
    }
}

/// A note on the open sides, and what they are taken as.
fn open_note(open: &[(String, usize, String, usize)]) -> Option<String> {
    if open.is_empty() {
        return None;
    }
    let one = |(name, axis, symbol, side): &(String, usize, String, usize)| {
        format!("axis {axis} ({symbol}) of '{name}' as {side}")
    };
    let list: Vec<String> = open.iter().map(one).collect();
    Some(format!("the file leaves sides open; until an input is given, {}", list.join(", ")))
}
