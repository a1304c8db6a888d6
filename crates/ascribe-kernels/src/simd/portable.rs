//! Portable vectors: arrays, whose operations the compiler vectorises with the instructions that the target guarantees
//! (SSE2, NEON, …).

use std::array::from_fn;
use std::marker::PhantomData;

use super::Simd;
use crate::float::Float;

/// Portable vectors of `N` lanes.
#[derive(Clone, Copy)]
pub struct P<T, const N: usize>(PhantomData<T>);

impl<T: Float, const N: usize> Simd for P<T, N> {
    type T = T;
    type V = [T; N];
    const LANES: usize = N;
    const TILE_ROWS: usize = 4;
    const ACCUMULATORS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> [T; N] {
        [T::ZERO; N]
    }
    #[inline(always)]
    unsafe fn splat(value: T) -> [T; N] {
        [value; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> [T; N] {
        // SAFETY: the caller provides N readable elements.
        from_fn(|l| unsafe { *p.add(l) })
    }
    #[inline(always)]
    unsafe fn store(p: *mut T, v: [T; N]) {
        for (l, value) in v.into_iter().enumerate() {
            // SAFETY: the caller provides N writable elements.
            unsafe { *p.add(l) = value };
        }
    }
    #[inline(always)]
    unsafe fn fma(a: [T; N], b: [T; N], c: [T; N]) -> [T; N] {
        from_fn(|l| a[l].mul_add_fast(b[l], c[l]))
    }
    #[inline(always)]
    unsafe fn add(a: [T; N], b: [T; N]) -> [T; N] {
        from_fn(|l| a[l] + b[l])
    }
    #[inline(always)]
    unsafe fn max(a: [T; N], b: [T; N]) -> [T; N] {
        from_fn(|l| if a[l] > b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    unsafe fn min(a: [T; N], b: [T; N]) -> [T; N] {
        from_fn(|l| if a[l] < b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    unsafe fn merge(v: [T; N], p: *const T, mask: u32) -> [T; N] {
        // SAFETY: only lanes of the mask are read.
        from_fn(|l| if mask >> l & 1 == 1 { unsafe { *p.wrapping_add(l) } } else { v[l] })
    }
    #[inline(always)]
    unsafe fn merge_even(v: [T; N], p: *const T, mask: u32) -> [T; N] {
        // SAFETY: only lanes of the mask are read.
        from_fn(|l| if mask >> l & 1 == 1 { unsafe { *p.wrapping_add(2 * l) } } else { v[l] })
    }
    #[inline(always)]
    unsafe fn take_larger(best: [T; N], place: [T; N], x: [T; N], at: [T; N]) -> ([T; N], [T; N]) {
        let wins: [bool; N] = from_fn(|l| x[l] > best[l] || x[l].is_nan());
        let pick = |yes: [T; N], no: [T; N]| from_fn(|l| if wins[l] { yes[l] } else { no[l] });
        (pick(x, best), pick(at, place))
    }
    #[inline(always)]
    unsafe fn greater(a: [T; N], b: [T; N]) -> u32 {
        (0..N).fold(0, |bits, l| bits | u32::from(a[l] > b[l]) << l)
    }
    #[inline(always)]
    unsafe fn keep(mask: u32, v: [T; N]) -> [T; N] {
        from_fn(|l| if mask >> l & 1 == 1 { v[l] } else { T::ZERO })
    }
    #[inline(always)]
    unsafe fn keep_equal(bytes: *const u8, byte: u8, v: [T; N]) -> [T; N] {
        // SAFETY: the caller provides N readable bytes.
        from_fn(|l| if unsafe { *bytes.add(l) } == byte { v[l] } else { T::ZERO })
    }
    #[inline(always)]
    fn prefetch(_: *const T) {}
    #[inline(always)]
    unsafe fn store_i32(p: *mut i32, v: [T; N]) {
        for (l, value) in v.into_iter().enumerate() {
            // SAFETY: the caller provides N writable elements.
            unsafe { *p.add(l) = value.to_f64() as i32 };
        }
    }
    #[inline(always)]
    unsafe fn interleave(a: [T; N], b: [T; N]) -> ([T; N], [T; N]) {
        let pick = |at: usize| if at & 1 == 0 { a[at / 2] } else { b[at / 2] };
        (from_fn(pick), from_fn(|l| pick(N + l)))
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut T, mask: u32, v: [T; N]) {
        for (l, value) in v.into_iter().enumerate() {
            if mask >> l & 1 == 1 {
                // SAFETY: only lanes of the mask are written.
                unsafe { *p.wrapping_add(l) = value };
            }
        }
    }
}
