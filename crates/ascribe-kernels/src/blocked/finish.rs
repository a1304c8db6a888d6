//! Applies epilogues to finished tiles.
//!
//! Which parts an epilogue has (residual, record, mask, activation) is known before the tiles are computed. Each
//! combination is compiled separately, without branches in the inner loop: a vector of sums can come from as few as
//! sixteen products, so that the epilogue is a considerable part of the work.

use super::layout::BLOCK;
use super::tile::MAX_BLOCKS;
use super::tiling::Tile;
use crate::epilogue::Activation;
#[cfg(target_arch = "aarch64")]
use crate::simd::OnNeon;
use crate::simd::{Isa, Kernel, OnPortable, Simd, Target, low_mask};
#[cfg(target_arch = "x86_64")]
use crate::simd::{OnAvx2, OnAvx512};

/// The epilogue of one block of channels of one sample, as pointers. A part that is absent is a null pointer.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub(super) bias: *const f32,
    pub(super) residual: *const f32,
    pub(super) record: *mut u16,
    pub(super) mask: *const u16,
    pub(super) activation: Activation<f32>,
    /// The lanes that are channels, as a bit mask. The others are padding and become zero.
    pub(super) lanes: u16,
}

/// The epilogue of a panel, one for each of its blocks.
#[derive(Clone, Copy)]
pub(super) struct PanelFinish {
    pub(super) blocks: [Finish; MAX_BLOCKS],
    /// Floats from row to row and from pixel to pixel of a tile in the residual.
    pub(super) residual_steps: [usize; 2],
    /// Elements from row to row and from pixel to pixel of a tile in bit masks.
    pub(super) bits_steps: [usize; 2],
    /// The function that applies it, from [`choose`].
    pub(super) run: Run,
}

impl PanelFinish {
    /// The epilogue of one block, for the pixels of a row whose columns in the destination are `step` apart.
    pub(super) fn of_row(isa: Isa, finish: Finish, step: usize) -> Self {
        Self {
            blocks: [finish; MAX_BLOCKS],
            residual_steps: [0, step * BLOCK],
            bits_steps: [0, step],
            run: choose(isa, &finish, finish.lanes != u16::MAX),
        }
    }
}

/// A tile whose products have been summed, and where its results go.
pub(super) struct Sums<'a> {
    pub(super) finish: &'a PanelFinish,
    pub(super) tile: &'a Tile,
    /// Number of blocks.
    pub(super) blocks: usize,
    /// The sums, `[row][pixel][block][16]`.
    pub(super) values: *const f32,
    pub(super) dst: *mut f32,
    /// Floats between blocks, rows and pixels in the destination.
    pub(super) dst_steps: [usize; 3],
}

/// A function that applies the epilogue to a tile and stores the results.
///
/// # Safety
/// The processor has the instruction set, and the epilogue the parts, for which the function was chosen. Pointers and
/// steps are valid for the tile.
pub(super) type Run = unsafe fn(&Sums<'_>);

/// Selects the function for the parts that `finish` has; `tail` is whether a block has lanes that are not channels.
pub(super) fn choose(isa: Isa, finish: &Finish, tail: bool) -> Run {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => choose_on::<OnAvx512>(finish, tail),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => choose_on::<OnAvx2>(finish, tail),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => choose_on::<OnNeon>(finish, tail),
        _ => choose_on::<OnPortable>(finish, tail),
    }
}

fn choose_on<T: Target>(finish: &Finish, tail: bool) -> Run {
    macro_rules! parts {
        ($activation:literal) => {
            match (!finish.residual.is_null(), !finish.record.is_null(), !finish.mask.is_null() || tail) {
                (false, false, false) => run_on::<T, $activation, false, false, false>,
                (false, false, true) => run_on::<T, $activation, false, false, true>,
                (false, true, false) => run_on::<T, $activation, false, true, false>,
                (false, true, true) => run_on::<T, $activation, false, true, true>,
                (true, false, false) => run_on::<T, $activation, true, false, false>,
                (true, false, true) => run_on::<T, $activation, true, false, true>,
                (true, true, false) => run_on::<T, $activation, true, true, false>,
                (true, true, true) => run_on::<T, $activation, true, true, true>,
            }
        };
    }
    match finish.activation {
        Activation::None => parts!(0),
        Activation::Relu => parts!(1),
        Activation::Clip { .. } => parts!(2),
    }
}

unsafe fn run_on<
    T: Target,
    const ACTIVATION: u8,
    const RESIDUAL: bool,
    const RECORD: bool,
    const MASK: bool,
>(
    sums: &Sums<'_>,
) {
    // SAFETY: the contract of [`Run`].
    unsafe { T::run(Parts::<ACTIVATION, RESIDUAL, RECORD, MASK>(sums)) };
}

/// An epilogue whose activation (0 none, 1 `Relu`, 2 `Clip`) and parts are known at compile time.
struct Parts<'a, const ACTIVATION: u8, const RESIDUAL: bool, const RECORD: bool, const MASK: bool>(
    &'a Sums<'a>,
);

impl<const ACTIVATION: u8, const RESIDUAL: bool, const RECORD: bool, const MASK: bool> Kernel<f32>
    for Parts<'_, ACTIVATION, RESIDUAL, RECORD, MASK>
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Sums { finish, tile, blocks, values, dst, dst_steps } = *self.0;
        let [dst_block, dst_row, dst_pixel] = dst_steps;
        for (block, part) in finish.blocks.iter().enumerate().take(blocks) {
            let mut lane = 0;
            while lane < BLOCK {
                // SAFETY: the contract of [`Run`]. `max` and `min` return their second operand where either is NaN, so
                // that a NaN stays NaN.
                unsafe {
                    let (min, max) = match part.activation {
                        Activation::Clip { min, max } => (S::splat(min), S::splat(max)),
                        _ => (S::zero(), S::zero()),
                    };
                    let bias = if part.bias.is_null() { S::zero() } else { S::load(part.bias.add(lane)) };
                    for row in 0..tile.rows {
                        let mut sums = values.add((row * tile.pixels * blocks + block) * BLOCK + lane);
                        let mut dst = dst.add(block * dst_block + row * dst_row + lane);
                        let mut residual =
                            part.residual.wrapping_add(tile.residual + row * finish.residual_steps[0] + lane);
                        let mut bits = tile.bits + row * finish.bits_steps[0];
                        for _ in 0..tile.pixels {
                            let mut y = S::add(S::load(sums), bias);
                            if RESIDUAL {
                                y = S::add(y, S::load(residual));
                            }
                            if RECORD {
                                let passes = match ACTIVATION {
                                    0 => low_mask(S::LANES),
                                    1 => S::greater(y, min),
                                    _ => S::greater(y, min) & S::greater(max, y),
                                };
                                let place = part.record.add(bits);
                                let before = if lane == 0 { 0 } else { *place };
                                *place = before | (passes << lane) as u16;
                            }
                            y = match ACTIVATION {
                                0 => y,
                                1 => S::max(min, y),
                                _ => S::min(max, S::max(min, y)),
                            };
                            if MASK {
                                let mut keep = u32::from(part.lanes);
                                if !part.mask.is_null() {
                                    keep &= u32::from(*part.mask.add(bits));
                                }
                                y = S::keep(keep >> lane, y);
                            }
                            S::store(dst, y);
                            sums = sums.wrapping_add(blocks * BLOCK);
                            dst = dst.wrapping_add(dst_pixel);
                            residual = residual.wrapping_add(finish.residual_steps[1]);
                            bits += finish.bits_steps[1];
                        }
                    }
                }
                lane += S::LANES;
            }
        }
    }
}
