//! Builds the graph from a decoded file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ascribe_core::ops::{Side, Structure};
use ascribe_core::{DType, GraphBuilder, NodeId};

use super::context::Context;
use super::peel::peel;
use super::proto::{self, data_type};
use super::tensors::{Store, elem_of};
use super::translate::{Scope, Translator, default_opset};
use super::value::{Elem, Res, Signal, Value};
use super::{LoadOptions, LoadedModel, ModelInput, NodeProblem};
use crate::error::{Error, Result};

/// The two batch sizes for which all shapes are computed; see [`super::context`]. They are primes, so that the axis
/// that contains the batch is recognised by the ratio of its sizes.
const BATCHES: [usize; 2] = [7, 11];
/// Versions of the default operator set that are supported.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;

/// An input as the file declares it.
struct Declared {
    input: ModelInput,
    /// Its data type, a value of `TensorProto.DataType`.
    code: i32,
}

/// Why a graph could not be built.
enum Failure {
    /// A problem of the file or the options as a whole.
    Whole(Error),
    /// Problems of single nodes.
    Nodes(Vec<NodeProblem>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

impl From<ascribe_core::Error> for Failure {
    fn from(error: ascribe_core::Error) -> Self {
        Self::Whole(error.into())
    }
}

/// Builds the graph, if possible with a variable batch size, otherwise with the batch size that the file fixes.
pub(super) fn build(
    model: &proto::Model,
    path: &Path,
    beside: Option<&Path>,
    options: &LoadOptions,
) -> Result<LoadedModel> {
    let malformed = |problem: String| Error::malformed(path, "ONNX model", problem);
    let graph = model.graph.as_ref().ok_or_else(|| malformed("it holds no graph".into()))?;
    let opset = default_opset(&model.opset_import)
        .ok_or_else(|| malformed("it does not state a version of the default operator set".into()))?;
    if !OPSETS.contains(&opset) {
        let (first, last) = OPSETS.into_inner();
        return Err(Error::invalid(
            format!("'{}'", path.display()),
            format!("uses operator set {opset}"),
            format!("{first} to {last}"),
        ));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(malformed("it holds sparse initialisers, which are not supported".into()));
    }
    let inputs = declared(graph, options, path)?;
    let dtype = match options.dtype {
        Some(dtype @ (DType::F32 | DType::F64)) => dtype,
        Some(other) => return Err(Error::invalid("data type", format!("{other:?}"), "f32 or f64")),
        None if inputs.iter().any(|d| d.code == data_type::DOUBLE) => DType::F64,
        None => DType::F32,
    };
    let baked = inputs.iter().find_map(|d| d.input.stated_batch);
    let attempt = |fixed: Option<usize>| {
        let cx = Context {
            builder: GraphBuilder::new(),
            dtype,
            worlds: fixed.map_or(BATCHES, |b| [b, b]),
            baked: baked.filter(|_| fixed.is_none()),
            anchor: None,
            store: Store::new(beside, dtype),
            budget: options.max_folded_values,
            largest: options.max_values_per_sample,
            own_indices: HashSet::new(),
            quantized: HashMap::new(),
            quantized_weights: false,
        };
        assemble(model, graph, cx, opset, &inputs, fixed, options)
    };
    let result = match (attempt(None), baked) {
        (Ok(loaded), _) => Ok(loaded),
        (Err(first), None) => Err(first),
        // If the batch cannot be made variable, try the batch size that the file fixes.
        (Err(first), Some(batch)) => match attempt(Some(batch)) {
            Ok(mut loaded) => {
                if let Failure::Nodes(problems) = &first {
                    let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    loaded.notes.push(format!(
                        "the batch size stays fixed at {batch}, as in the file: {}",
                        why.join("; ")
                    ));
                }
                Ok(loaded)
            }
            Err(_) => Err(first),
        },
    };
    result.map_err(|failure| match failure {
        Failure::Whole(error) => error,
        Failure::Nodes(nodes) => Error::Nodes { path: path.to_owned(), nodes },
    })
}

/// The inputs of the graph, without initialisers, which old files list among the inputs.
fn declared(graph: &proto::Graph, options: &LoadOptions, path: &Path) -> Result<Vec<Declared>> {
    let malformed = |problem: String| Error::malformed(path, "ONNX model", problem);
    let stored: std::collections::HashSet<&str> =
        graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
    let mut inputs: Vec<Declared> = Vec::new();
    for info in &graph.input {
        let name = info.name.as_deref().unwrap_or_default();
        if stored.contains(name) {
            continue;
        }
        if name.is_empty() || inputs.iter().any(|d| d.input.name == name) {
            return Err(malformed(format!("the input name '{name}' is empty or used twice")));
        }
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor.as_ref());
        let tensor = tensor.ok_or_else(|| malformed(format!("input '{name}' is not a tensor")))?;
        let code = tensor.elem_type.unwrap_or(0);
        let elem = elem_of(code)
            .map_err(|_| malformed(format!("input '{name}' is of type {}", data_type::name(code))))?;
        let dims = tensor.shape.as_ref().map_or(&[][..], |s| s.dim.as_slice());
        let side = |d: &proto::Dimension| d.value.and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0);
        let given = options.input_sides.get(name).cloned();
        let own: Option<Vec<usize>> = dims.get(1..).and_then(|rest| rest.iter().map(side).collect());
        let sides = match (given, own) {
            (Some(given), _) => {
                let fits = dims.is_empty()
                    || dims.len() == given.len() + 1
                        && dims.iter().skip(1).zip(&given).all(|(d, &g)| side(d).is_none_or(|s| s == g));
                if !fits {
                    let text: Vec<String> = dims.iter().skip(1).map(show).collect();
                    let expected = format!("sides that fit [{}]", text.join(", "));
                    return Err(Error::invalid(
                        format!("sides of input '{name}'"),
                        format!("{given:?}"),
                        expected,
                    ));
                }
                given
            }
            (None, Some(own)) => own,
            (None, None) => {
                let text: Vec<String> = dims.iter().map(show).collect();
                let problem = if dims.is_empty() {
                    "the file does not state its shape, or it is a scalar".to_string()
                } else {
                    format!("it has dynamic axes: [{}]", text.join(", "))
                };
                let expected = "the sizes of the axes after the batch axis in the load options (input_sides)";
                return Err(Error::invalid(format!("input '{name}'"), problem, expected));
            }
        };
        let total = sides.iter().try_fold(1_usize, |n, &s| n.checked_mul(s));
        if total.is_none_or(|n| n == 0 || n > 1 << 32) {
            return Err(Error::invalid(
                format!("input '{name}'"),
                format!("sides {sides:?}"),
                "a size that fits memory",
            ));
        }
        let stated_batch = dims.first().and_then(side);
        let integer = elem != Elem::Float;
        inputs.push(Declared { input: ModelInput { name: name.into(), sides, integer, stated_batch }, code });
    }
    if inputs.is_empty() {
        return Err(malformed("it has no inputs".into()));
    }
    Ok(inputs)
}

/// A dimension for error messages: its size or name, or `?`.
fn show(dimension: &proto::Dimension) -> String {
    match (&dimension.value, &dimension.param) {
        (Some(value), _) => value.to_string(),
        (None, Some(name)) if !name.is_empty() => name.clone(),
        _ => "?".into(),
    }
}

/// Translates all nodes. `fixed` is the batch size if it is to be fixed.
fn assemble(
    model: &proto::Model,
    graph: &proto::Graph,
    mut cx: Context,
    opset: i64,
    inputs: &[Declared],
    fixed: Option<usize>,
    options: &LoadOptions,
) -> std::result::Result<LoadedModel, Failure> {
    let mut notes = Vec::new();
    let mut scope = Scope::new(opset);
    scope.store(&graph.initializer);
    for declared in inputs {
        let value = input(&mut cx, declared, fixed)?;
        if matches!(declared.code, data_type::FLOAT16 | data_type::BFLOAT16) {
            let name = &declared.input.name;
            notes.push(format!(
                "input '{name}' is half precision in the file; it is computed in {:?}",
                cx.dtype
            ));
        }
        scope.set(&declared.input.name, value);
    }
    let mut translator = Translator::new(cx, &model.functions);
    let names: Vec<&str> = graph.output.iter().filter_map(|o| o.name.as_deref()).collect();
    translator.run(&mut scope, &graph.node, &names);
    let mut outputs = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let value = translator.resolve(&mut scope, name);
        match value.and_then(|value| output(&translator.cx, &value)) {
            Ok(id) => {
                if translator.cx.quantized.contains_key(&id) {
                    notes.push(format!(
                        "output '{name}' is quantised; it is returned as the numbers that its levels stand for"
                    ));
                }
                outputs.push(id);
            }
            Err(super::value::Fault::Reported) => {}
            Err(super::value::Fault::Why(why)) if i > 0 => {
                notes.push(format!("output '{name}' is left out: {why}"));
            }
            Err(super::value::Fault::Why(why)) => {
                translator.problems.push(NodeProblem { name: (*name).into(), op: "output".into(), why });
            }
        }
    }
    if !translator.problems.is_empty() {
        return Err(Failure::Nodes(translator.problems));
    }
    if !translator.cx.quantized.is_empty() || translator.cx.quantized_weights {
        notes.push(format!(
            "the model is quantised: its values are rounded to its levels, but computed in {:?}, and gradients pass \
             through the rounding unchanged within its range",
            translator.cx.dtype
        ));
    }
    let mut builder = translator.cx.builder;
    if options.peel_softmax {
        for id in &mut outputs {
            if let Ok(Some((peeled, name))) = peel(&mut builder, *id) {
                *id = peeled;
                notes.push(format!("the softmax '{name}' at the end was removed: the output is the logits"));
            }
        }
    }
    let producer =
        [&model.producer_name, &model.producer_version].map(|p| p.clone().unwrap_or_default()).join(" ");
    Ok(LoadedModel {
        graph: builder.finish(&outputs)?,
        opset,
        producer: producer.trim().to_string(),
        inputs: inputs.iter().map(|d| d.input.clone()).collect(),
        fixed_batch: fixed,
        notes,
    })
}

/// Adds an input. If the batch size is fixed, a reshape after it checks the batch size.
fn input(cx: &mut Context, declared: &Declared, fixed: Option<usize>) -> std::result::Result<Value, Failure> {
    let ModelInput { name, sides, integer, .. } = &declared.input;
    let open: Vec<Option<usize>> = sides.iter().copied().map(Some).collect();
    let mut id: NodeId =
        if *integer { cx.builder.integer_input(name, &open) } else { cx.builder.input(name, &open) };
    if let Some(batch) = fixed {
        let shape = std::iter::once(&batch).chain(sides).map(|&s| Side::Fixed(s)).collect();
        id = cx.builder.op(&format!("{name}/batch of {batch}"), Structure::Reshape { shape }, &[id])?;
    }
    cx.anchor.get_or_insert(id);
    let shape = cx.worlds.map(|batch| [&[batch], sides.as_slice()].concat());
    let elem = elem_of(declared.code).unwrap_or(Elem::Float);
    Ok(Value::Node(Signal { id, shape, elem, outer: 1 }))
}

/// The node of an output. Its first axis must be the batch, with one row per sample.
fn output(cx: &Context, value: &Value) -> Res<NodeId> {
    let shapes = value.shapes()?;
    let Value::Node(signal) = value else { return Err("does not depend on any input".into()) };
    if cx.own_indices.contains(&signal.id) {
        return Err("holds the numbers of samples".into());
    }
    let rows = shapes.iter().zip(cx.worlds).all(|(shape, batch)| shape.first() == Some(&batch));
    if !rows {
        return Err(format!(
            "has shape {:?} for a batch of {}; expected one row per sample",
            shapes[0], cx.worlds[0]
        )
        .into());
    }
    Ok(signal.id)
}
