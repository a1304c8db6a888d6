//! Convolutions and their companions on a blocked layout, `f32` only.
//!
//! A tensor is `[N][C/16][H + 2·pad_h][W + 2·pad_w][16]`: sixteen channels of a pixel are one cache line and
//! one 512-bit vector, and a border of zeros around each plane turns padding into plain reads. A chain of
//! layers stays in this layout from the first convolution to the last, so that nothing is rearranged between
//! them; see [`BlockedShape`], [`to_blocked`] and [`from_blocked`].
//!
//! [`BlockedConv`] sums products in registers, a tile of pixels by output channels at a time, in chains of
//! at most 192 products, and adds the chains. Where chains end depends on the layer alone: results are
//! bit-identical for any number of threads, and a sample's for any batch.
//!
//! Processors with a matrix unit run some convolutions on it ([`BlockedConv::forward_split`]): numbers are split into
//! parts that the unit can multiply.
//!
//! What an activation's gradient needs is one bit per value: [`BlockedEpilogue::record`] writes the bits in
//! the pass that computes the values, [`BlockedEpilogue::mask`] applies them in the pass that computes the
//! gradient.
//!
//! Where a picture changes in a rectangle, so do later images: [`BlockedConv::for_patch`] computes a patch of an
//! image from windows of the image before ([`cut_windows`]), to the same bits as the whole.

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
