//! Convolution and transposed convolution of volumes: the sum over the kernel's depth of convolutions of planes.

use candle_core::Tensor;

use super::geometry::{Geometry, add_bias};
use super::{affine_slot, check_bias, check_channels, check_count, grads, parametric_kind};
use crate::error::{Error, Result};
use crate::ops::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input};
use crate::ops::window::{Window, pad_axis};

/// A sliding window along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// Number of taps.
    pub kernel: usize,
    /// Step between neighbouring windows.
    pub stride: usize,
    /// Distance between neighbouring taps.
    pub dilation: usize,
    /// Padding before and after.
    pub padding: [usize; 2],
}

/// Convolution (cross-correlation) of volumes: inputs `x [N, C, D, H, W]`, `weight [O, C/groups, kd, kh, kw]` and
/// optionally `bias [O]`; the output is `[N, O, D′, H′, W′]`.
///
/// The bounds of shapes are those of [`Conv`](super::Conv), along three axes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Conv3d {
    /// The window along the depth.
    pub depth: Line,
    /// The window along height and width.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
}

/// The transpose of [`Conv3d`]: inputs `x [N, C, D, H, W]`, `weight [C, O/groups, kd, kh, kw]` and optionally
/// `bias [O]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConvTranspose3d {
    /// The window along the depth, of the convolution that this is the transpose of.
    pub depth: Line,
    /// Its window along height and width.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
    /// Planes, rows and columns added at the end of the output.
    pub output_padding: [usize; 3],
}

impl Line {
    /// A line of this many taps, stride 1, no padding.
    pub fn new(kernel: usize) -> Self {
        Self { kernel, stride: 1, dilation: 1, padding: [0; 2] }
    }

    /// One axis of a window of a plane.
    pub(super) fn along(window: &Window, axis: usize) -> Self {
        let (before, after) = window.pad(axis);
        Self {
            kernel: window.kernel[axis],
            stride: window.stride[axis],
            dilation: window.dilation[axis],
            padding: [before, after],
        }
    }

    /// Number of values that a window covers.
    fn extent(&self) -> usize {
        self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1)
    }

    /// Number of windows along an axis of this length.
    fn output(&self, length: usize) -> Result<usize> {
        let Self { kernel, stride, dilation, padding } = *self;
        if kernel == 0 || stride == 0 || dilation == 0 {
            let problem = format!("kernel {kernel}, stride {stride}, dilation {dilation}");
            return Err(Error::invalid("window", problem, "values of at least 1"));
        }
        let padded = length.saturating_add(padding[0]).saturating_add(padding[1]);
        padded.checked_sub(self.extent()).map(|free| free / stride + 1).ok_or_else(|| {
            let problem =
                format!("covers {} values of depth, but the padded input has {padded}", self.extent());
            Error::invalid("window", problem, "a larger input")
        })
    }

    /// Length of the transposed convolution's output.
    pub(super) fn transposed(&self, length: usize, extra: usize) -> Result<usize> {
        let full = length
            .saturating_sub(1)
            .saturating_mul(self.stride)
            .saturating_add(self.extent())
            .saturating_add(extra);
        let total = self.padding[0].saturating_add(self.padding[1]);
        full.checked_sub(total).filter(|&s| s > 0).ok_or_else(|| {
            Error::invalid("padding", format!("{total} in total"), format!("less than {full}"))
        })
    }

    /// The planes of the padded input that tap `tap` of `count` windows reads.
    fn taps(&self, tap: usize, count: usize, like: &Tensor) -> Result<Tensor> {
        let taps: Vec<u32> = (0..count).map(|i| (tap * self.dilation + i * self.stride) as u32).collect();
        Ok(Tensor::from_vec(taps, count, like.device())?)
    }
}

/// Splits the shape of a volume.
fn volume_shape(shape: &[usize]) -> Result<[usize; 5]> {
    <[usize; 5]>::try_from(shape)
        .map_err(|_| Error::invalid("input", format!("has shape {shape:?}"), "[N, C, D, H, W]"))
}

/// Checks a weight `[a, b, kd, kh, kw]` against the windows and returns its first two sides.
fn check_weight(weight: &[usize], depth: &Line, window: &Window) -> Result<[usize; 2]> {
    match *weight {
        [a, b, kd, kh, kw] if kd == depth.kernel && [kh, kw] == window.kernel => Ok([a, b]),
        _ => Err(Error::invalid(
            "weight",
            format!("has shape {weight:?}"),
            format!("kernel {:?}", [depth.kernel, window.kernel[0], window.kernel[1]]),
        )),
    }
}

/// `[N, C, D, H, W]` as planes `[N·D, C, H, W]`.
fn to_planes(x: &Tensor) -> Result<Tensor> {
    let (n, c, d, h, w) = x.dims5()?;
    Ok(x.transpose(1, 2)?.contiguous()?.reshape((n * d, c, h, w))?)
}

/// The inverse of [`to_planes`].
fn from_planes(planes: &Tensor, [n, c, d, h, w]: [usize; 5]) -> Result<Tensor> {
    Ok(planes.reshape((n, d, c, h, w))?.transpose(1, 2)?.contiguous()?)
}

/// A convolution from `large` to `small`, in either direction.
struct Volume<'a> {
    depth: &'a Line,
    window: &'a Window,
    groups: usize,
    small: [usize; 5],
    large: [usize; 5],
}

impl Volume<'_> {
    /// The convolution of planes of one tap.
    fn planes(&self) -> Geometry<'_> {
        let ([n, o, depth, oh, ow], [_, c, _, h, w]) = (self.small, self.large);
        Geometry {
            window: self.window,
            groups: self.groups,
            small: [n * depth, o, oh, ow],
            large: [n * depth, c, h, w],
        }
    }

    fn weight(weight: &Tensor, tap: usize) -> Result<Tensor> {
        Ok(weight.narrow(2, tap, 1)?.squeeze(2)?.contiguous()?)
    }

    /// What each tap reads of the input, as planes.
    fn read(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let [before, after] = self.depth.padding;
        let padded = pad_axis(x, 2, before, after, 0.0)?.contiguous()?;
        (0..self.depth.kernel)
            .map(|tap| {
                let taps = self.depth.taps(tap, self.small[2], x)?;
                to_planes(&padded.index_select(&taps, 2)?)
            })
            .collect()
    }

    /// `y = W x`.
    fn apply(&self, x: &Tensor, weight: &Tensor, backend: Backend) -> Result<Tensor> {
        let geometry = self.planes();
        let mut sum: Option<Tensor> = None;
        for (tap, own) in self.read(x)?.iter().enumerate() {
            let part = geometry.apply(own, &Self::weight(weight, tap)?, None, backend)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        let sum = sum.ok_or_else(|| Error::invalid("window", "has depth 0", "at least 1"))?;
        from_planes(&sum, self.small)
    }

    /// `x = Wᵀ y`.
    fn transpose(&self, y: &Tensor, weight: &Tensor, backend: Backend) -> Result<Tensor> {
        let geometry = self.planes();
        let ([n, c, d, h, w], count) = (self.large, self.small[2]);
        let [before, after] = self.depth.padding;
        // An output padding may leave fewer planes than the taps reach.
        let reach = (count.saturating_sub(1)) * self.depth.stride + self.depth.extent();
        let length = (before + d + after).max(reach);
        let mut padded = Tensor::zeros((n, c, length, h, w), y.dtype(), y.device())?;
        let planes = to_planes(y)?;
        for tap in 0..self.depth.kernel {
            let part = geometry.transpose(&planes, &Self::weight(weight, tap)?, backend)?;
            let part = from_planes(&part, [n, c, count, h, w])?;
            padded = padded.index_add(&self.depth.taps(tap, count, y)?, &part, 2)?;
        }
        Ok(padded.narrow(2, before, d)?.contiguous()?)
    }

    /// `∂⟨g, W x⟩ / ∂W`.
    fn weight_grad(&self, x: &Tensor, grad: &Tensor, backend: Backend) -> Result<Tensor> {
        let (geometry, grad) = (self.planes(), to_planes(grad)?);
        let parts: Result<Vec<Tensor>> =
            self.read(x)?.iter().map(|own| geometry.weight_grad(own, &grad, backend)).collect();
        Ok(Tensor::stack(&parts?, 2)?)
    }
}

/// Adds a bias `[O]` to `[N, O, D, H, W]`.
fn biased(y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (n, o, d, h, w) = y.dims5()?;
    Ok(add_bias(y.reshape((n, o, d * h, w))?, bias)?.reshape((n, o, d, h, w))?)
}

impl Conv3d {
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<Volume<'_>> {
        let large = volume_shape(x)?;
        let [oh, ow] = self.window.output([large[3], large[4]])?;
        let out = weight.first().copied().unwrap_or(0);
        let small = [large[0], out, self.depth.output(large[2])?, oh, ow];
        Ok(Volume { depth: &self.depth, window: &self.window, groups: self.groups, small, large })
    }
}

impl Operator for Conv3d {
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
        let channels = volume_shape(inputs[0])?[1];
        let [out, per_group] = check_weight(inputs[1], &self.depth, &self.window)?;
        check_channels(channels, [per_group.saturating_mul(self.groups), out], self.groups, inputs[1])?;
        check_bias(inputs, out)?;
        Ok(self.geometry(inputs[0], inputs[1])?.small.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, weight) = (input(inputs, 0)?, input(inputs, 1)?);
        let y = self.geometry(x.dims(), weight.dims())?.apply(x, weight, backend)?;
        biased(&y, inputs.get(2).copied())
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

impl ConvTranspose3d {
    /// The convolution whose transpose this is.
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<Volume<'_>> {
        let small = volume_shape(x)?;
        let out = weight.get(1).copied().unwrap_or(0).saturating_mul(self.groups);
        let axis = |axis: usize| {
            Line::along(&self.window, axis).transposed(small[axis + 3], self.output_padding[axis + 1])
        };
        let depth = self.depth.transposed(small[2], self.output_padding[0])?;
        let large = [small[0], out, depth, axis(0)?, axis(1)?];
        Ok(Volume { depth: &self.depth, window: &self.window, groups: self.groups, small, large })
    }
}

impl Operator for ConvTranspose3d {
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
        let channels = volume_shape(inputs[0])?[1];
        let [own, _] = check_weight(inputs[1], &self.depth, &self.window)?;
        check_channels(channels, [own, own], self.groups, inputs[1])?;
        let steps = [self.depth.stride, self.window.stride[0], self.window.stride[1]];
        let gaps = [self.depth.dilation, self.window.dilation[0], self.window.dilation[1]];
        if (0..3).any(|i| steps[i] == 0 || gaps[i] == 0 || self.output_padding[i] >= steps[i].max(gaps[i])) {
            return Err(Error::invalid(
                "output_padding",
                format!("{:?}", self.output_padding),
                "less than the larger of stride and dilation, which are at least 1",
            ));
        }
        let geometry = self.geometry(inputs[0], inputs[1])?;
        check_bias(inputs, geometry.large[1])?;
        Ok(geometry.large.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, weight) = (input(inputs, 0)?, input(inputs, 1)?);
        let y = self.geometry(x.dims(), weight.dims())?.transpose(x, weight, backend)?;
        biased(&y, inputs.get(2).copied())
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, weight) = (args.input(0)?, args.input(1)?);
        let geometry = self.geometry(x.dims(), weight.dims())?;
        grads(
            args,
            || geometry.apply(args.grad, weight, args.backend),
            || geometry.weight_grad(args.grad, x, args.backend),
        )
    }
}

#[cfg(test)]
mod tests;
