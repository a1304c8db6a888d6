//! Intel's Advanced Matrix Extensions (AMX).
//!
//! Stable Rust has no intrinsics for them, so their instructions are written as inline assembly, only in this file.
//! Tile registers 0 to 3 hold the sums for (row tile, column tile), 4 and 5 a part of the left operand, 6 and 7 a part
//! of the right one. The compiler never uses tile registers itself. It keeps the assembly blocks in order, since none
//! is marked `pure`.

use std::arch::asm;

use super::{Operands, ROWS, TILE};

/// The tile configuration: palette 1, and eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Config(bytes)
};

/// Configures the tile registers of this thread.
///
/// # Safety
/// The processor has AMX and the process may use it.
pub(super) unsafe fn configure() {
    // SAFETY: the caller's contract; nothing else in this crate uses tiles.
    unsafe {
        asm!("ldtilecfg [{0}]", in(reg) CONFIG.0.as_ptr(), options(nostack, preserves_flags, readonly));
    }
}

/// Resets the tile registers of this thread, so that the operating system no longer has to save them.
///
/// # Safety
/// As [`configure`].
pub(super) unsafe fn release() {
    // SAFETY: as above.
    unsafe {
        asm!("tilerelease", options(nostack, preserves_flags, nomem));
    }
}

macro_rules! load {
    ($tile:literal, $at:expr) => {
        asm!(concat!("tileloadd ", $tile, ", [{0} + {1}]"), in(reg) $at, in(reg) TILE / ROWS * size_of::<u16>(),
            options(nostack, preserves_flags, readonly))
    };
}

macro_rules! store {
    ($tile:literal, $at:expr) => {
        asm!(concat!("tilestored [{0} + {1}], ", $tile), in(reg) $at, in(reg) ROWS * size_of::<f32>(),
            options(nostack, preserves_flags))
    };
}

macro_rules! multiply {
    ($sum:literal, $left:literal, $right:literal) => {
        asm!(concat!("tdpbf16ps ", $sum, ", ", $left, ", ", $right), options(nostack, preserves_flags, nomem))
    };
}

/// Loads a part of the left operand (`R` tiles) and multiplies it by the part of the right operand that is already
/// loaded.
#[inline(always)]
unsafe fn left<const R: usize, const C: usize>(at: *const u16) {
    // SAFETY: the contract of [`product`].
    unsafe {
        load!("tmm4", at);
        multiply!("tmm0", "tmm4", "tmm6");
        if C == 2 {
            multiply!("tmm1", "tmm4", "tmm7");
        }
        if R == 2 {
            load!("tmm5", at.wrapping_add(TILE));
            multiply!("tmm2", "tmm5", "tmm6");
            if C == 2 {
                multiply!("tmm3", "tmm5", "tmm7");
            }
        }
    }
}

/// Loads a part of the right operand (`C` tiles) and multiplies the part of the left operand that is already loaded by
/// it.
#[inline(always)]
unsafe fn right<const R: usize, const C: usize>(at: *const u16) {
    // SAFETY: the contract of [`product`].
    unsafe {
        load!("tmm6", at);
        multiply!("tmm0", "tmm4", "tmm6");
        if R == 2 {
            multiply!("tmm2", "tmm5", "tmm6");
        }
        if C == 2 {
            load!("tmm7", at.wrapping_add(TILE));
            multiply!("tmm1", "tmm4", "tmm7");
            if R == 2 {
                multiply!("tmm3", "tmm5", "tmm7");
            }
        }
    }
}

/// Loads a part of both operands and multiplies them.
#[inline(always)]
unsafe fn both<const R: usize, const C: usize>(of_left: *const u16, of_right: *const u16) {
    // SAFETY: the contract of [`product`].
    unsafe {
        load!("tmm6", of_right);
        if C == 2 {
            load!("tmm7", of_right.wrapping_add(TILE));
        }
        left::<R, C>(of_left);
    }
}

/// [`super::product`] for numbers that are split into `P` parts.
///
/// # Safety
/// As [`super::product`].
pub(super) unsafe fn sized<const P: usize>(
    rows: usize,
    columns: usize,
    operands: &Operands<'_>,
    meanwhile: &mut impl FnMut(),
) {
    // SAFETY: the caller's contract.
    unsafe {
        match (rows, columns) {
            (1, 1) => product::<1, 1, P>(operands, meanwhile),
            (1, _) => product::<1, 2, P>(operands, meanwhile),
            (_, 1) => product::<2, 1, P>(operands, meanwhile),
            _ => product::<2, 2, P>(operands, meanwhile),
        }
    }
}

/// [`super::product`] for `R` row tiles, `C` column tiles and `P` parts.
///
/// # Safety
/// As [`super::product`].
#[inline(always)]
unsafe fn product<const R: usize, const C: usize, const P: usize>(
    operands: &Operands<'_>,
    meanwhile: &mut impl FnMut(),
) {
    let of_left = |offset: usize, part: usize| operands.left.wrapping_add(offset + part * operands.part);
    let of_right = |step: usize, part: usize| operands.right.wrapping_add((step * P + part) * C * TILE);
    // SAFETY: the caller's contract: tile registers are configured, and the pointers are valid. The products are in the
    // order of `Split::passes`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            options(nostack, preserves_flags, nomem)
        );
        for (step, &offset) in operands.offsets.iter().enumerate() {
            both::<R, C>(of_left(offset, 0), of_right(step, P - 1));
            if P == 3 {
                right::<R, C>(of_right(step, 1));
                left::<R, C>(of_left(offset, 1));
                right::<R, C>(of_right(step, 0));
                left::<R, C>(of_left(offset, 2));
            } else {
                right::<R, C>(of_right(step, 0));
                left::<R, C>(of_left(offset, 1));
            }
            meanwhile();
        }
        if P == 3 {
            for (step, &offset) in operands.offsets.iter().enumerate() {
                both::<R, C>(of_left(offset, 0), of_right(step, 0));
            }
        }
        let out = |tile: usize| operands.out.wrapping_add(tile * ROWS * ROWS);
        store!("tmm0", out(0));
        if R == 2 {
            store!("tmm2", out(1));
        }
        if C == 2 {
            store!("tmm1", out(2));
        }
        if R == 2 && C == 2 {
            store!("tmm3", out(3));
        }
    }
}
