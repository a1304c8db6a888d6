//! Compares rules in compiled plans (f32) with node-by-node execution in double precision.

use ascribe_core::ops::Backend;
use ascribe_core::{DType, Differentiable, Explainer, Graph, Inputs, Result, Run, Target};
use ascribe_gradient::{Bias, DeconvNet, GuidedBackprop, Lrp, LrpComposite, LrpRule, NoiseTunnel, Saliency};
use ascribe_testing::net::{self, Kind, Net, Style};
use ascribe_testing::{distance, flat};
use proptest::prelude::*;

fn methods() -> Vec<(&'static str, Box<dyn Explainer<Graph>>)> {
    // Stabilisers keep denominators away from zero, so that only rounding errors are compared.
    let lrp = |composite| Lrp::default().composite(composite).epsilon(0.05).stabiliser(0.05);
    vec![
        ("guided", Box::new(GuidedBackprop::default())),
        ("deconvnet", Box::new(DeconvNet::default())),
        ("lrp epsilon-plus", Box::new(lrp(LrpComposite::EpsilonPlus))),
        ("lrp epsilon", Box::new(lrp(LrpComposite::Epsilon))),
        ("lrp z-plus without biases", Box::new(lrp(LrpComposite::ZPlus).bias(Bias::Zero))),
        ("lrp epsilon without biases", Box::new(lrp(LrpComposite::Epsilon).bias(Bias::Zero))),
        ("lrp gamma, walked", Box::new(lrp(LrpComposite::EpsilonGamma))),
        ("lrp, another first rule", Box::new(lrp(LrpComposite::EpsilonPlus).first(LrpRule::Epsilon))),
    ]
}

fn answer(method: &dyn Explainer<Graph>, graph: &Graph, x: &Inputs, run: &Run) -> Result<Vec<f64>> {
    flat(method.explain(graph, x, &Target::Class(1), run)?.values())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(24))]

    #[test]
    fn rules_in_plans_are_those_of_the_walk(seed in any::<u64>(), bias in any::<bool>(), positive in any::<bool>()) {
        let kind = Kind { bias, positive, ..Kind::default() };
        let drawn = Net::draw(seed, kind).unwrap();
        let x = net::inputs(seed, 3).unwrap();
        let value = x.explained().next().unwrap().value.to_dtype(DType::F32).unwrap();
        let single = Inputs::single(value).unwrap();
        for style in [Style::Plain, Style::Duplicated] {
            let graph = drawn.graph(style).unwrap().canonical().unwrap();
            let planned = graph.to_dtype(DType::F32).unwrap();
            let walked = graph.with_backend(Backend::Portable);
            for (name, method) in methods() {
                let run = Run::new().batch(2).threads(1);
                let found = answer(&*method, &planned, &single, &run);
                let expected = match answer(&*method, &walked, &x, &run) {
                    Ok(expected) => expected,
                    // DeconvNet supports only ReLUs.
                    Err(error) => {
                        prop_assert_eq!(found.unwrap_err().to_string(), error.to_string());
                        continue;
                    }
                };
                let found = found.unwrap();
                let gap = distance(&found, &expected);
                prop_assert!(gap < 1e-4, "{name}, {style:?}: {gap:e}");
                let other = answer(&*method, &planned, &single, &Run::new().batch(3).threads(2)).unwrap();
                prop_assert!(found == other, "{name}, {style:?}: batch and threads");
            }
        }
    }

    #[test]
    fn sums_of_noisy_gradients_are_their_mean(seed in any::<u64>()) {
        let graph = Net::draw(seed, Kind::default()).unwrap().graph(Style::Plain).unwrap().canonical().unwrap();
        let graph = graph.to_dtype(DType::F32).unwrap();
        let x = net::inputs(seed, 2).unwrap();
        let x = Inputs::single(x.explained().next().unwrap().value.to_dtype(DType::F32).unwrap()).unwrap();
        prop_assert!(graph.gradient_sum(&x).unwrap().is_some(), "the network has a plan");
        let explain = |spread: bool| {
            let method = NoiseTunnel::smooth_grad(Saliency::default()).samples(5).spread(spread);
            method.explain(&graph, &x, &Target::Classes(vec![1, 0]), &Run::new().seed(seed).batch(3)).unwrap()
        };
        let (each, summed) = (explain(true), explain(false));
        prop_assert!(each.parts[0].spread.is_some() && summed.parts[0].spread.is_none());
        prop_assert_eq!(each.provenance.cost, summed.provenance.cost);
        let gap = distance(&flat(summed.values()).unwrap(), &flat(each.values()).unwrap());
        prop_assert!(gap < 1e-5, "{gap:e}");
    }
}
