//! Bounds of the rounding error of a result, derived from the arithmetic alone.
//!
//! A sum of products of n terms, in any order, fused or not, differs from the exact one by at most γₙ Σ |xᵢ| |wᵢ|, with
//! γₙ = n u / (1 − n u) and the unit roundoff u (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, §3.1).
//! So each value has its own bound, computed from the magnitudes of its terms: a value that is small because large
//! terms cancel may have the error of the large terms. A wrong index or a missing term causes an error of the size of a
//! term, which is thousands of times the bound.

use ascribe_kernels::{ConvShape, Float};
use proptest::prelude::*;

/// Unit roundoff of single precision.
pub const SINGLE: f64 = 1.0 / (1_u64 << 24) as f64;

/// Unit roundoff of double precision.
pub const DOUBLE: f64 = 1.0 / (1_u64 << 53) as f64;

/// Largest relative error of rounding to `bfloat16`, which has eight bits of significand.
pub const BFLOAT16: f64 = 1.0 / 256.0;

/// The unit roundoff of a type.
pub fn unit<T: Float>() -> f64 {
    if size_of::<T>() == 4 { SINGLE } else { DOUBLE }
}

/// γₙ: the largest relative error after n = `roundings` successive roundings.
pub fn gamma(roundings: usize, unit: f64) -> f64 {
    let sum = roundings as f64 * unit;
    sum / (1.0 - sum)
}

/// Bounds of the difference between sums of `terms` products and a reference that sums the same products in double
/// precision, given the sums of the magnitudes of the products.
pub fn of_sums<T: Float>(terms: usize, magnitudes: &[f64]) -> Vec<f64> {
    let relative = gamma(terms + 1, unit::<T>()) + gamma(terms + 1, DOUBLE);
    magnitudes.iter().map(|magnitude| relative * magnitude).collect()
}

/// Checks each value against its own bound. The smallest normal number is added to the bounds, since relative bounds do
/// not hold for subnormal numbers.
pub fn within<T: Float>(found: &[T], expected: &[f64], bounds: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    prop_assert_eq!(found.len(), bounds.len());
    for (at, ((found, expected), bound)) in found.iter().zip(expected).zip(bounds).enumerate() {
        let error = (found.to_f64() - expected).abs();
        prop_assert!(
            error <= bound + f64::from(f32::MIN_POSITIVE),
            "value {at} is {found:?} instead of {expected}: the error is {error:.2e}, but rounding can cause at most {bound:.2e}",
            found = found.to_f64()
        );
    }
    Ok(())
}

/// Absolute values.
pub fn magnitudes(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.abs()).collect()
}

/// Largest number of products that are summed for an output pixel of a convolution.
pub fn forward_terms(s: &ConvShape) -> usize {
    s.in_channels / s.groups * s.kernel[0] * s.kernel[1]
}

/// Largest number of products that are summed for a pixel of the input gradient.
pub fn input_grad_terms(s: &ConvShape) -> usize {
    s.out_channels / s.groups * s.kernel[0] * s.kernel[1]
}

/// The matrices of Winograd's F(M × M, 3 × 3), with the interpolation points 0, ±1, infinity, and for M = 4 also ±2.
struct Transforms {
    /// The rows of Aᵀ.
    output: Vec<Vec<f64>>,
    /// The rows of G.
    filter: Vec<Vec<f64>>,
    /// The rows of Bᵀ.
    input: Vec<Vec<f64>>,
}

fn transforms(outputs: usize) -> Transforms {
    let rows = |rows: &[&[f64]]| rows.iter().map(|row| row.to_vec()).collect();
    if outputs == 2 {
        return Transforms {
            output: rows(&[&[1., 1., 1., 0.], &[0., 1., -1., -1.]]),
            filter: rows(&[&[1., 0., 0.], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0., 0., 1.]]),
            input: rows(&[&[1., 0., -1., 0.], &[0., 1., 1., 0.], &[0., -1., 1., 0.], &[0., 1., 0., -1.]]),
        };
    }
    let (sixth, twelfth, twenty_fourth) = (1. / 6., 1. / 12., 1. / 24.);
    Transforms {
        output: rows(&[
            &[1., 1., 1., 1., 1., 0.],
            &[0., 1., -1., 2., -2., 0.],
            &[0., 1., 1., 4., 4., 0.],
            &[0., 1., -1., 8., -8., 1.],
        ]),
        filter: rows(&[
            &[0.25, 0., 0.],
            &[-sixth, -sixth, -sixth],
            &[-sixth, sixth, -sixth],
            &[twenty_fourth, twelfth, sixth],
            &[twenty_fourth, -twelfth, sixth],
            &[0., 0., 1.],
        ]),
        input: rows(&[
            &[4., 0., -5., 0., 1., 0.],
            &[0., -4., -4., 1., 1., 0.],
            &[0., 4., -4., -1., 1., 0.],
            &[0., -2., -1., 2., 1., 0.],
            &[0., 2., -1., -2., 1., 0.],
            &[0., 4., 0., -5., 0., 1.],
        ]),
    }
}

/// m x mᵀ, for a square matrix x with as many rows and columns as m has columns.
fn both_sides(m: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    let (rows, n) = (m.len(), m[0].len());
    let mut left = vec![0.0; rows * n];
    for (i, j, k) in (0..rows * n * n).map(|at| (at / (n * n), at / n % n, at % n)) {
        left[i * n + j] += m[i][k] * x[k * n + j];
    }
    let mut out = vec![0.0; rows * rows];
    for (i, j, k) in (0..rows * rows * n).map(|at| (at / (rows * n), at / n % rows, at % n)) {
        out[i * rows + j] += left[i * n + k] * m[j][k];
    }
    out
}

/// Error bounds of a 3 × 3 convolution with stride 1 by Winograd's F(M × M, 3 × 3), y = Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A.
///
/// In no step of the three transforms do coefficients cancel. So the error is at most the same formula on magnitudes,
/// |Aᵀ| [Σ (|G| |g| |Gᵀ|) ⊙ (|Bᵀ| |d| |B|)] |A|, times γₙ for the number n of successive roundings of a value. These
/// are the steps of the transforms; without fused multiply-add, each step rounds twice:
///
/// | | filter, per axis | input, per axis | output, per axis |
/// | --- | --- | --- | --- |
/// | F(2 × 2) | 3 | 1 | 2 |
/// | F(4 × 4), whose coefficients 1/6, 1/12 and 1/24 are rounded, too | 5 | 3 | 3 |
///
/// The sum over the source channels adds one rounding per channel.
pub fn winograd(s: &ConvShape, gradient: bool, outputs: usize, x: &[f64], w: &[f64]) -> Vec<f64> {
    let absolute = |m: Vec<Vec<f64>>| m.iter().map(|row| magnitudes(row)).collect::<Vec<_>>();
    let of = transforms(outputs);
    let (a, g, b) = (absolute(of.output), absolute(of.filter), absolute(of.input));
    let n = outputs + 2;
    let [(sources, source), (channels, size)] = if gradient {
        [(s.out_channels, s.output()), (s.in_channels, s.input)]
    } else {
        [(s.in_channels, s.input), (s.out_channels, s.output())]
    };
    let origin =
        [0, 1].map(|axis| if gradient { s.padding[axis] as isize - 2 } else { -(s.padding[axis] as isize) });
    let filters: Vec<Vec<f64>> = (0..channels * sources)
        .map(|at| {
            let (o, c) = (at / sources, at % sources);
            let taps = if gradient { c * channels + o } else { o * sources + c } * 9;
            let mut taps = magnitudes(&w[taps..taps + 9]);
            if gradient {
                taps.reverse();
            }
            both_sides(&g, &taps)
        })
        .collect();
    let roundings = if outputs == 2 { 3 + 1 + 2 } else { 5 + 3 + 3 };
    let relative = gamma(2 * 2 * roundings + sources + 1, SINGLE) + gamma(9 * sources + 1, DOUBLE);
    let mut bounds = vec![0.0; s.batch * channels * size[0] * size[1]];
    let grid = size.map(|size| size.div_ceil(outputs));
    for (sample, row, column) in (0..s.batch * grid[0] * grid[1])
        .map(|at| (at / (grid[0] * grid[1]), at / grid[1] % grid[0], at % grid[1]))
    {
        let tiles: Vec<Vec<f64>> = (0..sources)
            .map(|c| {
                let pixel = |i: usize, j: usize| {
                    let y = usize::try_from((row * outputs + i) as isize + origin[0])
                        .ok()
                        .filter(|y| *y < source[0]);
                    let x = usize::try_from((column * outputs + j) as isize + origin[1]).ok();
                    (y, x.filter(|x| *x < source[1]))
                };
                let tile: Vec<f64> = (0..n * n)
                    .map(|at| match pixel(at / n, at % n) {
                        (Some(i), Some(j)) => {
                            x[((sample * sources + c) * source[0] + i) * source[1] + j].abs()
                        }
                        _ => 0.0,
                    })
                    .collect();
                both_sides(&b, &tile)
            })
            .collect();
        for o in 0..channels {
            let mut sums = vec![0.0; n * n];
            for (filter, tile) in filters[o * sources..][..sources].iter().zip(&tiles) {
                sums.iter_mut().zip(filter.iter().zip(tile)).for_each(|(sum, (f, t))| *sum += f * t);
            }
            for (at, bound) in both_sides(&a, &sums).into_iter().enumerate() {
                let (i, j) = (row * outputs + at / outputs, column * outputs + at % outputs);
                if i < size[0] && j < size[1] {
                    bounds[((sample * channels + o) * size[0] + i) * size[1] + j] = relative * bound;
                }
            }
        }
    }
    bounds
}
