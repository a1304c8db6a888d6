//! Cooperative games: the value of each set of players, and its division among the players.
//!
//! A game gives every set of players (a [`Coalition`]) a value. For an explained model the players are features, and
//! the value of a coalition is the score while only its members are known (Štrumbelj and Kononenko 2010; Lundberg and
//! Lee 2017). Solutions, which divide the value among the players, are functions of a [`Game`] and independent of models,
//! so that they are tested on games whose solutions are known in closed form.
//!
//! [`TableGame`] and [`FnGame`] are games without a model. The exact solutions are those of a table:
//! [`shapley_values`], [`banzhaf_values`], [`shapley_interactions`] and their general forms on [`TableGame`].

mod coalition;
mod derivative;
mod exact;
mod function;
mod interactions;
mod moebius;
mod table;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::run::Run;

pub use coalition::{Coalition, MAX_PLAYERS};
pub use exact::{banzhaf_values, shapley_values};
pub use function::FnGame;
pub use interactions::{Interactions, shapley_interactions};
pub use table::{MAX_EXACT_PLAYERS, TableGame};

/// A cooperative game: a value for each set of players.
///
/// The value of the empty coalition need not be zero: solutions divide `v(N) − v(∅)`.
pub trait Game: Sync {
    /// Number of players.
    fn players(&self) -> usize;

    /// The values of some coalitions of [`Self::players`] players, in the given order; coalitions may be repeated. The value of
    /// a coalition must not depend on the others that are evaluated with it.
    ///
    /// # Errors
    /// If a coalition has another number of players, or a value cannot be computed.
    fn values(&self, coalitions: &[Coalition]) -> Result<Vec<f64>>;
}

impl<G: Game + ?Sized> Game for &G {
    fn players(&self) -> usize {
        (**self).players()
    }

    fn values(&self, coalitions: &[Coalition]) -> Result<Vec<f64>> {
        (**self).values(coalitions)
    }
}

/// The values of these coalitions, in their order, evaluated as many at a time as the run's batch budget says; steps of
/// the run are coalitions.
///
/// # Errors
/// Those of the game; if it does not return one finite value for each coalition; if the run is cancelled.
pub fn evaluate<G: Game + ?Sized>(
    game: &G,
    coalitions: impl ExactSizeIterator<Item = Coalition>,
    run: &Run,
) -> Result<Vec<f64>> {
    let total = coalitions.len();
    let mut values = Vec::with_capacity(total);
    let mut coalitions = coalitions.peekable();
    while coalitions.peek().is_some() {
        run.step(values.len(), total)?;
        let chunk: Vec<Coalition> = coalitions.by_ref().take(run.get_batch()).collect();
        let found = game.values(&chunk)?;
        if found.len() != chunk.len() {
            let problem = format!("has {} values for {} coalitions", found.len(), chunk.len());
            return Err(Error::invalid("game", problem, "one value for each coalition"));
        }
        if let Some((coalition, value)) = chunk.iter().zip(&found).find(|(_, value)| !value.is_finite()) {
            return Err(Error::invalid(
                "game",
                format!("is worth {value} at {coalition:?}"),
                "finite values",
            ));
        }
        values.extend(found);
    }
    run.step(values.len(), total)?;
    Ok(values)
}

/// Checks that coalitions have this many players.
fn check_players(players: usize, coalition: &Coalition) -> Result<()> {
    if coalition.players() == players {
        return Ok(());
    }
    let problem = format!("is one of {} players", coalition.players());
    Err(Error::invalid("coalition", problem, format!("one of the game's {players}")))
}
