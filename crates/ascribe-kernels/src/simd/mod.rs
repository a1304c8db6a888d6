//! Vector instructions behind one trait, [`Simd`]: AVX-512, AVX2 with FMA, NEON, and portable arrays, chosen at run
//! time.
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
    /// The instructions that the compilation target guarantees: loops over arrays, which the compiler vectorises.
    Portable,
    /// x86-64 with AVX2 and FMA, 256-bit vectors.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL, 512-bit vectors.
    Avx512,
    /// 64-bit Arm with NEON, 128-bit vectors.
    Neon,
}

/// The environment variable that names the widest instruction set that kernels may use: [`Isa::from_environment`].
const VARIABLE: &str = "ASCRIBE_ISA";

impl Isa {
    /// The best instruction set of this processor, or the one that the environment variable `ASCRIBE_ISA` names.
    ///
    /// # Panics
    /// If `ASCRIBE_ISA` does not name an instruction set of this processor. A program should call
    /// [`Isa::from_environment`] first and report the error.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| match Self::from_environment() {
            Ok(named) => named.unwrap_or_else(Self::best),
            Err(error) => panic!("{error}"),
        })
    }

    /// The instruction set that the environment variable `ASCRIBE_ISA` names: `portable`, `avx2`, `avx512` or `neon`;
    /// `None` if it is not set.
    ///
    /// It is meant for reproducing on one machine what another computes. If it is set, AMX, the processor's matrix
    /// unit, is not used.
    ///
    /// # Errors
    /// [`KernelError::Environment`] when the value is none of these names, or the processor does not have the
    /// instructions.
    pub fn from_environment() -> Result<Option<Self>> {
        env::var_os(VARIABLE).map(|name| Self::named(&name.to_string_lossy())).transpose()
    }

    /// The instruction set of this processor with this name.
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

    /// Its name as a value of `ASCRIBE_ISA`.
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

    /// This instruction set and the others that every processor with it also has, best first.
    fn and_below(self) -> &'static [Self] {
        match self {
            Self::Avx512 => &[Self::Avx512, Self::Avx2, Self::Portable],
            Self::Avx2 => &[Self::Avx2, Self::Portable],
            Self::Neon => &[Self::Neon, Self::Portable],
            Self::Portable => &[Self::Portable],
        }
    }

    /// Runs `kernel` with this instruction set, or with portable code when the processor does not have it.
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

    /// Runs the kernel. Implementations are `#[inline(always)]`, so that they are compiled with the target features of
    /// the function that they are inlined into.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and the kernel's pointers are valid for what it does with them.
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
                    // SAFETY: `Isa::run`, the only caller, has checked that the processor has the instructions.
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

/// An instruction set for `f32` as a type, for kernels whose possible sizes differ between instruction sets.
pub(crate) trait Target {
    /// Its vector type.
    type S: Simd<T = f32>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The processor has the instructions, and what the kernel itself requires is met.
    unsafe fn run<K: Kernel<f32>>(kernel: K) -> K::Output;
}

macro_rules! target {
    ($name:ident, $isa:literal, $simd:ty, $run:expr) => {
        #[doc = concat!("The [`Target`] for `Isa::", $isa, "`.")]
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

/// A kernel that returns the sizes of the vectors it is compiled for.
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
/// A lane of [`Simd::fma`] gives the same result on every instruction set with fused multiply-add, whatever the width
/// of the vector.
///
/// In a mask, bit `l` selects lane `l`. The memory of lanes that are not in the mask is neither read nor written.
pub trait Simd: Copy + 'static {
    /// The element type.
    type T: Float;
    /// The vector type.
    type V: Copy;
    /// Elements per vector, a power of two.
    const LANES: usize;
    /// Number of rows of a register tile for which this instruction set has registers.
    const TILE_ROWS: usize;
    /// Number of registers for sums, such that enough are left for the operands.
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
    /// The larger of the two; `b` where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of the two; `b` where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Loads the lanes of the mask, keeps `v` in the others.
    unsafe fn merge(v: Self::V, p: *const Self::T, mask: u32) -> Self::V;
    /// Loads lane `l` of the mask from `p[2 l]`, keeps `v` in the others.
    unsafe fn merge_even(v: Self::V, p: *const Self::T, mask: u32) -> Self::V;
    /// One step of a running maximum `best`, found at `place`: returns the candidate (`x`, `at`) where `x` is larger
    /// than `best` or NaN, and (`best`, `place`) elsewhere.
    unsafe fn take_larger(best: Self::V, place: Self::V, x: Self::V, at: Self::V) -> (Self::V, Self::V);
    /// The lanes where `a > b`, as a mask. Lanes where either is NaN are not in it.
    unsafe fn greater(a: Self::V, b: Self::V) -> u32;
    /// The lanes of the mask, zeros elsewhere.
    unsafe fn keep(mask: u32, v: Self::V) -> Self::V;
    /// The lanes `l` where `bytes[l]` is `byte`, zeros elsewhere. Reads a byte per lane.
    unsafe fn keep_equal(bytes: *const u8, byte: u8, v: Self::V) -> Self::V;
    /// Prefetches a cache line that will be read soon. The address does not have to be valid.
    fn prefetch(p: *const Self::T);
    /// Stores the lanes as integers, rounded towards zero. The values have to fit an `i32`.
    unsafe fn store_i32(p: *mut i32, v: Self::V);
    /// a₀ b₀ a₁ b₁ …, as two vectors.
    unsafe fn interleave(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Stores the lanes of the mask.
    unsafe fn store_masked(p: *mut Self::T, mask: u32, v: Self::V);

    /// Loads lane `l` of the mask from `p[stride · l]`, keeps `v` in the others.
    #[inline(always)]
    unsafe fn merge_strided(v: Self::V, p: *const Self::T, stride: usize, mask: u32) -> Self::V {
        let mut lanes = [Self::T::ZERO; MAX_LANES];
        // SAFETY: `lanes` has room for a vector; the caller guarantees the lanes of the mask.
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

    /// [`Simd::merge`], [`Simd::merge_even`] or [`Simd::merge_strided`], according to `stride`.
    #[inline(always)]
    unsafe fn merge_any(v: Self::V, p: *const Self::T, stride: usize, mask: u32) -> Self::V {
        // SAFETY: the caller guarantees the lanes of the mask.
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
        // SAFETY: `lanes` has room for a vector; the caller guarantees the lanes of the mask.
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

/// Transposes `R` rows of one vector each: the elements of the result, read in order, are column after column. `R` is a
/// power of two.
///
/// Each stage interleaves the first half of the vectors with the second half (a perfect shuffle). After log₂ R stages,
/// the elements of each column are adjacent.
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

/// Reads `count` ≤ `S::LANES` rows of `k` elements, `row` apart, and writes column after column: one vector each,
/// `step` vectors apart, with zeros in the lanes beyond `count`.
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
    // Each stage rotates the bits of the index (vector, lane) by one position. The log₂ LANES stages here, after the
    // stages of `transpose`, complete the rotation.
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
