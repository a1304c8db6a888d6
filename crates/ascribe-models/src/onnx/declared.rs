//! The inputs of a file as it declares them.

use std::path::Path;

use super::columns::{self, Column};
use super::proto::{self, data_type};
use super::tensors::elem_of;
use super::value::Elem;
use super::{LoadOptions, ModelInput};
use crate::error::{Error, Result};

/// The length of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AxisLength {
    /// Fixed by the file.
    Fixed(usize),
    /// Open, with the file's name for it: axes of the same name have the same length.
    Named(String),
    /// Open.
    Open,
}

impl AxisLength {
    /// The length, if the file fixes it.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(length) => Some(*length),
            _ => None,
        }
    }
}

impl std::fmt::Display for AxisLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Named(name) => f.write_str(name),
            Self::Open => f.write_str("?"),
        }
    }
}

/// An input as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredInput {
    /// Its name.
    pub name: String,
    /// Its axes, the batch included; `None` if the file does not state them.
    pub axes: Option<Vec<AxisLength>>,
    /// Whether it holds integers that are no quantities: tokens, or positions in the list of categories.
    pub integer: bool,
    /// For an input of texts: the categories that the file's encoders know. The input of the graph holds their positions in this
    /// list, or −1 for any other text. Empty for inputs of numbers.
    pub categories: Vec<String>,
    /// Which axis counts the samples; `None` for a scalar, which all samples share.
    pub batch_axis: Option<usize>,
    /// Its data type, a value of `TensorProto.DataType`.
    pub(super) code: i32,
}

impl DeclaredInput {
    /// The axes after removing that of the batch.
    pub fn sides(&self) -> Option<Vec<AxisLength>> {
        let mut axes = self.axes.clone()?;
        if let Some(batch) = self.batch_axis {
            axes.remove(batch);
        }
        Some(axes)
    }

    /// Whether the file declares a type of integers or truth values, also where they are read as numbers.
    pub fn holds_integers(&self) -> bool {
        elem_of(self.code).is_ok_and(|elem| matches!(elem, Elem::Int | Elem::Bool))
    }

    /// Whether an axis besides the batch has no fixed length.
    pub fn is_open(&self) -> bool {
        self.sides().is_none_or(|sides| sides.iter().any(|side| side.fixed().is_none()))
    }

    /// The input with the lengths of all axes, from the file and the options.
    pub(super) fn input(&self, options: &LoadOptions) -> Result<ModelInput> {
        let name = &self.name;
        let mut declared = self.clone();
        if let Some(&axis) = options.batch_axes.get(name) {
            declared.batch_axis = Some(axis);
            if self.axes.as_ref().is_some_and(|axes| axis >= axes.len()) {
                let expected = format!("an axis of {}", self.shape());
                return Err(Error::invalid(
                    format!("batch axis of input '{name}'"),
                    axis.to_string(),
                    expected,
                ));
            }
        }
        let own = declared.sides();
        let sides = if let Some(given) = options.input_sides.get(name) {
            let fits = own.as_ref().is_none_or(|own| {
                own.len() == given.len()
                    && own.iter().zip(given).all(|(own, &given)| own.fixed().is_none_or(|own| own == given))
            });
            if !fits {
                let expected = format!("sides that fit {}", self.shape());
                let what = format!("sides of input '{name}'");
                return Err(Error::invalid(what, format!("{given:?}"), expected));
            }
            given.clone()
        } else {
            let sides = own.and_then(|own| own.iter().map(AxisLength::fixed).collect::<Option<Vec<_>>>());
            sides.ok_or_else(|| {
                let problem = if self.axes.is_none() {
                    "the file does not state its shape".to_string()
                } else {
                    format!("it has open axes: {}", self.shape())
                };
                let expected = "the sizes of the axes after the batch axis in the load options (input_sides)";
                Error::invalid(format!("input '{name}'"), problem, expected)
            })?
        };
        let total = sides.iter().try_fold(1_usize, |n, &s| n.checked_mul(s));
        if total.is_none_or(|n| n == 0 || n > 1 << 32) {
            let expected = "a size that fits memory";
            return Err(Error::invalid(format!("input '{name}'"), format!("sides {sides:?}"), expected));
        }
        let batch = declared.batch_axis.and_then(|axis| self.axes.as_ref()?.get(axis)?.fixed());
        Ok(ModelInput {
            name: name.clone(),
            sides,
            integer: self.integer,
            categories: self.categories.clone(),
            stated_batch: batch,
            batch_axis: declared.batch_axis,
        })
    }

    /// The declared shape in words, for messages: `[N, 3, height, ?]`.
    pub fn shape(&self) -> String {
        let Some(axes) = &self.axes else { return "an unknown shape".into() };
        let text: Vec<String> = axes.iter().map(ToString::to_string).collect();
        format!("[{}]", text.join(", "))
    }
}

/// Names that exporters give to the axis of the batch.
fn names_batch(length: &AxisLength) -> bool {
    let AxisLength::Named(name) = length else { return false };
    let name = name.to_lowercase();
    name.contains("batch") || matches!(name.as_str(), "n" | "b" | "bs" | "bsz" | "num_samples")
}

/// The inputs of a graph, without initialisers, which old files list among the inputs.
pub(super) fn inputs(graph: &proto::Graph, path: &Path) -> Result<Vec<DeclaredInput>> {
    let malformed = |problem: String| Error::malformed(path, "ONNX model", problem);
    let stored: std::collections::HashSet<&str> =
        graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
    let mut inputs: Vec<DeclaredInput> = Vec::new();
    let tables = columns::uses_domain(graph);
    for info in &graph.input {
        let name = info.name.as_deref().unwrap_or_default();
        if stored.contains(name) {
            continue;
        }
        if name.is_empty() || inputs.iter().any(|d| d.name == name) {
            return Err(malformed(format!("the input name '{name}' is empty or used twice")));
        }
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor.as_ref());
        let tensor = tensor.ok_or_else(|| malformed(format!("input '{name}' is not a tensor")))?;
        let code = tensor.elem_type.unwrap_or(0);
        let elem = elem_of(code)
            .map_err(|_| malformed(format!("input '{name}' is of type {}", data_type::name(code))))?;
        let column = if tables && matches!(elem, Elem::Int | Elem::Text) {
            columns::column(graph, name)
        } else {
            Column::default()
        };
        if elem == Elem::Text && column.categories.is_empty() {
            return Err(malformed(format!(
                "input '{name}' holds text, and no encoder that reads it (OneHotEncoder, LabelEncoder or CategoryMapper) says \
                 which texts are known"
            )));
        }
        let length = |d: &proto::Dimension| match (d.value.and_then(|v| usize::try_from(v).ok()), &d.param) {
            (Some(value), _) if value > 0 => AxisLength::Fixed(value),
            (_, Some(name)) if !name.is_empty() => AxisLength::Named(name.clone()),
            _ => AxisLength::Open,
        };
        let axes: Option<Vec<AxisLength>> =
            tensor.shape.as_ref().map(|shape| shape.dim.iter().map(length).collect());
        let batch_axis = match axes.as_deref() {
            Some([]) => None,
            // The samples are on the first axis, unless the names of the axes say something else.
            Some(axes) if !names_batch(&axes[0]) => Some(axes.iter().position(names_batch).unwrap_or(0)),
            _ => Some(0),
        };
        // Integers that are only read as numbers are explained like numbers.
        let integer = elem != Elem::Float && !column.number;
        let categories = if elem == Elem::Text { column.categories } else { Vec::new() };
        inputs.push(DeclaredInput { name: name.into(), axes, integer, categories, batch_axis, code });
    }
    if inputs.is_empty() {
        return Err(malformed("it has no inputs".into()));
    }
    states(&mut inputs);
    Ok(inputs)
}

/// Finds the batch of inputs beside the first, such as the states of recurrent layers `[layers, N, D]`, whose first axis is
/// not as long as that of the first input: an axis that the file leaves open, or one of length 1.
fn states(inputs: &mut [DeclaredInput]) {
    let main =
        inputs.iter().find(|input| !input.integer).and_then(|input| input.axes.as_ref()?.first().cloned());
    let Some(main) = main else { return };
    for input in inputs.iter_mut().filter(|input| input.batch_axis == Some(0)) {
        let Some(axes) = &input.axes else { continue };
        let (Some(AxisLength::Fixed(2..)), false) = (axes.first(), axes.first() == Some(&main)) else {
            continue;
        };
        let open = axes.iter().position(|axis| axis.fixed().is_none());
        let one = || axes.iter().position(|axis| *axis == AxisLength::Fixed(1));
        // With an input for a fixed number of samples, that number is the only hint.
        let same = axes.iter().position(|axis| *axis == main && main.fixed().is_some());
        let found = if main.fixed().is_some() { same } else { open.or_else(one) };
        input.batch_axis = found.or(Some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(axes: &[&str], batch_axis: Option<usize>) -> DeclaredInput {
        let length = |text: &&str| match (text.parse(), *text) {
            (Ok(length), _) => AxisLength::Fixed(length),
            (_, "?") => AxisLength::Open,
            (_, name) => AxisLength::Named(name.into()),
        };
        let axes = Some(axes.iter().map(length).collect());
        DeclaredInput {
            name: "x".into(),
            axes,
            integer: false,
            categories: vec![],
            batch_axis,
            code: data_type::FLOAT,
        }
    }

    #[test]
    fn open_sides_come_from_the_options() {
        let input = declared(&["N", "3", "h", "?"], Some(0));
        assert!(input.is_open());
        let error = input.input(&LoadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("open axes: [N, 3, h, ?]"), "{error}");
        let found = input.input(&LoadOptions::default().input_sides("x", &[3, 5, 6])).unwrap();
        assert_eq!(found.sides, [3, 5, 6]);
        assert!(input.input(&LoadOptions::default().input_sides("x", &[1, 5, 6])).is_err());
    }

    #[test]
    fn states_of_recurrent_layers_have_their_batch_behind_the_layers() {
        for (main, state, axis) in [
            (&["?", "?"][..], &["2", "?", "128"][..], 1),
            (&["N", "3", "160"], &["4", "1", "64"], 1),
            (&["3", "160"], &["4", "3", "64"], 1),
            (&["2", "160"], &["2", "2", "64"], 0),
            (&["?", "3"], &["7", "5"], 0),
            (&["?", "3"], &["1", "1", "128"], 0),
        ] {
            let mut inputs = [declared(main, Some(0)), declared(state, Some(0))];
            states(&mut inputs);
            assert_eq!(inputs[1].batch_axis, Some(axis), "{main:?} {state:?}");
        }
    }

    #[test]
    fn the_batch_may_be_another_axis() {
        let state = declared(&["2", "batch", "128"], Some(1));
        let found = state.input(&LoadOptions::default()).unwrap();
        assert_eq!((found.sides, found.batch_axis, found.stated_batch), (vec![2, 128], Some(1), None));
        let mut options = LoadOptions::default();
        options.batch_axes.insert("x".into(), 2);
        let found = state.input(&options.clone().input_sides("x", &[2, 4])).unwrap();
        assert_eq!((found.sides, found.stated_batch), (vec![2, 4], Some(128)));
        options.batch_axes.insert("x".into(), 3);
        assert!(state.input(&options).is_err());
        assert!(
            names_batch(&AxisLength::Named("batch_size".into()))
                && !names_batch(&AxisLength::Named("time".into()))
        );
    }
}
