//! Compares blocked convolutions with those on NCHW, and checks that they do not depend on threads, batch and borders.

mod common;

use ascribe_kernels::blocked::{BLOCK, BlockedConv, BlockedEpilogue, BlockedShape};
use ascribe_kernels::{Activation, ConvShape, KernelError, conv2d, conv2d_input_grad};
use common::bounds::{self, gamma};
use common::{bits, blocked, blocked_conv_shapes, clean, fitting, layer, on_threads, planar, to_f64, values};
use proptest::prelude::*;

/// Source and destination of one direction, with borders that may be wider than needed.
fn sides(s: &ConvShape, gradient: bool, need: [usize; 2], extra: usize) -> (BlockedShape, BlockedShape) {
    let input = BlockedShape {
        batch: s.batch,
        channels: s.in_channels,
        size: s.input,
        pad: need.map(|pad| pad + extra % 2),
    };
    let output = BlockedShape {
        batch: s.batch,
        channels: s.out_channels,
        size: s.output(),
        pad: [extra % 3, extra / 2 % 3],
    };
    if gradient {
        (BlockedShape { pad: input.pad, ..output }, BlockedShape { pad: output.pad, ..input })
    } else {
        (input, output)
    }
}

/// One direction (forward pass or input gradient) of a convolution on random data.
struct Case {
    conv: BlockedConv,
    src: BlockedShape,
    dst: BlockedShape,
    x: Vec<f32>,
    /// The result of the kernels on NCHW.
    expected: Vec<f32>,
    /// Bounds of the difference that rounding in both computations can cause.
    bounds: Vec<f64>,
}

/// Bounds of the difference between two computations of the same convolution, both with rounding errors. The last
/// factor accounts for the rounding of the sums of magnitudes themselves.
fn bounds_of_two(s: &ConvShape, gradient: bool, x: &[f32], w: &[f32]) -> Vec<f64> {
    let [x, w] = [x, w].map(|values| values.iter().map(|v| v.abs()).collect::<Vec<f32>>());
    let terms = if gradient { bounds::input_grad_terms(s) } else { bounds::forward_terms(s) };
    let relative = 2.0 * gamma(terms + 1, bounds::SINGLE) * (1.0 + gamma(terms + 1, bounds::SINGLE));
    let mut sums = vec![0.0; if gradient { s.input_len() } else { s.output_len() }];
    if gradient {
        conv2d_input_grad(s, &x, &w, &mut sums).unwrap();
    } else {
        conv2d(s, &x, &w, None, &mut sums).unwrap();
    }
    sums.into_iter().map(|sum| relative * f64::from(sum)).collect()
}

fn case(s: &ConvShape, gradient: bool, seed: u64) -> Case {
    let w = values::<f32>(seed, s.weight_len());
    let conv = if gradient { BlockedConv::input_grad(s, &w) } else { BlockedConv::forward(s, &w) };
    let conv = conv.unwrap().unwrap_or_else(|| panic!("no kernel for {s:?}"));
    let (src, dst) = sides(s, gradient, conv.source_pad(), seed as usize);
    let x = values::<f32>(seed + 1, if gradient { s.output_len() } else { s.input_len() });
    let mut expected = vec![0.0; if gradient { s.input_len() } else { s.output_len() }];
    if gradient {
        conv2d_input_grad(s, &x, &w, &mut expected).unwrap();
    } else {
        conv2d(s, &x, &w, None, &mut expected).unwrap();
    }
    let bounds = bounds_of_two(s, gradient, &x, &w);
    Case { conv, src, dst, x, expected, bounds }
}

impl Case {
    fn run(&self, epilogue: BlockedEpilogue<'_>) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.dst.len()];
        let x = blocked(&self.src, &self.x);
        self.conv.run(&self.src, &x, epilogue, &self.dst, &mut y).unwrap();
        y
    }
}

fn agrees(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    for gradient in [false, true] {
        let case = case(s, gradient, seed);
        let y = case.run(BlockedEpilogue::default());
        prop_assert!(clean(&case.dst, &y));
        let found = planar(&case.dst, &y);
        bounds::within(&found, &to_f64(&case.expected), &case.bounds)?;
    }
    Ok(())
}

/// Checks that results are bit-identical for any number of threads, any batch, and any borders.
fn same_bits(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    for gradient in [false, true] {
        let case = case(s, gradient, seed);
        let y = on_threads(1, || case.run(BlockedEpilogue::default()));
        for threads in [2, 3, 8] {
            prop_assert!(
                on_threads(threads, || case.run(BlockedEpilogue::default())) == y,
                "{} threads",
                threads
            );
        }
        let y = planar(&case.dst, &y);
        let (x_len, y_len) = (case.x.len() / s.batch.max(1), y.len() / s.batch.max(1));
        for n in 0..s.batch {
            let one = Case {
                conv: case.conv.clone(),
                src: BlockedShape { batch: 1, pad: case.conv.source_pad(), ..case.src },
                dst: BlockedShape { batch: 1, pad: [0, 0], ..case.dst },
                x: case.x[n * x_len..][..x_len].to_vec(),
                expected: Vec::new(),
                bounds: Vec::new(),
            };
            let sample = planar(&one.dst, &one.run(BlockedEpilogue::default()));
            prop_assert!(sample == y[n * y_len..][..y_len], "sample {}", n);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(128))]

    #[test]
    fn convolutions_agree_with_those_on_nchw(s in blocked_conv_shapes(0_usize..4), seed in 0_u64..1000) {
        agrees(&s, seed)?;
    }

    #[test]
    fn same_bits_for_any_number_of_threads_any_batch_and_any_border(s in blocked_conv_shapes(0_usize..4), seed in 0_u64..1000) {
        same_bits(&s, seed)?;
    }

    #[test]
    fn epilogues_do_what_they_say(s in blocked_conv_shapes(0_usize..4), seed in 0_u64..1000, choice in 0_usize..48) {
        epilogue(&s, seed, choice)?;
    }

    #[test]
    fn first_layers_agree_with_those_on_nchw(s in first_layers(), seed in 0_u64..1000, pad in 0_usize..3) {
        first_layer(&s, seed, pad)?;
    }

    #[test]
    fn conversions_are_inverse(
        (batch, channels, h, w, pad_h, pad_w) in (0_usize..3, 1_usize..40, 1_usize..20, 1_usize..40, 0_usize..3, 0_usize..3),
    ) {
        let shape = BlockedShape { batch, channels, size: [h, w], pad: [pad_h, pad_w] };
        let nchw = values::<f32>(1, batch * channels * h * w);
        let data = blocked(&shape, &nchw);
        prop_assert!(planar(&shape, &data) == nchw);
        let nonzero = data.iter().filter(|v| **v != 0.0).count();
        prop_assert!(nonzero == nchw.iter().filter(|v| **v != 0.0).count());
        for (at, &value) in nchw.iter().enumerate() {
            let (n, c, y, x) = (at / (channels * h * w), at / (h * w) % channels, at / w % h, at % w);
            let row = (n * shape.blocks() + c / BLOCK) * (h + 2 * pad_h) + y + pad_h;
            prop_assert!(data[(row * (w + 2 * pad_w) + x + pad_w) * BLOCK + c % BLOCK] == value);
        }
        let mut dirty = data.clone();
        for (place, value) in dirty.iter_mut().zip(&data) {
            if *value == 0.0 { *place = 1.0; }
        }
        shape.clear_border(&mut dirty);
        prop_assert!(channels % BLOCK != 0 || dirty == data);
    }
}

/// Layers with few input channels and any stride.
fn first_layers() -> impl Strategy<Value = ConvShape> {
    let axis = || (1_usize..40, 1_usize..8, 1_usize..5, 1_usize..3, 0_usize..4, 0_usize..4);
    (0_usize..3, 1_usize..7, 1_usize..70, axis(), axis())
        .prop_filter_map("the kernel has to fit", |(batch, ic, oc, h, w)| fitting(batch, (1, ic, oc), h, w))
}

/// Compares both directions of a first layer with those on NCHW, and with runs on several threads and on single
/// samples.
fn first_layer(s: &ConvShape, seed: u64, pad: usize) -> Result<(), TestCaseError> {
    let w = values::<f32>(seed, s.weight_len());
    let x = values::<f32>(seed + 1, s.input_len());
    let output =
        BlockedShape { batch: s.batch, channels: s.out_channels, size: s.output(), pad: [pad, 2 - pad] };
    let bias = values::<f32>(seed + 2, output.blocks() * BLOCK);
    let conv = BlockedConv::forward_planar(s, &w).unwrap().unwrap();
    let run = |batch: usize, x: &[f32]| {
        let shape = BlockedShape { batch, ..output };
        let (mut y, mut record) = (vec![f32::NAN; shape.len()], vec![0_u16; shape.mask_len()]);
        let epilogue = BlockedEpilogue {
            bias: Some(&bias),
            activation: Activation::Relu,
            record: Some(&mut record),
            ..Default::default()
        };
        conv.run_planar(batch, x, epilogue, &shape, &mut y).unwrap();
        (y, record)
    };
    let found = on_threads(1, || run(s.batch, &x));
    prop_assert!(found == on_threads(3, || run(s.batch, &x)));
    prop_assert!(clean(&output, &found.0));
    let mut expected = vec![0.0; s.output_len()];
    conv2d(s, &x, &w, Some(&bias[..s.out_channels]), &mut expected).unwrap();
    let scale = expected.iter().fold(1e-30_f32, |a, b| a.max(b.abs()));
    let y = planar(&output, &found.0);
    let passed = bits(&output, &found.1);
    for at in 0..y.len() {
        let value = expected[at].max(0.0);
        prop_assert!((y[at] - value).abs() <= 3e-6 * scale, "{} and {}", y[at], value);
        prop_assert!(passed[at] == (y[at] > 0.0));
    }
    let x_len = x.len() / s.batch.max(1);
    for n in 0..s.batch {
        let one = run(1, &x[n * x_len..][..x_len]).0;
        prop_assert!(one == found.0[n * one.len()..][..one.len()]);
    }

    let Some(conv) = BlockedConv::input_grad_planar(s, &w).unwrap() else {
        // There are kernels for source steps of 1 and 2, but not for larger ones.
        return Ok(());
    };
    let dy = values::<f32>(seed + 3, s.output_len());
    let source = BlockedShape { pad: conv.source_pad().map(|need| need + pad), ..output };
    let run = |batch: usize, dy: &[f32]| {
        let shape = BlockedShape { batch, ..source };
        let mut dx = vec![f32::NAN; batch * x_len];
        conv.run_to_planar(&shape, &blocked(&shape, dy), &mut dx).unwrap();
        dx
    };
    let found = on_threads(1, || run(s.batch, &dy));
    prop_assert!(found == on_threads(3, || run(s.batch, &dy)));
    let mut expected = vec![0.0; s.input_len()];
    conv2d_input_grad(s, &dy, &w, &mut expected).unwrap();
    bounds::within(&found, &to_f64(&expected), &bounds_of_two(s, true, &dy, &w))?;
    let dy_len = dy.len() / s.batch.max(1);
    for n in 0..s.batch {
        prop_assert!(run(1, &dy[n * dy_len..][..dy_len]) == found[n * x_len..][..x_len]);
    }
    Ok(())
}

#[test]
fn real_first_layers_agree() {
    for (seed, (oc, size, k, stride)) in
        [(64, 224, 7, 2), (32, 113, 3, 2), (64, 56, 3, 1), (96, 67, 11, 4), (40, 64, 4, 4)]
            .into_iter()
            .enumerate()
    {
        let s = layer(3, oc, 1, size, k, stride);
        first_layer(&s, seed as u64, 1).unwrap_or_else(|e| panic!("{s:?}: {e}"));
        let w = vec![0.0; s.weight_len()];
        assert!(BlockedConv::input_grad_planar(&s, &w).unwrap().is_some(), "{s:?}");
    }
}

#[test]
fn planar_ends_check_their_arguments() {
    let s = layer(3, 20, 1, 9, 3, 2);
    let w = vec![0.5; s.weight_len()];
    assert!(matches!(
        BlockedConv::forward_planar(&s, &w[1..]),
        Err(KernelError::Length { argument: "weight", .. })
    ));
    assert!(matches!(
        BlockedConv::input_grad_planar(&s, &w[1..]),
        Err(KernelError::Length { argument: "weight", .. })
    ));
    let (forward, gradient, plain) = (
        BlockedConv::forward_planar(&s, &w).unwrap().unwrap(),
        BlockedConv::input_grad_planar(&s, &w).unwrap().unwrap(),
        BlockedConv::forward(&s, &w).unwrap().unwrap(),
    );
    let output = BlockedShape { batch: 2, channels: 20, size: [5, 5], pad: gradient.source_pad() };
    let (x, mut y) = (vec![0.0; s.input_len()], vec![0.0; output.len()]);
    let mut dx = x.clone();
    let none = BlockedEpilogue::default;
    assert!(forward.run_planar(2, &x, none(), &output, &mut y).is_ok());
    assert!(gradient.run_to_planar(&output, &y, &mut dx).is_ok());
    let length = |result: Result<(), KernelError>| match result {
        Err(KernelError::Length { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    assert_eq!(length(forward.run_planar(2, &x[1..], none(), &output, &mut y)), "src");
    assert_eq!(length(forward.run_planar(usize::MAX, &x, none(), &output, &mut y)), "src");
    assert_eq!(length(forward.run_planar(2, &x, none(), &output, &mut y[1..])), "dst");
    assert_eq!(length(gradient.run_to_planar(&output, &y[1..], &mut dx)), "src");
    assert_eq!(length(gradient.run_to_planar(&output, &y, &mut dx[1..])), "dst");
    let shape = |result: Result<(), KernelError>| {
        assert!(matches!(result, Err(KernelError::Shape { .. })), "{result:?}");
    };
    let one = BlockedShape { batch: 1, ..output };
    shape(forward.run_planar(2, &x, none(), &one, &mut vec![0.0; one.len()]));
    let narrow = BlockedShape { pad: [0, 0], ..output };
    shape(gradient.run_to_planar(&narrow, &vec![0.0; narrow.len()], &mut dx));
    // Each function only runs convolutions that were packed for it.
    shape(forward.run(&output, &y, none(), &output, &mut y.clone()));
    shape(gradient.run(&output, &y, none(), &output, &mut y.clone()));
    shape(plain.run_planar(2, &x, none(), &output, &mut y));
    shape(plain.run_to_planar(&output, &y, &mut dx));
}

fn epilogue(s: &ConvShape, seed: u64, choice: usize) -> Result<(), TestCaseError> {
    let activation =
        [Activation::None, Activation::Relu, Activation::Clip { min: -0.5, max: 1.5 }][choice % 3];
    let [with_bias, with_residual, with_record, with_mask] =
        [3, 6, 12, 24].map(|unit| choice / unit % 2 == 1);
    for gradient in [false, true] {
        let case = case(s, gradient, seed);
        let plain = planar(&case.dst, &case.run(BlockedEpilogue::default()));
        let mut bias = values::<f32>(seed + 5, case.dst.blocks() * BLOCK);
        // Bias values for padded channels have no influence.
        bias[case.dst.channels..].fill(3.0);
        let residual_shape = BlockedShape { pad: [choice % 2, choice / 2 % 2], ..case.dst };
        let residual = values::<f32>(seed + 6, case.expected.len());
        let residual_data = blocked(&residual_shape, &residual);
        let mask: Vec<u16> = values::<f32>(seed + 7, case.dst.mask_len())
            .iter()
            .map(|v| (v * 30000.0) as i32 as u16)
            .collect();
        let mut record = vec![0x5555_u16; case.dst.mask_len()];
        let y = case.run(BlockedEpilogue {
            bias: with_bias.then_some(&bias[..]),
            residual: with_residual.then_some((&residual_shape, &residual_data[..])),
            activation,
            record: with_record.then_some(&mut record[..]),
            mask: with_mask.then_some(&mask[..]),
        });
        prop_assert!(clean(&case.dst, &y));
        let (y, kept, recorded) = (planar(&case.dst, &y), bits(&case.dst, &mask), bits(&case.dst, &record));
        let pixels = case.dst.size[0] * case.dst.size[1];
        for at in 0..y.len() {
            let mut sum = plain[at];
            if with_bias {
                sum += bias[at / pixels % case.dst.channels];
            }
            if with_residual {
                sum += residual[at];
            }
            let (value, passes) = match activation {
                Activation::None => (sum, true),
                Activation::Relu => (sum.max(0.0), sum > 0.0),
                Activation::Clip { min, max } => (sum.clamp(min, max), min < sum && sum < max),
            };
            let expected = if with_mask && !kept[at] { 0.0 } else { value };
            prop_assert!(y[at] == expected);
            prop_assert!(!with_record || recorded[at] == passes);
        }
    }
    Ok(())
}

/// Layers like those of common networks, larger than the random ones.
fn layers() -> Vec<ConvShape> {
    vec![
        layer(64, 64, 1, 56, 3, 1),
        layer(256, 48, 1, 14, 3, 1),
        layer(512, 40, 1, 7, 3, 1),
        layer(30, 530, 1, 7, 1, 1),
        layer(400, 30, 1, 9, 1, 2),
        layer(64, 80, 1, 28, 3, 2),
        layer(24, 144, 1, 20, 1, 1),
        layer(40, 40, 40, 112, 3, 2),
        layer(33, 33, 33, 28, 5, 1),
        layer(33, 33, 33, 15, 7, 2),
        layer(64, 64, 2, 15, 3, 2),
        layer(20, 24, 1, 12, 7, 1),
    ]
}

#[test]
fn real_layers_agree_and_keep_their_bits() {
    for (seed, s) in layers().iter().enumerate() {
        agrees(s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
        same_bits(s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
    }
}

#[test]
fn not_a_number_passes_activations_and_no_gradient() {
    let s = layer(1, 1, 1, 3, 1, 1);
    let conv = BlockedConv::forward(&s, &[1.0]).unwrap().unwrap();
    let shape = BlockedShape { batch: 2, channels: 1, size: [3, 3], pad: [0, 0] };
    let mut x = vec![1.0; 18];
    x[4] = f32::NAN;
    for activation in [Activation::Relu, Activation::Clip { min: 0.0, max: 6.0 }] {
        let (mut y, mut record) = (vec![0.0; shape.len()], vec![0; shape.mask_len()]);
        let epilogue = BlockedEpilogue { activation, record: Some(&mut record), ..Default::default() };
        conv.run(&shape, &blocked(&shape, &x), epilogue, &shape, &mut y).unwrap();
        let y = planar(&shape, &y);
        assert!(y.iter().enumerate().all(|(at, y)| y.is_nan() == (at == 4)));
        assert!(record.iter().enumerate().all(|(at, &bits)| bits == u16::from(at != 4)));
    }
}

#[test]
fn layers_without_a_kernel_are_declined() {
    let declined = |s: &ConvShape| {
        let w = vec![0.0; s.weight_len()];
        BlockedConv::forward(s, &w).unwrap().is_none()
    };
    assert!(declined(&layer(16, 16, 1, 11, 3, 3)));
    assert!(declined(&layer(24, 24, 3, 11, 3, 1)));
    let mut wide = *layer(16, 16, 1, 40, 3, 1).params();
    wide.padding = [0, 17, 0, 0];
    assert!(declined(&ConvShape::new(wide).unwrap()));
}

#[test]
fn wrong_arguments_are_errors() {
    let s = layer(20, 24, 1, 8, 3, 1);
    let w = values::<f32>(1, s.weight_len());
    assert!(matches!(
        BlockedConv::forward(&s, &w[1..]),
        Err(KernelError::Length { argument: "weight", expected, found, .. }) if expected == found + 1
    ));
    assert!(matches!(
        BlockedConv::input_grad(&s, &w[1..]),
        Err(KernelError::Length { argument: "weight", .. })
    ));
    let conv = BlockedConv::forward(&s, &w).unwrap().unwrap();
    let src = BlockedShape { batch: 2, channels: 20, size: [8, 8], pad: [1, 1] };
    let dst = BlockedShape { batch: 2, channels: 24, size: [8, 8], pad: [0, 1] };
    let x = vec![0.0; src.len()];
    let run =
        |src: &BlockedShape, x: &[f32], epilogue: BlockedEpilogue<'_>, dst: &BlockedShape, short: usize| {
            let mut y = vec![0.0; dst.len() - short];
            conv.run(src, x, epilogue, dst, &mut y)
        };
    let plain = BlockedEpilogue::default;
    assert!(run(&src, &x, plain(), &dst, 0).is_ok());
    for wrong in [
        BlockedShape { batch: 1, ..src },
        BlockedShape { channels: 21, ..src },
        BlockedShape { size: [8, 9], ..src },
        BlockedShape { pad: [1, 0], ..src },
    ] {
        let x = vec![0.0; wrong.len()];
        let error = run(&wrong, &x, plain(), &dst, 0).unwrap_err();
        assert!(matches!(error, KernelError::Shape { .. }) && error.to_string().contains("`src`"), "{error}");
    }
    let length = |error: KernelError| match error {
        KernelError::Length { argument, .. } => argument,
        other => panic!("{other}"),
    };
    assert_eq!(length(run(&src, &x[1..], plain(), &dst, 0).unwrap_err()), "src");
    assert_eq!(length(run(&src, &x, plain(), &dst, 1).unwrap_err()), "dst");
    let wrong = BlockedShape { channels: 40, ..dst };
    assert!(matches!(run(&src, &x, plain(), &wrong, 0), Err(KernelError::Shape { .. })));
    let (bias, mask) = (vec![0.0; 24], vec![0; dst.mask_len() - 1]);
    let with = BlockedEpilogue { bias: Some(&bias), ..plain() };
    assert_eq!(length(run(&src, &x, with, &dst, 0).unwrap_err()), "bias");
    let with = BlockedEpilogue { mask: Some(&mask), ..plain() };
    assert_eq!(length(run(&src, &x, with, &dst, 0).unwrap_err()), "mask");
    let mut record = mask.clone();
    let with = BlockedEpilogue { record: Some(&mut record), ..plain() };
    assert_eq!(length(run(&src, &x, with, &dst, 0).unwrap_err()), "record");
    let with = BlockedEpilogue { residual: Some((&dst, &x[..3])), ..plain() };
    assert_eq!(length(run(&src, &x, with, &dst, 0).unwrap_err()), "residual");
    let other = BlockedShape { size: [8, 7], ..dst };
    let residual = vec![0.0; other.len()];
    let with = BlockedEpilogue { residual: Some((&other, &residual)), ..plain() };
    assert!(matches!(run(&src, &x, with, &dst, 0), Err(KernelError::Shape { .. })));
    // A size that does not fit the address space is an error, too.
    let huge = BlockedShape { batch: usize::MAX / 2, channels: 20, size: [8, 8], pad: [1, 1] };
    let other = BlockedShape { batch: huge.batch, ..dst };
    let mut y = vec![0.0; 16];
    assert_eq!(length(conv.run(&huge, &x, plain(), &other, &mut y).unwrap_err()), "src");
}
