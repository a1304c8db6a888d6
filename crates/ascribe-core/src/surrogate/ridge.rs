//! Ridge regression.

use super::{Equality, Fit, Observations, Surrogate, least_squares};
use crate::error::Result;

/// Weighted least squares with a penalty on the coefficients: the intercept `b` and the coefficients `c` of the least
///
/// `Σᵢ wᵢ (yᵢ − b − c·xᵢ)² + alpha |c|²`
///
/// under an equality `a·c = q`, if there is one. Hoerl and Kennard 1970, "Ridge regression: biased estimation for
/// nonorthogonal problems", Technometrics 12. The intercept is not penalised, and the weights are taken as they are:
/// twice the weights are half the penalty. This is scikit-learn's `Ridge` with `sample_weight`.
///
/// Standard errors are those of [`super::Linear`] with `XᵀWX + alpha I` to be inverted, and with the effective number
/// of unknowns `tr X (XᵀWX + alpha I)⁻¹ XᵀW`. They do not cover the bias towards zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// The penalty, 0 or more; with 0 it is [`super::Linear`].
    pub alpha: f64,
    /// Whether the model has an intercept.
    pub intercept: bool,
    /// What the coefficients have to satisfy.
    pub equality: Option<Equality>,
}

impl Default for Ridge {
    /// A penalty of 1, as LIME has it, with an intercept and without an equality.
    fn default() -> Self {
        Self { alpha: 1.0, intercept: true, equality: None }
    }
}

impl Surrogate for Ridge {
    fn fit(&self, data: &Observations<'_>) -> Result<Fit> {
        least_squares::fit(data, self.alpha, self.intercept, self.equality.as_ref())
    }
}
