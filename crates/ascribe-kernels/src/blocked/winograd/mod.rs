//! Winograd's minimal filtering for 3 × 3 kernels of stride 1: F(2 × 2) and F(4 × 4).
//!
//! A tile of M × M destination pixels depends on N × N source pixels, N = M + 2. With the transforms B, G and
//! A of the method, y = Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A: N² products where the definition takes 9 M², 2.25 and 4
//! times fewer. For each of the N² points the sum over channels is a pointwise convolution whose pixels are
//! the tiles, and runs in the same register tile.
//!
//! Rounding errors grow with M, since the transforms subtract: see [`BlockedConv::forward_winograd`].
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

/// A convolution by minimal filtering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Minimal {
    /// Destination pixels of a tile along an axis, 2 or 4.
    pub(super) outputs: usize,
    /// Source pixel, relative to the destination pixel, that the first kernel element meets.
    pub(super) origin: [isize; 2],
    /// Whether it is an input gradient: the filters are turned by half a turn.
    pub(super) gradient: bool,
}

impl Minimal {
    fn forward(shape: &ConvShape) -> Self {
        let origin = [0, 1].map(|axis| -(shape.padding[axis] as isize));
        Self { outputs: 2, origin, gradient: false }
    }

    fn input_grad(shape: &ConvShape, outputs: usize) -> Self {
        let origin = [0, 1].map(|axis| shape.padding[axis] as isize - 2);
        Self { outputs, origin, gradient: true }
    }

    /// N².
    fn points(self) -> usize {
        (self.outputs + 2) * (self.outputs + 2)
    }
}

impl Display for Minimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F({0} × {0})", self.outputs)
    }
}

impl BlockedConv {
    /// Packs a forward convolution by Winograd's F(2 × 2, 3 × 3): 2.25 times fewer products than
    /// [`BlockedConv::forward`].
    ///
    /// `None` unless the kernel is 3 × 3, strides and dilations are 1 and there is one group. The errors are
    /// about twice those of [`BlockedConv::forward`]; F(4 × 4), with about ten times, is not offered here,
    /// since errors of the forward pass flip gates of activations.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_winograd(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::forward_winograd_with(Isa::detect(), shape, weight)
    }

    pub(super) fn forward_winograd_with(isa: Isa, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("winograd convolution", "weight", shape.weight_len(), weight.len())?;
        Ok(Self::minimal(isa, Minimal::forward(shape), shape).map(|conv| conv.packed(weight)))
    }

    /// [`BlockedConv::forward_winograd`] with weights that stay where they are; `None` for the same shapes.
    ///
    /// Transformed filters take 16 / 9 of the memory of the weights. With few pixels, at most as many tiles as destination
    /// channels, each run transforms the filters anew, which costs less than reading them; they are kept from the first run
    /// with more on. The numbers are the same. Weights of a wrong length are an error of [`BlockedConv::run`].
    pub fn forward_winograd_lent(shape: &ConvShape, weights: Arc<dyn Weights>) -> Option<Self> {
        Self::minimal(Isa::detect(), Minimal::forward(shape), shape).map(|conv| conv.lent(weights))
    }

    /// Packs an input gradient by Winograd's F(4 × 4, 3 × 3), with 4 times fewer products than
    /// [`BlockedConv::input_grad`], or F(2 × 2, 3 × 3) for `outputs` = 2.
    ///
    /// `None` as for [`BlockedConv::forward_winograd`], and for other values of `outputs`. Errors of F(4 × 4) are about ten
    /// times those of the direct kernels: over random layers their root mean square is 10⁻⁶ of that of the gradient, and
    /// the largest of a layer is now and then above 10⁻⁵ of the largest gradient. Nothing downstream of an input gradient
    /// is discontinuous in it.
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
        check_len("winograd input gradient", "weight", shape.weight_len(), weight.len())?;
        Ok(Self::minimal(isa, Minimal::input_grad(shape, outputs), shape).map(|conv| conv.packed(weight)))
    }

    /// [`BlockedConv::input_grad_winograd`] with weights that stay where they are, as
    /// [`BlockedConv::forward_winograd_lent`]; transformed filters of F(4 × 4) take 4 times the memory of the weights.
    pub fn input_grad_winograd_lent(
        shape: &ConvShape,
        outputs: usize,
        weights: Arc<dyn Weights>,
    ) -> Option<Self> {
        Self::minimal(Isa::detect(), Minimal::input_grad(shape, outputs), shape)
            .map(|conv| conv.lent(weights))
    }

    /// The convolution without its filters.
    fn minimal(isa: Isa, minimal: Minimal, shape: &ConvShape) -> Option<Self> {
        let fits = shape.kernel == [3, 3]
            && shape.stride == [1, 1]
            && shape.dilation == [1, 1]
            && shape.groups == 1
            && matches!(minimal.outputs, 2 | 4);
        if !fits {
            return None;
        }
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        let input = (shape.in_channels, shape.input);
        let output = (shape.out_channels, shape.output());
        let (src, dst) = if minimal.gradient { (output, input) } else { (input, output) };
        let grid = dst.1.map(|size| size.div_ceil(minimal.outputs));
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
            start += minimal.points() * src.0 * panel.blocks * BLOCK;
        }
        Some(Self {
            isa,
            mode,
            form: Form::Minimal(minimal),
            src,
            dst,
            source_pad: [0, 0],
            depth: src.0.div_ceil(BLOCK),
            // The same at all points.
            classes: vec![Class::blocked(pointwise, src.0)],
            panels,
            weights: Arc::new(Buffer::new(0)),
            lent: None,
        })
    }

    fn packed(mut self, weight: &[f32]) -> Self {
        if let Form::Minimal(minimal) = self.form {
            self.weights = Arc::new(self.pack_filters(minimal, weight.into()));
        }
        self
    }

    pub(super) fn lent(mut self, weights: Arc<dyn Weights>) -> Self {
        self.lent = Some(Lent::new(weights));
        self
    }
}
