//! The 128-bit vectors of 64-bit Arm (NEON): 32 registers. There are no masked loads and stores; part of a vector is
//! read and written lane by lane.

#[allow(clippy::wildcard_imports)] // every name is an intrinsic with a prefix of its own
use std::arch::aarch64::*;

use super::{Kernel, Simd, low_mask};

#[target_feature(enable = "neon")]
pub(super) unsafe fn run_f32<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: the caller has checked that the processor has the instructions, and guarantees the kernel's arguments.
    unsafe { kernel.run::<F32>() }
}

#[target_feature(enable = "neon")]
pub(super) unsafe fn run_f64<K: Kernel<f64>>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<F64>() }
}

/// Vectors of four `f32`.
#[derive(Clone, Copy)]
pub struct F32;
/// Vectors of two `f64`.
#[derive(Clone, Copy)]
pub struct F64;

/// A vector whose lane `l` has only bit `l` set.
#[inline(always)]
unsafe fn bits32() -> uint32x4_t {
    // SAFETY: the array is a vector.
    unsafe { vld1q_u32([1, 2, 4, 8].as_ptr()) }
}

/// As [`bits32`], for two lanes.
#[inline(always)]
unsafe fn bits64() -> uint64x2_t {
    // SAFETY: the array is a vector.
    unsafe { vld1q_u64([1, 2].as_ptr()) }
}

/// A vector with all bits set in the lanes of the mask, and none in the others.
#[inline(always)]
unsafe fn mask32(mask: u32) -> uint32x4_t {
    // SAFETY: the processor has NEON.
    unsafe { vtstq_u32(vdupq_n_u32(mask), bits32()) }
}

/// As [`mask32`], for two lanes.
#[inline(always)]
unsafe fn mask64(mask: u32) -> uint64x2_t {
    // SAFETY: the processor has NEON.
    unsafe { vtstq_u64(vdupq_n_u64(u64::from(mask)), bits64()) }
}

/// A vector with all bits set in the lanes `l` where `bytes[l]` is `byte`, and none in the others.
#[inline(always)]
unsafe fn equal32(bytes: *const u8, byte: u8) -> uint32x4_t {
    // SAFETY: the processor has NEON; the caller provides four readable bytes.
    unsafe {
        let four = bytes.cast::<u32>().read_unaligned();
        let lanes = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(u64::from(four)))));
        vceqq_u32(lanes, vdupq_n_u32(u32::from(byte)))
    }
}

/// As [`equal32`], for two lanes.
#[inline(always)]
unsafe fn equal64(bytes: *const u8, byte: u8) -> uint64x2_t {
    // SAFETY: the processor has NEON; the caller provides two readable bytes.
    unsafe {
        let lanes = [u64::from(*bytes), u64::from(*bytes.add(1))];
        vceqq_u64(vld1q_u64(lanes.as_ptr()), vdupq_n_u64(u64::from(byte)))
    }
}

/// Elements 0, 2, 4 and 6. Element 7 is not read.
#[inline(always)]
unsafe fn even32(p: *const f32) -> float32x4_t {
    // SAFETY: the processor has NEON; the caller provides seven readable elements.
    unsafe {
        let high = vld1q_f32(p.add(3));
        vuzp1q_f32(vld1q_f32(p), vextq_f32::<1>(high, high))
    }
}

/// Elements 0 and 2.
#[inline(always)]
unsafe fn even64(p: *const f64) -> float64x2_t {
    // SAFETY: the processor has NEON; the caller provides three readable elements.
    unsafe { vld1q_lane_f64::<1>(p.add(2), vld1q_dup_f64(p)) }
}

/// Stores the lanes as integers.
#[inline(always)]
unsafe fn integers32(p: *mut i32, v: float32x4_t) {
    // SAFETY: the processor has NEON; the caller provides four writable elements.
    unsafe { vst1q_s32(p, vcvtq_s32_f32(v)) }
}

/// As [`integers32`], for two lanes.
#[inline(always)]
unsafe fn integers64(p: *mut i32, v: float64x2_t) {
    // SAFETY: the processor has NEON; the caller provides two writable elements.
    unsafe { vst1_s32(p, vmovn_s64(vcvtq_s64_f64(v))) }
}

macro_rules! simd {
    ($name:ident, $t:ty, $v:ty, $lanes:literal, $dup:ident, $load:ident, $store:ident, $fma:ident, $add:ident,
     $greater:ident, $equal:ident, $select:ident, $or:ident, $and:ident, $xor:ident, $ones:expr, $to_bits:ident,
     $from_bits:ident, $sum:ident, $bits:ident, $mask:ident, $keep:ident, $even:ident, $integers:ident,
     $zip1:ident, $zip2:ident) => {
        impl Simd for $name {
            type T = $t;
            type V = $v;
            const LANES: usize = $lanes;
            const TILE_ROWS: usize = 8;
            const ACCUMULATORS: usize = 24;

            #[inline(always)]
            unsafe fn zero() -> $v {
                // SAFETY: the trait's contract: the processor has NEON.
                unsafe { $dup(0.0) }
            }
            #[inline(always)]
            unsafe fn splat(value: $t) -> $v {
                // SAFETY: as above.
                unsafe { $dup(value) }
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> $v {
                // SAFETY: as above, and the caller provides a vector of readable elements.
                unsafe { $load(p) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut $t, v: $v) {
                // SAFETY: as above, and the caller provides a vector of writable elements.
                unsafe { $store(p, v) }
            }
            #[inline(always)]
            unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                // SAFETY: the processor has NEON.
                unsafe { $fma(c, a, b) }
            }
            #[inline(always)]
            unsafe fn add(a: $v, b: $v) -> $v {
                // SAFETY: the processor has NEON.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: $v, b: $v) -> $v {
                // SAFETY: the processor has NEON. Its maximum instruction would return NaN where either operand is NaN,
                // so this compares and selects.
                unsafe { $select($greater(a, b), a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: $v, b: $v) -> $v {
                // SAFETY: as above.
                unsafe { $select($greater(b, a), a, b) }
            }
            #[inline(always)]
            unsafe fn merge(v: $v, p: *const $t, mask: u32) -> $v {
                // SAFETY: the caller guarantees the lanes of the mask.
                unsafe {
                    if mask & low_mask($lanes) == low_mask($lanes) {
                        $load(p)
                    } else {
                        Self::merge_strided(v, p, 1, mask)
                    }
                }
            }
            #[inline(always)]
            unsafe fn merge_even(v: $v, p: *const $t, mask: u32) -> $v {
                // SAFETY: the caller guarantees that the lanes of the mask are readable, and so is what lies between
                // them.
                unsafe {
                    if mask & low_mask($lanes) == low_mask($lanes) {
                        $even(p)
                    } else {
                        Self::merge_strided(v, p, 2, mask)
                    }
                }
            }
            #[inline(always)]
            unsafe fn take_larger(best: $v, place: $v, x: $v, at: $v) -> ($v, $v) {
                // SAFETY: the processor has NEON.
                unsafe {
                    let wins = $or($greater(x, best), $xor($equal(x, x), $ones));
                    ($select(wins, x, best), $select(wins, at, place))
                }
            }
            #[inline(always)]
            unsafe fn greater(a: $v, b: $v) -> u32 {
                // SAFETY: the processor has NEON.
                unsafe { $sum($and($greater(a, b), $bits())) as u32 }
            }
            #[inline(always)]
            unsafe fn keep(mask: u32, v: $v) -> $v {
                // SAFETY: the processor has NEON.
                unsafe { $from_bits($and($mask(mask), $to_bits(v))) }
            }
            #[inline(always)]
            unsafe fn keep_equal(bytes: *const u8, byte: u8, v: $v) -> $v {
                // SAFETY: the processor has NEON; the caller provides a byte per lane.
                unsafe { $from_bits($and($keep(bytes, byte), $to_bits(v))) }
            }
            #[inline(always)]
            fn prefetch(p: *const $t) {
                // SAFETY: a hint that never faults and changes nothing.
                unsafe {
                    std::arch::asm!(
                        "prfm pldl1keep, [{p}]",
                        p = in(reg) p,
                        options(readonly, nostack, preserves_flags)
                    );
                }
            }
            #[inline(always)]
            unsafe fn store_i32(p: *mut i32, v: $v) {
                // SAFETY: the caller provides a vector of writable elements.
                unsafe { $integers(p, v) }
            }
            #[inline(always)]
            unsafe fn interleave(a: $v, b: $v) -> ($v, $v) {
                // SAFETY: the processor has NEON.
                unsafe { ($zip1(a, b), $zip2(a, b)) }
            }
            #[inline(always)]
            unsafe fn store_masked(p: *mut $t, mask: u32, v: $v) {
                // SAFETY: the caller guarantees the lanes of the mask.
                unsafe {
                    if mask & low_mask($lanes) == low_mask($lanes) {
                        $store(p, v);
                    } else {
                        Self::store_strided(p, 1, mask, v);
                    }
                }
            }
        }
    };
}

simd!(
    F32,
    f32,
    float32x4_t,
    4,
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vfmaq_f32,
    vaddq_f32,
    vcgtq_f32,
    vceqq_f32,
    vbslq_f32,
    vorrq_u32,
    vandq_u32,
    veorq_u32,
    vdupq_n_u32(u32::MAX),
    vreinterpretq_u32_f32,
    vreinterpretq_f32_u32,
    vaddvq_u32,
    bits32,
    mask32,
    equal32,
    even32,
    integers32,
    vzip1q_f32,
    vzip2q_f32
);

simd!(
    F64,
    f64,
    float64x2_t,
    2,
    vdupq_n_f64,
    vld1q_f64,
    vst1q_f64,
    vfmaq_f64,
    vaddq_f64,
    vcgtq_f64,
    vceqq_f64,
    vbslq_f64,
    vorrq_u64,
    vandq_u64,
    veorq_u64,
    vdupq_n_u64(u64::MAX),
    vreinterpretq_u64_f64,
    vreinterpretq_f64_u64,
    vaddvq_u64,
    bits64,
    mask64,
    equal64,
    even64,
    integers64,
    vzip1q_f64,
    vzip2q_f64
);
