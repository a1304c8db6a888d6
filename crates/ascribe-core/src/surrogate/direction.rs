//! The direction in which the lasso's coefficients move as the penalty falls.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

/// The rate of a product that is no lower than that of the penalty, but for rounding.
const ROUNDING: f64 = 1e-10;

/// A coefficient at this share of the largest rate does not move, but for rounding.
const STILL: f64 = 1e-13;

/// A feature whose squared residual with respect to others is below this share of its square is a linear combination of
/// them, up to rounding.
const DEPENDENT: f64 = 1e-14;

/// The features with coefficients other than zero and the factor of their part of the Gram matrix.
pub(super) struct Active<'a> {
    gram: &'a DMatrix<f64>,
    /// In the order of the factor's rows.
    members: Vec<usize>,
    /// Whether each feature is a member.
    present: Vec<bool>,
    factor: Cholesky<f64, Dyn>,
}

impl<'a> Active<'a> {
    /// No features.
    pub(super) fn none(gram: &'a DMatrix<f64>) -> Self {
        let present = vec![false; gram.ncols()];
        Self { gram, members: Vec::new(), present, factor: Cholesky::new_unchecked(DMatrix::zeros(0, 0)) }
    }

    /// The features.
    pub(super) fn members(&self) -> &[usize] {
        &self.members
    }

    /// Whether a feature is among them.
    pub(super) fn has(&self, feature: usize) -> bool {
        self.present[feature]
    }

    /// Removes features.
    pub(super) fn leave(&mut self, leaving: impl Fn(usize) -> bool) {
        for at in (0..self.members.len()).rev().filter(|at| leaving(self.members[*at])).collect::<Vec<_>>() {
            self.present[self.members.remove(at)] = false;
            self.factor = if self.members.is_empty() {
                Cholesky::new_unchecked(DMatrix::zeros(0, 0))
            } else {
                self.factor.remove_column(at)
            };
        }
    }

    /// Adds a feature, unless it is a linear combination of the others.
    fn join(&mut self, feature: usize) -> bool {
        let column = self.gram.column(feature);
        let size = column[feature];
        let cross = DVector::from_iterator(self.members.len(), self.members.iter().map(|m| column[*m]));
        let known = match self.factor.l_dirty().solve_lower_triangular(&cross) {
            Some(root) => root.norm_squared(),
            None => return false,
        };
        if size - known <= DEPENDENT * size {
            return false;
        }
        let last = self.members.len();
        self.factor = self.factor.insert_column(last, cross.push(size));
        self.members.push(feature);
        self.present[feature] = true;
        true
    }

    /// The rates `v` at which the coefficients move: of all features, zero for those that are not moved.
    ///
    /// `signs` are those of the features' products with the residual, `edge` are the features for which the product is
    /// as large as the penalty, members or not. The members, all of which have coefficients other than zero, move
    /// freely; a feature of the edge can start to move in the direction of its sign only. So `v` is the least
    /// `½ v·Gv − s·v` with `sⱼvⱼ ≥ 0` for features that are no members, by the method of Lawson and Hanson 1974,
    /// "Solving least squares problems", ch. 23. It joins what moves to the members.
    ///
    /// Usually it is one feature that joins, which needs no such problem. But features can reach the edge at once,
    /// above all those that are 0 or 1, and then not all of them move: Tibshirani 2013, "The lasso problem and
    /// uniqueness".
    pub(super) fn rates(&mut self, signs: &[f64], edge: &[usize]) -> DVector<f64> {
        let free = self.present.clone();
        let mut rates = self.stationary(signs);
        let mut refused = Vec::new();
        // Every feature that joins lowers the objective, so the loop ends. The limit guards against rounding errors.
        for _ in 0..4 * (edge.len() + 1) {
            let mut best: Option<(usize, f64)> = None;
            for &feature in edge.iter().filter(|f| !self.has(**f) && !refused.contains(*f)) {
                let rate = 1.0 - signs[feature] * self.gram.column(feature).dot(&rates);
                if rate > ROUNDING && best.is_none_or(|(_, most)| rate > most) {
                    best = Some((feature, rate));
                }
            }
            let Some((joining, _)) = best else { break };
            if !self.join(joining) {
                refused.push(joining);
                continue;
            }
            loop {
                let target = self.stationary(signs);
                let bound = |member: &&usize| !free[**member];
                // Along their signs: the rates, which are zero or above, and where they are to go.
                let along = |rates: &DVector<f64>, member: usize| signs[member] * rates[member];
                let still = STILL * target.amax();
                let against = |member: &&usize| along(&target, **member) <= still;
                let turning: Vec<usize> =
                    self.members.iter().filter(bound).filter(against).copied().collect();
                if turning.is_empty() {
                    rates = target;
                    break;
                }
                // As far as the first of them allows.
                let share = |member: &usize| match along(&rates, *member) {
                    rate if rate > 0.0 => rate / (rate - along(&target, *member).min(0.0)),
                    _ => 0.0,
                };
                let first = turning.iter().map(share).fold(1.0, f64::min);
                let stopped: Vec<usize> = turning.iter().copied().filter(|m| share(m) <= first).collect();
                rates += (&target - &rates) * first;
                for member in &stopped {
                    rates[*member] = 0.0;
                }
                if stopped.contains(&joining) {
                    refused.push(joining);
                }
                self.leave(|member| stopped.contains(&member));
            }
        }
        rates
    }

    /// `v` with `Gv = s` for the members, and zero elsewhere.
    fn stationary(&self, signs: &[f64]) -> DVector<f64> {
        let of_members = self.members.iter().map(|member| signs[*member]);
        let solved = self.factor.solve(&DVector::from_iterator(self.members.len(), of_members));
        let mut rates = DVector::zeros(self.gram.ncols());
        self.members.iter().zip(&solved).for_each(|(member, rate)| rates[*member] = *rate);
        rates
    }
}
