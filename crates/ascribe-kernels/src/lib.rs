//! CPU kernels of Ascribe: convolution, pooling and matrix products on plain slices.
//!
//! All kernels
//! - work on contiguous NCHW slices of `f32` or `f64` ([`Float`]) and know nothing about computation graphs. The
//!   kernels in [`blocked`] use the layout `[N][C/16][H][W][16]` instead, for chains of layers that stay in it;
//! - run on the *current* rayon pool: install a pool to limit the number of threads. There is no global state;
//! - give bit-identical results for any number of threads;
//! - give bit-identical results for a sample whatever batch it is part of;
//! - check every length and return an error before they read or write anything;
//! - choose AVX-512, AVX2 with FMA, NEON or portable code at run time ([`Isa`]). The instruction sets with fused
//!   multiply-add give bit-identical results. AMX, the processor's matrix unit, is only used by kernels that are
//!   packed for it ([`blocked::BlockedConv::forward_split`]).
//!
//! ```
//! use ascribe_kernels::{ConvParams, ConvShape, conv2d, conv2d_input_grad};
//!
//! let shape = ConvShape::new(ConvParams {
//!     input: [1, 3],
//!     kernel: [1, 2],
//!     ..Default::default()
//! })?;
//! let weights = [2.0, -1.0];
//! let mut y = [0.0; 2];
//! conv2d(&shape, &[1.0, 2.0, 4.0], &weights, None, &mut y)?;
//! assert_eq!(y, [0.0, 0.0]);
//!
//! let mut dx = [0.0; 3];
//! conv2d_input_grad(&shape, &[1.0, 10.0], &weights, &mut dx)?;
//! assert_eq!(dx, [2.0, 19.0, -10.0]);
//! # Ok::<(), ascribe_kernels::KernelError>(())
//! ```

pub mod blocked;
mod ceiling;
mod conv;
mod copy;
mod elementwise;
mod epilogue;
mod error;
mod float;
mod matmul;
mod matrix;
mod parallel;
mod pool;
mod shape;
mod simd;
mod tile;

pub use ceiling::arithmetic_ceiling;
pub use conv::{PackedConv, conv2d, conv2d_input_grad, conv2d_weight_grad};
pub use copy::strided_copy;
pub use elementwise::{
    add, add_assign, add_scaled, clip, clip_input_grad, fill, map, map_in_place, relu, relu_input_grad,
    zip_in_place, zip_map,
};
pub use epilogue::{Activation, Epilogue};
pub use error::{KernelError, Result};
pub use float::Float;
pub use matmul::{MatmulShape, matmul};
pub use pool::{avg_pool2d, avg_pool2d_input_grad, max_pool2d, max_pool2d_input_grad};
pub use shape::{ConvParams, ConvShape, PoolParams, PoolShape};
pub use simd::Isa;
