//! Rows by their weights.

/// The rows that count, in the order of their weights, and the sums of the weights up to each.
#[derive(Debug)]
pub(super) struct Weights {
    pub rows: Vec<usize>,
    pub sums: Vec<f64>,
}

impl Weights {
    /// From the squared distances of all rows.
    pub fn new(squared: &[f64], sigma: f64, eta: f64) -> Self {
        // Relative to the closest row, so that not all weights are zero.
        let least = squared.iter().copied().fold(f64::INFINITY, f64::min);
        let weight = |row: usize| (-(squared[row] - least) / (2.0 * sigma * sigma)).exp();
        let mut rows: Vec<usize> = (0..squared.len()).collect();
        rows.sort_by(|&a, &b| squared[a].total_cmp(&squared[b]));
        let mut sum = 0.0;
        let mut sums: Vec<f64> = rows
            .iter()
            .map(|&row| {
                sum += weight(row);
                sum
            })
            .collect();
        let needed = sums.partition_point(|part| *part < eta * sum).min(rows.len() - 1);
        let last = squared[rows[needed]];
        let count = rows.partition_point(|&row| squared[row] <= last);
        rows.truncate(count);
        sums.truncate(count);
        Self { rows, sums }
    }

    /// The row of a number in [0, 1).
    pub fn row(&self, share: f64) -> usize {
        let target = share * self.sums[self.sums.len() - 1];
        self.rows[self.sums.partition_point(|sum| *sum <= target).min(self.rows.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_weight_counts() {
        let distance = |weight: f64| -2.0 * weight.ln();
        let squared = [distance(0.1), distance(0.5), distance(0.1), distance(0.3)];
        let rows = |eta| Weights::new(&squared, 1.0, eta).rows;
        assert_eq!(rows(0.45), [1]);
        assert_eq!(rows(0.55), [1, 3]);
        assert_eq!(rows(0.85), [1, 3, 0, 2], "equal weights are in it together");
        assert_eq!(rows(1.0), [1, 3, 0, 2]);
        let found = Weights::new(&squared, 1.0, 1.0);
        assert_eq!(
            [0.0, 0.49, 0.51, 0.79, 0.81, 0.89, 0.91, 0.999].map(|share| found.row(share)),
            [1, 1, 3, 3, 0, 0, 2, 2]
        );
        let far = Weights::new(&[1e9, 1e9 + 1.0], 1e-3, 1.0);
        assert_eq!((far.row(0.0), far.row(0.999)), (0, 0), "weights are relative to the closest row");
    }
}
