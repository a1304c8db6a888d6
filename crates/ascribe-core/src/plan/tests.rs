//! Compares plans with the portable path in f64 on random networks.

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use super::program::Instruction;
use super::rules::Rules;
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::inputs::Inputs;
use crate::model::Differentiable;
use crate::ops::{
    AveragePool, Backend, Binary, Conv, Linear, MaxPool, Pointwise, Reduce, ReduceFn, Structure, Window,
};
use crate::random;
use crate::rule::Composite;
use crate::run::Run;
use crate::target::Target;

pub(super) struct Net {
    pub(super) builder: GraphBuilder,
    pub(super) draw: rand_chacha::ChaCha8Rng,
    pub(super) names: usize,
}

impl Net {
    pub(super) fn normal(&mut self, shape: &[usize], scale: f64) -> Tensor {
        let values = random::normal(&mut self.draw, shape, DType::F32, &Device::Cpu).unwrap();
        (values * scale).unwrap()
    }

    pub(super) fn constant(&mut self, value: Tensor) -> NodeId {
        self.names += 1;
        self.builder.constant(&format!("constant{}", self.names), value)
    }

    pub(super) fn op(&mut self, op: impl Into<crate::ops::Op>, inputs: &[NodeId]) -> NodeId {
        self.names += 1;
        self.builder.op(&format!("node{}", self.names), op, inputs).unwrap()
    }

    pub(super) fn conv(&mut self, x: NodeId, [from, to, groups]: [usize; 3], window: Window) -> NodeId {
        let [kh, kw] = window.kernel;
        let fan_in = (from / groups * kh * kw) as f64;
        let weight = self.normal(&[to, from / groups, kh, kw], fan_in.sqrt().recip() * 1.4);
        let weight = self.constant(weight);
        let mut inputs = vec![x, weight];
        if self.draw.random_bool(0.7) {
            let bias = self.normal(&[to], 0.2);
            inputs.push(self.constant(bias));
        }
        self.op(Conv { window, groups }, &inputs)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.draw.random_range(0..from.len())]
    }

    pub(super) fn activation(&mut self, x: NodeId) -> NodeId {
        let op = self.pick(&[
            Pointwise::Relu,
            Pointwise::Relu,
            Pointwise::Clip { low: Some(0.0), high: Some(1.0) },
            Pointwise::Silu,
        ]);
        self.op(op, &[x])
    }
}

/// A classifier of 3 classes with plain, residual, strided, depthwise, branching and pooling stages.
fn network(seed: u64) -> (Graph, usize) {
    let mut net =
        Net { builder: GraphBuilder::new(), draw: random::stream(seed, random::Domain::DATA, 0), names: 0 };
    let mut channels = net.pick(&[1, 3, 16, 20]);
    let size = net.pick(&[9, 14, 17]);
    let first = channels;
    let mut x = net.builder.input("x", &[Some(channels), Some(size), Some(size)]);
    let same = |k: usize| Window::new([k, k]).padding([k / 2, k / 2]);
    for _ in 0..net.draw.random_range(2..5) {
        match net.draw.random_range(0..6) {
            0 => {
                let to = net.pick(&[5, 16, 33, 48]);
                let (kernel, stride) = (net.pick(&[1, 3, 5]), net.pick(&[1, 1, 2]));
                x = net.conv(x, [channels, to, 1], same(kernel).stride([stride, stride]));
                channels = to;
                x = net.activation(x);
            }
            1 => {
                // A residual block; the shortcut is a convolution in half of the cases.
                let a = net.conv(x, [channels, 32, 1], same(3));
                let a = net.activation(a);
                let a = net.conv(a, [32, channels, 1], same(1));
                let b =
                    if net.draw.random_bool(0.5) { net.conv(x, [channels, channels, 1], same(1)) } else { x };
                let sides = if net.draw.random_bool(0.5) { [a, b] } else { [b, a] };
                x = net.op(Binary::Add, &sides);
                if net.draw.random_bool(0.7) {
                    x = net.activation(x);
                }
            }
            2 => {
                x = net.conv(x, [channels, channels, channels], same(3));
                x = net.activation(x);
            }
            3 => {
                let window = Window { ceil_mode: net.draw.random_bool(0.5), ..same(3).stride([2, 2]) };
                x = if net.draw.random_bool(0.5) {
                    net.op(MaxPool { window }, &[x])
                } else {
                    net.op(AveragePool { window, count_include_pad: false }, &[x])
                };
            }
            4 => {
                let a = net.conv(x, [channels, 16, 1], same(1));
                let b = net.conv(x, [channels, 32, 1], same(3));
                let b = net.activation(b);
                let c = net.conv(x, [channels, 7, 1], same(1));
                x = net.op(Structure::Concat { axis: 1 }, &[a, b, c]);
                channels = 55;
                x = net.activation(x);
            }
            _ => {
                // A gate: the value is used twice, once through operators on tensors.
                let mean = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[x]);
                let gate = net.op(Pointwise::Sigmoid, &[mean]);
                x = net.op(Binary::Mul, &[x, gate]);
            }
        }
    }
    let mean = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[x]);
    let flat = net.op(Structure::Flatten { axis: 1 }, &[mean]);
    let weight = net.normal(&[3, channels], 1.0);
    let weight = net.constant(weight);
    let y = net.op(Linear, &[flat, weight]);
    (net.builder.finish(&[y]).unwrap(), [first, size][1] * 100 + first)
}

fn picture(seed: u64, code: usize, batch: usize) -> Tensor {
    let (size, channels) = (code / 100, code % 100);
    random::normal(
        &mut random::stream(seed, random::Domain::DATA, 1),
        &[batch, channels, size, size],
        DType::F32,
        &Device::Cpu,
    )
    .unwrap()
}

pub(super) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// ‖a − b‖ / ‖b‖.
pub(super) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied()).max(1e-12)
}

fn plan_of(graph: &Graph, x: &Inputs, keep: &[NodeId], wanted: &[NodeId]) -> std::sync::Arc<super::Plan> {
    let inputs = graph.bind(x).unwrap();
    graph
        .plans()
        .get(graph, &inputs, keep, wanted, &Rules::default())
        .unwrap()
        .expect("the graph can be planned")
}

#[test]
fn plans_agree_with_the_portable_path_in_double_precision() {
    let mut fused = 0;
    for seed in 0..60 {
        let (graph, code) = network(seed);
        let x = picture(seed, code, 3);
        let single = Inputs::single(x.clone()).unwrap();
        let double = Inputs::single(x.to_dtype(DType::F64).unwrap()).unwrap();
        let exact = graph.to_dtype(DType::F64).unwrap().with_backend(Backend::Portable);
        let target = Target::Classes(vec![0, 2, 1]);
        // The input and an inner node.
        let inner = NodeId(graph.len() / 2);
        let places: Vec<NodeId> =
            if graph.is_dynamic(inner) { vec![graph.inputs()[0], inner] } else { vec![graph.inputs()[0]] };
        let plan = plan_of(&graph, &single, &places, &places);
        fused += plan.program.forward.iter().filter(|i| matches!(i, Instruction::Conv { .. })).count();
        let composite = Composite::gradient();
        let walk = |graph: &Graph, x: &Inputs| {
            graph.propagate_to(x, &target, &[0, 1, 2], &composite, &places, &places).unwrap()
        };
        let (found, expected) = (walk(&graph, &single), walk(&exact, &double));
        let close = |a: &Tensor, b: &Tensor, what: &str| {
            let gap = distance(a, b);
            assert!(gap < 2e-5, "network {seed}, {what}: {gap:.1e}");
        };
        close(&found.scores, &expected.scores, "scores");
        for (at, place) in places.iter().enumerate() {
            let name = graph.node(*place).name();
            close(&found.values[at], &expected.values[at], &format!("value of {name}"));
            close(&found.signals[at], &expected.signals[at], &format!("gradient at {name}"));
        }
        let outputs = graph.forward(&single).unwrap();
        close(outputs.primary(), exact.forward(&double).unwrap().primary(), "outputs");
    }
    assert!(fused > 60, "only {fused} convolutions ran on blocked images");
}

#[test]
fn neither_threads_nor_batch_change_a_bit() {
    for seed in 0..12 {
        let (graph, code) = network(seed);
        let x = picture(seed, code, 5);
        let target = Target::Class(1);
        let gradient = |rows: &[usize], threads: usize| {
            let x = Inputs::single(x.clone()).unwrap().select(rows).unwrap();
            let run = Run::new().threads(threads);
            let found = run.install(|| graph.gradient(&x, &target, rows)).unwrap();
            numbers(&found.values[0])
        };
        let whole = gradient(&[0, 1, 2, 3, 4], 1);
        for threads in [2, 3, 8] {
            assert_eq!(gradient(&[0, 1, 2, 3, 4], threads), whole, "network {seed}, {threads} threads");
        }
        let mut parts = gradient(&[0, 1], 2);
        parts.extend(gradient(&[2], 1));
        parts.extend(gradient(&[3, 4], 3));
        assert_eq!(parts, whole, "network {seed}, in parts");
    }
}

#[test]
fn lines_give_the_sums_of_their_gradients() {
    let mut lines = 0;
    for seed in 0..80 {
        let (graph, code) = network(seed);
        let ends = picture(seed, code, 2);
        let [start, end] = [0, 1].map(|at| Inputs::single(ends.narrow(0, at, 1).unwrap()).unwrap());
        let target = Target::Classes(vec![0, 2]);
        let nodes = [(0.0, 0.3), (0.2, -0.7), (0.65, 1.0), (1.0, 0.25), (1.3, 0.5)];
        let sum = |threads: usize, chunk: usize| {
            let found = Run::new().threads(threads).install(|| {
                let Some(mut line) = graph.line(&start, &end)? else { return Ok(None) };
                let scores = nodes.chunks(chunk).map(|nodes| line.add(nodes, &target, 1));
                let scores: Vec<Tensor> = scores.collect::<Result<_>>()?;
                let found = line.sum()?;
                assert_eq!(found.len(), 1);
                Ok(Some((Tensor::cat(&scores, 0)?, found[0].clone())))
            });
            found.unwrap()
        };
        let Some((scores, found)) = sum(1, 5) else { continue };
        lines += 1;
        for (threads, chunk) in [(2, 5), (3, 1), (8, 2)] {
            let again = sum(threads, chunk).unwrap();
            let same = numbers(&again.0) == numbers(&scores) && numbers(&again.1) == numbers(&found);
            assert!(same, "network {seed}, {threads} threads, {chunk} at a time");
        }
        let exact = graph.to_dtype(DType::F64).unwrap().with_backend(Backend::Portable);
        let [from, to] = [&start, &end].map(|x| x.find("x").unwrap().to_dtype(DType::F64).unwrap());
        let rows: Vec<Tensor> =
            nodes.iter().map(|(at, _)| (&from + ((&to - &from).unwrap() * *at).unwrap()).unwrap()).collect();
        let rows = Inputs::single(Tensor::cat(&rows, 0).unwrap()).unwrap();
        let each = exact.gradient(&rows, &target, &[1; 5]).unwrap();
        assert!(exact.line(&start, &end).is_err() || exact.line(&start, &end).unwrap().is_none());
        let weighted = nodes
            .iter()
            .enumerate()
            .map(|(row, (_, weight))| (each.values[0].narrow(0, row, 1).unwrap() * *weight).unwrap());
        let expected = weighted.reduce(|a, b| (a + b).unwrap()).unwrap();
        let (gap, score_gap) = (distance(&found, &expected), distance(&scores, &each.scores));
        assert!(gap < 2e-5 && score_gap < 2e-5, "network {seed}: {gap:.1e}, {score_gap:.1e}");
    }
    assert!(lines >= 10, "only {lines} networks begin with a convolution of a picture");
}

#[test]
fn sums_of_gradients_share_the_last_step() {
    let mut sums = 0;
    for seed in 0..80 {
        let (graph, code) = network(seed);
        let x = Inputs::single(picture(seed, code, 5)).unwrap();
        let (target, samples) = (Target::Classes(vec![0, 2]), [1, 0, 1, 1, 0]);
        let sum = |threads: usize, chunk: usize| {
            let found = Run::new().threads(threads).install(|| {
                let Some(mut sum) = graph.gradient_sum(&x)? else { return Ok(None) };
                let scores = [0, 1, 2, 3, 4].chunks(chunk).map(|rows| {
                    let of: Vec<usize> = rows.iter().map(|&row| samples[row]).collect();
                    sum.add(&x.select(rows)?, &target, &of)
                });
                let scores: Vec<Tensor> = scores.collect::<Result<_>>()?;
                Ok(Some((Tensor::cat(&scores, 0)?, sum.sum()?.remove(0))))
            });
            found.unwrap()
        };
        let Some((scores, found)) = sum(1, 5) else { continue };
        sums += 1;
        for (threads, chunk) in [(2, 5), (3, 1), (8, 2)] {
            let again = sum(threads, chunk).unwrap();
            let same = numbers(&again.0) == numbers(&scores) && numbers(&again.1) == numbers(&found);
            assert!(same, "network {seed}, {threads} threads, {chunk} at a time");
        }
        let exact = graph.to_dtype(DType::F64).unwrap().with_backend(Backend::Portable);
        let rows = Inputs::single(x.find("x").unwrap().to_dtype(DType::F64).unwrap()).unwrap();
        assert!(exact.gradient_sum(&rows).unwrap().is_none());
        let each = exact.gradient(&rows, &target, &samples).unwrap();
        let expected = each.values[0].sum_keepdim(0).unwrap();
        let (gap, score_gap) = (distance(&found, &expected), distance(&scores, &each.scores));
        assert!(gap < 2e-5 && score_gap < 2e-5, "network {seed}: {gap:.1e}, {score_gap:.1e}");
    }
    assert!(sums >= 10, "only {sums} networks begin with a convolution of a picture");
}

#[test]
fn images_that_live_at_the_same_time_do_not_overlap() {
    for seed in 0..20 {
        let (graph, code) = network(seed);
        let x = Inputs::single(picture(seed, code, 1)).unwrap();
        let plan = plan_of(&graph, &x, &[], graph.inputs());
        let range = |image: usize| {
            let start = plan.placement.offsets[image];
            start..start + plan.program.images[image].shape(1).len()
        };
        // Whether each image is still intact: a write destroys everything that it overlaps.
        let mut intact = vec![false; plan.program.images.len()];
        for step in plan.program.forward.iter().chain(&plan.program.backward) {
            let uses = step.uses();
            for read in &uses.reads {
                assert!(intact[read.0], "network {seed}: {step:?} reads what was overwritten");
            }
            if let Some(written) = uses.writes {
                for other in (0..intact.len()).filter(|&other| other != written.0) {
                    let (a, b) = (range(written.0), range(other));
                    intact[other] &= a.end <= b.start || b.end <= a.start;
                }
                intact[written.0] = true;
            }
        }
    }
}

#[test]
fn other_sizes_and_places_get_plans_of_their_own() {
    let mut net =
        Net { builder: GraphBuilder::new(), draw: random::stream(7, random::Domain::DATA, 0), names: 0 };
    let x = net.builder.input("x", &[Some(3), None, None]);
    let c = net.conv(x, [3, 16, 1], Window::new([3, 3]).padding([1, 1]));
    let a = net.op(Pointwise::Relu, &[c]);
    let y = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false }, &[a]);
    let graph = net.builder.finish(&[y]).unwrap();
    for side in [4, 7, 4] {
        let x = Inputs::single(picture(1, side * 100 + 3, 2)).unwrap();
        let places = [graph.inputs()[0], c];
        let found =
            graph.propagate_to(&x, &Target::Class(3), &[0, 1], &Composite::gradient(), &places, &places);
        let found = found.unwrap();
        // The value of the convolution is requested, so it is available before the ReLU, with negative elements.
        assert!(numbers(&found.values[1]).iter().any(|v| *v < 0.0));
        let reached = numbers(&found.signals[1]).iter().filter(|v| **v != 0.0).count();
        let open = numbers(&found.values[1].narrow(1, 3, 1).unwrap()).iter().filter(|v| **v > 0.0).count();
        assert_eq!(reached, open);
        assert_eq!(found.signals[0].dims(), [2, 3, side, side]);
    }
}

mod opaque;
