//! Least squares with an equality constraint gives Shapley values: solutions of games check regression, and the
//! reverse.

use proptest::prelude::*;

use super::{Observations, assert_within, random};
use crate::game::{Coalition, TableGame, shapley_values};
use crate::run::Run;
use crate::surrogate::{Equality, Linear, Surrogate};

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]

    /// Over all coalitions but the empty and the full one, with weights `(n−1) / (C(n, s) s (n−s))` and coefficients
    /// that sum to `v(N) − v(∅)`: Charnes et al. 1988; Lundberg and Lee 2017, theorem 2.
    #[test]
    fn over_all_coalitions(players in 2_usize..9, seed: u64) {
        let table = random(1 << players, seed);
        let game = TableGame::new(players, table.clone()).unwrap();
        let (empty, full) = (table[0], table[(1 << players) - 1]);
        let inner = 1..(1_u64 << players) - 1;
        let coalitions: Vec<Coalition> =
            inner.map(|bits| Coalition::from_bits(players, bits).unwrap()).collect();
        let row = |c: &Coalition| (0..players).map(|p| f64::from(c.contains(p))).collect::<Vec<_>>();
        let rows: Vec<f64> = coalitions.iter().flat_map(row).collect();
        let targets: Vec<f64> = coalitions.iter().map(|c| game.value(c).unwrap() - empty).collect();
        let weight = |c: &Coalition| {
            let size = c.len();
            let choices = (0..size).fold(1.0, |all, k| all * (players - k) as f64 / (k + 1) as f64);
            (players - 1) as f64 / (choices * (size * (players - size)) as f64)
        };
        let weights: Vec<f64> = coalitions.iter().map(weight).collect();
        let data = Observations::new(&rows, players, &targets, &weights).unwrap();
        let model = Linear { intercept: false, equality: Some(Equality::sum(players, full - empty)) };
        let fit = model.fit(&data).unwrap();
        assert_within(&fit.coefficients, &shapley_values(&game, &Run::new()).unwrap(), 1e-12);
        prop_assert_eq!(fit.rank, players - 1);
    }
}
