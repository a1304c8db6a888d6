//! Values of the players: Shapley's and Banzhaf's, by enumeration.

use super::{Game, TableGame};
use crate::error::Result;
use crate::run::Run;

/// The Shapley value of each player of a game, exactly: [`TableGame::shapley_values`] after `2^n` evaluations.
///
/// # Errors
/// Those of [`TableGame::of`].
pub fn shapley_values<G: Game + ?Sized>(game: &G, run: &Run) -> Result<Vec<f64>> {
    Ok(TableGame::of(game, run)?.shapley_values())
}

/// The Banzhaf value of each player of a game, exactly: [`TableGame::banzhaf_values`] after `2^n` evaluations.
///
/// # Errors
/// Those of [`TableGame::of`].
pub fn banzhaf_values<G: Game + ?Sized>(game: &G, run: &Run) -> Result<Vec<f64>> {
    Ok(TableGame::of(game, run)?.banzhaf_values())
}

impl TableGame {
    /// The Shapley value of each of the `n` players: its marginal contribution, averaged over all orders in which the
    /// players can join,
    ///
    /// `φᵢ = Σ_{S ⊆ N∖i} |S|! (n−|S|−1)! / n! · (v(S ∪ i) − v(S))`
    ///
    /// which is the mean over the sizes of `S` of the mean over the `S` of that size. They sum to `v(N) − v(∅)`.
    /// Shapley 1953, "A value for n-person games", Contributions to the Theory of Games II. `O(2ⁿ n)`.
    pub fn shapley_values(&self) -> Vec<f64> {
        self.by_player(mean)
    }

    /// The Banzhaf value of each of the `n` players: its marginal contribution, averaged over all coalitions of the
    /// others,
    ///
    /// `βᵢ = 2^{1−n} Σ_{S ⊆ N∖i} (v(S ∪ i) − v(S))`
    ///
    /// They do not in general sum to `v(N) − v(∅)`. Banzhaf 1965, "Weighted voting doesn't work", Rutgers Law Review
    /// 19; for games other than of votes, Owen 1975, "Multilinear extensions and the Banzhaf value". `O(2ⁿ n)`.
    pub fn banzhaf_values(&self) -> Vec<f64> {
        self.by_player(|means| {
            // Means of as many derivatives as there are coalitions of that size: binomial coefficients.
            let others = means.len() - 1;
            let (mut sum, mut coalitions) = (0.0, 1.0);
            for (size, mean) in means.iter().enumerate() {
                sum += coalitions * mean;
                coalitions = coalitions * (others - size) as f64 / (size + 1) as f64;
            }
            sum / (1_u64 << others) as f64
        })
    }

    fn by_player(&self, average: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        (0..self.players()).map(|player| average(&self.mean_derivatives(1 << player))).collect()
    }
}

/// The arithmetic mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
