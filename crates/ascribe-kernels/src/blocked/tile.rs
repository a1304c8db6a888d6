//! The register tile of blocked convolutions: the pixels × destination channels that are summed in registers.
//!
//! With 512-bit vectors, a tile has up to 14 pixels × 32 destination channels. This takes 28 accumulators, two vectors
//! of weights and one broadcast source value. Each tile size is compiled separately, so that the accumulators stay in
//! registers.

use super::finish::{PanelFinish, Sums};
use super::layout::BLOCK;
use super::tiling::Tile;
#[cfg(target_arch = "aarch64")]
use crate::simd::OnNeon;
use crate::simd::{Isa, Kernel, OnPortable, Simd, Target};
#[cfg(target_arch = "x86_64")]
use crate::simd::{OnAvx2, OnAvx512};

/// Products of a chain whose operands are consecutive in memory: `count` source values from `offset` on (relative to
/// the first pixel of a tile), and as many rows of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: isize,
    pub(super) count: usize,
}

/// One chain of products, to be summed for a list of tiles.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) tiles: &'a [Tile],
    pub(super) entries: &'a [Entry],
    /// The packed weights: for each entry, `count` rows with one value per destination channel of the panel.
    pub(super) weights: *const f32,
    /// The first source block of the panel's group in the sample.
    pub(super) src: *const f32,
    /// Floats between the rows of a tile in the source.
    pub(super) src_row: usize,
    /// The first destination block of the panel.
    pub(super) dst: *mut f32,
    /// Floats between blocks, rows and pixels of a tile in the destination.
    pub(super) dst_steps: [usize; 3],
    /// Whether sums are added to the values in the destination (all chains but the first).
    pub(super) accumulate: bool,
    /// The epilogue, on the last chain.
    pub(super) finish: Option<&'a PanelFinish>,
    /// Scratch for the sums of a tile, which the epilogue reads.
    pub(super) sums: *mut f32,
}

/// Most blocks of destination channels that a tile can sum together, on any instruction set.
pub(super) const MAX_BLOCKS: usize = 3;
/// Number of floats in the largest tile.
pub(super) const SUMS: usize = 28 * BLOCK;

/// How the source values of a tile are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each source value is broadcast to all destination channels. The pixels of a row are this many floats apart.
    Dense(usize),
    /// Depthwise: each lane is a separate channel. The pixels of a row are this many floats apart.
    Depthwise(usize),
}

/// Floats between the source pixels of a blocked convolution of stride 2.
const STRIDED: usize = 2 * BLOCK;

impl Mode {
    /// Whether there is a kernel for this mode.
    pub(super) fn is_served(self) -> bool {
        matches!(self, Self::Dense(1 | BLOCK | STRIDED) | Self::Depthwise(BLOCK | STRIDED))
    }
}

/// Most blocks of destination channels that a tile has on this instruction set.
pub(super) fn most_blocks(isa: Isa, mode: Mode) -> usize {
    match (isa, mode) {
        (Isa::Avx512, Mode::Dense(1)) => 2,
        (Isa::Avx512, Mode::Dense(_)) => MAX_BLOCKS,
        _ => 1,
    }
}

/// The numbers of pixels per row that tiles of `blocks` blocks can have: first for tiles of one row, then for tiles of
/// two rows. In descending order; tiles of one row go down to 1 pixel.
pub(super) fn sizes(isa: Isa, mode: Mode, blocks: usize) -> [&'static [usize]; 2] {
    match (isa, blocks) {
        (Isa::Avx512, _) if mode == Mode::Dense(1) => [&[14, 8, 7, 6, 5, 4, 3, 2, 1], &[]],
        (Isa::Avx512, 1 | 2) => [&[14, 8, 7, 6, 5, 4, 3, 2, 1], &[7, 6, 5, 4]],
        (Isa::Avx512, _) => [&[8, 7, 6, 5, 4, 3, 2, 1], &[4]],
        (Isa::Avx2 | Isa::Neon, _) => [&[6, 5, 4, 3, 2, 1], &[]],
        _ => [&[3, 2, 1], &[]],
    }
}

/// Computes all tiles of `call` that have this many rows, and pixels per row.
///
/// # Safety
/// The pointers of `call` are valid for every tile, entry and block; (`rows`, `pixels`, `blocks`) are among
/// [`sizes`] and within [`most_blocks`]; `mode` is served; the processor has `isa`.
pub(super) unsafe fn run(isa: Isa, mode: Mode, blocks: usize, rows: usize, pixels: usize, call: &Call<'_>) {
    macro_rules! choose {
        ($on:ty, $v:literal, $step:expr, $depthwise:literal, $($rows:literal: $($pixels:literal)*;)*) => {
            match (rows, pixels) {
                // SAFETY: the caller's contract.
                $($(($rows, $pixels) => unsafe {
                    <$on>::run(Sized::<$pixels, $rows, $v, { $step }, $depthwise>(call));
                })*)*
                _ => unreachable!("tile of {rows} × {pixels} pixels"),
            }
        };
    }
    // The sizes listed below have to match those of `sizes`.
    macro_rules! modes {
        ($on:ty, $v:literal, $($list:tt)*) => {
            match mode {
                Mode::Dense(BLOCK) => choose!($on, $v, BLOCK, false, $($list)*),
                Mode::Dense(_) => choose!($on, $v, STRIDED, false, $($list)*),
                Mode::Depthwise(BLOCK) => choose!($on, $v, BLOCK, true, $($list)*),
                Mode::Depthwise(_) => choose!($on, $v, STRIDED, true, $($list)*),
            }
        };
    }
    match (isa, blocks, mode) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, 1, Mode::Dense(1)) => choose!(OnAvx512, 1, 1, false, 1: 1 2 3 4 5 6 7 8 14;),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _, Mode::Dense(1)) => choose!(OnAvx512, 2, 1, false, 1: 1 2 3 4 5 6 7 8 14;),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _, Mode::Dense(1)) => choose!(OnAvx2, 2, 1, false, 1: 1 2 3 4 5 6;),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, _, Mode::Dense(1)) => choose!(OnNeon, 4, 1, false, 1: 1 2 3 4 5 6;),
        (_, _, Mode::Dense(1)) => choose!(OnPortable, 4, 1, false, 1: 1 2 3;),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, 1, _) => modes!(OnAvx512, 1, 1: 1 2 3 4 5 6 7 8 14; 2: 4 5 6 7;),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, 2, Mode::Dense(BLOCK)) => {
            choose!(OnAvx512, 2, BLOCK, false, 1: 1 2 3 4 5 6 7 8 14; 2: 4 5 6 7;);
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, 2, _) => choose!(OnAvx512, 2, STRIDED, false, 1: 1 2 3 4 5 6 7 8 14; 2: 4 5 6 7;),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _, Mode::Dense(BLOCK)) => {
            choose!(OnAvx512, 3, BLOCK, false, 1: 1 2 3 4 5 6 7 8; 2: 4;);
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _, _) => choose!(OnAvx512, 3, STRIDED, false, 1: 1 2 3 4 5 6 7 8; 2: 4;),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _, _) => modes!(OnAvx2, 2, 1: 1 2 3 4 5 6;),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, _, _) => modes!(OnNeon, 4, 1: 1 2 3 4 5 6;),
        _ => modes!(OnPortable, 4, 1: 1 2 3;),
    }
}

/// Computes the tiles of `ROWS` rows of `P` pixels by `V` vectors. In the source, pixels are `STEP` floats apart.
struct Sized<'a, const P: usize, const ROWS: usize, const V: usize, const STEP: usize, const DEPTHWISE: bool>(
    &'a Call<'a>,
);

impl<const P: usize, const ROWS: usize, const V: usize, const STEP: usize, const DEPTHWISE: bool> Kernel<f32>
    for Sized<'_, P, ROWS, V, STEP, DEPTHWISE>
{
    type Output = ();

    // Loops over indices instead of iterators, so that they are unrolled and the sums stay in registers.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let call = self.0;
        let blocks = V * S::LANES / BLOCK;
        const { assert!(P * ROWS * V <= S::ACCUMULATORS && (V * S::LANES).is_multiple_of(BLOCK)) };
        let [dst_block, dst_row, dst_pixel] = call.dst_steps;
        for tile in call.tiles {
            if (tile.rows, tile.pixels) != (ROWS, P) {
                continue;
            }
            // SAFETY: the pointers are valid for the tile's pixels and the panel's blocks (contract of `run`).
            unsafe {
                let mut sum = [[[S::zero(); V]; P]; ROWS];
                let src = call.src.wrapping_add(tile.src);
                let mut weights = call.weights;
                for entry in call.entries {
                    let mut at = src.wrapping_offset(entry.offset);
                    for _ in 0..entry.count {
                        let mut w = [S::zero(); V];
                        for v in 0..V {
                            w[v] = S::load(weights.wrapping_add(v * S::LANES));
                        }
                        for r in 0..ROWS {
                            for p in 0..P {
                                let from = at.wrapping_add(r * call.src_row + p * STEP);
                                if DEPTHWISE {
                                    for v in 0..V {
                                        let x = S::load(from.wrapping_add(v * S::LANES));
                                        sum[r][p][v] = S::fma(x, w[v], sum[r][p][v]);
                                    }
                                } else {
                                    let x = S::splat(*from);
                                    for v in 0..V {
                                        sum[r][p][v] = S::fma(x, w[v], sum[r][p][v]);
                                    }
                                }
                            }
                        }
                        weights = weights.wrapping_add(V * S::LANES);
                        at = at.wrapping_add(1);
                    }
                }
                let dst = call.dst.wrapping_add(tile.dst);
                if call.accumulate {
                    for r in 0..ROWS {
                        for p in 0..P {
                            for v in 0..V {
                                let place = vector_at::<S>(v, dst_block) + r * dst_row + p * dst_pixel;
                                sum[r][p][v] = S::add(S::load(dst.wrapping_add(place)), sum[r][p][v]);
                            }
                        }
                    }
                }
                let (out, [block, row, pixel]) = match call.finish {
                    Some(_) => (call.sums, [BLOCK, P * blocks * BLOCK, blocks * BLOCK]),
                    None => (dst, call.dst_steps),
                };
                for r in 0..ROWS {
                    for p in 0..P {
                        for v in 0..V {
                            let place = vector_at::<S>(v, block) + r * row + p * pixel;
                            S::store(out.wrapping_add(place), sum[r][p][v]);
                        }
                    }
                }
                if let Some(finish) = call.finish {
                    let sums =
                        Sums { finish, tile, blocks, values: call.sums, dst, dst_steps: call.dst_steps };
                    (finish.run)(&sums);
                }
            }
        }
    }
}

/// Offset of vector `v` of a panel from the panel's first block, with `block` floats between blocks.
#[inline(always)]
fn vector_at<S: Simd>(v: usize, block: usize) -> usize {
    v * S::LANES / BLOCK * block + v * S::LANES % BLOCK
}
