//! Class activation maps of networks whose positions are not `[N, C, H, W]`, against sums written out by hand.

use ascribe_core::ops::{
    Binary, Conv, LayerNorm, Linear, MatMul, Op, Pointwise, Reduce, ReduceFn, Side, Softmax, Structure,
    Window,
};
use ascribe_core::{
    Card, Composite, Configured, DType, Device, Explainer, Family, Graph, GraphBuilder, Inputs, Method,
    NodeId, Result, Run, Target, Tensor, config,
};
use ascribe_gradient::{Activations, Cam, CamWeights, GradCam, GuidedGradCam, last_spatial_layer};
use serde::{Deserialize, Serialize};

const TARGET: Target = Target::Class(1);

/// A network under construction, with weights that are different everywhere and the same in each run.
#[derive(Default)]
struct Net {
    b: GraphBuilder,
    weights: usize,
}

impl Net {
    fn weight(&mut self, shape: &[usize]) -> Result<NodeId> {
        self.weights += 1;
        let count: usize = shape.iter().product();
        let values: Vec<f64> =
            (0..count).map(|i| 0.6 * (1.7 * i as f64 + 0.9 * self.weights as f64).sin()).collect();
        let value = Tensor::from_vec(values, shape, &Device::Cpu)?;
        Ok(self.b.constant(&format!("w{}", self.weights), value))
    }

    fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[NodeId]) -> Result<NodeId> {
        self.b.op(name, op, inputs)
    }

    fn conv(&mut self, x: NodeId, [from, to]: [usize; 2], side: usize) -> Result<NodeId> {
        let weight = self.weight(&[to, from, side, side])?;
        let window = Window::new([side, side]).stride([side, side]);
        self.op("patches", Conv { window, groups: 1 }, &[x, weight])
    }

    fn linear(&mut self, name: &str, x: NodeId, [from, to]: [usize; 2]) -> Result<NodeId> {
        let (weight, bias) = (self.weight(&[to, from])?, self.weight(&[to])?);
        self.op(name, Linear, &[x, weight, bias])
    }

    fn norm(&mut self, name: &str, x: NodeId, axis: usize, channels: usize) -> Result<NodeId> {
        let (scale, bias) = (self.weight(&[channels])?, self.weight(&[channels])?);
        self.op(name, LayerNorm { axis, epsilon: 1e-6 }, &[x, scale, bias])
    }

    /// A reshape that keeps the batch.
    fn reshape(&mut self, x: NodeId, sides: &[usize]) -> Result<NodeId> {
        let fixed = sides.iter().map(|&n| Side::Fixed(n));
        self.op("", Structure::Reshape { shape: std::iter::once(Side::Infer).chain(fixed).collect() }, &[x])
    }

    fn transpose(&mut self, x: NodeId, order: &[usize]) -> Result<NodeId> {
        self.op("", Structure::Transpose { order: order.to_vec() }, &[x])
    }

    /// Self-attention of `[M, T, C]` with one head.
    fn attention(&mut self, x: NodeId, channels: usize) -> Result<NodeId> {
        let [q, k, v] = ["q", "k", "v"].map(|name| self.linear(name, x, [channels, channels]));
        let keys = self.transpose(k?, &[0, 2, 1])?;
        let scores = self.op("", MatMul, &[q?, keys])?;
        let shares = self.op("", Softmax { axis: 2, log: false }, &[scores])?;
        self.op("mixed", MatMul, &[shares, v?])
    }

    fn mlp(&mut self, x: NodeId, channels: usize) -> Result<NodeId> {
        let wide = self.linear("", x, [channels, 2 * channels])?;
        let active = self.op("", Pointwise::Gelu, &[wide])?;
        self.linear("", active, [2 * channels, channels])
    }

    fn finish(self, output: NodeId) -> Result<Graph> {
        self.b.finish(&[output])?.to_dtype(DType::F64)
    }
}

/// Two samples of this shape.
fn images(shape: [usize; 4]) -> Result<Inputs> {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| (0.37 * i as f64).cos() + (0.011 * i as f64).sin()).collect();
    Inputs::single(Tensor::from_vec(values, &shape, &Device::Cpu)?)
}

/// A layer's value and gradient.
fn at(graph: &Graph, x: &Inputs, layer: NodeId) -> Result<[Tensor; 2]> {
    let samples: Vec<usize> = (0..x.batch()?).collect();
    let found = graph.propagate_to(x, &TARGET, &samples, &Composite::gradient(), &[layer], &[layer])?;
    Ok([found.values[0].clone(), found.signals[0].clone()])
}

/// Grad-CAM by its definition. `index` is where a channel of a position of a sample lies in the value.
fn by_hand(
    [value, gradient]: &[Tensor; 2],
    [samples, channels, height, width]: [usize; 4],
    index: impl Fn(usize, usize, usize, usize) -> Vec<usize>,
) -> Result<Vec<f64>> {
    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
    let (numbers, slopes) = (flat(value)?, flat(gradient)?);
    let at = |index: Vec<usize>| index.iter().zip(value.dims()).fold(0, |place, (i, side)| place * side + i);
    let mut map = vec![0.0; samples * height * width];
    for n in 0..samples {
        for c in 0..channels {
            let mut weight = 0.0;
            for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                weight += slopes[at(index(n, c, i, j))] / (height * width) as f64;
            }
            for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                map[(n * height + i) * width + j] += weight * numbers[at(index(n, c, i, j))];
            }
        }
    }
    Ok(map)
}

fn map(graph: &Graph, x: &Inputs, method: &GradCam) -> Result<(Vec<usize>, Vec<f64>)> {
    // One sample at a time: views are those of any batch.
    let found = method.explain(graph, x, &TARGET, &Run::new().batch(1))?;
    Ok((found.values().dims().to_vec(), found.values().flatten_all()?.to_vec1()?))
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    let error = found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt();
    assert!(size > 1e-6, "a map of zeros proves nothing");
    assert!(error < 1e-10 * size, "{found:?} is not {expected:?}");
}

fn layer_name(graph: &Graph, x: &Inputs) -> Result<String> {
    Ok(graph.node(last_spatial_layer(graph, x)?).name().to_string())
}

/// What a vision transformer's head reads.
#[derive(Clone, Copy, PartialEq)]
enum Head {
    ClassToken,
    MeanOfPatches,
}

/// Patches of 2 × 2, a class token in front, two blocks, a head.
fn vision_transformer(head: Head) -> Result<Graph> {
    let (mut net, channels) = (Net::default(), 4);
    let x = net.b.input("x", &[Some(3), Some(4), Some(6)]);
    let patches = net.conv(x, [3, channels], 2)?;
    let row = net.reshape(patches, &[channels, 6])?;
    let tokens = net.transpose(row, &[0, 2, 1])?;
    let class = net.weight(&[1, 1, channels])?;
    let all = net.op("tokens", Structure::Concat { axis: 1 }, &[class, tokens])?;
    let positions = net.weight(&[1, 7, channels])?;
    let mut stream = net.op("embedded", Binary::Add, &[all, positions])?;
    for block in ["block1", "block2"] {
        let normed = net.norm("", stream, 2, channels)?;
        let mixed = net.attention(normed, channels)?;
        let sum = net.op(&format!("{block}.attention"), Binary::Add, &[stream, mixed])?;
        let normed = net.norm("", sum, 2, channels)?;
        let changed = net.mlp(normed, channels)?;
        stream = net.op(block, Binary::Add, &[sum, changed])?;
    }
    let normed = net.norm("norm", stream, 2, channels)?;
    let pooled = match head {
        Head::ClassToken => {
            let first = Structure::Slice { axis: 1, start: 0, len: 1, step: 1 };
            let first = net.op("", first, &[normed])?;
            net.reshape(first, &[channels])?
        }
        Head::MeanOfPatches => {
            let patches = Structure::Slice { axis: 1, start: 1, len: 6, step: 1 };
            let patches = net.op("", patches, &[normed])?;
            net.op("", Reduce { function: ReduceFn::Mean, axes: vec![1], keep: false }, &[patches])?
        }
    };
    let output = net.linear("head", pooled, [channels, 3])?;
    net.finish(output)
}

#[test]
fn vision_transformers_are_looked_at_before_their_last_attention() -> Result<()> {
    let x = images([2, 3, 4, 6])?;
    for (head, layer) in [(Head::ClassToken, "block1"), (Head::MeanOfPatches, "norm")] {
        let graph = vision_transformer(head)?;
        for graph in [graph.canonical()?, graph] {
            assert_eq!(layer_name(&graph, &x)?, layer);
            let found = map(&graph, &x, &GradCam::default().upsample(false))?;
            assert_eq!(found.0, [2, 1, 2, 3]);
            let hand = at(&graph, &x, graph.find(layer)?)?;
            let expected = by_hand(&hand, [2, 4, 2, 3], |n, c, i, j| vec![n, 1 + i * 3 + j, c])?;
            assert_close(&found.1, &expected);
            assert_eq!(map(&graph, &x, &GradCam::default())?.0, [2, 1, 4, 6]);
        }
    }
    Ok(())
}

/// Patches of 2 × 2 as `[N, 4, 4, C]`, a block with windows of 2 × 2 that are shifted by 1, a norm, a mean.
fn shifted_windows() -> Result<Graph> {
    let (mut net, channels) = (Net::default(), 3);
    let x = net.b.input("x", &[Some(3), Some(8), Some(8)]);
    let patches = net.conv(x, [3, channels], 2)?;
    let last = net.transpose(patches, &[0, 2, 3, 1])?;
    let roll = |net: &mut Net, x: NodeId, axis: usize, start: usize| {
        let head = net.op("", Structure::Slice { axis, start, len: 4 - start, step: 1 }, &[x])?;
        let tail = net.op("", Structure::Slice { axis, start: 0, len: start, step: 1 }, &[x])?;
        net.op("", Structure::Concat { axis }, &[head, tail])
    };
    let normed = net.norm("", last, 3, channels)?;
    let rows = roll(&mut net, normed, 1, 1)?;
    let rolled = roll(&mut net, rows, 2, 1)?;
    let split = net.reshape(rolled, &[2, 2, 2, 2, channels])?;
    let windows = net.transpose(split, &[0, 1, 3, 2, 4, 5])?;
    let windows = net.reshape(windows, &[4, channels])?;
    let mixed = net.attention(windows, channels)?;
    let split = net.reshape(mixed, &[2, 2, 2, 2, channels])?;
    let back = net.transpose(split, &[0, 1, 3, 2, 4, 5])?;
    let back = net.reshape(back, &[4, 4, channels])?;
    let rows = roll(&mut net, back, 1, 3)?;
    let back = roll(&mut net, rows, 2, 3)?;
    let sum = net.op("sum", Binary::Add, &[last, back])?;
    let normed = net.norm("norm", sum, 3, channels)?;
    let mean = Reduce { function: ReduceFn::Mean, axes: vec![1, 2], keep: false };
    let mean = net.op("mean", mean, &[normed])?;
    let output = net.linear("head", mean, [channels, 2])?;
    net.finish(output)
}

#[test]
fn windows_are_put_in_their_place() -> Result<()> {
    let (graph, x) = (shifted_windows()?, images([2, 3, 8, 8])?);
    assert_eq!(layer_name(&graph, &x)?, "norm");
    let found = map(&graph, &x, &GradCam::default().upsample(false))?;
    let hand = at(&graph, &x, graph.find("norm")?)?;
    assert_close(&found.1, &by_hand(&hand, [2, 3, 4, 4], |n, c, i, j| vec![n, i, j, c])?);
    // Within the block, `[N · windows, tokens of a window, C]`, one row and column further up and left.
    let found = map(&graph, &x, &GradCam::default().layer("mixed").upsample(false))?;
    assert_eq!(found.0, [2, 1, 4, 4]);
    let hand = at(&graph, &x, graph.find("mixed")?)?;
    let expected = by_hand(&hand, [2, 3, 4, 4], |n, c, i, j| {
        let [i, j] = [(i + 3) % 4, (j + 3) % 4];
        vec![4 * n + 2 * (i / 2) + j / 2, 2 * (i % 2) + j % 2, c]
    })?;
    assert_close(&found.1, &expected);
    Ok(())
}

/// Patches of 2 × 2, a block whose norm and layers work on the last axis, a mean. The input has its channels last, or not.
fn channels_last(input_too: bool) -> Result<Graph> {
    let (mut net, channels) = (Net::default(), 3);
    let (sides, order) = if input_too { ([4, 6, 3], [0, 3, 1, 2]) } else { ([3, 4, 6], [0, 1, 2, 3]) };
    let x = net.b.input("x", &sides.map(Some));
    let first = net.transpose(x, &order)?;
    let patches = net.conv(first, [3, channels], 2)?;
    let last = net.transpose(patches, &[0, 2, 3, 1])?;
    let normed = net.norm("", last, 3, channels)?;
    let changed = net.mlp(normed, channels)?;
    let changed = net.transpose(changed, &[0, 3, 1, 2])?;
    let sum = net.op("sum", Binary::Add, &[patches, changed])?;
    let mean = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false };
    let mean = net.op("mean", mean, &[sum])?;
    let output = net.linear("head", mean, [channels, 2])?;
    net.finish(output)
}

#[test]
fn channels_may_come_last() -> Result<()> {
    let (usual, turned) = (channels_last(false)?, channels_last(true)?);
    let x = images([2, 3, 4, 6])?;
    let value = x.iter().next().unwrap().value.permute((0, 2, 3, 1))?.contiguous()?;
    let other = Inputs::single(value)?;
    assert_eq!(layer_name(&usual, &x)?, "sum");
    assert_eq!(layer_name(&turned, &other)?, "sum");
    let found = map(&usual, &x, &GradCam::default().upsample(false))?;
    let hand = at(&usual, &x, usual.find("sum")?)?;
    assert_close(&found.1, &by_hand(&hand, [2, 3, 2, 3], |n, c, i, j| vec![n, c, i, j])?);
    let (shape, numbers) = map(&usual, &x, &GradCam::default())?;
    let (turned_shape, turned_numbers) = map(&turned, &other, &GradCam::default())?;
    assert_eq!((shape, turned_shape), (vec![2, 1, 4, 6], vec![2, 4, 6, 1]));
    assert_close(&turned_numbers, &numbers);
    let guided = |graph: &Graph, x: &Inputs| {
        GuidedGradCam::default().explain(graph, x, &TARGET, &Run::new()).map(|found| found.values().clone())
    };
    let [guided, turned] = [guided(&usual, &x)?, guided(&turned, &other)?.permute((0, 3, 1, 2))?];
    let numbers = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
    assert_close(&numbers(&turned)?, &numbers(&guided)?);
    Ok(())
}

#[test]
fn the_message_says_what_to_do() -> Result<()> {
    // Two branches, and nothing with positions on both.
    let mut net = Net::default();
    let x = net.b.input("x", &[Some(3), Some(4), Some(6)]);
    let mut branches = Vec::new();
    for _ in 0..2 {
        let patches = net.conv(x, [3, 2], 2)?;
        branches.push(net.op(
            "",
            Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false },
            &[patches],
        )?);
    }
    let output = net.op("sum", Binary::Add, &branches)?;
    let graph = net.finish(output)?;
    let x = images([2, 3, 4, 6])?;
    let error = |method: &GradCam| map(&graph, &x, method).unwrap_err().to_string();
    let message = error(&GradCam::default());
    assert!(message.contains("name a layer") && message.contains("height 4"), "{message}");
    assert!(message.contains("'patches_2'"), "{message}");
    let message = error(&GradCam::default().layer("sum"));
    assert!(message.contains("'sum'") && message.contains("[batch 2, channel 2]"), "{message}");
    assert!(map(&graph, &x, &GradCam::default().layer("patches_2")).is_ok());
    Ok(())
}

/// The mean of all channels: asks for no gradient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Mean {
    scale: f64,
}

impl CamWeights for Mean {
    const CARD: Card = Card { id: "mean", name: "mean", ..Card::gradient(Family::Vanilla).with_layer() };
    const GRADIENT: bool = false;

    fn weights(&self, at: &Activations<'_>) -> Result<Tensor> {
        assert!(at.gradient().is_err());
        Ok((at.value.ones_like()? * (self.scale / at.value.dim(1)? as f64))?)
    }
}

#[test]
fn weights_without_gradient_cost_no_walk() -> Result<()> {
    let (graph, x) = (channels_last(false)?, images([2, 3, 4, 6])?);
    let method = Cam::<Mean> { upsample: false, weights: Mean { scale: 2.0 }, ..Cam::default() };
    let found = method.explain(&graph, &x, &TARGET, &Run::new())?;
    assert_eq!((found.provenance.cost.forward, found.provenance.cost.backward), (2, 0));
    assert_eq!(Configured::cost(&method, &x), found.provenance.cost);
    let value = &at(&graph, &x, graph.find("sum")?)?[0];
    let mean = (value.mean_keepdim(1)? * 2.0)?;
    let numbers = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
    assert_close(&numbers(found.values())?, &numbers(&mean)?);
    Ok(())
}

#[test]
fn settings_of_both_parts_are_one_list() -> Result<()> {
    let fields = Method::config(&GradCam::default());
    let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    assert_eq!(names, ["counterfactual", "interpolate", "layer", "relu", "upsample"]);
    let read = |json: &str| config::read::<GradCam>("cam", &serde_json::from_str(json).unwrap());
    let given = read(r#"{"layer": "a", "counterfactual": true, "relu": true}"#)?;
    assert_eq!(given, GradCam::default().layer("a").counterfactual(true).relu(true));
    let message = read(r#"{"rleu": true}"#).unwrap_err().to_string();
    assert!(message.contains("`rleu`") && message.contains("`relu`"), "{message}");
    assert!(message.contains("`counterfactual`"), "{message}");
    let message = read(r#"{"relu": 3}"#).unwrap_err().to_string();
    assert!(message.contains("`relu`"), "{message}");
    let message = read(r#"{"counterfactual": 3}"#).unwrap_err().to_string();
    assert!(message.contains("boolean"), "{message}");
    Ok(())
}
