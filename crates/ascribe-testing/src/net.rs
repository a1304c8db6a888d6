//! Random small convolutional networks for the property tests.

use ascribe_core::ops::{
    AveragePool, BatchNorm, Binary, Conv, Linear, MaxPool, Pointwise, Reduce, ReduceFn, Structure, Window,
};
use ascribe_core::{DType, Device, Graph, GraphBuilder, Inputs, NodeId, Result, Tensor, random};
use rand::Rng;

/// Shape of the networks' input after the batch axis.
pub const SIDES: [usize; 3] = [3, 6, 6];
/// Number of outputs.
pub const CLASSES: usize = 3;
/// The input channel that has no influence on the network if [`Kind::dummy`] is set.
pub const DUMMY: usize = 2;

/// The kind of network that is generated.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a random network")]
pub struct Kind {
    /// Whether there are biases and batch norm.
    pub bias: bool,
    /// Whether there are activations and max-pooling.
    pub nonlinear: bool,
    /// Whether a ReLU follows every convolution, so that all inner values are non-negative.
    pub positive: bool,
    /// Whether all weights of channel [`DUMMY`] are zero.
    pub dummy: bool,
}

impl Default for Kind {
    fn default() -> Self {
        Self { bias: true, nonlinear: true, positive: false, dummy: false }
    }
}

/// How a network is expressed as a graph; all styles compute the same function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As generated.
    Plain,
    /// Each convolution as the sum of two.
    SplitConvolution,
    /// Batch norm folded into the convolution before it.
    Folded,
    /// ReLU as max(x, 0).
    Maximum,
    /// Additions of zero, multiplications by one and identities everywhere.
    Padded,
    /// Values that are used twice are computed twice.
    Duplicated,
}

/// A layer of a random network.
#[derive(Clone)]
enum Layer {
    Conv {
        weight: Tensor,
        bias: Option<Tensor>,
        stride: usize,
        norm: Option<[Tensor; 4]>,
    },
    Relu,
    Act(Pointwise),
    MaxPool,
    AveragePool,
    /// x + f(x)
    Residual(Vec<Layer>),
    /// Concatenation of f(x) and g(x)
    Concat(Vec<Layer>, Vec<Layer>),
}

/// A random network.
pub struct Net {
    layers: Vec<Layer>,
    head: Tensor,
    head_bias: Option<Tensor>,
}

struct Draw {
    rng: Box<dyn rand::RngCore>,
    kind: Kind,
}

impl Draw {
    fn tensor(&mut self, shape: &[usize], low: f64, high: f64) -> Result<Tensor> {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|_| self.rng.random_range(low..high)).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn conv(&mut self, from: usize, to: usize, kernel: usize, stride: usize, first: bool) -> Result<Layer> {
        let mut weight = self.tensor(&[to, from, kernel, kernel], -1.0, 1.0)?;
        if first && self.kind.dummy {
            let mut keep = vec![1.0; from];
            keep[DUMMY] = 0.0;
            weight = weight.broadcast_mul(&Tensor::from_vec(keep, (1, from, 1, 1), &Device::Cpu)?)?;
        }
        let bias = if self.kind.bias { Some(self.tensor(&[to], -0.5, 0.5)?) } else { None };
        let norm = if self.kind.bias && self.rng.random_bool(0.5) {
            Some([
                self.tensor(&[to], 0.5, 1.5)?,
                self.tensor(&[to], -0.5, 0.5)?,
                self.tensor(&[to], -0.5, 0.5)?,
                self.tensor(&[to], 0.5, 2.0)?,
            ])
        } else {
            None
        };
        Ok(Layer::Conv { weight, bias, stride, norm })
    }

    fn activation(&mut self) -> Option<Layer> {
        if !self.kind.nonlinear {
            return None;
        }
        if self.kind.positive || self.rng.random_bool(0.7) {
            return Some(Layer::Relu);
        }
        let all = [Pointwise::LeakyRelu { slope: 0.1 }, Pointwise::Clip { low: Some(0.0), high: Some(6.0) }];
        Some(Layer::Act(all[self.rng.random_range(0..all.len())]))
    }

    fn branch(&mut self, from: usize, to: usize) -> Result<Vec<Layer>> {
        let kernel = if self.rng.random_bool(0.5) { 1 } else { 3 };
        let mut layers = vec![self.conv(from, to, kernel, 1, false)?];
        if self.kind.positive || self.rng.random_bool(0.5) {
            layers.extend(self.activation());
        }
        Ok(layers)
    }
}

impl Net {
    /// Generates a network.
    pub fn draw(seed: u64, kind: Kind) -> Result<Self> {
        let mut draw = Draw { rng: Box::new(random::stream(seed, random::Domain::DATA, 0)), kind };
        let mut width = draw.rng.random_range(2..5);
        let mut layers = vec![draw.conv(SIDES[0], width, 3, 1, true)?];
        layers.extend(draw.activation());
        for _ in 0..draw.rng.random_range(1..4) {
            match draw.rng.random_range(0..5) {
                0 => {
                    let to = draw.rng.random_range(2..5);
                    let stride = draw.rng.random_range(1..3);
                    layers.push(draw.conv(width, to, 3, stride, false)?);
                    layers.extend(draw.activation());
                    width = to;
                }
                1 if kind.nonlinear => layers.push(Layer::MaxPool),
                2 => layers.push(Layer::AveragePool),
                3 => {
                    layers.push(Layer::Residual(draw.branch(width, width)?));
                    layers.extend(draw.activation());
                }
                _ => {
                    let (left, right) = (draw.branch(width, 2)?, draw.branch(width, 3)?);
                    layers.push(Layer::Concat(left, right));
                    width = 5;
                }
            }
        }
        let head = draw.tensor(&[CLASSES, width], -1.0, 1.0)?;
        let head_bias = if kind.bias { Some(draw.tensor(&[CLASSES], -0.5, 0.5)?) } else { None };
        Ok(Self { layers, head, head_bias })
    }

    /// Builds the graph of the network.
    pub fn graph(&self, style: Style) -> Result<Graph> {
        let mut writer = Writer { b: GraphBuilder::new(), style };
        let x = writer.b.input("x", &SIDES.map(Some));
        let x = writer.layers(x, &self.layers)?;
        let mean = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true };
        let x = writer.b.op("pool", mean, &[x])?;
        let x = writer.b.op("flatten", Structure::Flatten { axis: 1 }, &[x])?;
        let mut operands = vec![x, writer.b.constant("head.weight", self.head.clone())];
        operands.extend(self.head_bias.as_ref().map(|b| writer.b.constant("head.bias", b.clone())));
        let y = writer.b.op("head", Linear, &operands)?;
        writer.b.finish(&[y])
    }
}

struct Writer {
    b: GraphBuilder,
    style: Style,
}

impl Writer {
    fn layers(&mut self, mut x: NodeId, layers: &[Layer]) -> Result<NodeId> {
        for (i, layer) in layers.iter().enumerate() {
            // To compute a value a second time, everything since the last shared value would have to be computed
            // again. Duplicating only the layer before a fork is enough to have two nodes instead of one.
            let twin = match (self.style, layer, i.checked_sub(1).map(|i| &layers[i])) {
                (Style::Duplicated, Layer::Residual(_) | Layer::Concat(..), Some(before)) => {
                    self.twin(x, before)?
                }
                _ => x,
            };
            x = self.layer(x, twin, layer)?;
            if self.style == Style::Padded {
                x = self.nothing(x)?;
            }
        }
        Ok(x)
    }

    /// A second node that computes the same as `x`, if the layer of `x` is a single node.
    fn twin(&mut self, x: NodeId, layer: &Layer) -> Result<NodeId> {
        match layer {
            Layer::Relu | Layer::Act(_) | Layer::MaxPool | Layer::AveragePool => {
                let before = self.b.node(x).inputs()[0];
                self.layer(before, before, layer)
            }
            _ => Ok(x),
        }
    }

    fn nothing(&mut self, x: NodeId) -> Result<NodeId> {
        let zero = self.b.constant("zero", Tensor::new(&[0_f64], &Device::Cpu)?);
        let one = self.b.constant("one", Tensor::new(&[1_f64], &Device::Cpu)?);
        let x = self.b.op("plus-zero", Binary::Add, &[x, zero])?;
        let x = self.b.op("times-one", Binary::Mul, &[one, x])?;
        self.b.op("identity", Structure::Identity, &[x])
    }

    fn layer(&mut self, x: NodeId, twin: NodeId, layer: &Layer) -> Result<NodeId> {
        match layer {
            Layer::Conv { weight, bias, stride, norm } => {
                self.conv(x, weight, bias.as_ref(), *stride, norm.as_ref())
            }
            Layer::Relu if self.style == Style::Maximum => {
                let zero = self.b.constant("zero", Tensor::new(&[0_f64], &Device::Cpu)?);
                self.b.op("maximum", Binary::Max, &[zero, x])
            }
            Layer::Relu => self.b.op("relu", Pointwise::Relu, &[x]),
            Layer::Act(f) => self.b.op("act", *f, &[x]),
            Layer::MaxPool => {
                self.b.op("max", MaxPool { window: Window::new([3, 3]).stride([2, 2]).padding([1, 1]) }, &[x])
            }
            Layer::AveragePool => {
                let window = Window::new([2, 2]).padding([1, 1]);
                self.b.op("average", AveragePool { window, count_include_pad: true }, &[x])
            }
            Layer::Residual(branch) => {
                let y = self.layers(twin, branch)?;
                self.b.op("add", Binary::Add, &[x, y])
            }
            Layer::Concat(left, right) => {
                let (left, right) = (self.layers(x, left)?, self.layers(twin, right)?);
                self.b.op("concat", Structure::Concat { axis: 1 }, &[left, right])
            }
        }
    }

    fn conv(
        &mut self,
        x: NodeId,
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: usize,
        norm: Option<&[Tensor; 4]>,
    ) -> Result<NodeId> {
        let (out, _, kernel, _) = weight.dims4()?;
        let half = kernel / 2;
        let window = Window::new([kernel, kernel]).stride([stride, stride]).padding([half, half]);
        let conv = Conv { window, groups: 1 };
        let epsilon = 1e-5;
        if let (Style::Folded, Some([scale, shift, mean, variance])) = (self.style, norm) {
            let factor = (scale / (variance + epsilon)?.sqrt()?)?;
            let weight = weight.broadcast_mul(&factor.reshape((out, 1, 1, 1))?)?;
            let bias = match bias {
                Some(bias) => (((bias - mean)? * &factor)? + shift)?,
                None => (shift - (mean * &factor)?)?,
            };
            let operands = [x, self.b.constant("weight", weight), self.b.constant("bias", bias)];
            return self.b.op("conv", conv, &operands);
        }
        let mut y = if self.style == Style::SplitConvolution {
            // W = 3W + (−2W), one node for each part, with the bias in the first one.
            let mut first = vec![x, self.b.constant("weight", (weight * 3.0)?)];
            first.extend(bias.map(|b| self.b.constant("bias", b.clone())));
            let second = [x, self.b.constant("weight", (weight * -2.0)?)];
            let (first, second) =
                (self.b.op("conv", conv.clone(), &first)?, self.b.op("conv", conv, &second)?);
            self.b.op("both", Binary::Add, &[first, second])?
        } else {
            let mut operands = vec![x, self.b.constant("weight", weight.clone())];
            operands.extend(bias.map(|b| self.b.constant("bias", b.clone())));
            self.b.op("conv", conv, &operands)?
        };
        if let Some(parameters) = norm {
            let mut operands = vec![y];
            operands.extend(parameters.iter().map(|p| self.b.constant("norm", p.clone())));
            y = self.b.op("norm", BatchNorm { epsilon }, &operands)?;
        }
        Ok(y)
    }
}

/// A random batch of inputs.
pub fn inputs(seed: u64, samples: usize) -> Result<Inputs> {
    let shape: Vec<usize> = [&[samples], &SIDES[..]].concat();
    Inputs::single(random::normal(
        &mut random::stream(seed, random::Domain::DATA, 1),
        &shape,
        DType::F64,
        &Device::Cpu,
    )?)
}
