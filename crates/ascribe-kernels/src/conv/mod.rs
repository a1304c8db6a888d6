//! Two-dimensional convolution: forward, input gradient, weight gradient.

mod gemm;
mod lattice;
mod weight_grad;

pub use weight_grad::conv2d_weight_grad;

use crate::epilogue::Epilogue;
use crate::error::{KernelError, Result, check_len};
use crate::float::Float;
use crate::shape::ConvShape;
use crate::simd::Isa;
use gemm::Product;
use lattice::Lattice;

/// A convolution, or its input gradient, with the weights packed once for many calls.
///
/// Packing costs about as much as reading and writing the weights; keep the value where weights are
/// constant. The batch size may differ from call to call, and has no influence on the numbers of a
/// sample: y\[n\] is bit for bit the same in any batch and for any number of threads.
///
/// ```
/// use ascribe_kernels::{ConvParams, ConvShape, Epilogue, PackedConv};
///
/// let shape = ConvShape::new(ConvParams { input: [1, 4], kernel: [1, 2], ..Default::default() })?;
/// let conv = PackedConv::forward(&shape, &[1.0, -1.0])?;
/// let mut y = [0.0; 3];
/// conv.run(1, &[1.0, 4.0, 9.0, 16.0], &Epilogue::default(), &mut y)?;
/// assert_eq!(y, [-3.0, -5.0, -7.0]);
/// # Ok::<(), ascribe_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PackedConv<T> {
    parts: Vec<Product<T>>,
    source: [usize; 3],
    destination: [usize; 3],
}

impl<T: Float> PackedConv<T> {
    /// Packs a forward convolution: source = input, destination = output.
    ///
    /// # Errors
    /// [`KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward(shape: &ConvShape, weight: &[T]) -> Result<Self> {
        Self::forward_with(Isa::detect(), shape, weight)
    }

    /// Packs an input gradient: source = output gradient, destination = input gradient. This is also the
    /// forward pass of a transposed convolution whose *input* is this shape's output.
    ///
    /// # Errors
    /// [`KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad(shape: &ConvShape, weight: &[T]) -> Result<Self> {
        Self::input_grad_with(Isa::detect(), shape, weight)
    }

    pub(crate) fn forward_with(isa: Isa, shape: &ConvShape, weight: &[T]) -> Result<Self> {
        check_len("convolution", "weight", shape.weight_len(), weight.len())?;
        let (channels, rows) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let taps = kernel_positions(shape).map(|(_, offset)| offset).collect::<Vec<_>>();
        let count = taps.len();
        let lattice = Lattice {
            src: shape.input,
            dst: shape.output(),
            grid: shape.output(),
            src_stride: shape.stride,
            taps,
            dst_stride: [1, 1],
            dst_offset: [0, 0],
        };
        let part =
            Product::new(isa, lattice.flattened(), [shape.groups, channels, rows], |row, channel, tap| {
                weight[(row * channels + channel) * count + tap]
            });
        Ok(Self {
            parts: vec![part],
            source: [shape.in_channels, shape.input[0], shape.input[1]],
            destination: [shape.out_channels, shape.output()[0], shape.output()[1]],
        })
    }

    pub(crate) fn input_grad_with(isa: Isa, shape: &ConvShape, weight: &[T]) -> Result<Self> {
        check_len("convolution input gradient", "weight", shape.weight_len(), weight.len())?;
        let (channels, rows) = (shape.out_channels / shape.groups, shape.in_channels / shape.groups);
        let kernel_len = shape.kernel[0] * shape.kernel[1];
        let [stride_h, stride_w] = shape.stride;
        let mut parts = Vec::new();
        // Input pixels of one residue class modulo the stride meet the same taps, at stride 1 in the
        // output gradient: one dense convolution per class, and no multiplication by inserted zeros.
        for class_h in 0..stride_h.min(shape.input[0]) {
            for class_w in 0..stride_w.min(shape.input[1]) {
                let (indices, taps): (Vec<_>, Vec<_>) = kernel_positions(shape)
                    .filter_map(|(index, [tap_h, tap_w])| {
                        let from = [class_h as isize - tap_h, class_w as isize - tap_w];
                        let stride = [stride_h as isize, stride_w as isize];
                        (from[0] % stride[0] == 0 && from[1] % stride[1] == 0)
                            .then(|| (index, [from[0] / stride[0], from[1] / stride[1]]))
                    })
                    .unzip();
                let lattice = Lattice {
                    src: shape.output(),
                    dst: shape.input,
                    grid: [
                        (shape.input[0] - class_h).div_ceil(stride_h),
                        (shape.input[1] - class_w).div_ceil(stride_w),
                    ],
                    src_stride: [1, 1],
                    taps,
                    dst_stride: shape.stride,
                    dst_offset: [class_h, class_w],
                };
                parts.push(Product::new(
                    isa,
                    lattice.flattened(),
                    [shape.groups, channels, rows],
                    |row, channel, tap| {
                        let (group, row) = (row / rows, row % rows);
                        weight[((group * channels + channel) * rows + row) * kernel_len + indices[tap]]
                    },
                ));
            }
        }
        Ok(Self {
            parts,
            source: [shape.out_channels, shape.output()[0], shape.output()[1]],
            destination: [shape.in_channels, shape.input[0], shape.input[1]],
        })
    }

    /// Runs the convolution on `batch` samples.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a slice does not have `batch` times the length of its tensor.
    pub fn run(
        &self,
        batch: usize,
        source: &[T],
        epilogue: &Epilogue<'_, T>,
        destination: &mut [T],
    ) -> Result<()> {
        const KERNEL: &str = "convolution";
        let source_len = len(batch, self.source)?;
        let destination_len = len(batch, self.destination)?;
        check_len(KERNEL, "source", source_len, source.len())?;
        check_len(KERNEL, "destination", destination_len, destination.len())?;
        epilogue.check(KERNEL, self.destination[0], destination_len)?;
        for part in &self.parts {
            part.run(batch, source, epilogue, destination);
        }
        Ok(())
    }
}

fn len(batch: usize, [channels, height, width]: [usize; 3]) -> Result<usize> {
    crate::error::checked_product("convolution", "batch", &[batch, channels, height, width])
}

/// Index of each kernel element and its offset in the input relative to `output position · stride`.
fn kernel_positions(shape: &ConvShape) -> impl Iterator<Item = (usize, [isize; 2])> {
    let [height, width] = shape.kernel;
    let (dilation, padding) = (shape.dilation, shape.padding);
    (0..height * width).map(move |index| {
        let at = [index / width, index % width];
        let offset = |axis: usize| (at[axis] * dilation[axis]) as isize - padding[axis] as isize;
        (index, [offset(0), offset(1)])
    })
}

/// y\[n, o\] = bias\[o\] + Σ_c w\[o, c\] ⋆ x\[n, c\] (cross-correlation), zeros beyond the borders.
///
/// `x` is `[batch, in_channels, H, W]`, `w` `[out_channels, in_channels / groups, kh, kw]`, `y`
/// `[batch, out_channels, H', W']`. With constant weights, [`PackedConv::forward`] saves packing them
/// at every call.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn conv2d<T: Float>(shape: &ConvShape, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) -> Result<()> {
    PackedConv::forward(shape, w)?.run(shape.batch, x, &Epilogue::bias(bias), y)
}

/// ∂L/∂x from `dy` = ∂L/∂y: the transpose of [`conv2d`] as a map of `x`, and so the forward pass of a
/// transposed convolution.
///
/// ⟨conv2d(x), dy⟩ = ⟨x, dx⟩ for all x and dy. `dx` is overwritten.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn conv2d_input_grad<T: Float>(shape: &ConvShape, dy: &[T], w: &[T], dx: &mut [T]) -> Result<()> {
    PackedConv::input_grad(shape, w)?.run(shape.batch, dy, &Epilogue::default(), dx)
}

/// Checks the arguments that all gradients share.
fn check_lengths(kernel: &'static str, lengths: &[(&'static str, usize, usize)]) -> Result<(), KernelError> {
    lengths.iter().try_for_each(|&(argument, expected, found)| check_len(kernel, argument, expected, found))
}
