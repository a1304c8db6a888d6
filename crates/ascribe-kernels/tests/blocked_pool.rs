//! Compares poolings and element-wise operations on blocked tensors with those on NCHW.

mod common;

use ascribe_kernels::blocked::{
    BLOCK, BlockedEpilogue, BlockedShape, Redistribution, accumulate, apply, avg_pool, avg_pool_input_grad,
    max_pool, max_pool_input_grad, redistribute, scale_shift, winners_len,
};
use ascribe_kernels::{
    Activation, KernelError, PoolParams, PoolShape, avg_pool2d, avg_pool2d_input_grad, max_pool2d,
    max_pool2d_input_grad,
};
use common::{bits, blocked, clean, error, on_threads, planar, to_f64, values};
use proptest::prelude::*;

/// Input and output of a pooling, with borders.
fn sides(s: &PoolShape, seed: usize) -> (BlockedShape, BlockedShape) {
    let input =
        BlockedShape { batch: s.batch, channels: s.channels, size: s.input, pad: [seed % 3, seed / 3 % 3] };
    (input, BlockedShape { size: s.output, pad: [seed / 9 % 2, seed / 18 % 2], ..input })
}

fn random_mask(seed: u64, len: usize) -> Vec<u16> {
    values::<f32>(seed, len).iter().map(|v| (v * 30000.0) as i32 as u16).collect()
}

/// `x` where the bit of the mask is set, 0 elsewhere.
fn masked(shape: &BlockedShape, mask: Option<&[u16]>, x: Vec<f32>) -> Vec<f32> {
    let Some(mask) = mask else { return x };
    x.into_iter().zip(bits(shape, mask)).map(|(x, bit)| if bit { x } else { 0.0 }).collect()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(128))]

    #[test]
    fn maxima_agree_with_those_on_nchw(s in common::small_and_large_pool_shapes(1..40), seed in 0_u64..1000) {
        // Few different values, so that there are ties, and some NaNs and −∞.
        let x: Vec<f32> = values::<f32>(seed, s.input_len())
            .into_iter()
            .map(|v| if v > 0.97 { f32::NAN } else { (v * 3.0).round() })
            .map(|v| if v == -3.0 { f32::NEG_INFINITY } else { v })
            .collect();
        let dy = values::<f32>(seed + 1, s.output_len());
        let (mut y, mut argmax) = (vec![0.0; s.output_len()], vec![0; s.output_len()]);
        let (input, output) = sides(&s, seed as usize);
        if max_pool2d(&s, &x, &mut y, &mut argmax).is_err() {
            // A window contains only padding.
            let (mut y, mut winners) = (vec![0.0; output.len()], vec![0; winners_len(&s)]);
            let result = max_pool(&s, &input, &blocked(&input, &x), &output, &mut y, &mut winners);
            let refused = matches!(result, Err(KernelError::Shape { .. }));
            prop_assert!(refused);
            return Ok(());
        }
        let mut dx = vec![0.0; s.input_len()];
        max_pool2d_input_grad(&s, &dy, &argmax, &mut dx).unwrap();

        let mask = random_mask(seed + 2, input.mask_len());
        let mask = (seed % 2 == 0).then_some(&mask[..]);
        let x_data = blocked(&input, &x);
        let dy_data = blocked(&output, &dy);
        let run = || {
            let mut y = vec![f32::NAN; output.len()];
            let mut winners = vec![77; winners_len(&s)];
            max_pool(&s, &input, &x_data, &output, &mut y, &mut winners).unwrap();
            let mut dx = vec![f32::NAN; input.len()];
            max_pool_input_grad(&s, &output, &dy_data, &winners, mask, &input, &mut dx).unwrap();
            (y, winners, dx)
        };
        let found = on_threads(1, run);
        let again = on_threads(3, run);
        let same = |a: &[f32], b: &[f32]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
        };
        prop_assert!(same(&found.0, &again.0) && found.1 == again.1 && same(&found.2, &again.2));
        prop_assert!(same(&planar(&output, &found.0), &y));
        prop_assert!(found.0.iter().zip(blocked(&output, &y)).all(|(a, b)| *a == b || b.is_nan()));
        prop_assert!(clean(&input, &found.2));
        let worst = error(&planar(&input, &found.2), &to_f64(&masked(&input, mask, dx)));
        prop_assert!(worst < 1e-6);
        let pixels = s.output[0] * s.output[1];
        for (at, &place) in argmax.iter().enumerate() {
            let (n, c, p) = (at / (s.channels * pixels), at / pixels % s.channels, at % pixels);
            let block = (n * output.blocks() + c / BLOCK) * pixels + p;
            let tap = usize::from(found.1[block * BLOCK + c % BLOCK]);
            let (i, j) = (tap / s.kernel[1], tap % s.kernel[1]);
            let row = p / s.output[1] * s.stride[0] + i * s.dilation[0] - s.padding[0];
            let column = p % s.output[1] * s.stride[1] + j * s.dilation[1] - s.padding[1];
            prop_assert!(row * s.input[1] + column == place as usize);
        }
    }

    #[test]
    fn averages_agree_with_those_on_nchw(
        s in common::small_and_large_pool_shapes(1..40), seed in 0_u64..1000, include_pad in any::<bool>(),
    ) {
        let x = values::<f32>(seed, s.input_len());
        let dy = values::<f32>(seed + 1, s.output_len());
        let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
        avg_pool2d(&s, include_pad, &x, &mut y).unwrap();
        avg_pool2d_input_grad(&s, include_pad, &dy, &mut dx).unwrap();
        let (input, output) = sides(&s, seed as usize);
        let mask = random_mask(seed + 2, input.mask_len());
        let mask = (seed % 2 == 0).then_some(&mask[..]);
        let (x_data, dy_data) = (blocked(&input, &x), blocked(&output, &dy));
        let run = || {
            let (mut y, mut dx) = (vec![f32::NAN; output.len()], vec![f32::NAN; input.len()]);
            avg_pool(&s, include_pad, &input, &x_data, &output, &mut y).unwrap();
            avg_pool_input_grad(&s, include_pad, &output, &dy_data, mask, &input, &mut dx).unwrap();
            (y, dx)
        };
        let found = on_threads(1, run);
        prop_assert!(found == on_threads(3, run));
        prop_assert!(clean(&output, &found.0) && clean(&input, &found.1));
        prop_assert!(error(&planar(&output, &found.0), &to_f64(&y)) < 1e-6);
        prop_assert!(error(&planar(&input, &found.1), &to_f64(&masked(&input, mask, dx))) < 1e-6);
    }

    #[test]
    fn elements_are_scaled_added_activated_and_masked(
        (batch, channels, h, w) in (0_usize..3, 1_usize..40, 1_usize..20, 1_usize..60),
        seed in 0_u64..1000,
        choice in 0_usize..96,
    ) {
        let shape = |pad: usize| BlockedShape { batch, channels, size: [h, w], pad: [pad % 2, pad / 2 % 2] };
        let (x_shape, r_shape, y_shape) = (shape(choice), shape(choice / 4), shape(choice / 2));
        let len = batch * channels * h * w;
        let (x, r) = (values::<f32>(seed, len), values::<f32>(seed + 1, len));
        let (scale, bias) = (values::<f32>(seed + 2, y_shape.blocks() * BLOCK), values::<f32>(seed + 3, y_shape.blocks() * BLOCK));
        let mask = random_mask(seed + 4, y_shape.mask_len());
        let (x_data, r_data) = (blocked(&x_shape, &x), blocked(&r_shape, &r));
        let activation = [Activation::None, Activation::Relu, Activation::Clip { min: -0.5, max: 0.7 }][choice % 3];
        let [with_scale, with_bias, with_residual, with_mask] = [3, 6, 12, 24].map(|unit| choice / unit % 2 == 1);
        let run = || {
            let (mut y, mut record) = (vec![f32::NAN; y_shape.len()], vec![0x5555; y_shape.mask_len()]);
            let epilogue = BlockedEpilogue {
                bias: with_bias.then_some(&bias[..]),
                residual: with_residual.then_some((&r_shape, &r_data[..])),
                activation,
                record: Some(&mut record),
                mask: with_mask.then_some(&mask[..]),
            };
            if with_scale {
                scale_shift(&scale, &x_shape, &x_data, epilogue, &y_shape, &mut y).unwrap();
            } else {
                apply(&x_shape, &x_data, epilogue, &y_shape, &mut y).unwrap();
            }
            (y, record)
        };
        let found = on_threads(1, run);
        prop_assert!(found == on_threads(3, run));
        prop_assert!(clean(&y_shape, &found.0));
        let (y, passed, kept) = (planar(&y_shape, &found.0), bits(&y_shape, &found.1), bits(&y_shape, &mask));
        for at in 0..len {
            let channel = at / (h * w) % channels;
            let mut sum = f64::from(x[at]);
            if with_scale { sum *= f64::from(scale[channel]); }
            if with_bias { sum += f64::from(bias[channel]); }
            if with_residual { sum += f64::from(r[at]); }
            let (value, passes) = match activation {
                Activation::None => (sum, true),
                Activation::Relu => (sum.max(0.0), sum > 0.0),
                Activation::Clip { min, max } => {
                    let (min, max) = (f64::from(min), f64::from(max));
                    (sum.clamp(min, max), min < sum && sum < max)
                }
            };
            let expected = if with_mask && !kept[at] { 0.0 } else { value };
            prop_assert!((f64::from(y[at]) - expected).abs() < 1e-6);
            prop_assert!(passed[at] == passes);
        }
        // a ← a + Σ wₙ rₙ is summed in order, so that one call for all samples is the same as one call per sample.
        let one = BlockedShape { batch: 1, ..x_shape };
        let start = values::<f32>(seed + 5, channels * h * w);
        let weights: Vec<f32> = (0..batch).map(|n| n as f32 - 0.75).collect();
        let mut sum = blocked(&one, &start);
        accumulate(&one, &mut sum, &weights, &r_shape, &r_data).unwrap();
        prop_assert!(clean(&one, &sum));
        let single = BlockedShape { batch: 1, ..r_shape };
        let (mut parts, mut expected) = (blocked(&one, &start), start);
        for n in 0..batch {
            let b = &r_data[n * single.len()..][..single.len()];
            accumulate(&one, &mut parts, &weights[n..=n], &single, b).unwrap();
            let r = r[n * expected.len()..].iter();
            expected.iter_mut().zip(r).for_each(|(a, r)| *a += weights[n] * r);
        }
        prop_assert!(parts == sum);
        prop_assert!(planar(&one, &sum).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn relevance_is_divided_multiplied_and_added(
        (batch, channels, h, w) in (0_usize..3, 1_usize..40, 1_usize..20, 1_usize..60),
        seed in 0_u64..1000,
        choice in 0_usize..48,
    ) {
        let shape = |pad: usize| BlockedShape { batch, channels, size: [h, w], pad: [pad % 2, pad / 2 % 2] };
        let shapes: Vec<BlockedShape> = (0..6).map(|at| shape(choice + at)).collect();
        let len = batch * channels * h * w;
        // Some denominators are zero.
        let round = |v: &f32| (v * 4.0).round();
        let numbers: Vec<Vec<f32>> = (0..5)
            .map(|at| values::<f32>(seed + at, len).iter().map(|v| if at == 1 || at == 2 { round(v) } else { *v }).collect())
            .collect();
        let data: Vec<Vec<f32>> = shapes.iter().zip(&numbers).map(|(shape, x)| blocked(shape, x)).collect();
        let image = |at: usize| (&shapes[at], data[at].as_slice());
        let (count, with_factor, with_addend) = (choice % 3, choice / 3 % 2 == 1, choice / 6 % 2 == 1);
        let epsilon = if choice / 12 % 2 == 1 { 0.25 } else { 0.0 };
        let operands = Redistribution {
            signal: image(0),
            denominators: [(count > 0).then(|| image(1)), (count > 1).then(|| image(2))],
            epsilon,
            factor: with_factor.then(|| image(3)),
            addend: with_addend.then(|| image(4)),
        };
        let run = || {
            let mut y = vec![f32::NAN; shapes[5].len()];
            redistribute(&operands, &shapes[5], &mut y).unwrap();
            y
        };
        let found = on_threads(1, run);
        prop_assert!(found == on_threads(3, run));
        prop_assert!(clean(&shapes[5], &found));
        for (at, y) in planar(&shapes[5], &found).into_iter().enumerate() {
            let mut expected = numbers[0][at];
            if count > 0 {
                let d = numbers[1][at] + if count > 1 { numbers[2][at] } else { 0.0 };
                let stable = if d >= 0.0 { d + epsilon } else { d - epsilon };
                expected = if stable == 0.0 { 0.0 } else { expected / stable };
            }
            if with_factor { expected *= numbers[3][at]; }
            if with_addend { expected += numbers[4][at]; }
            prop_assert!(y == expected);
        }
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let s = PoolShape::new(PoolParams {
        batch: 2,
        channels: 20,
        input: [6, 6],
        output: [3, 3],
        kernel: [2, 2],
        stride: [2, 2],
        ..Default::default()
    })
    .unwrap();
    let (input, output) = sides(&s, 4);
    let (mut x, mut y, mut winners) =
        (vec![0.0; input.len()], vec![0.0; output.len()], vec![0; winners_len(&s)]);
    let length = |result: Result<(), KernelError>| match result {
        Err(KernelError::Length { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    assert_eq!(length(max_pool(&s, &input, &x[1..], &output, &mut y, &mut winners)), "x");
    assert_eq!(length(max_pool(&s, &input, &x, &output, &mut y[1..], &mut winners)), "y");
    assert_eq!(length(max_pool(&s, &input, &x, &output, &mut y, &mut winners[1..])), "winners");
    assert_eq!(length(avg_pool(&s, true, &input, &x[1..], &output, &mut y)), "x");
    let short = vec![0_u16; input.mask_len() - 1];
    assert_eq!(length(max_pool_input_grad(&s, &output, &y, &winners, Some(&short), &input, &mut x)), "mask");
    assert_eq!(length(avg_pool_input_grad(&s, true, &output, &y, Some(&short), &input, &mut x)), "mask");
    winners[5] = 4;
    assert!(matches!(
        max_pool_input_grad(&s, &output, &y, &winners, None, &input, &mut x),
        Err(KernelError::Index { found: 4, limit: 4, .. })
    ));
    let other = BlockedShape { channels: 21, ..input };
    assert!(matches!(
        avg_pool(&s, true, &other, &vec![0.0; other.len()], &output, &mut y),
        Err(KernelError::Shape { .. })
    ));
    let wide =
        PoolShape::new(PoolParams { kernel: [17, 16], input: [17, 16], output: [1, 1], ..*s.params() })
            .unwrap();
    let (input, output) = sides(&wide, 0);
    let (x, mut y, mut winners) =
        (vec![0.0; input.len()], vec![0.0; output.len()], vec![0; winners_len(&wide)]);
    let error = max_pool(&wide, &input, &x, &output, &mut y, &mut winners).unwrap_err();
    assert!(error.to_string().contains("17 × 16 taps"), "{error}");
    assert!(avg_pool(&wide, true, &input, &x, &output, &mut y).is_ok());

    let shape = BlockedShape { batch: 1, channels: 3, size: [2, 2], pad: [0, 0] };
    let (x, mut y) = (vec![0.0; shape.len()], vec![0.0; shape.len()]);
    let plain = BlockedEpilogue::default;
    assert_eq!(length(apply(&shape, &x[1..], plain(), &shape, &mut y)), "x");
    assert_eq!(length(apply(&shape, &x, plain(), &shape, &mut y[1..])), "y");
    assert_eq!(length(scale_shift(&x[..3], &shape, &x, plain(), &shape, &mut y)), "scale");
    assert_eq!(length(accumulate(&shape, &mut y, &[1.0], &shape, &x[1..])), "b");
    assert_eq!(length(accumulate(&shape, &mut y, &[], &shape, &x)), "weights");
    let other = BlockedShape { channels: 4, ..shape };
    assert!(matches!(accumulate(&shape, &mut y, &[1.0], &other, &x), Err(KernelError::Shape { .. })));
}
