//! The Möbius transform.

use super::TableGame;

impl TableGame {
    /// The Möbius transform of the game, in the order of [`TableGame::table`]: the numbers `m` with which it is a sum
    /// of unanimity games,
    ///
    /// `m(T) = Σ_{S ⊆ T} (−1)^{|T|−|S|} v(S)`, `v(S) = Σ_{T ⊆ S} m(T)`
    ///
    /// Known as Harsanyi's dividends. `m(T)` is the derivative with respect to `T` at the empty coalition. Rota 1964,
    /// "On the foundations of combinatorial theory I"; Grabisch and Roubens 1999. `O(2ⁿ n)`, by one player after the
    /// other.
    ///
    /// The signs alternate, so that `m(T)` is uncertain by the rounding of up to `2^|T|` values.
    pub fn moebius(&self) -> Vec<f64> {
        let mut transformed = self.table().to_vec();
        let mut half = 1;
        while half < transformed.len() {
            for block in transformed.chunks_exact_mut(2 * half) {
                let (without, with) = block.split_at_mut(half);
                with.iter_mut().zip(without).for_each(|(with, without)| *with -= *without);
            }
            half *= 2;
        }
        transformed
    }
}
