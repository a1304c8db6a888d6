//! Resizing the spatial axes by interpolation.

mod taps;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use rayon::prelude::*;

use self::taps::{Taps, side};
use super::fast;
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// How large the result of a [`Resize`] is, one number per spatial axis.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeSize {
    /// This many times the input's side, rounded down.
    Scales(Vec<f64>),
    /// This long.
    Sides(Vec<usize>),
}

impl ResizeSize {
    fn axes(&self) -> usize {
        match self {
            Self::Scales(scales) => scales.len(),
            Self::Sides(sides) => sides.len(),
        }
    }
}

/// Which neighbour is the nearest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The nearest; halves go down.
    #[default]
    PreferFloor,
    /// The nearest; halves go up.
    PreferCeil,
    /// The one before; PyTorch's `nearest`, with [`Coordinates::Asymmetric`].
    Floor,
    /// The one after.
    Ceil,
}

/// How values between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ResizeMode {
    /// The nearest pixel's value.
    Nearest {
        /// Which that is.
        rounding: Rounding,
    },
    /// Linear along each axis (bilinear in two dimensions).
    Linear,
    /// Cubic convolution along each axis (Keys 1981).
    Cubic {
        /// The kernel's slope at 1: −0.75 in PyTorch and ONNX, −0.5 in Keys's paper.
        coefficient: f64,
    },
}

/// Where a pixel `i` of the result lies in the input, as ONNX names it; `s` is output side / input side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coordinates {
    /// `(i + ½) / s − ½`: pixels are areas. PyTorch's `align_corners=False` for linear and cubic.
    #[default]
    HalfPixel,
    /// As `HalfPixel`, with the rounding of the output's side taken out symmetrically.
    HalfPixelSymmetric,
    /// As `HalfPixel`, but 0 if the result has one pixel.
    PytorchHalfPixel,
    /// `i · (input − 1) / (output − 1)`: the corners' centres coincide.
    AlignCorners,
    /// `i / s`: the first corners' centres coincide.
    Asymmetric,
}

/// What linear and cubic interpolation read besides the neighbours of a position; nearest neighbours ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ResizeEdges {
    /// Whether the kernel is widened where the side shrinks, so that every value counts (as Pillow resizes images).
    pub antialias: bool,
    /// Whether positions beyond the border have no weight, otherwise they count as the border's value.
    pub exclude_outside: bool,
}

/// Interpolates the last axes: `[N, C, L]`, `[N, C, H, W]` or more spatial axes; as many of the last axes as
/// `size` has numbers. Beyond the border, the border's value is repeated unless `edges` says otherwise.
///
/// ```
/// use ascribe_core::ops::{Coordinates, Operator, Resize, ResizeEdges, ResizeMode, ResizeSize};
/// let twice = Resize {
///     size: ResizeSize::Scales(vec![2.0, 2.0]),
///     mode: ResizeMode::Linear,
///     coordinates: Coordinates::HalfPixel,
///     edges: ResizeEdges::default(),
/// };
/// assert_eq!(twice.output_shape(&[&[1, 8, 7, 7]])?, [1, 8, 14, 14]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Resize {
    /// The size of the result.
    pub size: ResizeSize,
    /// How values between pixels are found.
    pub mode: ResizeMode,
    /// Where the result's pixels lie in the input.
    pub coordinates: Coordinates,
    /// What is read beside the neighbours.
    #[serde(default)]
    pub edges: ResizeEdges,
}

impl Resize {
    /// For each resized axis, the axis and what its output positions read.
    fn plan(&self, x: &[usize]) -> Result<Vec<(usize, Taps)>> {
        let first = x.len().saturating_sub(self.size.axes());
        (first..x.len())
            .enumerate()
            .map(|(i, axis)| {
                let (out, scale) = side(&self.size, i, x[axis])?;
                let size = [out as f64, scale];
                Ok((axis, Taps::new(self.mode, self.coordinates, self.edges, x[axis], size)))
            })
            .collect()
    }
}

/// `y[…, o, …] = Σ w x[…, i, …]` over the taps `(i, w)` of each position `o` of an axis.
fn interpolate(x: &Tensor, axis: usize, taps: &Taps, backend: Backend) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    shape[axis] = taps.outputs();
    let x = x.contiguous()?;
    fast::dispatch!(backend, [&x], T => {
        let inner: usize = shape[axis + 1..].iter().product();
        let (from, to) = (taps.inputs() * inner, taps.outputs() * inner);
        let values = fast::slice::<T>(&x)?;
        let mut y = vec![<T as fast::Element>::zero_(); shape.iter().product()];
        y.par_chunks_mut(to).zip(values.par_chunks(from)).for_each(|(y, x)| {
            for (y, taps) in y.chunks_mut(inner).zip(taps.iter::<T>()) {
                for (i, weight) in taps {
                    y.iter_mut().zip(&x[i * inner..(i + 1) * inner]).for_each(|(y, &x)| *y += weight * x);
                }
            }
        });
        return fast::tensor(y, &shape);
    });
    if let Some(sources) = taps.sources() {
        return Ok(x.index_select(&Tensor::new(sources, x.device())?, axis)?);
    }
    along(&x, axis, &taps.matrix(&x)?)
}

/// The transpose of [`interpolate`].
fn spread(grad: &Tensor, axis: usize, taps: &Taps, backend: Backend) -> Result<Tensor> {
    let mut shape = grad.dims().to_vec();
    shape[axis] = taps.inputs();
    let grad = grad.contiguous()?;
    fast::dispatch!(backend, [&grad], T => {
        let inner: usize = shape[axis + 1..].iter().product();
        let (from, to) = (taps.inputs() * inner, taps.outputs() * inner);
        let values = fast::slice::<T>(&grad)?;
        let mut dx = vec![<T as fast::Element>::zero_(); shape.iter().product()];
        dx.par_chunks_mut(from).zip(values.par_chunks(to)).for_each(|(dx, grad)| {
            for (grad, taps) in grad.chunks(inner).zip(taps.iter::<T>()) {
                for (i, weight) in taps {
                    let dx = &mut dx[i * inner..(i + 1) * inner];
                    dx.iter_mut().zip(grad).for_each(|(dx, &grad)| *dx += weight * grad);
                }
            }
        });
        return fast::tensor(dx, &shape);
    });
    if let Some(sources) = taps.sources() {
        let zeros = Tensor::zeros(shape, grad.dtype(), grad.device())?;
        return Ok(zeros.index_add(&Tensor::new(sources, grad.device())?, &grad, axis)?);
    }
    along(&grad, axis, &taps.matrix(&grad)?.t()?.contiguous()?)
}

/// Multiplies an axis by a matrix `[from, to]`.
fn along(x: &Tensor, axis: usize, matrix: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    let moved = x.transpose(axis, last)?.contiguous()?;
    let mut shape = moved.dims().to_vec();
    shape[last] = matrix.dim(1)?;
    let y = moved.reshape(((), matrix.dim(0)?))?.matmul(matrix)?.reshape(shape)?;
    Ok(y.transpose(axis, last)?.contiguous()?)
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        match self.mode {
            ResizeMode::Nearest { .. } => Kind::Structural,
            ResizeMode::Linear | ResizeMode::Cubic { .. } => Kind::Average,
        }
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        if slot == 0 { Slot::Data } else { Slot::Other }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        let axes = self.size.axes();
        if axes == 0 || x.len() < axes + 2 || x.contains(&0) {
            return Err(Error::invalid(
                "input",
                format!("has shape {x:?}"),
                format!("[N, C] and at least {} spatial axes to resize, none empty", axes.max(1)),
            ));
        }
        let mut shape = x.to_vec();
        let first = x.len() - axes;
        for (i, out) in shape[first..].iter_mut().enumerate() {
            (*out, _) = side(&self.size, i, x[first + i])?;
        }
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let mut y = x.clone();
        for (axis, taps) in &self.plan(x.dims())? {
            y = interpolate(&y, *axis, taps, backend)?;
        }
        Ok(y)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let mut grad = args.grad.clone();
        for (axis, taps) in self.plan(args.input(0)?.dims())?.iter().rev() {
            grad = spread(&grad, *axis, taps, args.backend)?;
        }
        Ok(vec![Some(grad)])
    }
}
