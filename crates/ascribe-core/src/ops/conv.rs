//! Convolution and transposed convolution, one- and two-dimensional.

use ascribe_kernels as kernels;
use candle_core::Tensor;

use super::fast;
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

/// A convolution from `[n, c, ih, iw]` to `[n, o, oh, ow]`, in either direction.
struct Geometry<'a> {
    window: &'a Window,
    groups: usize,
    small: [usize; 4],
    large: [usize; 4],
}

impl Geometry<'_> {
    /// The geometry for the kernels. They compute every window that fits; a transposed convolution whose output padding is at
    /// least the stride omits some of them, and is computed by the portable implementation.
    fn shape(&self) -> Result<Option<kernels::ConvShape>> {
        let [n, o, oh, ow] = self.small;
        let [_, c, h, w] = self.large;
        let shape = kernels::ConvShape::new(kernels::ConvParams {
            batch: n,
            in_channels: c,
            out_channels: o,
            groups: self.groups,
            input: [h, w],
            kernel: self.window.kernel,
            stride: self.window.stride,
            dilation: self.window.dilation,
            padding: self.window.padding,
        })?;
        Ok((shape.output() == [oh, ow]).then_some(shape))
    }

    /// `y = W x + b`.
    fn apply(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, backend: Backend) -> Result<Tensor> {
        let [n, o, oh, ow] = self.small;
        let x = x.reshape(&self.large)?;
        let weight = self.flat_weight(weight)?;
        fast::dispatch!(backend, [&x, &weight], T => {
            if let Some(shape) = self.shape()? {
                let (x, weight) = (fast::slice::<T>(&x)?, fast::slice::<T>(&weight)?);
                let bias = bias.map(fast::slice::<T>).transpose()?;
                let mut y = vec![<T as fast::Element>::zero_(); n * o * oh * ow];
                kernels::conv2d(&shape, &x, &weight, bias.as_deref(), &mut y)?;
                return fast::tensor(y, &self.small);
            }
        });
        let groups = self.groups;
        let padded = self.window.pad_input(&x, 0.0)?;
        let mut parts = Vec::with_capacity(groups);
        for g in 0..groups {
            let per = self.large[1] / groups;
            let own = padded.narrow(1, g * per, per)?.contiguous()?;
            let cols: Result<Vec<Tensor>> =
                self.window.offsets().map(|at| self.window.gather(&own, at, [oh, ow])).collect();
            // [N, C·k, OH·OW], channels outermost, as the weight has them.
            let cols = Tensor::stack(&cols?, 2)?.reshape((n, (), oh * ow))?;
            let w = weight.narrow(0, g * (o / groups), o / groups)?.flatten_from(1)?;
            parts.push(w.unsqueeze(0)?.broadcast_matmul(&cols)?);
        }
        let y = Tensor::cat(&parts, 1)?.reshape(&self.small)?;
        add_bias(y, bias)
    }

    /// `x = Wᵀ y`.
    fn transpose(&self, y: &Tensor, weight: &Tensor, backend: Backend) -> Result<Tensor> {
        let [n, o, oh, ow] = self.small;
        let [_, c, h, w] = self.large;
        let y = y.reshape(&self.small)?;
        let weight = self.flat_weight(weight)?;
        fast::dispatch!(backend, [&y, &weight], T => {
            if let Some(shape) = self.shape()? {
                let (y, weight) = (fast::slice::<T>(&y)?, fast::slice::<T>(&weight)?);
                let mut x = vec![<T as fast::Element>::zero_(); n * c * h * w];
                kernels::conv2d_input_grad(&shape, &y, &weight, &mut x)?;
                return fast::tensor(x, &self.large);
            }
        });
        let groups = self.groups;
        let (per_o, per_c) = (o / groups, c / groups);
        let [kh, kw] = self.window.kernel;
        let mut parts = Vec::with_capacity(groups);
        for g in 0..groups {
            let grad = y.narrow(1, g * per_o, per_o)?.reshape((n, per_o, oh * ow))?;
            let w_t = weight.narrow(0, g * per_o, per_o)?.flatten_from(1)?.t()?.contiguous()?;
            let cols = w_t.unsqueeze(0)?.broadcast_matmul(&grad.contiguous()?)?;
            let cols = cols.reshape((n, per_c, kh * kw, oh * ow))?;
            let mut padded = self.window.padded_zeros([n, per_c, h, w], y.dtype(), &y)?;
            for (tap, at) in self.window.offsets().enumerate() {
                let values = cols.narrow(2, tap, 1)?.reshape((n, per_c, oh, ow))?;
                padded = self.window.scatter_add(&padded, at, &values)?;
            }
            parts.push(self.window.unpad(&padded, [h, w])?);
        }
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// `∂⟨g, W x⟩ / ∂W`, shaped `[O, C/groups, kh, kw]`.
    fn weight_grad(&self, x: &Tensor, grad: &Tensor, backend: Backend) -> Result<Tensor> {
        let [n, o, oh, ow] = self.small;
        let groups = self.groups;
        let (per_o, per_c) = (o / groups, self.large[1] / groups);
        let [kh, kw] = self.window.kernel;
        let (x, grad) = (x.reshape(&self.large)?, grad.reshape(&self.small)?);
        fast::dispatch!(backend, [&x, &grad], T => {
            if let Some(shape) = self.shape()? {
                let (x, grad) = (fast::slice::<T>(&x)?, fast::slice::<T>(&grad)?);
                let mut dw = vec![<T as fast::Element>::zero_(); o * per_c * kh * kw];
                kernels::conv2d_weight_grad(&shape, &x, &grad, &mut dw)?;
                return fast::tensor(dw, &[o, per_c, kh, kw]);
            }
        });
        let padded = self.window.pad_input(&x, 0.0)?;
        let mut parts = Vec::with_capacity(groups);
        for g in 0..groups {
            let own = padded.narrow(1, g * per_c, per_c)?.contiguous()?;
            let grad = grad.narrow(1, g * per_o, per_o)?.reshape((n, per_o, oh * ow))?.contiguous()?;
            let taps: Result<Vec<Tensor>> = self
                .window
                .offsets()
                .map(|at| {
                    let col = self.window.gather(&own, at, [oh, ow])?.reshape((n, per_c, oh * ow))?;
                    Ok(grad.matmul(&col.t()?.contiguous()?)?.sum(0)?)
                })
                .collect();
            parts.push(Tensor::stack(&taps?, 2)?.reshape((per_o, per_c, kh, kw))?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    fn flat_weight(&self, weight: &Tensor) -> Result<Tensor> {
        let [kh, kw] = self.window.kernel;
        Ok(weight.reshape((self.small[1], self.large[1] / self.groups, kh, kw))?.contiguous()?)
    }
}

fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?),
        None => Ok(y),
    }
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

/// Gradient for a bias `[O]` from a gradient `[N, O, H, W]`.
fn bias_grad(grad: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok(grad.sum((0, 2, 3))?.reshape(bias.shape())?)
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
        if self.groups == 0 || channels != per_group * self.groups || out % self.groups != 0 {
            return Err(Error::invalid(
                "input",
                format!("has {channels} channels"),
                format!("{} (weight {weight:?}, {} groups)", per_group * self.groups, self.groups),
            ));
        }
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
        let dx = args.wants(0).then(|| {
            geometry.transpose(args.grad, weight, args.backend)?.reshape(x.shape()).map_err(Error::from)
        });
        let dw = args.wants(1).then(|| {
            let dw = geometry.weight_grad(x, args.grad, args.backend)?;
            Ok::<_, Error>(dw.reshape(weight.shape())?)
        });
        let mut grads = vec![dx.transpose()?, dw.transpose()?];
        if let Some(bias) = args.inputs.get(2) {
            let db = args.wants(2).then(|| bias_grad(&args.grad.reshape(&geometry.small)?, bias));
            grads.push(db.transpose()?);
        }
        Ok(grads)
    }
}

impl ConvTranspose {
    /// The convolution whose transpose this is: its input is our output.
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<Geometry<'_>> {
        let small = image_shape(x)?;
        let out = weight.get(1).copied().unwrap_or(0) * self.groups;
        let mut size = [0; 2];
        for axis in 0..2 {
            let window = &self.window;
            let (before, after) = window.pad(axis);
            let extra = if axis == 0 && x.len() == 3 { 0 } else { self.output_padding[axis] };
            let steps = small[axis + 2].saturating_sub(1).saturating_mul(window.stride[axis]);
            let reach = window.dilation[axis].saturating_mul(window.kernel[axis].saturating_sub(1));
            let full = steps.saturating_add(reach).saturating_add(1).saturating_add(extra);
            size[axis] =
                full.checked_sub(before.saturating_add(after)).filter(|&s| s > 0).ok_or_else(|| {
                    Error::invalid(
                        "padding",
                        format!("{before} + {after}"),
                        format!("less than {full} in total"),
                    )
                })?;
        }
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
        if self.groups == 0 || channels != own || own % self.groups != 0 {
            return Err(Error::invalid(
                "input",
                format!("has {channels} channels"),
                format!("{own} (weight {weight:?}, {} groups)", self.groups),
            ));
        }
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
        let dx = args.wants(0).then(|| {
            geometry.apply(args.grad, weight, None, args.backend)?.reshape(x.shape()).map_err(Error::from)
        });
        // ⟨g, Wᵀ x⟩ = ⟨W g, x⟩: the same weight gradient with the roles of input and gradient swapped.
        let dw = args.wants(1).then(|| {
            let dw = geometry.weight_grad(args.grad, x, args.backend)?;
            Ok::<_, Error>(dw.reshape(weight.shape())?)
        });
        let mut grads = vec![dx.transpose()?, dw.transpose()?];
        if let Some(bias) = args.inputs.get(2) {
            let db = args.wants(2).then(|| bias_grad(&args.grad.reshape(&geometry.large)?, bias));
            grads.push(db.transpose()?);
        }
        Ok(grads)
    }
}

#[cfg(test)]
mod tests;
