//! What linear and ridge regression share.

use nalgebra::{DMatrix, DVector};

use super::centred::Centred;
use super::pivoted::Pivoted;
use super::sandwich::influences;
use super::{Equality, Fit, Note, Observations, check_penalty};
use crate::error::Result;

/// The least `Σ wᵢ (yᵢ − b − c·xᵢ)² + alpha |c|²`.
///
/// # Errors
/// If the penalty is out of range or the equality does not match the observations.
pub(super) fn fit(
    data: &Observations<'_>,
    alpha: f64,
    intercept: bool,
    equality: Option<&Equality>,
) -> Result<Fit> {
    check_penalty("alpha", alpha)?;
    let reduction = equality.map(|equality| equality.reduction(data)).transpose()?;
    let centred = Centred::new(data, intercept);
    let ((z, t), sizes) = match &reduction {
        None => ((centred.x.clone(), centred.y.clone()), centred.sizes.clone()),
        Some(reduction) => (reduction.reduce(&centred.x, &centred.y), reduction.sizes(&centred.sizes)),
    };
    let unknowns = z.ncols();
    let (rows, targets) = penalised(z.clone(), t, alpha);
    let factors = Pivoted::new(rows, targets, &sizes);
    let solution = factors.solve()?;
    let coefficients = match &reduction {
        None => solution,
        Some(reduction) => reduction.restore(&solution),
    };
    let residuals = centred.residuals(&coefficients);
    let coefficients = coefficients.as_slice().to_vec();
    let mut fit = Fit {
        intercept: if intercept { centred.intercept(&coefficients) } else { 0.0 },
        r2: centred.r2(residuals.norm_squared()),
        coefficients,
        standard_errors: None,
        rank: factors.rank(),
        notes: Vec::new(),
    };
    if centred.total == 0.0 {
        fit.notes.push(Note::ConstantTargets);
    }
    let Some(root) = factors.inverse_root()? else {
        fit.notes.push(Note::Dependent { rank: fit.rank, unknowns });
        return Ok(fit);
    };
    let Some(influences) = influences(&z, &root, &residuals, intercept) else {
        fit.notes.push(Note::Saturated { rows: residuals.len() });
        return Ok(fit);
    };
    let influences = match &reduction {
        None => influences,
        Some(reduction) => reduction.directions(influences),
    };
    fit.standard_errors = Some(influences.column_iter().map(|column| column.norm()).collect());
    Ok(fit)
}

/// A penalty of `alpha |u|²` is equivalent to one additional row for each unknown: `√alpha`, with target 0.
fn penalised(z: DMatrix<f64>, t: DVector<f64>, alpha: f64) -> (DMatrix<f64>, DVector<f64>) {
    if alpha == 0.0 {
        return (z, t);
    }
    let (rows, unknowns) = z.shape();
    let mut z = z.resize_vertically(rows + unknowns, 0.0);
    (0..unknowns).for_each(|at| z[(rows + at, at)] = alpha.sqrt());
    (z, t.resize_vertically(rows + unknowns, 0.0))
}
