//! Checks the axioms that methods guarantee, on random networks in f64.

use ascribe_core::ops::{Binary, Linear, Pointwise};
use ascribe_core::{
    Attribution, DType, Device, Explainer, Graph, GraphBuilder, Inputs, Keep, Result, Run, Target, Tensor,
};
use ascribe_core::{Location, explain_at};
use ascribe_gradient::{
    Bias, DeconvNet, GradCam, GuidedBackprop, GuidedGradCam, InputXGradient, IntegratedGradients, Lrp,
    LrpComposite, NoiseTunnel, Quadrature, Saliency,
};
use ascribe_testing::net::{CLASSES, DUMMY, Kind, Net, SIDES, Style, inputs};
use ascribe_testing::{bits, distance, flat};
use proptest::prelude::*;

type Boxed = Box<dyn Explainer<Graph>>;

fn explain(method: &dyn Explainer<Graph>, graph: &Graph, x: &Inputs, target: &Target) -> Result<Attribution> {
    method.explain(graph, x, target, &Run::new())
}

/// Methods that depend only on the function, not on how it is expressed as a graph.
fn functional() -> Vec<Boxed> {
    vec![
        Box::new(Saliency::default()),
        Box::new(InputXGradient::default()),
        Box::new(IntegratedGradients::exactly(7)),
        Box::new(NoiseTunnel::smooth_grad(Saliency::default()).samples(3)),
        Box::new(NoiseTunnel::var_grad(InputXGradient::default()).samples(3)),
    ]
}

fn all_methods() -> Vec<Boxed> {
    let mut all = functional();
    all.extend::<Vec<Boxed>>(vec![
        Box::new(GuidedBackprop::default()),
        Box::new(GradCam::default()),
        Box::new(GuidedGradCam::default()),
        Box::new(Lrp::default()),
        Box::new(Lrp::default().composite(LrpComposite::Gamma)),
        Box::new(Lrp::default().composite(LrpComposite::Epsilon).bias(Bias::Zero)),
        Box::new(NoiseTunnel::smooth_grad_sq(IntegratedGradients::exactly(3)).samples(2)),
        Box::new(IntegratedGradients::default().steps(2).tolerance(0.02).max_steps(16)),
    ]);
    all
}

proptest! {
    #![proptest_config(ascribe_proptest::config(16))]

    #[test]
    fn integrated_gradients_are_complete(seed in any::<u64>()) {
        let graph = Net::draw(seed, Kind::default())?.graph(Style::Plain)?;
        let x = inputs(seed, 2)?;
        let gaps = |method: IntegratedGradients| -> Result<Vec<f64>> {
            let found = explain(&method, &graph, &x, &Target::Class(1))?;
            let (scores, baseline) = (&found.provenance.scores, found.provenance.baseline_scores.unwrap_or_default());
            let gaps = found.provenance.completeness_gap.unwrap_or_default();
            Ok((0..2).map(|i| gaps[i].abs() / (scores[i].abs() + baseline[i].abs() + 1.0)).collect())
        };
        for gap in gaps(IntegratedGradients::exactly(400).quadrature(Quadrature::RiemannMiddle))? {
            prop_assert!(gap < 0.02, "400 steps: gap {}", gap);
        }
    }

    #[test]
    fn a_tolerance_is_kept(seed in any::<u64>()) {
        let graph = Net::draw(seed, Kind::default())?.graph(Style::Plain)?;
        let method = IntegratedGradients::default().steps(8).tolerance(0.05).max_steps(2048);
        let found = explain(&method, &graph, &inputs(seed, 1)?, &Target::Difference(0, 1))?;
        let change = found.provenance.scores[0] - found.provenance.baseline_scores.unwrap_or_default()[0];
        prop_assume!(change.abs() > 0.1);
        prop_assert!(found.provenance.completeness_gap.unwrap_or_default()[0].abs() <= 0.05 * change.abs());
    }

    #[test]
    fn integrated_gradients_are_exact_for_linear_networks(seed in any::<u64>()) {
        let kind = Kind { nonlinear: false, ..Kind::default() };
        let graph = Net::draw(seed, kind)?.graph(Style::Plain)?;
        for quadrature in [Quadrature::RiemannLeft, Quadrature::RiemannTrapezoid, Quadrature::GaussLegendre] {
            let method = IntegratedGradients::exactly(3).quadrature(quadrature);
            let found = explain(&method, &graph, &inputs(seed, 1)?, &Target::Class(0))?;
            let gap = found.provenance.completeness_gap.unwrap_or_default()[0];
            prop_assert!(gap.abs() < 1e-11, "{:?}: {}", quadrature, gap);
        }
    }

    #[test]
    fn linear_in_the_output(seed in any::<u64>()) {
        let graph = Net::draw(seed, Kind::default())?.graph(Style::Plain)?;
        let x = inputs(seed, 1)?;
        let mixed = Target::custom("2 z0 - 3 z1", |outputs, _| {
            let z = outputs.primary();
            Ok(((z.narrow(1, 0, 1)? * 2.0)? - (z.narrow(1, 1, 1)? * 3.0)?)?.squeeze(1)?)
        });
        let linear: [Boxed; 4] = [
            Box::new(Saliency::default()),
            Box::new(InputXGradient::default()),
            Box::new(IntegratedGradients::exactly(5)),
            Box::new(GradCam::default()),
        ];
        for method in linear {
            let of = |target: &Target| flat(explain(&*method, &graph, &x, target)?.values());
            let (first, second, both) = (of(&Target::Class(0))?, of(&Target::Class(1))?, of(&mixed)?);
            let expected: Vec<f64> = first.iter().zip(second).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
            prop_assert!(distance(&both, &expected) < 1e-10, "{}", method.id());
        }
    }

    #[test]
    fn the_way_a_network_is_written_does_not_matter(seed in any::<u64>()) {
        let net = Net::draw(seed, Kind::default())?;
        let (plain, x) = (net.graph(Style::Plain)?, inputs(seed, 2)?);
        let target = Target::Classes(vec![0, 2]);
        for style in [
            Style::SplitConvolution, Style::Folded, Style::Maximum, Style::Padded, Style::Duplicated,
        ] {
            let other = net.graph(style)?;
            for method in functional() {
                let expected = explain(&*method, &plain, &x, &target)?;
                let found = explain(&*method, &other, &x, &target)?;
                let error = distance(&flat(found.values())?, &flat(expected.values())?);
                prop_assert!(error < 1e-9, "{} {:?}: {}", method.id(), style, error);
            }
        }
    }

    #[test]
    fn rules_survive_rewriting(seed in any::<u64>()) {
        let net = Net::draw(seed, Kind { positive: true, ..Kind::default() })?;
        let (plain, x) = (net.graph(Style::Plain)?, inputs(seed, 1)?);
        let methods: [Boxed; 3] = [
            Box::new(GuidedBackprop::default()),
            Box::new(DeconvNet::default()),
            Box::new(Lrp::default().composite(LrpComposite::Epsilon).epsilon(0.0).stabiliser(0.0)),
        ];
        for style in [Style::Folded, Style::Maximum, Style::Padded] {
            let other = net.graph(style)?;
            for method in &methods {
                let expected = explain(&**method, &plain, &x, &Target::Class(0))?;
                let found = explain(&**method, &other, &x, &Target::Class(0))?;
                let error = distance(&flat(found.values())?, &flat(expected.values())?);
                prop_assert!(error < 1e-6, "{} {:?}: {}", method.id(), style, error);
            }
        }
    }

    #[test]
    fn inputs_that_do_not_matter_get_nothing(seed in any::<u64>()) {
        let graph = Net::draw(seed, Kind { dummy: true, ..Kind::default() })?.graph(Style::Plain)?;
        let x = inputs(seed, 1)?;
        for method in all_methods().into_iter().filter(|m| m.id() != "grad-cam") {
            let found = explain(&*method, &graph, &x, &Target::Class(0))?;
            let dummy = flat(&found.values().narrow(1, DUMMY, 1)?)?;
            prop_assert!(dummy.iter().all(|v| *v == 0.0), "{}", method.id());
        }
    }

    #[test]
    fn relevance_is_conserved_without_biases(seed in any::<u64>()) {
        let kind = Kind { bias: false, ..Kind::default() };
        let graph = Net::draw(seed, kind)?.graph(Style::Plain)?;
        let method = Lrp::default().composite(LrpComposite::Epsilon).epsilon(1e-13).stabiliser(1e-13);
        let found = explain(&method, &graph, &inputs(seed, 2)?, &Target::Classes(vec![1, 2]))?;
        let gaps = found.provenance.completeness_gap.clone().unwrap_or_default();
        for (sample, gap) in gaps.into_iter().enumerate() {
            let size: f64 = flat(&found.values().narrow(0, sample, 1)?)?.iter().map(|v| v.abs()).sum();
            prop_assert!(gap.abs() <= 1e-7 * size + 1e-12, "gap {} of {}", gap, size);
        }
    }

    #[test]
    fn zero_bias_conserves_with_biases(seed in any::<u64>()) {
        // Where a bias alone opens a gate, no input can receive the relevance: this test uses networks without gates.
        let graph = Net::draw(seed, Kind { nonlinear: false, ..Kind::default() })?.graph(Style::Plain)?;
        let method = Lrp::default().composite(LrpComposite::Epsilon).epsilon(1e-13).stabiliser(1e-13).bias(Bias::Zero);
        let found = explain(&method, &graph, &inputs(seed, 1)?, &Target::Class(1))?;
        let size: f64 = flat(found.values())?.iter().map(|v| v.abs()).sum();
        let gap = found.provenance.completeness_gap.unwrap_or_default()[0];
        prop_assert!(gap.abs() <= 1e-7 * size + 1e-12, "gap {} of {}", gap, size);
    }

    #[test]
    fn positive_relevance_stays_positive_and_is_conserved(seed in any::<u64>()) {
        let kind = Kind { bias: false, positive: true, ..Kind::default() };
        let graph = Net::draw(seed, kind)?.graph(Style::Plain)?;
        let method = Lrp::default().composite(LrpComposite::ZPlus).stabiliser(1e-13);
        for class in 0..CLASSES {
            let found = explain(&method, &graph, &inputs(seed, 1)?, &Target::Class(class))?;
            let score = found.provenance.scores[0];
            if score <= 1e-6 {
                continue;
            }
            prop_assert!(flat(found.values())?.iter().all(|v| *v >= 0.0));
            prop_assert!((found.totals()?[0] - score).abs() < 1e-6 * score, "{} of {}", found.totals()?[0], score);
        }
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(3))]

    #[test]
    fn batches_threads_and_budgets_change_nothing(seed in any::<u64>(), single in any::<bool>()) {
        let dtype = if single { DType::F32 } else { DType::F64 };
        let graph = Net::draw(seed, Kind::default())?.graph(Style::Plain)?.to_dtype(dtype)?;
        let shape: Vec<usize> = [&[3], &SIDES[..]].concat();
        let value = flat(&inputs(seed, 3)?.explained().next().map_or_else(|| unreachable!(), |i| i.value.clone()))?;
        let x = Inputs::single(Tensor::from_vec(value, shape, &Device::Cpu)?.to_dtype(dtype)?)?;
        let target = Target::Classes(vec![2, 0, 1]);
        for method in all_methods() {
            let run = Run::new().seed(seed);
            let expected = bits(&method.explain(&graph, &x, &target, &run)?)?;
            for (threads, batch) in [(1, 1), (2, 3), (3, 8), (8, 2)] {
                let found = method.explain(&graph, &x, &target, &run.clone().threads(threads).batch(batch))?;
                prop_assert!(bits(&found)? == expected, "{}, {} threads, budget {}", method.id(), threads, batch);
            }
            let (mut values, mut spreads) = (Vec::new(), Vec::new());
            for (sample, class) in [2, 0, 1].into_iter().enumerate() {
                let found = method.explain(&graph, &x.select(&[sample])?, &Target::Class(class), &run)?;
                values.extend(flat(found.values())?);
                spreads.extend(found.parts[0].spread.as_ref().map(flat).transpose()?.unwrap_or_default());
            }
            let alone: Vec<u64> = values.into_iter().chain(spreads).map(f64::to_bits).collect();
            prop_assert!(alone == expected, "{}: a batch is not its samples", method.id());
        }
    }
}

#[test]
fn every_method_at_a_layer_and_of_a_neuron() -> Result<()> {
    for seed in 0..4 {
        let graph = Net::draw(seed, Kind { positive: true, ..Kind::default() })?.graph(Style::Plain)?;
        let (x, target) = (inputs(seed, 2)?, Target::Classes(vec![0, 2]));
        let conv = graph.trace(&x, Keep::All)?.value(graph.find("conv")?)?.dims().to_vec();
        let layer = Location::Layer("conv".into());
        let neuron = Location::Neuron("pool".into(), vec![0, 0, 0]);
        let mut methods = all_methods();
        methods.push(Box::new(DeconvNet::default()));
        for method in methods {
            let found = explain_at(&*method, &graph, &x, &target, &layer, &Run::new())?;
            assert_eq!(found.parts[0].name, "conv");
            assert_eq!(found.values().dims()[2..], conv[2..], "{}", method.id());
            let found = explain_at(&*method, &graph, &x, &target, &neuron, &Run::new())?;
            assert_eq!(found.values().dims()[2..], SIDES[1..], "{}", method.id());
        }
        // A layer that all paths go through, so that its integrated gradients are complete, too.
        let method = IntegratedGradients::exactly(400).quadrature(Quadrature::RiemannMiddle);
        let gaps = explain_at(&method, &graph, &x, &target, &layer, &Run::new())?.provenance.completeness_gap;
        assert!(gaps.unwrap_or_default().iter().all(|gap| gap.abs() < 0.05));
    }
    Ok(())
}

#[test]
fn symmetric_inputs_get_the_same() -> Result<()> {
    // f = tanh(x₀ + x₁ + x₂) · ReLU(x₀ + x₁ − 1): symmetric in x₀ and x₁.
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let w = b.constant("w", Tensor::new(&[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], &Device::Cpu)?);
    let c = b.constant("c", Tensor::new(&[0.0, -1.0], &Device::Cpu)?);
    let h = b.op("h", Linear, &[x, w, c])?;
    let t = b.op("tanh", Pointwise::Tanh, &[h])?;
    let r = b.op("relu", Pointwise::Relu, &[h])?;
    let first = ascribe_core::ops::Structure::Slice { axis: 1, start: 0, len: 1, step: 1 };
    let second = ascribe_core::ops::Structure::Slice { axis: 1, start: 1, len: 1, step: 1 };
    let t = b.op("first", first, &[t])?;
    let r = b.op("second", second, &[r])?;
    let y = b.op("y", Binary::Mul, &[t, r])?;
    let graph = b.finish(&[y])?;
    let x = Inputs::single(Tensor::new(&[[0.8, 0.8, -0.3]], &Device::Cpu)?)?;
    let found = explain(&IntegratedGradients::default(), &graph, &x, &Target::Class(0))?;
    let values = flat(found.values())?;
    assert_eq!(values[0], values[1]);
    assert!(values[0] != values[2]);
    Ok(())
}

#[test]
fn a_flat_function_that_rose() -> Result<()> {
    // f = 1 − ReLU(1 − x) at x = 2 from 0 (Sundararajan et al. 2017, §2.1): f rises by 1, but its gradient is 0.
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(1)]);
    let one = b.constant("one", Tensor::new(&[1_f64], &Device::Cpu)?);
    let inner = b.op("inner", Binary::Sub, &[one, x])?;
    let relu = b.op("relu", Pointwise::Relu, &[inner])?;
    let y = b.op("y", Binary::Sub, &[one, relu])?;
    let graph = b.finish(&[y])?;
    let x = Inputs::single(Tensor::new(&[[2_f64]], &Device::Cpu)?)?;
    let of = |method: &dyn Explainer<Graph>| flat(explain(method, &graph, &x, &Target::Class(0))?.values());
    assert_eq!(of(&Saliency::default())?, [0.0]);
    assert_eq!(of(&InputXGradient::default())?, [0.0]);
    // Half of an even number of steps is before the kink.
    let even = IntegratedGradients::exactly(50).quadrature(Quadrature::RiemannMiddle);
    assert!((of(&even)?[0] - 1.0).abs() < 1e-12);
    assert!((of(&IntegratedGradients::default())?[0] - 1.0).abs() < 1e-12);
    Ok(())
}
