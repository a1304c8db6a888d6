//! Graphs under construction.

use ascribe_core::ops::{Conv, Linear, Op, Side, Structure, Window};
use ascribe_core::{AxisRole, DType, Device, Graph, GraphBuilder, Inputs, NodeId, Roles, Tensor};

/// A graph under construction whose values are looked at one by one.
pub struct Net {
    pub b: GraphBuilder,
    pub last: NodeId,
    shape: Vec<usize>,
}

impl Net {
    pub fn new(shape: &[usize]) -> Self {
        let mut b = GraphBuilder::new();
        let last = b.input("x", &shape[1..].iter().map(|&n| Some(n)).collect::<Vec<_>>());
        Self { b, last, shape: shape.to_vec() }
    }

    pub fn op(&mut self, op: impl Into<Op>, inputs: &[NodeId]) -> NodeId {
        self.last = self.b.op("", op, inputs).unwrap();
        self.last
    }

    pub fn then(&mut self, op: impl Into<Op>) -> NodeId {
        self.op(op, &[self.last])
    }

    pub fn constant(&mut self, shape: &[usize]) -> NodeId {
        self.b.constant("", Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap())
    }

    pub fn reshape(&mut self, shape: &[usize]) -> NodeId {
        self.then(Structure::Reshape { shape: shape.iter().map(|&n| Side::Fixed(n)).collect() })
    }

    pub fn transpose(&mut self, order: &[usize]) -> NodeId {
        self.then(Structure::Transpose { order: order.to_vec() })
    }

    pub fn conv(&mut self, channels: [usize; 2], side: usize) -> NodeId {
        let weight = self.constant(&[channels[1], channels[0], side, side]);
        let window = Window::new([side, side]).stride([side, side]);
        self.op(Conv { window, groups: 1 }, &[self.last, weight])
    }

    pub fn linear(&mut self, [from, to]: [usize; 2]) -> NodeId {
        let weight = self.constant(&[to, from]);
        self.op(Linear, &[self.last, weight])
    }

    /// `torch.roll` by `-start` along an axis, as it is exported.
    pub fn roll(&mut self, axis: usize, start: usize, side: usize) -> NodeId {
        let x = self.last;
        let head = self.op(Structure::Slice { axis, start, len: side - start, step: 1 }, &[x]);
        let tail = self.op(Structure::Slice { axis, start: 0, len: start, step: 1 }, &[x]);
        self.op(Structure::Concat { axis }, &[head, tail])
    }

    /// A class token in front of the tokens `[N, T, C]`.
    pub fn class_token(&mut self, channels: usize) -> NodeId {
        let class = self.constant(&[1, 1, channels]);
        self.op(Structure::Concat { axis: 1 }, &[class, self.last])
    }

    pub fn finish(self) -> (Graph, Inputs, NodeId) {
        let graph = self.b.finish(&[self.last]).unwrap().to_dtype(DType::F64).unwrap();
        let count: usize = self.shape.iter().product();
        let x = Tensor::arange(0.0, count as f64, &Device::Cpu).unwrap().reshape(self.shape).unwrap();
        let last = graph.outputs()[0];
        (graph, Inputs::single(x).unwrap(), last)
    }

    /// The roles of the last value.
    pub fn roles(self) -> Roles {
        let (graph, x, last) = self.finish();
        graph.roles(&x).unwrap().of(last).clone()
    }

    pub fn axes(self) -> Vec<AxisRole> {
        self.roles().axes()
    }
}
