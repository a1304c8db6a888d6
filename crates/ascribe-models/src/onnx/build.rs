//! Builds the graph from a decoded file.

use std::collections::{HashMap, HashSet};

use ascribe_core::{DType, GraphBuilder, NodeId, OutputKind, Tensor};

use super::answers;
use super::columns;
use super::context::Context;
use super::declared::DeclaredInput;
use super::interface;
use super::proto::{self, data_type};
use super::supported::FIRST_OPSET;
use super::tensors::Store;
use super::text::Texts;
use super::translate::{Scope, Translator, default_opset};
use super::value::{Elem, Fault, Known, Value};
use super::{File, LoadOptions, LoadedModel, ModelInput, NodeProblem};
use crate::error::{Error, Result};

/// The two batch sizes for which all shapes are computed; see [`super::context`]. They are primes, so that the axis
/// that contains the batch is recognised by the ratio of its sizes.
const BATCHES: [usize; 2] = [7, 11];
/// Versions of the default operator set that are supported.
const OPSETS: std::ops::RangeInclusive<i64> = FIRST_OPSET..=28;

/// An input with the lengths of its axes, and its data type.
struct Declared {
    input: ModelInput,
    /// A value of `TensorProto.DataType`.
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
pub(super) fn build(file: &File, options: &LoadOptions) -> Result<LoadedModel> {
    let File { path, beside, model, inputs } = file;
    let malformed = |problem: String| Error::malformed(path, "ONNX model", problem);
    let graph = model.graph.as_ref().ok_or_else(|| malformed("it holds no graph".into()))?;
    let tables = columns::uses_domain(graph);
    // A file that uses no operator of the default set need not state its version.
    let opset = default_opset(&model.opset_import)
        .or(tables.then_some(*OPSETS.end()))
        .ok_or_else(|| malformed("it does not state a version of the default operator set".into()))?;
    // Operators that older sets define otherwise are found node by node.
    let old = tables && (1..*OPSETS.start()).contains(&opset);
    if !OPSETS.contains(&opset) && !old {
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
    let given = |declared: &DeclaredInput| options.constants.contains_key(&declared.name);
    let inputs = inputs
        .iter()
        .filter(|declared| !given(declared))
        .map(|declared| Ok(Declared { input: declared.input(options)?, code: declared.code }))
        .collect::<Result<Vec<_>>>()?;
    if inputs.is_empty() {
        return Err(malformed("all of its inputs are given as constants".into()));
    }
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
            store: Store::new(beside.as_deref(), dtype),
            budget: options.max_folded_values,
            largest: options.max_values_per_sample,
            own_indices: HashSet::new(),
            quantized: HashMap::new(),
            dynamic: HashMap::new(),
            quantized_weights: false,
            ml_version: columns::version(&model.opset_import),
            texts: Texts::default(),
            labels: Vec::new(),
            notes: Vec::new(),
        };
        assemble(model, graph, cx, opset, &inputs, fixed, options)
    };
    let result = attempt(None).or_else(|first| {
        // If the batch cannot be made variable, the graph is that of the file's batch size, or of one sample.
        let Failure::Nodes(problems) = first else { return Err(first) };
        let batch = baked.unwrap_or(1);
        // What cannot be loaded with a fixed batch size either is what is wrong with the file.
        let mut loaded = attempt(Some(batch))?;
        let names: Vec<String> = problems.iter().take(3).map(|p| format!("'{}'", p.name)).collect();
        let more = if problems.len() > 3 { ", …" } else { "" };
        let each = if batch == 1 { "one at a time".into() } else { format!("{batch} at a time") };
        loaded.notes.push(format!(
            "samples are computed {each}: the file fixes the batch size in {}{more}",
            names.join(", ")
        ));
        Ok(loaded)
    });
    result.map_err(|failure| match failure {
        Failure::Whole(error) => error,
        Failure::Nodes(nodes) => Error::Nodes { path: path.clone(), nodes },
    })
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
    for (name, value) in &options.constants {
        scope.set(name, constant(name, value, cx.dtype)?);
    }
    for Declared { input, code } in inputs {
        let value = interface::input(&mut cx, input, *code)
            // Constants are 64-bit integers, so narrower inputs become those.
            .and_then(|value| match *code {
                data_type::INT64 => Ok(value),
                _ => cx.as_long(&format!("{}/64 bits", input.name), &value),
            })
            .map_err(|fault| fault_of(&input.name, "input", fault))?;
        notes.extend(remark(input, *code, cx.dtype));
        scope.set(&input.name, value);
    }
    let mut translator = Translator::new(cx, &model.functions);
    let names = ordered(graph, options, &mut notes)?;
    let (mut outputs, mut kind, mut columns) = (Vec::new(), None, 0);
    let mut done = vec![false; graph.node.len()];
    for (i, name) in names.iter().enumerate() {
        translator.run(&mut scope, &graph.node, &[name], &mut done);
        let mut value = translator.resolve(&mut scope, name);
        // An output that is not explained may have operators that are not supported.
        let problems = if i > 0 { std::mem::take(&mut translator.problems) } else { Vec::new() };
        if let Some(problem) = problems.first() {
            value = Err(format!("{} '{}': {}", problem.op, problem.name, problem.why).into());
        }
        let value = value.and_then(|value| answers::numbered(&mut translator.cx, name, value));
        match value.and_then(|value| {
            interface::output(&mut translator.cx, name, &value, fixed).map(|id| (id, value))
        }) {
            Ok((id, value)) => {
                if translator.cx.holds_levels(id) {
                    notes.push(format!(
                        "output '{name}' is quantised; it is returned as the numbers that its levels stand for"
                    ));
                }
                let shape = value.shapes().map_err(|fault| fault_of(name, "output", fault))?[0].clone();
                let (peeled, of) = peeled(&mut translator.cx, id, &value, options, &mut notes)?;
                if let (0, &[_, count]) = (i, &shape[..]) {
                    columns = count;
                }
                if i == 0 {
                    kind = of;
                }
                outputs.push((peeled, *name));
            }
            Err(Fault::Why(why)) if i > 0 => notes.push(format!("output '{name}' is left out: {why}")),
            Err(Fault::Why(why)) => {
                translator.problems.push(NodeProblem { name: (*name).into(), op: "output".into(), why });
            }
            Err(Fault::Reported) if i > 0 => {
                notes.push(format!("output '{name}' is left out: it uses what cannot be loaded"));
            }
            Err(Fault::Reported) => {}
        }
        if !translator.problems.is_empty() {
            return Err(Failure::Nodes(translator.problems));
        }
    }
    if !translator.cx.quantized.is_empty() || translator.cx.quantized_weights {
        notes.push(format!(
            "the model is quantised: its values are rounded to its levels, but computed in {:?}, and gradients pass \
             through the rounding unchanged within its range",
            translator.cx.dtype
        ));
    }
    notes.append(&mut translator.cx.notes);
    let (labels, classifies) =
        (answers::labels(&translator.cx, columns), answers::is_classifier(&translator.cx, columns));
    let dtype = translator.cx.dtype;
    let mut builder = translator.cx.builder;
    for (name, id) in scope.nodes() {
        builder.alias(name, id);
    }
    let producer =
        [&model.producer_name, &model.producer_version].map(|p| p.clone().unwrap_or_default()).join(" ");
    let ids: Vec<NodeId> = outputs.iter().map(|(id, _)| *id).collect();
    // A graph without floating-point constants does not know its type.
    let mut graph = builder.finish(&ids)?.to_dtype(dtype)?.with_fixed_batch(fixed).with_output_kind(kind);
    let models: Vec<ModelInput> = inputs.iter().map(|d| d.input.clone()).collect();
    if kind.is_none() && classifies && answers::holds_probabilities(&graph, &models) {
        notes.push(format!("output '{}' holds the probabilities of classes", outputs[0].1));
        graph = graph.with_output_kind(Some(OutputKind::Probabilities));
    }
    Ok(LoadedModel {
        graph: graph.with_output_names(outputs.iter().map(|(_, name)| (*name).to_string()))?,
        opset,
        producer: producer.trim().to_string(),
        inputs: models,
        fixed_batch: fixed,
        labels,
        notes,
    })
}

/// The names of the outputs, the explained one first.
fn ordered<'a>(
    graph: &'a proto::Graph,
    options: &LoadOptions,
    notes: &mut Vec<String>,
) -> Result<Vec<&'a str>> {
    let mut names: Vec<&str> = graph.output.iter().filter_map(|o| o.name.as_deref()).collect();
    if let Some(wanted) = &options.output {
        let Some(at) = names.iter().position(|name| name == wanted) else {
            let expected = format!("one of {}", names.join(", "));
            return Err(Error::invalid("output", format!("there is no '{wanted}'"), expected));
        };
        names[..=at].rotate_right(1);
    } else if columns::uses_domain(graph) || names.first().is_some_and(|name| name.contains("label")) {
        let at = answers::first(graph);
        if let (Some(label), Some(scores)) = (names.first(), names.get(at).filter(|_| at > 0)) {
            notes.push(format!("output '{scores}' is explained, which holds scores; '{label}' holds labels"));
            names[..=at].rotate_right(1);
        }
    }
    Ok(names)
}

/// What is worth knowing about an input.
fn remark(input: &ModelInput, code: i32, dtype: DType) -> Option<String> {
    let name = &input.name;
    if matches!(code, data_type::FLOAT16 | data_type::BFLOAT16) {
        return Some(format!("input '{name}' is half precision in the file; it is computed in {dtype:?}"));
    }
    if input.batch_axis.is_none() {
        return Some(format!("input '{name}' is a single number: all samples of a batch share the first"));
    }
    if !input.categories.is_empty() {
        let known = input.categories.join(", ");
        return Some(format!(
            "input '{name}' holds text; it is given as the position in the list of categories {known}, or −1 for another text"
        ));
    }
    if !input.integer && !matches!(code, data_type::FLOAT | data_type::DOUBLE) {
        return Some(format!("input '{name}' holds integers, which are taken as numbers"));
    }
    None
}

/// The problem of a node as a reason why the graph cannot be built.
fn fault_of(name: &str, op: &str, fault: Fault) -> Failure {
    let why = match fault {
        Fault::Why(why) => why,
        Fault::Reported => "uses what cannot be loaded".into(),
    };
    Failure::Nodes(vec![NodeProblem { name: name.into(), op: op.into(), why }])
}

/// An input that is given as a constant.
fn constant(name: &str, value: &Tensor, dtype: DType) -> Result<Value> {
    let (value, elem) = if value.dtype().is_float() {
        (value.to_dtype(dtype)?, Elem::Float)
    } else {
        (value.to_dtype(DType::I64)?, Elem::Int)
    };
    Ok(Known::value(value, elem, name))
}

/// An output without the softmax or sigmoid at its end, and what it says.
fn peeled(
    cx: &mut Context,
    id: NodeId,
    value: &Value,
    options: &LoadOptions,
    notes: &mut Vec<String>,
) -> std::result::Result<(NodeId, Option<OutputKind>), Failure> {
    let whole = matches!(value, Value::Node(signal) if signal.id == id);
    if !options.peel || !whole {
        return Ok((id, None));
    }
    let shape = value.shapes().map_err(|fault| fault_of("output", "output", fault))?[0].clone();
    let found = answers::peel_pair(&mut cx.builder, id, cx.dtype);
    let found = match found {
        Ok(None) => interface::peel(&mut cx.builder, id, &shape),
        found => found,
    };
    let Some(peeled) = found.map_err(|fault| fault_of("output", "output", fault))? else {
        let detector = interface::is_detector(&cx.builder, id, &shape);
        return Ok((id, detector.then_some(OutputKind::Boxes)));
    };
    let names: Vec<String> = peeled.names.iter().map(|name| format!("'{name}'")).collect();
    let what = match (peeled.sigmoid, names.len()) {
        (true, _) => "sigmoid",
        (false, 1) => "softmax",
        (false, _) => "logarithm of the softmax",
    };
    notes.push(format!("the {what} {} at the end was removed: the output is the logits", names.join(", ")));
    Ok((peeled.id, peeled.kind))
}
