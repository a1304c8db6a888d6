//! Small networks and comparisons shared by the integration tests.
#![allow(dead_code)] // not every test file needs everything

use ascribe_core::ops::{Binary, Conv, Linear, Pointwise, Reduce, ReduceFn, Window};
use ascribe_core::{DType, Device, Graph, GraphBuilder, Inputs, Result, Tensor, random};

/// Standard normal values.
pub fn normal(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    random::normal(&mut random::stream(seed, random::Domain::DATA, 0), shape, dtype, &Device::Cpu).unwrap()
}

/// Largest absolute difference.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// All values.
pub fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Whether two tensors are bit-identical.
pub fn same(a: &Tensor, b: &Tensor) -> bool {
    let bits = |t: &Tensor| numbers(t).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    a.dims() == b.dims() && bits(a) == bits(b)
}

/// A residual network on `[N, 3, side, side]` with five classes:
/// `fc(mean(relu2(relu1(conv1(x)) + conv2(relu1))))`.
pub fn residual(channels: usize, dtype: DType) -> Graph {
    build(channels, dtype).unwrap()
}

fn build(channels: usize, dtype: DType) -> Result<Graph> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3), None, None]);
    let mut parameter = {
        let mut seed = 100;
        move |shape: &[usize]| {
            seed += 1;
            let fan_in: usize = shape[1..].iter().product();
            let scale = (2.0 / fan_in.max(2) as f64).sqrt();
            (normal(shape, seed, DType::F64) * scale)?.to_dtype(dtype)
        }
    };
    let conv = || Conv { window: Window::new([3, 3]).padding([1, 1]), groups: 1 };
    let weight = b.constant("conv1.weight", parameter(&[channels, 3, 3, 3])?);
    let bias = b.constant("conv1.bias", parameter(&[channels])?);
    let conv1 = b.op("conv1", conv(), &[x, weight, bias])?;
    let relu1 = b.op("relu1", Pointwise::Relu, &[conv1])?;
    let weight = b.constant("conv2.weight", parameter(&[channels, channels, 3, 3])?);
    let bias = b.constant("conv2.bias", parameter(&[channels])?);
    let conv2 = b.op("conv2", conv(), &[relu1, weight, bias])?;
    let sum = b.op("add", Binary::Add, &[relu1, conv2])?;
    let relu2 = b.op("relu2", Pointwise::Relu, &[sum])?;
    let mean = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: false };
    let pooled = b.op("pool", mean, &[relu2])?;
    let weight = b.constant("fc.weight", parameter(&[5, channels])?);
    let bias = b.constant("fc.bias", parameter(&[5])?);
    let fc = b.op("fc", Linear, &[pooled, weight, bias])?;
    b.finish(&[fc])
}

/// A batch of random images.
pub fn pictures(batch: usize, side: usize, dtype: DType) -> Inputs {
    Inputs::single(normal(&[batch, 3, side, side], 7, dtype)).unwrap()
}

/// The value of the only input.
pub fn value(x: &Inputs) -> Tensor {
    x.iter().next().unwrap().value.clone()
}
