//! The result of a fit.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::error::{Error, Result};

/// A fitted model `f(x) = intercept + Σⱼ coefficientⱼ xⱼ`, and what is to be known about the fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// `f(0)`; 0 if the model has no intercept.
    pub intercept: f64,
    /// One for each feature.
    pub coefficients: Vec<f64>,
    /// The share of the targets' variance that is explained, with the weights of the fit:
    /// `R² = 1 − Σ wᵢ (yᵢ − f(xᵢ))² / Σ wᵢ (yᵢ − ȳ)²`, `ȳ` the weighted mean, also if the model has no intercept. It
    /// can be below 0, if the model is worse than a constant. Where the targets do not vary, it is 1 if they are met to
    /// eight digits, 0 otherwise.
    pub r2: f64,
    /// Uncertainty of each coefficient, as described for [`crate::surrogate::Linear`]; `None` if it cannot be told: the
    /// notes say why. [`crate::surrogate::Lasso`] has none.
    pub standard_errors: Option<Vec<f64>>,
    /// How many directions of the coefficients the fit determines. They are unique if it is the number of features,
    /// less one if there is an equality. The penalty of a ridge determines all; for the lasso it is the number of
    /// coefficients other than zero.
    pub rank: usize,
    /// What deserves attention.
    pub notes: Vec<Note>,
}

/// Something about a fit that deserves attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Note {
    /// Features depend on each other, or the rows are too few.
    Dependent {
        /// Directions that the rows determine.
        rank: usize,
        /// Directions there are.
        unknowns: usize,
    },
    /// As many unknowns as rows: residuals say nothing about uncertainty.
    Saturated {
        /// Rows that count.
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
