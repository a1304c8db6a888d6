//! Compares occlusion that computes only what a window changes with occlusion that computes everything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ascribe_core::ops::{
    Backend, Binary, Conv, Linear, MaxPool, Pointwise, Reduce, ReduceFn, Structure, Window,
};
use ascribe_core::{
    Attribution, Baseline, DType, Device, Explainer, Graph, GraphBuilder, Inputs, Outputs, Predictor,
    Rectangle, Result, Run, Target, Tensor, Variations, random,
};
use ascribe_perturb::Occlusion;
use ascribe_testing::net::{Kind, Net, Style, inputs};
use ascribe_testing::{bits, flat};
use proptest::prelude::*;

/// A model that supports only predictions.
struct Plain<'a>(&'a Graph);

impl Predictor for Plain<'_> {
    fn predict(&self, x: &Inputs) -> Result<Outputs> {
        self.0.predict(x)
    }
}

/// A graph that counts the rows that run on patches, and has no groups.
struct Counted<'a>(&'a Graph, AtomicUsize);

impl Predictor for Counted<'_> {
    fn predict(&self, x: &Inputs) -> Result<Outputs> {
        self.0.predict(x)
    }

    fn variations<'a>(
        &'a self,
        base: &Inputs,
        rectangles: &[Rectangle],
    ) -> Result<Option<Box<dyn Variations + 'a>>> {
        let found = self.0.variations(base, rectangles)?;
        Ok(found.map(|inner| Box::new(CountedVariations { inner, rows: &self.1 }) as _))
    }
}

struct CountedVariations<'a> {
    inner: Box<dyn Variations + 'a>,
    rows: &'a AtomicUsize,
}

impl Variations for CountedVariations<'_> {
    fn predict(&self, x: &Inputs, rectangles: &[usize]) -> Result<Outputs> {
        self.rows.fetch_add(rectangles.len(), Ordering::Relaxed);
        self.inner.predict(x, rectangles)
    }
}

/// A stem with max-pooling, two residual blocks, one of them strided, and the mean of each channel.
fn residual_network() -> Result<Graph> {
    let mut b = GraphBuilder::new();
    let mut draw = random::stream(11, random::Domain::DATA, 0);
    let mut names = 0;
    let mut conv = |b: &mut GraphBuilder, x, [from, to, k]: [usize; 3], stride: usize| {
        names += 1;
        let spread = f64::sqrt(2.0 / (from * k * k) as f64);
        let weight = random::normal(&mut draw, &[to, from, k, k], DType::F32, &Device::Cpu)?;
        let weight = b.constant(&format!("weight{names}"), (weight * spread)?);
        let window = Window::new([k, k]).stride([stride; 2]).padding([k / 2; 2]);
        b.op(&format!("conv{names}"), Conv { window, groups: 1 }, &[x, weight])
    };
    let x = b.input("x", &[Some(3), Some(64), Some(60)]);
    let y = conv(&mut b, x, [3, 32, 7], 2)?;
    let y = b.op("relu", Pointwise::Relu, &[y])?;
    let y = b.op("pool", MaxPool { window: Window::new([3, 3]).stride([2, 2]).padding([1, 1]) }, &[y])?;
    let a = conv(&mut b, y, [32, 32, 3], 1)?;
    let a = b.op("relu-a", Pointwise::Relu, &[a])?;
    let a = conv(&mut b, a, [32, 32, 3], 1)?;
    let y = b.op("add-a", Binary::Add, &[a, y])?;
    let y = b.op("relu-b", Pointwise::Relu, &[y])?;
    let a = conv(&mut b, y, [32, 48, 3], 2)?;
    let a = b.op("relu-c", Pointwise::Relu, &[a])?;
    let a = conv(&mut b, a, [48, 48, 3], 1)?;
    let short = conv(&mut b, y, [32, 48, 1], 2)?;
    let y = b.op("add-b", Binary::Add, &[a, short])?;
    let y = b.op("relu-d", Pointwise::Relu, &[y])?;
    let mean = b.op("mean", Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[y])?;
    let flat = b.op("flatten", Structure::Flatten { axis: 1 }, &[mean])?;
    let head =
        random::normal(&mut random::stream(11, random::Domain::DATA, 1), &[5, 48], DType::F32, &Device::Cpu)?;
    let head = b.constant("head", head);
    let y = b.op("head.product", Linear, &[flat, head])?;
    b.finish(&[y])
}

fn pictures(samples: usize) -> Result<Inputs> {
    Inputs::single(random::normal(
        &mut random::stream(12, random::Domain::DATA, 0),
        &[samples, 3, 64, 60],
        DType::F32,
        &Device::Cpu,
    )?)
}

fn same(a: &Attribution, b: &Attribution) -> Result<bool> {
    Ok(bits(a)? == bits(b)?
        && a.provenance.cost == b.provenance.cost
        && a.provenance.scores == b.provenance.scores)
}

#[test]
fn only_what_changes_is_computed_and_no_bit_differs() -> Result<()> {
    let (graph, x) = (residual_network()?, pictures(2)?);
    let target = Target::Classes(vec![1, 4]);
    // The last windows of a row are cut off; the second method fills windows with a blurred image.
    let methods = [
        Occlusion::new(8, 4),
        Occlusion::with_window(&[5, 9], &[11, 8]).baseline(Baseline::Blurred { sigma: 2.0 }),
        Occlusion::with_window(&[1, 6, 6], &[1, 20, 20]),
    ];
    for method in methods {
        let expected = method.explain(&Plain(&graph), &x, &target, &Run::new())?;
        for (batch, threads) in [(1, 1), (3, 2), (8, 3)] {
            let counted = Counted(&graph, AtomicUsize::new(0));
            let run = Run::new().batch(batch).threads(threads);
            let found = method.explain(&counted, &x, &target, &run)?;
            assert!(same(&found, &expected)?, "{method:?}, {batch} rows, {threads} threads");
            assert!(same(&method.explain(&graph, &x, &target, &run)?, &expected)?, "{method:?}, in groups");
            let rows = counted.1.load(Ordering::Relaxed);
            assert_eq!(rows + 2, found.provenance.cost.forward, "all but the samples run on patches");
        }
        let portable = graph.clone().with_backend(Backend::Portable);
        let exact = method.explain(&portable, &x, &target, &Run::new())?;
        let (found, exact) = (flat(expected.values())?, flat(exact.values())?);
        let gap = found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let largest = expected.provenance.scores.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
        println!("{gap:.1e} beside scores of {largest:.1e}");
        assert!(gap < 1e-5 * largest, "{method:?}: {gap:.1e} beside scores of {largest:.1e}");
    }
    Ok(())
}

#[test]
fn windows_that_change_most_of_the_image_run_as_ever() -> Result<()> {
    let (graph, x) = (residual_network()?, pictures(1)?);
    let method = Occlusion::new(50, 10);
    let counted = Counted(&graph, AtomicUsize::new(0));
    let found = method.explain(&counted, &x, &Target::Class(0), &Run::new())?;
    assert!(same(&found, &method.explain(&Plain(&graph), &x, &Target::Class(0), &Run::new())?)?);
    assert_eq!(counted.1.load(Ordering::Relaxed), 0);
    Ok(())
}

#[test]
fn progress_counts_all_windows_and_the_run_can_be_cancelled() -> Result<()> {
    let (graph, x) = (residual_network()?, pictures(2)?);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let (seen, flag) = (steps.clone(), Arc::new(AtomicBool::new(false)));
    let method = Occlusion::new(20, 20);
    let run = Run::new().batch(5).on_progress(move |p| seen.lock().unwrap().push([p.done, p.total]));
    method.explain(&graph, &x, &Target::Class(0), &run)?;
    let steps = steps.lock().unwrap();
    assert!(steps.is_sorted() && steps.iter().all(|[_, total]| *total == 24), "{steps:?}");
    assert_eq!((steps.first(), steps.last()), (Some(&[0, 24]), Some(&[24, 24])));
    let stop = flag.clone();
    let run = Run::new().batch(5).cancel_with(flag).on_progress(move |p| {
        stop.store(p.done >= 5, Ordering::Relaxed);
    });
    let error = method.explain(&graph, &x, &Target::Class(0), &run).unwrap_err();
    assert!(matches!(error, ascribe_core::Error::Cancelled { total: 24, .. }), "{error}");
    Ok(())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]

    #[test]
    fn no_bit_differs_on_random_networks(seed in any::<u64>(), window in 1_usize..4, stride in 1_usize..3) {
        let draw = || -> Result<(Graph, Inputs)> {
            let graph = Net::draw(seed, Kind::default())?.graph(Style::Folded)?.to_dtype(DType::F32)?;
            let x: Vec<Tensor> = inputs(seed, 2)?.iter().map(|i| i.value.clone()).collect();
            Ok((graph, Inputs::single(x[0].to_dtype(DType::F32)?)?))
        };
        let (graph, x) = draw()?;
        let (method, target) = (Occlusion::new(window, stride), Target::Classes(vec![0, 2]));
        let found = method.explain(&graph, &x, &target, &Run::new())?;
        prop_assert!(same(&found, &method.explain(&Plain(&graph), &x, &target, &Run::new())?)?);
    }
}
