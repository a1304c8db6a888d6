//! Benchmarks of whole methods on EfficientNet-Lite0 with the bundled photograph.

use std::hint::black_box;
use std::path::Path;

use ascribe::core::ops::Kind;
use ascribe::core::relevance::Bound;
use ascribe::gradient::{LrpComposite, LrpRule};
use ascribe::prelude::*;
use criterion::{Criterion, criterion_group, criterion_main};

/// The model and the photograph.
fn setting() -> (Model, Inputs) {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images");
    let model = Model::open(ascribe::DEFAULT_MODEL, &OpenOptions::default()).expect("the model ships");
    let input = model.read(images.join("cat.png")).expect("the photograph ships");
    (model, input.inputs)
}

fn methods(c: &mut Criterion) {
    let (model, x) = setting();
    let (graph, x, target, run) = (&model.graph, &x, Target::Class(285), Run::new().threads(2));
    let mut group = c.benchmark_group("efficientnet-lite0");
    group.sample_size(10);
    group.bench_function("forward", |b| b.iter(|| graph.forward(black_box(x)).expect("forward")));
    let cases: [(&str, Box<dyn Explainer<Graph>>); 5] = [
        ("saliency", Box::new(Saliency::default())),
        ("grad-cam", Box::new(GradCam::default())),
        ("lrp", Box::new(Lrp::default())),
        ("integrated-gradients-20", Box::new(IntegratedGradients::exactly(20))),
        ("occlusion-32-32", Box::new(Occlusion::new(32, 32))),
    ];
    for (name, method) in cases {
        group.bench_function(name, |b| {
            b.iter(|| method.explain(graph, black_box(x), &target, &run).expect(name));
        });
    }
    group.finish();
}

/// The same network with rules that a plan implements itself, and with one rule that it has to call.
fn rules(c: &mut Criterion) {
    let (model, x) = setting();
    let (graph, x, target, run) = (&model.graph, &x, Target::Class(285), Run::new().threads(2));
    let mut group = c.benchmark_group("rules on efficientnet-lite0");
    group.sample_size(20);
    let plain = Lrp::default().composite(LrpComposite::EpsilonPlus);
    let boxed = plain.clone().first(LrpRule::Box).low(Bound::Value(-1.0)).high(Bound::Value(1.0));
    let canonical = graph.canonical().expect("canonical form");
    let layers: Vec<String> = canonical
        .nodes()
        .filter(|(id, _)| canonical.kind(*id) == Kind::Affine)
        .map(|(_, node)| node.name().to_string())
        .collect();
    // A rule that plans do not implement, in the middle of the network.
    let custom = plain.clone().layer(layers[layers.len() / 2].clone(), LrpRule::AlphaBeta);
    let all = plain.clone().composite(LrpComposite::EpsilonAlpha2Beta1);
    let cases =
        [("epsilon-plus", plain), ("one box", boxed), ("one alpha-beta", custom), ("alpha-beta", all)];
    for (name, method) in cases {
        group.bench_function(name, |b| {
            b.iter(|| method.explain(graph, black_box(x), &target, &run).expect(name));
        });
    }
    group.finish();
}

criterion_group!(benches, methods, rules);
criterion_main!(benches);
