//! Sets of players.

use std::fmt::{self, Debug};
use std::iter;

use crate::error::{Error, Result};

/// The largest number of players; no game with more of them could be evaluated.
pub const MAX_PLAYERS: usize = 1 << 24;

const BITS: usize = u64::BITS as usize;

/// A subset of the players `0..n`, as a bit set.
///
/// Coalitions of the same number of players are ordered as the binary numbers with player `i` at bit `i`; those of fewer
/// players come first.
///
/// `fixedbitset` is not used, since the order of its sets depends on its SIMD blocks, which differ between platforms.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Coalition {
    players: usize,
    /// Player `i` is bit `i % 64` of word `i / 64`; bits without a player are zero.
    words: Vec<u64>,
}

impl Coalition {
    /// The coalition without members, of `players` players.
    ///
    /// # Errors
    /// If there are more than [`MAX_PLAYERS`].
    pub fn empty(players: usize) -> Result<Self> {
        if players > MAX_PLAYERS {
            let problem = format!("are {players}");
            return Err(Error::invalid("players", problem, format!("at most {MAX_PLAYERS}")));
        }
        Ok(Self { players, words: vec![0; players.div_ceil(BITS)] })
    }

    /// The coalition of all players.
    ///
    /// # Errors
    /// If there are more than [`MAX_PLAYERS`].
    pub fn full(players: usize) -> Result<Self> {
        Ok(Self::empty(players)?.complement())
    }

    /// The coalition of these members, which may be given more than once and in any order.
    ///
    /// # Errors
    /// If there are more than [`MAX_PLAYERS`], or a member is not one of the `players`.
    pub fn from_players(players: usize, members: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut coalition = Self::empty(players)?;
        members.into_iter().try_for_each(|member| coalition.set(member, true))?;
        Ok(coalition)
    }

    /// The coalition with player `i` as a member where bit `i` is set.
    ///
    /// # Errors
    /// If there are more than 64 players, or a bit is set that belongs to none of them.
    pub fn from_bits(players: usize, bits: u64) -> Result<Self> {
        let known = match players {
            BITS => u64::MAX,
            ..BITS => (1 << players) - 1,
            _ => return Err(Error::invalid("players", format!("are {players}"), format!("at most {BITS}"))),
        };
        if bits & !known != 0 {
            let problem = format!("{bits:#b} has members other than the {players} players");
            return Err(Error::invalid("bits", problem, format!("at most {known:#b}")));
        }
        Ok(Self::of_bits(players, bits))
    }

    /// As [`Self::from_bits`], for bits that belong to players.
    pub(super) fn of_bits(players: usize, bits: u64) -> Self {
        Self { players, words: if players == 0 { Vec::new() } else { vec![bits] } }
    }

    /// The members as bits of a number, player `i` at bit `i`; `None` if there are more than 64 players.
    pub fn to_bits(&self) -> Option<u64> {
        match self.words.as_slice() {
            [] => Some(0),
            [word] => Some(*word),
            _ => None,
        }
    }

    /// Number of all players, including those that are not members.
    pub fn players(&self) -> usize {
        self.players
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The members, in ascending order.
    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let rests = iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)));
            rests.take_while(|rest| *rest != 0).map(move |rest| at * BITS + rest.trailing_zeros() as usize)
        })
    }

    /// Whether this player is a member; `false` for a player that does not exist.
    pub fn contains(&self, player: usize) -> bool {
        self.words.get(player / BITS).is_some_and(|word| word >> (player % BITS) & 1 == 1)
    }

    /// This coalition with one more member.
    ///
    /// # Errors
    /// If there is no such player.
    pub fn with(&self, player: usize) -> Result<Self> {
        let mut coalition = self.clone();
        coalition.set(player, true)?;
        Ok(coalition)
    }

    /// This coalition without this player; unchanged if the player is not a member.
    ///
    /// # Errors
    /// If there is no such player.
    pub fn without(&self, player: usize) -> Result<Self> {
        let mut coalition = self.clone();
        coalition.set(player, false)?;
        Ok(coalition)
    }

    /// Adds or removes a player.
    ///
    /// # Errors
    /// If there is no such player.
    pub fn set(&mut self, player: usize, member: bool) -> Result<()> {
        let players = self.players;
        match self.words.get_mut(player / BITS) {
            Some(word) if player < players => {
                let bit = 1 << (player % BITS);
                *word = if member { *word | bit } else { *word & !bit };
                Ok(())
            }
            _ => Err(Error::invalid(
                "player",
                format!("is {player}"),
                format!("one of 0 to {players}, without the end"),
            )),
        }
    }

    /// The members of either coalition.
    ///
    /// # Errors
    /// If the numbers of players differ.
    pub fn union(&self, other: &Self) -> Result<Self> {
        super::check_players(self.players, other)?;
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a | b).collect();
        Ok(Self { players: self.players, words })
    }

    /// Whether no player is a member of both.
    ///
    /// # Errors
    /// If the numbers of players differ.
    pub fn is_disjoint(&self, other: &Self) -> Result<bool> {
        super::check_players(self.players, other)?;
        Ok(self.words.iter().zip(&other.words).all(|(a, b)| a & b == 0))
    }

    /// All players that are not members.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut words: Vec<u64> = self.words.iter().map(|word| !word).collect();
        let used = self.players % BITS;
        if let Some(last) = words.last_mut().filter(|_| used != 0) {
            *last &= (1 << used) - 1;
        }
        Self { players: self.players, words }
    }
}

impl Ord for Coalition {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let words = || self.words.iter().rev().cmp(other.words.iter().rev());
        self.players.cmp(&other.players).then_with(words)
    }
}

impl PartialOrd for Coalition {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Debug for Coalition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members()).finish()?;
        write!(f, " of {}", self.players)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        /// Everything agrees with the set of numbers.
        #[test]
        fn is_a_set(n in 1_usize..200, a: BTreeSet<u8>, b: BTreeSet<u8>, player in 0_usize..200) {
            let below = |set: BTreeSet<u8>| set.into_iter().map(|p| p as usize % n).collect::<BTreeSet<_>>();
            let (a, b, player) = (below(a), below(b), player % n);
            let coalition = |set: &BTreeSet<usize>| Coalition::from_players(n, set.iter().copied()).unwrap();
            let members = |coalition: Coalition| coalition.members().collect::<BTreeSet<_>>();
            let (x, y) = (coalition(&a), coalition(&b));

            prop_assert!(x.members().eq(a.iter().copied()));
            prop_assert_eq!(x.len(), a.len());
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.contains(player), a.contains(&player));
            prop_assert_eq!(members(x.union(&y).unwrap()), &a | &b);
            prop_assert_eq!(x.is_disjoint(&y).unwrap(), a.is_disjoint(&b));
            prop_assert_eq!(members(x.complement()), &(0..n).collect::<BTreeSet<_>>() - &a);
            prop_assert_eq!(x.complement().complement(), x.clone());
            prop_assert_eq!(members(x.with(player).unwrap()), &a | &BTreeSet::from([player]));
            prop_assert_eq!(members(x.without(player).unwrap()), &a - &BTreeSet::from([player]));
            prop_assert!(x.union(&x.complement()).unwrap() == Coalition::full(n).unwrap());
            prop_assert_eq!(x.cmp(&y), a.iter().rev().cmp(b.iter().rev()));
        }
    }

    #[test]
    fn is_ordered_as_binary_numbers() {
        let of = |members: &[usize]| Coalition::from_players(70, members.iter().copied()).unwrap();
        assert!(of(&[69]) > of(&[0, 1, 2, 68]));
        assert!(of(&[1]) > of(&[0]));
        assert!(of(&[]) < of(&[0]));
        assert!(Coalition::full(3).unwrap() < Coalition::empty(4).unwrap());
    }

    #[test]
    fn bits_there_and_back() {
        for players in [0, 1, 5, 63, 64] {
            let full = Coalition::full(players).unwrap();
            let bits = full.to_bits().unwrap();
            assert_eq!(bits.count_ones() as usize, players);
            assert_eq!(Coalition::from_bits(players, bits).unwrap(), full);
        }
        assert!(Coalition::full(65).unwrap().to_bits().is_none());
        let error = Coalition::from_bits(3, 0b1001).unwrap_err().to_string();
        assert!(error.contains("0b1001") && error.contains("0b111"), "{error}");
        assert!(Coalition::from_bits(65, 0).is_err());
    }

    #[test]
    fn shows_its_members() {
        let coalition = Coalition::from_players(7, [4, 0, 4]).unwrap();
        assert_eq!(format!("{coalition:?}"), "{0, 4} of 7");
    }

    #[test]
    fn players_are_checked() {
        let three = Coalition::empty(3).unwrap();
        let error = three.with(3).unwrap_err().to_string();
        assert!(error.contains("player: is 3") && error.contains("0 to 3"), "{error}");
        assert!(three.without(64).is_err());
        assert!(Coalition::from_players(3, [0, 5]).is_err());
        assert!(Coalition::empty(MAX_PLAYERS + 1).is_err());
        assert!(Coalition::full(usize::MAX).is_err());
        assert!(three.union(&Coalition::empty(4).unwrap()).is_err());
        assert!(!three.contains(usize::MAX));
    }
}
