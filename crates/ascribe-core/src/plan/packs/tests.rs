//! Layers whose transformed filters are not kept at once.

use candle_core::{DType, Tensor};

use super::super::tests::{Net, distance, numbers};
use super::{Part, Stored, Weights, is_heavy};
use crate::graph::{Graph, GraphBuilder};
use crate::inputs::Inputs;
use crate::model::Differentiable;
use crate::ops::{Backend, Linear, Pointwise, Reduce, ReduceFn, Window};
use crate::random;
use crate::target::Target;
use ascribe_kernels::{ConvParams, ConvShape};

const CHANNELS: usize = 368;

fn network() -> Graph {
    let mut net = Net { builder: GraphBuilder::new(), draw: random::stream(5, 0), names: 0 };
    let mut x = net.builder.input("x", &[Some(CHANNELS), Some(14), Some(14)]);
    for _ in 0..2 {
        x = net.conv(x, [CHANNELS, CHANNELS, 1], Window::new([3, 3]).padding([1, 1]));
        x = net.op(Pointwise::Relu, &[x]);
    }
    let mean = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false }, &[x]);
    let weight = net.normal(&[2, CHANNELS], 1.0);
    let weight = net.constant(weight);
    let y = net.op(Linear, &[mean, weight]);
    net.builder.finish(&[y]).unwrap()
}

#[test]
fn heavy_filters_give_the_same_numbers_kept_or_not() {
    let shape = ConvShape::new(ConvParams {
        in_channels: CHANNELS,
        out_channels: CHANNELS,
        input: [14, 14],
        kernel: [3, 3],
        padding: [1; 4],
        ..Default::default()
    });
    assert!(is_heavy(&shape.unwrap(), 2));
    let mut draw = random::stream(5, 1);
    let x = random::normal(&mut draw, &[9, CHANNELS, 14, 14], DType::F32, &candle_core::Device::Cpu).unwrap();
    let gradient = |graph: &Graph, x: &Tensor| {
        let rows = vec![0; x.dim(0).unwrap()];
        let x = Inputs::single(x.clone()).unwrap();
        graph.gradient(&x, &Target::Class(1), &rows).unwrap().values[0].clone()
    };
    // One row has few tiles of 2 × 2 pixels beside the channels, nine rows have many.
    let graph = network();
    let first = x.narrow(0, 0, 1).unwrap();
    let alone = gradient(&graph, &first);
    let all = gradient(&graph, &x);
    assert_eq!(numbers(&all.narrow(0, 0, 1).unwrap()), numbers(&alone));
    assert_eq!(numbers(&gradient(&graph, &first)), numbers(&alone));
    let exact = graph.to_dtype(DType::F64).unwrap().with_backend(Backend::Portable);
    let expected = gradient(&exact, &first.to_dtype(DType::F64).unwrap());
    assert!(distance(&alone, &expected) < 2e-5);
}

#[test]
fn parts_of_weights_are_read_where_they_lie() {
    let mut net = Net { builder: GraphBuilder::new(), draw: random::stream(6, 0), names: 0 };
    let x = net.builder.input("x", &[Some(2)]);
    let weight =
        net.constant(Tensor::new(&[[1.0_f32, -2.0], [-0.5, 3.0]], &candle_core::Device::Cpu).unwrap());
    let y = net.op(Linear, &[x, weight]);
    let graph = net.builder.finish(&[y]).unwrap();
    for (part, expected) in [
        (Part::All, [1.0, -2.0, -0.5, 3.0]),
        (Part::Positive, [1.0, 0.0, 0.0, 3.0]),
        (Part::Negative, [0.0, -2.0, -0.5, 0.0]),
    ] {
        let mut found = Vec::new();
        Stored::new(&graph, weight, part).unwrap().read(&mut |values| found = values.to_vec());
        assert_eq!(found, expected);
    }
}
