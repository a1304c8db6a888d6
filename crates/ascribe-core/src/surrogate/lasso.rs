//! The lasso.

use nalgebra::DVector;

use super::centred::Centred;
use super::lasso_path::path_down_to;
use super::{Fit, Note, Observations, Surrogate};
use crate::error::Result;

/// Weighted least squares with a penalty that sets coefficients to zero: the intercept `b` and the coefficients `c`
/// of the least
///
/// `½ Σᵢ wᵢ (yᵢ − b − c·xᵢ)² / Σᵢ wᵢ + lambda Σⱼ |cⱼ|`
///
/// Tibshirani 1996, "Regression shrinkage and selection via the lasso". The scale of `lambda` is that of scikit-learn's
/// `Lasso` with `sample_weight`. The solution is a point of the path that [`super::lasso_path()`] describes, and exact
/// up to rounding, not the result of an iteration with a tolerance.
///
/// There are no standard errors: after a selection by the same data the usual ones are wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lasso {
    /// The penalty, 0 or more.
    pub lambda: f64,
    /// Whether the model has an intercept.
    pub intercept: bool,
}

impl Surrogate for Lasso {
    fn fit(&self, data: &Observations<'_>) -> Result<Fit> {
        let knot = path_down_to(self.lambda, data, self.intercept)?.at(self.lambda)?;
        let centred = Centred::new(data, self.intercept);
        let residuals = centred.residuals(&DVector::from_column_slice(&knot.coefficients));
        Ok(Fit {
            intercept: knot.intercept,
            r2: centred.r2(residuals.norm_squared()),
            standard_errors: None,
            rank: knot.active().count(),
            coefficients: knot.coefficients,
            notes: if centred.total == 0.0 { vec![Note::ConstantTargets] } else { Vec::new() },
        })
    }
}
