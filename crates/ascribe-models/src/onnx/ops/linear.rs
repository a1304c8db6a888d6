//! Matrix products (`Gemm`, `MatMul`).

use ascribe_core::ops::{Binary, Linear, MatMul, Structure};

use super::Call;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// Transposes a matrix.
fn swap(cx: &mut Context, name: &str, x: &Value) -> Res<Value> {
    cx.apply(name, Structure::Transpose { order: vec![1, 0] }, &[x], Elem::Float)
}

/// Multiplies by a number.
fn scaled(cx: &mut Context, name: &str, x: &Value, factor: f64) -> Res<Value> {
    match x {
        _ if factor == 1.0 => Ok(x.clone()),
        Value::Known(known) => Ok(Known::value((&known.tensor * factor)?, known.elem, &known.name)),
        _ => {
            let factor = cx.number(&format!("{name}/factor"), factor)?;
            cx.apply(name, Binary::Mul, &[x, &factor], Elem::Float)
        }
    }
}

/// `y = alpha · a · b + beta · c`; a linear layer if `b` is a constant.
pub(super) fn gemm(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (alpha, beta) = (call.attributes.float_or("alpha", 1.0)?, call.attributes.float_or("beta", 1.0)?);
    let mut a = call.input(0)?.clone();
    if a.rank()? != 2 || call.input(1)?.rank()? != 2 {
        return Err(format!(
            "expects matrices, not shapes {:?} and {:?}",
            a.shapes()?[0],
            call.input(1)?.shapes()?[0]
        )
        .into());
    }
    if call.attributes.flag("transA", false)? {
        a = swap(cx, &call.sub("transA"), &a)?;
    }
    let b = call.input(1)?;
    let transposed = call.attributes.flag("transB", false)?;
    let bias = call.optional(2);
    if b.known().is_some() && a.is_node() {
        let weight = if transposed { b.clone() } else { swap(cx, &call.sub("transB"), b)? };
        let weight = scaled(cx, &call.sub("alpha"), &weight, alpha)?;
        let out = weight.shapes()?[0][0];
        let Some(c) = bias else { return cx.apply(call.name, Linear, &[&a, &weight], Elem::Float) };
        if let Some(row) = row(c, out)? {
            let row = scaled(cx, &call.sub("beta"), &row, beta)?;
            return cx.apply(call.name, Linear, &[&a, &weight, &row], Elem::Float);
        }
        let product = cx.apply(&call.sub("product"), Linear, &[&a, &weight], Elem::Float)?;
        let c = scaled(cx, &call.sub("beta"), c, beta)?;
        return cx.apply_broadcast(call.name, Binary::Add, &[&product, &c], Elem::Float);
    }
    let b = if transposed { swap(cx, &call.sub("transB"), b)? } else { b.clone() };
    let a = scaled(cx, &call.sub("alpha"), &a, alpha)?;
    let Some(c) = bias else { return cx.apply(call.name, MatMul, &[&a, &b], Elem::Float) };
    let product = cx.apply(&call.sub("product"), MatMul, &[&a, &b], Elem::Float)?;
    let c = scaled(cx, &call.sub("beta"), c, beta)?;
    cx.apply_broadcast(call.name, Binary::Add, &[&product, &c], Elem::Float)
}

/// A constant that adds one number to each column, as a vector; `None` if `c` is not such a constant.
fn row(c: &Value, columns: usize) -> Res<Option<Value>> {
    let Some(known) = c.known() else { return Ok(None) };
    let fits = match *known.tensor.dims() {
        [] => true,
        [n] | [1, n] => n == columns || n == 1,
        _ => false,
    };
    if !fits {
        return Ok(None);
    }
    let vector = known.tensor.flatten_all()?;
    let vector =
        if vector.elem_count() == columns { vector } else { vector.broadcast_as(columns)?.contiguous()? };
    Ok(Some(Known::value(vector, known.elem, &known.name)))
}

pub(super) fn matmul(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    if a.elem()? != Elem::Float || b.elem()? != Elem::Float {
        return Err("multiplies integers".into());
    }
    let (left, right) = (a.rank()?, b.rank()?);
    if left == 0 || right == 0 {
        return Err("multiplies a scalar".into());
    }
    // As in numpy, a vector becomes a matrix, and the added axis is removed from the result.
    let column = if right == 1 {
        Some(cx.reshape_by(&call.sub("column"), b, |s| Ok([s, &[1]].concat()))?)
    } else {
        None
    };
    let row =
        if left == 1 { Some(cx.reshape_by(&call.sub("row"), a, |s| Ok([&[1], s].concat()))?) } else { None };
    let product_name =
        if column.is_some() || row.is_some() { call.sub("product") } else { call.name.to_string() };
    let (a, b) = (row.as_ref().unwrap_or(a), column.as_ref().unwrap_or(b));
    let mut y = if b.known().is_some() && a.is_node() && b.rank()? == 2 {
        let weight = swap(cx, &call.sub("weight"), b)?;
        cx.apply(&product_name, Linear, &[a, &weight], Elem::Float)?
    } else {
        cx.apply(&product_name, MatMul, &[a, b], Elem::Float)?
    };
    let (drop_row, drop_column) = (row.is_some(), column.is_some());
    if drop_row || drop_column {
        y = cx.reshape_by(call.name, &y, |s| {
            let mut s = s.to_vec();
            if drop_column {
                s.pop();
            }
            if drop_row {
                s.remove(s.len() - if drop_column { 1 } else { 2 });
            }
            Ok(s)
        })?;
    }
    Ok(y)
}
