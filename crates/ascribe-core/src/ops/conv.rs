//! Convolution and transposed convolution, of one and two dimensions; `volume` has those of three.

mod geometry;
mod volume;

use candle_core::Tensor;

use self::geometry::{Geometry, add_bias};
pub use self::volume::{Conv3d, ConvTranspose3d, Line};
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input};
use super::window::{Window, image_shape};
use crate::error::{Error, Result};

/// Convolution (cross-correlation): inputs `x [N, C, H, W]`, `weight [O, C/groups, kh, kw]` and optionally
/// `bias [O]`; or the same without `H` and `kh` in one dimension.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Conv {
    /// Stride, dilation and padding; its kernel size must be that of the weight.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
}

/// The transpose of [`Conv`]: inputs `x [N, C, H, W]`, `weight [C, O/groups, kh, kw]` and optionally
/// `bias [O]`; or the same in one dimension.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConvTranspose {
    /// Stride, dilation and padding of the convolution that this is the transpose of.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
    /// Rows and columns added at the bottom and right of the output.
    pub output_padding: [usize; 2],
}

/// Drops the height of 1 again where the input had none.
fn like_input(shape: [usize; 4], rank: usize) -> Vec<usize> {
    if rank == 3 { vec![shape[0], shape[1], shape[3]] } else { shape.to_vec() }
}

/// Checks a weight `[a, b, (kh,) kw]` against the window and returns its first two sides.
fn check_weight(weight: &[usize], rank: usize, window: &Window) -> Result<[usize; 2]> {
    let kernel = match *weight {
        [_, _, k] if rank == 3 => [1, k],
        [_, _, kh, kw] if rank == 4 => [kh, kw],
        _ => {
            return Err(Error::invalid(
                "weight",
                format!("has shape {weight:?}"),
                format!("{rank} axes, as the input has"),
            ));
        }
    };
    if kernel != window.kernel {
        return Err(Error::invalid(
            "weight",
            format!("has shape {weight:?}"),
            format!("kernel {:?}", window.kernel),
        ));
    }
    Ok([weight[0], weight[1]])
}

fn check_bias(inputs: &[&[usize]], channels: usize) -> Result<()> {
    match inputs.get(2) {
        Some(bias) if bias.iter().product::<usize>() != channels => {
            Err(Error::invalid("bias", format!("has shape {bias:?}"), format!("[{channels}]")))
        }
        _ => Ok(()),
    }
}

/// Checks that the input's channels are those that the weight expects, and that the groups divide what they divide.
fn check_channels(
    channels: usize,
    [expected, divided]: [usize; 2],
    groups: usize,
    weight: &[usize],
) -> Result<()> {
    if groups > 0 && channels == expected && divided.is_multiple_of(groups) {
        return Ok(());
    }
    let wanted = format!("{expected} (weight {weight:?}, {groups} groups)");
    Err(Error::invalid("input", format!("has {channels} channels"), wanted))
}

fn check_count(inputs: &[&[usize]]) -> Result<()> {
    if (2..=3).contains(&inputs.len()) {
        return Ok(());
    }
    Err(Error::invalid("inputs", format!("{} given", inputs.len()), "x, weight and optionally bias"))
}

fn affine_slot(slot: usize) -> Slot {
    match slot {
        0 => Slot::Data,
        1 => Slot::Weight,
        _ => Slot::Bias,
    }
}

/// Affine if the parameters are constants; with a dynamic weight it is a product.
pub(crate) fn parametric_kind(dynamic: &[bool]) -> Kind {
    match dynamic {
        [_, true, ..] => Kind::Product,
        _ => Kind::Affine,
    }
}

/// The gradients that are wanted of the input, the weight and the bias `[O]`; the output is `[N, O, …]`.
fn grads(
    args: &Vjp<'_>,
    of_input: impl FnOnce() -> Result<Tensor>,
    of_weight: impl FnOnce() -> Result<Tensor>,
) -> Result<Grads> {
    let mut grads: Grads = vec![None; args.inputs.len()];
    if args.wants(0) {
        grads[0] = Some(of_input()?.reshape(args.input(0)?.shape())?);
    }
    if args.wants(1) {
        grads[1] = Some(of_weight()?.reshape(args.input(1)?.shape())?);
    }
    if let Some(bias) = args.inputs.get(2).filter(|_| args.wants(2)) {
        grads[2] = Some(args.grad.flatten_from(2)?.sum((0, 2))?.reshape(bias.shape())?);
    }
    Ok(grads)
}

impl Conv {
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<Geometry<'_>> {
        let large = image_shape(x)?;
        let [oh, ow] = self.window.output([large[2], large[3]])?;
        let out = weight.first().copied().unwrap_or(0);
        Ok(Geometry { window: &self.window, groups: self.groups, small: [large[0], out, oh, ow], large })
    }
}

impl Operator for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        parametric_kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        affine_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        check_count(inputs)?;
        let (x, weight) = (inputs[0], inputs[1]);
        let [_, channels, h, w] = image_shape(x)?;
        let [out, per_group] = check_weight(weight, x.len(), &self.window)?;
        check_channels(channels, [per_group.saturating_mul(self.groups), out], self.groups, weight)?;
        check_bias(inputs, out)?;
        let [oh, ow] = self.window.output([h, w])?;
        Ok(like_input([x[0], out, oh, ow], x.len()))
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, weight) = (input(inputs, 0)?, input(inputs, 1)?);
        let geometry = self.geometry(x.dims(), weight.dims())?;
        let y = geometry.apply(x, weight, inputs.get(2).copied(), backend)?;
        Ok(y.reshape(like_input(geometry.small, x.rank()))?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, weight) = (args.input(0)?, args.input(1)?);
        let geometry = self.geometry(x.dims(), weight.dims())?;
        grads(
            args,
            || geometry.transpose(args.grad, weight, args.backend),
            || geometry.weight_grad(x, args.grad, args.backend),
        )
    }
}

impl ConvTranspose {
    /// The convolution whose transpose this is: its input is our output.
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<Geometry<'_>> {
        let small = image_shape(x)?;
        let out = weight.get(1).copied().unwrap_or(0) * self.groups;
        let side = |axis: usize| {
            let extra = if axis == 0 && x.len() == 3 { 0 } else { self.output_padding[axis] };
            Line::along(&self.window, axis).transposed(small[axis + 2], extra)
        };
        let size = [side(0)?, side(1)?];
        Ok(Geometry {
            window: &self.window,
            groups: self.groups,
            small,
            large: [small[0], out, size[0], size[1]],
        })
    }
}

impl Operator for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        parametric_kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        affine_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        check_count(inputs)?;
        let (x, weight) = (inputs[0], inputs[1]);
        let [_, channels, ..] = image_shape(x)?;
        let [own, _] = check_weight(weight, x.len(), &self.window)?;
        check_channels(channels, [own, own], self.groups, weight)?;
        let geometry = self.geometry(x, weight)?;
        // The remainder of a strided convolution is at most stride − 1; PyTorch allows more with a dilation.
        for axis in 0..2 {
            if self.output_padding[axis] >= self.window.stride[axis].max(self.window.dilation[axis]) {
                return Err(Error::invalid(
                    "output_padding",
                    format!("{:?}", self.output_padding),
                    "less than the larger of stride and dilation",
                ));
            }
        }
        check_bias(inputs, geometry.large[1])?;
        Ok(like_input(geometry.large, x.len()))
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, weight) = (input(inputs, 0)?, input(inputs, 1)?);
        let geometry = self.geometry(x.dims(), weight.dims())?;
        let y = add_bias(geometry.transpose(x, weight, backend)?, inputs.get(2).copied())?;
        Ok(y.reshape(like_input(geometry.large, x.rank()))?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, weight) = (args.input(0)?, args.input(1)?);
        let geometry = self.geometry(x.dims(), weight.dims())?;
        grads(
            args,
            || geometry.apply(args.grad, weight, None, args.backend),
            // ⟨g, Wᵀ x⟩ = ⟨W g, x⟩: the same weight gradient with the roles of input and gradient swapped.
            || geometry.weight_grad(args.grad, x, args.backend),
        )
    }
}

#[cfg(test)]
mod tests;
