//! Compares variations on patches with ordinary predictions, bit by bit, on random networks.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use super::layout::{Action, Source, State, Work};
use super::{Patched, Region};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::inputs::Inputs;
use crate::model::Predictor;
use crate::ops::{
    AveragePool, Backend, Binary, Linear, MaxPool, Pointwise, Reduce, ReduceFn, Structure, Window,
};
use crate::outputs::Outputs;
use crate::plan::tests::Net;
use crate::random;
use crate::run::Run;
use crate::variations::{Rectangle, Variations};

fn net(seed: u64) -> Net {
    Net { builder: GraphBuilder::new(), draw: random::stream(seed, random::Domain::DATA, 0), names: 0 }
}

impl Net {
    /// Appends a random stage to `x`, which has these numbers of channels and side length; returns those of the
    /// result.
    fn stage(&mut self, x: NodeId, channels: usize, side: usize) -> (NodeId, usize, usize) {
        let same = |k: usize| Window::new([k, k]).padding([k / 2, k / 2]);
        match self.draw.random_range(0..9) {
            0 | 1 => {
                let to = self.pick(&[5, 16, 33, 48, 64]);
                let (k, stride) = (self.pick(&[1, 3, 3, 5]), self.pick(&[1, 1, 2]));
                let (pad, dilation) = (self.draw.random_range(0..=k / 2), self.pick(&[1, 1, 2]));
                let extent = (k - 1) * dilation + 1;
                if extent > side {
                    return (x, channels, side);
                }
                let window = Window { dilation: [dilation; 2], ..Window::new([k, k]) };
                let window = window.stride([stride; 2]).padding([pad; 2]);
                let y = self.conv(x, [channels, to, 1], window);
                let y = if self.draw.random_bool(0.7) { self.activation(y) } else { y };
                (y, to, (side + 2 * pad - extent) / stride + 1)
            }
            2 => {
                let inner = self.pick(&[32, 40]);
                let a = self.conv(x, [channels, inner, 1], same(3));
                let a = self.op(Pointwise::Relu, &[a]);
                let a = self.conv(a, [inner, channels, 1], same(3));
                let own = self.draw.random_bool(0.5);
                let b = if own { self.conv(x, [channels, channels, 1], same(1)) } else { x };
                let sides = if self.draw.random_bool(0.5) { [a, b] } else { [b, a] };
                let y = self.op(Binary::Add, &sides);
                (self.op(Pointwise::Relu, &[y]), channels, side)
            }
            3 => {
                let stride = self.pick(&[1, 2]);
                let y = self.conv(x, [channels, channels, channels], same(3).stride([stride; 2]));
                let y = self.op(Pointwise::Clip { low: Some(0.0), high: Some(6.0) }, &[y]);
                (self.conv(y, [channels, 48, 1], same(1)), 48, (side - 1) / stride + 1)
            }
            4 => {
                let window = Window { ceil_mode: self.draw.random_bool(0.5), ..same(3).stride([2, 2]) };
                (self.op(MaxPool { window }, &[x]), channels, side / 2 + usize::from(!side.is_multiple_of(2)))
            }
            5 => {
                let count_include_pad = self.draw.random_bool(0.7);
                let window = self.pick(&[0, 1, 2]);
                if window == 0 && side > 1 {
                    let window = Window::new([2, 2]).stride([2, 2]);
                    return (self.op(AveragePool { window, count_include_pad }, &[x]), channels, side / 2);
                }
                (self.op(AveragePool { window: same(3), count_include_pad }, &[x]), channels, side)
            }
            6 => {
                // Dense connection: concatenates `x` with a new value.
                let x =
                    if channels.is_multiple_of(16) { x } else { self.conv(x, [channels, 32, 1], same(1)) };
                let channels = if channels.is_multiple_of(16) { channels } else { 32 };
                let a = self.conv(x, [channels, 32, 1], same(1));
                let a = self.op(Pointwise::Relu, &[a]);
                let a = self.conv(a, [32, 16, 1], same(3));
                let b = self.conv(x, [channels, 7, 1], same(1));
                let y = self.op(Structure::Concat { axis: 1 }, &[x, a, b]);
                (self.op(Pointwise::Relu, &[y]), channels + 23, side)
            }
            7 => {
                let x = self.conv(x, [channels, 64, 1], same(1));
                (self.conv(x, [64, 64, 4], same(3)), 64, side)
            }
            _ if self.draw.random_bool(0.3) => {
                let mean = self.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[x]);
                let gate = self.op(Pointwise::Sigmoid, &[mean]);
                (self.op(Binary::Mul, &[x, gate]), channels, side)
            }
            _ => (self.op(Pointwise::Relu, &[x]), channels, side),
        }
    }

    /// Three scores of an image: of its channel means, or of all its values.
    fn head(mut self, x: NodeId, channels: usize, side: usize) -> Graph {
        let pooled = self.draw.random_bool(0.7);
        let mean = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true };
        let x = if pooled { self.op(mean, &[x]) } else { x };
        let flat = self.op(Structure::Flatten { axis: 1 }, &[x]);
        let features = if pooled { channels } else { channels * side * side };
        let weight = self.normal(&[3, features], 1.0);
        let weight = self.constant(weight);
        let y = self.op(Linear, &[flat, weight]);
        self.builder.finish(&[y]).unwrap()
    }
}

/// A random network and the shape of its input.
fn network(seed: u64) -> (Graph, [usize; 3]) {
    let mut net = net(seed);
    let (first, size) = (net.pick(&[1, 3, 3, 20]), net.pick(&[17, 24, 31, 36]));
    let (mut x, mut channels, mut side) =
        (net.builder.input("x", &[Some(first), Some(size), Some(size)]), first, size);
    for _ in 0..net.draw.random_range(2..6) {
        (x, channels, side) = net.stage(x, channels, side);
    }
    (net.head(x, channels, side), [first, size, size])
}

fn picture(seed: u64, sides: [usize; 3]) -> Tensor {
    let shape = [&[1], sides.as_slice()].concat();
    random::normal(&mut random::stream(seed, random::Domain::DATA, 1), &shape, DType::F32, &Device::Cpu)
        .unwrap()
}

/// Rectangles at the corners, at the edges and in the middle, of several sizes, including an empty one.
fn rectangles(seed: u64, [_, height, width]: [usize; 3]) -> Vec<Rectangle> {
    let mut draw = random::stream(seed, random::Domain::DATA, 2);
    let most = if seed.is_multiple_of(3) { 2 } else { 6 };
    let mut all = vec![Rectangle { start: [3, 4], size: [0, 2] }];
    for [bottom, right] in [[false, false], [false, true], [true, false], [true, true]] {
        let size = [draw.random_range(1..=most), draw.random_range(1..=most)];
        let at = |end: bool, side: usize, size: usize| if end { side - size } else { 0 };
        all.push(Rectangle { start: [at(bottom, height, size[0]), at(right, width, size[1])], size });
    }
    // Enough for groups, in some cases.
    for _ in 0..if seed.is_multiple_of(5) { 80 } else { 7 } {
        let size = [draw.random_range(1..=most), draw.random_range(1..=most)];
        let start = [draw.random_range(0..=height - size[0]), draw.random_range(0..=width - size[1])];
        all.push(Rectangle { start, size });
    }
    all
}

/// The sample with other values in a rectangle.
fn vary(x: &Tensor, rectangle: &Rectangle, seed: u64) -> Tensor {
    let Rectangle { start, size } = *rectangle;
    if size.contains(&0) {
        return x.clone();
    }
    let channels = x.dims()[1];
    let shape = [1, channels, size[0], size[1]];
    let new =
        random::normal(&mut random::stream(seed, random::Domain::DATA, 3), &shape, DType::F32, &Device::Cpu)
            .unwrap();
    let ranges = [0..1, 0..channels, start[0]..start[0] + size[0], start[1]..start[1] + size[1]];
    x.slice_assign(&ranges, &new).unwrap()
}

fn bits(outputs: &Outputs) -> Vec<u32> {
    let values = outputs.primary().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn stack(rows: &[Tensor]) -> Inputs {
    Inputs::single(Tensor::cat(rows, 0).unwrap()).unwrap()
}

/// Counts what ran on patches, by kind.
fn census(patched: &Patched<'_>, into: &mut BTreeMap<String, usize>) {
    let mut count = |what: &str| *into.entry(what.into()).or_default() += 1;
    for layout in patched.layouts.iter().flatten() {
        for action in &layout.actions {
            let Action::Patch(step) = action else { continue };
            match &step.work {
                Work::Conv(conv, _) if conv.patch_step() == 2 => count("filtered"),
                Work::Conv(conv, _) if conv.to_string().contains("depthwise") => count("depthwise"),
                Work::Conv(_, _) if matches!(step.source, Source::Picture { .. }) => count("picture"),
                Work::Conv(..) => count("direct"),
                Work::Combine(_) => count("combine"),
                Work::Pool(pool) if pool.has_winners() => count("maximum"),
                Work::Pool(_) => count("average"),
                Work::Copy { .. } => count("copy"),
                Work::Block => count("block"),
            }
            if step.residual.is_some() {
                count("residual");
            }
            if matches!(&step.source, Source::Image(window) if window.slot == window.image.0) {
                count("in place");
            }
        }
        for image in layout.spread.iter().flatten() {
            match layout.states[image.0] {
                State::Patch(_) => count("spread"),
                _ => count("spread of the base"),
            }
        }
    }
}

#[test]
fn patches_have_the_bits_of_whole_images() {
    let (mut patched_nets, mut grouped_nets, mut seen) = (0, 0, BTreeMap::new());
    for seed in 0..150 {
        let (graph, sides) = network(seed);
        let (x, rectangles) = (picture(seed, sides), rectangles(seed, sides));
        let base = Inputs::single(x.clone()).unwrap();
        let Some(patched) = graph.patched(&base, &rectangles).unwrap() else { continue };
        patched_nets += 1;
        grouped_nets += usize::from(patched.layouts.len() > 1);
        census(&patched, &mut seen);
        let rows: Vec<Tensor> =
            rectangles.iter().enumerate().map(|(n, r)| vary(&x, r, seed * 100 + n as u64)).collect();
        let whole = bits(&graph.forward(&stack(&rows)).unwrap());
        let numbers: Vec<usize> = (0..rows.len()).collect();
        for (batch, threads) in [(1, 1), (3, 2), (8, 3), (rows.len(), 1)] {
            let found: Vec<u32> = Run::new()
                .threads(threads)
                .install(|| {
                    let chunks = rows.chunks(batch).zip(numbers.chunks(batch));
                    let of = |(rows, numbers): (&[Tensor], &[usize])| {
                        Ok(bits(&patched.predict(&stack(rows), numbers)?))
                    };
                    Ok(chunks.map(of).collect::<crate::Result<Vec<_>>>()?.concat())
                })
                .unwrap();
            assert!(found == whole, "network {seed}, {batch} rows, {threads} threads");
        }
    }
    println!("{patched_nets} networks: {seen:?}");
    assert!(grouped_nets > 10, "only {grouped_nets} networks had groups");
    assert!(patched_nets > 60, "only {patched_nets} networks ran on patches");
    let kinds = [
        "filtered",
        "depthwise",
        "picture",
        "direct",
        "combine",
        "maximum",
        "average",
        "copy",
        "block",
        "residual",
        "in place",
        "spread",
    ];
    for kind in kinds {
        assert!(seen.get(kind).is_some_and(|count| *count > 3), "hardly any {kind}: {seen:?}");
    }
}

fn small() -> (Graph, [usize; 3]) {
    let mut net = net(3);
    let x = net.builder.input("x", &[Some(3), None, None]);
    let y = net.conv(x, [3, 16, 1], Window::new([3, 3]).padding([1, 1]));
    let y = net.op(Pointwise::Relu, &[y]);
    let mean = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[y]);
    let y = net.op(Structure::Flatten { axis: 1 }, &[mean]);
    (net.builder.finish(&[y]).unwrap(), [3, 20, 20])
}

#[test]
fn where_patches_gain_nothing_there_are_none() {
    let (graph, sides) = small();
    let x = Inputs::single(picture(1, sides)).unwrap();
    let rectangle = |side: usize| Rectangle { start: [20 - side, 1], size: [side, side] };
    assert!(graph.variations(&x, &[rectangle(6)]).unwrap().is_some());
    // Most of the image changes, no rectangle, another data type, another backend.
    assert!(graph.variations(&x, &[rectangle(6), rectangle(18)]).unwrap().is_none());
    assert!(graph.variations(&x, &[]).unwrap().is_none());
    let double = Inputs::single(picture(1, sides).to_dtype(DType::F64).unwrap()).unwrap();
    let exact = graph.to_dtype(DType::F64).unwrap();
    assert!(exact.variations(&double, &[rectangle(6)]).unwrap().is_none());
    let portable = graph.clone().with_backend(Backend::Portable);
    assert!(portable.variations(&x, &[rectangle(6)]).unwrap().is_none());
}

#[test]
fn what_does_not_fit_is_named() {
    let (graph, sides) = small();
    let (value, rectangle) = (picture(1, sides), Rectangle { start: [4, 4], size: [5, 5] });
    let x = Inputs::single(value.clone()).unwrap();
    let outside = Rectangle { start: [16, 4], size: [5, 5] };
    assert!(graph.patched(&x, &[outside]).err().unwrap().to_string().contains("part of the image"));
    let pair = stack(&[value.clone(), value.clone()]);
    assert!(graph.patched(&pair, &[rectangle]).err().unwrap().to_string().contains("one sample"));
    let patched = graph.patched(&x, &[rectangle]).unwrap().unwrap();
    let error = |x: &Inputs, numbers: &[usize]| patched.predict(x, numbers).unwrap_err().to_string();
    let moved = vary(&value, &Rectangle { start: [4, 5], ..rectangle }, 1);
    let inside = vary(&value, &rectangle, 1);
    assert!(error(&stack(&[inside.clone(), moved]), &[0, 0]).contains("row 1"));
    assert!(error(&stack(std::slice::from_ref(&inside)), &[1]).contains("number 1"));
    assert!(error(&stack(std::slice::from_ref(&inside)), &[0, 0]).contains("2 rows"));
    let larger = picture(1, [3, 22, 20]);
    assert!(error(&Inputs::single(larger).unwrap(), &[0]).contains("as the sample"));
    assert_eq!(patched.rectangles, [Region { start: [4, 4], end: [9, 9] }]);
    // One row that is equal to the sample, and one that is not.
    let found = bits(&patched.predict(&stack(&[value.clone(), inside.clone()]), &[0, 0]).unwrap());
    assert_eq!(found, bits(&graph.forward(&stack(&[value, inside])).unwrap()));
}

#[test]
fn inputs_that_do_not_vary_are_computed_once() {
    // The sum of two branches: one of the varying input, and one of a fixed input that is an image or a plain input.
    for channels in [16, 3] {
        let mut net = net(9);
        let x = net.builder.input("x", &[Some(3), Some(24), Some(24)]);
        let given = net.builder.input("given", &[Some(channels), Some(24), Some(24)]);
        let same = |k: usize| Window::new([k, k]).padding([k / 2, k / 2]);
        let a = net.conv(x, [3, 32, 1], same(3));
        let b = if channels == 3 { net.op(Pointwise::Sigmoid, &[given]) } else { given };
        let b = net.conv(b, [channels, 32, 1], same(3));
        let y = net.op(Binary::Add, &[a, b]);
        let y = net.op(Pointwise::Relu, &[y]);
        let graph = net.head(y, 32, 24);
        let (value, other) = (picture(1, [3, 24, 24]), picture(2, [channels, 24, 24]));
        let inputs = |rows: &[Tensor], given: &[Tensor]| {
            let (x, given) = (Tensor::cat(rows, 0).unwrap(), Tensor::cat(given, 0).unwrap());
            Inputs::named([("x", x), ("given", given)]).unwrap().fix("given").unwrap()
        };
        let rectangles: Vec<Rectangle> =
            [[0, 0], [10, 3], [19, 19]].map(|start| Rectangle { start, size: [5, 5] }).to_vec();
        let one = inputs(std::slice::from_ref(&value), std::slice::from_ref(&other));
        let patched = graph.patched(&one, &rectangles).unwrap().unwrap();
        let rows: Vec<Tensor> = rectangles.iter().map(|r| vary(&value, r, 5)).collect();
        let x = inputs(&rows, &[other.clone(), other.clone(), other.clone()]);
        let found = bits(&patched.predict(&x, &[0, 1, 2]).unwrap());
        assert_eq!(found, bits(&graph.forward(&x).unwrap()));
        let x = inputs(&rows, &[other.clone(), picture(3, [channels, 24, 24]), other]);
        let error = patched.predict(&x, &[0, 1, 2]).unwrap_err().to_string();
        assert!(error.contains("row 1 of input 'given'"), "{error}");
    }
}
