//! Sampling at the places of a grid (`GridSample`).

use ascribe_core::ops::{GridSample, SampleMode, SamplePadding};

use super::Call;
use super::elements::repeated;
use crate::onnx::context::{Context, batch_axis};
use crate::onnx::value::{Elem, Res, Value};

pub(super) fn sample(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mode = match call.mode("mode", "linear")? {
        "nearest" => SampleMode::Nearest,
        "cubic" | "bicubic" => SampleMode::Cubic,
        _ => SampleMode::Linear,
    };
    let padding = match call.mode("padding_mode", "zeros")? {
        "border" => SamplePadding::Border,
        "reflection" => SamplePadding::Reflection,
        _ => SamplePadding::Zeros,
    };
    let align_corners = call.attributes.flag("align_corners", false)?;
    let (x, grid) = (call.input(0)?, call.input(1)?);
    // One of both may be a constant that is the same for all samples.
    let (of_x, of_grid) = (x.shapes()?, grid.shapes()?);
    let x = match batch_axis(&of_grid) {
        Some(0) => repeated(cx, &call.sub("input"), x, &of_grid, 0)?,
        _ => x.clone(),
    };
    let grid = match batch_axis(&of_x) {
        Some(0) => repeated(cx, &call.sub("grid"), grid, &of_x, 0)?,
        _ => grid.clone(),
    };
    cx.apply(call.name, GridSample { mode, padding, align_corners }, &[&x, &grid], Elem::Float)
}
