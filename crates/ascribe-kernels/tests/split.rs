//! Compares convolutions on AMX, the processor's matrix unit, with the definition in double precision.
//!
//! On a processor without AMX this only checks that they are not available. The unit tests of the crate emulate AMX.

mod common;

use ascribe_kernels::blocked::{BLOCK, BlockedConv, BlockedEpilogue, BlockedShape, has_matrix_unit};
use ascribe_kernels::{Activation, ConvParams, ConvShape};
use common::bounds::{self, gamma};
use common::{blocked, clean, on_threads, planar, to_f64, values};
use proptest::prelude::*;

fn shape(batch: usize, ic: usize, oc: usize, input: [usize; 2]) -> ConvParams {
    ConvParams { batch, in_channels: ic, out_channels: oc, input, kernel: [1, 1], ..Default::default() }
}

fn shapes() -> impl Strategy<Value = ConvShape> {
    let sides = || (1_usize..20, 1_usize..20);
    let sizes = (0_usize..4, 1_usize..150, 1_usize..150, sides());
    let pads = (0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3);
    let kernels = prop_oneof![
        2 => Just(([1, 1], [1, 1])),
        3 => ((1_usize..5, 1_usize..5), (1_usize..3, 1_usize..3)).prop_map(|((h, w), (y, x))| ([h, w], [y, x])),
    ];
    let strides = prop_oneof![Just([1, 1]), (1_usize..4, 1_usize..4).prop_map(|(h, w)| [h, w])];
    (sizes, kernels, prop_oneof![Just((0, 0, 0, 0)), pads], strides).prop_filter_map(
        "the kernel has to fit",
        |((batch, ic, oc, (h, w)), (kernel, dilation), (t, l, b, r), stride)| {
            let one = shape(batch, ic, oc, [h, w]);
            ConvShape::new(ConvParams { kernel, dilation, padding: [t, l, b, r], stride, ..one }).ok()
        },
    )
}

/// Bound of the relative error of a sum of products of numbers that are split into `bfloat16` parts.
///
/// Each part leaves a remainder of at most 2⁻⁸ (the unit roundoff) of what the parts before it left. Two parts, as for
/// gradients, leave 2⁻¹⁶ of each factor, and the product of the two second parts, of at most 2⁻¹⁶, is not computed.
/// This makes 3 · 2⁻¹⁶, and less than one more 2⁻¹⁶ for products of these errors. Three parts leave 2⁻²⁴ of each
/// factor, and three products of at most 2⁻²⁴, 2⁻²⁴ and 2⁻³² are not computed. The rounding errors of the sum, of three
/// or six times as many products, are added.
fn split_error(s: &ConvShape, gradient: bool) -> f64 {
    let (parts, products) = if gradient { (2, 3) } else { (3, 6) };
    let terms = if gradient { bounds::input_grad_terms(s) } else { bounds::forward_terms(s) };
    let missing = if gradient { 4.0 } else { 5.0 } * bounds::BFLOAT16.powi(parts);
    missing + (1.0 + missing) * gamma(products * terms + 1, bounds::SINGLE)
}

fn agrees(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    let w = values::<f32>(seed, s.weight_len());
    for gradient in [false, true] {
        let conv = if gradient {
            BlockedConv::input_grad_split(s, &w).unwrap()
        } else {
            BlockedConv::forward_split(s, &w).unwrap()
        };
        let served = gradient || s.kernel == [1, 1] || s.stride == [1, 1];
        prop_assert_eq!(conv.is_some(), has_matrix_unit() && served);
        let Some(conv) = conv else { continue };
        let pad = |bits: u64| [bits as usize % 2, bits as usize / 2 % 3];
        let input = BlockedShape { batch: s.batch, channels: s.in_channels, size: s.input, pad: pad(seed) };
        let output = BlockedShape { channels: s.out_channels, size: s.output(), pad: pad(seed / 6), ..input };
        let (mut src, mut dst) = if gradient { (output, input) } else { (input, output) };
        // Without borders, all rows are treated as one long row.
        if seed.is_multiple_of(3) {
            (src.pad, dst.pad) = ([0, 0], [0, 0]);
        }
        let need = conv.source_pad();
        src.pad = [0, 1].map(|axis| src.pad[axis].max(need[axis]));
        let x = values::<f32>(seed + 1, src.batch * src.channels * src.size[0] * src.size[1]);
        let mut bias = values::<f32>(seed + 2, dst.channels);
        let r = values::<f32>(seed + 3, dst.batch * dst.channels * dst.size[0] * dst.size[1]);
        let y = if gradient {
            common::conv_input_grad(s, &to_f64(&x), &to_f64(&w))
        } else {
            common::conv(s, &to_f64(&x), &to_f64(&w), &vec![0.0; s.out_channels])
        };
        let plane = dst.size[0] * dst.size[1];
        let expected: Vec<f64> = y
            .iter()
            .zip(&r)
            .enumerate()
            .map(|(at, (y, r))| y + f64::from(*r) + f64::from(bias[at / plane % dst.channels]))
            .map(|y| if seed.is_multiple_of(2) { y.max(0.0) } else { y })
            .collect();
        bias.resize(dst.blocks() * BLOCK, 0.0);
        let run = |src: &BlockedShape, x: &[f32], r: &[f32], dst: &BlockedShape| {
            let (mut y, mut record) = (vec![f32::NAN; dst.len()], vec![0; dst.mask_len()]);
            let pad = [seed as usize / 3 % 2; 2];
            let residual_shape = BlockedShape { pad, ..*dst };
            let residual = blocked(&residual_shape, r);
            let epilogue = BlockedEpilogue {
                bias: Some(&bias),
                residual: Some((&residual_shape, &residual)),
                activation: if seed.is_multiple_of(2) { Activation::Relu } else { Activation::None },
                record: Some(&mut record),
                mask: None,
            };
            conv.run(src, &blocked(src, x), epilogue, dst, &mut y).unwrap();
            (y, record)
        };
        let (found, record) = on_threads(1, || run(&src, &x, &r, &dst));
        prop_assert!(clean(&dst, &found));
        for threads in [2, 3, 8] {
            let again = on_threads(threads, || run(&src, &x, &r, &dst));
            prop_assert!(again == (found.clone(), record.clone()), "{} threads", threads);
        }
        let y = planar(&dst, &found);
        // ReLU does not increase an error.
        let [x_size, w_size, bias_size, r_size] =
            [&x, &w, &bias[..dst.channels].to_vec(), &r].map(|values| bounds::magnitudes(&to_f64(values)));
        let sums = if gradient {
            common::conv_input_grad(s, &x_size, &w_size)
        } else {
            common::conv(s, &x_size, &w_size, &vec![0.0; s.out_channels])
        };
        let bounds = sums.iter().zip(&r_size).enumerate().map(|(at, (sum, r))| {
            let added = r + bias_size[at / plane % dst.channels];
            split_error(s, gradient) * sum + gamma(3, bounds::SINGLE) * (sum + added)
        });
        bounds::within(&y, &expected, &bounds.collect::<Vec<_>>())?;
        let (x_len, y_len) = (x.len() / s.batch.max(1), y.len() / s.batch.max(1));
        for n in 0..s.batch {
            let one = |shape: BlockedShape, pad| BlockedShape { batch: 1, pad, ..shape };
            let (src, dst) = (one(src, need), one(dst, [0, 1]));
            let of = |values: &[f32], len: usize| values[n * len..][..len].to_vec();
            let (sample, _) = run(&src, &of(&x, x_len), &of(&r, y_len), &dst);
            prop_assert!(planar(&dst, &sample) == of(&y, y_len), "sample {}", n);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(96))]

    #[test]
    fn agrees_with_the_definition_and_keeps_its_bits(s in shapes(), seed in 0_u64..1000) {
        agrees(&s, seed)?;
    }
}

#[test]
fn real_layers_agree() {
    for (seed, (ic, oc, size, kernel, stride)) in [
        (64, 256, 56, 1, 1),
        (130, 20, 14, 3, 1),
        (512, 130, 7, 3, 1),
        (24, 24, 28, 3, 2),
        (40, 72, 28, 1, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let padding = [kernel / 2; 4];
        let params = ConvParams {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding,
            ..shape(2, ic, oc, [size, size])
        };
        let s = ConvShape::new(params).unwrap();
        agrees(&s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
    }
}

#[test]
fn large_and_small_numbers_keep_their_precision() {
    let s = ConvShape::new(shape(1, 48, 40, [5, 7])).unwrap();
    let w = values::<f32>(1, s.weight_len());
    for conv in [BlockedConv::forward_split(&s, &w), BlockedConv::input_grad_split(&s, &w)] {
        let Some(conv) = conv.unwrap() else { continue };
        let [src, dst] = if conv.to_string().starts_with("48") { [48, 40] } else { [40, 48] }
            .map(|channels| BlockedShape { batch: 1, channels, size: [5, 7], pad: [0, 0] });
        let x = values::<f32>(2, src.channels * 35);
        let scaled = |power: i32| {
            let scale = 2.0_f32.powi(power);
            let x: Vec<f32> = x.iter().map(|x| x * scale).collect();
            let mut y = vec![0.0; dst.len()];
            conv.run(&src, &blocked(&src, &x), BlockedEpilogue::default(), &dst, &mut y).unwrap();
            y.into_iter().map(|y| y / scale).collect::<Vec<f32>>()
        };
        let plain = scaled(0);
        assert!(scaled(118) == plain, "{conv}: near the largest numbers");
        assert!(scaled(-60) == plain, "{conv}: small numbers");
    }
}

#[test]
fn other_convolutions_are_left_to_other_kernels() {
    let grouped = ConvShape::new(ConvParams { groups: 2, ..shape(1, 4, 6, [5, 5]) }).unwrap();
    let w = vec![1.0; grouped.weight_len()];
    assert!(BlockedConv::forward_split(&grouped, &w).unwrap().is_none());
    assert!(BlockedConv::input_grad_split(&grouped, &w).unwrap().is_none());
    if has_matrix_unit() {
        let one = ConvShape::new(shape(1, 4, 6, [5, 5])).unwrap();
        assert!(BlockedConv::forward_split(&one, &[0.0; 23]).is_err());
        assert!(BlockedConv::input_grad_split(&one, &[0.0; 25]).is_err());
        let conv = BlockedConv::forward_split(&one, &[0.0; 24]).unwrap().unwrap();
        assert_eq!(conv.to_string(), "4×5×5 → 6×5×5, 1 taps, on the matrix unit");
    }
}
