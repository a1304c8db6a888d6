//! The result of a fit.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::error::{Error, Result};

/// A fitted model `f(x) = intercept + Σⱼ coefficientⱼ xⱼ`, with diagnostics of the fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// `f(0)`; 0 if the model has no intercept.
    pub intercept: f64,
    /// One for each feature.
    pub coefficients: Vec<f64>,
    /// The share of the targets' variance that is explained, with the weights of the fit:
    /// `R² = 1 − Σ wᵢ (yᵢ − f(xᵢ))² / Σ wᵢ (yᵢ − ȳ)²`, `ȳ` the weighted mean, also if the model has no intercept. It
    /// can be below 0, if the model is worse than a constant. If the targets do not vary, it is 1 if they are matched to
    /// eight digits, 0 otherwise.
    pub r2: f64,
    /// Standard error of each coefficient, as described for [`crate::surrogate::Linear`]; `None` if it cannot be estimated: the
    /// notes say why. [`crate::surrogate::Lasso`] has none.
    pub standard_errors: Option<Vec<f64>>,
    /// The rank: the number of directions of the coefficients that the fit determines. The coefficients are unique if it is
    /// the number of features, minus one if there is an equality. Ridge regression determines all directions; for the lasso it
    /// is the number of nonzero coefficients.
    pub rank: usize,
    /// Problems of the fit.
    pub notes: Vec<Note>,
}

/// A problem of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Note {
    /// Features are linearly dependent, or there are too few rows.
    Dependent {
        /// Number of directions that the rows determine.
        rank: usize,
        /// Number of all directions.
        unknowns: usize,
    },
    /// There are as many unknowns as rows, so residuals say nothing about uncertainty.
    Saturated {
        /// Number of rows with positive weight.
        rows: usize,
    },
    /// The targets do not vary.
    ConstantTargets,
}

impl Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dependent { rank, unknowns } => write!(
                f,
                "the rows determine {rank} of {unknowns} directions of the coefficients; of all that fit equally \
                 well, those of the least sum of squares are given, and no standard errors"
            ),
            Self::Saturated { rows } => {
                write!(f, "{rows} rows are as few as there are unknowns: there are no standard errors")
            }
            Self::ConstantTargets => write!(f, "the targets do not vary: there is nothing to explain"),
        }
    }
}

impl Fit {
    /// The model's value at a row of features.
    ///
    /// # Errors
    /// If the row has another number of features.
    pub fn predict(&self, row: &[f64]) -> Result<f64> {
        if row.len() != self.coefficients.len() {
            let expected = format!("{}, as in the fit", self.coefficients.len());
            return Err(Error::invalid("row", format!("has {} features", row.len()), expected));
        }
        Ok(self.intercept + self.coefficients.iter().zip(row).map(|(c, x)| c * x).sum::<f64>())
    }
}
