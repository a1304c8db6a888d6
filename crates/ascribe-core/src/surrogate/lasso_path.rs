//! The lasso for all penalties.

use nalgebra::DVector;
use serde::Serialize;

use super::centred::Centred;
use super::direction::Active;
use super::{Observations, check_penalty};
use crate::error::{Error, Result};

/// The rounding error of a sum as a share of its largest term.
const ROUNDING: f64 = 1e-12;

/// A coefficient below this share of the largest one is zero.
const SMALLEST: f64 = 1e-13;

/// The lasso at a penalty where its direction changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Knot {
    /// The penalty.
    pub lambda: f64,
    /// The intercept.
    pub intercept: f64,
    /// One for each feature; exactly 0 for those that are not active.
    pub coefficients: Vec<f64>,
}

impl Knot {
    /// The features with coefficients other than 0, in ascending order.
    pub fn active(&self) -> impl Iterator<Item = usize> + '_ {
        self.coefficients.iter().enumerate().filter(|(_, c)| **c != 0.0).map(|(feature, _)| feature)
    }
}

/// The lasso for all penalties: coefficients and intercept are linear between [`Knot`]s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LassoPath {
    /// From the least penalty without active features down to 0; never empty.
    knots: Vec<Knot>,
}

/// The lasso's coefficients `c` for all penalties λ: those of the least
///
/// `½ Σᵢ wᵢ (yᵢ − b − c·xᵢ)² / Σᵢ wᵢ + λ Σⱼ |cⱼ|`
///
/// The scale of λ is that of scikit-learn's `Lasso` with `sample_weight`. Tibshirani 1996, "Regression shrinkage and
/// selection via the lasso"; the path by the homotopy of Osborne, Presnell and Turlach 2000, "A new approach to
/// variable selection in least squares problems", also known as LARS with the lasso's modification (Efron et al. 2004,
/// "Least angle regression"). It is exact up to rounding, and where features are tied or depend on each other it gives
/// one of the solutions. It works with products of features: one that is a sum of others but for a ten-millionth of it
/// counts as their sum. `O(m d²)` for the products of the features, then `O(d k)` for each knot with `k` active
/// features.
///
/// # Errors
/// If there are more than `32 (d + 8)` knots: in theory there can be exponentially many, in practice there are about
/// `min(m, d)`.
pub fn lasso_path(data: &Observations<'_>, intercept: bool) -> Result<LassoPath> {
    path_down_to(0.0, data, intercept)
}

/// The part of the path from the greatest penalty to this one.
pub(super) fn path_down_to(end: f64, data: &Observations<'_>, intercept: bool) -> Result<LassoPath> {
    check_penalty("lambda", end)?;
    let centred = Centred::new(data, intercept);
    let gram = centred.x.tr_mul(&centred.x) / centred.weight;
    let products = centred.x.tr_mul(&centred.y) / centred.weight;
    let (features, sizes) = (products.len(), gram.abs());
    let knot = |lambda: f64, coefficients: &DVector<f64>| {
        let coefficients = coefficients.as_slice().to_vec();
        let intercept = if intercept { centred.intercept(&coefficients) } else { 0.0 };
        Knot { lambda, intercept, coefficients }
    };

    let mut coefficients = DVector::zeros(features);
    let mut lambda = products.amax();
    let mut active = Active::none(&gram);
    let mut path = LassoPath { knots: vec![knot(lambda, &coefficients)] };
    let most = 32 * (features + 8);
    for knots in 0.. {
        if lambda <= end {
            break;
        }
        if knots > most {
            let problem = format!("has more than {most} knots");
            return Err(Error::invalid(
                "path of the lasso",
                problem,
                "features that depend less on each other",
            ));
        }
        // Products with the residual; as large as λ for active features, no larger for others.
        let explained = &gram * &coefficients;
        let rest = &products - &explained;
        let rounding = ROUNDING * (products.abs() + &sizes * coefficients.abs()).amax();
        if lambda <= rounding {
            // The remaining products are rounding errors, as are further changes of the coefficients.
            path.knots.push(knot(0.0, &coefficients));
            break;
        }
        let sign = |(product, c): (&f64, &f64)| if *c == 0.0 { product.signum() } else { c.signum() };
        let signs: Vec<f64> = rest.iter().zip(&coefficients).map(sign).collect();
        let on_edge = |feature: &usize| rest[*feature].abs() >= lambda - rounding;
        let edge: Vec<usize> = (0..features).filter(on_edge).collect();
        let rates = active.rates(&signs, &edge);
        let falls = &gram * &rates;

        // How far: until an active coefficient is zero, another feature's product is as large as the penalty, or the
        // penalty is zero.
        let mut step = lambda;
        let vanishes = |feature: usize| {
            let (c, rate) = (coefficients[feature], rates[feature]);
            if c * rate < 0.0 { -c / rate } else { f64::INFINITY }
        };
        for feature in 0..features {
            if active.has(feature) {
                step = step.min(vanishes(feature));
                continue;
            }
            for sign in [1.0, -1.0] {
                let (gap, closing) = (lambda - sign * rest[feature], 1.0 - sign * falls[feature]);
                // Features that stay on their edge were looked at already.
                if gap > rounding && closing > 0.0 {
                    step = step.min(gap / closing);
                }
            }
        }
        let zero: Vec<usize> =
            active.members().iter().copied().filter(|f| vanishes(*f) <= step * (1.0 + ROUNDING)).collect();
        coefficients.axpy(step, &rates, 1.0);
        for feature in zero {
            coefficients[feature] = 0.0;
        }
        // Rounding errors of other coefficients could have the wrong sign.
        let smallest = SMALLEST * coefficients.amax();
        coefficients.iter_mut().filter(|c| c.abs() <= smallest).for_each(|c| *c = 0.0);
        active.leave(|feature| coefficients[feature] == 0.0);
        let before = lambda;
        lambda = if step < lambda { lambda - step } else { 0.0 };
        // Steps within rounding errors end at the same knot.
        if lambda == before {
            path.knots.pop();
        }
        path.knots.push(knot(lambda, &coefficients));
    }
    Ok(path)
}

impl LassoPath {
    /// The knots, from the least penalty without active features down to 0.
    pub fn knots(&self) -> &[Knot] {
        &self.knots
    }

    /// The lasso at this penalty.
    ///
    /// # Errors
    /// If the penalty is negative, NaN or infinite.
    pub fn at(&self, lambda: f64) -> Result<Knot> {
        check_penalty("lambda", lambda)?;
        // Penalties above the first knot have its coefficients, which are zero.
        let below = self.knots.partition_point(|knot| knot.lambda > lambda);
        let (from, to) = (&self.knots[below.saturating_sub(1)], &self.knots[below.min(self.knots.len() - 1)]);
        let length = from.lambda - to.lambda;
        let share = if length > 0.0 { (from.lambda - lambda) / length } else { 1.0 };
        let between = |(a, b): (&f64, &f64)| a + share * (b - a);
        Ok(Knot {
            lambda,
            intercept: between((&from.intercept, &to.intercept)),
            coefficients: from.coefficients.iter().zip(&to.coefficients).map(between).collect(),
        })
    }

    /// The knot of the least penalty at which at most `count` features are active: LIME's selection by the lasso path,
    /// which looks at the knots from the least penalty on and takes the first with few enough features (`lasso_path` in
    /// its code; Efron et al. 2004). At a knot, a feature that becomes active there still is zero.
    pub fn at_most(&self, count: usize) -> &Knot {
        let few = self.knots.iter().rposition(|knot| knot.active().count() <= count);
        // The first has none.
        &self.knots[few.unwrap_or(0)]
    }
}
