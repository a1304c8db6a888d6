use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};

const ALL: [ReduceFn; 7] = [
    ReduceFn::Sum,
    ReduceFn::Mean,
    ReduceFn::Max,
    ReduceFn::Min,
    ReduceFn::L2,
    ReduceFn::Prod,
    ReduceFn::LogSumExp,
];

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]
    #[test]
    fn derivatives(
        shape in prop::collection::vec(1_usize..5, 1..5),
        mask in any::<u8>(),
        keep in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let axes: Vec<usize> = (0..shape.len()).filter(|i| mask >> i & 1 == 1).rev().collect();
        for function in ALL {
            check(&Reduce { function, axes: axes.clone(), keep }, &[random(&shape, 0.1, 2.0, seed)], &[true], seed);
        }
    }
}

fn gradient(function: ReduceFn, values: &[f64]) -> Vec<f64> {
    let op = Reduce { function, axes: vec![1], keep: false };
    let x = Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
    let y = op.forward(&[&x], Backend::Auto).unwrap();
    let grad = y.ones_like().unwrap();
    let args = Vjp { inputs: &[&x], output: &y, grad: &grad, needs: &[true], backend: Backend::Auto };
    op.vjp(&args).unwrap()[0].clone().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn ties_share_the_gradient() {
    assert_eq!(gradient(ReduceFn::Max, &[1.0, 3.0, 3.0]), [0.0, 0.5, 0.5]);
    assert_eq!(gradient(ReduceFn::Min, &[1.0, 3.0, 1.0]), [0.5, 0.0, 0.5]);
}

#[test]
fn the_norm_has_gradient_zero_at_zero() {
    assert_eq!(gradient(ReduceFn::L2, &[0.0, 0.0]), [0.0, 0.0]);
    let unit = gradient(ReduceFn::L2, &[3.0, 4.0]);
    assert!((unit[0] - 0.6).abs() < 1e-15 && (unit[1] - 0.8).abs() < 1e-15);
}

#[test]
fn a_factor_of_zero_keeps_the_gradient_of_the_zero() {
    assert_eq!(gradient(ReduceFn::Prod, &[2.0, 0.0, 5.0]), [0.0, 10.0, 0.0]);
    assert_eq!(gradient(ReduceFn::Prod, &[2.0, 0.0, 0.0]), [0.0, 0.0, 0.0]);
    assert_eq!(gradient(ReduceFn::Prod, &[2.0, 3.0, 4.0]), [12.0, 8.0, 6.0]);
}

#[test]
fn the_logarithm_of_a_sum_of_exponentials_does_not_overflow() {
    let op = Reduce { function: ReduceFn::LogSumExp, axes: vec![1], keep: false };
    let low = f64::NEG_INFINITY;
    let x = Tensor::new(&[[1e4, 1e4], [-1e4, -1e4], [low, 3.0], [low, low]], &Device::Cpu).unwrap();
    let ln_2 = std::f64::consts::LN_2;
    for backend in [Backend::Auto, Backend::Portable] {
        let y = op.forward(&[&x], backend).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(y, [1e4 + ln_2, -1e4 + ln_2, 3.0, low]);
    }
    assert_eq!(gradient(ReduceFn::LogSumExp, &[low, 3.0]), [0.0, 1.0]);
    assert_eq!(gradient(ReduceFn::LogSumExp, &[low, low]), [0.0, 0.0]);
    let shares = gradient(ReduceFn::LogSumExp, &[1e4, 1e4]);
    assert!(shares.iter().all(|share| (share - 0.5).abs() < 1e-12), "{shares:?}");
}

#[test]
fn many_values_sum_accurately_in_f32() {
    let x = Tensor::full(0.1_f32, (1, 1 << 20), &Device::Cpu).unwrap();
    let op = Reduce { function: ReduceFn::Sum, axes: vec![1], keep: false };
    let sum = op.forward(&[&x], Backend::Auto).unwrap().to_vec1::<f32>().unwrap()[0];
    assert!((f64::from(sum) - f64::from(0.1_f32) * f64::from(1 << 20)).abs() < 0.01, "{sum}");
}

#[test]
fn integers_have_no_mean() {
    let x = Tensor::new(&[[3_i64, 4]], &Device::Cpu).unwrap();
    let of = |function| Reduce { function, axes: vec![1], keep: false }.forward(&[&x], Backend::Auto);
    assert_eq!(of(ReduceFn::Max).unwrap().to_vec1::<i64>().unwrap(), [4]);
    assert_eq!(of(ReduceFn::Sum).unwrap().to_vec1::<i64>().unwrap(), [7]);
    assert!(of(ReduceFn::Mean).unwrap_err().to_string().contains("I64"));
}

#[test]
fn wrong_axes_are_named() {
    let op = Reduce { function: ReduceFn::Mean, axes: vec![0, 4], keep: true };
    let message = op.output_shape(&[&[1, 2, 3]]).unwrap_err().to_string();
    assert!(message.contains("axes: [0, 4]"), "{message}");
    let op = Reduce { function: ReduceFn::Mean, axes: vec![1, 1], keep: true };
    assert!(op.output_shape(&[&[1, 2, 3]]).is_err());
}
