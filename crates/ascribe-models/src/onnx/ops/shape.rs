//! Operators that change shapes.

use ascribe_core::Tensor;
use ascribe_core::ops::{DepthToSpace, Structure};

use super::Call;
use crate::onnx::array::{Array, Data, axes, axis, broadcast, count};
use crate::onnx::context::{Context, batch_axis, both};
use crate::onnx::fold::{LIMIT, reshape_target};
use crate::onnx::value::{Elem, Known, Res, Shapes, Value};

/// A list of integers, from an attribute or an input, for each of the two batch sizes.
fn varying(call: &Call<'_>, attribute: &str, input: usize) -> Res<[Vec<i64>; 2]> {
    if let Some(list) = call.attributes.ints(attribute) {
        return Ok([list.to_vec(), list.to_vec()]);
    }
    let value = call.input(input)?;
    let [a, b] = value.arrays(LIMIT)?.ok_or_else(|| match value.array(attribute) {
        Err(fault) => fault,
        Ok(_) => format!("{attribute} is too long").into(),
    })?;
    Ok([a.as_ints()?.to_vec(), b.as_ints()?.to_vec()])
}

/// [`Signal::outer`](crate::onnx::value::Signal::outer), or 1 for a constant.
fn outer(x: &Value) -> usize {
    if let Value::Node(signal) = x { signal.outer } else { 1 }
}

/// Number of index positions that come before the batch index in memory order.
fn place(shape: &[usize], axis: usize, outer: usize) -> usize {
    shape[..axis].iter().product::<usize>() * outer
}

pub(super) fn reshape(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let targets = varying(call, "shape", 1)?;
    let allow_zero = call.attributes.flag("allowzero", false)?;
    let shapes = x.shapes()?;
    let batch = cx.batch(&shapes);
    if let (Some(baked), Some((axis, rows))) = (cx.baked, batch)
        && targets[0] == targets[1]
    {
        let (shape, outer) = free(&shapes, axis, rows, outer(x), &targets[0], allow_zero, baked, cx.worlds)?;
        return cx.reshape(call.name, x, &shape, outer);
    }
    let shape = both(|w| reshape_target(&shapes[w], &targets[w], allow_zero))?;
    cx.check(&shape)?;
    let outer = match (batch, cx.batch(&shape)) {
        (Some((from, _)), Some((to, rows))) => {
            let (old, before) = (place(&shapes[0], from, outer(x)), place(&shape[0], to, 1));
            if old % before != 0 || rows % (old / before) != 0 {
                return Err(format!(
                    "reshaping {:?} to {:?} would mix the samples of a batch",
                    shapes[0], shape[0]
                )
                .into());
            }
            old / before
        }
        _ => 1,
    };
    cx.reshape(call.name, x, &shape, outer)
}

/// Makes the batch size variable in the target shape of a reshape that contains the batch size that the file fixes.
/// Returns the shapes for the two batch sizes, and [`Signal::outer`](crate::onnx::value::Signal::outer) of the result.
///
/// A reshape does not move values in memory, so the batch must be in the axis that has as many positions before it as
/// the batch had before the reshape.
#[allow(clippy::too_many_arguments)]
fn free(
    shapes: &Shapes,
    axis: usize,
    rows: usize,
    outer: usize,
    target: &[i64],
    allow_zero: bool,
    baked: usize,
    worlds: [usize; 2],
) -> Res<(Shapes, usize)> {
    let mut stored = shapes[0].clone();
    stored[axis] = rows * baked;
    let result = reshape_target(&stored, target, allow_zero)?;
    let before = place(&stored, axis, outer);
    let fits = |&side: &usize| {
        let own = place(&result, side, 1);
        own != 0 && before.is_multiple_of(own) && result[side].is_multiple_of(before / own * baked)
    };
    let sides: Vec<usize> = (0..result.len()).filter(fits).collect();
    let side = sides.iter().copied().find(|&s| s == axis).or(sides.first().copied());
    let side = side.ok_or_else(|| {
        format!("the target shape {target:?} contains the fixed batch size {baked} of the file, but none of its axes can be the batch axis")
    })?;
    let free = worlds.map(|batch| {
        let mut shape = result.clone();
        shape[side] = result[side] / baked * batch;
        shape
    });
    Ok((free, before / place(&result, side, 1)))
}

pub(super) fn flatten(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let rank = x.rank()?;
    let at = call.attributes.int_or("axis", 1)?;
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    if batch_axis(&x.shapes()?).is_some_and(|batch| batch > 0 || at == 0) {
        return cx.reshape_by(call.name, x, |s| Ok(vec![s[..at].iter().product(), s[at..].iter().product()]));
    }
    cx.apply(call.name, Structure::Flatten { axis: at }, &[x], x.elem()?)
}

pub(super) fn squeeze(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let shapes = x.shapes()?;
    let rank = shapes[0].len();
    let batch = cx.batch(&shapes);
    let gone = match call.list("axes", 1)? {
        Some(list) => axes(&list, rank)?,
        None if cx.baked == Some(1) && batch.is_some_and(|(_, rows)| rows == 1) => {
            return Err("removes all axes of size 1, which would include the batch axis for the file's batch size of 1".into());
        }
        None => (0..rank).filter(|&a| shapes[0][a] == 1 && shapes[1][a] == 1).collect(),
    };
    if let Some((axis, _)) = batch.filter(|(axis, _)| gone.contains(axis)) {
        return Err(format!("removes the batch (axis {axis})").into());
    }
    if let Some(&axis) = gone.iter().find(|&&a| shapes[0][a] != 1) {
        return Err(format!("removes axis {axis} of shape {:?}, whose size is not 1", shapes[0]).into());
    }
    cx.reshape_by(call.name, x, |s| Ok((0..rank).filter(|a| !gone.contains(a)).map(|a| s[a]).collect()))
}

pub(super) fn unsqueeze(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let list = call.list("axes", 1)?.ok_or("has no axes")?;
    let new = axes(&list, x.rank()? + list.len())?;
    cx.reshape_by(call.name, x, |s| {
        let mut shape = s.to_vec();
        for &at in &new {
            shape.insert(at, 1);
        }
        Ok(shape)
    })
}

pub(super) fn transpose(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let rank = x.rank()?;
    let order = match call.attributes.ints("perm") {
        Some(perm) => {
            if perm.len() != rank || axes(perm, rank).is_err() {
                return Err(format!("perm {perm:?} does not name each of {rank} axes once").into());
            }
            perm.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?
        }
        None => (0..rank).rev().collect(),
    };
    cx.apply(call.name, Structure::Transpose { order }, &[x], x.elem()?)
}

pub(super) fn expand(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let shapes = x.shapes()?;
    let mut targets = varying(call, "shape", 1)?;
    let batch = batch_axis(&shapes);
    if let (Some(baked), Some(axis)) = (cx.baked, batch) {
        // Where the target has the batch size that the file fixes, at the batch axis, use 1, which keeps the batch.
        let from_end = shapes[0].len() - axis;
        for target in &mut targets {
            if let Some(at) = target.len().checked_sub(from_end)
                && target[at] == baked as i64
            {
                target[at] = 1;
            }
        }
    }
    let target = both(|w| {
        let sides = targets[w]
            .iter()
            .map(|&s| usize::try_from(s).map_err(|_| format!("the target shape has the size {s}").into()));
        broadcast(&shapes[w], &sides.collect::<Res<Vec<usize>>>()?)
    })?;
    cx.check(&target)?;
    let elem = x.elem()?;
    let new_batch = cx.batch(&target).filter(|_| batch.is_none());
    let Some((axis, rows)) = new_batch else {
        if target == shapes {
            return cx.apply(call.name, Structure::Identity, &[x], elem);
        }
        let batch = batch_axis(&target);
        let shape = (0..target[0].len()).map(|a| if batch == Some(a) { 1 } else { target[0][a] }).collect();
        return cx.apply(call.name, Structure::Expand { shape }, &[x], elem);
    };
    let mut shape = target[0].clone();
    shape[axis] = rows;
    let one = cx.apply(&call.sub("sample"), Structure::Expand { shape }, &[x], elem)?;
    let one = cx.reshape_by(&call.sub("single"), &one, |s| Ok([&[1], s].concat()))?;
    cx.spread(call.name, &one, axis, &target)
}

pub(super) fn tile(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let repeats = call.list("repeats", 1)?.ok_or("has no repeats")?;
    let repeats: Vec<usize> = repeats
        .iter()
        .map(|&r| {
            usize::try_from(r)
                .ok()
                .filter(|r| (1..1 << 20).contains(r))
                .ok_or_else(|| format!("cannot repeat {r} times; repeats must be positive"))
        })
        .collect::<Result<_, _>>()?;
    for (axis, _) in repeats.iter().enumerate().filter(|(_, r)| **r != 1) {
        call.not_batch(x, axis, "repeats")?;
    }
    let size = x.shapes()?[0].iter().zip(&repeats).map(|(s, r)| s.saturating_mul(*r)).collect::<Vec<_>>();
    count(&size)?;
    cx.apply(call.name, Structure::Tile { repeats }, &[x], x.elem()?)
}

/// Identity, and dropout at inference, which is the identity too; its mask is not available.
pub(super) fn identity(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let x = call.input(0)?;
    if call.op == "Dropout"
        && let Some(training) = call.optional(2)
        && training.array("training_mode")?.as_bools()? != [false]
    {
        return Err("is in training mode (training_mode); expected inference".into());
    }
    let value = match x {
        Value::Node(signal) => cx.apply(call.name, Structure::Identity, &[x], signal.elem)?,
        _ => x.clone(),
    };
    let mask = || Value::Missing(Some("the mask of a Dropout is not available".into()));
    Ok([vec![value], (1..call.outputs).map(|_| mask()).collect()].concat())
}

/// The value that fills a `ConstantOfShape`, as an array without axes.
fn fill_value(cx: &mut Context, call: &Call<'_>) -> Res<Array> {
    let Some(stored) = call.attributes.tensor("value")? else {
        return Ok(Array { shape: vec![], data: Data::Float(vec![0.0]) });
    };
    let array = cx.store.read(stored, call.name)?.array("value")?;
    array.reshape(vec![])
}

pub(super) fn constant_of_shape(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let fill = fill_value(cx, call)?;
    let shape = both(|w| {
        let sides = varying(call, "shape", 0)?;
        sides[w]
            .iter()
            .map(|&s| usize::try_from(s).map_err(|_| format!("the target shape has the size {s}").into()))
            .collect::<Res<Vec<_>>>()
    })?;
    if shape[0] != shape[1] {
        cx.check(&shape)?;
        if shape.iter().any(|s| count(s).is_ok_and(|n| n > LIMIT)) {
            return Err(format!("would fill shape {:?}, which is too large", shape[0]).into());
        }
        let arrays = both(|w| fill.expand(&shape[w]))?;
        return Value::from_arrays(arrays, cx.dtype, call.name);
    }
    cx.spend(&shape[0])?;
    let Value::Known(one) = Value::from_array(fill, cx.dtype, call.name)? else {
        return Err("its fill value is not a constant".into());
    };
    let tensor: Tensor = one.tensor.broadcast_as(shape[0].as_slice())?;
    Ok(Known::value(tensor, one.elem, call.name))
}

pub(super) fn constant(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let attributes = call.attributes;
    if let Some(tensor) = attributes.tensor("value")? {
        return cx.store.read(tensor, call.name);
    }
    let array = if let Some(i) = attributes.int("value_int")? {
        Array::int(i)
    } else if let Some(f) = attributes.float("value_float")? {
        Array { shape: vec![], data: Data::Float(vec![f]) }
    } else if let Some(list) = attributes.ints("value_ints") {
        Array::ints(list.to_vec())
    } else if let Some(list) = attributes.floats("value_floats") {
        let data = Data::Float(list.iter().map(|&f| f.into()).collect());
        Array { shape: vec![list.len()], data }
    } else {
        return Err("has no value".into());
    };
    Value::from_array(array, cx.dtype, call.name)
}

/// The attribute `blocksize`.
fn block(call: &Call<'_>) -> Res<usize> {
    let block = call.attributes.int("blocksize")?.ok_or("has no blocksize")?;
    usize::try_from(block)
        .ok()
        .filter(|b| (1..1 << 16).contains(b))
        .ok_or_else(|| format!("blocksize {block} is out of range").into())
}

pub(super) fn depth_to_space(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let op = DepthToSpace { block: block(call)?, column_row_first: call.mode("mode", "DCR")? == "CRD" };
    cx.apply(call.name, op, &[call.input(0)?], Elem::Float)
}

pub(super) fn space_to_depth(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, b) = (call.input(0)?, block(call)?);
    let [shape, _] = x.shapes()?;
    match shape[..] {
        [_, _, h, w] if h % b == 0 && w % b == 0 => {}
        _ => return Err(format!("shape {shape:?} cannot be divided into blocks of {b} × {b}").into()),
    }
    let split = cx.reshape_by(&call.sub("split"), x, |s| Ok(vec![s[0], s[1], s[2] / b, b, s[3] / b, b]))?;
    let order =
        if call.mode("mode", "DCR")? == "CRD" { vec![0, 1, 3, 5, 2, 4] } else { vec![0, 3, 5, 1, 2, 4] };
    let moved = cx.apply(&call.sub("transpose"), Structure::Transpose { order }, &[&split], x.elem()?)?;
    cx.reshape_by(call.name, &moved, |s| Ok(vec![s[0], s[1] * s[2] * s[3], s[4], s[5]]))
}
