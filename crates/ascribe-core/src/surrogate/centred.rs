//! Observations without weights and intercept, both of which are absorbed into the rows.

use nalgebra::{DMatrix, DVector};

use super::Observations;

/// Rows `√wᵢ (xᵢ − x̄)` and targets `√wᵢ (yᵢ − ȳ)` with the weighted means `x̄` and `ȳ`: a fit to these without weights
/// and intercept is one to the observations, since `Σ wᵢ (yᵢ − b − c·xᵢ)²` is least at `b = ȳ − c·x̄` whatever `c` is.
/// Without an intercept, zeros stand for the means.
pub(super) struct Centred {
    /// One row for each observation of positive weight, one column for each feature.
    pub(super) x: DMatrix<f64>,
    /// The norms of the columns before the mean was subtracted, which determine their rounding errors.
    pub(super) sizes: Vec<f64>,
    /// The targets.
    pub(super) y: DVector<f64>,
    /// `x̄`.
    means: Vec<f64>,
    /// `ȳ`.
    mean: f64,
    /// `Σ wᵢ`.
    pub(super) weight: f64,
    /// `Σ wᵢ (yᵢ − ȳ)²` around the weighted mean, also if there is no intercept; exactly 0 if it is within rounding errors.
    pub(super) total: f64,
    /// `Σ wᵢ yᵢ²`.
    size: f64,
}

impl Centred {
    pub(super) fn new(data: &Observations<'_>, intercept: bool) -> Self {
        let weights: Vec<f64> = data.iter().map(|(_, _, weight)| weight).collect();
        let values = data.iter().flat_map(|(row, _, _)| row.iter().copied());
        let mut x = DMatrix::from_row_iterator(weights.len(), data.features(), values);
        let mut y = DVector::from_iterator(weights.len(), data.iter().map(|(_, target, _)| target));
        let weight = weights.iter().sum::<f64>();
        let size = y.iter().zip(&weights).map(|(y, w)| w * y * y).sum();

        let mut spread = y.clone();
        centre(spread.as_mut_slice(), &weights, true);
        let mean = centre(y.as_mut_slice(), &weights, intercept);
        // The matrix is stored by columns.
        let columns = x.as_mut_slice().chunks_exact_mut(weights.len());
        let (means, sizes) = columns
            .map(|column| (centre(column, &weights, intercept), column))
            .map(|(mean, column)| (mean, column.iter().map(|v| v * v).sum::<f64>() + mean * mean * weight))
            .map(|(mean, squares)| (mean, squares.sqrt()))
            .unzip();
        Self { x, sizes, y, means, mean, weight, total: spread.norm_squared(), size }
    }

    /// The intercept that belongs to these coefficients.
    pub(super) fn intercept(&self, coefficients: &[f64]) -> f64 {
        self.mean - self.means.iter().zip(coefficients).map(|(mean, c)| mean * c).sum::<f64>()
    }

    /// `√wᵢ (yᵢ − f(xᵢ))` for these coefficients.
    pub(super) fn residuals(&self, coefficients: &DVector<f64>) -> DVector<f64> {
        &self.y - &self.x * coefficients
    }

    /// The share of the targets' variance that residuals of this sum of squares leave explained: `1 − squares/total`.
    /// If the targets do not vary, it is 1 if they are matched to eight digits, and 0 otherwise.
    pub(super) fn r2(&self, squares: f64) -> f64 {
        if self.total > 0.0 {
            return 1.0 - squares / self.total;
        }
        f64::from(squares <= f64::EPSILON * self.size)
    }
}

/// Replaces values by `√w (value − mean)` and returns the weighted mean; without an intercept the mean counts as 0. The values
/// of a constant become exactly zero, without rounding errors.
fn centre(values: &mut [f64], weights: &[f64], around_mean: bool) -> f64 {
    let before = values.iter().zip(weights).map(|(v, w)| w * v * v).sum();
    let mean = if around_mean { weighted_mean(values, weights) } else { 0.0 };
    values.iter_mut().zip(weights).for_each(|(v, w)| *v = w.sqrt() * (*v - mean));
    if values.iter().map(|v| v * v).sum::<f64>() <= negligible(before, values.len()) {
        values.fill(0.0);
    }
    mean
}

/// `Σ w v / Σ w`, in two steps: the second corrects the rounding error of the first.
fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let around =
        |center: f64| center + values.iter().zip(weights).map(|(v, w)| w * (v - center)).sum::<f64>() / total;
    around(around(0.0))
}

/// A bound on the sum of squares of the rounding errors of this many values with this sum of squares.
fn negligible(squares: f64, count: usize) -> f64 {
    squares * (count as f64 * f64::EPSILON).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_become_zero() {
        let rows: Vec<f64> = (0..50).flat_map(|i| [0.1, f64::from(i)]).collect();
        let (targets, weights) =
            (vec![1.0 / 3.0; 50], (1..51).map(|i| 1.0 / f64::from(i)).collect::<Vec<_>>());
        let data = Observations::new(&rows, 2, &targets, &weights).unwrap();
        let centred = Centred::new(&data, true);
        assert!(centred.x.column(0).iter().chain(&centred.y).all(|value| *value == 0.0));
        assert_eq!(centred.total, 0.0);
        assert!((centred.intercept(&[0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!((centred.r2(0.0), centred.r2(1e-3)), (1.0, 0.0));

        let free = Centred::new(&data, false);
        assert_eq!(free.x[(7, 0)], weights[7].sqrt() * 0.1);
        assert_eq!((free.total, free.intercept(&[3.0, 4.0])), (0.0, 0.0));
    }
}
