//! Tests of sliding windows.

use candle_core::Device;
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{distance, random};

#[test]
fn output_sizes_as_pytorch() {
    let window = Window::new([3, 2]).stride([2, 2]).padding([1, 0]);
    assert_eq!(window.output([7, 7]).unwrap(), [4, 3]);
    let ceil = Window { ceil_mode: true, ..window };
    assert_eq!(ceil.output([8, 7]).unwrap(), [5, 4]);
    // torch.nn.MaxPool1d(1, stride=3, padding=0, ceil_mode=True) on 4 values: the window at 3 is inside.
    let sparse = Window { ceil_mode: true, ..Window::new([1, 1]).stride([3, 3]) };
    assert_eq!(sparse.output([4, 3]).unwrap(), [2, 1]);
    // A window that would start beyond the input and its leading padding does not count.
    let beyond = Window { ceil_mode: true, padding: [1, 1, 1, 1], ..Window::new([2, 2]).stride([2, 2]) };
    assert_eq!(beyond.output([5, 4]).unwrap(), [3, 3]);
    // torch.nn.MaxPool2d(4, stride=3, ceil_mode=True) on 2 × 3 values: one window, which misses up to 2 rows.
    let partial = Window { ceil_mode: true, ..Window::new([4, 4]).stride([3, 3]) };
    assert_eq!(partial.output([2, 3]).unwrap(), [1, 1]);
    assert!(partial.output([1, 3]).is_err());
}

#[test]
fn windows_that_do_not_fit_are_errors() {
    assert!(Window::new([3, 3]).output([2, 9]).unwrap_err().to_string().contains("covers 3 values"));
    for wrong in
        [Window::new([0, 1]), Window::new([1, 1]).stride([0, 1]), Window::new([1, 1]).dilation([1, 0])]
    {
        assert!(wrong.output([4, 4]).unwrap_err().to_string().contains("at least 1"));
    }
    let huge = Window { kernel: [usize::MAX; 2], dilation: [usize::MAX; 2], ..Window::new([1, 1]) };
    assert!(huge.output([4, 4]).is_err());
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]
    #[test]
    fn scattering_is_the_transpose_of_gathering(
        kernel in [1_usize..4, 1_usize..4],
        stride in [1_usize..4, 1_usize..4],
        dilation in [1_usize..3, 1_usize..3],
        padding in [0_usize..2, 0_usize..2, 0_usize..2, 0_usize..2],
        ceil_mode in any::<bool>(),
        seed in any::<u32>(),
    ) {
        let window = Window { kernel, stride, dilation, padding, ceil_mode };
        let (seed, size) = (u64::from(seed), [6, 7]);
        let out = window.output(size).unwrap();
        let x = random(&[2, 3, size[0], size[1]], -1.0, 1.0, seed);
        let padded = window.pad_input(&x, 0.0).unwrap();
        for at in window.offsets() {
            let seen = window.gather(&padded, at, out).unwrap();
            let y = random(seen.dims(), -1.0, 1.0, seed + 1);
            let zeros = window.padded_zeros([2, 3, size[0], size[1]], DType::F64, &x).unwrap();
            let back = window.unpad(&window.scatter_add(&zeros, at, &y).unwrap(), size).unwrap();
            prop_assert!((dot(&seen, &y) - dot(&x, &back)).abs() < 1e-10);
        }
    }
}

#[test]
fn axes_are_padded_on_both_sides() {
    let x = Tensor::new(&[[1.0, 2.0]], &Device::Cpu).unwrap();
    let expected = Tensor::new(&[[7.0, 1.0, 2.0, 7.0, 7.0]], &Device::Cpu).unwrap();
    assert_eq!(distance(&pad_axis(&x, 1, 1, 2, 7.0).unwrap(), &expected), 0.0);
    assert_eq!(distance(&pad_axis(&x, 1, 0, 0, 7.0).unwrap(), &x), 0.0);
}
