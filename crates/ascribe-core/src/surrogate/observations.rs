//! The data that a surrogate is fitted to.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// The largest magnitude of features, targets, weights and settings: the square of a product of two does not overflow.
/// For the same reason, magnitudes below `1e-150` count as zero.
pub const LARGEST: f64 = 1e100;

/// Rows of features, a target for each, and a weight for each that says how much it counts; all checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Observations<'a> {
    rows: Cow<'a, [f64]>,
    features: usize,
    targets: &'a [f64],
    weights: &'a [f64],
}

impl<'a> Observations<'a> {
    /// Observations from `m` rows of `d` features in row-major order (`m · d` values), `m` targets and `m` weights.
    ///
    /// A row of weight `w` counts as `w` rows of weight 1 would; one of weight 0 does not count.
    ///
    /// # Errors
    /// If there are no rows or no features, lengths do not match, a value is not finite or its magnitude above
    /// [`LARGEST`], a weight is negative, or all of them are zero.
    pub fn new(rows: &'a [f64], features: usize, targets: &'a [f64], weights: &'a [f64]) -> Result<Self> {
        Self::checked(Cow::Borrowed(rows), features, targets, weights)
    }

    fn checked(
        rows: Cow<'a, [f64]>,
        features: usize,
        targets: &'a [f64],
        weights: &'a [f64],
    ) -> Result<Self> {
        if features == 0 {
            return Err(Error::invalid("features", "are none", "at least one"));
        }
        if targets.is_empty() {
            return Err(Error::invalid("targets", "are none", "at least one"));
        }
        if targets.len().checked_mul(features) != Some(rows.len()) {
            let expected = format!("{} rows of {features} features", targets.len());
            return Err(Error::invalid("rows", format!("have {} values", rows.len()), expected));
        }
        if weights.len() != targets.len() {
            let expected = format!("{}, one for each target", targets.len());
            return Err(Error::invalid("weights", format!("are {}", weights.len()), expected));
        }
        check_values("rows", &rows, -LARGEST)?;
        check_values("targets", targets, -LARGEST)?;
        check_values("weights", weights, 0.0)?;
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::invalid("weights", "are all 0", "at least one above"));
        }
        Ok(Self { rows, features, targets, weights })
    }

    /// The same rows with `features` other features each, which `row` computes from the features of a row.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn with_rows(&self, features: usize, row: impl Fn(&[f64], &mut Vec<f64>)) -> Result<Self> {
        let mut rows = Vec::with_capacity(self.targets.len() * features);
        self.rows.chunks_exact(self.features).for_each(|found| row(found, &mut rows));
        Self::checked(Cow::Owned(rows), features, self.targets, self.weights)
    }

    /// The same rows with these of their features only, in this order.
    ///
    /// # Errors
    /// If there are none, or no such feature.
    pub fn select(&self, features: &[usize]) -> Result<Self> {
        if let Some(missing) = features.iter().find(|feature| **feature >= self.features) {
            let expected = format!("one of 0 to {}, without the end", self.features);
            return Err(Error::invalid("feature", format!("is {missing}"), expected));
        }
        self.with_rows(features.len(), |row, selected| {
            selected.extend(features.iter().filter_map(|feature| row.get(*feature)));
        })
    }

    /// Number of features, `d`.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of rows, `m`, including those of weight 0.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Never: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Features, target and weight of each row with positive weight.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[f64], f64, f64)> {
        let numbers = self.targets.iter().zip(self.weights);
        let all = self.rows.chunks_exact(self.features).zip(numbers);
        all.map(|(row, (target, weight))| (row, *target, *weight)).filter(|(_, _, weight)| *weight > 0.0)
    }
}

/// Checks that the values of this name are between `low` and [`LARGEST`].
pub(super) fn check_values(name: &str, values: &[f64], low: f64) -> Result<()> {
    match values.iter().enumerate().find(|(_, value)| !(low..=LARGEST).contains(*value)) {
        None => Ok(()),
        Some((at, value)) => {
            let expected = format!("finite values from {low:e} to {LARGEST:e}");
            Err(Error::invalid(name, format!("number {at} is {value}"), expected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_checked() {
        let error = |rows: &[f64], features, targets: &[f64], weights: &[f64]| {
            Observations::new(rows, features, targets, weights).unwrap_err().to_string()
        };
        let cases = [
            (error(&[], 0, &[1.0], &[1.0]), "features: are none"),
            (error(&[], 2, &[], &[]), "targets: are none"),
            (error(&[1.0; 5], 2, &[1.0; 3], &[1.0; 3]), "rows: have 5 values; expected 3 rows of 2 features"),
            (error(&[], usize::MAX, &[1.0; 3], &[1.0; 3]), "rows: have 0 values"),
            (error(&[1.0; 3], 1, &[1.0; 3], &[1.0; 2]), "weights: are 2; expected 3"),
            (error(&[1.0, f64::NAN], 2, &[1.0], &[1.0]), "rows: number 1 is NaN"),
            (error(&[1.0], 1, &[f64::INFINITY], &[1.0]), "targets: number 0 is inf"),
            (error(&[1.0], 1, &[-1e101], &[1.0]), "targets: number 0 is -1"),
            (error(&[1.0], 1, &[1.0], &[-0.5]), "weights: number 0 is -0.5; expected finite values from 0"),
            (error(&[1.0; 2], 1, &[1.0; 2], &[0.0; 2]), "weights: are all 0"),
        ];
        for (message, part) in cases {
            assert!(message.contains(part), "'{message}' without '{part}'");
        }
    }

    #[test]
    fn rows_without_weight_do_not_count() {
        let (rows, targets, weights) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0], [0.0, 2.0]);
        let data = Observations::new(&rows, 2, &targets, &weights).unwrap();
        assert_eq!(data.iter().collect::<Vec<_>>(), [(&[3.0, 4.0][..], 6.0, 2.0)]);
        assert_eq!((data.len(), data.features(), data.is_empty()), (2, 2, false));
    }

    #[test]
    fn features_are_selected() {
        let (rows, ones) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0; 2]);
        let data = Observations::new(&rows, 3, &ones, &ones).unwrap();
        let selected = data.select(&[2, 0]).unwrap();
        assert_eq!(selected, Observations::new(&[3.0, 1.0, 6.0, 4.0], 2, &ones, &ones).unwrap());
        assert!(data.select(&[3]).unwrap_err().to_string().contains("feature: is 3; expected one of 0 to 3"));
        assert!(data.select(&[]).is_err());
    }
}
