//! Tests of convolution; the golden numbers are PyTorch's.

use candle_core::Device;
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};

/// Kernel, stride, dilation, padding.
fn window() -> impl Strategy<Value = Window> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    (pair(1..4), pair(1..4), pair(1..3), [0_usize..3, 0..3, 0..3, 0..3]).prop_map(
        |(kernel, stride, dilation, padding)| Window { kernel, stride, dilation, padding, ceil_mode: false },
    )
}

/// The same geometry in one dimension.
fn flat(window: Window) -> Window {
    Window {
        kernel: [1, window.kernel[1]],
        stride: [1, window.stride[1]],
        dilation: [1, window.dilation[1]],
        padding: [0, window.padding[1], 0, window.padding[3]],
        ceil_mode: false,
    }
}

/// Sides that the window fits in, with `extra` more.
fn sides(window: &Window, extra: [usize; 2]) -> [usize; 2] {
    std::array::from_fn(|i| {
        let (before, after) = window.pad(i);
        let extent = window.dilation[i] * (window.kernel[i] - 1) + 1;
        extent.saturating_sub(before + after).max(1) + extra[i]
    })
}

fn operands(x: Vec<usize>, weight: Vec<usize>, bias: Option<usize>, seed: u64) -> Vec<Tensor> {
    let shapes = [Some(x), Some(weight), bias.map(|b| vec![b])];
    shapes.into_iter().flatten().zip(seed..).map(|(s, seed)| random(&s, -1.0, 1.0, seed)).collect()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(40))]

    #[test]
    fn derivatives(
        window in window(),
        (groups, per_in, per_out) in (1_usize..4, 1_usize..3, 1_usize..3),
        extra in [0_usize..4, 0_usize..4],
        batch in 1_usize..3,
        (bias, one_axis) in (any::<bool>(), any::<bool>()),
        seed in 0_u64..1 << 40,
    ) {
        let window = if one_axis { flat(window) } else { window };
        let [h, w] = sides(&window, extra);
        let [kh, kw] = window.kernel;
        let (c, o) = (groups * per_in, groups * per_out);
        let (x, weight) = if one_axis {
            (vec![batch, c, w], vec![o, per_in, kw])
        } else {
            (vec![batch, c, h, w], vec![o, per_in, kh, kw])
        };
        let operands = operands(x, weight, bias.then_some(o), seed);
        check(&Conv { window, groups }, &operands, &[true; 3][..operands.len()], seed);
    }

    #[test]
    fn derivatives_transposed(
        window in window(),
        (groups, per_in, per_out) in (1_usize..4, 1_usize..3, 1_usize..3),
        (h, w) in (2_usize..5, 2_usize..5),
        more in [0_usize..3, 0_usize..3],
        (bias, one_axis) in (any::<bool>(), any::<bool>()),
        seed in 0_u64..1 << 40,
    ) {
        let mut window = if one_axis { flat(window) } else { window };
        // The padding must leave an output.
        window.padding = window.padding.map(|p| p.min(1));
        let [kh, kw] = window.kernel;
        let limit = |i: usize| window.stride[i].max(window.dilation[i]) - 1;
        let output_padding = [if one_axis { 0 } else { more[0].min(limit(0)) }, more[1].min(limit(1))];
        let (c, o) = (groups * per_in, groups * per_out);
        let (x, weight) = if one_axis {
            (vec![2, c, w + 1], vec![c, per_out, kw])
        } else {
            (vec![2, c, h + 1, w + 1], vec![c, per_out, kh, kw])
        };
        let operands = operands(x, weight, bias.then_some(o), seed);
        let op = ConvTranspose { window, groups, output_padding };
        check(&op, &operands, &[true; 3][..operands.len()], seed);
    }
}

/// 1, 2, 3, … in a shape.
fn count(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::arange(1.0, n as f64 + 1.0, &Device::Cpu).unwrap().reshape(shape).unwrap()
}

fn values(op: &dyn Operator, inputs: &[Tensor]) -> Vec<f64> {
    let refs: Vec<&Tensor> = inputs.iter().collect();
    op.forward(&refs, Backend::Auto).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn grouped_convolution_as_pytorch() {
    let op =
        Conv { window: Window { padding: [0, 1, 0, 0], ..Window::new([1, 2]).stride([1, 2]) }, groups: 2 };
    let y = values(&op, &[count(&[1, 4, 1, 3]), count(&[2, 2, 1, 2]), count(&[2])]);
    assert_eq!(y, GROUPED);
}

#[test]
fn transposed_convolution_as_pytorch() {
    let op = ConvTranspose {
        window: Window::new([2, 3]).stride([2, 3]).padding([0, 1]).dilation([2, 1]),
        groups: 2,
        output_padding: [1, 2],
    };
    let y = values(&op, &[count(&[1, 2, 2, 2]), count(&[2, 1, 2, 3]), count(&[2])]);
    assert_eq!(y, TRANSPOSED);
    let wide =
        ConvTranspose { window: Window::new([1, 2]).dilation([1, 3]), groups: 1, output_padding: [0, 2] };
    assert_eq!(values(&wide, &[count(&[1, 1, 3]), count(&[1, 1, 2])]), WIDE);
}

#[test]
fn wrong_operands_are_named() {
    let op = Conv { window: Window::new([3, 3]), groups: 2 };
    let message = |shapes: &[&[usize]]| op.output_shape(shapes).unwrap_err().to_string();
    assert!(message(&[&[1, 3, 8, 8], &[4, 2, 3, 3]]).contains("has 3 channels; expected 4"));
    assert!(message(&[&[1, 4, 8, 8], &[4, 2, 5, 5]]).contains("weight"));
    assert!(message(&[&[1, 4, 2, 8], &[4, 2, 3, 3]]).contains("window"));
    assert!(message(&[&[1, 4, 8, 8], &[4, 2, 3, 3], &[3]]).contains("bias"));
    assert!(message(&[&[1, 4, 8, 8]]).contains("1 given"));
    assert!(message(&[&[4, 8], &[4, 2, 3, 3]]).contains("[4, 8]"));
    let none = Conv { window: Window::new([3, 3]), groups: 0 };
    assert!(none.output_shape(&[&[1, 4, 8, 8], &[4, 2, 3, 3]]).is_err());
    let op = ConvTranspose { window: Window::new([2, 2]), groups: 1, output_padding: [1, 0] };
    assert!(
        op.output_shape(&[&[1, 1, 2, 2], &[1, 1, 2, 2]]).unwrap_err().to_string().contains("output_padding")
    );
}

#[test]
fn a_dynamic_weight_makes_a_product() {
    let op = Conv { window: Window::new([1, 1]), groups: 1 };
    assert_eq!(op.kind(&[true, false, false]), Kind::Affine);
    assert_eq!(op.kind(&[true, true]), Kind::Product);
}

const GROUPED: [f64; 4] = [19.0, 48.0, 124.0, 269.0];
#[rustfmt::skip]
const TRANSPOSED: [f64; 72] = [3.0, 4.0, 3.0, 5.0, 7.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 12.0, 16.0, 13.0, 19.0, 25.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 16.0, 19.0, 17.0, 21.0, 25.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 42.0, 47.0, 44.0, 50.0, 56.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 113.0, 125.0, 118.0, 132.0, 146.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 79.0, 86.0, 82.0, 90.0, 98.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0];
const WIDE: [f64; 8] = [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 0.0, 0.0];
