//! Two-dimensional convolution on NCHW: forward pass, input gradient, weight gradient.
//!
//! Forward pass and input gradient are the same computation with different roles. Here the *source* is the tensor that
//! is read (input, or output gradient) and the *destination* the one that is written (output, or input gradient). A
//! *tap* is a kernel element, given by its offset in the source. With a stride, the destination pixels of an input
//! gradient fall into *residue classes* modulo the stride, each of which meets other taps; see [`lattice`].

mod direct;
mod gemm;
pub(crate) mod lattice;
mod strip;
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
/// Packing costs about as much as reading and writing the weights, so keep the value as long as the weights do not
/// change. The batch size may differ from call to call. It has no influence on the result for a sample: y\[n\] is
/// bit-identical in any batch and for any number of threads.
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

/// How a convolution is computed.
#[derive(Debug, Clone)]
enum Engine<T> {
    /// As matrix products, one per residue class.
    Products(Vec<Product<T>>),
    /// By direct summation, all residue classes together: for few destination channels per group.
    Direct(Box<Direct<T>>),
}

/// Channels and sizes of the tensors; the same for all residue classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shapes {
    groups: usize,
    /// Source channels per group.
    channels: usize,
    /// Destination channels per group: the rows of the matrix product.
    rows: usize,
    /// Height and width of the source.
    src: [usize; 2],
    /// Height and width of the destination.
    dst: [usize; 2],
}

/// Most products that are summed in one accumulator before it is added to the total. Three vectors of this many rows
/// fit the first-level cache, and summing in short chains reduces the rounding error.
const K_BLOCK: usize = 192;

/// Number of source channels that one accumulator chain sums: whole channels, in blocks of nearly equal size. It
/// depends on the filter alone, so that neither the batch nor the number of threads changes the rounding.
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
        let lattice = Lattice::forward(shape);
        let count = lattice.taps.len();
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
        let (lattices, kernel_indices): (Vec<_>, Vec<_>) = Lattice::input_grad(shape).into_iter().unzip();
        let kernel_len = shape.kernel[0] * shape.kernel[1];
        Ok(Self::build(isa, shapes, lattices, |class, row, channel, tap| {
            let (group, row) = (row / shapes.rows, row % shapes.rows);
            let filter = (group * shapes.channels + channel) * shapes.rows + row;
            weight[filter * kernel_len + kernel_indices[class][tap]]
        }))
    }

    /// Packs `weight(class, destination channel, source channel in its group, tap)` for these residue classes.
    fn build(
        isa: Isa,
        shapes: Shapes,
        lattices: Vec<Lattice>,
        weight: impl Fn(usize, usize, usize, usize) -> T + Sync,
    ) -> Self {
        // The two engines round differently, so the choice depends on the layer alone, not on batch or threads.
        let engine = if shapes.rows <= direct::MAX_ROWS {
            Engine::Direct(Box::new(Direct::new(isa, shapes, &lattices, weight)))
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

    /// Channels, height and width of the destination.
    pub fn destination(&self) -> [usize; 3] {
        let Shapes { groups, rows, dst, .. } = self.shapes;
        [groups * rows, dst[0], dst[1]]
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
                // With a kernel smaller than the stride, some pixels of the input gradient depend on no tap and are
                // zero. Filling the whole destination in order is cheaper than writing them one by one.
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

/// The input gradient ∂L/∂x from `dy` = ∂L/∂y. This is the transpose of [`conv2d`] as a linear map of `x`, and so also
/// the forward pass of a transposed convolution.
///
/// ⟨conv2d(x), dy⟩ = ⟨x, dx⟩ for all x and dy. `dx` is overwritten.
///
/// # Errors
/// [`KernelError::Length`] when a slice does not have the length that `shape` implies.
pub fn conv2d_input_grad<T: Float>(shape: &ConvShape, dy: &[T], w: &[T], dx: &mut [T]) -> Result<()> {
    PackedConv::input_grad(shape, w)?.run(shape.batch, dy, &Epilogue::default(), dx)
}

/// Checks slice lengths, given as (argument, expected, found).
fn check_lengths(kernel: &'static str, lengths: &[(&'static str, usize, usize)]) -> Result<(), KernelError> {
    lengths.iter().try_for_each(|&(argument, expected, found)| check_len(kernel, argument, expected, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::PORTABLE_FUSES;
    use crate::matmul::{MatmulShape, matmul_with};
    use crate::shape::ConvParams;

    fn values<T: Float>(seed: usize, len: usize) -> Vec<T> {
        (0..len).map(|at| T::from_f64(((at * 7919 + seed * 104_729) % 2003) as f64 / 1001.5 - 1.0)).collect()
    }

    fn shapes() -> impl Iterator<Item = ConvShape> {
        // Channels in, out, groups; size, kernel, stride.
        let layers = [
            (3, 20, 1, 33, 7, 2),
            (40, 24, 1, 14, 3, 1),
            (200, 17, 1, 7, 1, 1),
            (30, 19, 1, 9, 1, 2),
            (12, 12, 12, 19, 5, 1),
            (12, 12, 12, 19, 3, 2),
            (6, 9, 3, 40, 3, 3),
            (8, 16, 4, 23, 2, 1),
        ];
        layers.into_iter().map(|(ic, oc, groups, size, kernel, stride)| {
            ConvShape::new(ConvParams {
                batch: 2,
                in_channels: ic,
                out_channels: oc,
                groups,
                input: [size, size + 1],
                kernel: [kernel, kernel],
                stride: [stride, stride],
                padding: [kernel / 2; 4],
                ..Default::default()
            })
            .unwrap()
        })
    }

    /// Output and input gradient of a convolution with generated values.
    fn both<T: Float>(isa: Isa, s: &ConvShape) -> (Vec<T>, Vec<T>) {
        let w = values::<T>(1, s.weight_len());
        let (mut y, mut dx) = (vec![T::ZERO; s.output_len()], vec![T::ZERO; s.input_len()]);
        let epilogue = Epilogue::default();
        let forward = PackedConv::forward_with(isa, s, &w).unwrap();
        forward.run(s.batch, &values::<T>(2, s.input_len()), &epilogue, &mut y).unwrap();
        let gradient = PackedConv::input_grad_with(isa, s, &w).unwrap();
        gradient.run(s.batch, &values::<T>(3, s.output_len()), &epilogue, &mut dx).unwrap();
        (y, dx)
    }

    fn agree<T: Float>(tolerance: f64) {
        for s in shapes() {
            let reference = both::<T>(Isa::Portable, &s);
            let mut fused = None;
            for &isa in Isa::available() {
                let found = both::<T>(isa, &s);
                for (a, b) in [(&found.0, &reference.0), (&found.1, &reference.1)] {
                    let worst = a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
                    assert!(worst.fold(0.0, f64::max) < tolerance, "{isa} {s:?}");
                }
                // With fused multiply-add in the same order, results are bit-identical for any vector width.
                if isa != Isa::Portable || PORTABLE_FUSES {
                    assert!(fused.get_or_insert_with(|| found.clone()) == &found, "{isa} {s:?}");
                }
            }
        }
    }

    #[test]
    fn instruction_sets_agree_in_f32() {
        agree::<f32>(2e-4);
    }

    #[test]
    fn instruction_sets_agree_in_f64() {
        agree::<f64>(1e-12);
    }

    #[test]
    fn matrix_products_of_instruction_sets_agree() {
        for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let s = MatmulShape { batch: 2, m: 37, n: 53, k: 400, trans_a, trans_b };
            let (a, b) = (values::<f32>(1, 2 * 37 * 400), values::<f32>(2, 2 * 53 * 400));
            let product = |isa| {
                let mut c = vec![0.0; 2 * 37 * 53];
                matmul_with(isa, &s, &a, &b, &mut c).unwrap();
                c
            };
            let reference = product(Isa::Portable);
            let all: Vec<_> =
                Isa::available().iter().filter(|&&isa| isa != Isa::Portable || PORTABLE_FUSES).collect();
            for &&isa in &all {
                let c = product(isa);
                assert!(c == product(*all[0]), "{isa}");
                assert!(c.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-3), "{isa}");
            }
        }
    }
}
