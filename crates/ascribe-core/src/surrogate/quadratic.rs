//! Squares and products of features as features.

use serde::Serialize;

use super::Observations;
use crate::error::{Error, Result};

/// The largest number of values of an expansion: 2 GiB.
const MAX_VALUES: usize = 1 << 28;

/// A column of an expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Term {
    /// The feature itself.
    Linear(usize),
    /// Its square.
    Square(usize),
    /// The product of two features, the lower one first.
    Product(usize, usize),
}

impl Term {
    /// The term's value at a row; NaN if there is no such feature.
    pub fn value(self, row: &[f64]) -> f64 {
        let feature = |at: usize| row.get(at).copied().unwrap_or(f64::NAN);
        match self {
            Self::Linear(a) => feature(a),
            Self::Square(a) => feature(a) * feature(a),
            Self::Product(a, b) => feature(a) * feature(b),
        }
    }
}

/// Adds the products of each two features, and the squares if asked for, as further features. A linear model of all is
/// one of second order:
///
/// `f(x) = b + Σⱼ cⱼ xⱼ + Σⱼ cⱼⱼ xⱼ² + Σ_{j<k} cⱼₖ xⱼ xₖ`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quadratic {
    /// Whether there are squares. The square of a feature that is 0 or 1 is the feature again.
    pub squares: bool,
}

impl Quadratic {
    /// The columns of an expansion of this many features: first the features, then squares, then products, each in
    /// ascending order.
    pub fn terms(self, features: usize) -> Vec<Term> {
        let squares = if self.squares { features } else { 0 };
        let products = (0..features).flat_map(|a| (a + 1..features).map(move |b| Term::Product(a, b)));
        let first = (0..features).map(Term::Linear).chain((0..squares).map(Term::Square));
        first.chain(products).collect()
    }

    /// The same rows with further features, and what each of their columns is.
    ///
    /// # Errors
    /// If that were more than 2 GiB, or a product is above [`super::LARGEST`].
    pub fn expand<'a>(self, data: &Observations<'a>) -> Result<(Observations<'a>, Vec<Term>)> {
        let features = data.features();
        let columns = features.checked_mul(features + 3).map(|twice| twice / 2);
        if columns
            .and_then(|columns| columns.checked_mul(data.len()))
            .is_none_or(|values| values > MAX_VALUES)
        {
            let problem = format!("are {features} in {} rows, which are too many to multiply", data.len());
            return Err(Error::invalid("features", problem, format!("at most {MAX_VALUES} values in all")));
        }
        let terms = self.terms(features);
        let expanded = data.with_rows(terms.len(), |row, values| {
            values.extend(terms.iter().map(|term| term.value(row)));
        })?;
        Ok((expanded, terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::{Linear, Surrogate};

    #[test]
    fn columns_are_what_they_are_called() {
        use Term::{Linear, Product, Square};
        let (rows, ones) = ([2.0, 3.0, 5.0], [1.0]);
        let data = Observations::new(&rows, 3, &ones, &ones).unwrap();
        let (expanded, terms) = Quadratic { squares: true }.expand(&data).unwrap();
        assert_eq!(
            terms,
            [
                Linear(0),
                Linear(1),
                Linear(2),
                Square(0),
                Square(1),
                Square(2),
                Product(0, 1),
                Product(0, 2),
                Product(1, 2)
            ]
        );
        let values = [2.0, 3.0, 5.0, 4.0, 9.0, 25.0, 6.0, 10.0, 15.0];
        assert_eq!(expanded, Observations::new(&values, 9, &ones, &ones).unwrap());
        let (expanded, terms) = Quadratic { squares: false }.expand(&data).unwrap();
        assert_eq!((expanded.features(), terms.len(), terms[3]), (6, 6, Product(0, 1)));
    }

    #[test]
    fn polynomials_of_second_order_are_recovered() {
        let rows: Vec<f64> = (0..40).map(|i| f64::from(i * i * 29 % 23) / 7.0 - 1.5).collect();
        let value = |r: &[f64]| 1.0 - 2.0 * r[0] + 0.5 * r[1] + 3.0 * r[0] * r[0] - r[0] * r[1];
        let targets: Vec<f64> = rows.chunks(2).map(value).collect();
        let weights = vec![0.5; targets.len()];
        let data = Observations::new(&rows, 2, &targets, &weights).unwrap();
        let (expanded, _) = Quadratic { squares: true }.expand(&data).unwrap();
        let fit = Linear::default().fit(&expanded).unwrap();
        for (found, expected) in fit.coefficients.iter().zip([-2.0, 0.5, 3.0, 0.0, -1.0]) {
            assert!((found - expected).abs() < 1e-12, "{fit:?}");
        }
        assert!((fit.intercept - 1.0).abs() < 1e-12 && (fit.r2 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn too_many_products_are_an_error() {
        let rows = vec![1.0; 30_000];
        let data = Observations::new(&rows, 30_000, &[1.0], &[1.0]).unwrap();
        let error = Quadratic { squares: true }.expand(&data).unwrap_err().to_string();
        assert!(error.contains("are 30000 in 1 rows"), "{error}");
        let data = Observations::new(&[1e99, 1e99], 2, &[1.0], &[1.0]).unwrap();
        assert!(
            Quadratic { squares: false }.expand(&data).unwrap_err().to_string().contains("rows: number 2 is")
        );
    }
}
