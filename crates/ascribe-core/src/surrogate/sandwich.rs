//! Standard errors that need no model of the noise.

use nalgebra::{DMatrix, DVector};

/// For estimates `(ZᵀZ + αI)⁻¹ Zᵀ t` with residuals `r = t − Z u`: the influence of row `i` is
/// `ψᵢ = (ZᵀZ + αI)⁻¹ zᵢ rᵢ`, and the covariance is
///
/// `n / (n − p) · Σᵢ ψᵢ ψᵢᵀ`
///
/// with `p = tr Z (ZᵀZ + αI)⁻¹ Zᵀ`, plus 1 for an intercept. Rows of the result are the `√(n/(n−p)) ψᵢ`; `None` if `p`
/// reaches `n`.
///
/// The sandwich of Huber 1967 and White 1980, "A heteroskedasticity-consistent covariance matrix estimator and a direct
/// test for heteroskedasticity", Econometrica 48; the factor by Hinkley 1977, "Jackknifing in unbalanced situations":
/// HC1.
pub(super) fn influences(
    z: &DMatrix<f64>,
    inverse_root: &DMatrix<f64>,
    residuals: &DVector<f64>,
    intercept: bool,
) -> Option<DMatrix<f64>> {
    let rows = z.nrows() as f64;
    let projected = z * inverse_root;
    let freedom = rows - projected.norm_squared() - f64::from(u8::from(intercept));
    // The trace is a number of unknowns, up to rounding.
    if freedom < 1e-9 * rows {
        return None;
    }
    let factor = (rows / freedom).sqrt();
    let mut influences = projected * inverse_root.transpose();
    for mut column in influences.column_iter_mut() {
        column.iter_mut().zip(residuals).for_each(|(value, residual)| *value *= factor * residual);
    }
    Some(influences)
}
