//! Vectors behind one trait: AVX-512, AVX2 with FMA, NEON, and portable arrays, chosen at run time.
//!
//! A kernel is a struct with its arguments that implements [`Kernel`]; its `run` is generic over
//! [`Simd`] and inlined into one function per instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::env;
use std::sync::OnceLock;

use crate::error::{KernelError, Result};
use crate::float::Float;

/// Instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Whatever the compilation target guarantees, through auto-vectorised arrays.
    Portable,
    /// x86-64 with AVX2 and FMA, 256-bit vectors.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL, 512-bit vectors.
    Avx512,
    /// 64-bit Arm with NEON, 128-bit vectors.
    Neon,
}

/// Names the widest instruction set that kernels may use: [`Isa::from_environment`].
const VARIABLE: &str = "ASCRIBE_ISA";

impl Isa {
    /// The best instruction set of this processor, or the one that the environment variable `ASCRIBE_ISA` names.
    ///
    /// # Panics
    /// If `ASCRIBE_ISA` names none of this processor's: a program asks [`Isa::from_environment`] first.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| match Self::from_environment() {
            Ok(named) => named.unwrap_or_else(Self::best),
            Err(error) => panic!("{error}"),
        })
    }

    /// What the environment variable `ASCRIBE_ISA` names: `portable`, `avx2`, `avx512` or `neon`.
    ///
    /// It serves to see on one machine what another would compute. With it, the matrix unit is not used.
    ///
    /// # Errors
    /// [`KernelError::Environment`] when it is none of these, or one that this processor does not have.
    pub fn from_environment() -> Result<Option<Self>> {
        env::var_os(VARIABLE).map(|name| Self::named(&name.to_string_lossy())).transpose()
    }

    fn named(name: &str) -> Result<Self> {
        Self::best().and_below().iter().copied().find(|isa| isa.id() == name).ok_or_else(|| {
            let known: Vec<_> = Self::best().and_below().iter().map(|isa| isa.id()).collect();
            KernelError::Environment {
                variable: VARIABLE,
                value: name.to_owned(),
                expected: format!("an instruction set of this processor: {}", known.join(", ")),
            }
        })
    }

    /// The name in `ASCRIBE_ISA`.
    fn id(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// The best instruction set of this processor.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if fma {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::Neon;
        }
        Self::Portable
    }

    /// The instruction sets that kernels may use on this processor, best first.
    pub fn available() -> &'static [Self] {
        Self::detect().and_below()
    }

    /// This instruction set and those that every processor with it has, best first.
    fn and_below(self) -> &'static [Self] {
        match self {
            Self::Avx512 => &[Self::Avx512, Self::Avx2, Self::Portable],
            Self::Avx2 => &[Self::Avx2, Self::Portable],
            Self::Neon => &[Self::Neon, Self::Portable],
            Self::Portable => &[Self::Portable],
        }
    }

    /// Runs `kernel`; falls back to portable code when this processor lacks the instruction set.
    pub(crate) fn run<T: IsaTypes, K: Kernel<T>>(self, kernel: K) -> K::Output {
        T::run(if Self::available().contains(&self) { self } else { Self::Portable }, kernel)
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2+FMA",
            Self::Avx512 => "AVX-512",
            Self::Neon => "NEON",
        })
    }
}

/// Code that is compiled once per instruction set.
pub trait Kernel<T> {
    /// What the kernel returns.
    type Output;

    /// The kernel. Implementations are `#[inline(always)]`, so that they take over the target features
    /// of the function they are inlined into.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and whatever the kernel's pointers need.
    unsafe fn run<S: Simd<T = T>>(self) -> Self::Output;
}

/// Connects an element type with its vector types.
pub trait IsaTypes: Sized {
    /// Runs `kernel` with an instruction set that the caller has verified.
    fn run<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;
}

macro_rules! isa_types {
    ($t:ty, $avx512:path, $avx2:path, $neon:path, $portable:ty) => {
        impl IsaTypes for $t {
            fn run<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output {
                match isa {
                    // SAFETY: `Isa::run`, the only caller, has checked that the processor has them.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => unsafe { $avx512(kernel) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => unsafe { $avx2(kernel) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => unsafe { $neon(kernel) },
                    // SAFETY: portable code has no requirements beyond the kernel's own.
                    _ => unsafe { kernel.run::<$portable>() },
                }
            }
        }
    };
}

isa_types!(f32, avx512::run_f32, avx2::run_f32, neon::run_f32, portable::P<f32, 4>);
isa_types!(f64, avx512::run_f64, avx2::run_f64, neon::run_f64, portable::P<f64, 2>);

/// An instruction set for `f32` as a type, for kernels that exist in some sizes on one and in others on another.
pub(crate) trait Target {
    /// Its vectors.
    type S: Simd<T = f32>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The processor has the instructions; whatever the kernel needs.
    unsafe fn run<K: Kernel<f32>>(kernel: K) -> K::Output;
}

macro_rules! target {
    ($name:ident, $isa:literal, $simd:ty, $run:expr) => {
        #[doc = concat!("[`Target`] of `Isa::", $isa, "`.")]
        pub(crate) struct $name;

        impl Target for $name {
            type S = $simd;

            #[inline(always)]
            unsafe fn run<K: Kernel<f32>>(kernel: K) -> K::Output {
                // SAFETY: the caller's contract.
                unsafe { $run(kernel) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
target!(OnAvx512, "Avx512", avx512::F32, avx512::run_f32);
#[cfg(target_arch = "x86_64")]
target!(OnAvx2, "Avx2", avx2::F32, avx2::run_f32);
#[cfg(target_arch = "aarch64")]
target!(OnNeon, "Neon", neon::F32, neon::run_f32);
target!(OnPortable, "Portable", portable::P<f32, 4>, run_portable);

#[inline(never)]
unsafe fn run_portable<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: the caller's contract.
    unsafe { kernel.run::<portable::P<f32, 4>>() }
}

/// Sizes of an instruction set's vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// [`Simd::TILE_ROWS`]
    pub(crate) tile_rows: usize,
    /// [`Simd::LANES`]
    pub(crate) lanes: usize,
}

impl Geometry {
    /// The sizes for elements `T`.
    pub(crate) fn of<T: Float>(isa: Isa) -> Self {
        T::dispatch(isa, Measure)
    }
}

struct Measure;

impl<T> Kernel<T> for Measure {
    type Output = Geometry;

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> Geometry {
        Geometry { tile_rows: S::TILE_ROWS, lanes: S::LANES }
    }
}

/// Number of vectors side by side in the widest register tile, the same for all instruction sets.
pub(crate) const TILE_VECTORS: usize = 3;
/// Upper bound of [`Simd::LANES`].
pub(crate) const MAX_LANES: usize = 16;

/// A vector type and its operations.
///
/// Every lane of [`Simd::fma`] does the same operations on every instruction set with fused
/// multiply-add, so that a result does not depend on the width of the vector.
///
/// Bit `l` of a mask stands for lane `l`; memory of lanes outside the mask is not touched.
pub trait Simd: Copy + 'static {
    /// Element.
    type T: Float;
    /// Vector.
    type V: Copy;
    /// Elements per vector, a power of two.
    const LANES: usize;
    /// Rows of a register tile that this instruction set has registers for.
    const TILE_ROWS: usize;
    /// Vectors that can be accumulated at a time, with registers left for the operands.
    const ACCUMULATORS: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self::V;
    /// All lanes `value`.
    unsafe fn splat(value: Self::T) -> Self::V;
    /// Unaligned load.
    unsafe fn load(p: *const Self::T) -> Self::V;
    /// Unaligned store.
    unsafe fn store(p: *mut Self::T, v: Self::V);
    /// `a · b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// Larger of the two; `b` where either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// Smaller of the two; `b` where either is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Loads the lanes of the mask, keeps `v` in the others.
    unsafe fn merge(v: Self::V, p: *const Self::T, mask: u32) -> Self::V;
    /// Loads lane `l` of the mask from `p[2 l]`, keeps `v` in the others.
    unsafe fn merge_even(v: Self::V, p: *const Self::T, mask: u32) -> Self::V;
    /// One step of a running maximum, (`best`, `place`), with the candidate (`x`, `at`): the candidate wins
    /// where it is larger or not a number.
    unsafe fn take_larger(best: Self::V, place: Self::V, x: Self::V, at: Self::V) -> (Self::V, Self::V);
    /// The lanes where `a > b`, as a mask; not those where either is not a number.
    unsafe fn greater(a: Self::V, b: Self::V) -> u32;
    /// The lanes of the mask, zeros elsewhere.
    unsafe fn keep(mask: u32, v: Self::V) -> Self::V;
    /// The lanes `l` where `bytes[l]` is `byte`, zeros elsewhere. Reads a byte per lane.
    unsafe fn keep_equal(bytes: *const u8, byte: u8, v: Self::V) -> Self::V;
    /// Asks for a cache line that will be read soon. Any address will do.
    fn prefetch(p: *const Self::T);
    /// Stores the lanes, rounded towards zero, as integers. They have to fit.
    unsafe fn store_i32(p: *mut i32, v: Self::V);
    /// a₀ b₀ a₁ b₁ …, as two vectors.
    unsafe fn interleave(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Stores the lanes of the mask.
    unsafe fn store_masked(p: *mut Self::T, mask: u32, v: Self::V);

    /// Loads lane `l` of the mask from `p[stride · l]`, keeps `v` in the others.
    #[inline(always)]
    unsafe fn merge_strided(v: Self::V, p: *const Self::T, stride: usize, mask: u32) -> Self::V {
        let mut lanes = [Self::T::ZERO; MAX_LANES];
        // SAFETY: `lanes` holds a vector; the caller vouches for the lanes of the mask.
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            for (lane, value) in lanes.iter_mut().enumerate().take(Self::LANES) {
                if mask >> lane & 1 == 1 {
                    *value = *p.wrapping_add(stride * lane);
                }
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// [`Simd::merge`], [`Simd::merge_even`] or [`Simd::merge_strided`], whichever `stride` asks for.
    #[inline(always)]
    unsafe fn merge_any(v: Self::V, p: *const Self::T, stride: usize, mask: u32) -> Self::V {
        // SAFETY: the caller vouches for the lanes of the mask.
        unsafe {
            match stride {
                1 => Self::merge(v, p, mask),
                2 => Self::merge_even(v, p, mask),
                _ => Self::merge_strided(v, p, stride, mask),
            }
        }
    }

    /// Stores lane `l` of the mask to `p[stride · l]`.
    #[inline(always)]
    unsafe fn store_strided(p: *mut Self::T, stride: usize, mask: u32, v: Self::V) {
        let mut lanes = [Self::T::ZERO; MAX_LANES];
        // SAFETY: `lanes` holds a vector; the caller vouches for the lanes of the mask.
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            for (lane, value) in lanes.iter().enumerate().take(Self::LANES) {
                if mask >> lane & 1 == 1 {
                    *p.wrapping_add(stride * lane) = *value;
                }
            }
        }
    }
}

/// Transposes `R` rows of a vector each: the result, read in order, is column after column. `R` is a power of
/// two.
///
/// Every stage interleaves the first half of the vectors with the second, a perfect shuffle; after log₂ R of
/// them each column is together.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd, const R: usize>(mut rows: [S::V; R]) -> [S::V; R] {
    let mut stage = 1;
    while stage < R {
        let from = rows;
        for i in 0..R / 2 {
            // SAFETY: the caller's contract.
            (rows[2 * i], rows[2 * i + 1]) = unsafe { S::interleave(from[i], from[i + R / 2]) };
        }
        stage *= 2;
    }
    rows
}

/// Reads `count` ≤ `S::LANES` rows of `k` elements, `row` apart, and writes column after column: one vector each, `step`
/// vectors apart, with zeros in the lanes beyond `count`.
///
/// # Safety
/// The processor has the instructions of `S`; the rows are readable, and `out` has room.
#[inline(always)]
pub(crate) unsafe fn columns<S: Simd>(
    row: usize,
    from: *const S::T,
    count: usize,
    k: usize,
    out: *mut S::T,
    step: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match S::LANES {
            16 => columns_of::<S, 16>(row, from, count, k, out, step),
            8 => columns_of::<S, 8>(row, from, count, k, out, step),
            4 => columns_of::<S, 4>(row, from, count, k, out, step),
            _ => columns_of::<S, 2>(row, from, count, k, out, step),
        }
    }
}

/// [`columns`] for `L` = `S::LANES`.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn columns_of<S: Simd, const L: usize>(
    row: usize,
    from: *const S::T,
    count: usize,
    k: usize,
    out: *mut S::T,
    step: usize,
) {
    // SAFETY: the caller's contract; masks keep reads within k.
    unsafe {
        for start in (0..k).step_by(L) {
            let mask = low_mask(L.min(k - start));
            let mut lanes = [S::zero(); L];
            for (l, lane) in lanes.iter_mut().enumerate() {
                if l < count {
                    *lane = S::merge(S::zero(), from.wrapping_add(l * row + start), mask);
                }
            }
            for (i, column) in transpose::<S, L>(lanes).into_iter().enumerate() {
                if start + i < k {
                    S::store(out.add((start + i) * step * S::LANES), column);
                }
            }
        }
    }
}

/// Undoes [`transpose`]: 16 vectors that hold column after column of 16 elements become 16 rows.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(crate) unsafe fn transpose_back<S: Simd>(mut columns: [S::V; 16]) -> [S::V; 16] {
    // Each stage rotates the bits of (vector, lane) by one; log₂ LANES more bring them round.
    let mut stage = 1;
    while stage < S::LANES {
        let from = columns;
        for i in 0..8 {
            // SAFETY: the caller's contract.
            (columns[2 * i], columns[2 * i + 1]) = unsafe { S::interleave(from[i], from[i + 8]) };
        }
        stage *= 2;
    }
    columns
}

/// The mask with the lowest `count` bits set.
#[inline(always)]
pub(crate) const fn low_mask(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_this_processor_have_names() {
        for &isa in Isa::best().and_below() {
            assert_eq!(Isa::named(isa.id()), Ok(isa));
        }
        let error = Isa::named("sse").unwrap_err().to_string();
        assert!(error.contains("ASCRIBE_ISA is 'sse'") && error.contains("portable"), "{error}");
    }
}
