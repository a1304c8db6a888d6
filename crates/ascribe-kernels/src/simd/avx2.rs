//! 256-bit vectors of AVX2 with fused multiply-add: 16 registers. Masks are vectors.

#[allow(clippy::wildcard_imports)] // every name is an intrinsic with a prefix of its own
use std::arch::x86_64::*;

use super::{Kernel, Simd};

#[target_feature(enable = "avx2,fma,bmi1,bmi2")]
pub(super) unsafe fn run_f32<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: the caller has checked that the processor has the instructions, and guarantees the kernel's arguments.
    unsafe { kernel.run::<F32>() }
}

#[target_feature(enable = "avx2,fma,bmi1,bmi2")]
pub(super) unsafe fn run_f64<K: Kernel<f64>>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<F64>() }
}

/// Vectors of eight `f32`.
#[derive(Clone, Copy)]
pub struct F32;
/// Vectors of four `f64`.
#[derive(Clone, Copy)]
pub struct F64;

/// The mask as a vector: the sign bit of lane `l` is bit `l` of the mask.
#[inline(always)]
unsafe fn mask32(mask: u32) -> __m256i {
    // SAFETY: the processor has AVX2.
    unsafe {
        let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask as i32), bits), bits)
    }
}

/// As [`mask32`], for four lanes.
#[inline(always)]
unsafe fn mask64(mask: u32) -> __m256i {
    // SAFETY: the processor has AVX2.
    unsafe {
        let bits = _mm256_setr_epi64x(1, 2, 4, 8);
        _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(i64::from(mask)), bits), bits)
    }
}

/// A vector with all bits set in the lanes `l` where `bytes[l]` is `byte`, and none in the others.
#[inline(always)]
unsafe fn equal32(bytes: *const u8, byte: u8) -> __m256i {
    // SAFETY: the processor has AVX2; the caller provides eight readable bytes.
    unsafe {
        let lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.cast()));
        _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(i32::from(byte)))
    }
}

/// As [`equal32`], for four lanes.
#[inline(always)]
unsafe fn equal64(bytes: *const u8, byte: u8) -> __m256i {
    // SAFETY: the processor has AVX2; the caller provides four readable bytes.
    unsafe {
        let lanes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(bytes.cast::<i32>().read_unaligned()));
        _mm256_cmpeq_epi64(lanes, _mm256_set1_epi64x(i64::from(byte)))
    }
}

macro_rules! simd {
    ($name:ident, $t:ty, $v:ty, $lanes:expr, $mask:ident, $equal:ident, $cast:ident, $zero:ident, $set1:ident, $loadu:ident,
     $storeu:ident, $fmadd:ident, $add:ident, $max:ident, $min:ident, $maskload:ident, $maskstore:ident,
     $blend:ident, $unpacklo:ident, $unpackhi:ident, $halves:ident, $cmp:ident, $or:ident, $and:ident, $movemask:ident, $convert:ident, $store_int:ident) => {
        impl Simd for $name {
            type T = $t;
            type V = $v;
            const LANES: usize = $lanes;
            const TILE_ROWS: usize = 4;
            const ACCUMULATORS: usize = 12;

            #[inline(always)]
            unsafe fn zero() -> $v {
                // SAFETY: the trait's contract: the processor has AVX2.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn splat(value: $t) -> $v {
                // SAFETY: as above.
                unsafe { $set1(value) }
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> $v {
                // SAFETY: as above, and the caller provides a vector of readable elements.
                unsafe { $loadu(p) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut $t, v: $v) {
                // SAFETY: as above, and the caller provides a vector of writable elements.
                unsafe { $storeu(p, v) }
            }
            #[inline(always)]
            unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                // SAFETY: the processor has FMA.
                unsafe { $fmadd(a, b, c) }
            }
            #[inline(always)]
            unsafe fn add(a: $v, b: $v) -> $v {
                // SAFETY: the processor has AVX2.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: $v, b: $v) -> $v {
                // SAFETY: the processor has AVX2.
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: $v, b: $v) -> $v {
                // SAFETY: the processor has AVX2.
                unsafe { $min(a, b) }
            }
            #[inline(always)]
            unsafe fn merge(v: $v, p: *const $t, mask: u32) -> $v {
                // SAFETY: lanes outside the mask are not read; the caller guarantees the others.
                unsafe {
                    let mask = $mask(mask);
                    $blend(v, $maskload(p, mask), $cast(mask))
                }
            }
            #[inline(always)]
            unsafe fn merge_even(v: $v, p: *const $t, mask: u32) -> $v {
                // SAFETY: the caller guarantees the lanes of the mask.
                unsafe { Self::merge_strided(v, p, 2, mask) }
            }
            #[inline(always)]
            unsafe fn take_larger(best: $v, place: $v, x: $v, at: $v) -> ($v, $v) {
                // SAFETY: the processor has AVX2.
                unsafe {
                    let wins = $or($cmp::<_CMP_GT_OQ>(x, best), $cmp::<_CMP_UNORD_Q>(x, x));
                    ($blend(best, x, wins), $blend(place, at, wins))
                }
            }
            #[inline(always)]
            unsafe fn greater(a: $v, b: $v) -> u32 {
                // SAFETY: the processor has AVX2.
                unsafe { $movemask($cmp::<_CMP_GT_OQ>(a, b)) as u32 }
            }
            #[inline(always)]
            unsafe fn keep(mask: u32, v: $v) -> $v {
                // SAFETY: the processor has AVX2.
                unsafe { $and($cast($mask(mask)), v) }
            }
            #[inline(always)]
            unsafe fn keep_equal(bytes: *const u8, byte: u8, v: $v) -> $v {
                // SAFETY: the processor has AVX2; the caller provides a byte per lane.
                unsafe { $and($cast($equal(bytes, byte)), v) }
            }
            #[inline(always)]
            fn prefetch(p: *const $t) {
                // SAFETY: part of every x86-64; a hint that never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
            }
            #[inline(always)]
            unsafe fn store_i32(p: *mut i32, v: $v) {
                // SAFETY: the processor has AVX2; the caller provides a vector of writable elements.
                unsafe { $store_int(p.cast(), $convert(v)) }
            }
            #[inline(always)]
            unsafe fn interleave(a: $v, b: $v) -> ($v, $v) {
                // SAFETY: the processor has AVX2. The unpack instructions work within 128-bit halves of the vectors.
                unsafe {
                    let (low, high) = ($unpacklo(a, b), $unpackhi(a, b));
                    ($halves::<0x20>(low, high), $halves::<0x31>(low, high))
                }
            }
            #[inline(always)]
            unsafe fn store_masked(p: *mut $t, mask: u32, v: $v) {
                // SAFETY: lanes outside the mask are not written; the caller guarantees the others.
                unsafe { $maskstore(p, $mask(mask), v) }
            }
        }
    };
}

simd!(
    F32,
    f32,
    __m256,
    8,
    mask32,
    equal32,
    _mm256_castsi256_ps,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_min_ps,
    _mm256_maskload_ps,
    _mm256_maskstore_ps,
    _mm256_blendv_ps,
    _mm256_unpacklo_ps,
    _mm256_unpackhi_ps,
    _mm256_permute2f128_ps,
    _mm256_cmp_ps,
    _mm256_or_ps,
    _mm256_and_ps,
    _mm256_movemask_ps,
    _mm256_cvttps_epi32,
    _mm256_storeu_si256
);

simd!(
    F64,
    f64,
    __m256d,
    4,
    mask64,
    equal64,
    _mm256_castsi256_pd,
    _mm256_setzero_pd,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_fmadd_pd,
    _mm256_add_pd,
    _mm256_max_pd,
    _mm256_min_pd,
    _mm256_maskload_pd,
    _mm256_maskstore_pd,
    _mm256_blendv_pd,
    _mm256_unpacklo_pd,
    _mm256_unpackhi_pd,
    _mm256_permute2f128_pd,
    _mm256_cmp_pd,
    _mm256_or_pd,
    _mm256_and_pd,
    _mm256_movemask_pd,
    _mm256_cvttpd_epi32,
    _mm_storeu_si128
);
