//! Separable resampling and smoothing of maps.

use crate::heatmap::Upsampling;

/// The input cells of one output cell along an axis: the first one, and the weights, which sum to 1.
pub(crate) struct Tap {
    first: usize,
    weights: Vec<f64>,
}

/// One tap per output cell, for resizing an axis from `from` to `to` cells.
///
/// Bilinear uses the triangle filter, which is widened if the axis gets shorter, so that no input cell is skipped.
pub(crate) fn taps(from: usize, to: usize, how: Upsampling) -> Vec<Tap> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * ratio;
            match how {
                Upsampling::Nearest => Tap { first: (centre as usize).min(from - 1), weights: vec![1.0] },
                Upsampling::Bilinear => triangle(centre, ratio.max(1.0), from),
            }
        })
        .collect()
}

/// A tap of the triangle filter.
fn triangle(centre: f64, support: f64, from: usize) -> Tap {
    let first = ((centre - support).floor().max(0.0)) as usize;
    let last = (((centre + support).ceil()) as usize).min(from);
    let weight = |j: usize| (1.0 - ((j as f64 + 0.5 - centre) / support).abs()).max(0.0);
    // Cells with weight zero have to be left out, since zero times NaN is NaN.
    let mut cells: Vec<(usize, f64)> = (first..last).map(|j| (j, weight(j))).collect();
    cells.retain(|&(_, w)| w > 1e-12);
    let total: f64 = cells.iter().map(|&(_, w)| w).sum();
    Tap {
        first: cells.first().map_or(0, |&(j, _)| j),
        weights: cells.into_iter().map(|(_, w)| w / total).collect(),
    }
}

/// One tap per cell, for smoothing an axis with a Gaussian of standard deviation `sigma` cells.
pub(crate) fn gaussian(length: usize, sigma: f64) -> Vec<Tap> {
    let reach = (4.0 * sigma).ceil() as usize;
    (0..length)
        .map(|i| {
            let (first, last) = (i.saturating_sub(reach), (i + reach).min(length - 1));
            let weight =
                |j: usize| if j == i { 1.0 } else { (-0.5 * ((j as f64 - i as f64) / sigma).powi(2)).exp() };
            let total: f64 = (first..=last).map(weight).sum();
            Tap { first, weights: (first..=last).map(|j| weight(j) / total).collect() }
        })
        .collect()
}

/// Applies row and column taps to a row-major map of the given width.
pub(crate) fn apply(values: &[f64], width: usize, rows: &[Tap], columns: &[Tap]) -> Vec<f64> {
    let narrowed: Vec<f64> = values
        .chunks_exact(width)
        .flat_map(|row| columns.iter().map(move |tap| weighted(tap, |j| row[j])))
        .collect();
    let width = columns.len();
    rows.iter()
        .flat_map(|tap| {
            let narrowed = &narrowed;
            (0..width).map(move |x| weighted(tap, |j| narrowed[j * width + x]))
        })
        .collect()
}

/// The weighted sum of a tap.
fn weighted(tap: &Tap, value: impl Fn(usize) -> f64) -> f64 {
    match tap.weights.as_slice() {
        // With one weight, the result is exactly the value, even if it is infinite.
        [_] => value(tap.first),
        weights => weights.iter().enumerate().map(|(k, w)| w * value(tap.first + k)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64], to: usize, how: Upsampling) -> Vec<f64> {
        apply(values, values.len(), &taps(1, 1, how), &taps(values.len(), to, how))
    }

    #[test]
    fn bilinear_uses_half_pixel_centres() {
        // torch.nn.functional.interpolate([0, 4], size=4, mode="linear", align_corners=False)
        assert_eq!(line(&[0.0, 4.0], 4, Upsampling::Bilinear), [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn nearest_repeats_cells() {
        assert_eq!(line(&[1.0, 2.0], 4, Upsampling::Nearest), [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn shrinking_uses_every_cell() {
        let shrunk = line(&[0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0], 2, Upsampling::Bilinear);
        assert!(shrunk[0] > 1.0, "{shrunk:?}");
    }

    #[test]
    fn nan_spreads_only_to_what_draws_on_it() {
        let out = line(&[f64::NAN, 1.0, 2.0], 6, Upsampling::Bilinear);
        assert!(out[..3].iter().all(|v| v.is_nan()) && out[3..].iter().all(|v| v.is_finite()), "{out:?}");
    }
}
