//! Games given by a table of all values.

use super::{Coalition, Game, check_players, evaluate};
use crate::error::{Error, Result};
use crate::run::Run;

/// The largest number of players for which all values are enumerated: 2²⁰ coalitions are about a million.
pub const MAX_EXACT_PLAYERS: usize = 20;

/// A game of which every value is known, with exact solutions by enumeration.
#[derive(Clone, Debug, PartialEq)]
pub struct TableGame {
    players: usize,
    /// The value of a coalition is at its number, player `i` being bit `i`.
    values: Vec<f64>,
}

impl TableGame {
    /// A game of `players` players. The value of a coalition is at its number, player `i` being bit `i`:
    /// `values[0b101]` is that of players 0 and 2.
    ///
    /// # Errors
    /// If there are more than [`MAX_EXACT_PLAYERS`], the values are not `2^players`, or one of them is not finite.
    pub fn new(players: usize, values: Vec<f64>) -> Result<Self> {
        let expected = coalitions(players)?;
        if values.len() != expected {
            let expected = format!("2^{players} = {expected}");
            return Err(Error::invalid("values", format!("are {}", values.len()), expected));
        }
        if let Some((at, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(Error::invalid("values", format!("number {at} is {value}"), "finite values"));
        }
        Ok(Self { players, values })
    }

    /// All values of a game: `2^players` evaluations, as many at a time as the run's batch budget says.
    ///
    /// # Errors
    /// If there are more than [`MAX_EXACT_PLAYERS`]; those of [`evaluate`].
    pub fn of<G: Game + ?Sized>(game: &G, run: &Run) -> Result<Self> {
        let players = game.players();
        let count = coalitions(players)?;
        let all = (0..count).map(|bits| Coalition::of_bits(players, bits as u64));
        Ok(Self { players, values: evaluate(game, all, run)? })
    }

    /// All values; that of a coalition is at its number, player `i` being bit `i`.
    pub fn table(&self) -> &[f64] {
        &self.values
    }

    /// The value of one coalition.
    ///
    /// # Errors
    /// If it has another number of players.
    pub fn value(&self, coalition: &Coalition) -> Result<f64> {
        let value = self.number(coalition).map(|number| self.values.get(number).copied());
        value?.ok_or_else(|| Error::invalid("coalition", format!("is {coalition:?}"), "one of the game"))
    }

    /// The number of a coalition.
    pub(super) fn number(&self, coalition: &Coalition) -> Result<usize> {
        check_players(self.players, coalition)?;
        Ok(coalition.to_bits().unwrap_or(u64::MAX) as usize)
    }
}

impl Game for TableGame {
    fn players(&self) -> usize {
        self.players
    }

    fn values(&self, coalitions: &[Coalition]) -> Result<Vec<f64>> {
        coalitions.iter().map(|coalition| self.value(coalition)).collect()
    }
}

/// Number of coalitions of this many players.
fn coalitions(players: usize) -> Result<usize> {
    if players > MAX_EXACT_PLAYERS {
        let expected = format!("at most {MAX_EXACT_PLAYERS}, since every coalition is evaluated");
        return Err(Error::invalid("players", format!("are {players}"), expected));
    }
    Ok(1 << players)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_at_their_numbers() {
        let game = TableGame::new(3, (0..8).map(f64::from).collect()).unwrap();
        let coalition = Coalition::from_players(3, [0, 2]).unwrap();
        assert_eq!(game.value(&coalition).unwrap(), 5.0);
        assert_eq!(game.values(&[coalition, Coalition::empty(3).unwrap()]).unwrap(), [5.0, 0.0]);
        assert!(game.value(&Coalition::empty(4).unwrap()).is_err());
        for batch in [1, 3, 8, 100] {
            assert_eq!(TableGame::of(&game, &Run::new().batch(batch)).unwrap(), game);
        }
    }

    #[test]
    fn tables_are_checked() {
        let error = TableGame::new(2, vec![0.0; 3]).unwrap_err().to_string();
        assert!(error.contains("are 3") && error.contains("2^2 = 4"), "{error}");
        let error = TableGame::new(1, vec![0.0, f64::NAN]).unwrap_err().to_string();
        assert!(error.contains("number 1 is NaN"), "{error}");
        let error = TableGame::new(21, Vec::new()).unwrap_err().to_string();
        assert!(error.contains("are 21") && error.contains("at most 20"), "{error}");
    }

    #[test]
    fn a_game_without_players_has_one_value() {
        let game = TableGame::new(0, vec![2.5]).unwrap();
        assert_eq!(TableGame::of(&game, &Run::new()).unwrap().table(), [2.5]);
    }
}
