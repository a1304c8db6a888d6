//! Rotary position embeddings: each pair of values of a head is rotated by an angle that depends on its position.

use ascribe_core::ops::{Binary, Embedding, Structure};

use super::Call;
use super::attention::{merge_heads, split_heads};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// Cosines or sines as `[B, 1, S, d/2]`, from a table `[positions, d/2]` and positions, or `[B, S, d/2]` without
/// positions.
fn angles(
    cx: &mut Context,
    name: &str,
    table: &Value,
    positions: Option<&Value>,
    length: usize,
) -> Res<Value> {
    let rows = match positions {
        Some(positions) if positions.rank()? == 1 => {
            // The position of the first token.
            let start = positions.array("the positions")?.scalar_int()?;
            let start = usize::try_from(start).map_err(|_| "has a negative position")?;
            let op = Structure::Slice { axis: 0, start, len: length, step: 1 };
            let rows = cx.apply(&format!("{name}/rows"), op, &[table], Elem::Float)?;
            cx.reshape_by(&format!("{name}/batch"), &rows, |s| Ok([&[1], s].concat()))?
        }
        Some(positions) => {
            let positions = cx.unbake(positions, 0)?.unwrap_or_else(|| positions.clone());
            cx.apply(&format!("{name}/rows"), Embedding, &[table, &positions], Elem::Float)?
        }
        None => cx.unbake(table, 0)?.unwrap_or_else(|| table.clone()),
    };
    if rows.rank()? != 3 {
        return Err(format!("{name} has {} axes; expected [B, S, d/2]", rows.rank()?).into());
    }
    cx.reshape_by(&format!("{name}/heads"), &rows, |s| Ok(vec![s[0], 1, s[1], s[2]]))
}

/// `RotaryEmbedding`, of the default operator set or of `com.microsoft`.
pub(super) fn rotary(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let attributes = call.attributes;
    let (cos, sin, positions) = if call.microsoft {
        (call.input(2)?, call.input(3)?, Some(call.input(1)?))
    } else {
        (call.input(1)?, call.input(2)?, call.optional(3))
    };
    let input = call.input(0)?;
    let flat = input.rank()? == 3;
    let half = cos.shapes()?[0].last().copied().unwrap_or(0);
    let given = attributes.int_or("rotary_embedding_dim", 0)?;
    let x = if flat {
        let width = input.shapes()?[0][2];
        let heads = match attributes.int_or("num_heads", 0)? {
            0 if call.microsoft && given == 0 && half > 0 => width / (2 * half),
            heads => usize::try_from(heads).ok().filter(|&h| h > 0).ok_or("has no num_heads")?,
        };
        split_heads(cx, &call.sub("input"), input, heads)?
    } else {
        input.clone()
    };
    let [shape, _] = x.shapes()?;
    let &[_, _, length, width] = &shape[..] else {
        return Err(format!("expects [B, H, S, d], not {shape:?}").into());
    };
    let turned = if given == 0 { width } else { usize::try_from(given).unwrap_or(0) };
    if turned != 2 * half || turned > width {
        return Err(format!("rotates {turned} of {width} values with {half} angles").into());
    }
    let cos = angles(cx, &call.sub("cos"), cos, positions, length)?;
    let sin = angles(cx, &call.sub("sin"), sin, positions, length)?;
    let interleaved = attributes.flag("interleaved", false)?;
    let part = |cx: &mut Context, name: &str, second: usize| {
        let (start, step) = if interleaved { (second, 2) } else { (second * half, 1) };
        let op = Structure::Slice { axis: 3, start, len: half, step };
        cx.apply(&call.sub(name), op, &[&x], Elem::Float)
    };
    let (first, second) = (part(cx, "first", 0)?, part(cx, "second", 1)?);
    let mut product =
        |name: &str, a: &Value, b: &Value| cx.apply(&call.sub(name), Binary::Mul, &[a, b], Elem::Float);
    let (a, b) = (product("first/cos", &first, &cos)?, product("second/sin", &second, &sin)?);
    let (c, d) = (product("first/sin", &first, &sin)?, product("second/cos", &second, &cos)?);
    let mut real = cx.apply(&call.sub("real"), Binary::Sub, &[&a, &b], Elem::Float)?;
    let mut imaginary = cx.apply(&call.sub("imaginary"), Binary::Add, &[&c, &d], Elem::Float)?;
    if interleaved {
        let column = |s: &[usize]| Ok([s, &[1]].concat());
        real = cx.reshape_by(&call.sub("real/column"), &real, column)?;
        imaginary = cx.reshape_by(&call.sub("imaginary/column"), &imaginary, column)?;
    }
    let join = Structure::Concat { axis: if interleaved { 4 } else { 3 } };
    let mut y = cx.apply(&call.sub("rotated"), join, &[&real, &imaginary], Elem::Float)?;
    if interleaved {
        y = cx.reshape_by(&call.sub("pairs"), &y, |s| Ok(vec![s[0], s[1], s[2], s[3] * s[4]]))?;
    }
    if turned < width {
        let op = Structure::Slice { axis: 3, start: turned, len: width - turned, step: 1 };
        let rest = cx.apply(&call.sub("rest"), op, &[&x], Elem::Float)?;
        y = cx.apply(&call.sub("all"), Structure::Concat { axis: 3 }, &[&y, &rest], Elem::Float)?;
    }
    if flat {
        merge_heads(cx, call.name, &y)
    } else {
        cx.apply(call.name, Structure::Identity, &[&y], Elem::Float)
    }
}
