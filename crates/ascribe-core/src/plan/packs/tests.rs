//! Layers whose transformed filters are not kept from the start.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::super::tests::{Net, distance, numbers};
use super::{Part, Stored, Weights, is_heavy};
use crate::graph::{Graph, GraphBuilder};
use crate::inputs::Inputs;
use crate::model::Differentiable;
use crate::ops::{Backend, Linear, Pointwise, Reduce, ReduceFn, Window};
use crate::random;
use crate::run::Run;
use crate::target::Target;
use ascribe_kernels::{ConvParams, ConvShape};

fn network(channels: usize) -> Graph {
    let mut net =
        Net { builder: GraphBuilder::new(), draw: random::stream(5, random::Domain::DATA, 0), names: 0 };
    let mut x = net.builder.input("x", &[Some(channels), Some(14), Some(14)]);
    for _ in 0..2 {
        x = net.conv(x, [channels, channels, 1], Window::new([3, 3]).padding([1, 1]));
        x = net.op(Pointwise::Relu, &[x]);
    }
    let mean = net.op(Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false }, &[x]);
    let weight = net.normal(&[2, channels], 1.0);
    let weight = net.constant(weight);
    let y = net.op(Linear, &[mean, weight]);
    net.builder.finish(&[y]).unwrap()
}

fn picture(rows: usize, channels: usize) -> Tensor {
    let shape = [rows, channels, 14, 14];
    random::normal(&mut random::stream(5, random::Domain::DATA, 1), &shape, DType::F32, &Device::Cpu).unwrap()
}

fn gradient(graph: &Graph, x: &Tensor) -> Tensor {
    let rows = vec![0; x.dim(0).unwrap()];
    let x = Inputs::single(x.clone()).unwrap();
    graph.gradient(&x, &Target::Class(1), &rows).unwrap().values[0].clone()
}

#[test]
fn heavy_filters_give_the_same_numbers_kept_or_not() {
    let channels = 368;
    let shape = ConvShape::new(ConvParams {
        in_channels: channels,
        out_channels: channels,
        input: [14, 14],
        kernel: [3, 3],
        padding: [1; 4],
        ..Default::default()
    });
    assert!(is_heavy(&shape.unwrap(), 2));
    // One row has few tiles of 2 × 2 pixels compared with the number of channels, nine rows have many.
    let (graph, x) = (network(channels), picture(9, channels));
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
fn many_threads_can_be_the_first_to_need_weights() {
    let x = picture(16, 48);
    for round in 0..4 {
        // While a rayon thread waits in one explanation, it may run a part of another one.
        let graph = network(48);
        let row = |at: usize| numbers(&gradient(&graph, &x.narrow(0, at, 1).unwrap()));
        let run = Run::new().threads(1 + round);
        let found = run.install(|| Ok((0..16).into_par_iter().map(row).collect::<Vec<_>>())).unwrap();
        assert_eq!(found.concat(), numbers(&gradient(&graph, &x)));
    }
}

#[test]
fn parts_of_weights_are_those_of_their_signs() {
    let mut net =
        Net { builder: GraphBuilder::new(), draw: random::stream(6, random::Domain::DATA, 0), names: 0 };
    let x = net.builder.input("x", &[Some(2)]);
    let weight = net.constant(Tensor::new(&[[1.0_f32, -2.0], [-0.5, 3.0]], &Device::Cpu).unwrap());
    let y = net.op(Linear, &[x, weight]);
    let graph = net.builder.finish(&[y]).unwrap();
    for (part, expected) in [
        (Part::All, [1.0, -2.0, -0.5, 3.0]),
        (Part::Positive, [1.0, 0.0, 0.0, 3.0]),
        (Part::Negative, [0.0, -2.0, -0.5, 0.0]),
    ] {
        let stored = Stored::new(&graph, weight, part).unwrap();
        assert_eq!(stored.with(|values| Ok(values.to_vec())).unwrap(), expected);
        let (mut read, [low, high]) = (Vec::new(), stored.bounds());
        stored.read(&mut |values| read = values.iter().map(|v| v.clamp(low, high)).collect());
        assert_eq!(read, expected);
    }
}

#[test]
fn what_is_no_number_stays_none_in_every_part() {
    for part in [Part::All, Part::Positive, Part::Negative] {
        let found = part.of(&[f32::NAN, 2.0, -3.0]);
        assert!(found[0].is_nan() && found[1..].iter().all(|v| v.is_finite()), "{part:?}: {found:?}");
    }
}
