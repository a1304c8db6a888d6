use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};
use crate::ops::{Backend, Operator, Vjp};

/// Values that all differ by much more than the step of the finite differences, in random order.
fn distinct(shape: &[usize], seed: u64) -> Tensor {
    let draws: Vec<f64> = random(shape, 0.0, 1.0, seed).flatten_all().unwrap().to_vec1().unwrap();
    let mut order: Vec<usize> = (0..draws.len()).collect();
    order.sort_by(|&a, &b| draws[a].total_cmp(&draws[b]));
    let mut values = vec![0.0; draws.len()];
    for (rank, at) in order.into_iter().enumerate() {
        values[at] = rank as f64 / draws.len() as f64 - 0.6;
    }
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

prop_compose! {
    fn windows()(
        kernel in prop::array::uniform2(1_usize..4),
        stride in prop::array::uniform2(1_usize..4),
        dilation in prop::array::uniform2(1_usize..3),
        fractions in prop::array::uniform4(0_usize..4),
        ceil_mode: bool,
    ) -> Window {
        let extent = |axis: usize| dilation[axis] * (kernel[axis] - 1) + 1;
        let padding = std::array::from_fn(|i| fractions[i] % extent(i % 2));
        Window { kernel, stride, dilation, padding, ceil_mode }
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]

    #[test]
    fn max_pool(window in windows(), n in 1_usize..3, h in 3_usize..8, w in 3_usize..8, seed: u64) {
        let op = MaxPool { window };
        let shape = [n, 2, h, w];
        prop_assume!(op.output_shape(&[&shape]).is_ok());
        check(&op, &[distinct(&shape, seed)], &[true], seed);
    }

    #[test]
    fn average_pool(window in windows(), count_include_pad: bool, h in 3_usize..8, w in 3_usize..8, seed: u64) {
        let op = AveragePool { window, count_include_pad };
        let shape = [2, 2, h, w];
        prop_assume!(op.output_shape(&[&shape]).is_ok());
        check(&op, &[random(&shape, -1.0, 1.0, seed)], &[true], seed);
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(24))]

    #[test]
    fn one_dimension(mut window in windows(), length in 4_usize..9, seed: u64) {
        window.kernel[0] = 1;
        window.dilation[0] = 1;
        [window.padding[0], window.padding[2]] = [0, 0];
        let x = distinct(&[2, 2, length], seed);
        let max = MaxPool { window };
        if max.output_shape(&[x.dims()]).is_ok() {
            check(&max, std::slice::from_ref(&x), &[true], seed);
        }
        let average = AveragePool { window, count_include_pad: true };
        if average.output_shape(&[x.dims()]).is_ok() {
            check(&average, &[x], &[true], seed);
        }
    }

    #[test]
    fn adaptive(h in 1_usize..7, w in 1_usize..7, output in prop::array::uniform2(1_usize..6), seed: u64) {
        check(&AdaptiveAveragePool { output }, &[random(&[2, 3, h, w], -1.0, 1.0, seed)], &[true], seed);
        let line = AdaptiveAveragePool { output: [1, output[1]] };
        check(&line, &[random(&[2, 3, w], -1.0, 1.0, seed)], &[true], seed);
    }
}

fn image(values: &[f64], h: usize, w: usize) -> Tensor {
    Tensor::from_slice(values, (1, 1, h, w), &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

const BACKENDS: [Backend; 2] = [Backend::Auto, Backend::Portable];

#[test]
fn first_maximum_takes_the_gradient() {
    let x = image(&[1.0, 7.0, 7.0, 7.0, 7.0, 2.0], 2, 3);
    let op = MaxPool { window: Window::new([2, 2]) };
    for backend in BACKENDS {
        let output = op.forward(&[&x], backend).unwrap();
        let grad = image(&[1.0, 10.0], 1, 2);
        let grads =
            op.vjp(&Vjp { inputs: &[&x], output: &output, grad: &grad, needs: &[true], backend }).unwrap();
        assert_eq!(flat(grads[0].as_ref().unwrap()), [0.0, 11.0, 0.0, 0.0, 0.0, 0.0], "{backend:?}");
    }
}

#[test]
fn nan_wins_and_minus_infinity_stays_within_the_input() {
    let window = Window { padding: [1, 1, 0, 0], ..Window::new([2, 2]) };
    let op = MaxPool { window };
    let low = f64::NEG_INFINITY;
    let x = image(&[low, 5.0, f64::NAN, 9.0], 2, 2);
    for backend in BACKENDS {
        let y = op.forward(&[&x], backend).unwrap();
        let values = flat(&y);
        assert_eq!(values[..2], [low, 5.0], "{backend:?}");
        assert!(values[2..].iter().all(|v| v.is_nan()), "{backend:?}: {values:?}");
        let grad = image(&[1.0, 0.0, 0.0, 0.0], 2, 2);
        let grads = op.vjp(&Vjp { inputs: &[&x], output: &y, grad: &grad, needs: &[true], backend }).unwrap();
        assert_eq!(flat(grads[0].as_ref().unwrap()), [1.0, 0.0, 0.0, 0.0], "{backend:?}");
    }
}

/// Values of `torch.nn.functional.avg_pool2d` on `arange(1..=12).reshape(3, 4)`.
#[test]
fn average_pool_divides_as_pytorch_does() {
    let x = image(&(1..=12).map(f64::from).collect::<Vec<_>>(), 3, 4);
    let window = Window { ceil_mode: true, ..Window::new([2, 3]).stride([2, 2]).padding([1, 1]) };
    for backend in BACKENDS {
        let pool = |count_include_pad| {
            let op = AveragePool { window, count_include_pad };
            flat(&op.forward(&[&x], backend).unwrap())
        };
        let close = |a: Vec<f64>, b: &[f64]| {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{backend:?}: {a:?}");
        };
        close(pool(true), &[0.5, 1.5, 1.0, 5.0, 9.0, 5.0]);
        close(pool(false), &[1.5, 3.0, 4.0, 7.5, 9.0, 10.0]);
    }
}

/// In ceil mode `PyTorch` pools inputs that are smaller than the window.
#[test]
fn one_partial_window() {
    let x = image(&[1.0, 2.0, 6.0, 4.0, 8.0, 3.0], 2, 3);
    let window = Window { ceil_mode: true, ..Window::new([4, 4]).stride([3, 3]) };
    check(&MaxPool { window }, std::slice::from_ref(&x), &[true], 1);
    for count_include_pad in [true, false] {
        let op = AveragePool { window, count_include_pad };
        check(&op, std::slice::from_ref(&x), &[true], 1);
        for backend in BACKENDS {
            assert_eq!(flat(&op.forward(&[&x], backend).unwrap()), [4.0]);
        }
    }
}

/// Values of `torch.nn.functional.adaptive_avg_pool2d(x, (2, 3))` on the same image.
#[test]
fn adaptive_bins_are_those_of_pytorch() {
    let x = image(&(1..=12).map(f64::from).collect::<Vec<_>>(), 3, 4);
    let y = AdaptiveAveragePool { output: [2, 3] }.forward(&[&x], Backend::Auto).unwrap();
    let expected = [3.5, 4.5, 5.5, 7.5, 8.5, 9.5];
    assert!(flat(&y).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", flat(&y));
}

#[test]
fn bad_shapes_are_refused() {
    let message = |result: crate::Result<Vec<usize>>| result.unwrap_err().to_string();
    let max = |window| MaxPool { window };
    let large = message(max(Window::new([5, 5])).output_shape(&[&[1, 1, 4, 4]]));
    assert!(large.contains("covers 5"), "{large}");
    let rank = message(max(Window::new([1, 1])).output_shape(&[&[4, 4]]));
    assert!(rank.contains("[N, C, H, W]"), "{rank}");
    let flat = message(max(Window::new([2, 2])).output_shape(&[&[1, 1, 4]]));
    assert!(flat.contains("height 1"), "{flat}");
    let padding = message(max(Window::new([2, 2]).padding([2, 0])).output_shape(&[&[1, 1, 4, 4]]));
    assert!(padding.contains("padding"), "{padding}");
    let empty = Window::new([2, 1]).dilation([2, 1]).padding([1, 0]);
    let empty = message(max(empty).output_shape(&[&[1, 1, 1, 4]]));
    assert!(empty.contains("altogether"), "{empty}");
    let zero = Window { stride: [0, 1], ..Window::new([2, 2]) };
    let zero = message(AveragePool { window: zero, count_include_pad: true }.output_shape(&[&[1, 1, 4, 4]]));
    assert!(zero.contains("stride 0"), "{zero}");
    let none = message(AdaptiveAveragePool { output: [0, 1] }.output_shape(&[&[1, 1, 4, 4]]));
    assert!(none.contains("at least 1"), "{none}");
}
