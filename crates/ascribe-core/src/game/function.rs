//! Games defined by closures.

use std::fmt::{self, Debug};

use rayon::prelude::*;

use super::{Coalition, Game, check_players};
use crate::error::Result;

/// A game whose values a closure computes, one coalition at a time. Coalitions are evaluated in parallel on rayon's
/// threads; the values do not depend on the number of threads.
#[derive(Clone)]
pub struct FnGame<F> {
    players: usize,
    value: F,
}

impl<F: Fn(&Coalition) -> Result<f64> + Sync> FnGame<F> {
    /// The game of `players` players with these values.
    pub fn new(players: usize, value: F) -> Self {
        Self { players, value }
    }
}

impl<F: Fn(&Coalition) -> Result<f64> + Sync> Game for FnGame<F> {
    fn players(&self) -> usize {
        self.players
    }

    /// # Errors
    /// The error of the first coalition that has one.
    fn values(&self, coalitions: &[Coalition]) -> Result<Vec<f64>> {
        coalitions.iter().try_for_each(|coalition| check_players(self.players, coalition))?;
        let found: Vec<Result<f64>> = coalitions.par_iter().map(&self.value).collect();
        found.into_iter().collect()
    }
}

impl<F> Debug for FnGame<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnGame").field("players", &self.players).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::game::{TableGame, evaluate};
    use crate::run::Run;

    #[test]
    fn order_is_that_of_the_coalitions() {
        let game = FnGame::new(6, |c: &Coalition| Ok(c.to_bits().unwrap() as f64));
        let table = TableGame::of(&game, &Run::new().batch(64)).unwrap();
        assert!(table.table().iter().copied().eq((0..64).map(f64::from)));
    }

    #[test]
    fn the_first_error_is_reported() {
        let game = FnGame::new(4, |c: &Coalition| match c.to_bits() {
            Some(bits @ (3 | 9)) => Err(Error::invalid("test", bits.to_string(), "another")),
            _ => Ok(0.0),
        });
        let error = TableGame::of(&game, &Run::new().batch(16)).unwrap_err().to_string();
        assert!(error.contains("test: 3"), "{error}");
    }

    #[test]
    fn what_a_game_gives_is_checked() {
        struct Short;
        impl Game for Short {
            fn players(&self) -> usize {
                2
            }

            fn values(&self, _: &[Coalition]) -> Result<Vec<f64>> {
                Ok(vec![1.0])
            }
        }
        let error = TableGame::of(&Short, &Run::new()).unwrap_err().to_string();
        assert!(error.contains("has 1 values for 4 coalitions"), "{error}");

        let infinite = FnGame::new(2, |c: &Coalition| Ok(1.0 / (2 - c.len()) as f64));
        let error = TableGame::of(&&infinite, &Run::new()).unwrap_err().to_string();
        assert!(error.contains("inf at {0, 1} of 2"), "{error}");

        let other = Coalition::empty(3).unwrap();
        assert!(evaluate(&infinite, [other].into_iter(), &Run::new()).is_err());
    }

    #[test]
    fn a_run_can_be_cancelled() {
        let game = FnGame::new(4, |_: &Coalition| Ok(0.0));
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let error = TableGame::of(&game, &Run::new().cancel_with(flag)).unwrap_err();
        assert!(matches!(error, Error::Cancelled { done: 0, total: 16 }));
    }
}
