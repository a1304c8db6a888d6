mod patterns;
mod random;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use crate::ops::testing::random as uniform;
use crate::ops::{
    AveragePool, BatchNorm, Binary, Conv, ConvTranspose, Linear, MatMul, MaxPool, Op, Pad, PadMode,
    Pointwise, Reduce, ReduceFn, Structure, Window,
};
use crate::{Graph, GraphBuilder, Inputs, Keep, NodeId};

/// Checks that all names that both graphs contain have the same value, and that the canonical form is a fixed point;
/// returns it.
fn check(graph: &Graph, x: &Inputs) -> Graph {
    let canonical = graph.canonical().unwrap();
    let before = graph.trace(x, Keep::All).unwrap();
    let after = canonical.trace(x, Keep::All).unwrap();
    let names = |g: &Graph, ids: &[NodeId]| -> Vec<String> {
        ids.iter().map(|&id| g.node(id).name().to_string()).collect()
    };
    assert_eq!(names(graph, graph.outputs()), names(&canonical, canonical.outputs()));
    assert_eq!(names(graph, graph.inputs()), names(&canonical, canonical.inputs()));
    for (id, node) in graph.nodes() {
        let Ok(new) = canonical.find(node.name()) else { continue };
        let (old, new) = (before.value(id).unwrap(), after.value(new).unwrap());
        assert_eq!(old.dims(), new.dims(), "{}", node.name());
        let flat = |t: &Tensor| -> Vec<f64> {
            t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (old, new) = (flat(old), flat(new));
        let size = old.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        let error = old.iter().zip(&new).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(error <= 1e-12 * size, "value of '{}' differs by {error} of {size}", node.name());
    }
    let again = canonical.canonical().unwrap();
    assert_eq!(operators(&again), operators(&canonical));
    canonical
}

/// Names and operators of all nodes but the constants.
fn operators(graph: &Graph) -> Vec<(String, String)> {
    let all = graph.nodes().filter(|(_, n)| n.constant().is_none());
    all.map(|(_, n)| (n.name().into(), n.op_name().into())).collect()
}

fn listing(graph: &Graph) -> Vec<String> {
    operators(graph).into_iter().map(|(name, op)| format!("{name}: {op}")).collect()
}

fn images(channels: usize) -> Inputs {
    Inputs::single(uniform(&[2, channels, 6, 5], -1.0, 1.0, 99)).unwrap()
}

/// A builder with an input of images, and shorthands.
struct Net {
    b: GraphBuilder,
    seed: u64,
}

impl Net {
    fn new(sides: &[usize]) -> (Self, NodeId) {
        let mut b = GraphBuilder::new();
        let sides: Vec<Option<usize>> = sides.iter().map(|&s| Some(s)).collect();
        let x = b.input("x", &sides);
        (Self { b, seed: 0 }, x)
    }

    fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[NodeId]) -> NodeId {
        self.b.op(name, op, inputs).unwrap()
    }

    /// A random positive constant.
    fn constant(&mut self, name: &str, shape: &[usize]) -> NodeId {
        self.seed += 1;
        self.b.constant(name, uniform(shape, 0.3, 1.5, self.seed))
    }

    fn scalar(&mut self, value: f64) -> NodeId {
        self.b.constant("", Tensor::new(value, &Device::Cpu).unwrap())
    }

    fn conv(&mut self, name: &str, x: NodeId, (from, to): (usize, usize), window: Window) -> NodeId {
        let [kh, kw] = window.kernel;
        let weight = self.constant(&format!("{name}.weight"), &[to, from, kh, kw]);
        self.op(name, Conv { window, groups: 1 }, &[x, weight])
    }

    fn batch_norm(&mut self, name: &str, x: NodeId, channels: usize) -> NodeId {
        let parts = ["weight", "bias", "mean", "var"];
        let [w, b, m, v] = parts.map(|part| self.constant(&format!("{name}.{part}"), &[channels]));
        self.op(name, BatchNorm { epsilon: 1e-5 }, &[x, w, b, m, v])
    }

    fn finish(self, outputs: &[NodeId]) -> Graph {
        self.b.finish(outputs).unwrap().to_dtype(DType::F64).unwrap()
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]

    #[test]
    fn common_names_carry_the_same_values(seed: u64, steps in 1_usize..14) {
        let (graph, inputs) = random::network(seed, steps);
        check(&graph, &inputs);
    }
}

#[test]
fn batch_norm_becomes_part_of_the_layer_before_it() {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let conv = net.conv("conv1", x, (3, 4), Window::new([3, 3]).padding([1, 1]));
    let bn = net.batch_norm("bn1", conv, 4);
    let relu = net.op("relu", Pointwise::Relu, &[bn]);
    let weight = net.constant("up.weight", &[4, 3, 2, 2]);
    let up = ConvTranspose { window: Window::new([2, 2]).stride([2, 2]), groups: 2, output_padding: [0, 0] };
    let up = net.op("up", up, &[relu, weight]);
    let bn = net.batch_norm("bn2", up, 6);
    let graph = check(&net.finish(&[bn]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "bn1: Conv", "relu: Relu", "bn2: ConvTranspose"]);
    let constants: Vec<&str> =
        graph.nodes().filter(|(_, n)| n.constant().is_some()).map(|(_, n)| n.name()).collect();
    assert_eq!(constants, ["conv1.weight.folded", "bn1.bias.folded", "up.weight.folded", "bn2.bias.folded"]);
    let lost = graph.find("conv1").unwrap_err().to_string();
    assert!(lost.contains("did you mean 'bn1'"), "{lost}");
}

#[test]
fn nodes_that_are_to_stay_are_not_folded() {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let conv = net.conv("conv1", x, (3, 4), Window::new([3, 3]).padding([1, 1]));
    let bn = net.batch_norm("bn1", conv, 4);
    let relu = net.op("relu", Pointwise::Relu, &[bn]);
    let next = net.conv("conv2", relu, (4, 2), Window::new([1, 1]));
    let end = net.batch_norm("bn2", next, 2);
    let source = net.finish(&[end]);
    let kept = source.canonical_keeping(&["conv1".into(), "no such node".into()]).unwrap();
    let expected = ["x: Input", "conv1: Conv", "bn1: ScaleShift", "relu: Relu", "bn2: Conv"];
    assert_eq!(listing(&kept), expected);
    assert_eq!((kept.outputs().len(), kept.node(kept.outputs()[0]).name()), (1, "bn2"));
    // The values are those of the source.
    let (before, after) =
        (source.trace(&images(3), Keep::All).unwrap(), kept.trace(&images(3), Keep::All).unwrap());
    for name in ["conv1", "bn1", "bn2"] {
        let value = |graph: &Graph, trace: &crate::Trace| {
            trace.value(graph.find(name).unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        for (a, b) in value(&source, &before).into_iter().zip(value(&kept, &after)) {
            assert!((a - b).abs() < 1e-12, "{name}: {a} and {b}");
        }
    }
    assert_eq!(operators(&kept.canonical().unwrap()), operators(&kept));
}

#[test]
fn values_with_other_users_stay() {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let conv = net.conv("conv", x, (3, 3), Window::new([1, 1]));
    let bn = net.batch_norm("bn", conv, 3);
    let sum = net.op("sum", Binary::Add, &[conv, bn]);
    let graph = check(&net.finish(&[sum]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "conv: Conv", "bn: ScaleShift", "sum: Add"]);

    let (mut net, x) = Net::new(&[3, 6, 5]);
    let conv = net.conv("conv", x, (3, 3), Window::new([1, 1]));
    let bn = net.batch_norm("bn", conv, 3);
    let graph = check(&net.finish(&[bn, conv]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "conv: Conv", "bn: ScaleShift"]);
}

#[test]
fn batch_norm_goes_forward_only_where_that_is_exact() {
    let window = Window::new([3, 3]);
    for (window, expected) in [
        (window, vec!["x: Input", "conv: Conv"]),
        (window.padding([1, 0]), vec!["x: Input", "bn: ScaleShift", "conv: Conv"]),
    ] {
        let (mut net, x) = Net::new(&[3, 6, 5]);
        let bn = net.batch_norm("bn", x, 3);
        let conv = net.conv("conv", bn, (3, 2), window);
        assert_eq!(listing(&check(&net.finish(&[conv]), &images(3))), expected);
    }
    // A pure scale passes through padding, and through a transposed convolution.
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let factor = net.constant("factor", &[1, 3, 1, 1]);
    let scaled = net.op("scaled", Binary::Mul, &[x, factor]);
    let conv = net.conv("conv", scaled, (3, 3), window.padding([1, 1]));
    let relu = net.op("relu", Pointwise::Relu, &[conv]);
    let halved = net.constant("halved", &[3, 1, 1]);
    let scaled = net.op("divided", Binary::Div, &[relu, halved]);
    let weight = net.constant("up.weight", &[3, 2, 2, 2]);
    let up = ConvTranspose { window: Window::new([2, 2]), groups: 1, output_padding: [0, 0] };
    let up = net.op("up", up, &[scaled, weight]);
    let graph = check(&net.finish(&[up]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "conv: Conv", "relu: Relu", "up: ConvTranspose"]);
}

#[test]
fn linear_layers_take_in_what_runs_along_their_features() {
    let (mut net, x) = Net::new(&[4]);
    let matrix = net.constant("fc.weight", &[4, 3]);
    let product = net.op("product", MatMul, &[x, matrix]);
    let bias = net.constant("fc.bias", &[3]);
    let sum = net.op("sum", Binary::Add, &[product, bias]);
    let bn = net.batch_norm("bn", sum, 3);
    let relu = net.op("relu", Pointwise::Relu, &[bn]);
    let bn = net.batch_norm("bn2", relu, 3);
    let weight = net.constant("out.weight", &[2, 3]);
    let out = net.op("out", Linear, &[bn, weight]);
    let inputs = Inputs::single(uniform(&[5, 4], -1.0, 1.0, 3)).unwrap();
    let graph = check(&net.finish(&[out]), &inputs);
    assert_eq!(listing(&graph), ["x: Input", "bn: Linear", "relu: Relu", "out: Linear"]);

    // On tokens, axis 1 of a batch norm is not the axis of the features.
    let (mut net, x) = Net::new(&[3, 3]);
    let weight = net.constant("fc.weight", &[3, 3]);
    let fc = net.op("fc", Linear, &[x, weight]);
    let bias = net.constant("fc.bias", &[3]);
    let sum = net.op("sum", Binary::Add, &[fc, bias]);
    let bn = net.batch_norm("bn", sum, 3);
    let inputs = Inputs::single(uniform(&[2, 3, 3], -1.0, 1.0, 3)).unwrap();
    let graph = check(&net.finish(&[bn]), &inputs);
    assert_eq!(listing(&graph), ["x: Input", "sum: Linear", "bn: ScaleShift"]);
    assert!(graph.node(graph.find("fc.bias").unwrap()).constant().is_some(), "the bias keeps its name");
}

#[test]
fn shared_matrices_stay_shared() {
    let (mut net, x) = Net::new(&[4, 4]);
    let matrix = net.constant("w", &[4, 4]);
    let first = net.op("first", MatMul, &[x, matrix]);
    let second = net.op("second", MatMul, &[first, matrix]);
    let inputs = Inputs::single(uniform(&[2, 4, 4], -1.0, 1.0, 3)).unwrap();
    let graph = check(&net.finish(&[second]), &inputs);
    assert_eq!(graph.len(), 4);
}

#[test]
fn identities_go_and_their_names_stay() {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let first = net.op("drop1", Structure::Identity, &[x]);
    let relu = net.op("relu", Pointwise::Relu, &[first]);
    let second = net.op("drop2", Structure::Transpose { order: vec![0, 1, 2, 3] }, &[relu]);
    let zero = net.scalar(0.0);
    let third = net.op("plus0", Binary::Add, &[zero, second]);
    let out = net.op("logits", Structure::Identity, &[third]);
    let graph = check(&net.finish(&[out]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "logits: Relu"]);
    for name in ["relu", "drop2", "plus0"] {
        assert_eq!(graph.find(name).unwrap(), graph.outputs()[0]);
    }
    assert_eq!(graph.find("drop1").unwrap(), graph.inputs()[0]);
    // Names are still found in a cut graph and in another precision.
    let single = graph.to_dtype(DType::F32).unwrap();
    assert_eq!(single.find("drop2").unwrap(), single.outputs()[0]);
    let head = graph.until_node(graph.find("drop2").unwrap()).unwrap();
    assert_eq!(head.find("plus0").unwrap(), head.outputs()[0]);
}

#[test]
fn outputs_keep_their_names() {
    // Two outputs with the same value, and an input that is one.
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let relu = net.op("relu", Pointwise::Relu, &[x]);
    let outputs = ["a", "b"].map(|name| net.op(name, Structure::Identity, &[relu]));
    let same = net.op("same", Structure::Identity, &[x]);
    let graph = check(&net.finish(&[outputs[0], outputs[1], same]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "a: Relu", "b: Identity", "same: Identity"]);
}

#[test]
fn constants_are_folded_unless_they_grow() {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let factor = net.constant("factor", &[3, 1, 1]);
    let root = net.op("root", Pointwise::Sqrt, &[factor]);
    let y = net.op("y", Binary::Pow, &[x, root]);
    let repeats = vec![1, 2000, 2000];
    let large = net.op("large", Structure::Tile { repeats }, &[root]);
    let mean = Reduce { function: ReduceFn::Mean, axes: vec![1, 2], keep: true };
    let small = net.op("small", mean, &[large]);
    let z = net.op("z", Binary::Max, &[y, small]);
    let graph = net.finish(&[z]).canonical().unwrap();
    assert_eq!(listing(&graph), ["x: Input", "y: Pow", "large: Tile", "small: ReduceMean", "z: Max"]);
    assert!(graph.node(graph.find("root").unwrap()).constant().is_some());
}

#[test]
fn padding_becomes_part_of_the_window() {
    let pad = |mode| Pad { before: vec![0, 0, 1, 2], after: vec![0, 0, 0, 1], mode };
    let zero = || pad(PadMode::Constant(0.0));
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let padded = net.op("pad", zero(), &[x]);
    let conv = net.conv("conv", padded, (3, 2), Window::new([3, 3]).padding([1, 0]));
    let bn = net.batch_norm("bn", conv, 2);
    let padded = net.op("pad2", zero(), &[bn]);
    let pool = AveragePool { window: Window::new([3, 3]).stride([2, 2]), count_include_pad: false };
    let pool = net.op("pool", pool, &[padded]);
    let padded = net.op("pad3", pad(PadMode::Constant(f64::NEG_INFINITY)), &[pool]);
    let pool = net.op("max", MaxPool { window: Window::new([3, 3]) }, &[padded]);
    let graph = check(&net.finish(&[pool]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "bn: Conv", "pool: AveragePool", "max: MaxPool"]);

    // Not where the divisor or the values would change.
    let own = AveragePool { window: Window::new([3, 3]).padding([1, 1]), count_include_pad: false };
    let ceil = Window { ceil_mode: true, ..Window::new([3, 3]).stride([2, 2]) };
    let ceil = AveragePool { window: ceil, count_include_pad: true };
    let maximum = MaxPool { window: Window::new([3, 3]) };
    let pools: [Op; 3] = [own.into(), ceil.into(), maximum.into()];
    for pool in pools {
        let (mut net, x) = Net::new(&[3, 6, 5]);
        let padded = net.op("pad", zero(), &[x]);
        let y = net.op("pool", pool, &[padded]);
        assert_eq!(check(&net.finish(&[y]), &images(3)).len(), 3);
    }
}

#[test]
fn open_sides_do_not_hinder_folding() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3), None, None]);
    let mut net = Net { b, seed: 0 };
    let conv = net.conv("conv", x, (3, 4), Window::new([3, 3]));
    let shift = net.constant("shift", &[1, 4, 1, 1]);
    let y = net.op("y", Binary::Add, &[conv, shift]);
    let graph = check(&net.finish(&[y]), &images(3));
    assert_eq!(listing(&graph), ["x: Input", "y: Conv"]);
    assert!(graph.find("shift").is_ok());
}

#[test]
fn failing_constants_name_their_node() {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let (a, b) = (net.constant("a", &[2]), net.constant("b", &[3]));
    let sum = net.op("bad", Binary::Add, &[a, b]);
    let y = net.op("y", Binary::Add, &[x, sum]);
    let error = net.finish(&[y]).canonical().unwrap_err().to_string();
    assert!(error.contains("node 'bad'"), "{error}");
}
