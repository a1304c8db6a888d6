//! Pointwise convolutions on the matrix unit against the definition in double precision, beside the vector kernels.
//!
//! Where a processor has no such unit, there is nothing to test but that; the unit tests emulate it.

mod common;

use ascribe_kernels::blocked::{BLOCK, BlockedConv, BlockedEpilogue, BlockedShape, has_matrix_unit};
use ascribe_kernels::{Activation, ConvParams, ConvShape};
use common::{blocked, clean, error, on_threads, planar, to_f64, values};
use proptest::prelude::*;

fn shape(batch: usize, ic: usize, oc: usize, input: [usize; 2], stride: [usize; 2]) -> ConvShape {
    let kernel = [1, 1];
    let params =
        ConvParams { batch, in_channels: ic, out_channels: oc, input, kernel, stride, ..Default::default() };
    ConvShape::new(params).unwrap()
}

fn shapes() -> impl Strategy<Value = ConvShape> {
    let stride = prop_oneof![3 => Just([1, 1]), 1 => (1_usize..3, 1_usize..4).prop_map(|(h, w)| [h, w])];
    (0_usize..4, 1_usize..150, 1_usize..150, (1_usize..20, 1_usize..20), stride)
        .prop_map(|(batch, ic, oc, (h, w), stride)| shape(batch, ic, oc, [h, w], stride))
}

fn agrees(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    let w = values::<f32>(seed, s.weight_len());
    for gradient in [false, true] {
        let conv = if gradient {
            BlockedConv::input_grad_split(s, &w).unwrap()
        } else {
            BlockedConv::forward_split(s, &w).unwrap()
        };
        prop_assert_eq!(conv.is_some(), has_matrix_unit() && (!gradient || s.stride == [1, 1]));
        let Some(conv) = conv else { continue };
        let pad = |bits: u64| [bits as usize % 2, bits as usize / 2 % 3];
        let input = BlockedShape {
            batch: s.batch,
            channels: s.in_channels,
            size: s.input,
            pad: if seed.is_multiple_of(3) { [0, 0] } else { pad(seed) },
        };
        let output = BlockedShape {
            channels: s.out_channels,
            size: s.output(),
            pad: if seed.is_multiple_of(3) { [0, 0] } else { pad(seed / 6) },
            ..input
        };
        let (src, dst) = if gradient { (output, input) } else { (input, output) };
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
            let residual_shape = BlockedShape { pad: [seed as usize % 2; 2], ..*dst };
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
        let worst = error(&y, &expected);
        prop_assert!(worst < if gradient { 1e-5 } else { 1e-6 }, "error {}", worst);
        let (x_len, y_len) = (x.len() / s.batch.max(1), y.len() / s.batch.max(1));
        for n in 0..s.batch {
            let one = |shape: BlockedShape| BlockedShape { batch: 1, pad: [0, 1], ..shape };
            let (src, dst) = (one(src), one(dst));
            let of = |values: &[f32], len: usize| values[n * len..][..len].to_vec();
            let (sample, _) = run(&src, &of(&x, x_len), &of(&r, y_len), &dst);
            prop_assert!(planar(&dst, &sample) == of(&y, y_len), "sample {}", n);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_the_definition_and_keeps_its_bits(s in shapes(), seed in 0_u64..1000) {
        agrees(&s, seed)?;
    }
}

#[test]
fn real_layers_agree() {
    for (seed, (ic, oc, size)) in
        [(64, 256, 56), (130, 20, 14), (512, 130, 7), (24, 24, 28)].into_iter().enumerate()
    {
        let s = shape(2, ic, oc, [size, size], [1, 1]);
        agrees(&s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
    }
}

#[test]
fn other_convolutions_are_left_to_other_kernels() {
    let one = shape(1, 4, 6, [5, 5], [1, 1]);
    let params = |kernel: usize, padding: usize, groups: usize| ConvParams {
        in_channels: 4,
        out_channels: 6,
        input: [5, 5],
        kernel: [kernel; 2],
        padding: [padding; 4],
        groups,
        ..Default::default()
    };
    for params in [params(3, 1, 1), params(1, 1, 1), params(1, 0, 2)] {
        let shape = ConvShape::new(params).unwrap();
        let w = vec![1.0; shape.weight_len()];
        assert!(BlockedConv::forward_split(&shape, &w).unwrap().is_none());
        assert!(BlockedConv::input_grad_split(&shape, &w).unwrap().is_none());
    }
    if has_matrix_unit() {
        assert!(BlockedConv::forward_split(&one, &[0.0; 23]).is_err());
        assert!(BlockedConv::input_grad_split(&one, &[0.0; 25]).is_err());
        let conv = BlockedConv::forward_split(&one, &[0.0; 24]).unwrap().unwrap();
        assert_eq!(conv.to_string(), "4×5×5 → 6×5×5, on the matrix unit");
    }
}
