//! Operators that read or write elements and slices at positions (`GatherElements`, `ScatterND`, …).

use ascribe_core::ops::{GatherAt, Places, ScatterAt, ScatterReduction, Structure};

use super::Call;
use crate::onnx::array::{Array, Data};
use crate::onnx::context::{Context, batch_axis, both, one_sample};
use crate::onnx::fold::LIMIT;
use crate::onnx::value::{Elem, Res, Shapes, Value};

/// The attribute `reduction`.
fn reduction(call: &Call<'_>) -> Res<ScatterReduction> {
    Ok(match call.mode("reduction", "none")? {
        "add" => ScatterReduction::Add,
        "mul" => ScatterReduction::Mul,
        "max" => ScatterReduction::Max,
        "min" => ScatterReduction::Min,
        _ => ScatterReduction::Replace,
    })
}

fn check_index(index: &Value) -> Res<()> {
    if index.elem()? == Elem::Int { Ok(()) } else { Err("indices are not integers".into()) }
}

/// A constant that is the same for all samples, repeated for each sample of a value whose axis `axis` is the batch.
/// Other values stay as they are.
pub(super) fn repeated(
    cx: &mut Context,
    name: &str,
    value: &Value,
    like: &Shapes,
    axis: usize,
) -> Res<Value> {
    if value.is_node() || batch_axis(&value.shapes()?).is_some() || value.rank()? <= axis {
        return Ok(value.clone());
    }
    let value = cx.unbake(value, axis)?.unwrap_or_else(|| value.clone());
    let shapes = value.shapes()?;
    let Some(rows) = cx.multiple(like, axis).filter(|&rows| shapes[0][axis] == rows) else {
        return Ok(value);
    };
    let single = cx.reshape_by(&format!("{name}/single"), &value, |s| Ok([&[1], s].concat()))?;
    let target = both(|w| {
        let mut shape = shapes[w].clone();
        shape[axis] = shape[axis] / rows * like[w][axis];
        Ok(shape)
    })?;
    cx.spread(name, &single, axis, &target)
}

pub(super) fn gather_elements(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, index) = (call.input(0)?, call.input(1)?);
    check_index(index)?;
    let shapes = x.shapes()?;
    let at = call.axis(0, shapes[0].len())?;
    call.not_batch(x, at, "selects part of")?;
    let Some(batch) = batch_axis(&shapes) else {
        return cx.apply(
            call.name,
            GatherAt { places: Places::Elements { axis: at } },
            &[x, index],
            x.elem()?,
        );
    };
    let index = repeated(cx, &call.sub("indices"), index, &shapes, batch)?;
    same_batch(&shapes, &index.shapes()?, batch)?;
    cx.apply(call.name, GatherAt { places: Places::Elements { axis: at } }, &[x, &index], x.elem()?)
}

/// An error unless both shapes have the whole batch at `axis`.
fn same_batch(data: &Shapes, index: &Shapes, axis: usize) -> Res<()> {
    if (0..2).all(|w| index[w].get(axis) == Some(&data[w][axis])) {
        return Ok(());
    }
    Err("selects part of the batch, which would mix samples".into())
}

pub(super) fn scatter_elements(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, index, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    check_index(index)?;
    let along = call.axis(0, x.rank()?)?;
    let op = ScatterAt { places: Places::Elements { axis: along }, reduction: reduction(call)? };
    let operands = [x, index, updates];
    // Any of the three may be what depends on the inputs; the others are repeated.
    let mut batch = None;
    for value in operands {
        let shapes = value.shapes()?;
        batch = batch.or(batch_axis(&shapes).map(|axis| (axis, shapes)));
    }
    let Some((axis, like)) = batch else { return cx.apply(call.name, op, &operands, x.elem()?) };
    if axis == along {
        return Err(format!("writes along the batch (axis {axis}), which would mix samples").into());
    }
    let mut parts = Vec::new();
    for (value, name) in operands.into_iter().zip(["data", "indices", "updates"]) {
        let part = repeated(cx, &call.sub(name), value, &like, axis)?;
        same_batch(&like, &part.shapes()?, axis)?;
        parts.push(part);
    }
    cx.apply(call.name, op, &[&parts[0], &parts[1], &parts[2]], x.elem()?)
}

/// An index `[…, depth]` into data whose first axis is the batch, where each sample only selects from itself: the part
/// of one sample, without the column that selects the sample. `None` if the index is not one of those.
///
/// Exporters write an assignment like `x[:, 0] = y` this way, with indices that are computed from the batch size or, for
/// a fixed batch size, are constants.
fn own_rows(cx: &Context, index: &Value) -> Res<Option<Array>> {
    let (arrays, batches) = match (index, cx.baked) {
        (Value::Varying(arrays), _) => ((**arrays).clone(), cx.worlds),
        (Value::Known(_), Some(baked)) => match index.arrays(LIMIT)? {
            Some(arrays) => (arrays, [baked, baked]),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let mut parts = Vec::new();
    for (array, batch) in arrays.iter().zip(batches) {
        let Some((&depth, outer)) = array.shape.split_last() else { return Ok(None) };
        // The batch is the outermost axis of the index that is longer than 1 where the batch is.
        let at = outer.iter().position(|&side| side == batch);
        let (Some(at), true) = (at, depth > 1) else { return Ok(None) };
        let after: usize = outer[at + 1..].iter().product();
        let rows = array.as_ints()?.chunks(depth);
        let own =
            rows.clone().enumerate().all(|(row, place)| place[0] == (row / after.max(1) % batch) as i64);
        if !own {
            return Ok(None);
        }
        let rest: Vec<i64> = rows.flat_map(|place| place[1..].to_vec()).collect();
        let mut shape = array.shape.clone();
        *shape.last_mut().ok_or("has no index")? = depth - 1;
        let Ok(mut one) = one_sample(&Array { shape: shape.clone(), data: Data::Int(rest) }, at, 1, batch)
        else {
            return Ok(None);
        };
        shape[at] = 1;
        one.shape = shape;
        parts.push((at, one));
    }
    match &parts[..] {
        // Only an index whose outermost axis is the batch stays in the order of the samples.
        [a, b] if a == b && a.0 == 0 => Ok(Some(a.1.clone())),
        _ => Ok(None),
    }
}

/// An index that is concatenated from the number of each sample and columns that are computed from the inputs, as
/// exporters write `x[arange(N), i]`. Zeros stand for the numbers, since [`GatherAt`] selects from each sample by itself.
pub(super) fn own_index(cx: &mut Context, call: &Call<'_>, operands: &[&Value]) -> Res<Option<Value>> {
    let [Value::Varying(numbers), rest @ ..] = operands else { return Ok(None) };
    let own = (0..2).all(|w| {
        let Array { shape, data: Data::Int(values) } = &numbers[w] else { return false };
        let inner = shape.iter().skip(1).product::<usize>().max(1);
        shape.first() == Some(&cx.worlds[w])
            && shape.last() == Some(&1)
            && values.iter().enumerate().all(|(i, &v)| v == (i / inner) as i64)
    });
    if !own || numbers[0].shape.len() < 2 || !rest.iter().any(|value| value.is_node()) {
        return Ok(None);
    }
    let mut shape = numbers[0].shape.clone();
    shape[0] = 1;
    let zeros = Array { data: Data::Int(vec![0; shape.iter().product()]), shape };
    let mut parts = vec![Value::from_array(zeros, cx.dtype, &call.sub("own sample"))?];
    for (i, value) in rest.iter().enumerate() {
        parts.push(cx.as_long(&call.sub(&format!("column {i}")), value)?);
    }
    let axis = parts[0].rank()? - 1;
    let refs: Vec<&Value> = parts.iter().collect();
    let value = cx.apply(call.name, Structure::Concat { axis }, &refs, Elem::Int)?;
    if let Value::Node(signal) = &value {
        cx.own_indices.insert(signal.id);
    }
    Ok(Some(value))
}

/// The number of common axes of data and index, and the index for them.
fn positions(cx: &mut Context, call: &Call<'_>, x: &Value, index: &Value) -> Res<(usize, Value)> {
    check_index(index)?;
    let shapes = x.shapes()?;
    let common = match call.op {
        "GatherND" => call.attributes.int_or("batch_dims", 0)?,
        _ => 0,
    };
    let common = usize::try_from(common)
        .ok()
        .filter(|&c| c < shapes[0].len())
        .ok_or_else(|| format!("batch_dims {common} is out of range"))?;
    let depth = index.shapes()?[0].last().copied().ok_or("indices are a scalar")?;
    let name = call.sub("indices");
    if let Value::Node(signal) = index
        && cx.own_indices.contains(&signal.id)
    {
        if batch_axis(&shapes) != Some(0) || common != 0 || depth < 2 {
            return Err(
                "selects by the number of the sample from a value whose first axis is not the batch".into()
            );
        }
        let axis = index.rank()? - 1;
        let op = Structure::Slice { axis, start: 1, len: depth - 1, step: 1 };
        return Ok((1, cx.apply(&name, op, &[index], Elem::Int)?));
    }
    match batch_axis(&shapes) {
        Some(batch) if batch < common => Ok((common, repeated(cx, &name, index, &shapes, batch)?)),
        Some(0) if common == 0 => {
            let own = own_rows(cx, index)?.ok_or("selects samples of the batch by index")?;
            let single = Value::from_array(own, cx.dtype, &name)?;
            Ok((1, repeated(cx, &name, &single, &shapes, 0)?))
        }
        Some(batch) if batch < common + depth => {
            Err(format!("selects by index along the batch (axis {batch}), which would mix samples").into())
        }
        _ => Ok((common, index.clone())),
    }
}

pub(super) fn gather_nd(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, index) = (call.input(0)?, call.input(1)?);
    let (batch_dims, index) = positions(cx, call, x, index)?;
    cx.apply(call.name, GatherAt { places: Places::Slices { batch_dims } }, &[x, &index], x.elem()?)
}

pub(super) fn scatter_nd(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (mut x, index, updates) = (call.input(0)?.clone(), call.input(1)?, call.input(2)?);
    let reduction = reduction(call)?;
    if !x.is_node() && updates.is_node() {
        // Values of the inputs that are written into a constant: it is repeated for each sample.
        let like = updates.shapes()?;
        if batch_axis(&like) == Some(0) {
            x = repeated(cx, &call.sub("data"), &x, &like, 0)?;
        }
    }
    let (batch_dims, index) = positions(cx, call, &x, index)?;
    let shapes = x.shapes()?;
    let updates = match batch_axis(&shapes) {
        Some(0) => repeated(cx, &call.sub("updates"), updates, &shapes, 0)?,
        _ => updates.clone(),
    };
    cx.apply(
        call.name,
        ScatterAt { places: Places::Slices { batch_dims }, reduction },
        &[&x, &index, &updates],
        x.elem()?,
    )
}
