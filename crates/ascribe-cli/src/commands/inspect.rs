//! `ascribe inspect`.

use std::fmt::Write;

use ascribe::Model;
use ascribe::core::ops::Slot;
use ascribe::core::{AxisRole, DType, Device, Graph, Inputs, Keep, Location, NodeId, Tensor, Trace};
use ascribe::models::onnx::DeclaredInput;
use serde_json::json;

use crate::args::Inspect;
use crate::error::{Failure, Result};
use crate::output::{json_text, table};
use crate::progress;
use crate::settings;

pub fn run(args: &Inspect) -> Result<String> {
    let model = settings::model(&args.model, None, &Location::Input)?;
    if let Some(sides) = model.open_sides() {
        progress::note(sides);
    }
    let graph = &model.graph;
    let inputs = zeros(&model)?;
    let trace = graph.trace(&inputs, Keep::All)?;
    let outputs = trace.outputs(graph)?;
    let nodes: Vec<NodeId> =
        graph.nodes().filter(|(_, n)| n.constant().is_none()).map(|(id, _)| id).collect();
    let total: usize = nodes.iter().map(|&id| parameters(graph, id)).sum();
    if args.json {
        let nodes: Vec<serde_json::Value> = nodes.iter().map(|&id| object(graph, id, &trace)).collect();
        let names: Vec<&str> = graph.output_names().collect();
        let inputs: Vec<serde_json::Value> = interface(&model)
            .into_iter()
            .map(|(name, shape, roles)| {
                let categories = categories(&model, &name);
                json!({ "name": name, "shape": shape, "axes": roles, "categories": categories })
            })
            .collect();
        return json_text(&json!({
            "model": model.name, "parameters": total, "nodes": nodes, "inputs": inputs, "outputs": names,
            "task": outputs.kind(), "task_stated": outputs.stated_kind().is_some(),
            "fixed_batch": graph.fixed_batch(), "preprocessing": model.preprocessing, "notes": model.notes,
        }));
    }
    let rows = nodes.iter().map(|&id| {
        let node = graph.node(id);
        let count = parameters(graph, id);
        vec![
            node.name().into(),
            node.op_name().into(),
            kind(graph, id),
            shape(&trace, id).map_or_else(|| "?".into(), |s| sides(&s)),
            if count == 0 { String::new() } else { count.to_string() },
        ]
    });
    let mut text = table(&["node", "operator", "kind", "output", "parameters"], rows);
    text.push('\n');
    for (name, shape, roles) in interface(&model) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "input {name} {shape}: {}", roles.join(", "));
        let known: Vec<String> =
            categories(&model, &name).iter().enumerate().map(|(at, text)| format!("{at} {text}")).collect();
        if !known.is_empty() {
            let _ = writeln!(text, "  categories: {}; -1 any other text", known.join(", "));
        }
    }
    let names: Vec<&str> = graph.output_names().collect();
    let how = if outputs.stated_kind().is_some() { "" } else { " (by its shape; --task states another)" };
    let _ = writeln!(text, "output {}: {}{how}", names.join(", "), outputs.kind());
    Ok(format!("{text}{} nodes, {total} parameters\n", nodes.len()))
}

/// The categories of an input of texts.
fn categories<'a>(model: &'a Model, name: &str) -> &'a [String] {
    let declared = model.declared_inputs().iter().find(|d| d.name == name);
    declared.map_or(&[], |declared| declared.categories.as_slice())
}

/// Name, declared shape and roles of the axes of each input, in the order of the file.
fn interface(model: &Model) -> Vec<(String, String, Vec<String>)> {
    let graph = &model.graph;
    let of = |name: &str| {
        let spec = graph.find(name).ok().and_then(|id| graph.input_spec(id));
        let rank = spec.map_or(0, |spec| spec.sides.len() + 1);
        let roles = match model.layout(name) {
            Some(layout) => layout.roles().to_vec(),
            None if !categories(model, name).is_empty() => vec![AxisRole::Batch, AxisRole::Feature],
            None if spec.is_some_and(|spec| spec.integer) => vec![AxisRole::Batch, AxisRole::Token],
            None => AxisRole::conventional(rank),
        };
        roles.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let declared = model.declared_inputs();
    if !declared.is_empty() {
        let roles = |d: &DeclaredInput| match d.batch_axis {
            Some(_) => of(&d.name),
            None => vec!["shared by all samples".into()],
        };
        return declared.iter().map(|d| (d.name.clone(), d.shape(), roles(d))).collect();
    }
    let own = graph.inputs().iter().filter_map(|&id| Some((graph.node(id).name(), graph.input_spec(id)?)));
    own.map(|(name, spec)| {
        let sides: Vec<String> =
            spec.sides.iter().map(|side| side.map_or_else(|| "?".into(), |side| side.to_string())).collect();
        (name.to_string(), format!("[N, {}]", sides.join(", ")), of(name))
    })
    .collect()
}

/// One sample of zeros. The sizes of dynamic axes come from the preprocessing.
fn zeros(model: &Model) -> Result<Inputs> {
    let graph = &model.graph;
    let mut found = Vec::new();
    for &id in graph.inputs() {
        let Some(spec) = graph.input_spec(id) else { continue };
        let name = graph.node(id).name();
        let crop = model.preprocessing.crop.filter(|_| spec.sides.len() == 3);
        let mut shape = vec![1];
        for (axis, side) in spec.sides.iter().enumerate() {
            let guess =
                crop.and_then(|crop| axis.checked_sub(1).map(|i| crop[i])).or((axis == 0).then_some(3));
            let side = side.or(if crop.is_some() { guess } else { None });
            shape.push(side.ok_or_else(|| {
                Failure::request(format!(
                    "axis {} of input '{name}' is dynamic; --crop sets its size",
                    axis + 1
                ))
            })?);
        }
        let dtype = if spec.integer { DType::I64 } else { graph.dtype() };
        let value = Tensor::zeros(shape, dtype, &Device::Cpu).map_err(ascribe::core::Error::from)?;
        found.push((name.to_string(), value));
    }
    Ok(Inputs::named(found)?)
}

/// Number of parameters of a node.
fn parameters(graph: &Graph, id: NodeId) -> usize {
    let slots = graph.node(id).inputs().iter().enumerate();
    slots
        .filter(|(slot, _)| matches!(graph.slot(id, *slot), Slot::Weight | Slot::Bias))
        .filter_map(|(_, input)| graph.node(*input).constant())
        .map(Tensor::elem_count)
        .sum()
}

fn kind(graph: &Graph, id: NodeId) -> String {
    serde_json::to_value(graph.kind(id)).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
}

/// Sides after the batch.
fn shape(trace: &Trace, id: NodeId) -> Option<Vec<usize>> {
    trace.value(id).ok().map(|value| value.dims().to_vec())
}

fn sides(shape: &[usize]) -> String {
    let rest: Vec<String> = shape.iter().skip(1).map(ToString::to_string).collect();
    if rest.is_empty() { "[N]".into() } else { format!("[N, {}]", rest.join(", ")) }
}

fn object(graph: &Graph, id: NodeId, trace: &Trace) -> serde_json::Value {
    let node = graph.node(id);
    let inputs: Vec<&str> = node
        .inputs()
        .iter()
        .filter(|i| graph.node(**i).constant().is_none())
        .map(|&i| graph.node(i).name())
        .collect();
    json!({
        "name": node.name(), "operator": node.op_name(), "kind": kind(graph, id),
        "output": shape(trace, id).map(|s| s.into_iter().skip(1).collect::<Vec<_>>()),
        "parameters": parameters(graph, id), "inputs": inputs,
        "detail": node.op().map(|op| format!("{op:?}")),
    })
}
