//! The instruction sets against each other.

use super::conv::BlockedConv;
use super::epilogue::BlockedEpilogue;
use super::layout::{BLOCK, BlockedShape};
use crate::error::Result;
use crate::shape::{ConvParams, ConvShape};
use crate::simd::Isa;

fn values(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|at| ((at * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

type Packed = fn(Isa, &ConvShape, &[f32]) -> Result<Option<BlockedConv>>;

const DIRECTIONS: [Packed; 5] = [
    BlockedConv::forward_with,
    BlockedConv::input_grad_with,
    BlockedConv::forward_winograd_with,
    |isa, shape, weight| BlockedConv::input_grad_winograd_with(isa, shape, 2, weight),
    |isa, shape, weight| BlockedConv::input_grad_winograd_with(isa, shape, 4, weight),
];

fn agree(shape: &ConvShape, run: impl Fn(Isa) -> Vec<f32>) {
    let reference = run(Isa::Portable);
    let mut fused = None;
    for &isa in Isa::available() {
        let found = run(isa);
        let worst = found.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-4, "{isa} {shape:?}");
        // Fused multiply-add in the same order: the same bits, however wide the vectors.
        if isa != Isa::Portable {
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
