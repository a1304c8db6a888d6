//! Operators that select parts of values (slice, gather, split) or concatenate values.

use ascribe_core::ops::{Embedding, Gather, Structure};

use super::Call;
use super::elements::own_index;
use crate::onnx::array::{Array, Data, axis};
use crate::onnx::context::{Context, batch_axis, both, one_sample};
use crate::onnx::fold::{LIMIT, slice_range, split_sizes};
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn concat(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let operands = call.all()?;
    let first = *operands.first().ok_or("has nothing to concatenate")?;
    let rank = first.rank()?;
    let at = axis(call.attributes.int("axis")?.ok_or("has no axis")?, rank)?;
    let elem = first.elem()?;
    if operands.iter().any(|v| v.elem().is_ok_and(|e| e != elem)) {
        return Err("concatenates values of different types".into());
    }
    if at + 1 == rank
        && let Some(value) = own_index(cx, call, &operands)?
    {
        return Ok(value);
    }
    let mut batch = None;
    for value in &operands {
        call.not_batch(value, at, "concatenates along")?;
        let shapes = value.shapes()?;
        batch =
            batch.or(cx.batch(&shapes).map(|(axis, rows)| (axis, rows, [shapes[0][axis], shapes[1][axis]])));
    }
    let mut parts = Vec::with_capacity(operands.len());
    for (i, value) in operands.into_iter().enumerate() {
        let mut part = value.clone();
        if let Some((axis, rows, sides)) = batch
            && batch_axis(&part.shapes()?).is_none()
            && part.rank()? == rank
        {
            part = cx.unbake(&part, axis)?.unwrap_or(part);
            let shapes = part.shapes()?;
            // If the batch is the first axis, with one row per sample, the operator itself repeats a single sample.
            if (axis > 0 || rows > 1) && shapes[0][axis] == rows {
                let single =
                    cx.reshape_by(&call.sub(&format!("{i}/single")), &part, |s| Ok([&[1], s].concat()))?;
                let target = both(|w| {
                    let mut shape = shapes[w].clone();
                    shape[axis] = sides[w];
                    Ok(shape)
                })?;
                part = cx.spread(&call.sub(&i.to_string()), &single, axis, &target)?;
            }
        }
        parts.push(part);
    }
    let refs: Vec<&Value> = parts.iter().collect();
    cx.apply(call.name, Structure::Concat { axis: at }, &refs, elem)
}

pub(super) fn split(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let x = call.input(0)?;
    let shapes = x.shapes()?;
    let axis = call.axis(0, shapes[0].len())?;
    call.not_batch(x, axis, "splits")?;
    let given = call.list("split", 1)?;
    let sizes = split_sizes(shapes[0][axis], given.as_deref(), call.outputs)?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for (i, len) in sizes.into_iter().enumerate() {
        let op = Structure::Slice { axis, start, len, step: 1 };
        parts.push(cx.apply(&call.sub(&i.to_string()), op, &[x], x.elem()?)?);
        start += len;
    }
    Ok(parts)
}

/// A list for each batch size, from an attribute or an input.
fn lists(call: &Call<'_>, attribute: &str, input: usize) -> Res<Option<[Vec<i64>; 2]>> {
    if let Some(list) = call.attributes.ints(attribute) {
        return Ok(Some([list.to_vec(), list.to_vec()]));
    }
    let Some(value) = call.optional(input) else { return Ok(None) };
    let [a, b] = value
        .arrays(LIMIT)?
        .ok_or_else(|| format!("{attribute} are computed from the inputs; expected constants"))?;
    Ok(Some([a.as_ints()?.to_vec(), b.as_ints()?.to_vec()]))
}

pub(super) fn slice(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mut x = call.input(0)?.clone();
    let rank = x.rank()?;
    let starts = lists(call, "starts", 1)?.ok_or("has no starts")?;
    let ends = lists(call, "ends", 2)?.ok_or("has no ends")?;
    let along = match lists(call, "axes", 3)? {
        Some([list, _]) => list.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?,
        None => (0..starts[0].len()).collect(),
    };
    let steps = if call.opset >= 10 { lists(call, "", 4)? } else { None };
    let mut cuts = Vec::new();
    for (i, &axis) in along.iter().enumerate() {
        let shapes = x.shapes()?;
        let range = |w: usize, side: usize| -> Res<(usize, usize, i64)> {
            let step = steps.as_ref().map_or(Some(1), |s| s[w].get(i).copied());
            match (starts[w].get(i), ends[w].get(i), step) {
                (Some(&start), Some(&end), Some(step)) => slice_range(side, start, end, step),
                _ => Err("starts, ends, axes and steps have different lengths".into()),
            }
        };
        let sides = both(|w| {
            shapes[w].get(axis).copied().ok_or_else(|| "slices an axis that does not exist".into())
        })?;
        let ranges = both(|w| range(w, sides[w]))?;
        let full = |side: usize, range: (usize, usize, i64)| range == (0, side, 1);
        if full(sides[0], ranges[0]) && full(sides[1], ranges[1]) {
            continue;
        }
        if let (Some(rows), Some(baked)) = (cx.multiple(&shapes, axis), cx.baked)
            && full(rows * baked, range(0, rows * baked)?)
        {
            // The slice selects all samples of the batch size that the file fixes.
            continue;
        }
        call.not_batch(&x, axis, "selects part of")?;
        if ranges[0] != ranges[1] {
            return Err("selects a part whose size depends on the batch size".into());
        }
        cuts.push((axis, ranges[0]));
    }
    if cuts.is_empty() {
        return cx.apply(call.name, Structure::Identity, &[&x], x.elem()?);
    }
    let last = cuts.len() - 1;
    for (i, (axis, (start, len, step))) in cuts.into_iter().enumerate() {
        let name = if i == last { call.name.to_string() } else { call.sub(&format!("axis{axis}")) };
        let step = isize::try_from(step).unwrap_or(if step > 0 { isize::MAX } else { isize::MIN });
        x = cx.apply(&name, Structure::Slice { axis, start, len, step }, &[&x], x.elem()?)?;
    }
    Ok(x)
}

pub(super) fn gather(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, index) = (call.input(0)?, call.input(1)?);
    let shapes = x.shapes()?;
    let at = call.axis(0, shapes[0].len())?;
    if let (Value::Varying(arrays), Value::Node(signal), Some((0, rows)), 0) =
        (index, x, cx.batch(&shapes), at)
        && signal.outer == 1
    {
        return own_rows(cx, call, x, arrays, rows);
    }
    call.not_batch(x, at, "selects part of")?;
    if index.elem()? != Elem::Int {
        return Err("indices are not integers".into());
    }
    if index.is_node() {
        return match x {
            Value::Known(table) if at == 0 && table.tensor.rank() == 2 => {
                cx.apply(call.name, Embedding, &[x, index], x.elem()?)
            }
            Value::Known(_) => cx.apply(call.name, Gather { axis: at }, &[x, index], x.elem()?),
            _ => {
                Err("gathers from a computed value with computed indices; one of them has to be constant"
                    .into())
            }
        };
    }
    let known = index.array("indices")?;
    for &i in known.as_ints()? {
        axis(i, shapes[0][at])
            .map_err(|_| format!("index {i} is out of range for axis {at} of shape {:?}", shapes[0]))?;
    }
    if let ([], &[i]) = (&known.shape[..], known.as_ints()?) {
        let start = axis(i, shapes[0][at])?;
        let op = Structure::Slice { axis: at, start, len: 1, step: 1 };
        let part = cx.apply(&call.sub("slice"), op, &[x], x.elem()?)?;
        return cx.reshape_by(call.name, &part, |s| {
            let mut shape = s.to_vec();
            shape.remove(at);
            Ok(shape)
        });
    }
    cx.apply(call.name, Gather { axis: at }, &[x, index], x.elem()?)
}

/// `Compress`: the parts that a constant condition selects, along an axis or of all values in order.
pub(super) fn compress(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mut x = call.input(0)?.clone();
    let condition = call.input(1)?.array("its condition")?;
    let chosen = condition.as_bools()?.iter().enumerate().filter(|(_, holds)| **holds).map(|(i, _)| i as i64);
    let at = if let Some(along) = call.attributes.int("axis")? {
        axis(along, x.rank()?)?
    } else {
        if batch_axis(&x.shapes()?).is_some() {
            return Err("selects from the values of all samples in order".into());
        }
        x = cx.reshape_by(&call.sub("flat"), &x, |s| Ok(vec![s.iter().product()]))?;
        0
    };
    call.not_batch(&x, at, "selects part of")?;
    let side = x.shapes()?[0][at];
    let chosen: Vec<i64> = chosen.collect();
    if chosen.iter().any(|&i| i >= side as i64) {
        return Err(format!("selects more than the {side} parts along axis {at}").into());
    }
    let chosen = Value::from_array(Array::ints(chosen), cx.dtype, &call.sub("indices"))?;
    cx.apply(call.name, Gather { axis: at }, &[&x, &chosen], x.elem()?)
}

/// A gather with indices into the rows of the whole batch, where each sample only selects its own rows. Exporters write
/// a strided view of a flattened value this way.
fn own_rows(cx: &mut Context, call: &Call<'_>, x: &Value, index: &[Array; 2], rows: usize) -> Res<Value> {
    let shape = [index[0].shape.clone(), index[1].shape.clone()];
    let mixes = "selects rows of other samples";
    let (axis, each) = cx.batch(&shape).ok_or(mixes)?;
    let worlds = cx.worlds;
    let local = both(|w| {
        let after: usize = shape[w][axis + 1..].iter().product();
        let side = shape[w][axis];
        let values = index[w].as_ints()?.iter().enumerate().map(|(i, &row)| {
            let sample = i / after.max(1) % side / each;
            let row = row.checked_sub((sample * rows) as i64).filter(|r| (0..rows as i64).contains(r));
            row.ok_or_else(|| mixes.into())
        });
        let array = Array { shape: shape[w].clone(), data: Data::Int(values.collect::<Res<_>>()?) };
        one_sample(&array, axis, each, worlds[w])
    })?;
    if local[0] != local[1] {
        return Err(mixes.into());
    }
    let [local, _] = local;
    let own = local.as_ints()?.to_vec();
    let split = |s: &[usize]| Ok([&[s[0] / rows, rows], &s[1..]].concat());
    let mut value = cx.reshape_by(&call.sub("rows"), x, split)?;
    if !own.iter().copied().eq(0..rows as i64) {
        let own = Value::from_array(Array::ints(own), cx.dtype, &call.sub("indices"))?;
        value = cx.apply(&call.sub("gather"), Gather { axis: 1 }, &[&value, &own], x.elem()?)?;
    }
    // The shape becomes [batch, before…, each, after…, rest…]; then the batch moves to the axis where the index has it.
    let (before, after) = (&shape[0][..axis], &shape[0][axis + 1..]);
    value = cx.reshape_by(&call.sub("split"), &value, |s| {
        Ok([&s[..1], before, &[each], after, &s[2..]].concat())
    })?;
    let rank = value.rank()?;
    if axis > 0 {
        let order = (1..=axis).chain([0]).chain(axis + 1..rank).collect();
        value = cx.apply(&call.sub("transpose"), Structure::Transpose { order }, &[&value], x.elem()?)?;
    }
    let rest = x.shapes()?[0][1..].to_vec();
    cx.reshape(call.name, &value, &shape.map(|s| [s, rest.clone()].concat()), 1)
}
