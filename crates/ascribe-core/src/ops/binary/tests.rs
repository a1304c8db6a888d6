//! Tests of arithmetic on two tensors.

use candle_core::Device;
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, distance, random};

const ALL: [Binary; 7] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Pow];

fn thin(shape: &[usize], mask: u8) -> Vec<usize> {
    shape.iter().enumerate().map(|(i, &side)| if mask >> i & 1 == 1 { 1 } else { side }).collect()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]
    #[test]
    fn derivatives_with_broadcasting(
        shape in prop::collection::vec(1_usize..4, 1..5),
        masks in any::<[u8; 2]>(),
        drop in 0_usize..3,
        swap in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let a = random(&thin(&shape, masks[0]), 0.2, 2.0, seed);
        let b = random(&thin(&shape[drop.min(shape.len())..], masks[1]), 0.2, 2.0, seed ^ 1);
        let operands = if swap { [b, a] } else { [a, b] };
        for op in ALL {
            check(&op, &operands, &[true, true], seed);
        }
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(24))]
    #[test]
    fn remainders(length in 1_usize..6, steps in -3_i32..4, negative: bool, seed: u64) {
        // Quotients between integers, where remainders are differentiable.
        let divisor = random(&[2, 1], 0.5, 2.0, seed);
        let divisor = if negative { divisor.neg().unwrap() } else { divisor };
        let quotient = (random(&[1, length], 0.1, 0.9, seed ^ 1) + f64::from(steps)).unwrap();
        let a = quotient.broadcast_mul(&divisor).unwrap();
        for op in [Binary::Mod, Binary::Remainder] {
            check(&op, &[a.clone(), divisor.clone()], &[true, true], seed);
        }
    }
}

#[test]
fn remainders_have_the_sign_of_the_divisor_or_of_the_dividend() {
    for backend in [Backend::Auto, Backend::Portable] {
        assert_eq!(at(Binary::Mod, -5.0, 3.0, backend), [1.0, 1.0, 2.0]);
        assert_eq!(at(Binary::Remainder, -5.0, 3.0, backend), [-2.0, 1.0, 1.0]);
        assert_eq!(at(Binary::Mod, 5.5, -3.0, backend), [-0.5, 1.0, 2.0]);
        assert_eq!(at(Binary::Remainder, 5.5, -3.0, backend), [2.5, 1.0, 1.0]);
    }
    let a = Tensor::new(&[-5_i64, 5, 6], &Device::Cpu).unwrap();
    let b = Tensor::new(&[3_i64, -3, 0], &Device::Cpu).unwrap();
    let two = |op: Binary| {
        let (a, b) = (a.narrow(0, 0, 2).unwrap(), b.narrow(0, 0, 2).unwrap());
        op.forward(&[&a, &b], Backend::Auto).unwrap().to_vec1::<i64>().unwrap()
    };
    assert_eq!(two(Binary::Mod), [1, -1]);
    assert_eq!(two(Binary::Remainder), [-2, 2]);
    assert!(Binary::Mod.forward(&[&a, &b], Backend::Auto).is_err());
}

/// Value and both gradients for one pair.
fn at(op: Binary, a: f64, b: f64, backend: Backend) -> [f64; 3] {
    let (a, b) = (Tensor::new(&[a], &Device::Cpu).unwrap(), Tensor::new(&[b], &Device::Cpu).unwrap());
    let y = op.forward(&[&a, &b], backend).unwrap();
    let grad = y.ones_like().unwrap();
    let inputs = [&a, &b];
    let args = Vjp { inputs: &inputs, output: &y, grad: &grad, needs: &[true, true], backend };
    let grads = op.vjp(&args).unwrap();
    let number = |t: &Tensor| t.to_vec1::<f64>().unwrap()[0];
    [number(&y), number(grads[0].as_ref().unwrap()), number(grads[1].as_ref().unwrap())]
}

#[test]
fn equal_operands_share_the_gradient() {
    for backend in [Backend::Auto, Backend::Portable] {
        assert_eq!(at(Binary::Max, 2.0, 2.0, backend), [2.0, 0.5, 0.5]);
        assert_eq!(at(Binary::Min, 2.0, 2.0, backend), [2.0, 0.5, 0.5]);
        assert_eq!(at(Binary::Max, 3.0, 2.0, backend), [3.0, 1.0, 0.0]);
        assert_eq!(at(Binary::Min, 3.0, 2.0, backend), [2.0, 0.0, 1.0]);
    }
}

#[test]
fn powers_of_zero_and_of_negative_numbers() {
    for backend in [Backend::Auto, Backend::Portable] {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(at(Binary::Pow, -2.0, 3.0, backend)[0], -8.0));
        assert!(close(at(Binary::Pow, -2.0, 3.0, backend)[1], 12.0));
        assert!(close(at(Binary::Pow, -2.0, 2.0, backend)[0], 4.0));
        assert!(close(at(Binary::Pow, -2.0, -2.0, backend)[0], 0.25));
        assert!(at(Binary::Pow, -2.0, 0.5, backend)[0].is_nan());
        assert_eq!(at(Binary::Pow, 0.0, 2.0, backend), [0.0, 0.0, 0.0]);
        assert_eq!(at(Binary::Pow, 0.0, 0.0, backend)[..2], [1.0, 0.0]);
        assert_eq!(at(Binary::Pow, 0.0, 1.0, backend)[1], 1.0);
    }
}

#[test]
fn large_tensors_cross_task_borders() {
    let (a, b) = (random(&[3, 40, 50, 20], 0.5, 2.0, 1), random(&[40, 1, 1], 0.5, 2.0, 2));
    for op in ALL {
        let fast = op.forward(&[&a, &b], Backend::Auto).unwrap();
        let slow = op.forward(&[&a, &b], Backend::Portable).unwrap();
        assert!(distance(&fast, &slow) < 1e-13, "{op:?}");
    }
}

#[test]
fn integers_behave_as_in_onnx() {
    let integers = |values: &[i64]| Tensor::new(values, &Device::Cpu).unwrap();
    let (a, b) = (integers(&[7, -7, i64::MAX]), integers(&[2]));
    let of = |op: Binary| op.forward(&[&a, &b], Backend::Auto).unwrap().to_vec1::<i64>().unwrap();
    assert_eq!(of(Binary::Add), [9, -5, i64::MIN + 1]);
    assert_eq!(of(Binary::Sub), [5, -9, i64::MAX - 2]);
    assert_eq!(of(Binary::Mul), [14, -14, -2]);
    assert_eq!(of(Binary::Div), [3, -3, i64::MAX / 2]);
    assert_eq!(of(Binary::Max), [7, 2, i64::MAX]);
    assert_eq!(of(Binary::Min), [2, -7, 2]);
    assert_eq!(of(Binary::Pow), [49, 49, 1]);
    let bytes = a.to_dtype(DType::U8).unwrap();
    assert_eq!(Binary::Add.forward(&[&bytes, &bytes], Backend::Auto).unwrap().dtype(), DType::U8);
    let message =
        |op: Binary, b: i64| op.forward(&[&a, &integers(&[b])], Backend::Auto).unwrap_err().to_string();
    assert!(message(Binary::Div, 0).contains("divisor: is 0"));
    assert!(message(Binary::Pow, -1).contains("exponent: -1"));
}

#[test]
fn wrong_operands_are_named() {
    let message = Binary::Add.output_shape(&[&[2, 3], &[4]]).unwrap_err().to_string();
    assert!(message.contains("[2, 3] and [4]"), "{message}");
    let (a, b) = (random(&[2], 0.0, 1.0, 1), Tensor::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap());
    assert!(Binary::Add.forward(&[&a, &b], Backend::Auto).unwrap_err().to_string().contains("F64 and F32"));
}

#[test]
fn kinds_depend_on_what_is_dynamic() {
    let both = [true, true];
    assert_eq!(Binary::Add.kind(&both), Kind::Sum);
    assert_eq!(Binary::Mul.kind(&both), Kind::Product);
    assert_eq!(Binary::Max.kind(&both), Kind::MaxPool);
    assert_eq!(Binary::Mul.kind(&[false, true]), Kind::Affine);
    assert_eq!(Binary::Mul.slot(0, &[false, true]), Slot::Weight);
    assert_eq!(Binary::Div.kind(&[true, false]), Kind::Affine);
    assert_eq!(Binary::Div.kind(&[false, true]), Kind::Activation);
}
