//! Operators that exporters write as arithmetic.

use super::{Net, check, images, listing, uniform};
use crate::ops::{Binary, Pointwise, Reduce, ReduceFn};
use crate::{Inputs, NodeId};

/// Builds `f(x)` with the given closure and returns the listing of its canonical form.
fn canonical_of(build: impl FnOnce(&mut Net, NodeId) -> NodeId) -> Vec<String> {
    let (mut net, x) = Net::new(&[3, 6, 5]);
    let relu = net.op("in", Pointwise::Tanh, &[x]);
    let y = build(&mut net, relu);
    listing(&check(&net.finish(&[y]), &images(3)))
}

#[test]
fn written_out_activations_are_recognised() {
    let expect = |listing: Vec<String>, op: &str| {
        assert_eq!(listing, ["x: Input".to_string(), "in: Tanh".into(), format!("y: {op}")]);
    };
    expect(
        canonical_of(|net, x| {
            let s = net.op("s", Pointwise::Sigmoid, &[x]);
            net.op("y", Binary::Mul, &[s, x])
        }),
        "Silu",
    );
    expect(
        canonical_of(|net, x| {
            let s = net.op("s", Pointwise::Softplus, &[x]);
            let t = net.op("t", Pointwise::Tanh, &[s]);
            net.op("y", Binary::Mul, &[x, t])
        }),
        "Mish",
    );
    // x · clip(x + 3) / 6, and x · (clip(x + 3) / 6).
    for late in [true, false] {
        expect(
            canonical_of(|net, x| {
                let (three, six) = (net.scalar(3.0), net.scalar(6.0));
                let sum = net.op("sum", Binary::Add, &[x, three]);
                let clip = net.op("clip", Pointwise::Clip { low: Some(0.0), high: Some(6.0) }, &[sum]);
                if late {
                    let product = net.op("product", Binary::Mul, &[x, clip]);
                    net.op("y", Binary::Div, &[product, six])
                } else {
                    let gate = net.op("gate", Binary::Div, &[clip, six]);
                    net.op("y", Binary::Mul, &[x, gate])
                }
            }),
            "HardSwish",
        );
    }
    expect(
        canonical_of(|net, x| {
            let gate = net.op("gate", Pointwise::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, &[x]);
            net.op("y", Binary::Mul, &[x, gate])
        }),
        "HardSwish",
    );
    // ½ x · (1 + erf(x / √2)), with the half before, between and behind.
    for half_at in 0..3 {
        expect(
            canonical_of(|net, x| {
                let (half, one, root) = (net.scalar(0.5), net.scalar(1.0), net.scalar(2.0_f64.sqrt()));
                let scaled = net.op("scaled", Binary::Div, &[x, root]);
                let erf = net.op("erf", Pointwise::Erf, &[scaled]);
                let sum = net.op("sum", Binary::Add, &[erf, one]);
                let halve = |net: &mut Net, name: &str, v| net.op(name, Binary::Mul, &[v, half]);
                match half_at {
                    0 => {
                        let own = halve(net, "halved", x);
                        net.op("y", Binary::Mul, &[own, sum])
                    }
                    1 => {
                        let gate = halve(net, "halved", sum);
                        net.op("y", Binary::Mul, &[x, gate])
                    }
                    _ => {
                        let product = net.op("product", Binary::Mul, &[x, sum]);
                        halve(net, "y", product)
                    }
                }
            }),
            "Gelu",
        );
    }
    // ½ x · (1 + tanh(√(2/π) (x + 0.044715 x³))).
    expect(
        canonical_of(|net, x| {
            let (half, one, cubic) = (net.scalar(0.5), net.scalar(1.0), net.scalar(0.044_715));
            let slope = net.scalar((2.0 / std::f64::consts::PI).sqrt());
            let cube = net.op("cube", Pointwise::Pow { exponent: 3.0 }, &[x]);
            let cube = net.op("scaled", Binary::Mul, &[cubic, cube]);
            let sum = net.op("sum", Binary::Add, &[x, cube]);
            let inner = net.op("inner", Binary::Mul, &[sum, slope]);
            let tanh = net.op("tanh", Pointwise::Tanh, &[inner]);
            let gate = net.op("gate", Binary::Add, &[one, tanh]);
            let own = net.op("own", Binary::Mul, &[half, x]);
            net.op("y", Binary::Mul, &[own, gate])
        }),
        "Gelu",
    );
}

#[test]
fn look_alikes_of_activations_are_left_alone() {
    let left = canonical_of(|net, x| {
        let factor = net.scalar(1.702);
        let scaled = net.op("scaled", Binary::Mul, &[x, factor]);
        let s = net.op("s", Pointwise::Sigmoid, &[scaled]);
        net.op("y", Binary::Mul, &[x, s])
    });
    assert_eq!(left.len(), 5);
    let left = canonical_of(|net, x| {
        let (half, one, root) = (net.scalar(0.5), net.scalar(1.0), net.scalar(1.4));
        let scaled = net.op("scaled", Binary::Div, &[x, root]);
        let erf = net.op("erf", Pointwise::Erf, &[scaled]);
        let sum = net.op("sum", Binary::Add, &[erf, one]);
        let own = net.op("own", Binary::Mul, &[x, half]);
        net.op("y", Binary::Mul, &[own, sum])
    });
    assert!(left.iter().any(|n| n == "erf: Erf"), "{left:?}");
}

#[test]
fn written_out_layer_norm_is_recognised() {
    for (form, full) in [(0, true), (1, true), (2, false)] {
        let (mut net, x) = Net::new(&[4, 6]);
        let mean = || Reduce { function: ReduceFn::Mean, axes: vec![2], keep: true };
        let centre = net.op("mean", mean(), &[x]);
        let centred = net.op("centred", Binary::Sub, &[x, centre]);
        let square = if form == 0 {
            net.op("square", Pointwise::Pow { exponent: 2.0 }, &[centred])
        } else {
            net.op("square", Binary::Mul, &[centred, centred])
        };
        let variance = net.op("variance", mean(), &[square]);
        let epsilon = net.scalar(1e-5);
        let sum = net.op("sum", Binary::Add, &[variance, epsilon]);
        let root = net.op("root", Pointwise::Sqrt, &[sum]);
        let mut y = if form == 2 {
            let inverse = net.op("inverse", Pointwise::Reciprocal, &[root]);
            net.op("standard", Binary::Mul, &[inverse, centred])
        } else {
            net.op("standard", Binary::Div, &[centred, root])
        };
        if full {
            let scale = net.constant("ln.weight", &[6]);
            y = net.op("scaled", Binary::Mul, &[y, scale]);
            let bias = net.constant("ln.bias", &[1, 1, 6]);
            y = net.op("y", Binary::Add, &[bias, y]);
        }
        let inputs = Inputs::single(uniform(&[2, 4, 6], -1.0, 1.0, 3)).unwrap();
        let graph = check(&net.finish(&[y]), &inputs);
        let name = if full { "y" } else { "standard" };
        assert_eq!(listing(&graph), ["x: Input".to_string(), format!("{name}: LayerNormalization")]);
        assert_eq!(graph.find("ln.weight").is_ok(), full);
    }
}
