//! Discrete derivatives: solutions are averages of them.

use super::{Coalition, Game, TableGame};
use crate::error::{Error, Result};

impl TableGame {
    /// The discrete derivative of the game with respect to the players `of`, at a coalition without them:
    ///
    /// `Δ_T v(S) = Σ_{L ⊆ T} (−1)^{|T|−|L|} v(S ∪ L)`, `S ∩ T = ∅`
    ///
    /// For one player it is the marginal contribution `v(S ∪ i) − v(S)`, for two players their joint contribution beyond
    /// their single contributions. Grabisch and Roubens 1999, "An axiomatic approach to the concept of interaction among
    /// players in cooperative games", International Journal of Game Theory 28, §2. At the cost of `2^|T|` additions.
    ///
    /// # Errors
    /// If a coalition has another number of players than the game, or they share a member.
    pub fn derivative(&self, of: &Coalition, at: &Coalition) -> Result<f64> {
        let (players, base) = (self.number(of)?, self.number(at)?);
        if players & base != 0 {
            let problem = format!("{at:?} has members of {of:?}");
            return Err(Error::invalid("at", problem, "a coalition without the players differentiated by"));
        }
        Ok(derivative(self.table(), players, base))
    }

    /// The mean of the derivatives with respect to `of` (a number, as those of the table) over all coalitions `S` of
    /// the other players with the same number of members: `means[s]` for `|S| = s`.
    ///
    /// The indices of Shapley and Banzhaf are averages of these.
    pub(super) fn mean_derivatives(&self, of: usize) -> Vec<f64> {
        let others = ((1_usize << self.players()) - 1) & !of;
        let mut sums = vec![(0.0, 0.0); others.count_ones() as usize + 1];
        for coalition in subsets(others) {
            if let Some((sum, count)) = sums.get_mut(coalition.count_ones() as usize) {
                *sum += derivative(self.table(), of, coalition);
                *count += 1.0;
            }
        }
        sums.into_iter().map(|(sum, count): (f64, f64)| sum / count).collect()
    }
}

/// `Σ_{L ⊆ of} (−1)^{|of|−|L|} table[at ∪ L]`; the numbers are below the table's length.
fn derivative(table: &[f64], of: usize, at: usize) -> f64 {
    let value = |coalition: usize| table.get(coalition).copied().unwrap_or(f64::NAN);
    // The most frequent cases, without the loop.
    let first = of & of.wrapping_neg();
    match of.count_ones() {
        0 => value(at),
        1 => value(at | of) - value(at),
        2 => (value(at | of) - value(at | first)) - (value(at | of & !first) - value(at)),
        members => {
            let sign = |part: usize| if (members - part.count_ones()).is_multiple_of(2) { 1.0 } else { -1.0 };
            subsets(of).map(|part| sign(part) * value(at | part)).sum()
        }
    }
}

/// All sets of the bits of `set`, in ascending order.
fn subsets(set: usize) -> impl Iterator<Item = usize> {
    let next = move |subset: &usize| (*subset != set).then(|| subset.wrapping_sub(set) & set);
    std::iter::successors(Some(0), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_all_there() {
        assert!(subsets(0).eq([0]));
        assert!(subsets(0b1010).eq([0, 0b10, 0b1000, 0b1010]));
        assert_eq!(subsets(0b1111).count(), 16);
    }

    #[test]
    fn derivatives_by_hand() {
        // v(S) = (Σ members + 1)²: the second difference is 2 a b, the third is 0.
        let square = |bits: usize| {
            let sum: usize = [1, 2, 4].iter().enumerate().map(|(i, size)| size * (bits >> i & 1)).sum();
            ((sum + 1) * (sum + 1)) as f64
        };
        let game = TableGame::new(3, (0..8).map(square).collect()).unwrap();
        let of = |members: &[usize]| Coalition::from_players(3, members.iter().copied()).unwrap();
        assert_eq!(game.derivative(&of(&[]), &of(&[1])).unwrap(), 9.0);
        assert_eq!(game.derivative(&of(&[2]), &of(&[0])).unwrap(), 36.0 - 4.0);
        assert_eq!(game.derivative(&of(&[1, 2]), &of(&[0])).unwrap(), 16.0);
        assert_eq!(game.derivative(&of(&[0, 1, 2]), &of(&[])).unwrap(), 0.0);
        assert_eq!(game.mean_derivatives(0b100), [24.0, 40.0 - 4.0, 48.0]);

        let error = game.derivative(&of(&[1]), &of(&[0, 1])).unwrap_err().to_string();
        assert!(error.contains("{0, 1} of 3 has members of {1} of 3"), "{error}");
    }
}
