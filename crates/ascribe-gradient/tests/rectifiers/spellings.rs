//! Activations as exporters and authors write them.

use ascribe_core::ops::{Binary, Cast, Compare, Op, Pointwise, Structure, Where};
use ascribe_core::{DType, Device, GraphBuilder, NodeId, Tensor};

/// A builder with shorthands.
pub struct Net(pub GraphBuilder);

impl Net {
    /// A constant.
    pub fn number(&mut self, value: f64) -> NodeId {
        self.0.constant("", Tensor::new(value, &Device::Cpu).unwrap())
    }

    /// A node.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> NodeId {
        self.0.op("", op, operands).unwrap()
    }

    /// A binary operator whose second operand is a number.
    pub fn with(&mut self, op: Binary, x: NodeId, number: f64) -> NodeId {
        let number = self.number(number);
        self.op(op, &[x, number])
    }

    /// A comparison with a number.
    pub fn compare(&mut self, op: Compare, x: NodeId, number: f64) -> NodeId {
        let number = self.number(number);
        self.op(op, &[x, number])
    }

    /// Converts to f64.
    pub fn cast(&mut self, x: NodeId) -> NodeId {
        self.op(Cast { to: DType::F64 }, &[x])
    }

    /// Zeros of the shape of the activations, without the batch.
    pub fn zeros(&mut self) -> NodeId {
        self.0.constant("", Tensor::zeros((1, 5), DType::F64, &Device::Cpu).unwrap())
    }
}

/// Applies an activation.
pub type Spelling = fn(&mut Net, NodeId) -> NodeId;

/// ReLU itself.
pub const RELU: Spelling = |n, v| n.op(Pointwise::Relu, &[v]);

/// Names and spellings of ReLU.
pub const RELUS: &[(&str, Spelling)] = &[
    ("max(v, 0)", |n, v| n.with(Binary::Max, v, 0.0)),
    ("max(0, v)", |n, v| {
        let zero = n.number(0.0);
        n.op(Binary::Max, &[zero, v])
    }),
    ("max(v, zeros_like(v))", |n, v| {
        let zeros = n.zeros();
        n.op(Binary::Max, &[v, zeros])
    }),
    ("max(v, zeros that are repeated for the batch)", |n, v| {
        let zeros = n.zeros();
        let anchor = v;
        let zeros = n.op(Structure::ExpandBatch, &[zeros, anchor]);
        n.op(Binary::Max, &[v, zeros])
    }),
    ("max(v, expand(0))", |n, v| {
        let zero = n.number(0.0);
        let zeros = n.op(Structure::Expand { shape: vec![1, 5] }, &[zero]);
        n.op(Binary::Max, &[v, zeros])
    }),
    ("clip(v, 0)", |n, v| n.op(Pointwise::Clip { low: Some(0.0), high: None }, &[v])),
    ("where(v > 0, v, 0)", |n, v| {
        let (positive, zero) = (n.compare(Compare::Greater, v, 0.0), n.number(0.0));
        n.op(Where, &[positive, v, zero])
    }),
    ("where(v >= 0, v, zeros)", |n, v| {
        let (positive, zeros) = (n.compare(Compare::GreaterOrEqual, v, 0.0), n.zeros());
        n.op(Where, &[positive, v, zeros])
    }),
    ("where(0 < v, v, 0)", |n, v| {
        let zero = n.number(0.0);
        let positive = n.op(Compare::Less, &[zero, v]);
        n.op(Where, &[positive, v, zero])
    }),
    ("where(v <= 0, 0, v): threshold(v, 0, 0)", |n, v| {
        let (closed, zero) = (n.compare(Compare::LessOrEqual, v, 0.0), n.number(0.0));
        n.op(Where, &[closed, zero, v])
    }),
    ("masked_fill(v < 0, 0)", |n, v| {
        let (closed, zero) = (n.compare(Compare::Less, v, 0.0), n.number(0.0));
        // The TorchScript exporter converts the mask to a truth value once more.
        let not = n.op(Compare::Not, &[closed]);
        let closed = n.op(Compare::Not, &[not]);
        n.op(Where, &[closed, zero, v])
    }),
    ("where(not v <= 0, v, 0)", |n, v| {
        let (closed, zero) = (n.compare(Compare::LessOrEqual, v, 0.0), n.number(0.0));
        let open = n.op(Compare::Not, &[closed]);
        n.op(Where, &[open, v, zero])
    }),
    ("v * (v > 0)", |n, v| {
        let open = n.compare(Compare::Greater, v, 0.0);
        let open = n.cast(open);
        n.op(Binary::Mul, &[v, open])
    }),
    ("(v >= 0) * v", |n, v| {
        let open = n.compare(Compare::GreaterOrEqual, v, 0.0);
        let open = n.cast(open);
        n.op(Binary::Mul, &[open, v])
    }),
    ("v * (1 - (v <= 0))", |n, v| {
        let closed = n.compare(Compare::LessOrEqual, v, 0.0);
        let (one, closed) = (n.number(1.0), n.cast(closed));
        let open = n.op(Binary::Sub, &[one, closed]);
        n.op(Binary::Mul, &[v, open])
    }),
    ("v * heaviside(v)", |n, v| {
        let (negative, none) = (n.compare(Compare::Less, v, 0.0), n.compare(Compare::Equal, v, 0.0));
        let (zero, one) = (n.number(0.0), n.number(1.0));
        let step = n.op(Where, &[negative, zero, one]);
        let step = n.op(Where, &[none, zero, step]);
        n.op(Binary::Mul, &[v, step])
    }),
    ("(v + |v|) / 2", |n, v| {
        let size = n.op(Pointwise::Abs, &[v]);
        let sum = n.op(Binary::Add, &[v, size]);
        n.with(Binary::Div, sum, 2.0)
    }),
    ("-min(-v, 0)", |n, v| {
        let negated = n.op(Pointwise::Neg, &[v]);
        let least = n.with(Binary::Min, negated, 0.0);
        n.op(Pointwise::Neg, &[least])
    }),
    ("v * (sign(v) + 1) / 2", |n, v| {
        let sign = n.op(Pointwise::Sign, &[v]);
        let sum = n.with(Binary::Add, sign, 1.0);
        let product = n.op(Binary::Mul, &[v, sum]);
        n.with(Binary::Div, product, 2.0)
    }),
];

/// Names, operators and spellings of other rectifiers.
pub const OTHERS: &[(&str, Spelling, Spelling)] = &[
    (
        "where(v > 0, v, 0.1 v)",
        |n, v| n.op(Pointwise::LeakyRelu { slope: 0.1 }, &[v]),
        |n, v| {
            let (open, leak) = (n.compare(Compare::Greater, v, 0.0), n.with(Binary::Mul, v, 0.1));
            n.op(Where, &[open, v, leak])
        },
    ),
    (
        "max(v, 0.1 v)",
        |n, v| n.op(Pointwise::LeakyRelu { slope: 0.1 }, &[v]),
        |n, v| {
            let leak = n.with(Binary::Mul, v, 0.1);
            n.op(Binary::Max, &[v, leak])
        },
    ),
    (
        "relu(v) - 0.1 relu(-v)",
        |n, v| n.op(Pointwise::LeakyRelu { slope: 0.1 }, &[v]),
        |n, v| {
            let (open, negated) = (n.op(Pointwise::Relu, &[v]), n.op(Pointwise::Neg, &[v]));
            let closed = n.op(Pointwise::Relu, &[negated]);
            let leak = n.with(Binary::Mul, closed, 0.1);
            n.op(Binary::Sub, &[open, leak])
        },
    ),
    (
        "where(v > 0, v, 2 (exp(v) - 1))",
        |n, v| n.op(Pointwise::Elu { alpha: 2.0 }, &[v]),
        |n, v| {
            let (open, e) = (n.compare(Compare::Greater, v, 0.0), n.op(Pointwise::Exp, &[v]));
            let e = n.with(Binary::Sub, e, 1.0);
            let e = n.with(Binary::Mul, e, 2.0);
            n.op(Where, &[open, v, e])
        },
    ),
    (
        "max(v, 0) + exp(min(v, 0)) - 1",
        |n, v| n.op(Pointwise::Elu { alpha: 1.0 }, &[v]),
        |n, v| {
            let (open, low) = (n.with(Binary::Max, v, 0.0), n.with(Binary::Min, v, 0.0));
            let e = n.op(Pointwise::Exp, &[low]);
            let e = n.with(Binary::Sub, e, 1.0);
            n.op(Binary::Add, &[open, e])
        },
    ),
    (
        "2 where(v > 0, v, 1.5 (exp(v) - 1))",
        |n, v| n.op(Pointwise::Selu { alpha: 1.5, gamma: 2.0 }, &[v]),
        |n, v| {
            let (open, e) = (n.compare(Compare::Greater, v, 0.0), n.op(Pointwise::Exp, &[v]));
            let e = n.with(Binary::Sub, e, 1.0);
            let e = n.with(Binary::Mul, e, 1.5);
            let y = n.op(Where, &[open, v, e]);
            n.with(Binary::Mul, y, 2.0)
        },
    ),
    (
        "where(v > 0, v, 2 (exp(v / 2) - 1))",
        |n, v| n.op(Pointwise::Celu { alpha: 2.0 }, &[v]),
        |n, v| {
            let (open, half) = (n.compare(Compare::Greater, v, 0.0), n.with(Binary::Div, v, 2.0));
            let e = n.op(Pointwise::Exp, &[half]);
            let e = n.with(Binary::Sub, e, 1.0);
            let e = n.with(Binary::Mul, e, 2.0);
            n.op(Where, &[open, v, e])
        },
    ),
    (
        "v * sigmoid(v)",
        |n, v| n.op(Pointwise::Silu, &[v]),
        |n, v| {
            let s = n.op(Pointwise::Sigmoid, &[v]);
            n.op(Binary::Mul, &[v, s])
        },
    ),
    (
        "v / (1 + exp(-v))",
        |n, v| n.op(Pointwise::Silu, &[v]),
        |n, v| {
            let negated = n.op(Pointwise::Neg, &[v]);
            let e = n.op(Pointwise::Exp, &[negated]);
            let sum = n.with(Binary::Add, e, 1.0);
            n.op(Binary::Div, &[v, sum])
        },
    ),
    (
        "v * (1 / (1 + exp(-v)))",
        |n, v| n.op(Pointwise::Silu, &[v]),
        |n, v| {
            let negated = n.op(Pointwise::Neg, &[v]);
            let e = n.op(Pointwise::Exp, &[negated]);
            let sum = n.with(Binary::Add, e, 1.0);
            let gate = n.op(Pointwise::Reciprocal, &[sum]);
            n.op(Binary::Mul, &[v, gate])
        },
    ),
    (
        "0.5 v (1 + tanh(v / 2))",
        |n, v| n.op(Pointwise::Silu, &[v]),
        |n, v| {
            let half = n.with(Binary::Mul, v, 0.5);
            let t = n.op(Pointwise::Tanh, &[half]);
            let gate = n.with(Binary::Add, t, 1.0);
            n.op(Binary::Mul, &[half, gate])
        },
    ),
    (
        "ln(1 + exp(v))",
        |n, v| n.op(Pointwise::Softplus, &[v]),
        |n, v| {
            let e = n.op(Pointwise::Exp, &[v]);
            let sum = n.with(Binary::Add, e, 1.0);
            n.op(Pointwise::Log, &[sum])
        },
    ),
    (
        "where(v > 20, v, softplus(v))",
        |n, v| n.op(Pointwise::Softplus, &[v]),
        |n, v| {
            let (large, s) = (n.compare(Compare::Greater, v, 20.0), n.op(Pointwise::Softplus, &[v]));
            n.op(Where, &[large, v, s])
        },
    ),
    (
        "where(2 v > 20, v, softplus(2 v) / 2)",
        |n, v| {
            let twice = n.with(Binary::Mul, v, 2.0);
            let s = n.op(Pointwise::Softplus, &[twice]);
            n.with(Binary::Div, s, 2.0)
        },
        |n, v| {
            let twice = n.with(Binary::Mul, v, 2.0);
            let s = n.op(Pointwise::Softplus, &[twice]);
            let s = n.with(Binary::Div, s, 2.0);
            let large = n.compare(Compare::Greater, twice, 20.0);
            n.op(Where, &[large, v, s])
        },
    ),
    (
        "0.5 v (1 + erf(v / √2))",
        |n, v| n.op(Pointwise::Gelu, &[v]),
        |n, v| {
            let half = n.with(Binary::Mul, v, 0.5);
            let scaled = n.with(Binary::Div, v, std::f64::consts::SQRT_2);
            let e = n.op(Pointwise::Erf, &[scaled]);
            let gate = n.with(Binary::Add, e, 1.0);
            n.op(Binary::Mul, &[half, gate])
        },
    ),
    (
        "v tanh(softplus(v))",
        |n, v| n.op(Pointwise::Mish, &[v]),
        |n, v| {
            let s = n.op(Pointwise::Softplus, &[v]);
            let large = n.compare(Compare::Greater, v, 20.0);
            let s = n.op(Where, &[large, v, s]);
            let t = n.op(Pointwise::Tanh, &[s]);
            n.op(Binary::Mul, &[v, t])
        },
    ),
];
