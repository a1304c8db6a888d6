//! Elementary functions in single precision without branches or calls, so that compilers vectorise them.
//!
//! The coefficients are minimax fits (Lawson's algorithm in double precision); the tests state the errors.

// Digits beyond single precision are those of the fits.
#![allow(clippy::excessive_precision)]
// Loops are vectorised only if everything in them is inlined.
#![allow(clippy::inline_always)]

/// The cubic term of GELU's tanh approximation.
pub(crate) const GELU_CUBIC: f32 = 0.044_715;
/// `√(8/π)`.
pub(crate) const SQRT_8_OVER_PI: f32 = 1.595_769_121_605_730_7;
/// `1 / √(2π)`.
const INV_SQRT_2_PI: f32 = 0.398_942_280_401_432_7;

#[inline(always)]
fn horner<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.into_iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// `eˣ`, 0 below −87 and e⁸⁸ above 88: never infinite. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// ln 2 in two parts, the first with few enough digits that multiples of it are exact.
    const LN_2: [f32; 2] = [0.693_359_375, -2.121_944_4e-4];
    /// Adding and subtracting this rounds to an integer, which the lowest bits of the sum hold.
    const ROUND: f32 = 12_582_912.0;
    let low = x < -87.0;
    let x = if low { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let mantissa = horner(
        r,
        [
            1.0,
            1.000_000_036_323_094_3,
            0.499_999_920_794_972_46,
            0.166_664_201_701_981_4,
            0.041_668_225_641_487_096,
            0.008_374_815_781_031_21,
            0.001_383_684_196_248_540_7,
        ],
    );
    // 2ⁿ: n goes into the exponent's bits.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if low { 0.0 } else { mantissa * power }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let s = x * x;
    let near = x * horner(
        s,
        [
            1.0,
            -0.333_332_633_804_018_06,
            0.133_311_857_676_417_65,
            -0.053_725_231_588_512_46,
            0.020_603_147_079_095_097,
            -0.005_672_421_670_235_006,
        ],
    );
    let far = 1.0 - 2.0 / (1.0 + exp(2.0 * size));
    if size < 0.625 { near } else { far.copysign(x) }
}

/// Error function.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let size = x.abs();
    let s = x * x;
    let near = x * horner(
        s,
        [
            1.128_379_165_913_751,
            -0.376_126_271_359_663_14,
            0.112_836_001_762_636_04,
            -0.026_854_444_592_168_4,
            0.005_189_535_339_851_89,
            -0.000_802_084_128_451_036_7,
            7.889_119_548_499_631e-5,
        ],
    );
    // ln(1 − erf) is close to a polynomial; beyond 4, erf is 1 to the last bit.
    let t = if size > 4.0 { 4.0 } else { size };
    let far = 1.0
        - exp(horner(
            t,
            [
                0.000_182_460_529_626_560_23,
                -1.129_552_043_200_809,
                -0.633_272_409_785_392_2,
                -0.108_361_557_126_582_88,
                0.025_171_812_028_338_028,
                -0.004_190_857_128_074_282,
                0.000_438_530_243_950_597_9,
                -2.144_559_474_300_359_7e-5,
            ],
        ));
    if size < 0.97 { near } else { far.copysign(x) }
}

/// `Φ(x)`, the distribution function of the standard normal distribution.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// `Φ′(x)`.
#[inline(always)]
pub(crate) fn normal_density(x: f32) -> f32 {
    INV_SQRT_2_PI * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// Largest error relative to `scale` over a fine grid, against double precision.
    fn error(f: fn(f32) -> f32, exact: fn(f64) -> f64, [low, high]: [f32; 2], relative: bool) -> f64 {
        (0..=200_000)
            .map(|i| low + (high - low) * i as f32 / 200_000.0)
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(f(x)) - exact).abs() / if relative { exact.abs().max(1e-30) } else { 1.0 }
            })
            .fold(0.0, f64::max)
    }

    fn exact_erf(x: f64) -> f64 {
        Tensor::new(&[x], &Device::Cpu).unwrap().erf().unwrap().to_vec1::<f64>().unwrap()[0]
    }

    #[test]
    fn relative_errors_are_a_few_units_in_the_last_place() {
        let exact_sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(error(exp, f64::exp, [-86.9, 87.9], true) < 2e-7);
        assert!(error(sigmoid, exact_sigmoid, [-80.0, 80.0], true) < 3e-7);
        assert!(error(tanh, f64::tanh, [-12.0, 12.0], true) < 2.5e-7);
        assert!(error(tanh, f64::tanh, [-1e-3, 1e-3], true) < 2.5e-7);
        assert!(error(erf, exact_erf, [-6.0, 6.0], true) < 2.5e-7);
        assert!(error(erf, exact_erf, [-1e-3, 1e-3], true) < 2.5e-7);
    }

    #[test]
    fn extremes() {
        for x in [1e3, 1e30, f32::INFINITY] {
            assert_eq!(
                [exp(-x), sigmoid(x), tanh(x), tanh(-x), erf(x), erf(-x)],
                [0.0, 1.0, 1.0, -1.0, 1.0, -1.0]
            );
            assert!(sigmoid(-x) < 1e-37 && exp(x).is_finite() && normal_density(x) == 0.0);
        }
        for f in [exp, sigmoid, tanh, erf] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!([exp(0.0), sigmoid(0.0), tanh(0.0), erf(0.0)], [1.0, 0.5, 0.0, 0.0]);
    }
}
