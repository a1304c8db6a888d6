//! Checks the axioms that occlusion and RISE satisfy, on random networks in f64.

use ascribe_core::{
    Attribution, Baseline, BlackBox, DType, Device, Differentiable, Explainer, Graph, Inputs, Predictor,
    Result, Run, Target, Tensor, random,
};
use ascribe_perturb::{Occlusion, Rise};
use ascribe_testing::net::{DUMMY, Kind, Net, SIDES, Style, inputs};
use ascribe_testing::{distance, flat};
use proptest::prelude::*;

fn draw(seed: u64, kind: Kind) -> Result<Graph> {
    Net::draw(seed, kind)?.graph(Style::Plain)
}

/// A black box that first changes the input and then applies a graph.
fn behind<F>(
    graph: Graph,
    change: F,
) -> BlackBox<impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync>
where
    F: Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync,
{
    BlackBox::new(move |x: &Tensor| {
        let x = Inputs::single(change(x)?.contiguous()?).map_err(candle_core::Error::wrap)?;
        Ok(graph.predict(&x).map_err(candle_core::Error::wrap)?.primary().clone())
    })
}

fn mirrored(x: &Tensor) -> candle_core::Result<Tensor> {
    let last = x.rank() - 1;
    let side = x.dim(last)? as u32;
    x.contiguous()?.index_select(&Tensor::from_iter((0..side).rev(), &Device::Cpu)?, last)
}

fn normal(seed: u64, shape: &[usize]) -> Result<Tensor> {
    random::normal(&mut random::stream(seed, random::Domain::DATA, 9), shape, DType::F64, &Device::Cpu)
}

/// The target 2 z₀ − 3 z₁.
fn mixed() -> Target {
    Target::custom("2 z0 - 3 z1", |outputs, _| {
        let z = outputs.primary();
        Ok(((z.narrow(1, 0, 1)? * 2.0)? - (z.narrow(1, 1, 1)? * 3.0)?)?.squeeze(1)?)
    })
}

proptest! {
    #![proptest_config(ascribe_proptest::config(12))]

    #[test]
    fn channels_that_do_not_matter_get_nothing(seed in any::<u64>(), side in 1..4_usize, stride in 1..4_usize) {
        let graph = draw(seed, Kind { dummy: true, ..Kind::default() })?;
        let method = Occlusion::with_window(&[1, side, side], &[1, stride, stride]).baseline(Baseline::Constant(0.7));
        let found = method.explain(&graph, &inputs(seed, 2)?, &Target::Classes(vec![0, 2]), &Run::new())?;
        prop_assert!(flat(&found.values().narrow(1, DUMMY, 1)?)?.iter().all(|v| *v == 0.0));
    }

    #[test]
    fn pixels_out_of_sight_get_nothing(
        seed in any::<u64>(), window in prop::array::uniform2(1..5_usize), stride in prop::array::uniform2(1..4_usize),
    ) {
        // The network depends on rows 2 to 7 and columns 1 to 6 of images of 10 × 9 pixels.
        let (top, left) = (2, 1);
        let model = behind(draw(seed, Kind::default())?, move |x| x.narrow(2, top, SIDES[1])?.narrow(3, left, SIDES[2]));
        let x = Inputs::single(normal(seed, &[1, 3, 10, 9])?)?;
        let found = Occlusion::with_window(&window, &stride).explain(&model, &x, &Target::Class(1), &Run::new())?;
        let map = found.values().get(0)?.get(0)?.to_vec2::<f64>()?;
        // Whether a window covers both this row (column) and one that the network depends on; windows start at
        // multiples of the stride.
        let touches = |at: usize, axis: usize, from: usize, to: usize| {
            let side = [10, 9][axis];
            let last = (side - window[axis]).div_ceil(stride[axis]) * stride[axis];
            (0..=last).step_by(stride[axis]).any(|start| {
                let covered = start..start + window[axis];
                covered.contains(&at) && (from..to).any(|seen| covered.contains(&seen))
            })
        };
        for (y, row) in map.iter().enumerate() {
            for (x, value) in row.iter().enumerate() {
                if !(touches(y, 0, top, top + SIDES[1]) && touches(x, 1, left, left + SIDES[2])) {
                    prop_assert!(*value == 0.0, "({}, {}): {}", y, x, value);
                }
            }
        }
    }

    #[test]
    fn a_mirrored_input_has_a_mirrored_map(seed in any::<u64>(), which in 0..5_usize) {
        // The mirror image of each window is a window, since the stride divides the side minus the window size.
        let (side, stride) = [(1, 1), (2, 1), (2, 2), (3, 3), (4, 2)][which];
        let graph = draw(seed, Kind::default())?;
        // g(x) + g(mirrored x) does not change when x is mirrored.
        let both = behind(graph.clone(), |x| Tensor::cat(&[x, &mirrored(x)?], 0));
        let model = BlackBox::new(move |x: &Tensor| {
            let x = Inputs::single(x.clone()).map_err(candle_core::Error::wrap)?;
            let y = both.predict(&x).map_err(candle_core::Error::wrap)?;
            let (y, rows) = (y.primary(), x.batch().map_err(candle_core::Error::wrap)?);
            y.narrow(0, 0, rows)? + y.narrow(0, rows, rows)?
        });
        let of = |x: Tensor| -> Result<Tensor> {
            let method = Occlusion::new(side, stride);
            Ok(method.explain(&model, &Inputs::single(x)?, &Target::Class(0), &Run::new())?.values().clone())
        };
        let x = normal(seed, &[2, 3, 6, 6])?;
        let (map, mirror) = (of(x.clone())?, of(mirrored(&x)?)?);
        let error = distance(&flat(&mirrored(&mirror)?)?, &flat(&map)?);
        prop_assert!(error < 1e-9, "{} {}: {}", side, stride, error);
    }

    #[test]
    fn linear_in_the_output(seed in any::<u64>()) {
        let graph = draw(seed, Kind::default())?;
        let x = inputs(seed, 1)?;
        let methods: [Box<dyn Explainer<Graph>>; 2] =
            [Box::new(Occlusion::new(3, 2)), Box::new(Rise::default().masks(40).cells(3).probability(0.6))];
        for method in methods {
            let of = |target: &Target| flat(method.explain(&graph, &x, target, &Run::new())?.values());
            let (first, second, both) = (of(&Target::Class(0))?, of(&Target::Class(1))?, of(&mixed())?);
            let expected: Vec<f64> = first.iter().zip(second).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
            prop_assert!(distance(&both, &expected) < 1e-10, "{}", method.id());
        }
    }

    #[test]
    fn occlusion_of_single_values_adds_up_for_linear_networks(seed in any::<u64>()) {
        let graph = draw(seed, Kind { nonlinear: false, ..Kind::default() })?;
        let (x, reference) = (inputs(seed, 2)?, normal(seed, &[2, 3, 6, 6])?);
        let target = Target::Classes(vec![2, 1]);
        let method = Occlusion::with_window(&[1, 1, 1], &[1, 1, 1]).baseline(Baseline::Tensor(reference.clone()));
        let found = method.explain(&graph, &x, &target, &Run::new())?;
        let outputs = graph.forward(&Inputs::single(reference)?)?;
        let of_reference = flat(&target.score(&outputs, &[0, 1])?)?;
        for (sample, total) in found.totals()?.into_iter().enumerate() {
            let change = found.provenance.scores[sample] - of_reference[sample];
            prop_assert!((total - change).abs() < 1e-10 * (1.0 + change.abs()), "{} for {}", total, change);
        }
    }
}

/// `E[M_i M_j] − p²` is `p (1 − p)` times this: the mean over offsets of `Σ_c a_ic a_jc`, where `a_ic` is the weight
/// of cell c at position i. It is a product of one such factor for rows and one for columns.
fn overlap(side: usize, cells: usize) -> Vec<Vec<f64>> {
    let cell = side.div_ceil(cells);
    let weight = |place: usize, c: usize| {
        let at = (place as f64 + 0.5) * cells as f64 / ((cells + 1) * cell) as f64 - 0.5;
        (1.0 - (at.clamp(0.0, (cells - 1) as f64) - c as f64).abs()).max(0.0)
    };
    let at = |i: usize, j: usize, offset: usize| -> f64 {
        (0..cells).map(|c| weight(i + offset, c) * weight(j + offset, c)).sum()
    };
    let mean = |i, j| (0..cell).map(|offset| at(i, j, offset)).sum::<f64>() / cell as f64;
    (0..side).map(|i| (0..side).map(|j| mean(i, j)).collect()).collect()
}

/// For `S(x) = b + Σ_j v_j`, where `v_j` is the contribution of pixel j, RISE estimates `E[S(x ⊙ M) M_i] / p = b + p
/// Σ_j v_j + (1 − p) Σ_j K_ij v_j`, where K is the [`overlap`].
///
/// Each error must be within 5 of the estimate's own standard errors; the root mean square of the errors in these
/// units must be below 2 (neighbours are correlated, so 1 cannot be required). The expected map spans more than 10
/// standard errors, so that a wrong map would be detected.
#[test]
fn rise_estimates_its_expectation_on_linear_networks() -> Result<()> {
    for (seed, cells, p) in [(1, 3, 0.5), (2, 4, 0.3), (3, 2, 0.7), (4, 6, 0.5)] {
        let graph = draw(seed, Kind { nonlinear: false, ..Kind::default() })?;
        let (value, target) = (normal(seed, &[1, 3, 6, 6])?, Target::Class(0));
        let x = Inputs::single(value.clone())?;
        let gradient = graph.gradient(&x, &target, &[0])?;
        let v = flat(&(value * &gradient.values[0])?.sum((0, 1))?)?;
        let sum: f64 = v.iter().sum();
        let b = flat(&gradient.scores)?[0] - sum;
        let [_, height, width] = SIDES;
        let (rows, columns) = (overlap(height, cells), overlap(width, cells));
        let expected: Vec<f64> = (0..height * width)
            .map(|i| {
                let k = |j: usize| rows[i / width][j / width] * columns[i % width][j % width];
                b + p * sum + (1.0 - p) * v.iter().enumerate().map(|(j, v)| k(j) * v).sum::<f64>()
            })
            .collect();
        let method = Rise::default().masks(8000).cells(cells).probability(p);
        let found = method.explain(&graph, &x, &target, &Run::new().seed(seed).batch(64))?;
        let (map, errors) = (flat(found.values())?, spread(&found)?);
        let z: Vec<f64> = map.iter().zip(&expected).zip(&errors).map(|((m, e), s)| (m - e) / s).collect();
        let worst = z.iter().fold(0.0_f64, |m, z| m.max(z.abs()));
        let rms = (z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64).sqrt();
        let (low, high) = expected.iter().fold((f64::MAX, f64::MIN), |(l, h), &e| (l.min(e), h.max(e)));
        let error = errors.iter().sum::<f64>() / errors.len() as f64;
        println!("{cells} cells, p {p}: worst {worst:.2}, rms {rms:.2}, span {:.1}", (high - low) / error);
        assert!(worst < 5.0 && rms < 2.0, "{cells} cells, p {p}: {worst}, {rms}");
        assert!(high - low > 10.0 * error, "{cells} cells, p {p}: {low} to {high}, standard error {error}");
    }
    Ok(())
}

fn spread(found: &Attribution) -> Result<Vec<f64>> {
    found.parts[0].spread.as_ref().map_or_else(|| Ok(Vec::new()), flat)
}

/// The spread is the standard error of the mean over the masks: sd / √n, where the standard deviation divides by n −
/// 1.
#[test]
fn the_spread_of_rise_is_the_standard_error() -> Result<()> {
    let graph = draw(5, Kind::default())?;
    let (x, target, n, p) = (inputs(5, 1)?, Target::Class(2), 15, 0.4);
    let masks = random::uniform(
        &mut random::stream(5, random::Domain::DATA, 2),
        &[n, SIDES[1], SIDES[2]],
        DType::F64,
        &Device::Cpu,
    )?;
    let rise = Rise::with_masks(masks.clone()).probability(p);
    let found = rise.explain(&graph, &x, &target, &Run::new())?;
    let mut terms = Vec::new();
    for i in 0..n {
        let mask = masks.get(i)?;
        let masked = x.iter().map(|x| x.value.broadcast_mul(&mask)).collect::<candle_core::Result<_>>()?;
        let outputs = graph.forward(&x.with_explained(masked)?)?;
        let score = flat(&target.score(&outputs, &[0])?)?[0];
        terms.push(flat(&mask)?.into_iter().map(|m| score * m / p).collect::<Vec<f64>>());
    }
    let column = |i: usize| terms.iter().map(move |t| t[i]);
    let count = n as f64;
    let mean: Vec<f64> = (0..36).map(|i| column(i).sum::<f64>() / count).collect();
    let error: Vec<f64> = (0..36)
        .map(|i| (column(i).map(|t| (t - mean[i]).powi(2)).sum::<f64>() / (count - 1.0) / count).sqrt())
        .collect();
    assert!(distance(&flat(found.values())?, &mean) < 1e-12);
    assert!(distance(&spread(&found)?, &error) < 1e-9);
    Ok(())
}
