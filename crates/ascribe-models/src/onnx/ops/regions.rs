//! Operators on images whose places are computed: regions, grids, deformed windows, blocks that are put together.

use ascribe_core::ops::{
    Binary, Conv, ConvTranspose, GridSample, MatMul, Pad, PadMode, RoiAlign, RoiMode, SampleMode,
    SamplePadding, Structure, Window,
};
use ascribe_core::{Device, Tensor};

use super::Call;
use super::elements::repeated;
use super::window::{attributes, number};
use crate::onnx::array::axis;
use crate::onnx::context::{Context, batch_axis};
use crate::onnx::value::{Elem, Known, Res, Value};

/// A list of positive numbers from a constant.
fn sides(value: &Value, what: &str) -> Res<Vec<usize>> {
    value.array(what)?.as_ints()?.iter().map(|&side| number(side, 1, what)).collect()
}

/// A constant of the graph's type.
fn constant(cx: &mut Context, name: &str, values: Vec<f64>, shape: &[usize]) -> Res<Value> {
    cx.spend(shape)?;
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(cx.dtype)?;
    Ok(Known::value(tensor, Elem::Float, name))
}

/// `Col2Im`: each column of `[N, C·h·w, L]` is a block `[C, h, w]`, and the blocks are added at their places, which is a
/// transposed convolution with a weight of ones and zeros.
pub(super) fn blocks(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let (image, block) = (sides(call.input(1)?, "image_shape")?, sides(call.input(2)?, "block_shape")?);
    let (&[height, width], &[rows, columns]) = (&image[..], &block[..]) else {
        return Err(format!("has blocks {block:?} and images {image:?}; expected two axes").into());
    };
    let pair =
        |name: &str, least: i64, default: usize| super::window::per_axis(call, name, 2, least, default);
    let mut window =
        Window::new([rows, columns]).stride(pair("strides", 1, 1)?).dilation(pair("dilations", 1, 1)?);
    if let Some(pads) = call.attributes.ints("pads") {
        let pads = pads.iter().map(|&p| number(p, 0, "pads")).collect::<Res<Vec<usize>>>()?;
        window.padding = <[usize; 4]>::try_from(pads).map_err(|_| "pads do not fit two axes")?;
    }
    let size = rows * columns;
    let count = window.output([height, width])?;
    if shape.len() != 3 || shape[1] % size != 0 || shape[2] != count[0] * count[1] {
        return Err(format!(
            "has an input of shape {shape:?}; expected [N, C · {size}, {}] for these blocks and this image",
            count[0] * count[1]
        )
        .into());
    }
    let channels = shape[1] / size;
    let one_of = |i: usize| f64::from(u8::from(i / size % size == i % size));
    let weight: Vec<f64> = (0..channels * size * size).map(one_of).collect();
    let weight = constant(cx, &call.sub("places"), weight, &[channels * size, 1, rows, columns])?;
    let columns = cx.reshape_by(&call.sub("blocks"), x, |s| Ok(vec![s[0], s[1], count[0], count[1]]))?;
    let rest = |axis: usize, side: usize| {
        let (before, after) = window.pad(axis);
        let reach =
            (count[axis] - 1) * window.stride[axis] + window.dilation[axis] * (window.kernel[axis] - 1) + 1;
        side + before + after - reach
    };
    let output_padding = [rest(0, height), rest(1, width)];
    // A remainder that a transposed convolution does not have is added as zeros.
    let fits = (0..2).all(|i| output_padding[i] < window.stride[i].max(window.dilation[i]));
    if !fits {
        return Err(format!("has an image {image:?} that is larger than its blocks reach").into());
    }
    cx.apply(
        call.name,
        ConvTranspose { window, groups: channels, output_padding },
        &[&columns, &weight],
        Elem::Float,
    )
}

/// `CenterCropPad`: crops or pads axes to the sizes given, around their middles.
pub(super) fn center(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let mut x = call.input(0)?.clone();
    let [shape, _] = x.shapes()?;
    let rank = shape.len();
    let wanted = sides(call.input(1)?, "the shape")?;
    let along = match call.attributes.ints("axes") {
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?,
        None => (0..rank).collect(),
    };
    if wanted.len() != along.len() {
        return Err(format!("has {} sizes for {} axes", wanted.len(), along.len()).into());
    }
    let elem = x.elem()?;
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (&axis, &side) in along.iter().zip(&wanted) {
        if side == shape[axis] {
            continue;
        }
        call.not_batch(&x, axis, "crops or pads")?;
        if let Some(less) = shape[axis].checked_sub(side) {
            let op = Structure::Slice { axis, start: less / 2, len: side, step: 1 };
            x = cx.apply(&call.sub(&format!("crop{axis}")), op, &[&x], elem)?;
        } else {
            let more = side - shape[axis];
            (before[axis], after[axis]) = (more / 2, more - more / 2);
        }
    }
    if after.iter().all(|&side| side == 0) {
        return cx.apply(call.name, Structure::Identity, &[&x], elem);
    }
    cx.apply(call.name, Pad { before, after, mode: PadMode::Constant(0.0) }, &[&x], elem)
}

/// `AffineGrid`: the product of evenly spaced places, which are constants, and the matrices `[N, axes, axes + 1]`.
pub(super) fn affine_grid(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let theta = call.input(0)?;
    let size = match call.input(1)? {
        Value::Varying(arrays) => arrays[0].clone(),
        other => other.array("the size")?,
    };
    let spatial: Vec<usize> =
        size.as_ints()?.iter().skip(2).map(|&side| number(side, 1, "the size")).collect::<Res<_>>()?;
    let axes = spatial.len();
    let [shape, _] = theta.shapes()?;
    if !(2..=3).contains(&axes) || shape[1..] != [axes, axes + 1] {
        return Err(format!("has matrices of shape {shape:?} for the size {:?}", size.as_ints()?).into());
    }
    let aligned = call.attributes.flag("align_corners", false)?;
    let place = |i: usize, side: usize| match (aligned, side) {
        (true, 1) => 0.0,
        (true, _) => 2.0 * i as f64 / (side - 1) as f64 - 1.0,
        (false, _) => (2 * i + 1) as f64 / side as f64 - 1.0,
    };
    let count: usize = spatial.iter().product();
    cx.spend(&[axes + 1, count])?;
    // [axes + 1, places], with the last axis of the image first.
    let mut values = Vec::with_capacity((axes + 1) * count);
    for a in (0..axes).rev() {
        let inner: usize = spatial[a + 1..].iter().product();
        values.extend((0..count).map(|i| place(i / inner % spatial[a], spatial[a])));
    }
    values.extend(std::iter::repeat_n(1.0, count));
    let places = constant(cx, &call.sub("places"), values, &[1, axes + 1, count])?;
    let moved = cx.apply(&call.sub("moved"), MatMul, &[theta, &places], Elem::Float)?;
    let op = Structure::Transpose { order: vec![0, 2, 1] };
    let rows = cx.apply(&call.sub("rows"), op, &[&moved], Elem::Float)?;
    cx.reshape_by(call.name, &rows, |s| Ok([&s[..1], &spatial[..], &[axes]].concat()))
}

/// `RoiAlign`, where each sample has the same number of regions, and they are in the order of the samples.
pub(super) fn roi_align(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, rois, numbers) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let of_x = x.shapes()?;
    if of_x[0].len() != 4 || rois.rank()? != 2 || batch_axis(&of_x) == Some(1) {
        return Err("expects images [N, C, H, W] and regions [R, 4]".into());
    }
    // Which image each region belongs to has to follow from the numbers of samples.
    let arrays = numbers.arrays(crate::onnx::fold::LIMIT)?;
    let arrays =
        arrays.ok_or("which image a region belongs to is computed from the inputs; expected a constant")?;
    for (array, shape) in arrays.iter().zip(&of_x) {
        let images = shape[0].max(1);
        let each = array.len() / images;
        let own = array.as_ints()?.iter().enumerate().all(|(i, &image)| image == (i / each.max(1)) as i64);
        if !own || array.len() != each * images {
            return Err("reads regions that are not the same number for each sample, in order".into());
        }
    }
    let mode = if call.mode("mode", "avg")? == "max" { RoiMode::Max } else { RoiMode::Average };
    let half = call.opset >= 16 && call.mode("coordinate_transformation_mode", "half_pixel")? == "half_pixel";
    let side = |name: &str| number(call.attributes.int_or(name, 1)?, 1, name);
    let op = RoiAlign {
        mode,
        cells: [side("output_height")?, side("output_width")?],
        samples: number(call.attributes.int_or("sampling_ratio", 0)?, 0, "sampling_ratio")?,
        scale: call.attributes.float_or("spatial_scale", 1.0)?,
        half_pixel: half,
    };
    cx.apply(call.name, op, &[x, rois], Elem::Float)
}

/// `DeformConv`: samples the image where each tap of each window is moved to, and multiplies the samples with the weight.
///
/// Samples outside of the image are zero, as those of `GridSample`, whose gradient with respect to the places is that of
/// the offsets.
pub(super) fn deformed(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let (shape, [of_weight, _]) = (x.shapes()?, weight.shapes()?);
    let (&[_, channels, height, width], &[_, per_group, rows, columns]) = (&shape[0][..], &of_weight[..])
    else {
        return Err("is supported for images [N, C, H, W]".into());
    };
    let window = attributes(call, 2, Some([rows, columns]))?.window(x)?;
    let groups = super::conv::groups(call)?;
    let parts = number(call.attributes.int_or("offset_group", 1)?, 1, "offset_group")?;
    let taps = rows * columns;
    let [out_rows, out_columns] = window.output([height, width])?;
    let offset = repeated(cx, &call.sub("offset"), call.input(2)?, &shape, 0)?;
    let [of_offset, _] = offset.shapes()?;
    if of_offset[1..] != [parts * taps * 2, out_rows, out_columns]
        || channels % parts != 0
        || per_group * groups != channels
    {
        return Err(format!(
            "has offsets of shape {of_offset:?}; expected [N, {}, {out_rows}, {out_columns}]",
            parts * taps * 2
        )
        .into());
    }
    // Places in the image without offsets: y and x of each tap of each window, in numbers of the grid.
    let places = taps * out_rows * out_columns;
    let sides = [height, width];
    let to_grid = |axis: usize, at: f64| (2.0 * at + 1.0) / sides[axis] as f64 - 1.0;
    let mut base = Vec::with_capacity(places * 2);
    for i in 0..places {
        let (tap, row, column) = (i / (out_rows * out_columns), i / out_columns % out_rows, i % out_columns);
        let at = |axis: usize, window_at: usize, tap: usize| {
            let (before, _) = window.pad(axis);
            (window_at * window.stride[axis] + tap * window.dilation[axis]) as f64 - before as f64
        };
        base.push(to_grid(1, at(1, column, tap % columns)));
        base.push(to_grid(0, at(0, row, tap / columns)));
    }
    let base = constant(cx, &call.sub("places"), base, &[1, taps * out_rows, out_columns, 2])?;
    let units = constant(cx, &call.sub("units"), vec![2.0 / width as f64, 2.0 / height as f64], &[2])?;
    let mask = match call.optional(4) {
        Some(mask) => Some(repeated(cx, &call.sub("mask"), mask, &shape, 0)?),
        None => None,
    };
    let mut samples = Vec::new();
    for part in 0..parts {
        let name = call.sub(&format!("offset{part}"));
        let cut =
            |axis_len: usize| Structure::Slice { axis: 1, start: part * axis_len, len: axis_len, step: 1 };
        let own = cx.apply(&format!("{name}/slice"), cut(taps * 2), &[&offset], Elem::Float)?;
        // [N, taps, (y, x), rows, columns] becomes [N, taps, rows, columns, (x, y)].
        let own = cx.reshape_by(&format!("{name}/taps"), &own, |s| Ok(vec![s[0], taps, 2, s[2], s[3]]))?;
        let order = Structure::Transpose { order: vec![0, 1, 3, 4, 2] };
        let own = cx.apply(&format!("{name}/last"), order, &[&own], Elem::Float)?;
        let flip = Structure::Slice { axis: 4, start: 1, len: 2, step: -1 };
        let own = cx.apply(&format!("{name}/xy"), flip, &[&own], Elem::Float)?;
        let own = cx.reshape_by(&format!("{name}/places"), &own, |s| Ok(vec![s[0], taps * s[2], s[3], 2]))?;
        let own = cx.apply(&format!("{name}/scaled"), Binary::Mul, &[&own, &units], Elem::Float)?;
        let grid = cx.apply(&format!("{name}/grid"), Binary::Add, &[&own, &base], Elem::Float)?;
        let image = cx.apply(&format!("{name}/image"), cut(channels / parts), &[x], Elem::Float)?;
        let op = GridSample { mode: SampleMode::Linear, padding: SamplePadding::Zeros, align_corners: false };
        let mut sampled = cx.apply(&format!("{name}/samples"), op, &[&image, &grid], Elem::Float)?;
        if let Some(mask) = &mask {
            let own = cx.apply(&format!("{name}/mask"), cut(taps), &[mask], Elem::Float)?;
            let own = cx
                .reshape_by(&format!("{name}/mask/places"), &own, |s| Ok(vec![s[0], 1, s[1] * s[2], s[3]]))?;
            sampled = cx.apply(&format!("{name}/masked"), Binary::Mul, &[&sampled, &own], Elem::Float)?;
        }
        samples.push(sampled);
    }
    let refs: Vec<&Value> = samples.iter().collect();
    let all = match &refs[..] {
        [one] => (*one).clone(),
        _ => cx.apply(&call.sub("samples"), Structure::Concat { axis: 1 }, &refs, Elem::Float)?,
    };
    // [N, C, taps, windows], to which the weight [O, C/groups, taps, 1] is applied.
    let windows = out_rows * out_columns;
    let all = cx.reshape_by(&call.sub("taps"), &all, |s| Ok(vec![s[0], s[1], taps, windows]))?;
    let flat = cx.reshape_by(&call.sub("weight"), weight, |s| Ok(vec![s[0], s[1], taps, 1]))?;
    let mut operands = vec![&all, &flat];
    operands.extend(call.optional(3));
    let op = Conv { window: Window::new([taps, 1]), groups };
    let y = cx.apply(&call.sub("products"), op, &operands, Elem::Float)?;
    cx.reshape_by(call.name, &y, |s| Ok(vec![s[0], s[1], out_rows, out_columns]))
}
