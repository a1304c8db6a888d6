//! Solutions of games that are known in closed form, and the axioms that define them.

use proptest::prelude::*;

use super::*;

fn game(players: usize, value: impl Fn(&[usize]) -> f64 + Sync) -> TableGame {
    let value = |c: &Coalition| Ok(value(&c.members().collect::<Vec<_>>()));
    TableGame::of(&FnGame::new(players, value), &Run::new()).unwrap()
}

/// A random game from a simple generator, so that a failing game can be reproduced from its seed.
fn random(players: usize, seed: u64) -> TableGame {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    TableGame::new(players, (0..1 << players).map(|_| next()).collect()).unwrap()
}

/// `[quota; weights]`: a coalition wins if its weights reach the quota.
fn majority(quota: u32, weights: &[u32]) -> TableGame {
    game(weights.len(), |members| f64::from(members.iter().map(|m| weights[*m]).sum::<u32>() >= quota))
}

/// Shapley values by their definition: the average over all orders.
fn by_orders(game: &TableGame) -> Vec<f64> {
    fn visit(game: &TableGame, order: &mut Vec<usize>, sums: &mut [f64], orders: &mut f64) {
        if order.len() == game.players() {
            let mut bits = 0_usize;
            for player in order.iter() {
                sums[*player] += game.table()[bits | 1 << player] - game.table()[bits];
                bits |= 1 << player;
            }
            *orders += 1.0;
        }
        for player in 0..game.players() {
            if !order.contains(&player) {
                order.push(player);
                visit(game, order, sums, orders);
                order.pop();
            }
        }
    }
    let (mut sums, mut orders) = (vec![0.0; game.players()], 0.0);
    visit(game, &mut Vec::new(), &mut sums, &mut orders);
    sums.into_iter().map(|sum| sum / orders).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-12 * (1.0 + e.abs()), "{found:?} instead of {expected:?}");
    }
}

fn set(players: usize, members: &[usize]) -> Coalition {
    Coalition::from_players(players, members.iter().copied()).unwrap()
}

#[test]
fn additive_games_give_everyone_their_own() {
    let own = [3.0, -1.5, 0.0, 7.25, 2.0];
    let game = game(5, |members| 10.0 + members.iter().map(|m| own[*m]).sum::<f64>());
    assert_close(&game.shapley_values(), &own);
    assert_close(&game.banzhaf_values(), &own);
    assert!(game.shapley_interactions().iter().all(|(_, _, index)| index.abs() < 1e-14));
}

/// Players have a left or a right glove; a pair is worth 1.
fn gloves(left: usize, right: usize) -> TableGame {
    game(left + right, |members| {
        let lefts = members.iter().filter(|m| **m < left).count();
        lefts.min(members.len() - lefts) as f64
    })
}

/// By hand. Of one left and two right gloves, the left one gets nothing only if it comes first: 2/3. With three right
/// ones it comes first in one order of four. Two left and two right are alike. Of two left and three right, a left one
/// adds 1 if more right than left ones came before; the probability of that, by how many came before, is 0; 3/4; 3/6,
/// for two right ones out of the other four; 1; 1. The mean is 13/20, and the right ones share 2 − 13/10.
#[test]
fn gloves_by_hand() {
    assert_close(&gloves(1, 1).shapley_values(), &[0.5, 0.5]);
    assert_close(&gloves(1, 2).shapley_values(), &[2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]);
    assert_close(&gloves(1, 3).shapley_values(), &[0.75, 1.0 / 12.0, 1.0 / 12.0, 1.0 / 12.0]);
    assert_close(&gloves(2, 2).shapley_values(), &[0.5; 4]);
    let (left, right) = (13.0 / 20.0, 7.0 / 30.0);
    assert_close(&gloves(2, 3).shapley_values(), &[left, left, right, right, right]);
    // The left one is critical for {R}, {R'} and {R, R'}, a right one for {L} alone.
    assert_close(&gloves(1, 2).banzhaf_values(), &[0.75, 0.25, 0.25]);
}

#[test]
fn weighted_majorities() {
    // The first one is pivotal unless it comes first.
    assert_close(&majority(3, &[2, 1, 1]).shapley_values(), &[2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]);
    // Critical for three of four coalitions, for one of four.
    assert_close(&majority(3, &[2, 1, 1]).banzhaf_values(), &[0.75, 0.25, 0.25]);
    // [6; 4, 3, 2, 1], counted by hand: swings 5, 3, 3, 1 of 8 each.
    assert_close(&majority(6, &[4, 3, 2, 1]).banzhaf_values(), &[5.0 / 8.0, 3.0 / 8.0, 3.0 / 8.0, 1.0 / 8.0]);
    assert_close(
        &majority(6, &[4, 3, 2, 1]).shapley_values(),
        &[5.0 / 12.0, 3.0 / 12.0, 3.0 / 12.0, 1.0 / 12.0],
    );
    // A council with two members who can veto, and three others of whom one has to agree, counted by hand: an other is
    // pivotal if exactly both with a veto have come before, 2! 2! / 5! = 1/30.
    let council = majority(7, &[3, 3, 1, 1, 1]);
    assert_close(&council.shapley_values(), &[0.45, 0.45, 1.0 / 30.0, 1.0 / 30.0, 1.0 / 30.0]);
    for (quota, weights) in [(5, vec![4, 3, 2, 1]), (8, vec![5, 4, 3, 2, 1]), (12, vec![6, 5, 4, 3, 2, 1, 1])]
    {
        let game = majority(quota, &weights);
        assert_close(&game.shapley_values(), &by_orders(&game));
    }
}

/// The unanimity game: coalitions that contain `T` are worth 1.
#[test]
fn unanimity_games() {
    let players = 6;
    for team in [&[2][..], &[0, 3], &[1, 2, 5], &[0, 1, 3, 4], &[0, 1, 2, 3, 4, 5]] {
        let game = game(players, |members| f64::from(team.iter().all(|t| members.contains(t))));
        let size = team.len() as f64;
        let of = |share: f64| {
            (0..players).map(|p| if team.contains(&p) { share } else { 0.0 }).collect::<Vec<_>>()
        };
        assert_close(&game.shapley_values(), &of(1.0 / size));
        assert_close(&game.banzhaf_values(), &of(0.5_f64.powf(size - 1.0)));
        for (a, b, index) in game.shapley_interactions().iter() {
            let both = team.contains(&a) && team.contains(&b);
            assert_close(&[index], &[if both { 1.0 / (size - 1.0) } else { 0.0 }]);
        }
        // 1 / (|T| − |part| + 1) for any part of the team.
        for part in 1..=team.len() {
            let index = game.shapley_interaction(&set(players, &team[..part])).unwrap();
            assert_close(&[index], &[1.0 / (size - part as f64 + 1.0)]);
        }
        let moebius = game.moebius();
        let at = set(players, team).to_bits().unwrap() as usize;
        assert!(moebius.iter().enumerate().all(|(bits, m)| *m == f64::from(bits == at)));
    }
}

#[test]
fn games_of_few_players() {
    let none = TableGame::new(0, vec![4.0]).unwrap();
    assert!(none.shapley_values().is_empty() && none.banzhaf_values().is_empty());
    assert_eq!(none.shapley_interactions().iter().count(), 0);
    assert_eq!(none.moebius(), [4.0]);
    let one = TableGame::new(1, vec![4.0, 1.0]).unwrap();
    assert_eq!((one.shapley_values(), one.banzhaf_values()), (vec![-3.0], vec![-3.0]));
}

#[test]
fn twenty_players_at_most() {
    let sum = |c: &Coalition| Ok(c.members().sum::<usize>() as f64);
    let values = shapley_values(&FnGame::new(MAX_EXACT_PLAYERS, sum), &Run::new().batch(4096)).unwrap();
    assert!(values.iter().enumerate().all(|(player, value)| (value - player as f64).abs() < 1e-9));
    let error =
        banzhaf_values(&FnGame::new(MAX_EXACT_PLAYERS + 1, sum), &Run::new()).unwrap_err().to_string();
    assert!(error.contains("are 21") && error.contains("at most 20"), "{error}");
    assert!(shapley_interactions(&FnGame::new(64, sum), &Run::new()).is_err());
}

#[test]
fn neither_threads_nor_batches_change_a_bit() {
    let wave = |c: &Coalition| Ok(c.members().map(|m| (m as f64 * 1.7).sin()).sum::<f64>().exp());
    let wave = FnGame::new(9, wave);
    let with = |run: Run| run.install(|| TableGame::of(&wave, &run)).unwrap();
    let first = with(Run::new().threads(1).batch(1));
    for run in
        [Run::new().threads(1).batch(64), Run::new().threads(4).batch(7), Run::new().threads(3).batch(512)]
    {
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(with(run.clone()).shapley_values()), bits(first.shapley_values()));
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]

    #[test]
    fn efficiency(n in 1_usize..9, seed: u64) {
        let game = random(n, seed);
        let total: f64 = game.shapley_values().iter().sum();
        let gain = game.table()[(1 << n) - 1] - game.table()[0];
        prop_assert!((total - gain).abs() < 1e-12, "{total} of {gain}");
    }

    /// Players that are interchangeable get the same value.
    #[test]
    fn symmetry(n in 2_usize..8, a in 0_usize..8, b in 0_usize..8, seed: u64) {
        let (a, b) = (a % n, b % n);
        prop_assume!(a != b);
        let swap = |bits: usize| bits & !(1 << a | 1 << b) | (bits >> a & 1) << b | (bits >> b & 1) << a;
        let drawn = random(n, seed);
        let table = drawn.table();
        let alike = TableGame::new(n, (0..1 << n).map(|bits| table[bits] + table[swap(bits)]).collect()).unwrap();
        for values in [alike.shapley_values(), alike.banzhaf_values()] {
            prop_assert!((values[a] - values[b]).abs() < 1e-12, "{values:?}");
        }
        let interactions = alike.shapley_interactions();
        for other in (0..n).filter(|other| ![a, b].contains(other)) {
            let (with_a, with_b) = (interactions.get(a, other).unwrap(), interactions.get(b, other).unwrap());
            prop_assert!((with_a - with_b).abs() < 1e-12);
        }
    }

    /// A player that adds the same to every coalition gets that value, and has no interactions.
    #[test]
    fn dummy(n in 1_usize..8, player in 0_usize..8, own in -2.0_f64..2.0, seed: u64) {
        let player = player % n;
        let drawn = random(n, seed);
        let with_dummy = |bits: usize| {
            drawn.table()[bits & !(1 << player)] + if bits >> player & 1 == 1 { own } else { 0.0 }
        };
        let game = TableGame::new(n, (0..1 << n).map(with_dummy).collect()).unwrap();
        for values in [game.shapley_values(), game.banzhaf_values()] {
            prop_assert!((values[player] - own).abs() < 1e-12, "{values:?}");
        }
        let interactions = game.shapley_interactions();
        for other in (0..n).filter(|other| *other != player) {
            prop_assert!(interactions.get(player, other).unwrap().abs() < 1e-12);
        }
    }

    #[test]
    fn linearity(n in 1_usize..8, factor in -3.0_f64..3.0, seed: u64) {
        let (v, w) = (random(n, seed), random(n, !seed));
        let both = v.table().iter().zip(w.table()).map(|(v, w)| v + factor * w).collect();
        let both = TableGame::new(n, both).unwrap();
        let close = |of_both: Vec<f64>, of_v: Vec<f64>, of_w: Vec<f64>| {
            of_both.iter().zip(&of_v).zip(&of_w).all(|((both, v), w)| (both - v - factor * w).abs() < 1e-11)
        };
        let pairs = |game: &TableGame| game.shapley_interactions().iter().map(|(_, _, i)| i).collect::<Vec<_>>();
        prop_assert!(close(both.shapley_values(), v.shapley_values(), w.shapley_values()));
        prop_assert!(close(both.banzhaf_values(), v.banzhaf_values(), w.banzhaf_values()));
        prop_assert!(close(pairs(&both), pairs(&v), pairs(&w)));
        prop_assert!(close(both.moebius(), v.moebius(), w.moebius()));
    }

    #[test]
    fn shapley_is_the_mean_over_orders(n in 1_usize..7, seed: u64) {
        let game = random(n, seed);
        assert_close(&game.shapley_values(), &by_orders(&game));
    }

    /// Solutions by enumeration are those by the Möbius transform: `φᵢ = Σ_{T ∋ i} m(T)/|T|`,
    /// `βᵢ = Σ_{T ∋ i} m(T)/2^{|T|−1}`, `I(A) = Σ_{T ⊇ A} m(T)/(|T|−|A|+1)`; and `m(T)` is a derivative at the empty
    /// coalition.
    #[test]
    fn solutions_by_the_moebius_transform(n in 1_usize..8, seed: u64) {
        let game = random(n, seed);
        let moebius = game.moebius();
        let sum = |of: usize, share: &dyn Fn(f64) -> f64| -> f64 {
            let above = moebius.iter().enumerate().filter(|(bits, _)| bits & of == of);
            above.map(|(bits, m)| m * share(f64::from(bits.count_ones()))).sum()
        };
        let (shapley, banzhaf) = (game.shapley_values(), game.banzhaf_values());
        for player in 0..n {
            prop_assert!((shapley[player] - sum(1 << player, &|size| 1.0 / size)).abs() < 1e-10);
            prop_assert!((banzhaf[player] - sum(1 << player, &|size| 0.5_f64.powf(size - 1.0))).abs() < 1e-10);
        }
        for (a, b, index) in game.shapley_interactions().iter() {
            prop_assert!((index - sum(1 << a | 1 << b, &|size| 1.0 / (size - 1.0))).abs() < 1e-10);
            let pair = game.shapley_interaction(&set(n, &[a, b])).unwrap();
            prop_assert_eq!(pair, index);
        }
        for (bits, m) in moebius.iter().enumerate() {
            let of = Coalition::from_bits(n, bits as u64).unwrap();
            let derivative = game.derivative(&of, &Coalition::empty(n).unwrap()).unwrap();
            prop_assert!((derivative - m).abs() < 1e-10);
            let index = game.shapley_interaction(&of).unwrap();
            let size = of.len() as f64;
            prop_assert!((index - sum(bits, &|all| 1.0 / (all - size + 1.0))).abs() < 1e-10);
        }
    }
}
