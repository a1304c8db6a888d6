//! Closed forms, and properties of every fit.

mod kernel_shap;
mod lasso;
mod reference;

use proptest::prelude::*;

use super::*;

/// Numbers from -1 to 1 from a simple generator, so that a failing case can be reproduced from its seed.
fn random(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..count).map(next).collect()
}

fn weights(count: usize, seed: u64) -> Vec<f64> {
    random(count, seed).into_iter().map(|value| 1.1 + value).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_within(found, expected, 1e-12);
}

#[track_caller]
fn assert_within(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{found:?} instead of {expected:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance * (1.0 + e.abs()), "{found:?} instead of {expected:?}");
    }
}

/// Three columns of Hadamard's matrix: of mean zero, orthogonal, of length √8.
fn orthogonal() -> Vec<f64> {
    let sign = |bits: usize| if bits.count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    (0..8).flat_map(|row| [1, 2, 7].map(|column| sign(row & column))).collect()
}

/// With orthogonal columns of length √m, least squares is `xⱼ·y/m`, ridge that times `m/(m+α)`, and the lasso that made
/// smaller by λ.
#[test]
fn orthogonal_columns_are_fitted_one_by_one() {
    let (rows, ones) = (orthogonal(), [1.0; 8]);
    let targets = [3.0, 1.0, -2.0, 0.5, 7.0, -1.0, 2.0, 4.0];
    let data = Observations::new(&rows, 3, &targets, &ones).unwrap();
    let single = |j: usize| rows.chunks(3).zip(&targets).map(|(row, y)| row[j] * y).sum::<f64>() / 8.0;
    let single = [0, 1, 2].map(single);
    let mean = targets.iter().sum::<f64>() / 8.0;
    for intercept in [true, false] {
        let b = if intercept { mean } else { 0.0 };
        let fits = [
            (Linear { intercept, equality: None }.fit(&data).unwrap(), single),
            (Ridge { alpha: 2.0, intercept, equality: None }.fit(&data).unwrap(), single.map(|c| c * 0.8)),
            (
                Lasso { lambda: 0.5, intercept }.fit(&data).unwrap(),
                single.map(|c| c.signum() * (c.abs() - 0.5).max(0.0)),
            ),
        ];
        for (fit, expected) in fits {
            assert_close(&fit.coefficients, &expected);
            assert_close(&[fit.intercept], &[b]);
        }
    }
    // Features are selected by the size of their coefficients, and explain as much as those.
    let total: f64 = targets.iter().map(|y| (y - mean).powi(2)).sum();
    let mut order = [0, 1, 2];
    order.sort_by(|a, b| single[*b].abs().total_cmp(&single[*a].abs()));
    let chosen = ForwardSelection { count: 5, intercept: true }.select(&data);
    assert_eq!(chosen.features, order);
    let mut explained = 0.0;
    for (feature, r2) in order.iter().zip(chosen.r2) {
        explained += 8.0 * single[*feature].powi(2) / total;
        assert_close(&[r2], &[explained]);
    }
}

/// Rows (1, 0) and (0, 1), targets 3 and 1, weights 1 and 3. Under `c₀ + 2c₁ = q` with multiplier μ: `(1+α)c₀ = 3 − μ`
/// and `(3+α)c₁ = 3 − 2μ`. For α = 0, q = 3: μ = 6/7. For α = 1, q = 0: μ = 2.
#[test]
fn equalities_by_lagrange() {
    let data = Observations::new(&[1.0, 0.0, 0.0, 1.0], 2, &[3.0, 1.0], &[1.0, 3.0]).unwrap();
    let under = |total| Some(Equality { factors: vec![1.0, 2.0], total });
    let fit = Linear { intercept: false, equality: under(3.0) }.fit(&data).unwrap();
    assert_close(&fit.coefficients, &[15.0 / 7.0, 3.0 / 7.0]);
    assert_eq!((fit.rank, fit.notes.len()), (1, 0));
    let ridge = Ridge { alpha: 1.0, intercept: false, equality: under(0.0) }.fit(&data).unwrap();
    assert_close(&ridge.coefficients, &[0.5, -0.25]);
}

#[test]
fn equalities_can_leave_nothing_to_fit() {
    let data = Observations::new(&[1.0, 2.0, 4.0], 1, &[3.0, 1.0, 2.0], &[1.0; 3]).unwrap();
    let equality = Some(Equality { factors: vec![-4.0], total: 2.0 });
    let fit = Linear { intercept: true, equality }.fit(&data).unwrap();
    assert_close(&fit.coefficients, &[-0.5]);
    assert_close(&[fit.intercept], &[2.0 + 0.5 * 7.0 / 3.0]);
    assert_eq!((fit.rank, fit.standard_errors), (0, Some(vec![0.0])));
}

#[test]
fn settings_are_checked() {
    let data = Observations::new(&[1.0, 2.0, 3.0, 5.0], 2, &[1.0, 2.0], &[1.0; 2]).unwrap();
    let under =
        |factors: Vec<f64>, total| Linear { intercept: true, equality: Some(Equality { factors, total }) };
    let cases = [
        (under(vec![1.0; 3], 0.0).fit(&data), "factors: are 3; expected 2"),
        (under(vec![0.0; 2], 0.0).fit(&data), "factors: are all 0"),
        (under(vec![1.0, f64::NAN], 0.0).fit(&data), "factors: number 1 is NaN"),
        (under(vec![1.0; 2], f64::INFINITY).fit(&data), "total: number 0 is inf"),
        (Ridge { alpha: -1.0, ..Ridge::default() }.fit(&data), "alpha: is -1; expected 0 to 1e100"),
        (Ridge { alpha: f64::NAN, ..Ridge::default() }.fit(&data), "alpha: is NaN"),
        (Lasso { lambda: -1e-3, intercept: true }.fit(&data), "lambda: is -0.001"),
        (Lasso { lambda: f64::INFINITY, intercept: true }.fit(&data), "lambda: is inf"),
    ];
    for (result, part) in cases {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "'{message}' without '{part}'");
    }
    assert!(lasso_path(&data, true).unwrap().at(-1.0).is_err());
    assert!(Linear::default().fit(&data).unwrap().predict(&[1.0]).is_err());
}

#[test]
fn what_deserves_attention_is_noted() {
    let rows = [1.0, 1.0, 2.0, 2.0, 5.0, 5.0, 6.0, 6.0];
    let (targets, ones) = ([1.0, 2.0, 3.0, 5.0], [1.0; 4]);
    let linear = Linear::default();
    let twice = linear.fit(&Observations::new(&rows, 2, &targets, &ones).unwrap()).unwrap();
    assert_eq!((twice.rank, &twice.standard_errors), (1, &None));
    assert_eq!(twice.notes, [Note::Dependent { rank: 1, unknowns: 2 }]);
    assert!(twice.notes[0].to_string().contains("determine 1 of 2 directions"));
    assert_close(&twice.coefficients[..1], &twice.coefficients[1..]);
    let ridge = Ridge::default().fit(&Observations::new(&rows, 2, &targets, &ones).unwrap()).unwrap();
    assert!(ridge.rank == 2 && ridge.notes.is_empty() && ridge.standard_errors.is_some());

    let few = linear.fit(&Observations::new(&rows[..2], 1, &targets[..2], &ones[..2]).unwrap()).unwrap();
    assert_eq!(few.notes, [Note::Dependent { rank: 0, unknowns: 1 }]);
    let saturated =
        linear.fit(&Observations::new(&[1.0, 2.0], 1, &targets[..2], &ones[..2]).unwrap()).unwrap();
    assert_eq!((saturated.notes, saturated.standard_errors), (vec![Note::Saturated { rows: 2 }], None));
    assert_close(&saturated.coefficients, &[1.0]);

    let constant = linear.fit(&Observations::new(&rows, 2, &[0.1; 4], &ones).unwrap()).unwrap();
    assert!(constant.notes.contains(&Note::ConstantTargets));
    assert_eq!((constant.r2, constant.coefficients), (1.0, vec![0.0; 2]));
    let lasso = Lasso { lambda: 0.0, intercept: true };
    let constant = lasso.fit(&Observations::new(&rows, 2, &[0.1; 4], &ones).unwrap()).unwrap();
    assert_eq!((constant.r2, constant.rank, constant.notes), (1.0, 0, vec![Note::ConstantTargets]));
}

/// A fit is not affected by the scale of the numbers.
#[test]
fn scales_do_not_matter() {
    let (rows, targets, weights) = (random(60, 3), random(20, 4), weights(20, 5));
    let plain = Observations::new(&rows, 3, &targets, &weights).unwrap();
    let scaled = |values: &[f64], factor: f64| values.iter().map(|v| v * factor).collect::<Vec<_>>();
    for (x, y, w) in [(1e90, 1e-40, 1e20), (1e-60, 1e60, 1e-20)] {
        let (rows, targets, weights) = (scaled(&rows, x), scaled(&targets, y), scaled(&weights, w));
        let data = Observations::new(&rows, 3, &targets, &weights).unwrap();
        let (found, expected) =
            (Linear::default().fit(&data).unwrap(), Linear::default().fit(&plain).unwrap());
        assert_close(&scaled(&found.coefficients, x / y), &expected.coefficients);
        assert_close(&scaled(&found.standard_errors.unwrap(), x / y), &expected.standard_errors.unwrap());
        assert_close(&[found.r2], &[expected.r2]);
    }
}

/// The rank is that of features, not of their units; and of what is left of them after their means are taken off,
/// rounding does not count.
#[test]
fn neither_units_nor_offsets_change_the_rank() {
    let m = 30;
    let (drawn, targets) = (random(m * 3, 8), random(m, 9));
    for (units, offsets) in [
        ([1.0, 1.0], [0.0, 0.0]),
        ([1e9, 1e-9], [0.0, 0.0]),
        ([1.0, 1.0], [1e9, -1e7]),
        ([1e-6, 1e6], [1e5, 1e5]),
    ] {
        let row = |r: &[f64]| {
            let (a, b) = (units[0] * r[0], units[1] * r[1]);
            // The third feature is a sum of the first two, but has its own offset.
            [a + offsets[0], b + offsets[1], 0.3 * r[0] - 2.0 * r[1], 0.1, r[2]]
        };
        let rows: Vec<f64> = drawn.chunks(3).flat_map(row).collect();
        let data = Observations::new(&rows, 5, &targets, &[0.7; 30]).unwrap();
        let fit = Linear::default().fit(&data).unwrap();
        assert_eq!(fit.rank, 3, "{units:?} {offsets:?}");
        let plain = Observations::new(&drawn, 3, &targets, &[0.7; 30]).unwrap();
        assert_within(&[fit.r2], &[Linear::default().fit(&plain).unwrap().r2], 1e-6);
        let chosen = ForwardSelection { count: 5, intercept: true }.select(&data);
        assert_eq!(chosen.features.len(), 3, "{units:?} {offsets:?}");
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]

    #[test]
    fn linear_targets_are_recovered(d in 1_usize..8, more in 1_usize..20, intercept: bool, sum: bool, seed: u64) {
        let m = d + more + 1;
        let (rows, weights, truth) = (random(m * d, seed), weights(m, seed ^ 1), random(d + 1, seed ^ 2));
        let b = if intercept { truth[d] } else { 0.0 };
        let value = |row: &[f64]| b + row.iter().zip(&truth).map(|(x, c)| x * c).sum::<f64>();
        let targets: Vec<f64> = rows.chunks(d).map(value).collect();
        let data = Observations::new(&rows, d, &targets, &weights).unwrap();
        let equality = sum.then(|| Equality::sum(d, truth[..d].iter().sum()));
        let fit = Linear { intercept, equality }.fit(&data).unwrap();
        assert_within(&fit.coefficients, &truth[..d], 1e-7);
        assert_within(&[fit.intercept, fit.r2, fit.predict(&rows[..d]).unwrap()], &[b, 1.0, targets[0]], 1e-7);
        assert_within(&fit.standard_errors.unwrap(), &vec![0.0; d], 1e-7);
        prop_assert_eq!(fit.rank, d - usize::from(sum));
    }

    /// A row of weight 2 is equivalent to two rows of weight 1, and one of weight 0 to no row; equality constraints
    /// hold to the last digits.
    #[test]
    fn weights_count_rows(
        d in 1_usize..6, m in 1_usize..12, alpha in prop_oneof![Just(0.0), 0.01_f64..3.0], bound: bool, seed: u64,
    ) {
        let (rows, targets) = (random(m * d, seed), random(m, seed ^ 1));
        let counts: Vec<usize> = (0..m).map(|i| (i + 1) % 3).collect();
        prop_assume!(counts.iter().any(|count| *count > 0));
        let weights: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
        let repeat = |i: usize| std::iter::repeat_n(i, counts[i]);
        let many: Vec<usize> = (0..m).flat_map(repeat).collect();
        let many_rows: Vec<f64> = many.iter().flat_map(|i| rows[i * d..(i + 1) * d].iter().copied()).collect();
        let many_targets: Vec<f64> = many.iter().map(|i| targets[*i]).collect();
        let ones = vec![1.0; many.len()];
        let equality = bound.then(|| Equality { factors: random(d, seed ^ 2), total: 1.5 });
        let ridge = Ridge { alpha, intercept: true, equality: equality.clone() };
        let weighted = ridge.fit(&Observations::new(&rows, d, &targets, &weights).unwrap()).unwrap();
        let counted = ridge.fit(&Observations::new(&many_rows, d, &many_targets, &ones).unwrap()).unwrap();
        assert_within(&weighted.coefficients, &counted.coefficients, 1e-7);
        assert_within(&[weighted.intercept, weighted.r2], &[counted.intercept, counted.r2], 1e-7);
        prop_assert_eq!(weighted.rank, counted.rank);
        if let Some(Equality { factors, total }) = equality {
            let terms: Vec<f64> = factors.iter().zip(&weighted.coefficients).map(|(a, c)| a * c).collect();
            let size: f64 = total + terms.iter().map(|term| term.abs()).sum::<f64>();
            prop_assert!((terms.iter().sum::<f64>() - total).abs() < 1e-15 * size * d as f64);
        }
    }

    /// A reference without the shortcut: a regression for each candidate, as in LIME.
    #[test]
    fn forward_selection_tries_every_feature(d in 1_usize..7, m in 8_usize..16, intercept: bool, seed: u64) {
        let (rows, targets, weights) = (random(m * d, seed), random(m, seed ^ 1), weights(m, seed ^ 2));
        let data = Observations::new(&rows, d, &targets, &weights).unwrap();
        let chosen = ForwardSelection { count: d, intercept }.select(&data);
        let r2 = |features: &[usize]| {
            Linear { intercept, equality: None }.fit(&data.select(features).unwrap()).unwrap().r2
        };
        for (at, feature) in chosen.features.iter().enumerate() {
            let with = |feature| r2(&[&chosen.features[..at], &[feature]].concat());
            assert_within(&[with(*feature)], &[chosen.r2[at]], 1e-10);
            for other in (0..d).filter(|other| !chosen.features[..at].contains(other)) {
                prop_assert!(with(other) <= with(*feature) + 1e-10);
            }
        }
        prop_assert_eq!(chosen.features.len(), d);
    }
}

#[test]
fn features_that_add_nothing_are_not_selected() {
    let rows: Vec<f64> = (0..6).map(f64::from).flat_map(|i| [2.0, i, 3.0 * i - 1.0, i * i]).collect();
    let targets = [1.0, 0.0, 2.0, 5.0, 3.0, 4.0];
    let data = Observations::new(&rows, 4, &targets, &[1.0; 6]).unwrap();
    // The second and the third feature are equally good; the first is constant.
    let chosen = ForwardSelection { count: 4, intercept: true }.select(&data);
    assert_eq!(chosen.features, [1, 3]);
    assert!(ForwardSelection { count: 0, intercept: true }.select(&data).features.is_empty());
    // Without an intercept, the constant is an ordinary feature.
    assert_eq!(ForwardSelection { count: 4, intercept: false }.select(&data).features.len(), 3);
}

#[test]
fn threads_do_not_change_a_bit() {
    let (d, m) = (40, 200);
    let (rows, targets, weights) = (random(m * d, 1), random(m, 2), weights(m, 3));
    let fit = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            // The data are at a different address each time.
            let rows = [vec![0.0; threads], rows.clone()].concat();
            let data = Observations::new(&rows[threads..], d, &targets, &weights).unwrap();
            let equality = Some(Equality::sum(d, 1.0));
            let fits = [
                Linear { intercept: true, equality }.fit(&data).unwrap(),
                Ridge::default().fit(&data).unwrap(),
                Lasso { lambda: 0.01, intercept: true }.fit(&data).unwrap(),
            ];
            let bits = |fit: Fit| {
                let errors = fit.standard_errors.unwrap_or_default();
                [fit.coefficients, errors, vec![fit.intercept, fit.r2]].concat().into_iter().map(f64::to_bits)
            };
            fits.into_iter().flat_map(bits).collect::<Vec<_>>()
        })
    };
    assert_eq!(fit(1), fit(4));
}
