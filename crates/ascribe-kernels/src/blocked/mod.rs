//! Convolutions, poolings and element-wise operations on a blocked layout, for `f32` only.
//!
//! A tensor is stored as `[N][C/16][H + 2·pad_h][W + 2·pad_w][16]`. The sixteen channels of a pixel are one cache line
//! and one 512-bit vector, and since each plane is stored with a border of zeros, convolutions read their padding like
//! any other pixel. A chain of layers stays in this layout from the first convolution to the last, so that nothing is
//! rearranged between them; see [`BlockedShape`], [`to_blocked`] and [`from_blocked`].
//!
//! [`BlockedConv`] computes a tile of pixels × output channels at a time in registers. It sums at most 192 products in
//! one accumulator (a chain) before it adds them to the result, which keeps rounding errors small. Where chains end
//! depends on the layer alone, so that results are bit-identical for any number of threads, and the result for a sample
//! is bit-identical in any batch.
//!
//! On processors with AMX, Intel's matrix unit, some convolutions can run on it ([`BlockedConv::forward_split`]). It
//! multiplies 16-bit floats, so each `f32` is split into a sum of two or three of them.
//!
//! The gradient of an activation needs one bit per value: whether the activation passes the gradient on.
//! [`BlockedEpilogue::record`] writes these bits while the forward pass computes the values, and
//! [`BlockedEpilogue::mask`] applies them while the backward pass computes the gradient.
//!
//! If only a rectangle of the input changes, only a rectangle of each feature map changes. [`BlockedConv::for_patch`]
//! computes such a patch of the output from windows of the input ([`cut_windows`]), bit-identical to what the
//! convolution of the whole input gives there.

mod buffer;
mod conv;
mod epilogue;
mod finish;
mod from_planar;
mod job;
mod layout;
mod output;
mod pack;
mod patch;
mod pointwise;
mod pool;
mod redistribute;
mod split;
#[cfg(test)]
mod tests;
mod tile;
mod tiling;
mod to_planar;
mod window;
mod winograd;
mod work;

pub use buffer::Buffer;
pub use conv::BlockedConv;
pub use epilogue::BlockedEpilogue;
pub use layout::{BLOCK, BlockedShape, copy_blocks, from_blocked, to_blocked};
pub use patch::Reach;
pub use pointwise::{accumulate, apply, scale_shift};
pub use pool::{avg_pool, avg_pool_input_grad, max_pool, max_pool_input_grad, winners_len};
pub use redistribute::{Blocked, Redistribution, redistribute};
pub use split::has_matrix_unit;
pub use window::{Patches, cut_planar, cut_windows};
pub use winograd::Weights;
