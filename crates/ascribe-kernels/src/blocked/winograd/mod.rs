//! Winograd convolution for 3 × 3 kernels of stride 1: F(2 × 2, 3 × 3) and F(4 × 4, 3 × 3).
//!
//! A tile of M × M destination pixels (2 × 2 or 4 × 4) depends on N × N source pixels d, with N = M + 2. With the
//! transformation matrices B, G and A of the method and the filter g, y = Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A. This takes N²
//! multiplications instead of the 9 M² of the definition: 2.25 times fewer for M = 2, 4 times fewer for M = 4. For each
//! of the N² points of a transformed tile, the sum over source channels is a pointwise convolution whose pixels are the
//! tiles, and is computed with the same register tile as direct convolutions.
//!
//! Rounding errors grow with M, since the transforms add and subtract numbers of different size; see
//! [`BlockedConv::forward_winograd`].
//!
//! Lavin and Gray 2016, *Fast Algorithms for Convolutional Neural Networks*.

mod filters;
mod run;
mod transform;

use std::fmt::{self, Display};
use std::sync::Arc;

use super::buffer::Buffer;
use super::conv::{BlockedConv, Form};
use super::layout::BLOCK;
use super::pack::{Class, panels};
use super::tile::{Mode, most_blocks};
use crate::conv::lattice::Lattice;
use crate::error::{Result, check_len};
use crate::shape::ConvShape;
use crate::simd::Isa;
pub(super) use filters::Lent;
pub use filters::Weights;

/// The parameters of a Winograd convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winograd {
    /// M, the number of destination pixels of a tile along each axis: 2 or 4.
    pub(super) outputs: usize,
    /// Position, relative to a destination pixel, of the source pixel that the first kernel element is multiplied with.
    pub(super) origin: [isize; 2],
    /// Whether it is an input gradient, for which the filters are rotated by 180°.
    pub(super) gradient: bool,
}

impl Winograd {
    /// A forward convolution; always F(2 × 2).
    fn forward(shape: &ConvShape) -> Self {
        let origin = [0, 1].map(|axis| -(shape.padding[axis] as isize));
        Self { outputs: 2, origin, gradient: false }
    }

    /// An input gradient with tiles of `outputs` × `outputs` pixels.
    fn input_grad(shape: &ConvShape, outputs: usize) -> Self {
        let origin = [0, 1].map(|axis| shape.padding[axis] as isize - 2);
        Self { outputs, origin, gradient: true }
    }

    /// N², the number of points of a transformed tile.
    fn points(self) -> usize {
        (self.outputs + 2) * (self.outputs + 2)
    }
}

impl Display for Winograd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F({0} × {0})", self.outputs)
    }
}

impl BlockedConv {
    /// Packs a forward convolution that uses Winograd's F(2 × 2, 3 × 3), with 2.25 times fewer multiplications than
    /// [`BlockedConv::forward`].
    ///
    /// `None` unless the kernel is 3 × 3, strides and dilations are 1 and there is one group. Rounding errors are about
    /// twice those of [`BlockedConv::forward`]. F(4 × 4), with errors about ten times as large, is not available for
    /// the forward pass: a rounding error there can change the sign of a ReLU's input, and with it whether the gradient
    /// passes.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_winograd(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::forward_winograd_with(Isa::detect(), shape, weight)
    }

    pub(super) fn forward_winograd_with(isa: Isa, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("Winograd convolution", "weight", shape.weight_len(), weight.len())?;
        Ok(Self::winograd(isa, Winograd::forward(shape), shape).map(|conv| conv.packed(weight)))
    }

    /// [`BlockedConv::forward_winograd`] with lent weights, that is, weights that stay in the caller's memory; `None`
    /// for the same shapes.
    ///
    /// Transformed filters take 16 / 9 of the memory of the weights. If a run has at most as many tiles (of all
    /// samples) as there are destination channels, it transforms the filters again, which costs less than reading
    /// transformed ones from memory. The first run with more tiles keeps the transformed filters for later runs. The
    /// results are the same either way. Weights of a wrong length are an error of [`BlockedConv::run`].
    pub fn forward_winograd_lent(shape: &ConvShape, weights: Arc<dyn Weights>) -> Option<Self> {
        Self::winograd(Isa::detect(), Winograd::forward(shape), shape).map(|conv| conv.lent(weights))
    }

    /// Packs an input gradient that uses Winograd's F(4 × 4, 3 × 3) for `outputs` = 4, with 4 times fewer
    /// multiplications than [`BlockedConv::input_grad`], or F(2 × 2, 3 × 3) for `outputs` = 2.
    ///
    /// `None` as for [`BlockedConv::forward_winograd`], and for other values of `outputs`. Rounding errors of F(4 × 4)
    /// are about ten times those of the direct kernels. Over random layers, their root mean square is 10⁻⁶ of that of
    /// the gradient, and the largest error of a layer is occasionally above 10⁻⁵ of the largest gradient. This is
    /// acceptable for gradients, since the rest of the backward pass is continuous in them.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad_winograd(shape: &ConvShape, outputs: usize, weight: &[f32]) -> Result<Option<Self>> {
        Self::input_grad_winograd_with(Isa::detect(), shape, outputs, weight)
    }

    pub(super) fn input_grad_winograd_with(
        isa: Isa,
        shape: &ConvShape,
        outputs: usize,
        weight: &[f32],
    ) -> Result<Option<Self>> {
        check_len("Winograd input gradient", "weight", shape.weight_len(), weight.len())?;
        Ok(Self::winograd(isa, Winograd::input_grad(shape, outputs), shape).map(|conv| conv.packed(weight)))
    }

    /// [`BlockedConv::input_grad_winograd`] with lent weights, as in [`BlockedConv::forward_winograd_lent`].
    /// Transformed filters of F(4 × 4) take 4 times the memory of the weights.
    pub fn input_grad_winograd_lent(
        shape: &ConvShape,
        outputs: usize,
        weights: Arc<dyn Weights>,
    ) -> Option<Self> {
        Self::winograd(Isa::detect(), Winograd::input_grad(shape, outputs), shape)
            .map(|conv| conv.lent(weights))
    }

    /// The convolution without its filters; `None` if Winograd's algorithm does not apply.
    fn winograd(isa: Isa, winograd: Winograd, shape: &ConvShape) -> Option<Self> {
        let fits = shape.kernel == [3, 3]
            && shape.stride == [1, 1]
            && shape.dilation == [1, 1]
            && shape.groups == 1
            && matches!(winograd.outputs, 2 | 4);
        if !fits {
            return None;
        }
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        let input = (shape.in_channels, shape.input);
        let output = (shape.out_channels, shape.output());
        let (src, dst) = if winograd.gradient { (output, input) } else { (input, output) };
        let grid = dst.1.map(|size| size.div_ceil(winograd.outputs));
        let pointwise = Lattice {
            src: grid,
            dst: grid,
            grid,
            src_stride: [1, 1],
            taps: vec![[0, 0]],
            dst_stride: [1, 1],
            dst_offset: [0, 0],
        };
        let mode = Mode::Dense(BLOCK);
        let mut panels = panels(1, dst.0, src.0, most_blocks(isa, mode));
        let mut start = 0;
        for panel in &mut panels {
            panel.weights.push(start);
            start += winograd.points() * src.0 * panel.blocks * BLOCK;
        }
        Some(Self {
            isa,
            mode,
            form: Form::Winograd(winograd),
            src,
            dst,
            source_pad: [0, 0],
            depth: src.0.div_ceil(BLOCK),
            // The pointwise convolution is the same at all points.
            classes: vec![Class::blocked(pointwise, src.0)],
            panels,
            weights: Arc::new(Buffer::new(0)),
            lent: None,
        })
    }

    /// Adds transformed filters of these weights.
    fn packed(mut self, weight: &[f32]) -> Self {
        if let Form::Winograd(winograd) = self.form {
            self.weights = Arc::new(self.pack_filters(winograd, weight.into()));
        }
        self
    }

    /// Adds weights that stay in the caller's memory.
    pub(super) fn lent(mut self, weights: Arc<dyn Weights>) -> Self {
        self.lent = Some(Lent::new(weights));
        self
    }
}
