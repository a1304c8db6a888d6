//! Convolutions and poolings of volumes `[N, C, D, H, W]`.

use ascribe_core::ops::{AveragePool, Conv3d, ConvTranspose3d, Line, MaxPool, Op, Window};
use ascribe_core::{Device, Tensor};

use super::Call;
use super::conv::{groups, operands};
use super::window::{halves, number};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// Whether a value is a volume.
pub(super) fn is_volume(x: &Value) -> Res<bool> {
    Ok(x.rank()? == 5)
}

/// An attribute with one number for each of three axes; `default` for each if it is absent.
fn three(call: &Call<'_>, name: &str, least: i64, default: usize) -> Res<[usize; 3]> {
    match call.attributes.ints(name) {
        None => Ok([default; 3]),
        Some(&[d, h, w]) => Ok([number(d, least, name)?, number(h, least, name)?, number(w, least, name)?]),
        Some(list) => Err(format!("{name} {list:?} does not fit 3 spatial axes").into()),
    }
}

/// The windows along the three axes. `automatic` is whether `auto_pad` sets the padding, and if so whether an odd pixel
/// goes to the start.
struct Axes {
    lines: [Line; 3],
    automatic: Option<bool>,
}

fn axes(call: &Call<'_>, kernel: Option<[usize; 3]>) -> Res<Axes> {
    let given = match (call.attributes.has("kernel_shape"), kernel) {
        (false, None) => return Err("has no kernel_shape".into()),
        (false, Some(kernel)) => kernel,
        (true, _) => three(call, "kernel_shape", 1, 1)?,
    };
    if kernel.is_some_and(|kernel| kernel != given) {
        return Err(format!("kernel_shape is {given:?}, but the weight's is {kernel:?}").into());
    }
    let (strides, dilations) = (three(call, "strides", 1, 1)?, three(call, "dilations", 1, 1)?);
    let automatic = match call.mode("auto_pad", "NOTSET")? {
        "SAME_UPPER" => Some(false),
        "SAME_LOWER" => Some(true),
        _ => None,
    };
    let pads = match call.attributes.ints("pads") {
        Some(pads) if call.mode("auto_pad", "NOTSET")? == "NOTSET" && !pads.is_empty() => {
            let pads = pads.iter().map(|&p| number(p, 0, "pads")).collect::<Res<Vec<usize>>>()?;
            <[usize; 6]>::try_from(pads).map_err(|_| "pads do not fit 3 spatial axes")?
        }
        _ => [0; 6],
    };
    let lines = [0, 1, 2].map(|i| Line {
        kernel: given[i],
        stride: strides[i],
        dilation: dilations[i],
        padding: [pads[i], pads[i + 3]],
    });
    Ok(Axes { lines, automatic })
}

/// Number of values that a window covers.
fn extent(line: &Line) -> usize {
    line.dilation * (line.kernel - 1) + 1
}

/// The padding with which a convolution or pooling has ⌈input / stride⌉ windows.
fn pad_automatically(lines: &mut [Line; 3], x: &Value, before: bool) -> Res<()> {
    let [shape, _] = x.shapes()?;
    for (line, side) in lines.iter_mut().zip(&shape[2..]) {
        let reach = (side.div_ceil(line.stride).max(1) - 1) * line.stride + extent(line);
        let (first, last) = halves(reach.saturating_sub(*side), before);
        line.padding = [first, last];
    }
    Ok(())
}

/// Two axes as a window of a plane.
fn plane(rows: &Line, cols: &Line) -> Window {
    Window {
        kernel: [rows.kernel, cols.kernel],
        stride: [rows.stride, cols.stride],
        dilation: [rows.dilation, cols.dilation],
        padding: [rows.padding[0], cols.padding[0], rows.padding[1], cols.padding[1]],
        ceil_mode: false,
    }
}

fn kernel(weight: &Value) -> Res<[usize; 3]> {
    match weight.shapes()?[0][..] {
        [_, _, d, h, w] if d * h * w > 0 => Ok([d, h, w]),
        ref shape => {
            Err(format!("the weight has shape {shape:?}; expected five axes that are not empty").into())
        }
    }
}

pub(super) fn conv(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let Axes { mut lines, automatic } = axes(call, Some(kernel(call.input(1)?)?))?;
    if let Some(before) = automatic {
        pad_automatically(&mut lines, x, before)?;
    }
    let op = Conv3d { depth: lines[0], window: plane(&lines[1], &lines[2]), groups: groups(call)? };
    cx.apply(call.name, op, &operands(call)?, Elem::Float)
}

pub(super) fn conv_transpose(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let Axes { mut lines, automatic } = axes(call, Some(kernel(call.input(1)?)?))?;
    let mut output_padding = three(call, "output_padding", 0, 0)?;
    let shape = match call.attributes.ints("output_shape") {
        Some(_) => Some(three(call, "output_shape", 1, 1)?),
        None => None,
    };
    if shape.is_some() || automatic.is_some() {
        let [input, _] = x.shapes()?;
        for (axis, line) in lines.iter_mut().enumerate() {
            let side = input[axis + 2];
            let wanted = shape.map_or_else(|| side * line.stride, |s| s[axis]);
            let full = side.saturating_sub(1) * line.stride + extent(line) + output_padding[axis];
            output_padding[axis] += wanted.saturating_sub(full);
            // As for planes: an odd crop goes to the end for SAME_UPPER only.
            let (first, last) = halves(full.saturating_sub(wanted), automatic != Some(false));
            line.padding = [first, last];
        }
    }
    let window = plane(&lines[1], &lines[2]);
    let op = ConvTranspose3d { depth: lines[0], window, groups: groups(call)?, output_padding };
    cx.apply(call.name, op, &operands(call)?, Elem::Float)
}

/// Pools planes, then the depth: maxima and means over a box are those over its axes in turn.
pub(super) fn pool(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let Axes { mut lines, automatic } = axes(call, None)?;
    let mut ceil_mode = call.attributes.flag("ceil_mode", false)?;
    if let Some(before) = automatic {
        pad_automatically(&mut lines, x, before)?;
        ceil_mode = false;
    }
    let count_include_pad = call.attributes.flag("count_include_pad", false)?;
    let op = |window: Window| -> Op {
        let window = Window { ceil_mode, ..window };
        if call.op == "MaxPool" {
            MaxPool { window }.into()
        } else {
            AveragePool { window, count_include_pad }.into()
        }
    };
    let planes = cx.reshape_by(&call.sub("planes"), x, |s| Ok(vec![s[0], s[1] * s[2], s[3], s[4]]))?;
    let planes = cx.apply(&call.sub("plane"), op(plane(&lines[1], &lines[2])), &[&planes], Elem::Float)?;
    let [shape, _] = x.shapes()?;
    let (channels, depth) = (shape[1], shape[2]);
    let columns =
        cx.reshape_by(&call.sub("columns"), &planes, |s| Ok(vec![s[0], channels, depth, s[2] * s[3]]))?;
    let pooled =
        cx.apply(&call.sub("depth"), op(plane(&lines[0], &Line::new(1))), &[&columns], Elem::Float)?;
    let [sides, _] = planes.shapes()?;
    cx.reshape_by(call.name, &pooled, |s| Ok(vec![s[0], s[1], s[2], sides[2], sides[3]]))
}

/// The sum over each window of each channel: a convolution with ones.
pub(super) fn window_sums(cx: &mut Context, call: &Call<'_>, x: &Value) -> Res<Value> {
    let Axes { mut lines, automatic } = axes(call, None)?;
    if let Some(before) = automatic {
        pad_automatically(&mut lines, x, before)?;
    } else if call.attributes.flag("ceil_mode", false)? {
        return Err("attribute ceil_mode is not supported for volumes".into());
    }
    let channels = x.shapes()?[0][1];
    let shape = [channels, 1, lines[0].kernel, lines[1].kernel, lines[2].kernel];
    cx.spend(&shape)?;
    let ones = Tensor::ones(&shape, cx.dtype, &Device::Cpu)?;
    let ones = Known::value(ones, Elem::Float, &call.sub("ones"));
    let op = Conv3d { depth: lines[0], window: plane(&lines[1], &lines[2]), groups: channels };
    cx.apply(&call.sub("sum"), op, &[x, &ones], Elem::Float)
}
