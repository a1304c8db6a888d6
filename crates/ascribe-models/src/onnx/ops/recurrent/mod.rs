//! Recurrent layers (`RNN`, `GRU`, `LSTM`), unrolled into the operators of their equations.
//!
//! The number of time steps is known when a file is loaded. Each step becomes linear layers, gates and products of
//! its own, so that every rule sees them. The input's part of all sums is one linear layer over all steps, `W x + b`.
//! Names are `lstm/t3/input gate`, or `lstm/reverse/t3/input gate` if there are two directions; `t3` is the position
//! in the sequence, also where it is read backwards.

mod activation;
mod cell;

use ascribe_core::Tensor;
use ascribe_core::ops::{Compare, Linear, Pad, PadMode, Structure, Where};

use self::activation::activations;
use self::cell::{Cell, Parameters, State};
use super::Call;
use crate::onnx::context::Context;
use crate::onnx::fold::LIMIT;
use crate::onnx::value::{Elem, Known, Res, Value};

/// Most time steps that are unrolled.
const STEPS: usize = 1 << 14;

/// How long the sequences are.
enum Lengths {
    /// All have this length.
    Same(usize),
    /// Each sample has its own: `[N, 1]`, floating point.
    Each(Value),
}

/// What all directions of a layer share.
struct Layer<'a> {
    call: &'a Call<'a>,
    cell: Cell,
    /// Number of directions.
    directions: usize,
    /// Number of hidden values.
    hidden: usize,
    /// Number of time steps of the input.
    steps: usize,
    /// The axis of `X` that is time; the other one of the first two is the batch.
    time: usize,
    lengths: Lengths,
}

/// A constant operand of this shape.
fn parameter<'a>(call: &'a Call<'_>, slot: usize, name: &str, shape: &[usize]) -> Res<Option<&'a Known>> {
    let Some(value) = call.optional(slot) else { return Ok(None) };
    let known =
        value.known().ok_or_else(|| format!("{name} is computed from the inputs; expected a constant"))?;
    if known.tensor.dims() != shape || known.elem != Elem::Float {
        return Err(format!("{name} has shape {:?}; expected {shape:?}", known.tensor.dims()).into());
    }
    Ok(Some(known))
}

/// Whether a value is a constant of zeros. Exporters write initial states this way.
fn is_zero(value: &Value) -> Res<bool> {
    Ok(match value {
        Value::Known(known) => !any(&known.tensor)?,
        Value::Varying(arrays) => arrays.iter().all(|a| a.to_floats().iter().all(|&v| v == 0.0)),
        _ => false,
    })
}

/// Whether any value is not zero.
fn any(x: &Tensor) -> Res<bool> {
    Ok(x.elem_count() > 0 && x.ne(&x.zeros_like()?)?.flatten_all()?.max(0)?.to_scalar::<u8>()? != 0)
}

/// The lengths of the sequences (`sequence_lens`).
fn lengths(cx: &mut Context, call: &Call<'_>, steps: usize) -> Res<Lengths> {
    let Some(value) = call.optional(4) else { return Ok(Lengths::Same(steps)) };
    if value.elem()? != Elem::Int || value.rank()? != 1 {
        return Err("sequence_lens is not a list of integers".into());
    }
    if let Some(arrays) = value.arrays(LIMIT)? {
        let all = [arrays[0].as_ints()?, arrays[1].as_ints()?].concat();
        if let Some(wrong) = all.iter().find(|&&l| l < 1 || l > steps as i64) {
            return Err(format!("sequence_lens holds {wrong}; expected 1 to {steps}").into());
        }
        if let Some(&first) = all.first()
            && all.iter().all(|&l| l == first)
        {
            return Ok(Lengths::Same(first as usize));
        }
    }
    let each = cx.as_float(&call.sub("lengths"), value)?;
    Ok(Lengths::Each(cx.reshape_by(&call.sub("lengths/column"), &each, |s| Ok(vec![s[0], 1]))?))
}

/// Weights `[D, I, G·H]` of a quantised layer as numbers, in the order `[D, G·H, I]` of other layers. Scale and zero point
/// are one for each direction, or one for each of its columns.
fn dequantized(cx: &mut Context, call: &Call<'_>, [slot, scale, zero]: [usize; 3], name: &str) -> Res<Value> {
    let constant = |i: usize| -> Res<&Known> {
        let what =
            format!("{name}, its scale or its zero point is computed from the inputs; expected a constant");
        Ok(call.input(i)?.known().ok_or(what)?)
    };
    let weight = &constant(slot)?.tensor;
    let &[directions, _, columns] = weight.dims() else {
        return Err(format!("{name} has shape {:?}; expected three axes", weight.dims()).into());
    };
    cx.spend(weight.dims())?;
    let spread = |i: usize| -> Res<Tensor> {
        let values = constant(i)?.tensor.to_dtype(cx.dtype)?;
        let each = values.elem_count() / directions.max(1);
        if values.elem_count() != each * directions || (each != 1 && each != columns) {
            return Err(format!("the scale or zero point of {name} has shape {:?}", values.dims()).into());
        }
        Ok(values.reshape((directions, 1, each))?)
    };
    let mut values = weight.to_dtype(cx.dtype)?;
    if call.optional(zero).is_some() {
        values = values.broadcast_sub(&spread(zero)?)?;
    }
    let values = values.broadcast_mul(&spread(scale)?)?.transpose(1, 2)?.contiguous()?;
    Ok(Known::value(values, Elem::Float, &constant(slot)?.name))
}

/// `DynamicQuantizeLSTM` of `com.microsoft`: a layer that rounds its input and, in each step, its hidden state.
pub(super) fn quantized(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let mut inputs = call.inputs.to_vec();
    inputs.truncate(8);
    inputs[1] = Some(dequantized(cx, call, [1, 8, 9], "W")?);
    inputs[2] = Some(dequantized(cx, call, [2, 10, 11], "R")?);
    layer(cx, &Call { inputs: &inputs, op: "LSTM", ..call.named(call.name) }, true)
}

/// `RNN`, `GRU` and `LSTM`: the outputs `Y`, `Y_h` and, for an LSTM, `Y_c`.
pub(super) fn recurrent(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    layer(cx, call, false)
}

fn layer(cx: &mut Context, call: &Call<'_>, rounds: bool) -> Res<Vec<Value>> {
    let attributes = call.attributes;
    let layout = attributes.int_or("layout", 0)?;
    if !(0..=1).contains(&layout) {
        return Err(format!("layout is {layout}; expected 0 or 1").into());
    }
    let time = layout as usize;
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let &[_, _, width] = &shape[..] else {
        return Err(format!("expects an input with three axes, not shape {shape:?}").into());
    };
    call.not_batch(x, time, "recurs over")?;
    let steps = shape[time];
    if !(1..=STEPS).contains(&steps) {
        return Err(format!("has {steps} time steps; expected 1 to {STEPS}").into());
    }
    let reversed: &[bool] = match call.mode("direction", "forward")? {
        "forward" => &[false],
        "reverse" => &[true],
        _ => &[false, true],
    };
    let gates = Cell::gates(call.op);
    let [weight, _] = call.input(1)?.shapes()?;
    let hidden = match weight[..] {
        [_, rows, _] if rows % gates == 0 && rows > 0 => rows / gates,
        _ => return Err(format!("W has shape {weight:?}; expected {gates} rows per hidden value").into()),
    };
    if attributes.int("hidden_size")?.is_some_and(|size| size != hidden as i64) {
        return Err(format!("hidden_size does not fit W, which has {hidden} hidden values").into());
    }
    let d = reversed.len();
    let w = parameter(call, 1, "W", &[d, gates * hidden, width])?.ok_or("has no W")?;
    let r = parameter(call, 2, "R", &[d, gates * hidden, hidden])?.ok_or("has no R")?;
    let b = parameter(call, 3, "B", &[d, 2 * gates * hidden])?;
    let p = if call.op == "LSTM" { parameter(call, 7, "P", &[d, 3 * hidden])? } else { None };
    let functions = activations(call, d)?;
    let layer = Layer {
        call,
        cell: Cell::new(call, rounds)?,
        directions: d,
        hidden,
        steps,
        time,
        lengths: lengths(cx, call, steps)?,
    };
    let mut results = Vec::with_capacity(d);
    for (i, (&reversed, functions)) in reversed.iter().zip(functions).enumerate() {
        let prefix = match (d, reversed) {
            (1, _) => call.name.to_string(),
            (_, false) => call.sub("forward"),
            (_, true) => call.sub("reverse"),
        };
        let row = |known: &Known| -> Res<Tensor> { Ok(known.tensor.narrow(0, i, 1)?.squeeze(0)?) };
        let parameters = Parameters {
            prefix: prefix.clone(),
            hidden,
            w: row(w)?,
            r: row(r)?,
            b: b.map(row).transpose()?,
            p: p.map(row).transpose()?,
            functions,
        };
        let state = State { h: layer.initial(cx, 5, i)?, c: layer.initial(cx, 6, i)? };
        results.push(layer.run(cx, &parameters, state, reversed)?);
    }
    layer.outputs(cx, results)
}

impl Layer<'_> {
    /// The initial state of direction `i` from input `slot`: `[N, H]`; `None` if it is zero.
    fn initial(&self, cx: &mut Context, slot: usize, i: usize) -> Res<Option<Value>> {
        // Input 6 is the initial cell of an LSTM.
        let value = if slot == 6 && self.call.op != "LSTM" { None } else { self.call.optional(slot) };
        let Some(value) = value else { return Ok(None) };
        if is_zero(value)? {
            return Ok(None);
        }
        let name = format!("{}/initial {}", self.call.name, if slot == 5 { "hidden" } else { "cell" });
        let value = cx.unbake(value, 1 - self.time)?.unwrap_or_else(|| value.clone());
        let [shape, _] = value.shapes()?;
        if shape.len() != 3 || shape[self.time] != self.directions || shape[2] != self.hidden {
            return Err(format!("an initial state has shape {shape:?}, which does not fit").into());
        }
        let op = Structure::Slice { axis: self.time, start: i, len: 1, step: 1 };
        let own = cx.apply(&format!("{name}/{i}"), op, &[&value], Elem::Float)?;
        let batch = 1 - self.time;
        Ok(Some(cx.reshape_by(&format!("{name}/{i}/rows"), &own, |s| Ok(vec![s[batch], s[2]]))?))
    }

    /// One direction: the output of each step, in the order of the sequence, and the last state.
    fn run(
        &self,
        cx: &mut Context,
        parameters: &Parameters,
        mut state: State,
        reversed: bool,
    ) -> Res<(Vec<Value>, State)> {
        let prefix = &parameters.prefix;
        let weights = self.cell.weights(cx, parameters)?;
        let x = self.cell.read(cx, &format!("{prefix}/input/levels"), self.call.input(0)?)?;
        let mut operands = vec![&x, &weights.input];
        operands.extend(&weights.input_bias);
        let all = cx.apply(&format!("{prefix}/input"), Linear, &operands, Elem::Float)?;
        let steps = if let Lengths::Same(steps) = self.lengths { steps } else { self.steps };
        let mut order: Vec<usize> = (0..steps).collect();
        if reversed {
            order.reverse();
        }
        let mut outputs = Vec::with_capacity(steps);
        for t in order {
            let name = format!("{prefix}/t{t}");
            let op = Structure::Slice { axis: self.time, start: t, len: 1, step: 1 };
            let own = cx.apply(&format!("{name}/slice"), op, &[&all], Elem::Float)?;
            let batch = 1 - self.time;
            let own = cx.reshape_by(&format!("{name}/input"), &own, |s| Ok(vec![s[batch], s[2]]))?;
            let next = self.cell.step(cx, &name, parameters, &weights, &own, &state)?;
            let (output, next) = self.held(cx, &name, t, next, &state)?;
            outputs.push(output);
            state = next;
        }
        if reversed {
            outputs.reverse();
        }
        Ok((outputs, state))
    }

    /// Where a sequence has ended before step `t`, the state stays as it is, and the output is zero.
    fn held(&self, cx: &mut Context, name: &str, t: usize, next: State, last: &State) -> Res<(Value, State)> {
        let new = next.h.clone().ok_or("has no state")?;
        let Lengths::Each(lengths) = &self.lengths else { return Ok((new, next)) };
        let position = cx.number(&format!("{name}/position"), t as f64)?;
        let zero = cx.number(&format!("{name}/zero"), 0.0)?;
        let inside =
            cx.apply(&format!("{name}/inside"), Compare::Greater, &[lengths, &position], Elem::Bool)?;
        let mut choose = |part: &str, new: &Value, old: Option<&Value>| {
            let old = old.unwrap_or(&zero);
            cx.apply(&format!("{name}/{part}"), Where, &[&inside, new, old], Elem::Float)
        };
        let output = choose("output", &new, None)?;
        let h = if last.h.is_some() { choose("held hidden", &new, last.h.as_ref())? } else { output.clone() };
        let c = next.c.map(|c| choose("held cell", &c, last.c.as_ref())).transpose()?;
        Ok((output, State { h: Some(h), c }))
    }

    /// `Y`, `Y_h` and `Y_c` in the file's layout.
    fn outputs(&self, cx: &mut Context, results: Vec<(Vec<Value>, State)>) -> Res<Vec<Value>> {
        let call = self.call;
        // [N, T, 1, H] for each direction, [N, T, D, H] for all.
        let (mut sides, mut hidden, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (outputs, state)) in results.into_iter().enumerate() {
            let mut rows = Vec::with_capacity(outputs.len());
            for (t, output) in outputs.iter().enumerate() {
                let name = format!("{}/{i}/{t}", call.sub("Y"));
                rows.push(cx.reshape_by(&name, output, |s| Ok(vec![s[0], 1, 1, s[1]]))?);
            }
            sides.push(join(cx, &call.sub(&format!("Y/{i}")), 1, &rows)?);
            for (part, value, list) in [("Y_h", state.h, &mut hidden), ("Y_c", state.c, &mut cells)] {
                if let Some(value) = value {
                    let name = call.sub(&format!("{part}/{i}"));
                    list.push(cx.reshape_by(&name, &value, |s| Ok(vec![s[0], 1, s[1]]))?);
                }
            }
        }
        let mut y = join(cx, &call.sub("Y"), 2, &sides)?;
        if let Lengths::Same(steps) = self.lengths
            && steps < self.steps
        {
            let after = vec![0, self.steps - steps, 0, 0];
            let op = Pad { before: vec![0; 4], after, mode: PadMode::Constant(0.0) };
            y = cx.apply(&call.sub("Y/padded"), op, &[&y], Elem::Float)?;
        }
        let moved = |order: &[usize]| match self.time {
            1 => Structure::Identity,
            _ => Structure::Transpose { order: order.to_vec() },
        };
        let mut values = vec![cx.apply(call.name, moved(&[1, 2, 0, 3]), &[&y], Elem::Float)?];
        for (name, parts) in [("Y_h", &hidden), ("Y_c", &cells)] {
            if parts.is_empty() {
                continue;
            }
            let all = join(cx, &call.sub(&format!("{name}/all")), 1, parts)?;
            values.push(cx.apply(&call.sub(name), moved(&[1, 0, 2]), &[&all], Elem::Float)?);
        }
        Ok(values)
    }
}

/// Joins values along an axis; a single value stays as it is.
fn join(cx: &mut Context, name: &str, axis: usize, parts: &[Value]) -> Res<Value> {
    if let [one] = parts {
        return Ok(one.clone());
    }
    let refs: Vec<&Value> = parts.iter().collect();
    cx.apply(name, Structure::Concat { axis }, &refs, Elem::Float)
}
