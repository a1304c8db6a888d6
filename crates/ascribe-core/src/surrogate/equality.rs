//! A linear equation that the coefficients satisfy exactly.

use nalgebra::{DMatrix, DVector};

use super::Observations;
use super::observations::{LARGEST, check_values};
use crate::error::{Error, Result};

/// `Σⱼ factorⱼ · coefficientⱼ = total`, for example `KernelSHAP`'s: coefficients that sum to the change of the score.
#[derive(Clone, Debug, PartialEq)]
pub struct Equality {
    /// One factor for each feature, not all of them zero.
    pub factors: Vec<f64>,
    /// The sum of the products.
    pub total: f64,
}

impl Equality {
    /// The coefficients of this many features sum to `total`.
    pub fn sum(features: usize, total: f64) -> Self {
        Self { factors: vec![1.0; features], total }
    }

    /// The equation as a change of coordinates.
    ///
    /// # Errors
    /// If it has another number of factors than there are features, a factor or the total is not finite or above
    /// [`LARGEST`], or all factors are zero.
    pub(super) fn reduction(&self, data: &Observations<'_>) -> Result<Reduction> {
        if self.factors.len() != data.features() {
            let expected = format!("{}, one for each feature", data.features());
            return Err(Error::invalid("factors", format!("are {}", self.factors.len()), expected));
        }
        check_values("factors", &self.factors, -LARGEST)?;
        check_values("total", &[self.total], -LARGEST)?;
        let largest = self.factors.iter().fold(0.0, |largest: f64, factor| largest.max(factor.abs()));
        if largest == 0.0 {
            return Err(Error::invalid("factors", "are all 0", "at least one other"));
        }
        let scaled = DVector::from_column_slice(&self.factors) / largest;
        let length = scaled.norm();
        let normal = scaled / length;
        let mut axis = normal.clone();
        axis[0] += if axis[0] >= 0.0 { 1.0 } else { -1.0 };
        Ok(Reduction { axis: axis.normalize(), normal, distance: self.total / largest / length })
    }
}

/// Coordinates in which an equality `n·c = q`, `|n| = 1`, fixes the first of them.
///
/// Householder's reflection `H = I − 2 v vᵀ` takes `n` to the first axis, up to the sign. Every `c = q n + H [0, u]`
/// satisfies the equality, and `|c|² = q² + |u|²`: the least squares, the ridge penalty and the least norm of `u` are
/// those of `c`. This is the null-space method: Golub and Van Loan, Matrix Computations, §6.2.
pub(super) struct Reduction {
    /// `v`.
    axis: DVector<f64>,
    /// `n`.
    normal: DVector<f64>,
    /// `q`.
    distance: f64,
}

impl Reduction {
    /// The rows and targets that `u` is fitted to.
    pub(super) fn reduce(&self, x: &DMatrix<f64>, y: &DVector<f64>) -> (DMatrix<f64>, DVector<f64>) {
        let free = self.reflect(x.clone()).remove_column(0);
        (free, y - x * &self.normal * self.distance)
    }

    /// The rounding of columns, by its size before and after [`Self::reduce`].
    pub(super) fn sizes(&self, sizes: &[f64]) -> Vec<f64> {
        let along: f64 = self.axis.iter().zip(sizes).map(|(v, size)| v.abs() * size).sum();
        let free = self.axis.iter().zip(sizes).skip(1);
        free.map(|(v, size)| size + 2.0 * v.abs() * along).collect()
    }

    /// The coefficients `c` of a `u`.
    pub(super) fn restore(&self, u: &DVector<f64>) -> DVector<f64> {
        let mut c = u.clone().insert_row(0, 0.0);
        c.axpy(-2.0 * self.axis.dot(&c), &self.axis, 1.0);
        // The first step corrects the whole difference, the second one the rounding error of the first.
        for _ in 0..2 {
            c.axpy(self.distance - self.normal.dot(&c), &self.normal, 1.0);
        }
        c
    }

    /// Changes of `u`, in rows, as changes of `c`.
    pub(super) fn directions(&self, rows: DMatrix<f64>) -> DMatrix<f64> {
        self.reflect(rows.insert_column(0, 0.0))
    }

    /// `rows H`.
    fn reflect(&self, mut rows: DMatrix<f64>) -> DMatrix<f64> {
        let along = &rows * &self.axis;
        rows.ger(-2.0, &along, &self.axis, 1.0);
        rows
    }
}
