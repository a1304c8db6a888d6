//! Standard normal variables that depend on each other.

use nalgebra::{DMatrix, DVector};

use super::cache::Cache;
use super::table::kept;
use crate::error::{Error, Result};

/// A correlation matrix is singular if a pivot of its Cholesky factorization, that is the share of a variable's variance which the
/// variables before it leave open, is less than this.
const SINGULAR: f64 = 1e-10;

/// The weight λ of independence where the correlation matrix is singular.
const SHRINKAGE: f64 = 1e-6;

/// Location and scale of variables.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    mean: Vec<f64>,
    /// Standard deviations with n − 1 degrees of freedom; 0 for variables that do not vary.
    deviation: Vec<f64>,
}

impl Scales {
    /// Of the rows of a matrix with one column per sample.
    pub fn of(samples: &DMatrix<f64>) -> Self {
        let count = samples.ncols() as f64;
        let of_row = |row: usize| {
            let row = samples.row(row);
            let first = row[0];
            if row.iter().all(|value| *value == first) {
                return (first, 0.0);
            }
            let mean = row.iter().sum::<f64>() / count;
            let squares: f64 = row.iter().map(|value| (value - mean).powi(2)).sum();
            (mean, (squares / (count - 1.0)).sqrt())
        };
        let (mean, deviation) = (0..samples.nrows()).map(of_row).unzip();
        Self { mean, deviation }
    }

    /// From means and standard deviations.
    pub fn new(mean: Vec<f64>, deviation: Vec<f64>) -> Self {
        Self { mean, deviation }
    }

    /// `(x − mean) / deviation`; 0 for a variable that does not vary, about which nothing else is known.
    pub fn standard(&self, variable: usize, value: f64) -> f64 {
        let deviation = self.deviation[variable];
        if deviation == 0.0 { 0.0 } else { (value - self.mean[variable]) / deviation }
    }

    /// `mean + deviation · z`.
    pub fn restore(&self, variable: usize, standard: f64) -> f64 {
        self.mean[variable] + self.deviation[variable] * standard
    }

    /// [`Scales::standard`] of all values of all samples.
    pub fn standardised(&self, samples: &DMatrix<f64>) -> DMatrix<f64> {
        DMatrix::from_fn(samples.nrows(), samples.ncols(), |row, column| {
            self.standard(row, samples[(row, column)])
        })
    }
}

/// A normal distribution with means 0, variances 1 and these correlations.
#[derive(Debug)]
pub(super) struct Correlated {
    correlation: DMatrix<f64>,
    shrinkage: f64,
    /// For what is hidden, the factor of the kept variables followed by the hidden ones.
    factors: Cache<Vec<bool>, DMatrix<f64>>,
}

impl Correlated {
    /// From samples with means 0 and variances 1, one per column. A variable that does not vary is independent of all others.
    pub fn of(standardised: &DMatrix<f64>) -> Result<Self> {
        let freedom = standardised.ncols() as f64 - 1.0;
        Self::new(standardised * standardised.transpose() / freedom)
    }

    /// From a correlation matrix R, up to its diagonal. If it is singular, (1 − λ) R + λ I takes its place, with λ = 10⁻⁶.
    ///
    /// # Errors
    /// If the matrix is singular even then.
    pub fn new(mut correlation: DMatrix<f64>) -> Result<Self> {
        correlation.fill_diagonal(1.0);
        let variables = correlation.nrows();
        let regular = root(correlation.clone())
            .is_some_and(|root| root.diagonal().iter().all(|pivot| pivot * pivot >= SINGULAR));
        let shrinkage = if regular { 0.0 } else { SHRINKAGE };
        if !regular {
            correlation *= 1.0 - shrinkage;
            correlation.fill_diagonal(1.0);
        }
        let all = Self { correlation, shrinkage, factors: Cache::new(variables * variables) };
        all.root(&(0..variables).collect::<Vec<_>>())?;
        Ok(all)
    }

    /// The λ of [`Correlated::new`]; 0 where the correlation matrix is regular.
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage
    }

    /// The Cholesky factor of some variables' correlations, in this order.
    pub fn root(&self, order: &[usize]) -> Result<DMatrix<f64>> {
        let part = DMatrix::from_fn(order.len(), order.len(), |i, j| self.correlation[(order[i], order[j])]);
        root(part).ok_or_else(|| {
            let problem = format!("are not positive definite over {} variables", order.len());
            Error::invalid(
                "correlations of the data",
                problem,
                "more samples, or fewer variables that repeat each other",
            )
        })
    }

    /// Replaces the hidden values of a row by a draw given the kept ones: `standard` makes a kept value of a variable standard
    /// normal, `restore` is its inverse.
    pub fn replace(
        &self,
        row: &mut [f64],
        hidden: &[bool],
        noise: &[f64],
        standard: impl Fn(usize, f64) -> f64,
        restore: impl Fn(usize, f64) -> f64,
    ) -> Result<()> {
        let mut scores = vec![0.0; row.len()];
        for at in kept(hidden) {
            scores[at] = standard(at, row[at]);
        }
        self.draw(&mut scores, hidden, noise)?;
        for at in (0..row.len()).filter(|&at| hidden[at]) {
            row[at] = restore(at, scores[at]);
        }
        Ok(())
    }

    /// Replaces hidden values of a standardised sample by a draw given the kept ones.
    ///
    /// With the kept variables first, the Cholesky factor of the correlations is `[A 0; B C]`: the hidden variables have the mean
    /// `B A⁻¹ z = R_hs R_ss⁻¹ z` and the covariance `C Cᵀ = R_hh − R_hs R_ss⁻¹ R_sh` given the kept values z. The draw is
    /// `B A⁻¹ z + C ε` with the numbers ε that `noise` holds for the hidden variables.
    pub fn draw(&self, standard: &mut [f64], hidden: &[bool], noise: &[f64]) -> Result<()> {
        let known = kept(hidden);
        let unknown: Vec<usize> = (0..hidden.len()).filter(|&at| hidden[at]).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let order = [known.as_slice(), &unknown].concat();
        let root = self.factors.get(&hidden.to_vec(), || self.root(&order))?;
        let size = [known.len(), unknown.len()];
        let noise = DVector::from_iterator(size[1], unknown.iter().map(|&at| noise[at]));
        let mut drawn = root.view((size[0], size[0]), (size[1], size[1])) * noise;
        if size[0] > 0 {
            let known = DVector::from_iterator(size[0], known.iter().map(|&at| standard[at]));
            let whitened = solve(root.view((0, 0), (size[0], size[0])), &known)?;
            drawn += root.view((size[0], 0), (size[1], size[0])) * whitened;
        }
        unknown.iter().zip(drawn.iter()).for_each(|(&at, value)| standard[at] = *value);
        Ok(())
    }
}

/// The lower Cholesky factor of a matrix, if it is positive definite.
fn root(matrix: DMatrix<f64>) -> Option<DMatrix<f64>> {
    Some(matrix.cholesky()?.unpack())
}

/// `A⁻¹ z` for lower triangular A.
fn solve(root: nalgebra::DMatrixView<'_, f64>, right: &DVector<f64>) -> Result<DVector<f64>> {
    root.solve_lower_triangular(right).ok_or_else(|| {
        Error::invalid("correlations of the data", "are singular", "variables that do not repeat each other")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_correlations_are_taken_as_they_are() -> Result<()> {
        let matrix = DMatrix::from_row_slice(2, 2, &[1.0, 0.6, 0.6, 1.0]);
        let found = Correlated::new(matrix)?;
        assert_eq!(found.shrinkage(), 0.0);
        let mut values = [2.0, 99.0];
        found.draw(&mut values, &[false, true], &[99.0, 0.5])?;
        assert_eq!(values[0], 2.0);
        assert!((values[1] - (0.6 * 2.0 + 0.8 * 0.5)).abs() < 1e-12, "{values:?}");
        Ok(())
    }

    #[test]
    fn variables_that_repeat_each_other_are_shrunk_towards_independence() -> Result<()> {
        let found = Correlated::new(DMatrix::from_element(2, 2, 1.0))?;
        assert_eq!(found.shrinkage(), SHRINKAGE);
        let mut values = [2.0, 99.0];
        found.draw(&mut values, &[false, true], &[0.0, 0.0])?;
        assert!((values[1] - 2.0 * (1.0 - SHRINKAGE)).abs() < 1e-12, "{values:?}");
        let impossible = DMatrix::from_row_slice(2, 2, &[1.0, 1.5, 1.5, 1.0]);
        assert!(Correlated::new(impossible).unwrap_err().to_string().contains("not positive definite"));
        Ok(())
    }
}
