//! What the outputs of classifiers of `ai.onnx.ml` say: which one is explained, the names of its classes, and whether it holds
//! probabilities.

use ascribe_core::ops::{Binary, Op, Pointwise, Structure};
use ascribe_core::{DType, Device, Graph, GraphBuilder, Inputs, NodeId, OutputKind, Tensor};

use super::ModelInput;
use super::context::Context;
use super::interface::Peeled;
use super::proto::{self, data_type};
use super::text;
use super::value::{Elem, Res, Value};

/// The position of the output that is explained by default: the first that holds scores, where those before hold labels.
pub(super) fn first(graph: &proto::Graph) -> usize {
    let code = |info: &proto::ValueInfo| {
        let tensor = info.r#type.as_ref().map(|kind| kind.tensor.as_ref());
        // Maps of classes to scores are no tensors.
        tensor.map_or(0, |tensor| tensor.map_or(data_type::FLOAT, |tensor| tensor.elem_type.unwrap_or(0)))
    };
    let scores = |info: &proto::ValueInfo| matches!(code(info), data_type::FLOAT | data_type::DOUBLE);
    let labels = |info: &proto::ValueInfo| {
        matches!(code(info), data_type::INT64 | data_type::INT32 | data_type::STRING)
    };
    let found = graph.output.iter().position(scores).unwrap_or(0);
    if graph.output[..found].iter().all(labels) { found } else { 0 }
}

/// The names of the classes of an output with this many columns; `None` if the file does not name them, or by their numbers.
pub(super) fn labels(cx: &Context, columns: usize) -> Option<Vec<String>> {
    let fits = |labels: &&Vec<String>| labels.len() == columns;
    let found = cx.labels.iter().rev().find(fits)?;
    let numbered = found.iter().enumerate().all(|(class, label)| *label == class.to_string());
    (!numbered).then(|| found.clone())
}

/// Whether the file names as many classes as the output has columns.
pub(super) fn is_classifier(cx: &Context, columns: usize) -> bool {
    columns > 1 && cx.labels.iter().any(|labels| labels.len() == columns)
}

/// An output of texts, as the positions of its labels among the classes; other outputs stay as they are.
pub(super) fn numbered(cx: &mut Context, name: &str, value: Value) -> Res<Value> {
    if value.elem()? != Elem::Text {
        return Ok(value);
    }
    let classes = cx.labels.last().cloned().ok_or("holds text, and the file names no classes")?;
    cx.notes.push(format!(
        "output '{name}' holds text: it is returned as the position of the label in {}",
        classes.join(", ")
    ));
    text::positions(cx, &format!("{name}/position"), &value, &classes)
}

/// Samples on which [`holds_probabilities`] looks at the output.
const SAMPLES: usize = 16;

/// Whether the rows of the first output `[N, C]` are probabilities on random samples: between 0 and 1, with the sum 1.
pub(super) fn holds_probabilities(graph: &Graph, inputs: &[ModelInput]) -> bool {
    let rows = |inputs: &[ModelInput]| -> ascribe_core::Result<Vec<Vec<f64>>> {
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let mut named = Vec::new();
        for input in inputs {
            let shape = [&[SAMPLES], &input.sides[..]].concat();
            let size: usize = shape.iter().product();
            let value = if input.integer {
                let count = input.categories.len().max(1) as f64;
                let values: Vec<i64> = (0..size).map(|_| ((draw() + 1.0) * 0.5 * count) as i64).collect();
                Tensor::from_vec(values, shape, &Device::Cpu)?
            } else {
                // From small to large values.
                let scale = |at: usize| 10_f64.powi((at * SAMPLES / size) as i32 % 5 - 2);
                let values: Vec<f64> = (0..size).map(|at| draw() * scale(at)).collect();
                Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(graph.dtype())?
            };
            named.push((input.name.clone(), value));
        }
        let outputs = graph.forward(&Inputs::named(named)?)?;
        Ok(outputs.scores()?.to_dtype(DType::F64)?.to_vec2()?)
    };
    // A sample that cannot be computed says nothing.
    rows(inputs).is_ok_and(|rows| {
        rows.iter().all(|row| {
            row.iter().all(|p| (-1e-6..=1.0 + 1e-6).contains(p))
                && (row.iter().sum::<f64>() - 1.0).abs() < 1e-4
        })
    })
}

/// Removes the sigmoid of an output `[1 − σ(z), σ(z)]` of two classes, which is the softmax of `[−z/2, z/2]`.
pub(super) fn peel_pair(builder: &mut GraphBuilder, output: NodeId, dtype: DType) -> Res<Option<Peeled>> {
    let mut at = output;
    while let (Some(Op::Structure(Structure::Identity)), &[from]) =
        (builder.node(at).op(), builder.node(at).inputs())
    {
        at = from;
    }
    let (Some(Op::Structure(Structure::Concat { axis: 1 })), &[other, own]) =
        (builder.node(at).op(), builder.node(at).inputs())
    else {
        return Ok(None);
    };
    let (Some(Op::Binary(Binary::Sub)), &[one, also], Some(Op::Pointwise(Pointwise::Sigmoid)), &[logit]) = (
        builder.node(other).op(),
        builder.node(other).inputs(),
        builder.node(own).op(),
        builder.node(own).inputs(),
    ) else {
        return Ok(None);
    };
    let is_one = |value: &Tensor| -> ascribe_core::Result<bool> {
        Ok(value.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|&v| v == 1.0))
    };
    let complement = builder.node(one).constant().is_some_and(|value| is_one(value).unwrap_or(false));
    if also != own || !complement {
        return Ok(None);
    }
    let names = vec![builder.node(own).name().to_string()];
    let half = builder.constant("half", Tensor::new(0.5, &Device::Cpu)?.to_dtype(dtype)?);
    let positive = builder.op(&format!("{}/half", names[0]), Binary::Mul, &[logit, half])?;
    let negative = builder.op(&format!("{}/other class", names[0]), Pointwise::Neg, &[positive])?;
    let id =
        builder.op(&format!("{}/logits", names[0]), Structure::Concat { axis: 1 }, &[negative, positive])?;
    Ok(Some(Peeled { id, names, sigmoid: true, kind: Some(OutputKind::Classes) }))
}
