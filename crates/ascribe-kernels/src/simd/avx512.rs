//! 512-bit vectors of AVX-512: 32 registers, and loads and stores with masks.

#[allow(clippy::wildcard_imports)] // every name is an intrinsic with a prefix of its own
use std::arch::x86_64::*;

use super::{Kernel, Simd};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
pub(super) unsafe fn run_f32<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: the caller has checked that the processor has the instructions, and guarantees the kernel's arguments.
    unsafe { kernel.run::<F32>() }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
pub(super) unsafe fn run_f64<K: Kernel<f64>>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<F64>() }
}

/// Vectors of sixteen `f32`.
#[derive(Clone, Copy)]
pub struct F32;
/// Vectors of eight `f64`.
#[derive(Clone, Copy)]
pub struct F64;

/// Moves bit `l` of the mask to bit `2 l`.
#[inline(always)]
fn spread(mask: u32) -> u32 {
    let mut m = mask & 0xffff;
    m = (m | m << 8) & 0x00ff_00ff;
    m = (m | m << 4) & 0x0f0f_0f0f;
    m = (m | m << 2) & 0x3333_3333;
    (m | m << 1) & 0x5555_5555
}

#[inline(always)]
unsafe fn scatter32(p: *mut f32, stride: usize, mask: __mmask16, v: __m512) {
    // SAFETY: as [`Simd::store_strided`]. Offsets are 32 bits; strides for which they could overflow are handled by a
    // scalar loop.
    unsafe {
        if stride < 1 << 27 {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let index = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32));
            _mm512_mask_i32scatter_ps::<4>(p, mask, index, v);
        } else {
            let mut all = [0.0; 16];
            _mm512_storeu_ps(all.as_mut_ptr(), v);
            for (lane, value) in all.into_iter().enumerate().filter(|(lane, _)| mask >> lane & 1 == 1) {
                *p.wrapping_add(stride * lane) = value;
            }
        }
    }
}

#[inline(always)]
unsafe fn scatter64(p: *mut f64, stride: usize, mask: __mmask8, v: __m512d) {
    // SAFETY: as [`Simd::store_strided`]; 64-bit indices cannot overflow within a slice.
    unsafe {
        let lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
        let index = _mm512_mullo_epi64(lanes, _mm512_set1_epi64(stride as i64));
        _mm512_mask_i64scatter_pd::<8>(p, mask, index, v);
    }
}

/// The lanes `l` where `bytes[l]` is `byte`, as a mask.
#[inline(always)]
unsafe fn equal32(bytes: *const u8, byte: u8) -> __mmask16 {
    // SAFETY: the processor has AVX-512 BW and VL; the caller provides sixteen readable bytes.
    unsafe { _mm_cmpeq_epi8_mask(_mm_loadu_si128(bytes.cast()), _mm_set1_epi8(byte as i8)) }
}

/// As [`equal32`], for eight lanes.
#[inline(always)]
unsafe fn equal64(bytes: *const u8, byte: u8) -> __mmask8 {
    // SAFETY: as above, with eight readable bytes.
    unsafe { _mm_cmpeq_epi8_mask(_mm_loadl_epi64(bytes.cast()), _mm_set1_epi8(byte as i8)) as __mmask8 }
}

macro_rules! simd {
    ($name:ident, $t:ty, $v:ty, $m:ty, $lanes:expr, $equal:ident, $even:expr, $low:expr, $high:expr, $zero:ident, $set1:ident, $loadu:ident, $storeu:ident,
     $fmadd:ident, $add:ident, $max:ident, $min:ident, $mask_load:ident, $maskz_load:ident, $mask_store:ident,
     $blend:ident, $permute:ident, $scatter:ident, $cmp:ident, $convert:ident, $store_int:ident) => {
        impl Simd for $name {
            type T = $t;
            type V = $v;
            const LANES: usize = $lanes;
            const TILE_ROWS: usize = 8;
            const ACCUMULATORS: usize = 28;

            #[inline(always)]
            unsafe fn zero() -> $v {
                // SAFETY: the trait's contract: the processor has AVX-512.
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
                // SAFETY: the processor has AVX-512.
                unsafe { $fmadd(a, b, c) }
            }
            #[inline(always)]
            unsafe fn add(a: $v, b: $v) -> $v {
                // SAFETY: the processor has AVX-512.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: $v, b: $v) -> $v {
                // SAFETY: the processor has AVX-512.
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: $v, b: $v) -> $v {
                // SAFETY: the processor has AVX-512.
                unsafe { $min(a, b) }
            }
            #[inline(always)]
            unsafe fn merge(v: $v, p: *const $t, mask: u32) -> $v {
                // SAFETY: lanes outside the mask are not read; the caller guarantees the others.
                unsafe { $mask_load(v, mask as $m, p) }
            }
            #[inline(always)]
            unsafe fn merge_even(v: $v, p: *const $t, mask: u32) -> $v {
                // SAFETY: only the even elements that the mask selects are read.
                unsafe {
                    let wide = spread(mask);
                    let low = $maskz_load(wide as $m, p);
                    let high = $maskz_load((wide >> $lanes) as $m, p.wrapping_add($lanes));
                    let even = $permute(low, $even, high);
                    $blend(mask as $m, v, even)
                }
            }
            #[inline(always)]
            unsafe fn take_larger(best: $v, place: $v, x: $v, at: $v) -> ($v, $v) {
                // SAFETY: the processor has AVX-512.
                unsafe {
                    let wins = $cmp::<_CMP_GT_OQ>(x, best) | $cmp::<_CMP_UNORD_Q>(x, x);
                    ($blend(wins, best, x), $blend(wins, place, at))
                }
            }
            #[inline(always)]
            unsafe fn greater(a: $v, b: $v) -> u32 {
                // SAFETY: the processor has AVX-512.
                u32::from(unsafe { $cmp::<_CMP_GT_OQ>(a, b) })
            }
            #[inline(always)]
            unsafe fn keep(mask: u32, v: $v) -> $v {
                // SAFETY: the processor has AVX-512.
                unsafe { $blend(mask as $m, $zero(), v) }
            }
            #[inline(always)]
            unsafe fn keep_equal(bytes: *const u8, byte: u8, v: $v) -> $v {
                // SAFETY: the processor has AVX-512; the caller provides a byte per lane.
                unsafe { $blend($equal(bytes, byte), $zero(), v) }
            }
            #[inline(always)]
            fn prefetch(p: *const $t) {
                // SAFETY: part of every x86-64; a hint that never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
            }
            #[inline(always)]
            unsafe fn store_i32(p: *mut i32, v: $v) {
                // SAFETY: the processor has AVX-512; the caller provides a vector of writable elements.
                unsafe { $store_int(p.cast(), $convert(v)) }
            }
            #[inline(always)]
            unsafe fn interleave(a: $v, b: $v) -> ($v, $v) {
                // SAFETY: the processor has AVX-512.
                unsafe { ($permute(a, $low, b), $permute(a, $high, b)) }
            }
            #[inline(always)]
            unsafe fn store_strided(p: *mut $t, stride: usize, mask: u32, v: $v) {
                // SAFETY: lanes outside the mask are not written; the caller guarantees the others.
                unsafe { $scatter(p, stride, mask as $m, v) }
            }
            #[inline(always)]
            unsafe fn store_masked(p: *mut $t, mask: u32, v: $v) {
                // SAFETY: lanes outside the mask are not written; the caller guarantees the others.
                unsafe { $mask_store(p, mask as $m, v) }
            }
        }
    };
}

simd!(
    F32,
    f32,
    __m512,
    __mmask16,
    16,
    equal32,
    _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
    _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
    _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31),
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_min_ps,
    _mm512_mask_loadu_ps,
    _mm512_maskz_loadu_ps,
    _mm512_mask_storeu_ps,
    _mm512_mask_blend_ps,
    _mm512_permutex2var_ps,
    scatter32,
    _mm512_cmp_ps_mask,
    _mm512_cvttps_epi32,
    _mm512_storeu_si512
);

simd!(
    F64,
    f64,
    __m512d,
    __mmask8,
    8,
    equal64,
    _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14),
    _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
    _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15),
    _mm512_setzero_pd,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_add_pd,
    _mm512_max_pd,
    _mm512_min_pd,
    _mm512_mask_loadu_pd,
    _mm512_maskz_loadu_pd,
    _mm512_mask_storeu_pd,
    _mm512_mask_blend_pd,
    _mm512_permutex2var_pd,
    scatter64,
    _mm512_cmp_pd_mask,
    _mm512_cvttpd_epi32,
    _mm256_storeu_si256
);
