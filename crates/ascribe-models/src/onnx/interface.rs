//! The inputs and outputs of a graph: with the samples along the first axis, whatever their place in the file.

use std::collections::HashSet;

use ascribe_core::ops::{Op, Pointwise, Side, Structure};
use ascribe_core::{GraphBuilder, NodeId, OutputKind};

use super::ModelInput;
use super::context::{Context, batch_axis};
use super::tensors::elem_of;
use super::text;
use super::value::{Elem, Res, Signal, Value};

/// Adds an input. Its node has the samples along the first axis; operators behind it move them to their place in the file.
pub(super) fn input(cx: &mut Context, input: &ModelInput, code: i32) -> Res<Value> {
    let ModelInput { name, sides, integer, .. } = input;
    let open: Vec<Option<usize>> = sides.iter().copied().map(Some).collect();
    let id: NodeId =
        if *integer { cx.builder.integer_input(name, &open) } else { cx.builder.input(name, &open) };
    cx.anchor.get_or_insert(id);
    let elem = match elem_of(code).unwrap_or(Elem::Float) {
        Elem::Text => Elem::Int,
        // Integers that are quantities.
        _ if !integer => Elem::Float,
        elem => elem,
    };
    let Some(axis) = input.batch_axis else {
        // A scalar: that of the first sample.
        let first = Structure::Slice { axis: 0, start: 0, len: 1, step: 1 };
        let first = cx.builder.op(&format!("{name}/first"), first, &[id])?;
        let shape = sides.iter().map(|&side| Side::Fixed(side)).collect();
        let id = cx.builder.op(&format!("{name}/shared"), Structure::Reshape { shape }, &[first])?;
        return Ok(Value::Node(Signal { id, shape: cx.worlds.map(|_| sides.clone()), elem, outer: 1 }));
    };
    let shape = cx.worlds.map(|batch| [&[batch], sides.as_slice()].concat());
    let mut value = Value::Node(Signal { id, shape, elem, outer: 1 });
    if !input.categories.is_empty() {
        value = text::of_positions(cx, name, &value, &input.categories)?;
    }
    let elem = value.elem()?;
    if axis == 0 {
        return Ok(value);
    }
    let order = (1..=axis).chain([0]).chain(axis + 1..=sides.len()).collect();
    cx.apply(&format!("{name}/in the file's order"), Structure::Transpose { order }, &[&value], elem)
}

/// The node of an output, with one row per sample along the first axis.
pub(super) fn output(cx: &mut Context, name: &str, value: &Value, fixed: Option<usize>) -> Res<NodeId> {
    let shapes = value.shapes()?;
    let Value::Node(signal) = value else { return Err("does not depend on any input".into()) };
    if cx.own_indices.contains(&signal.id) {
        return Err("holds the numbers of samples".into());
    }
    let shape = &shapes[0];
    if let Some(batch) = fixed {
        if shape.first() == Some(&batch) {
            return Ok(signal.id);
        }
        if batch != 1 {
            return Err(format!("has shape {shape:?}; expected {batch} rows along the first axis").into());
        }
        // A single sample: an axis of length 1 may be its own, or there is none.
        let rest: Vec<usize> = match shape.iter().position(|&side| side == 1) {
            Some(axis) => {
                shape.iter().enumerate().filter(|(at, _)| *at != axis).map(|(_, &side)| side).collect()
            }
            None => shape.clone(),
        };
        let sides = std::iter::once(1).chain(rest).map(Side::Fixed).collect();
        let op = Structure::Reshape { shape: sides };
        return Ok(cx.builder.op(&format!("{name}/with samples first"), op, &[signal.id])?);
    }
    let Some((axis, rows)) = cx.batch(&shapes) else {
        let problem =
            if batch_axis(&shapes).is_none() { "has no axis of samples" } else { "mixes the samples" };
        return Err(format!("{problem}: its shape is {shape:?}").into());
    };
    let mut id = signal.id;
    if axis > 0 {
        let order = std::iter::once(axis).chain((0..shape.len()).filter(|at| *at != axis)).collect();
        id = cx.builder.op(&format!("{name}/with samples first"), Structure::Transpose { order }, &[id])?;
    }
    if rows > 1 {
        if signal.outer != 1 {
            return Err(format!("mixes the samples with another axis: its shape is {shape:?}").into());
        }
        let rest = (0..shape.len()).filter(|at| *at != axis).map(|at| Side::Fixed(shape[at]));
        let sides = [Side::Infer, Side::Fixed(rows)].into_iter().chain(rest).collect();
        id = cx.builder.op(&format!("{name}/by samples"), Structure::Reshape { shape: sides }, &[id])?;
    }
    Ok(id)
}

/// What was removed at the end of an output.
pub(super) struct Peeled {
    /// The new output.
    pub id: NodeId,
    /// Names of the operators.
    pub names: Vec<String>,
    /// Whether it was a sigmoid.
    pub sigmoid: bool,
    /// What the output says, if it is the first.
    pub kind: Option<OutputKind>,
}

/// Removes the softmax or the sigmoid at the end of an output of this shape, if there is one.
///
/// Attributions should explain logits: a softmax mixes the scores of all classes, and the gradients of both vanish where
/// the network is confident. A logarithm behind a softmax is removed with it. Reshapes behind them are kept, and maps
/// whose channels are last get them first.
pub(super) fn peel(builder: &mut GraphBuilder, output: NodeId, shape: &[usize]) -> Res<Option<Peeled>> {
    let mut moves = Vec::new();
    let mut names = Vec::new();
    let mut at = output;
    let (from, softmax) = loop {
        let node = builder.node(at);
        let Some(&from) = node.inputs().first() else { return Ok(None) };
        match node.op() {
            Some(Op::Structure(Structure::Identity)) => {}
            Some(Op::Structure(
                op @ (Structure::Reshape { .. } | Structure::Flatten { .. } | Structure::Transpose { .. }),
            )) => {
                moves.push((node.name().to_string(), op.clone()));
            }
            Some(Op::Pointwise(Pointwise::Log)) if names.is_empty() => {
                if !matches!(builder.node(from).op(), Some(Op::Softmax(softmax)) if !softmax.log) {
                    return Ok(None);
                }
                names.push(node.name().to_string());
            }
            Some(Op::Softmax(softmax)) => {
                names.push(node.name().to_string());
                break (from, Some(softmax.axis));
            }
            Some(Op::Pointwise(Pointwise::Sigmoid)) if names.is_empty() => {
                names.push(node.name().to_string());
                break (from, None);
            }
            _ => return Ok(None),
        }
        at = from;
    };
    let plain = moves.is_empty();
    let mut id = from;
    for (name, op) in moves.into_iter().rev() {
        id = builder.op(&format!("{name}/logits"), op, &[id])?;
    }
    let kind = match (softmax, shape) {
        (Some(axis), [_, _, _, _]) if plain && axis == 3 && shape[2] > 1 => {
            let op = Structure::Transpose { order: vec![0, 3, 1, 2] };
            id = builder.op("channels first", op, &[id])?;
            Some(OutputKind::Pixels)
        }
        (Some(axis), [_, _, _, _]) if plain && axis == 1 && shape[2] * shape[3] > 1 => {
            Some(OutputKind::Pixels)
        }
        (Some(axis), [_, _, _]) if plain && axis == 2 && shape[1] > 1 => Some(OutputKind::Tokens),
        (None, [_, 1, height, width]) if height * width > 1 => Some(OutputKind::Pixels),
        (_, [_, columns, rest @ ..]) if rest.iter().all(|&side| side == 1) => Some(match softmax {
            Some(_) => OutputKind::Classes,
            None if *columns == 1 => OutputKind::Binary,
            None => OutputKind::Labels,
        }),
        (None, [_]) => Some(OutputKind::Binary),
        _ => None,
    };
    Ok(Some(Peeled { id, names, sigmoid: softmax.is_none(), kind }))
}

/// Whether an output of this shape is that of a detector: boxes that are computed from the network's values, joined with
/// scores of classes behind a sigmoid.
pub(super) fn is_detector(builder: &GraphBuilder, output: NodeId, shape: &[usize]) -> bool {
    let &[_, second, third] = shape else { return false };
    let (mut computed, mut sigmoid) = (false, false);
    let mut left = vec![output];
    let mut seen = HashSet::new();
    while let Some(at) = left.pop() {
        if !seen.insert(at) {
            continue;
        }
        let node = builder.node(at);
        match node.op() {
            Some(Op::Structure(_)) => left.extend(node.inputs()),
            Some(Op::Pointwise(Pointwise::Sigmoid)) => sigmoid = true,
            Some(op) => computed |= matches!(op, Op::Binary(_) | Op::ScaleShift(_)),
            None => {}
        }
    }
    computed && sigmoid && second.min(third) > 4
}
