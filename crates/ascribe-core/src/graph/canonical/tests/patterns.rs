//! Operators that exporters write as arithmetic.

use candle_core::{DType, Device, Tensor};

use super::{Net, check, images, listing, uniform};
use crate::ops::{Binary, Compare, Pointwise, Reduce, ReduceFn, Where};
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
        let (factor, one) = (net.scalar(1.702), net.scalar(1.0));
        let scaled = net.op("scaled", Binary::Mul, &[x, factor]);
        let shifted = net.op("shifted", Binary::Add, &[scaled, one]);
        let s = net.op("s", Pointwise::Sigmoid, &[shifted]);
        net.op("y", Binary::Mul, &[x, s])
    });
    assert!(left.iter().any(|n| n == "s: Sigmoid"), "{left:?}");
    let left = canonical_of(|net, x| {
        let factor = net.scalar(-1.702);
        let scaled = net.op("scaled", Binary::Mul, &[x, factor]);
        let s = net.op("s", Pointwise::Sigmoid, &[scaled]);
        net.op("y", Binary::Mul, &[x, s])
    });
    assert!(left.iter().any(|n| n == "s: Sigmoid"), "{left:?}");
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
fn the_quick_gelu_is_a_scaled_silu() {
    let listing = canonical_of(|net, x| {
        let factor = net.scalar(1.702);
        let scaled = net.op("scaled", Binary::Mul, &[x, factor]);
        let s = net.op("s", Pointwise::Sigmoid, &[scaled]);
        net.op("y", Binary::Mul, &[x, s])
    });
    assert!(listing.iter().any(|n| n.ends_with(": Silu")), "{listing:?}");
    assert!(!listing.iter().any(|n| n.ends_with(": Sigmoid")), "{listing:?}");
}

#[test]
fn rectifiers_with_a_kink_are_recognised_only_if_they_are_exact() {
    // where(compare(x, threshold), a x + b, c x + d), and whether that is ReLU.
    let zero = [0.0, 0.0];
    for (op, threshold, chosen, other, expected) in [
        (Compare::Greater, 0.0, [1.0, 0.0], zero, "Relu"),
        (Compare::GreaterOrEqual, 0.0, [1.0, 0.0], zero, "Relu"),
        (Compare::Less, 0.0, zero, [1.0, 0.0], "Relu"),
        (Compare::LessOrEqual, 0.0, [0.25, 0.0], [1.0, 0.0], "LeakyRelu"),
        (Compare::Greater, 0.5, [1.0, 0.0], zero, "Where"),
        (Compare::Greater, 0.0, [2.0, 0.0], zero, "Where"),
        (Compare::Greater, 0.0, [1.0, 1.0], zero, "Where"),
        (Compare::Greater, 0.0, [1.0, 0.0], [0.0, 1.0], "Where"),
        (Compare::Less, 0.0, [1.0, 0.0], zero, "Where"),
        (Compare::Equal, 0.0, [1.0, 0.0], zero, "Where"),
        (Compare::Greater, 0.0, [1.0, 0.0], [-1.0, 0.0], "Where"),
    ] {
        let listing = canonical_of(|net, x| {
            let bound = net.scalar(threshold);
            let condition = net.op("condition", op, &[x, bound]);
            let line = |net: &mut Net, [slope, offset]: [f64; 2], name: &str| {
                let [slope, offset] = [slope, offset].map(|value| net.scalar(value));
                let product = net.op(&format!("{name}.product"), Binary::Mul, &[x, slope]);
                net.op(name, Binary::Add, &[product, offset])
            };
            let (chosen, other) = (line(net, chosen, "chosen"), line(net, other, "other"));
            net.op("y", Where, &[condition, chosen, other])
        });
        assert_eq!(
            listing.last().unwrap(),
            &format!("y: {expected}"),
            "{op:?} {threshold} {chosen:?} {other:?}"
        );
        assert_eq!(listing.len() == 3, expected != "Where", "{listing:?}");
    }
    // The value at 0 counts as well.
    let listing = canonical_of(|net, x| {
        let (zero, five) = (net.scalar(0.0), net.scalar(5.0));
        let relu = net.op("relu", Pointwise::Relu, &[x]);
        let condition = net.op("condition", Compare::Equal, &[x, zero]);
        net.op("y", Where, &[condition, five, relu])
    });
    assert_eq!(listing.last().unwrap(), "y: Where");
}

#[test]
fn constants_that_add_axes_are_no_zeros_of_a_rectifier() {
    // max(x, 0) with zeros of shape [2, 3, 6, 5] has a batch of its own.
    let listing = canonical_of(|net, x| {
        let zeros = net.b.constant("zeros", Tensor::zeros((2, 3, 6, 5), DType::F64, &Device::Cpu).unwrap());
        net.op("y", Binary::Max, &[x, zeros])
    });
    assert_eq!(listing.last().unwrap(), "y: Max");
    let listing = canonical_of(|net, x| {
        let zeros = net.b.constant("zeros", Tensor::zeros((1, 3, 6, 5), DType::F64, &Device::Cpu).unwrap());
        net.op("y", Binary::Max, &[x, zeros])
    });
    assert_eq!(listing.last().unwrap(), "y: Relu");
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
