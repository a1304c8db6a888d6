//! Resizing (`Resize`, `Upsample`).

use ascribe_core::ops::{Coordinates, Resize, ResizeEdges, ResizeMode, ResizeSize, Rounding, Structure};

use super::Call;
use super::pad::optional_list;
use crate::onnx::array::axis;
use crate::onnx::context::{Context, batch_axis};
use crate::onnx::value::{Elem, Res, Value};

/// The requested size along one axis.
#[derive(Clone, Copy)]
enum Size {
    Scale(f64),
    Side(i64),
}

pub(super) fn resize(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let shapes = x.shapes()?;
    let rank = shapes[0].len();
    let flag = |name: &str| call.attributes.flag(name, false);
    let edges = ResizeEdges { antialias: flag("antialias")?, exclude_outside: flag("exclude_outside")? };
    let given = sizes(call)?;
    let along = match call.attributes.ints("axes") {
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?,
        None => (0..rank).collect(),
    };
    if along.len() != given.len() {
        return Err(format!("has {} sizes for {} axes", given.len(), along.len()).into());
    }
    let mut wanted = vec![Size::Scale(1.0); rank];
    for (&axis, &size) in along.iter().zip(&given) {
        let changes = match size {
            Size::Scale(scale) => scale != 1.0,
            Size::Side(side) => side != shapes[0][axis] as i64,
        };
        // Exporters often write sizes that include the batch size of the export, so a size for the batch axis is
        // ignored.
        let batch = batch_axis(&shapes) == Some(axis) && matches!(size, Size::Side(_));
        if changes && axis < 2 && !batch {
            return Err(format!("resizes axis {axis}; expected the axes after the channels").into());
        }
        wanted[axis] = size;
    }
    let spatial = wanted.get(2..).filter(|s| !s.is_empty()).ok_or("expects [N, C, …] with spatial axes")?;
    let modern = call.op == "Resize" && call.opset >= 11;
    let sides: Option<Vec<usize>> = spatial
        .iter()
        .enumerate()
        .map(|(i, s)| match *s {
            Size::Side(side) => usize::try_from(side).ok(),
            Size::Scale(scale) => (scale == 1.0).then(|| shapes[0][i + 2]),
        })
        .collect();
    let has_sides = spatial.iter().any(|s| matches!(s, Size::Side(_)));
    let size = match sides {
        Some(sides) if has_sides => ResizeSize::Sides(sides),
        _ if has_sides => return Err("has a negative size".into()),
        _ => ResizeSize::Scales(
            spatial.iter().map(|s| if let Size::Scale(scale) = s { *scale } else { 1.0 }).collect(),
        ),
    };
    let coordinates = match call.mode("coordinate_transformation_mode", "half_pixel")? {
        _ if !modern => Coordinates::Asymmetric,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        _ => Coordinates::HalfPixel,
    };
    let mode = match call.mode("mode", "nearest")? {
        "linear" | "bilinear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic { coefficient: call.attributes.float_or("cubic_coeff_a", -0.75)? },
        _ if modern => ResizeMode::Nearest {
            rounding: match call.mode("nearest_mode", "round_prefer_floor")? {
                "round_prefer_ceil" => Rounding::PreferCeil,
                "floor" => Rounding::Floor,
                "ceil" => Rounding::Ceil,
                _ => Rounding::PreferFloor,
            },
        },
        _ => ResizeMode::Nearest { rounding: old_rounding(&size)? },
    };
    let unchanged = match &size {
        ResizeSize::Scales(scales) => scales.iter().all(|&s| s == 1.0),
        ResizeSize::Sides(sides) => sides[..] == shapes[0][2..],
    };
    if unchanged {
        return cx.apply(call.name, Structure::Identity, &[x], x.elem()?);
    }
    cx.apply(call.name, Resize { size, mode, coordinates, edges }, &[x], Elem::Float)
}

/// Before `nearest_mode` existed, runtimes rounded positions down when enlarging and up when shrinking.
fn old_rounding(size: &ResizeSize) -> Res<Rounding> {
    let ResizeSize::Scales(scales) = size else { return Ok(Rounding::Floor) };
    match (scales.iter().any(|&s| s < 1.0), scales.iter().any(|&s| s > 1.0)) {
        (true, true) => Err("enlarges one axis and shrinks another, in an operator set before 11".into()),
        (true, false) => Ok(Rounding::Ceil),
        _ => Ok(Rounding::Floor),
    }
}

/// The sizes or scales, which are attributes or inputs depending on the version of the operator.
fn sizes(call: &Call<'_>) -> Res<Vec<Size>> {
    if let Some(list) = call.attributes.floats("scales") {
        return Ok(list.iter().map(|&s| Size::Scale(s.into())).collect());
    }
    if let (Some(h), Some(w)) =
        (call.attributes.float("height_scale")?, call.attributes.float("width_scale")?)
    {
        return Ok([1.0, 1.0, h, w].map(Size::Scale).to_vec());
    }
    let old = call.op == "Upsample" || call.opset < 11;
    if let Some(scales) = optional_list(call, if old { 1 } else { 2 })? {
        return Ok(scales.to_floats().into_iter().map(Size::Scale).collect());
    }
    if !old && let Some(sides) = optional_list(call, 3)? {
        return Ok(sides.as_ints()?.iter().map(|&s| Size::Side(s)).collect());
    }
    Err("has neither scales nor sizes".into())
}
