use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, distance, random};
use crate::ops::{Backend, Operator};

/// `[n, c]` and up to two more axes.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    (1_usize..3, 1_usize..5, prop::collection::vec(1_usize..4, 0..3))
        .prop_map(|(n, c, rest)| [vec![n, c], rest].concat())
}

fn parameter(shape: &[usize], seed: u64) -> Tensor {
    random(shape, -1.5, 1.5, seed)
}

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]

    #[test]
    fn batch_norm(shape in shapes(), seed: u64) {
        let c = [shape[1]];
        let [x, scale, bias, mean] =
            [&shape[..], &c, &c, &c].map(|s| random(s, -1.5, 1.5, seed ^ s.len() as u64));
        let variance = random(&c, 0.2, 2.0, seed ^ 7);
        check(&BatchNorm { epsilon: 1e-3 }, &[x, scale, bias, mean, variance], &[true; 5], seed);
    }

    #[test]
    fn scale_shift(shape in shapes(), seed: u64) {
        let c = [shape[1]];
        let inputs = [random(&shape, -2.0, 2.0, seed), parameter(&c, seed ^ 1), parameter(&c, seed ^ 2)];
        check(&ScaleShift, &inputs, &[true; 3], seed);
    }

    #[test]
    fn layer_norm(shape in shapes(), axis in 1_usize..4, with_bias: bool, full: bool, seed: u64) {
        let axis = 1 + (axis - 1) % (shape.len() - 1);
        let tail: &[usize] = if full { &shape[axis..] } else { &[1] };
        let mut inputs = vec![random(&shape, -2.0, 2.0, seed), parameter(tail, seed ^ 1)];
        if with_bias {
            inputs.push(parameter(tail, seed ^ 2));
        }
        check(&LayerNorm { axis, epsilon: 0.05 }, &inputs, &vec![true; inputs.len()], seed);
    }

    #[test]
    fn group_norm(shape in shapes(), per_group in 1_usize..3, seed: u64) {
        let groups = shape[1];
        let mut shape = shape;
        shape[1] *= per_group;
        let c = [shape[1]];
        let inputs = [random(&shape, -2.0, 2.0, seed), parameter(&c, seed ^ 1), parameter(&c, seed ^ 2)];
        check(&GroupNorm { groups, epsilon: 0.05 }, &inputs, &[true; 3], seed);
        check(&InstanceNorm { epsilon: 0.05 }, &inputs, &[true; 3], seed);
    }

    #[test]
    fn local_response_norm(shape in shapes(), size in 1_usize..7, beta in 0.3_f64..1.5, seed: u64) {
        let op = LocalResponseNorm { size, alpha: 0.7, beta, bias: 1.2 };
        check(&op, &[random(&shape, -2.0, 2.0, seed)], &[true], seed);
    }
}

/// A long row, so that the vector part of the sums is used: mean 0 and variance 1.
#[test]
fn long_rows_are_standardised() {
    let x = random(&[3, 1000], -5.0, 9.0, 1);
    let one = Tensor::new(&[1.0_f64], &Device::Cpu).unwrap();
    let op = LayerNorm { axis: 1, epsilon: 0.0 };
    let y = op.forward(&[&x, &one], Backend::Auto).unwrap();
    assert!(distance(&y, &op.forward(&[&x, &one], Backend::Portable).unwrap()) < 1e-12);
    let zeros = Tensor::zeros(3, y.dtype(), y.device()).unwrap();
    assert!(distance(&y.mean(1).unwrap(), &zeros) < 1e-14);
    assert!(distance(&y.sqr().unwrap().mean(1).unwrap(), &zeros.ones_like().unwrap()) < 1e-13);
    let inputs = [x, one.clone(), one];
    check(&op, &inputs, &[true; 3], 5);
}

/// ONNX's definition in a naive implementation; a window of even size extends further to the following channels.
#[test]
fn even_local_response_window_leans_backwards() {
    let x = Tensor::new(&[[1.0_f64, 2.0, 3.0]], &Device::Cpu).unwrap();
    let op = LocalResponseNorm { size: 2, alpha: 2.0, beta: 1.0, bias: 1.0 };
    let y = op.forward(&[&x], Backend::Auto).unwrap();
    let expected = Tensor::new(&[[1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0]], &Device::Cpu).unwrap();
    assert!(distance(&y, &expected) < 1e-15, "{y}");
}

#[test]
fn bad_shapes_are_refused() {
    let message = |result: crate::Result<Vec<usize>>| result.unwrap_err().to_string();
    let batch = BatchNorm { epsilon: 0.0 };
    let error = message(batch.output_shape(&[&[2, 3, 4], &[3], &[3], &[3], &[4]]));
    assert!(error.contains("variance") && error.contains("[3]"), "{error}");
    let error = message(batch.output_shape(&[&[2, 3], &[3]]));
    assert!(error.contains("2 given"), "{error}");
    let error = message(ScaleShift.output_shape(&[&[5], &[5], &[5]]));
    assert!(error.contains("[N, C, …]"), "{error}");
    let layer = LayerNorm { axis: 2, epsilon: 0.0 };
    let error = message(layer.output_shape(&[&[2, 3], &[3]]));
    assert!(error.contains("axis"), "{error}");
    let error = message(layer.output_shape(&[&[2, 3, 4], &[3, 4]]));
    assert!(error.contains("scale"), "{error}");
    let error = message(GroupNorm { groups: 2, epsilon: 0.0 }.output_shape(&[&[1, 3, 2], &[3], &[3]]));
    assert!(error.contains("divisor of its 3"), "{error}");
    let error = message(InstanceNorm { epsilon: 0.0 }.output_shape(&[&[1, 3, 2], &[2], &[3]]));
    assert!(error.contains("scale"), "{error}");
    let op = LocalResponseNorm { size: 0, alpha: 1.0, beta: 1.0, bias: 1.0 };
    assert!(message(op.output_shape(&[&[1, 3, 2]])).contains("size"));
}
