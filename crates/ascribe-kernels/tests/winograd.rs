//! Compares Winograd convolutions with the definition in double precision, and their errors with those of direct
//! kernels.

mod common;

use std::sync::Arc;

use ascribe_kernels::blocked::{BLOCK, BlockedConv, BlockedEpilogue, BlockedShape, Weights};
use ascribe_kernels::{Activation, ConvParams, ConvShape, KernelError};
use common::{bits, blocked, bounds, clean, on_threads, planar, to_f64, values};
use proptest::prelude::*;

fn shape(batch: usize, ic: usize, oc: usize, input: [usize; 2], padding: [usize; 4]) -> ConvShape {
    ConvShape::new(ConvParams {
        batch,
        in_channels: ic,
        out_channels: oc,
        input,
        kernel: [3, 3],
        padding,
        ..Default::default()
    })
    .unwrap()
}

fn shapes() -> impl Strategy<Value = ConvShape> {
    let pad = || 0_usize..4;
    let sides = (3_usize..24, 3_usize..24);
    (0_usize..3, 1_usize..40, 1_usize..80, sides, (pad(), pad(), pad(), pad()))
        .prop_map(|(batch, ic, oc, (h, w), (t, l, b, r))| shape(batch, ic, oc, [h, w], [t, l, b, r]))
}

/// A way to run a 3 × 3 convolution: whether it is an input gradient, M of F(M × M), the function that packs it, and
/// the function that leaves the weights in the caller's memory (lent weights).
type Way = (
    bool,
    usize,
    fn(&ConvShape, &[f32]) -> Result<Option<BlockedConv>, KernelError>,
    fn(&ConvShape, Arc<Vec<f32>>) -> Option<BlockedConv>,
);

const WAYS: [Way; 3] = [
    (false, 2, BlockedConv::forward_winograd, |s, w| BlockedConv::forward_winograd_lent(s, w)),
    (
        true,
        2,
        |s, w| BlockedConv::input_grad_winograd(s, 2, w),
        |s, w| BlockedConv::input_grad_winograd_lent(s, 2, w),
    ),
    (
        true,
        4,
        |s, w| BlockedConv::input_grad_winograd(s, 4, w),
        |s, w| BlockedConv::input_grad_winograd_lent(s, 4, w),
    ),
];

fn sides(s: &ConvShape, gradient: bool, pad: usize) -> (BlockedShape, BlockedShape) {
    let input =
        BlockedShape { batch: s.batch, channels: s.in_channels, size: s.input, pad: [pad % 2, pad / 2 % 3] };
    let output =
        BlockedShape { channels: s.out_channels, size: s.output(), pad: [pad / 4 % 2, pad % 3], ..input };
    if gradient { (output, input) } else { (input, output) }
}

fn run(conv: &BlockedConv, src: &BlockedShape, x: &[f32], dst: &BlockedShape) -> Vec<f32> {
    let mut y = vec![f32::NAN; dst.len()];
    conv.run(src, &blocked(src, x), BlockedEpilogue::default(), dst, &mut y).unwrap();
    y
}

fn agrees(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    let w = values::<f32>(seed, s.weight_len());
    let lent_w = Arc::new(w.clone());
    for (gradient, outputs, pack, lend) in WAYS {
        let conv = pack(s, &w).unwrap().unwrap();
        let (src, dst) = sides(s, gradient, seed as usize);
        let x = values::<f32>(seed + 1, src.batch * src.channels * src.size[0] * src.size[1]);
        let expected = if gradient {
            common::conv_input_grad(s, &to_f64(&x), &to_f64(&w))
        } else {
            common::conv(s, &to_f64(&x), &to_f64(&w), &vec![0.0; s.out_channels])
        };
        let found = on_threads(1, || run(&conv, &src, &x, &dst));
        prop_assert!(clean(&dst, &found));
        for threads in [2, 3, 8] {
            prop_assert!(on_threads(threads, || run(&conv, &src, &x, &dst)) == found, "{} threads", threads);
        }
        // Several runs, since the first one may keep the transformed filters for the later ones.
        let lent = lend(s, Arc::clone(&lent_w)).unwrap();
        for threads in [1, 2, 3, 8, 1] {
            let found_lent = on_threads(threads, || run(&lent, &src, &x, &dst));
            prop_assert!(found_lent == found, "lent, {} threads", threads);
        }
        let y = planar(&dst, &found);
        bounds::within(&y, &expected, &bounds::winograd(s, gradient, outputs, &to_f64(&x), &to_f64(&w)))?;
        let (x_len, y_len) = (x.len() / s.batch.max(1), y.len() / s.batch.max(1));
        for n in 0..s.batch {
            let one = |shape: BlockedShape| BlockedShape { batch: 1, pad: [0, 1], ..shape };
            let (src, dst) = (one(src), one(dst));
            let lent = lend(s, Arc::clone(&lent_w)).unwrap();
            for conv in [&conv, &lent] {
                let sample = planar(&dst, &run(conv, &src, &x[n * x_len..][..x_len], &dst));
                prop_assert!(sample == y[n * y_len..][..y_len], "sample {}", n);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]

    #[test]
    fn agrees_with_the_definition_and_keeps_its_bits(s in shapes(), seed in 0_u64..1000) {
        agrees(&s, seed)?;
    }
}

#[test]
fn real_layers_agree() {
    for (seed, (ic, oc, size)) in [(24, 40, 56), (130, 20, 14), (210, 33, 7)].into_iter().enumerate() {
        let s = shape(2, ic, oc, [size, size], [1; 4]);
        agrees(&s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
    }
}

/// Root mean square of the error, divided by that of the result.
fn rms(found: &[f32], expected: &[f64]) -> f64 {
    let square = |sum: f64, value: f64| sum + value * value;
    let errors = found.iter().zip(expected).map(|(f, e)| f64::from(*f) - e).fold(0.0, square);
    (errors / expected.iter().copied().fold(0.0, square)).sqrt()
}

#[test]
fn errors_are_those_that_the_documentation_states() {
    let s = shape(1, 256, 32, [14, 14], [1; 4]);
    let w = values::<f32>(1, s.weight_len());
    let (w64, x) = (to_f64(&w), values::<f32>(2, s.input_len()));
    let dy = values::<f32>(3, s.output_len());
    let y = common::conv(&s, &to_f64(&x), &w64, &[0.0; 32]);
    let dx = common::conv_input_grad(&s, &to_f64(&dy), &w64);
    let of = |gradient: bool, conv: Result<Option<BlockedConv>, KernelError>| {
        let (mut src, dst) = sides(&s, gradient, 0);
        src.pad = [1, 1];
        let found = planar(&dst, &run(&conv.unwrap().unwrap(), &src, if gradient { &dy } else { &x }, &dst));
        rms(&found, if gradient { &dx } else { &y })
    };
    let direct = of(false, BlockedConv::forward(&s, &w));
    let small = of(false, BlockedConv::forward_winograd(&s, &w));
    let direct_grad = of(true, BlockedConv::input_grad(&s, &w));
    let small_grad = of(true, BlockedConv::input_grad_winograd(&s, 2, &w));
    let large_grad = of(true, BlockedConv::input_grad_winograd(&s, 4, &w));
    println!("{direct:.2e} {small:.2e} {direct_grad:.2e} {small_grad:.2e} {large_grad:.2e}");
    assert!(direct < 2.5e-7 && direct_grad < 2.5e-7);
    assert!(small < 6e-7 && small_grad < 6e-7);
    assert!(large_grad < 4e-6);
}

#[test]
fn the_epilogue_is_applied() {
    let s = shape(2, 20, 40, [9, 10], [1; 4]);
    let w = values::<f32>(1, s.weight_len());
    let convs = WAYS.into_iter().flat_map(|(gradient, _, pack, lend)| {
        [pack(&s, &w).unwrap(), lend(&s, Arc::new(w.clone()))].map(|conv| (gradient, conv.unwrap()))
    });
    for (gradient, conv) in convs {
        let (src, dst) = sides(&s, gradient, 1);
        let x = values::<f32>(2, src.batch * src.channels * 90);
        let plain = planar(&dst, &run(&conv, &src, &x, &dst));
        let bias = values::<f32>(3, dst.blocks() * BLOCK);
        let residual = values::<f32>(4, plain.len());
        let residual_shape = BlockedShape { pad: [1, 0], ..dst };
        let mask: Vec<u16> =
            values::<f32>(5, dst.mask_len()).iter().map(|v| (v * 30000.0) as i32 as u16).collect();
        let (mut y, mut record) = (vec![f32::NAN; dst.len()], vec![0; dst.mask_len()]);
        let residual_data = blocked(&residual_shape, &residual);
        let epilogue = BlockedEpilogue {
            bias: Some(&bias),
            residual: Some((&residual_shape, &residual_data)),
            activation: Activation::Relu,
            record: Some(&mut record),
            mask: Some(&mask),
        };
        conv.run(&src, &blocked(&src, &x), epilogue, &dst, &mut y).unwrap();
        assert!(clean(&dst, &y));
        let (y, kept, passed) = (planar(&dst, &y), bits(&dst, &mask), bits(&dst, &record));
        for at in 0..y.len() {
            let sum = plain[at] + bias[at / 90 % dst.channels] + residual[at];
            assert_eq!(passed[at], sum > 0.0);
            assert_eq!(y[at], if kept[at] { sum.max(0.0) } else { 0.0 });
        }
    }
}

/// Lent weights that are clipped to at least 0.
struct Positive(Vec<f32>);

impl Weights for Positive {
    fn read(&self, reader: &mut dyn FnMut(&[f32])) {
        reader(&self.0);
    }

    fn bounds(&self) -> [f32; 2] {
        [0.0, f32::INFINITY]
    }
}

#[test]
fn lent_weights_are_clipped() {
    for size in [[4, 4], [20, 20]] {
        let s = shape(1, 20, 33, size, [1; 4]);
        let w = values::<f32>(1, s.weight_len());
        let clipped: Vec<f32> = w.iter().map(|v| v.max(0.0)).collect();
        let (src, dst) = sides(&s, false, 0);
        let x = values::<f32>(2, s.input_len());
        let packed = BlockedConv::forward_winograd(&s, &clipped).unwrap().unwrap();
        let lent = BlockedConv::forward_winograd_lent(&s, Arc::new(Positive(w))).unwrap();
        assert_eq!(run(&lent, &src, &x, &dst), run(&packed, &src, &x, &dst));
    }
}

#[test]
fn other_layers_are_declined_and_lengths_checked() {
    let s = shape(1, 4, 4, [8, 8], [1; 4]);
    let w = vec![0.0; s.weight_len()];
    assert!(BlockedConv::input_grad_winograd(&s, 3, &w).unwrap().is_none());
    assert!(matches!(
        BlockedConv::forward_winograd(&s, &w[1..]),
        Err(KernelError::Length { argument: "weight", .. })
    ));
    assert!(matches!(
        BlockedConv::input_grad_winograd(&s, 4, &w[1..]),
        Err(KernelError::Length { argument: "weight", .. })
    ));
    for params in [
        ConvParams { stride: [2, 1], ..*s.params() },
        ConvParams { dilation: [1, 2], ..*s.params() },
        ConvParams { kernel: [3, 5], ..*s.params() },
        ConvParams { groups: 2, ..*s.params() },
    ] {
        let s = ConvShape::new(params).unwrap();
        let w = vec![0.0; s.weight_len()];
        assert!(BlockedConv::forward_winograd(&s, &w).unwrap().is_none());
        assert!(BlockedConv::forward_winograd_lent(&s, Arc::new(w.clone())).is_none());
        assert!(BlockedConv::input_grad_winograd_lent(&s, 4, Arc::new(w)).is_none());
    }
    let conv = BlockedConv::forward_winograd(&s, &w).unwrap().unwrap();
    let tensor = BlockedShape { batch: 1, channels: 4, size: [8, 8], pad: [0, 0] };
    let (x, mut y) = (vec![0.0; tensor.len()], vec![0.0; tensor.len()]);
    let result = conv.run(&tensor, &x[1..], BlockedEpilogue::default(), &tensor, &mut y);
    assert!(matches!(result, Err(KernelError::Length { argument: "src", .. })));
    // With few pixels, and with many, where the run keeps the transformed filters.
    for size in [[2, 2], [30, 30]] {
        let s = shape(1, 4, 4, size, [1; 4]);
        let conv = BlockedConv::forward_winograd_lent(&s, Arc::new(w[1..].to_vec())).unwrap();
        let tensor = BlockedShape { size, ..tensor };
        let (x, mut y) = (vec![0.0; tensor.len()], vec![0.0; tensor.len()]);
        let result = conv.run(&tensor, &x, BlockedEpilogue::default(), &tensor, &mut y);
        assert!(matches!(
            result,
            Err(KernelError::Length { argument: "weights", expected: 144, found: 143, .. })
        ));
    }
}
