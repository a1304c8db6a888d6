//! Linear regression.

use super::{Equality, Fit, Observations, Surrogate, least_squares};
use crate::error::Result;

/// Weighted least squares: the intercept `b` and the coefficients `c` of the least
///
/// `Σᵢ wᵢ (yᵢ − b − c·xᵢ)²`
///
/// under an equality `a·c = q`, if there is one. If features are linearly dependent, the solution with the least `|c|` is
/// returned, with the rank and a note. `O(m d²)` for `m` rows and `d` features.
///
/// Standard errors are square roots of the diagonal of the sandwich
///
/// `m/(m−p) · (XᵀWX)⁻¹ XᵀW diag(e²) W X (XᵀWX)⁻¹`
///
/// with residuals `e` and `p` unknowns (White 1980, with the factor of Hinkley 1977: HC1). They say how much
/// coefficients would differ if other rows had been drawn: it needs neither noise of equal size nor that the model is
/// linear in truth. The classical `σ² (XᵀWX)⁻¹` takes weights for inverse variances, which those of LIME or
/// `KernelSHAP` are not. Where the rows are not drawn but all there are, standard errors say how far the model is from
/// linear, no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Whether the model has an intercept.
    pub intercept: bool,
    /// What the coefficients have to satisfy.
    pub equality: Option<Equality>,
}

impl Default for Linear {
    /// With an intercept, without an equality.
    fn default() -> Self {
        Self { intercept: true, equality: None }
    }
}

impl Surrogate for Linear {
    fn fit(&self, data: &Observations<'_>) -> Result<Fit> {
        least_squares::fit(data, 0.0, self.intercept, self.equality.as_ref())
    }
}
