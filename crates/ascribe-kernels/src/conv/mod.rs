//! Two-dimensional convolution: forward, input gradient, weight gradient.

mod direct;
mod gemm;
mod lattice;
mod weight_grad;

pub use weight_grad::conv2d_weight_grad;

use crate::epilogue::Epilogue;
use crate::error::{KernelError, Result, check_len, checked_product};
use crate::float::Float;
use crate::shape::ConvShape;
use crate::simd::Isa;
use direct::Direct;
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
    shapes: Shapes,
    engine: Engine<T>,
}

#[derive(Debug, Clone)]
enum Engine<T> {
    /// One matrix product per residue class.
    Products(Vec<Product<T>>),
    /// All residue classes together.
    Direct(Direct<T>),
}

/// What both directions and all classes of a convolution share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shapes {
    groups: usize,
    /// Source channels per group.
    channels: usize,
    /// Destination channels per group.
    rows: usize,
    /// Height and width of the source.
    src: [usize; 2],
    /// Height and width of the destination.
    dst: [usize; 2],
}

/// Products per accumulator chain. Three vectors of this many rows fit the first-level cache, and short
/// chains round less.
const K_BLOCK: usize = 192;

/// Number of source channels that one accumulator chain sums: balanced blocks of whole channels. A function
/// of the filter alone, so that neither the batch nor the number of threads moves a rounding.
fn k_channels(channels: usize, taps: usize) -> usize {
    let most = (K_BLOCK / taps.max(1)).max(1);
    channels.div_ceil(channels.div_ceil(most))
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
        let shapes = Shapes {
            groups: shape.groups,
            channels: shape.in_channels / shape.groups,
            rows: shape.out_channels / shape.groups,
            src: shape.input,
            dst: shape.output(),
        };
        let taps = kernel_positions(shape).map(|(_, offset)| offset).collect::<Vec<_>>();
        let count = taps.len();
        let lattice = Lattice {
            src: shapes.src,
            dst: shapes.dst,
            grid: shapes.dst,
            src_stride: shape.stride,
            taps,
            dst_stride: [1, 1],
            dst_offset: [0, 0],
        };
        Ok(Self::build(isa, shapes, vec![lattice], |_, row, channel, tap| {
            weight[(row * shapes.channels + channel) * count + tap]
        }))
    }

    pub(crate) fn input_grad_with(isa: Isa, shape: &ConvShape, weight: &[T]) -> Result<Self> {
        check_len("convolution input gradient", "weight", shape.weight_len(), weight.len())?;
        let shapes = Shapes {
            groups: shape.groups,
            channels: shape.out_channels / shape.groups,
            rows: shape.in_channels / shape.groups,
            src: shape.output(),
            dst: shape.input,
        };
        let stride = shape.stride;
        let (mut lattices, mut kernel_indices) = (Vec::new(), Vec::new());
        // Input pixels of one residue class modulo the stride meet the same taps, at stride 1 in the
        // output gradient: one dense convolution per class, and no multiplication by inserted zeros.
        for class_h in 0..stride[0].min(shape.input[0]) {
            for class_w in 0..stride[1].min(shape.input[1]) {
                let class = [class_h, class_w];
                let (indices, taps): (Vec<_>, Vec<_>) = kernel_positions(shape)
                    .filter_map(|(index, tap)| {
                        let from = [0, 1].map(|axis| class[axis] as isize - tap[axis]);
                        let whole = [0, 1].map(|axis| from[axis] % stride[axis] as isize == 0);
                        (whole == [true; 2])
                            .then(|| (index, [0, 1].map(|axis| from[axis] / stride[axis] as isize)))
                    })
                    .unzip();
                lattices.push(Lattice {
                    src: shapes.src,
                    dst: shapes.dst,
                    grid: [0, 1].map(|axis| (shapes.dst[axis] - class[axis]).div_ceil(stride[axis])),
                    src_stride: [1, 1],
                    taps,
                    dst_stride: stride,
                    dst_offset: class,
                });
                kernel_indices.push(indices);
            }
        }
        let kernel_len = shape.kernel[0] * shape.kernel[1];
        Ok(Self::build(isa, shapes, lattices, |class, row, channel, tap| {
            let (group, row) = (row / shapes.rows, row % shapes.rows);
            let filter = (group * shapes.channels + channel) * shapes.rows + row;
            weight[filter * kernel_len + kernel_indices[class][tap]]
        }))
    }

    fn build(
        isa: Isa,
        shapes: Shapes,
        lattices: Vec<Lattice>,
        weight: impl Fn(usize, usize, usize, usize) -> T + Sync,
    ) -> Self {
        // Decided by the layer alone: the two engines do not round alike.
        let engine = if shapes.rows <= direct::MAX_ROWS {
            Engine::Direct(Direct::new(isa, shapes, &lattices, weight))
        } else {
            let pack = |(class, lattice): (usize, Lattice)| {
                Product::new(isa, lattice.flattened(), shapes, |row, channel, tap| {
                    weight(class, row, channel, tap)
                })
            };
            Engine::Products(lattices.into_iter().enumerate().map(pack).collect())
        };
        Self { shapes, engine }
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
        let Shapes { groups, channels, rows, src, dst } = self.shapes;
        let source_len = checked_product(KERNEL, "source", &[batch, groups * channels, src[0], src[1]])?;
        let destination_len =
            checked_product(KERNEL, "destination", &[batch, groups * rows, dst[0], dst[1]])?;
        check_len(KERNEL, "source", source_len, source.len())?;
        check_len(KERNEL, "destination", destination_len, destination.len())?;
        epilogue.check(KERNEL, groups * rows, destination_len)?;
        match &self.engine {
            Engine::Products(products) => {
                // Input pixels that no tap meets (kernel smaller than stride) are zeros, and cheaper written
                // in order.
                let empty = |product: &&Product<T>| product.lattice.taps.is_empty();
                let fill = products.iter().any(|product| empty(&product)) && epilogue.is_plain();
                if fill {
                    crate::elementwise::fill(destination, T::ZERO);
                }
                for product in products.iter().filter(|product| !(fill && empty(product))) {
                    product.run(batch, source, epilogue, destination);
                }
            }
            Engine::Direct(direct) => direct.run(batch, source, epilogue, destination),
        }
        Ok(())
    }
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

/// `y[n, o] = bias[o] + Σ_c w[o, c] ⋆ x[n, c]` (cross-correlation), zeros beyond the borders.
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
