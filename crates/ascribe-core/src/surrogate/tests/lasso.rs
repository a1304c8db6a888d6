//! The solutions of the lasso are characterised by their optimality conditions.

use proptest::prelude::*;

use super::{assert_close, assert_within, random, weights};
use crate::surrogate::{Knot, Lasso, Linear, Observations, Surrogate, lasso_path};

/// The solutions of the lasso, and only those, satisfy these conditions: the mean of `w xⱼ (y − b − c·x)` is `λ sign
/// cⱼ` for active features, and at most `λ` in absolute value for others; for the intercept it is 0.
fn violation(data: &(Vec<f64>, usize, Vec<f64>, Vec<f64>), knot: &Knot, intercept: bool) -> f64 {
    let (rows, d, targets, weights) = data;
    let total: f64 = weights.iter().sum();
    let (mut products, mut constant, mut size) = (vec![0.0; *d], 0.0, 0.0_f64);
    for ((row, y), w) in rows.chunks(*d).zip(targets).zip(weights) {
        let terms = row.iter().zip(&knot.coefficients).map(|(x, c)| x * c);
        let rest = y - knot.intercept - terms.sum::<f64>();
        row.iter().zip(&mut products).for_each(|(x, product)| *product += w * x * rest / total);
        constant += w * rest / total;
        size += w * y.abs() / total;
    }
    let mut worst = if intercept { constant.abs() } else { knot.intercept.abs() };
    for (product, c) in products.iter().zip(&knot.coefficients) {
        let off = if *c == 0.0 {
            (product.abs() - knot.lambda).max(0.0)
        } else {
            (product - knot.lambda * c.signum()).abs()
        };
        worst = worst.max(off);
    }
    // Against the terms that are added up; features are about 1.
    size += knot.coefficients.iter().map(|c| c.abs()).sum::<f64>();
    worst / (size + f64::MIN_POSITIVE)
}

fn check_path(data: &(Vec<f64>, usize, Vec<f64>, Vec<f64>), intercept: bool, conditioned: bool) {
    let (rows, d, targets, weights) = data;
    let observations = Observations::new(rows, *d, targets, weights).unwrap();
    let path = lasso_path(&observations, intercept).unwrap();
    let knots = path.knots();
    let tolerance = if conditioned { 1e-11 } else { 1e-9 };
    assert!(knots[0].active().next().is_none());
    assert_eq!(knots.last().unwrap().lambda, 0.0);
    assert!(knots.windows(2).all(|pair| pair[0].lambda > pair[1].lambda));
    for (at, knot) in knots.iter().enumerate() {
        let off = violation(data, knot, intercept);
        assert!(off <= tolerance, "{off} at knot {at} of {}: {knot:?}", knots.len());
        let next = knots.get(at + 1).map_or(0.0, |next| next.lambda);
        let between = path.at(0.3 * knot.lambda + 0.7 * next).unwrap();
        let off = violation(data, &between, intercept);
        assert!(off <= tolerance, "{off} behind knot {at} of {}: {between:?}", knots.len());
        let fit = Lasso { lambda: between.lambda, intercept }.fit(&observations).unwrap();
        assert_close(&fit.coefficients, &between.coefficients);
        assert_eq!(fit.rank, between.active().count());
    }
    let least = Linear { intercept, equality: None }.fit(&observations).unwrap();
    let last = Lasso { lambda: 0.0, intercept }.fit(&observations).unwrap();
    if conditioned {
        assert_within(&[last.r2], &[least.r2], 1e-9);
    }
    for count in 0..=*d {
        let chosen = path.at_most(count);
        assert!(chosen.active().count() <= count);
        assert!(knots.iter().all(|knot| knot.lambda >= chosen.lambda || knot.active().count() > count));
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(96))]

    #[test]
    fn paths_are_optimal(m in 1_usize..20, d in 1_usize..12, intercept: bool, seed: u64) {
        // A nearly square random matrix can be arbitrarily close to one of lower rank.
        let m = if m.abs_diff(d) < 3 { d + 4 } else { m };
        let data = (random(m * d, seed), d, random(m, seed ^ 1), weights(m, seed ^ 2));
        check_path(&data, intercept, true);
    }

    /// Masks of few rows: features that are equal, opposite, constant or sums of others, and many that are tied.
    #[test]
    fn paths_with_ties_are_optimal(m in 1_usize..12, d in 1_usize..9, levels in 1_i32..4, intercept: bool, seed: u64) {
        let level = |value: f64| (value * f64::from(levels)).round().abs();
        let rows = random(m * d, seed).into_iter().map(level).collect();
        let targets = random(m, seed ^ 1).into_iter().map(|value| (value * 3.0).round()).collect();
        check_path(&(rows, d, targets, vec![1.0; m]), intercept, true);
    }

    /// Columns that differ only by a thousandth.
    #[test]
    fn paths_of_nearly_dependent_features_are_optimal(m in 4_usize..20, d in 2_usize..8, seed: u64) {
        let noise = random(m * d, seed ^ 3);
        let rows = random(m, seed).iter().flat_map(|x| vec![*x; d]).zip(noise).map(|(x, e)| x + 1e-3 * e).collect();
        let data = (rows, d, random(m, seed ^ 1), weights(m, seed ^ 2));
        check_path(&data, true, false);
    }
}

#[test]
fn penalties_beyond_the_path_leave_a_constant() {
    let (rows, targets, weights) = (random(30, 1), random(10, 2), weights(10, 3));
    let data = Observations::new(&rows, 3, &targets, &weights).unwrap();
    let path = lasso_path(&data, true).unwrap();
    let fit = Lasso { lambda: path.knots()[0].lambda * 1.5, intercept: true }.fit(&data).unwrap();
    assert_eq!((fit.coefficients, fit.rank), (vec![0.0; 3], 0));
    assert!(fit.r2.abs() < 1e-15);
    let mean = targets.iter().zip(&weights).map(|(y, w)| y * w).sum::<f64>() / weights.iter().sum::<f64>();
    assert_close(&[fit.intercept], &[mean]);
}
