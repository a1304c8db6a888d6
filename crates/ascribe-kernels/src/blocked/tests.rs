//! Checks that all instruction sets give the same results.

use std::sync::Arc;

use super::conv::BlockedConv;
use super::epilogue::BlockedEpilogue;
use super::layout::{BLOCK, BlockedShape};
use super::pool::{
    avg_pool_input_grad_with, avg_pool_with, max_pool_input_grad_with, max_pool_with, winners_len,
};
use crate::error::Result;
use crate::float::PORTABLE_FUSES;
use crate::matrix::Unit;
use crate::shape::{ConvParams, ConvShape, PoolParams, PoolShape};
use crate::simd::Isa;

fn values(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|at| ((at * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

type Packed = fn(Isa, &ConvShape, &[f32]) -> Result<Option<BlockedConv>>;

/// The ways to pack a convolution.
const DIRECTIONS: [Packed; 7] = [
    BlockedConv::forward_with,
    BlockedConv::input_grad_with,
    BlockedConv::forward_winograd_with,
    |isa, shape, weight| BlockedConv::input_grad_winograd_with(isa, shape, 2, weight),
    |isa, shape, weight| BlockedConv::input_grad_winograd_with(isa, shape, 4, weight),
    |isa, shape, weight| Ok(lent(BlockedConv::forward_winograd_with(isa, shape, weight)?, weight)),
    |isa, shape, weight| Ok(lent(BlockedConv::input_grad_winograd_with(isa, shape, 4, weight)?, weight)),
];

fn lent(conv: Option<BlockedConv>, weight: &[f32]) -> Option<BlockedConv> {
    conv.map(|conv| conv.lent(Arc::new(weight.to_vec())))
}

/// Runs `run` on every instruction set and compares the results.
fn agree(shape: &ConvShape, run: impl Fn(Isa) -> Vec<f32>) {
    let reference = run(Isa::Portable);
    let mut fused = None;
    for &isa in Isa::available() {
        let found = run(isa);
        let worst = found.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-4, "{isa} {shape:?}");
        // With fused multiply-add in the same order, results are bit-identical for any vector width.
        if isa != Isa::Portable || PORTABLE_FUSES {
            assert!(fused.get_or_insert_with(|| found.clone()) == &found, "{isa} {shape:?}");
        }
    }
}

#[test]
fn instruction_sets_agree_on_first_layers() {
    for (size, kernel, stride) in [(23, 7, 2), (19, 3, 1), (31, 5, 3)] {
        let shape = ConvShape::new(ConvParams {
            batch: 2,
            in_channels: 3,
            out_channels: 37,
            input: [size, size + 1],
            kernel: [kernel, kernel],
            stride: [stride, stride],
            padding: [kernel / 2; 4],
            ..Default::default()
        })
        .unwrap();
        let weight = values(1, shape.weight_len());
        let output = BlockedShape { batch: 2, channels: 37, size: shape.output(), pad: [3, 3] };
        agree(&shape, |isa| {
            let conv = BlockedConv::forward_planar_with(isa, &shape, &weight).unwrap().unwrap();
            let mut y = vec![f32::NAN; output.len()];
            let x = values(2, shape.input_len());
            conv.run_planar(2, &x, BlockedEpilogue::default(), &output, &mut y).unwrap();
            y
        });
        agree(&shape, |isa| {
            let conv = BlockedConv::input_grad_planar_with(isa, &shape, &weight).unwrap().unwrap();
            let (mut dy, mut dx) = (vec![0.0; output.len()], vec![f32::NAN; shape.input_len()]);
            crate::blocked::to_blocked(&output, &values(2, shape.output_len()), &mut dy).unwrap();
            conv.run_to_planar(&output, &dy, &mut dx).unwrap();
            dx
        });
    }
}

#[test]
fn instruction_sets_agree() {
    // Channels in, out, groups; size, kernel, stride.
    let layers = [
        (40, 24, 1, 17, 3, 1),
        (200, 84, 1, 7, 1, 1),
        (30, 19, 1, 9, 1, 2),
        (35, 35, 35, 19, 5, 1),
        (12, 12, 12, 19, 3, 2),
        (6, 50, 1, 21, 5, 2),
    ];
    for (ic, oc, groups, size, kernel, stride) in layers {
        let shape = ConvShape::new(ConvParams {
            batch: 2,
            in_channels: ic,
            out_channels: oc,
            groups,
            input: [size, size + 1],
            kernel: [kernel, kernel],
            stride: [stride, stride],
            padding: [kernel / 2; 4],
            ..Default::default()
        })
        .unwrap();
        let weight = values(1, shape.weight_len());
        for packed in DIRECTIONS {
            agree(&shape, |isa| {
                let Some(conv) = packed(isa, &shape, &weight).unwrap() else { return Vec::new() };
                let of = |(channels, size), pad| BlockedShape { batch: 2, channels, size, pad };
                let (src, dst) = (of(conv.src, conv.source_pad), of(conv.dst, [0, 1]));
                let (mut x, mut y) = (vec![0.0; src.len()], vec![f32::NAN; dst.len()]);
                let nchw = values(2, 2 * src.channels * src.pixels());
                crate::blocked::to_blocked(&src, &nchw, &mut x).unwrap();
                let bias = values(3, dst.blocks() * BLOCK);
                let epilogue = BlockedEpilogue { bias: Some(&bias), ..Default::default() };
                conv.run(&src, &x, epilogue, &dst, &mut y).unwrap();
                y
            });
        }
    }
}

/// The emulated AMX unit against portable direct convolution, and the processor's AMX, if it has one, against the
/// emulation.
#[test]
fn matrix_units_agree() {
    let layers =
        [(40, 24, 17, 3, 1), (70, 84, 7, 1, 1), (30, 19, 9, 1, 2), (33, 48, 9, 3, 2), (6, 5, 4, 4, 1)];
    for (ic, oc, size, kernel, stride) in layers {
        let shape = ConvShape::new(ConvParams {
            batch: 2,
            in_channels: ic,
            out_channels: oc,
            input: [size, size + 1],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 4],
            ..Default::default()
        })
        .unwrap();
        let weight = values(1, shape.weight_len());
        let run = |conv: &BlockedConv| {
            let of = |(channels, size), pad| BlockedShape { batch: 2, channels, size, pad };
            let (src, dst) = (of(conv.src, conv.source_pad), of(conv.dst, [0, 1]));
            let (mut x, mut y) = (vec![0.0; src.len()], vec![f32::NAN; dst.len()]);
            crate::blocked::to_blocked(&src, &values(2, 2 * src.channels * src.pixels()), &mut x).unwrap();
            let bias = values(3, dst.blocks() * BLOCK);
            let epilogue = BlockedEpilogue { bias: Some(&bias), ..Default::default() };
            conv.run(&src, &x, epilogue, &dst, &mut y).unwrap();
            y
        };
        for gradient in [false, true] {
            let packed = |unit| {
                if gradient {
                    BlockedConv::input_grad_split_with(unit, &shape, &weight).unwrap()
                } else {
                    BlockedConv::forward_split_with(unit, &shape, &weight).unwrap()
                }
            };
            let Some(emulated) = packed(Unit::Emulated) else { continue };
            let portable = if gradient { BlockedConv::input_grad_with } else { BlockedConv::forward_with };
            let expected = run(&portable(Isa::Portable, &shape, &weight).unwrap().unwrap());
            let found = run(&emulated);
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 3e-4, "{shape:?}: {worst}");
            if let Some(unit) = Unit::detect() {
                assert!(packed(unit).is_some_and(|conv| run(&conv) == found), "{shape:?}");
            }
        }
    }
}

#[test]
fn instruction_sets_agree_on_poolings() {
    // Adjacent windows, overlapping windows, and pixels that more than three rows of windows cover.
    for (size, kernel, stride, dilation) in
        [(44, 2, 2, 1), (45, 3, 2, 1), (17, 3, 1, 1), (19, 5, 1, 2), (7, 7, 1, 1)]
    {
        let pad = if kernel == 7 { 0 } else { kernel / 2 };
        let output = (size + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1;
        let shape = PoolShape::new(PoolParams {
            batch: 2,
            channels: 21,
            input: [size; 2],
            output: [output; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [dilation; 2],
            padding: [pad; 4],
        })
        .unwrap();
        let x_shape = BlockedShape { batch: 2, channels: 21, size: shape.input, pad: [1, 0] };
        let y_shape = BlockedShape { size: shape.output, pad: [0, 2], ..x_shape };
        let mut x = values(1, x_shape.len());
        x.iter_mut().step_by(97).for_each(|x| *x = f32::NEG_INFINITY);
        let mask: Vec<_> = (0..x_shape.mask_len()).map(|at| (at * 40503) as u16).collect();
        let run = |isa| {
            let (mut y, mut dx) = (vec![f32::NAN; y_shape.len()], vec![f32::NAN; x_shape.len()]);
            let (mut mean, mut spread) = (y.clone(), dx.clone());
            let mut winners = vec![0; winners_len(&shape)];
            let (x, dy, mask) = ((&x_shape, &x[..]), values(2, y_shape.len()), Some(&mask[..]));
            let dy = (&y_shape, &dy[..]);
            max_pool_with(isa, &shape, x, (&y_shape, &mut y), &mut winners).unwrap();
            max_pool_input_grad_with(isa, &shape, dy, &winners, mask, (&x_shape, &mut dx)).unwrap();
            avg_pool_with(isa, &shape, true, x, (&y_shape, &mut mean)).unwrap();
            avg_pool_input_grad_with(isa, &shape, false, dy, mask, (&x_shape, &mut spread)).unwrap();
            (winners, [y, dx, mean, spread])
        };
        let reference = run(Isa::Portable);
        for &isa in Isa::available() {
            assert!(run(isa) == reference, "{isa} {shape:?}");
        }
    }
}
