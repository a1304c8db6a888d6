//! Checks the properties of metrics on random networks and constructed maps in f64.

use ascribe_core::{
    Attribution, Baseline, BlackBox, DType, Device, Differentiable, Explainer, Graph, Inputs, OutputKind,
    Reduction, Result, Run, Target, Tensor, random,
};
use ascribe_gradient::{InputXGradient, Saliency};
use ascribe_metrics::localisation::{Object, Scene};
use ascribe_metrics::statistics::{Ssim, spearman};
use ascribe_metrics::{
    Case, Completeness, Deletion, Evaluation, Insertion, Metric, ModelRandomisation, PixelCurve, PointingGame,
};
use ascribe_perturb::Occlusion;
use ascribe_testing::net::{Kind, Net, Style, inputs};
use ascribe_testing::{attribution, flat};
use proptest::prelude::*;

fn draw(seed: u64, kind: Kind) -> Result<Graph> {
    Net::draw(seed, kind)?.graph(Style::Plain)
}

fn normal(seed: u64, shape: &[usize]) -> Result<Tensor> {
    random::normal(&mut random::stream(seed, random::Domain::DATA, 9), shape, DType::F64, &Device::Cpu)
}

fn given(values: Tensor) -> Result<Attribution> {
    let rows = values.dim(0)?;
    Ok(attribution(values, vec![String::new(); rows]))
}

fn evaluate(
    metric: &dyn Metric<Graph>,
    graph: &Graph,
    x: &Inputs,
    target: &Target,
    map: &Tensor,
) -> Result<Evaluation> {
    metric.evaluate(&Case::new(graph, x, target, &given(map.clone())?, &Run::new().batch(5)))
}

/// Score of each row of `x`, as [`PixelCurve`] computes it.
fn watched(graph: &Graph, x: &Inputs, target: &Target) -> Result<Vec<f64>> {
    let samples: Vec<usize> = (0..x.batch()?).collect();
    flat(&target.score(&graph.forward(x)?, &samples)?)
}

proptest! {
    #![proptest_config(ascribe_proptest::config(12))]

    #[test]
    fn curves_lead_from_one_picture_to_the_other(seed in any::<u64>(), step in 1..20_usize) {
        let graph = draw(seed, Kind::default())?;
        let (x, reference) = (inputs(seed, 2)?, normal(seed, &[2, 3, 6, 6])?);
        let target = Target::Classes(vec![1, 2]);
        let map = normal(seed ^ 1, &[2, 3, 6, 6])?;
        let baseline = Baseline::Tensor(reference.clone());
        let all = watched(&graph, &x, &target.clone().probability(OutputKind::Classes))?;
        let none = watched(&graph, &Inputs::single(reference)?, &target.clone().probability(OutputKind::Classes))?;
        let curve = PixelCurve::default().step(step).baseline(baseline);
        let metrics: [(&dyn Metric<Graph>, _, _); 2] =
            [(&Insertion(curve.clone()), &none, &all), (&Deletion(curve), &all, &none)];
        for (metric, from, to) in metrics {
            let found = evaluate(metric, &graph, &x, &target, &map)?;
            for sample in 0..2 {
                let curve = &found.curves[sample].y;
                // At first nothing is replaced, in the end everything: identical inputs give identical bits.
                prop_assert_eq!(curve.first(), Some(&from[sample]));
                prop_assert_eq!(curve.last(), Some(&to[sample]));
                prop_assert_eq!(curve.len(), 36_usize.div_ceil(step) + 1);
                let (low, high) = curve.iter().fold((f64::MAX, f64::MIN), |(l, h), &p| (l.min(p), h.max(p)));
                let area = found.values[sample].unwrap_or(f64::NAN);
                prop_assert!(low >= 0.0 && high <= 1.0 && area >= low - 1e-12 && area <= high + 1e-12);
            }
        }
    }

    #[test]
    fn insertion_is_deletion_backwards(seed in any::<u64>(), step in prop::sample::select(vec![1, 2, 3, 4, 6, 9, 12])) {
        // Deleting pixels in ascending order leaves the same pixels as inserting them in descending order.
        let graph = draw(seed, Kind::default())?;
        let (x, target, map) = (inputs(seed, 1)?, Target::Class(0), normal(seed, &[1, 1, 6, 6])?);
        let curve = PixelCurve::default().step(step);
        let inserted = evaluate(&Insertion(curve.clone()), &graph, &x, &target, &map)?;
        let deleted = evaluate(&Deletion(curve), &graph, &x, &target, &map.neg()?)?;
        let mut backwards = deleted.curves[0].y.clone();
        backwards.reverse();
        prop_assert_eq!(&inserted.curves[0].y, &backwards);
        let gap = inserted.values[0].zip(deleted.values[0]).map(|(a, b)| (a - b).abs());
        prop_assert!(gap.is_some_and(|gap| gap < 1e-12));
    }

    #[test]
    fn nothing_beats_the_contributions_of_a_linear_network(seed in any::<u64>()) {
        let graph = draw(seed, Kind { nonlinear: false, ..Kind::default() })?;
        let (x, target) = (inputs(seed, 1)?, Target::Class(1));
        let best = InputXGradient::default().explain(&graph, &x, &target, &Run::new())?.values().clone();
        let curve = PixelCurve::default().probability(false).step(2);
        let metrics: [(&dyn Metric<Graph>, f64); 2] = [(&Insertion(curve.clone()), 1.0), (&Deletion(curve), -1.0)];
        for (metric, sign) in metrics {
            let area = |map: &Tensor| -> Result<f64> {
                Ok(sign * evaluate(metric, &graph, &x, &target, map)?.values[0].unwrap_or(f64::NAN))
            };
            let (best, worst) = (area(&best)?, area(&best.neg()?)?);
            for other in 0..4 {
                let other = area(&normal(other, &[1, 3, 6, 6])?)?;
                prop_assert!(worst - 1e-10 <= other && other <= best + 1e-10, "{} {} {}", worst, other, best);
            }
        }
    }

    #[test]
    fn linear_networks_have_complete_attributions(seed in any::<u64>()) {
        let graph = draw(seed, Kind { nonlinear: false, ..Kind::default() })?;
        let (x, target, run) = (inputs(seed, 2)?, Target::Classes(vec![0, 2]), Run::new());
        let single = Occlusion::with_window(&[1, 1, 1], &[1, 1, 1]);
        let methods: [&dyn Explainer<Graph>; 2] = [&InputXGradient::default(), &single];
        for method in methods {
            let found = method.explain(&graph, &x, &target, &run)?;
            let gaps = Completeness::default().evaluate(&Case::new(&graph, &x, &target, &found, &run))?;
            prop_assert!(gaps.values.iter().all(|gap| gap.is_some_and(|gap| gap < 1e-9)), "{:?}", gaps.values);
        }
    }

    #[test]
    fn the_gap_is_what_is_missing(seed in any::<u64>(), level in -1.0..1.0_f64) {
        let graph = draw(seed, Kind::default())?;
        let (x, target, run) = (inputs(seed, 2)?, Target::Classes(vec![1, 0]), Run::new());
        let found = Saliency::default().explain(&graph, &x, &target, &run)?;
        let metric = Completeness { baseline: Baseline::Constant(level) };
        let gaps = metric.evaluate(&Case::new(&graph, &x, &target, &found, &run))?;
        let baseline = Inputs::single((Tensor::ones((2, 3, 6, 6), DType::F64, &Device::Cpu)? * level)?)?;
        let (scores, references) = (watched(&graph, &x, &target)?, watched(&graph, &baseline, &target)?);
        for (sample, total) in found.totals()?.into_iter().enumerate() {
            let change = scores[sample] - references[sample];
            let expected = (total - change).abs() / if change == 0.0 { 1.0 } else { change.abs() };
            let gap = gaps.values[sample].unwrap_or(f64::NAN);
            prop_assert!((gap - expected).abs() <= 1e-9 * (1.0 + expected), "{} instead of {}", gap, expected);
        }
    }

    #[test]
    fn rank_correlation_sees_order_only(values in prop::collection::vec(-100..100_i32, 2..60), seed in any::<u64>()) {
        let a: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        prop_assume!(a.iter().any(|v| *v != a[0]));
        let of = |a: &[f64], b: &[f64]| -> Result<f64> { Ok(spearman(a, b)?.unwrap_or(f64::NAN)) };
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        prop_assert!(close(of(&a, &a)?, 1.0));
        prop_assert!(close(of(&a, &a.iter().map(|v| v.powi(3) + 5.0).collect::<Vec<_>>())?, 1.0));
        prop_assert!(close(of(&a, &a.iter().map(|v| -2.0 * v).collect::<Vec<_>>())?, -1.0));
        let b = flat(&normal(seed, &[a.len()])?)?;
        let both = of(&a, &b)?;
        prop_assert!(both.abs() <= 1.0 + 1e-12 && close(of(&b, &a)?, both));
    }

    #[test]
    fn structural_similarity_is_symmetric_and_at_most_1(seed in any::<u64>(), window in prop::sample::select(vec![3, 7, 11])) {
        let (a, b) = (flat(&normal(seed, &[180])?)?, flat(&normal(seed ^ 1, &[180])?)?);
        for ssim in [Ssim::default(), Ssim::uniform(window), Ssim { sample_covariance: true, ..Ssim::uniform(window) }] {
            let of = |a: &[f64], b: &[f64]| ssim.compare(a, b, [12, 15], 4.0);
            prop_assert!((of(&a, &a)? - 1.0).abs() < 1e-12);
            let both = of(&a, &b)?;
            prop_assert!(both < 1.0 && (of(&b, &a)? - both).abs() < 1e-12);
        }
    }

    #[test]
    fn the_pointing_game_looks_at_the_maximum(
        at in (0..12_usize, 0..16_usize), corner in (0..9_usize, 0..12_usize), sides in (1..4_usize, 1..5_usize),
        tolerance in 0..6_u8, seed in any::<u64>(),
    ) {
        let ((y, x), (top, left), (height, width)) = (at, corner, sides);
        let mut map = flat(&normal(seed, &[12 * 16])?)?;
        map[y * 16 + x] = 50.0;
        let map = Tensor::from_vec(map, (1, 1, 12, 16), &Device::Cpu)?;
        let bounds = [left, top, left + width, top + height].map(|v| v as f64);
        let scene = Scene::new(vec![
            Object { class: 7, bounds, difficult: false },
            // An object of another class, exactly at the maximum.
            Object { class: 8, bounds: [x as f64, y as f64, x as f64 + 1.0, y as f64 + 1.0], difficult: false },
        ]);
        let model = BlackBox::new(|x: &Tensor| Ok(x.clone()));
        let (inputs, run) = (Inputs::single(map.clone())?, Run::new());
        let game = PointingGame { tolerance: f64::from(tolerance), ..PointingGame::default() };
        let nearest = (top..top + height)
            .flat_map(|row| (left..left + width).map(move |column| (row, column)))
            .map(|(row, column)| (row.abs_diff(y) as f64).hypot(column.abs_diff(x) as f64))
            .fold(f64::MAX, f64::min);
        let hit = nearest == 0.0 || nearest < f64::from(tolerance);
        let given = attribution(map.clone(), vec![String::new()]);
        let targets = [
            (Target::Class(7), Some(f64::from(u8::from(hit)))),
            (Target::Probability(8), Some(1.0)),
            (Target::Class(9), None),
        ];
        for (target, expected) in targets {
            let truth = [scene.clone().into()];
            let found = game.evaluate(&Case::new(&model, &inputs, &target, &given, &run).showing(&truth))?;
            prop_assert_eq!(found.values[0], expected, "{:?}", target);
        }
    }
}

/// Random parameters have the mean and variance of the trained ones: where a tensor is constant they are equal, and
/// so is the explanation.
#[test]
fn a_network_that_stays_the_same_explains_the_same() -> Result<()> {
    let graph = draw(3, Kind::default())?;
    let constant = graph.map_constants(|_, value| Ok(Some(value.ones_like()?)))?;
    let x = Inputs::single(normal(1, &[2, 3, 6, 6])?)?;
    let (target, run) = (Target::Classes(vec![0, 1]), Run::new());
    let metric = ModelRandomisation { reduction: Reduction::Sum, ..ModelRandomisation::default() };
    let mean = |graph: &Graph| -> Result<Vec<Option<f64>>> {
        let method = InputXGradient::default();
        let found = method.explain(graph, &x, &target, &run)?;
        Ok(metric.evaluate(&Case::new(graph, &x, &target, &found, &run).explained_by(&method))?.values)
    };
    for value in mean(&constant)? {
        assert!(value.is_some_and(|v| (v - 1.0).abs() < 1e-12), "{value:?}");
    }
    for value in mean(&graph)? {
        assert!(value.is_none_or(|v| v < 0.99), "{value:?}");
    }
    // The gradient of the constant network is not constant: because of the padding, fewer weights reach the border.
    let gradient = constant.gradient(&x, &target, &[0, 1])?;
    let values = flat(&gradient.values[0])?;
    assert!(values.iter().any(|v| (v - values[0]).abs() > 1e-9));
    Ok(())
}
