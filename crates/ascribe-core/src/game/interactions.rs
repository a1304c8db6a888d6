//! Interactions of players: Shapley's index, by enumeration.

use serde::Serialize;

use super::exact::mean;
use super::{Coalition, Game, TableGame};
use crate::error::Result;
use crate::run::Run;

/// The Shapley interaction index of each two players of a game, exactly: [`TableGame::shapley_interactions`] after
/// `2^n` evaluations.
///
/// # Errors
/// Those of [`TableGame::of`].
pub fn shapley_interactions<G: Game + ?Sized>(game: &G, run: &Run) -> Result<Interactions> {
    Ok(TableGame::of(game, run)?.shapley_interactions())
}

/// A number for each two players; it does not matter which of them comes first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interactions {
    players: usize,
    /// (0, 1), (0, 2), …, (1, 2), …
    pairs: Vec<f64>,
}

impl Interactions {
    /// Number of players.
    pub fn players(&self) -> usize {
        self.players
    }

    /// The number of players `a` and `b`; `None` if there are no such players or they are the same.
    pub fn get(&self, a: usize, b: usize) -> Option<f64> {
        let (a, b) = (a.min(b), a.max(b));
        if a == b || b >= self.players {
            return None;
        }
        // Players below `a` have one pair less each: n−1, n−2, ….
        let before = a * (2 * self.players - a - 1) / 2;
        self.pairs.get(before + b - a - 1).copied()
    }

    /// Each two players, the lower one first, and their number, in ascending order of the players.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        pairs(self.players).zip(&self.pairs).map(|((a, b), value)| (a, b, *value))
    }
}

/// Each two of `0..players`, the lower one first, in ascending order.
fn pairs(players: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..players).flat_map(move |a| (a + 1..players).map(move |b| (a, b)))
}

impl TableGame {
    /// The Shapley interaction index of a set `T` of players: the derivative with respect to them, averaged over the
    /// coalitions of the others as in the Shapley value,
    ///
    /// `I(T) = Σ_{S ⊆ N∖T} |S|! (n−|S|−|T|)! / (n−|T|+1)! · Δ_T v(S)`
    ///
    /// For one player it is the Shapley value. Positive means that the players are worth more together than apart.
    /// Grabisch and Roubens 1999, "An axiomatic approach to the concept of interaction among players in cooperative
    /// games", International Journal of Game Theory 28. `O(2ⁿ)`.
    ///
    /// # Errors
    /// If the set has another number of players than the game.
    pub fn shapley_interaction(&self, of: &Coalition) -> Result<f64> {
        Ok(mean(&self.mean_derivatives(self.number(of)?)))
    }

    /// [`Self::shapley_interaction`] of each two players. `O(2ⁿ n²)` additions, and no evaluation of the game.
    pub fn shapley_interactions(&self) -> Interactions {
        let index = |(a, b): (usize, usize)| mean(&self.mean_derivatives((1 << a) | (1 << b)));
        Interactions { players: self.players(), pairs: pairs(self.players()).map(index).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_where_they_are_looked_for() {
        let players = 6;
        let numbers = pairs(players).map(|(a, b)| (10 * a + b) as f64).collect();
        let interactions = Interactions { players, pairs: numbers };
        for (a, b, value) in interactions.iter() {
            assert_eq!(value, (10 * a + b) as f64);
            assert_eq!(interactions.get(a, b), Some(value));
            assert_eq!(interactions.get(b, a), Some(value));
        }
        assert_eq!(interactions.iter().count(), 15);
        assert_eq!(interactions.get(2, 2), None);
        assert_eq!(interactions.get(0, 6), None);
    }
}
