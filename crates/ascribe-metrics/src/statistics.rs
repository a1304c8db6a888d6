//! Statistics shared by several metrics.

use ascribe_core::{Error, Result, random};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Area under a curve by the trapezoidal rule.
pub fn area(x: &[f64], y: &[f64]) -> f64 {
    x.windows(2).zip(y.windows(2)).map(|(x, y)| (x[1] - x[0]) * f64::midpoint(y[0], y[1])).sum()
}

/// Ranks, starting at 1; equal values get their average rank.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        // The average of the ranks from start + 1 to end.
        let mean = (start + 1 + end) as f64 / 2.0;
        order[start..end].iter().for_each(|&i| ranks[i] = mean);
        start = end;
    }
    ranks
}

/// Pearson's correlation; `None` if either sequence is constant.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len().min(b.len()) as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut cross, mut var_a, mut var_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        cross += a * b;
        var_a += a * a;
        var_b += b * b;
    }
    let scale = (var_a * var_b).sqrt();
    (scale > 0.0).then(|| cross / scale)
}

/// Spearman's rank correlation, with average ranks for ties; `None` if either sequence is constant.
///
/// # Errors
/// If the lengths differ or there are no values.
pub fn spearman(a: &[f64], b: &[f64]) -> Result<Option<f64>> {
    if a.len() != b.len() || a.is_empty() {
        return Err(Error::invalid(
            "rank correlation",
            format!("of {} and {} values", a.len(), b.len()),
            "equally many, at least one",
        ));
    }
    Ok(pearson(&ranks(a), &ranks(b)))
}

/// Structural similarity (Wang et al. 2004, eq. 13): the mean over all windows that are completely inside the maps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ssim {
    /// Standard deviation of the Gaussian window in pixels; `None` for a uniform window.
    pub sigma: Option<f64>,
    /// Side length of the window, an odd number. A Gaussian window is cut off at this size.
    pub window: usize,
    /// Whether (co)variances are divided by n − 1 instead of n, where n is the number of values in a window.
    pub sample_covariance: bool,
    /// Constant K₁ of the luminance term.
    pub k1: f64,
    /// Constant K₂ of the contrast and structure term.
    pub k2: f64,
}

impl Default for Ssim {
    /// The paper's settings: an 11 × 11 Gaussian window with σ = 1.5.
    fn default() -> Self {
        Self { sigma: Some(1.5), window: 11, sample_covariance: false, k1: 0.01, k2: 0.03 }
    }
}

impl Ssim {
    /// A uniform window.
    pub fn uniform(window: usize) -> Self {
        Self { sigma: None, window, ..Self::default() }
    }

    fn weights(&self) -> Vec<f64> {
        let radius = (self.window / 2) as f64;
        let raw: Vec<f64> = (0..self.window)
            .map(|i| self.sigma.map_or(1.0, |sigma| (-0.5 * ((i as f64 - radius) / sigma).powi(2)).exp()))
            .collect();
        let total: f64 = raw.iter().sum();
        raw.into_iter().map(|w| w / total).collect()
    }

    /// Weighted means over all windows inside a map, computed by one pass along each axis.
    fn filter(&self, map: &[f64], height: usize, width: usize) -> Vec<f64> {
        let weights = self.weights();
        let (rows, cols) = (height + 1 - self.window, width + 1 - self.window);
        let mut along = vec![0.0; height * cols];
        for y in 0..height {
            for x in 0..cols {
                let window = &map[y * width + x..][..self.window];
                along[y * cols + x] = window.iter().zip(&weights).map(|(v, w)| v * w).sum();
            }
        }
        let mut out = vec![0.0; rows * cols];
        for y in 0..rows {
            for x in 0..cols {
                out[y * cols + x] =
                    weights.iter().enumerate().map(|(i, w)| w * along[(y + i) * cols + x]).sum();
            }
        }
        out
    }

    /// The similarity of two maps `[height, width]` in row-major order, where `range` is the dynamic range of their
    /// values.
    ///
    /// # Errors
    /// If the window is even or larger than the maps, or the maps do not have this size.
    pub fn compare(&self, a: &[f64], b: &[f64], [height, width]: [usize; 2], range: f64) -> Result<f64> {
        if self.window.is_multiple_of(2) || self.window > height.min(width) {
            return Err(Error::invalid(
                "SSIM window",
                format!("has side {}", self.window),
                format!("an odd side of at most {}, as the maps are {height} × {width}", height.min(width)),
            ));
        }
        if a.len() != height * width || b.len() != a.len() {
            let problem = format!("have {} and {} values", a.len(), b.len());
            return Err(Error::invalid("maps", problem, format!("{height} × {width}")));
        }
        let product = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
        let mean = |map: &[f64]| self.filter(map, height, width);
        let (mean_a, mean_b) = (mean(a), mean(b));
        let (aa, bb, ab) = (mean(&product(a, a)), mean(&product(b, b)), mean(&product(a, b)));
        let n = (self.window * self.window) as f64;
        let unbias = if self.sample_covariance { n / (n - 1.0) } else { 1.0 };
        let (c1, c2) = ((self.k1 * range).powi(2), (self.k2 * range).powi(2));
        let mut total = 0.0;
        for i in 0..mean_a.len() {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (va, vb) = (unbias * (aa[i] - ma * ma), unbias * (bb[i] - mb * mb));
            let cov = unbias * (ab[i] - ma * mb);
            let denominator = (ma * ma + mb * mb + c1) * (va + vb + c2);
            // Two maps that are zero in a window are equal there.
            total +=
                if denominator == 0.0 { 1.0 } else { (2.0 * ma * mb + c1) * (2.0 * cov + c2) / denominator };
        }
        Ok(total / mean_a.len() as f64)
    }
}

/// A confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Number of bootstrap samples.
const DRAWS: u64 = 1000;

/// The 95 % confidence interval of a statistic over samples: the 2.5th and the 97.5th percentile of its values on 1000 samples
/// drawn with replacement (Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"). `None` with fewer than two
/// samples. The same seed gives the same interval.
pub fn bootstrap<T: Copy>(
    samples: &[T],
    statistic: impl Fn(&[T]) -> Option<f64>,
    seed: u64,
) -> Option<Interval> {
    if samples.len() < 2 {
        return None;
    }
    let mut values: Vec<f64> = (0..DRAWS)
        .filter_map(|draw| {
            let mut rng = random::stream(seed, random::Domain::BOOTSTRAP, draw);
            let drawn: Vec<T> = samples.iter().map(|_| samples[rng.random_range(0..samples.len())]).collect();
            statistic(&drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at =
        |share: f64| values.get((share * (values.len().checked_sub(1)?) as f64).round() as usize).copied();
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[2.0, 1.0, 2.0, 3.0]), [2.5, 1.0, 2.5, 4.0]);
    }

    #[test]
    fn a_constant_has_no_correlation() {
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
        assert!(spearman(&[], &[]).is_err());
    }

    #[test]
    fn area_of_a_triangle() {
        assert_eq!(area(&[0.0, 0.25, 1.0], &[0.0, 0.25, 1.0]), 0.5);
    }

    #[test]
    fn a_map_is_like_itself_and_unlike_its_negative() {
        // Values around 2, so that only the contrast is reversed and not the luminance.
        let map: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 101) / 50.0 + 1.0).collect();
        let negative: Vec<f64> = map.iter().map(|v| 4.0 - v).collect();
        let ssim = Ssim::default();
        assert!((ssim.compare(&map, &map, [20, 20], 2.0).unwrap() - 1.0).abs() < 1e-12);
        assert!(ssim.compare(&map, &negative, [20, 20], 2.0).unwrap() < 0.0);
        assert!(ssim.compare(&map, &map, [10, 40], 2.0).is_err());
    }
}
