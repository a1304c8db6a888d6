//! Activations in all spellings of exporters and authors, and warnings about those that are not recognised.

mod spellings;

use ascribe_core::ops::{Binary, Compare, Linear, Op, Pointwise, Where};
use ascribe_core::{DType, Device, Explainer, Graph, GraphBuilder, Inputs, NodeId, Run, Target, Tensor};
use ascribe_gradient::{DeconvNet, GuidedBackprop, NoiseTunnel, Saliency};
use spellings::{Net, OTHERS, RELU, RELUS, Spelling};

const OFFSETS: [f64; 5] = [0.1, -0.4, 0.2, 0.3, -0.1];

/// Two hidden layers with five values, each followed by the activation.
fn graph(activation: Spelling) -> Graph {
    let mut net = Net(GraphBuilder::new());
    let x = net.0.input("x", &[Some(3)]);
    let mut value = x;
    for (layer, inputs) in [(0_usize, 3_usize), (1, 5)] {
        let weights: Vec<f64> =
            (0..5 * inputs).map(|i| ((i * 7 + layer * 3) % 11) as f64 / 5.0 - 1.0).collect();
        let weight = Tensor::from_vec(weights, (5, inputs), &Device::Cpu).unwrap();
        let bias = Tensor::new(&OFFSETS, &Device::Cpu).unwrap();
        let [weight, bias] = [weight, bias].map(|value| net.0.constant("", value));
        value = net.0.op(&format!("fc{layer}"), Linear, &[value, weight, bias]).unwrap();
        value = activation(&mut net, value);
    }
    let weight = net.0.constant("", Tensor::new(&[[1.0, -1.0, 0.5, 2.0, -0.7]], &Device::Cpu).unwrap());
    let y = net.op(Linear, &[value, weight]);
    net.0.finish(&[y]).unwrap()
}

fn inputs() -> Inputs {
    let rows = [[0.3, -0.8, 0.5], [1.2, 0.4, -0.9], [-0.6, -0.2, 0.1], [0.9, 1.1, 0.7]];
    Inputs::single(Tensor::new(&rows, &Device::Cpu).unwrap()).unwrap()
}

fn explain(method: &impl Explainer<Graph>, activation: Spelling) -> (Vec<f64>, Vec<String>) {
    let found = method.explain(&graph(activation), &inputs(), &Target::Class(0), &Run::new()).unwrap();
    let values = found.values().flatten_all().unwrap().to_vec1().unwrap();
    (values, found.provenance.warnings)
}

fn assert_same(name: &str, method: &impl Explainer<Graph>, plain: Spelling, spelled: Spelling) {
    let (expected, quiet) = explain(method, plain);
    let (values, warnings) = explain(method, spelled);
    assert!(quiet.is_empty() && warnings.is_empty(), "{name}: {quiet:?} {warnings:?}");
    assert!(expected.iter().any(|v| *v != 0.0));
    for (a, b) in values.iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{name}: {values:?}, expected {expected:?}");
    }
}

#[test]
fn all_spellings_of_relu_give_the_same() {
    for (name, spelled) in RELUS {
        assert_same(name, &GuidedBackprop::default(), RELU, *spelled);
        assert_same(name, &DeconvNet::default(), RELU, *spelled);
    }
}

#[test]
fn maximum_and_minimum_are_one_clip() {
    let plain: Spelling = |n, v| n.op(Pointwise::Clip { low: Some(0.0), high: Some(0.5) }, &[v]);
    let spelled: Spelling = |n, v| {
        let open = n.with(Binary::Max, v, 0.0);
        n.with(Binary::Min, open, 0.5)
    };
    assert_same("min(max(v, 0), 0.5)", &GuidedBackprop::default(), plain, spelled);
    assert_same("min(max(v, 0), 0.5)", &DeconvNet::default(), plain, spelled);
    let spelled: Spelling = |n, v| {
        let low = n.with(Binary::Min, v, 0.5);
        n.op(Pointwise::Relu, &[low])
    };
    let (expected, _) = explain(&GuidedBackprop::default(), plain);
    assert_eq!(explain(&GuidedBackprop::default(), spelled).0, expected);
}

#[test]
fn all_spellings_of_other_rectifiers_give_the_same() {
    for (name, plain, spelled) in OTHERS {
        assert_same(name, &GuidedBackprop::default(), *plain, *spelled);
    }
}

#[test]
fn the_quick_gelu_is_a_rectifier() {
    // y = 2 q(x) − 3 q(−x) with q(x) = x σ(1.702 x): the signal 2 passes, the signal −3 does not.
    let mut net = Net(GraphBuilder::new());
    let x = net.0.input("x", &[Some(1)]);
    let [w, v] = [Tensor::new(&[[1.0], [-1.0]], &Device::Cpu), Tensor::new(&[[2.0, -3.0]], &Device::Cpu)]
        .map(|value| net.0.constant("", value.unwrap()));
    let h = net.op(Linear, &[x, w]);
    let scaled = net.with(Binary::Mul, h, 1.702);
    let gate = net.op(Pointwise::Sigmoid, &[scaled]);
    let q = net.op(Binary::Mul, &[h, gate]);
    let y = net.op(Linear, &[q, v]);
    let graph = net.0.finish(&[y]).unwrap();
    for at in [0.7_f64, -0.3] {
        let x = Inputs::single(Tensor::new(&[[at]], &Device::Cpu).unwrap()).unwrap();
        let found = GuidedBackprop::default().explain(&graph, &x, &Target::Class(0), &Run::new()).unwrap();
        let sigmoid = 1.0 / (1.0 + (-1.702 * at).exp());
        let derivative = sigmoid + 1.702 * at * sigmoid * (1.0 - sigmoid);
        let value = found.values().to_vec2::<f64>().unwrap()[0][0];
        assert!((value - 2.0 * derivative).abs() < 1e-12, "{value}, expected {}", 2.0 * derivative);
        assert!(found.provenance.warnings.is_empty());
    }
}

type Suspect = fn(&mut Net, NodeId) -> (Op, Vec<NodeId>);

/// A network with these operators between two layers; the last one is named `suspect`.
fn suspicious(last: Suspect) -> Graph {
    let mut net = Net(GraphBuilder::new());
    let x = net.0.input("x", &[Some(3)]);
    let w = net.0.constant("", Tensor::ones((4, 3), DType::F64, &Device::Cpu).unwrap());
    let h = net.op(Linear, &[x, w]);
    let (op, operands) = last(&mut net, h);
    let y = net.0.op("suspect", op, &operands).unwrap();
    let v = net.0.constant("", Tensor::ones((1, 4), DType::F64, &Device::Cpu).unwrap());
    let y = net.op(Linear, &[y, v]);
    net.0.finish(&[y]).unwrap()
}

fn warnings_of(method: &impl Explainer<Graph>, last: Suspect) -> Vec<String> {
    let found = method.explain(&suspicious(last), &inputs(), &Target::Class(0), &Run::new()).unwrap();
    found.provenance.warnings
}

fn warnings(last: Suspect) -> Vec<String> {
    warnings_of(&GuidedBackprop::default(), last)
}

#[test]
fn methods_on_the_rules_of_rectifiers_warn_and_others_do_not() {
    let threshold: Suspect = |n, v| {
        let (open, zero) = (n.compare(Compare::Greater, v, 0.5), n.number(0.0));
        (Where.into(), vec![open, v, zero])
    };
    let named = |warnings: Vec<String>| warnings.len() == 1 && warnings[0].contains("'suspect' (Where)");
    assert!(named(warnings_of(&DeconvNet::default(), threshold)));
    assert!(named(warnings_of(&NoiseTunnel::smooth_grad(GuidedBackprop::default()).samples(3), threshold)));
    assert!(warnings_of(&Saliency::default(), threshold).is_empty());
}

#[test]
fn what_may_be_a_rectifier_and_is_not_recognised_is_named() {
    let suspects: [(&str, Suspect); 9] = [
        ("where(v > 0.5, v, 0)", |n, v| {
            let (open, zero) = (n.compare(Compare::Greater, v, 0.5), n.number(0.0));
            (Where.into(), vec![open, v, zero])
        }),
        ("where(v > 0, 2 v, 0)", |n, v| {
            let (open, zero) = (n.compare(Compare::Greater, v, 0.0), n.number(0.0));
            let twice = n.with(Binary::Mul, v, 2.0);
            (Where.into(), vec![open, twice, zero])
        }),
        ("v * (|v| > 0.1)", |n, v| {
            let size = n.op(Pointwise::Abs, &[v]);
            let large = n.compare(Compare::Greater, size, 0.1);
            let large = n.cast(large);
            (Binary::Mul.into(), vec![large, v])
        }),
        ("exp(v) * (v > 0)", |n, v| {
            let open = n.compare(Compare::Greater, v, 0.0);
            let (open, e) = (n.cast(open), n.op(Pointwise::Exp, &[v]));
            (Binary::Mul.into(), vec![e, open])
        }),
        ("v * sigmoid(v + 1)", |n, v| {
            let shifted = n.with(Binary::Add, v, 1.0);
            let gate = n.op(Pointwise::Sigmoid, &[shifted]);
            (Binary::Mul.into(), vec![v, gate])
        }),
        ("v * tanh(v)", |n, v| {
            let gate = n.op(Pointwise::Tanh, &[v]);
            (Binary::Mul.into(), vec![v, gate])
        }),
        ("max(v, v²)", |n, v| {
            let square = n.op(Binary::Mul, &[v, v]);
            (Binary::Max.into(), vec![v, square])
        }),
        ("min(v, 0)", |n, v| {
            let zero = n.number(0.0);
            (Binary::Min.into(), vec![v, zero])
        }),
        ("clip(v, -1)", |_, v| (Pointwise::Clip { low: Some(-1.0), high: None }.into(), vec![v])),
    ];
    for (name, suspect) in suspects {
        let warnings = warnings(suspect);
        assert!(warnings.len() == 1 && warnings[0].contains("'suspect'"), "{name}: {warnings:?}");
    }
}

#[test]
fn gates_of_other_values_and_bounded_functions_are_no_suspects() {
    let others: [(&str, Suspect); 5] = [
        ("sigmoid", |_, v| (Pointwise::Sigmoid.into(), vec![v])),
        ("clip to [-1, 1]", |_, v| (Pointwise::Clip { low: Some(-1.0), high: Some(1.0) }.into(), vec![v])),
        ("gate from a layer", |n, v| {
            let w = n.0.constant("", Tensor::ones((4, 4), DType::F64, &Device::Cpu).unwrap());
            let gate = n.op(Linear, &[v, w]);
            let gate = n.op(Pointwise::Sigmoid, &[gate]);
            (Binary::Mul.into(), vec![v, gate])
        }),
        ("square", |_, v| (Binary::Mul.into(), vec![v, v])),
        ("v / max(|v|, 1e-6)", |n, v| {
            let size = n.op(Pointwise::Abs, &[v]);
            let size = n.with(Binary::Max, size, 1e-6);
            (Binary::Div.into(), vec![v, size])
        }),
    ];
    for (name, other) in others {
        assert_eq!(warnings(other), Vec::<String>::new(), "{name}");
    }
}
