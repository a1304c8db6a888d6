//! Variables by their ranks.

use statrs::distribution::{ContinuousCDF, Normal};

/// The empirical distribution of a variable.
#[derive(Clone, Debug)]
pub(super) struct Marginal {
    sorted: Vec<f64>,
    normal: Normal,
}

impl Marginal {
    /// Of these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted, normal: Normal::standard() }
    }

    /// The normal score `Φ⁻¹((a + b / 2 + 1/2) / (n + 1))` of a value x, where a of n values are less than x and b equal to it.
    /// Among the values themselves it is `Φ⁻¹(rank / (n + 1))`, with mean ranks where values are equal.
    pub fn score(&self, x: f64) -> f64 {
        let less = self.sorted.partition_point(|value| *value < x);
        let equal = self.sorted.partition_point(|value| *value <= x) - less;
        let share = (less as f64 + equal as f64 / 2.0 + 0.5) / (self.sorted.len() as f64 + 1.0);
        self.normal.inverse_cdf(share)
    }

    /// The value of this normal score: the least one that a share of at least `Φ(score)` of all values does not exceed.
    pub fn value(&self, score: f64) -> f64 {
        let count = self.sorted.len();
        let rank = (self.normal.cdf(score) * count as f64).ceil() as usize;
        self.sorted[rank.clamp(1, count) - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_ranks() {
        let marginal = Marginal::of([5.0, 1.0, 3.0, 3.0]);
        let quantile = |share: f64| Normal::standard().inverse_cdf(share);
        for (x, share) in [(0.0, 0.1), (1.0, 0.2), (2.0, 0.3), (3.0, 0.5), (4.0, 0.7), (5.0, 0.8), (9.0, 0.9)]
        {
            assert!((marginal.score(x) - quantile(share)).abs() < 1e-12, "{x}");
        }
        // Published quantiles.
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!((quantile(1e-6) + 4.753_424_308_822_899).abs() < 1e-9);
    }

    #[test]
    fn values_are_quantiles() {
        let marginal = Marginal::of([5.0, 1.0, 3.0, 3.0]);
        let value = |share: f64| marginal.value(Normal::standard().inverse_cdf(share));
        assert_eq!([0.01, 0.24, 0.26, 0.74, 0.76, 0.99].map(value), [1.0, 1.0, 3.0, 3.0, 5.0, 5.0]);
        assert_eq!([-99.0, 99.0].map(|score| marginal.value(score)), [1.0, 5.0]);
        let many = Marginal::of((0..57).map(f64::from));
        assert!((0..57).map(f64::from).all(|x| many.value(many.score(x)) == x), "there and back");
    }
}
