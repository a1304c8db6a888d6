//! Operators about positions: running sums, triangles, one-hot vectors, and the places of extreme values.

use ascribe_core::Tensor;
use ascribe_core::ops::{ArgExtreme, Binary, Cast, Compare, CumSum, GatherAt, Places, TopIndices, Where};
use ascribe_core::{DType, Device};

use super::Call;
use crate::onnx::array::{Array, Data, axis};
use crate::onnx::context::Context;
use crate::onnx::tensors::elem_of;
use crate::onnx::value::{Elem, Known, Res, Value};

/// A constant zero of the type of a value.
fn zero(cx: &Context, name: &str, like: &Value) -> Res<Value> {
    let elem = like.elem()?;
    let dtype = match elem {
        Elem::Float => cx.dtype,
        Elem::Int => DType::I64,
        Elem::Bool => DType::U8,
        Elem::Text => return Err("is supported on numbers, not on text".into()),
    };
    Ok(Known::value(Tensor::zeros((), dtype, &Device::Cpu)?, elem, name))
}

pub(super) fn cum_sum(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let axis = axis(call.input(1)?.array("the axis")?.scalar_int()?, x.rank()?)?;
    call.not_batch(x, axis, "sums along")?;
    if x.elem()? == Elem::Bool {
        return Err("sums booleans".into());
    }
    let flag = |name: &str| call.attributes.flag(name, false);
    let op = CumSum { axis, exclusive: flag("exclusive")?, reverse: flag("reverse")? };
    cx.apply(call.name, op, &[x], x.elem()?)
}

/// `EyeLike`: ones on a diagonal, zeros elsewhere, in the shape of a matrix.
pub(super) fn eye(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let shapes = x.shapes()?;
    let &[rows, cols] = &shapes[0][..] else {
        return Err(format!("expects a matrix, not {:?}", shapes[0]).into());
    };
    if shapes[0] != shapes[1] {
        return Err("has the shape of a matrix that contains the batch".into());
    }
    let elem = match call.attributes.int("dtype")? {
        Some(code) => elem_of(code as i32)?,
        None => x.elem()?,
    };
    let k = call.attributes.int_or("k", 0)?;
    cx.spend(&shapes[0])?;
    let on = |i: usize| i64::from((i % cols) as i64 == ((i / cols) as i64).saturating_add(k));
    let values = Array { shape: shapes[0].clone(), data: Data::Int((0..rows * cols).map(on).collect()) };
    let data = match elem {
        Elem::Int => values.data.clone(),
        Elem::Float => Data::Float(values.to_floats()),
        Elem::Bool => Data::Bool(values.to_floats().iter().map(|&v| v != 0.0).collect()),
        Elem::Text => return Err("has no text for ones and zeros".into()),
    };
    Value::from_array(Array { shape: values.shape, data }, cx.dtype, call.name)
}

/// The upper or lower triangle of the last two axes; the rest becomes 0.
pub(super) fn trilu(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let &[.., rows, cols] = &shape[..] else { return Err("expects at least two axes".into()) };
    for axis in shape.len() - 2..shape.len() {
        call.not_batch(x, axis, "selects part of")?;
    }
    let k = match call.optional(1) {
        Some(k) => k.array("k")?.scalar_int()?,
        None => 0,
    };
    let upper = call.attributes.flag("upper", true)?;
    cx.spend(&[rows, cols])?;
    let inside: Vec<u8> = (0..rows * cols)
        .map(|i| {
            let (column, diagonal) = ((i % cols) as i64, ((i / cols) as i64).saturating_add(k));
            u8::from(if upper { column >= diagonal } else { column <= diagonal })
        })
        .collect();
    let inside = Tensor::from_vec(inside, (rows, cols), &Device::Cpu)?;
    let inside = Known::value(inside, Elem::Bool, &call.sub("triangle"));
    let zero = zero(cx, &call.sub("zero"), x)?;
    cx.apply(call.name, Where, &[&inside, x, &zero], x.elem()?)
}

/// Compares an index, whose axis `at` has length 1, with all positions along this axis.
fn matches(cx: &mut Context, call: &Call<'_>, index: &Value, at: usize, depth: usize) -> Res<Value> {
    cx.spend(&[depth])?;
    let mut shape = vec![1; index.rank()? - at];
    shape[0] = depth;
    let positions = Array::ints((0..depth as i64).collect()).reshape(shape)?;
    let positions = Value::from_array(positions, cx.dtype, &call.sub("positions"))?;
    cx.apply(&call.sub("here"), Compare::Equal, &[index, &positions], Elem::Bool)
}

pub(super) fn one_hot(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let index = call.input(0)?;
    let depth = call.input(1)?.array("the depth")?.scalar()?;
    if !(1.0..=f64::from(1 << 24)).contains(&depth) {
        return Err(format!("its depth {depth} is out of range").into());
    }
    let depth = depth as usize;
    let values = call.input(2)?;
    let known = values.known().ok_or("its values are computed from the inputs; expected constants")?;
    if known.tensor.dims() != [2] {
        return Err("expects two values, one for off and one for on".into());
    }
    let pick = |i: usize, name: &str| -> Res<Value> {
        Ok(Known::value(known.tensor.get(i)?, known.elem, &call.sub(name)))
    };
    let (off, on) = (pick(0, "off")?, pick(1, "on")?);
    let at = axis(call.attributes.int_or("axis", -1)?, index.rank()? + 1)?;
    let whole = match index.elem()? {
        Elem::Int => cx.as_long(&call.sub("integers"), index)?,
        _ => cx.apply(&call.sub("integers"), Cast { to: DType::I64 }, &[index], Elem::Int)?,
    };
    // Negative indices count from the end.
    let zero = zero(cx, &call.sub("zero"), &whole)?;
    let count = Value::from_array(Array::int(depth as i64), cx.dtype, &call.sub("depth"))?;
    let negative = cx.apply(&call.sub("negative"), Compare::Less, &[&whole, &zero], Elem::Bool)?;
    let moved = cx.apply(&call.sub("from end"), Binary::Add, &[&whole, &count], Elem::Int)?;
    let resolved = cx.apply(&call.sub("indices"), Where, &[&negative, &moved, &whole], Elem::Int)?;
    let column = cx.reshape_by(&call.sub("column"), &resolved, |s| {
        let mut shape = s.to_vec();
        shape.insert(at, 1);
        Ok(shape)
    })?;
    let here = matches(cx, call, &column, at, depth)?;
    cx.apply(call.name, Where, &[&here, &on, &off], known.elem)
}

/// 1 at the first largest value along an axis, 0 elsewhere.
pub(super) fn hardmax(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let at = call.axis(if call.opset >= 13 { -1 } else { 1 }, shape.len())?;
    if call.opset < 13 && shape[at + 1..].iter().any(|&side| side != 1) {
        return Err("is over several axes (axis and those behind it, before operator set 13)".into());
    }
    call.not_batch(x, at, "compares along")?;
    let op = ArgExtreme { axis: at, largest: true, last: false, keep: true };
    let index = cx.apply(&call.sub("index"), op, &[x], Elem::Int)?;
    let here = matches(cx, call, &index, at, shape[at])?;
    cx.apply(call.name, Cast { to: cx.dtype }, &[&here], Elem::Float)
}

/// `ArgMax` and `ArgMin`.
pub(super) fn arg(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let axis = call.axis(0, x.rank()?)?;
    call.not_batch(x, axis, "compares along")?;
    let op = ArgExtreme {
        axis,
        largest: call.op == "ArgMax",
        last: call.attributes.flag("select_last_index", false)?,
        keep: call.attributes.flag("keepdims", true)?,
    };
    cx.apply(call.name, op, &[x], Elem::Int)
}

/// The largest or smallest values along an axis, and their indices.
pub(super) fn top_k(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let x = call.input(0)?;
    let axis = call.axis(-1, x.rank()?)?;
    call.not_batch(x, axis, "compares along")?;
    let k = match call.attributes.int("k")? {
        Some(k) => k,
        None => call.input(1)?.array("k")?.scalar_int()?,
    };
    let count = usize::try_from(k).map_err(|_| format!("k is {k}; expected a positive number"))?;
    let op = TopIndices { axis, count, largest: call.attributes.flag("largest", true)? };
    let indices = cx.apply(&call.sub("indices"), op, &[x], Elem::Int)?;
    let values =
        cx.apply(call.name, GatherAt { places: Places::Elements { axis } }, &[x, &indices], x.elem()?)?;
    Ok(vec![values, indices])
}
