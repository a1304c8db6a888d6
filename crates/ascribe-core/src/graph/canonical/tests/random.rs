//! Random networks that contain everything that the passes rewrite.

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ops::{
    AveragePool, BatchNorm, Binary, Conv, ConvTranspose, Linear, MatMul, Op, Pad, PadMode, Pointwise, Reduce,
    ReduceFn, ScaleShift, Structure, Window,
};
use crate::{Graph, GraphBuilder, Inputs, NodeId};

const SIDE: usize = 5;

struct Random {
    b: GraphBuilder,
    rng: ChaCha8Rng,
    /// Images `[N, C, SIDE, SIDE]` with their number of channels.
    images: Vec<(NodeId, usize)>,
}

impl Random {
    fn constant(&mut self, shape: &[usize]) -> NodeId {
        let count = shape.iter().product();
        let sign = [-1.0, 1.0];
        let values: Vec<f64> =
            (0..count).map(|_| self.rng.random_range(0.3..1.2) * sign[self.rng.random_range(0..2)]).collect();
        self.b.constant("", Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    }

    fn positive(&mut self, shape: &[usize]) -> NodeId {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|_| self.rng.random_range(0.3..1.2)).collect();
        self.b.constant("", Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    }

    fn scalar(&mut self, value: f64) -> NodeId {
        self.b.constant("", Tensor::new(value, &Device::Cpu).unwrap())
    }

    fn op(&mut self, op: impl Into<Op>, inputs: &[NodeId]) -> NodeId {
        self.b.op("", op, inputs).unwrap()
    }

    fn flip(&mut self) -> bool {
        self.rng.random_range(0..2) == 0
    }

    /// Selects an earlier value, mostly the last one.
    fn pick(&mut self) -> (NodeId, usize) {
        let last = self.images.len() - 1;
        let at = if self.rng.random_range(0..4) == 0 { self.rng.random_range(0..=last) } else { last };
        self.images[at]
    }

    fn conv(&mut self, x: NodeId, channels: usize) -> (NodeId, usize) {
        let depthwise = self.flip();
        let (groups, outputs) =
            if depthwise { (channels, channels) } else { (1, self.rng.random_range(1..4)) };
        let kernel = if self.flip() { 1 } else { 3 };
        let half = kernel / 2;
        let transposed = self.flip();
        let explicit = !transposed && self.flip();
        let mut x = x;
        let mut window = Window::new([kernel, kernel]).padding([half, half]);
        if explicit {
            let amounts = vec![0, 0, half, half];
            let pad = Pad { before: amounts.clone(), after: amounts, mode: PadMode::Constant(0.0) };
            x = self.op(pad, &[x]);
            window.padding = [0; 4];
        }
        let shape = if transposed {
            [channels, outputs / groups, kernel, kernel]
        } else {
            [outputs, channels / groups, kernel, kernel]
        };
        let mut operands = vec![x, self.constant(&shape)];
        if self.flip() {
            operands.push(self.constant(&[outputs]));
        }
        let y = if transposed {
            self.op(ConvTranspose { window, groups, output_padding: [0, 0] }, &operands)
        } else {
            self.op(Conv { window, groups }, &operands)
        };
        (y, outputs)
    }

    fn batch_norm(&mut self, x: NodeId, channels: usize) -> NodeId {
        let c = [channels];
        let (w, b, m, v) = (self.constant(&c), self.constant(&c), self.constant(&c), self.positive(&c));
        self.op(BatchNorm { epsilon: 1e-3 }, &[x, w, b, m, v])
    }

    fn arithmetic(&mut self, x: NodeId, channels: usize) -> NodeId {
        let shape: &[usize] = match self.rng.random_range(0..5) {
            0 => &[],
            1 => &[channels, 1, 1],
            2 => &[1, channels, 1, 1],
            3 => &[1, 1, SIDE],
            _ => &[1],
        };
        let constant = self.constant(shape);
        let op = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div][self.rng.random_range(0..4)];
        let reversed = self.flip() && op != Binary::Div;
        let operands = if reversed { [constant, x] } else { [x, constant] };
        self.op(op, &operands)
    }

    fn gate(&mut self, x: NodeId) -> NodeId {
        match self.rng.random_range(0..4) {
            0 => {
                let gate = self.op(Pointwise::Sigmoid, &[x]);
                self.op(Binary::Mul, &[gate, x])
            }
            1 => {
                let inner = self.op(Pointwise::Softplus, &[x]);
                let gate = self.op(Pointwise::Tanh, &[inner]);
                self.op(Binary::Mul, &[x, gate])
            }
            2 => {
                let (three, six) = (self.scalar(3.0), self.scalar(6.0));
                let sum = self.op(Binary::Add, &[x, three]);
                let clip = self.op(Pointwise::Clip { low: Some(0.0), high: Some(6.0) }, &[sum]);
                let product = self.op(Binary::Mul, &[x, clip]);
                self.op(Binary::Div, &[product, six])
            }
            _ => {
                let (half, one, root) = (self.scalar(0.5), self.scalar(1.0), self.scalar(2.0_f64.sqrt()));
                let inner = self.op(Binary::Div, &[x, root]);
                let erf = self.op(Pointwise::Erf, &[inner]);
                let gate = self.op(Binary::Add, &[erf, one]);
                let own = self.op(Binary::Mul, &[x, half]);
                self.op(Binary::Mul, &[own, gate])
            }
        }
    }

    fn layer_norm(&mut self, x: NodeId) -> NodeId {
        let mean = || Reduce { function: ReduceFn::Mean, axes: vec![3, 2], keep: true };
        let centre = self.op(mean(), &[x]);
        let centred = self.op(Binary::Sub, &[x, centre]);
        let square = self.op(Binary::Mul, &[centred, centred]);
        let variance = self.op(mean(), &[square]);
        let epsilon = self.scalar(0.1);
        let sum = self.op(Binary::Add, &[variance, epsilon]);
        let root = self.op(Pointwise::Sqrt, &[sum]);
        let y = self.op(Binary::Div, &[centred, root]);
        let scale = self.constant(&[SIDE]);
        self.op(Binary::Mul, &[y, scale])
    }

    fn step(&mut self) {
        let (x, channels) = self.pick();
        let same = |y| (y, channels);
        let next = match self.rng.random_range(0..14) {
            0..3 => self.conv(x, channels),
            3 | 4 => same(self.batch_norm(x, channels)),
            5..7 => same(self.arithmetic(x, channels)),
            7 => same(self.op(Pointwise::Tanh, &[x])),
            8 => same(self.op(Structure::Identity, &[x])),
            9 => same(self.gate(x)),
            10 => same(self.layer_norm(x)),
            11 => {
                let c = [channels];
                let parameters = [x, self.constant(&c), self.constant(&c)];
                same(self.op(ScaleShift, &parameters))
            }
            12 => {
                let amounts = vec![0, 0, 1, 1];
                let pad = Pad { before: amounts.clone(), after: amounts, mode: PadMode::Constant(0.0) };
                let padded = self.op(pad, &[x]);
                let window = Window::new([3, 3]);
                same(self.op(AveragePool { window, count_include_pad: false }, &[padded]))
            }
            _ => {
                let (other, _) = self.pick();
                let sum = self.images.iter().any(|&(id, c)| id == other && c == channels);
                let factor = self.positive(&[1]);
                let root = self.op(Pointwise::Sqrt, &[factor]);
                let partner = if sum { other } else { root };
                same(self.op(Binary::Add, &[x, partner]))
            }
        };
        self.images.push(next);
    }

    /// Global pooling and a classifier.
    fn head(&mut self) -> NodeId {
        let (x, channels) = self.pick();
        let pooled = self.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[x]);
        let flat = self.op(Structure::Flatten { axis: 1 }, &[pooled]);
        let matrix = self.constant(&[channels, 3]);
        let product = self.op(MatMul, &[flat, matrix]);
        let bias = self.constant(&[3]);
        let mut y = self.op(Binary::Add, &[product, bias]);
        if self.flip() {
            y = self.batch_norm(y, 3);
        }
        let weight = self.constant(&[2, 3]);
        let y = self.op(Linear, &[y, weight]);
        if self.flip() { self.op(Structure::Identity, &[y]) } else { y }
    }
}

/// A random network and inputs for it.
pub(super) fn network(seed: u64, steps: usize) -> (Graph, Inputs) {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3), Some(SIDE), Some(SIDE)]);
    let mut net = Random { b, rng: ChaCha8Rng::seed_from_u64(seed), images: vec![(x, 3)] };
    for _ in 0..steps {
        net.step();
    }
    let mut outputs = vec![net.head()];
    if net.flip() {
        outputs.push(net.pick().0);
    }
    let inputs = Inputs::single(crate::ops::testing::random(&[2, 3, SIDE, SIDE], -1.0, 1.0, seed)).unwrap();
    (net.b.finish(&outputs).unwrap(), inputs)
}
