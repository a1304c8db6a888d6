//! The element types that kernels work on.

use crate::simd::{Isa, Kernel};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Whether [`Float::mul_add_fast`] is a fused multiply-add, which rounds once.
pub(crate) const PORTABLE_FUSES: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// An element type: `f32` or `f64`. Sealed.
///
/// It has the few scalar operations that portable code needs; everything else is done on vectors.
pub trait Float:
    sealed::Sealed
    + Copy
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + 'static
{
    /// Additive identity.
    const ZERO: Self;
    /// Multiplicative identity.
    const ONE: Self;
    /// −∞, the neutral element of the maximum.
    const NEG_INFINITY: Self;

    /// `value` rounded to the nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The value as `f64`, without rounding.
    fn to_f64(self) -> f64;
    /// Whether the value is NaN.
    fn is_nan(self) -> bool;
    /// `self · a + b`: fused (rounded once) where the compilation target has an instruction for it, otherwise product
    /// and sum are rounded separately.
    #[doc(hidden)]
    fn mul_add_fast(self, a: Self, b: Self) -> Self;
    /// Runs a vector kernel with the instructions of `isa`.
    #[doc(hidden)]
    fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;
}

macro_rules! float {
    ($t:ty) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;

            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }

            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }

            #[inline(always)]
            fn mul_add_fast(self, a: Self, b: Self) -> Self {
                if PORTABLE_FUSES {
                    <$t>::mul_add(self, a, b)
                } else {
                    // Without the instruction, `f32::mul_add` would call a slow library function.
                    self * a + b
                }
            }

            fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output {
                isa.run(kernel)
            }
        }
    };
}

float!(f32);
float!(f64);
