//! Convolution and transposed convolution.

use ascribe_core::ops::{Conv, ConvTranspose};

use super::window::{Padding, attributes, halves, per_axis, spatial};
use super::{Call, volume};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// The kernel size, from the shape of the weight.
fn kernel(weight: &Value, axes: usize) -> Res<[usize; 2]> {
    let [shape, _] = weight.shapes()?;
    match (&shape[..], axes) {
        (&[_, _, w], 1) => Ok([1, w]),
        (&[_, _, h, w], 2) => Ok([h, w]),
        _ => Err(format!("the weight has shape {shape:?}, which does not fit {axes} spatial axes").into()),
    }
}

pub(super) fn groups(call: &Call<'_>) -> Res<usize> {
    let groups = call.attributes.int_or("group", 1)?;
    usize::try_from(groups)
        .ok()
        .filter(|g| (1..1 << 30).contains(g))
        .ok_or_else(|| format!("group is {groups}; expected a positive number").into())
}

/// Input, weight and, if it is given, bias.
pub(super) fn operands<'a>(call: &'a Call<'_>) -> Res<Vec<&'a Value>> {
    let mut operands = vec![call.input(0)?, call.input(1)?];
    operands.extend(call.optional(2));
    Ok(operands)
}

pub(super) fn conv(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    if volume::is_volume(call.input(0)?)? {
        return volume::conv(cx, call);
    }
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let axes = spatial(x)?;
    let window = attributes(call, axes, Some(kernel(weight, axes)?))?.window(x)?;
    cx.apply(call.name, Conv { window, groups: groups(call)? }, &operands(call)?, Elem::Float)
}

pub(super) fn conv_transpose(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    if volume::is_volume(call.input(0)?)? {
        return volume::conv_transpose(cx, call);
    }
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let axes = spatial(x)?;
    let attributes = attributes(call, axes, Some(kernel(weight, axes)?))?;
    let mut window = attributes.window;
    let mut output_padding = per_axis(call, "output_padding", axes, 0, 0)?;
    let shape = match call.attributes.ints("output_shape") {
        Some(_) => Some(per_axis(call, "output_shape", axes, 1, 1)?),
        None => None,
    };
    let same = match attributes.padding {
        Padding::Same { before } => Some(before),
        Padding::Given => None,
    };
    if shape.is_some() || same.is_some() {
        let input = x.shapes()?;
        for axis in 2 - axes..2 {
            let side = input[0][axis + axes];
            let stride = window.stride[axis];
            let wanted = shape.map_or_else(|| side * stride, |s| s[axis]);
            let full = side.saturating_sub(1) * stride
                + window.dilation[axis] * (window.kernel[axis] - 1)
                + 1
                + output_padding[axis];
            // If the output is too small, padding is added at its end; if it is too large, it is cropped at both ends.
            let total = full.saturating_sub(wanted);
            output_padding[axis] += wanted.saturating_sub(full);
            // By the specification, an odd crop goes to the end for SAME_UPPER only, otherwise to the start.
            let (first, last) = halves(total, same != Some(false));
            window.padding[axis] = first;
            window.padding[axis + 2] = last;
        }
    }
    cx.apply(
        call.name,
        ConvTranspose { window, groups: groups(call)?, output_padding },
        &operands(call)?,
        Elem::Float,
    )
}
