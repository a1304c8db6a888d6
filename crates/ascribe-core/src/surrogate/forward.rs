//! Forward selection of features.

use nalgebra::DVector;
use serde::Serialize;

use super::Observations;
use super::centred::Centred;

/// A feature whose residual with respect to the chosen ones is below this share is a linear combination of them.
const DEPENDENT: f64 = 1e-10;

/// Rounding errors as a share of a feature, including its mean.
const ROUNDING: f64 = 1e-13;

/// Features whose explained shares differ by no more than this are equally good.
const TIED: f64 = 1e-12;

/// Chooses features one after the other, each time the one with which linear regression on the chosen features has the
/// highest weighted `R²`; the first one, if several are equally good up to rounding. LIME's `forward_selection`
/// (Ribeiro et al. 2016, "Why should I trust you?").
///
/// Each choice takes its direction out of the remaining features (Gram and Schmidt, modified), so that no regression is
/// run: `O(m d k)` for `k` of `d` features on `m` rows, instead of as many regressions as there are candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardSelection {
    /// How many features to choose.
    pub count: usize,
    /// Whether the regressions have an intercept; LIME's have.
    pub intercept: bool,
}

/// Features that were chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Selection {
    /// The features, in the order in which they were chosen.
    pub features: Vec<usize>,
    /// Weighted `R²` of linear regression on the features up to each, as in [`super::Fit::r2`].
    pub r2: Vec<f64>,
}

impl ForwardSelection {
    /// The features chosen: `count`, or fewer if all others are constant or sums of those.
    pub fn select(&self, data: &Observations<'_>) -> Selection {
        let mut centred = Centred::new(data, self.intercept);
        let mut residual: DVector<f64> = centred.y.clone();
        let tied = TIED * residual.norm_squared();
        let whole = centred.x.column_iter().map(|column| column.norm());
        let least = whole.zip(&centred.sizes).map(|(whole, size)| (DEPENDENT * whole).max(ROUNDING * size));
        let mut least: Vec<f64> = least.collect();
        let mut chosen = Selection { features: Vec::new(), r2: Vec::new() };
        while chosen.features.len() < self.count {
            let mut best: Option<(usize, f64)> = None;
            for (feature, column) in centred.x.column_iter().enumerate() {
                let length = column.norm();
                if length <= least[feature] {
                    continue;
                }
                let gain = (column.dot(&residual) / length).powi(2);
                if best.is_none_or(|(_, most)| gain > most + tied) {
                    best = Some((feature, gain));
                }
            }
            let Some((feature, _)) = best else { break };
            let length = centred.x.column(feature).norm();
            let axis = centred.x.column(feature) / length;
            let along = axis.dot(&residual);
            residual.axpy(-along, &axis, 1.0);
            let rounding = least[feature] / length;
            for (mut column, least) in centred.x.column_iter_mut().zip(&mut least) {
                let along = axis.dot(&column);
                column.axpy(-along, &axis, 1.0);
                // The subtracted part has the rounding error of the other column.
                *least = least.hypot(along * rounding);
            }
            centred.x.column_mut(feature).fill(0.0);
            chosen.features.push(feature);
            chosen.r2.push(centred.r2(residual.norm_squared()));
        }
        chosen
    }
}
