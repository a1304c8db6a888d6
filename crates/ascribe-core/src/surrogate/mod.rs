//! Simple models that approximate a complex one: weighted regression of scores on rows of features.
//!
//! LIME, its variants and `KernelSHAP` explain a model by the coefficients of an interpretable one, fitted to
//! scores of variations of an input. They differ in the rows, the weights and the fitted model: [`Linear`], [`Ridge`] or
//! [`Lasso`], after a selection of features by [`ForwardSelection`] or by the [`lasso_path()`], on the features
//! themselves or on their products too ([`Quadratic`]), freely or under an [`Equality`].
//!
//! Everything is computed in f64 and on one thread, so that results are bit-identical in every run.

mod centred;
mod direction;
mod equality;
mod fit;
mod forward;
mod lasso;
mod lasso_path;
mod least_squares;
mod linear;
mod observations;
mod pivoted;
mod quadratic;
mod ridge;
mod sandwich;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};

pub use equality::Equality;
pub use fit::{Fit, Note};
pub use forward::{ForwardSelection, Selection};
pub use lasso::Lasso;
pub use lasso_path::{Knot, LassoPath, lasso_path};
pub use linear::Linear;
pub use observations::{LARGEST, Observations};
pub use quadratic::{Quadratic, Term};
pub use ridge::Ridge;

/// A model that is fitted to observations: `f(x) = intercept + Σⱼ coefficientⱼ xⱼ`.
pub trait Surrogate {
    /// The fitted model.
    ///
    /// # Errors
    /// If a setting is out of range or does not suit the observations.
    fn fit(&self, data: &Observations<'_>) -> Result<Fit>;
}

/// Checks that the penalty of this name is a number between zero and [`LARGEST`].
fn check_penalty(name: &str, value: f64) -> Result<()> {
    if (0.0..=LARGEST).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(name, format!("is {value}"), format!("0 to {LARGEST:e}")))
}
