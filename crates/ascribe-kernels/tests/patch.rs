//! Checks that a patch of a convolution is bit-identical to the same pixels of the whole convolution.

mod common;

use std::ops::Range;
use std::sync::Arc;

use ascribe_kernels::blocked::{BLOCK, BlockedConv, BlockedEpilogue, BlockedShape, cut_planar, cut_windows};
use ascribe_kernels::{Activation, ConvParams, ConvShape, KernelError};
use common::{blocked, blocked_conv_shapes, on_threads, planar, values};
use proptest::prelude::*;

fn winograd_shapes() -> impl Strategy<Value = ConvShape> {
    let pad = || 0_usize..3;
    (1_usize..40, 1_usize..80, 3_usize..24, 3_usize..24, (pad(), pad(), pad(), pad())).prop_map(
        |(in_channels, out_channels, height, width, (top, left, bottom, right))| {
            ConvShape::new(ConvParams {
                in_channels,
                out_channels,
                input: [height, width],
                kernel: [3, 3],
                padding: [top, left, bottom, right],
                ..Default::default()
            })
            .unwrap()
        },
    )
}

/// The pixels `rows` × `columns` of each plane of `size` pixels.
fn crop(nchw: &[f32], size: [usize; 2], rows: &Range<usize>, columns: &Range<usize>) -> Vec<f32> {
    nchw.chunks_exact(size[0] * size[1])
        .flat_map(|plane| rows.clone().flat_map(|row| &plane[row * size[1]..][columns.clone()]))
        .copied()
        .collect()
}

/// Computes a batch of three patches of the output, with bias and ReLU, and compares them with the whole output.
/// `plain` is whether the convolution reads NCHW.
fn agrees(s: &ConvShape, conv: &BlockedConv, plain: bool, seed: u64) -> Result<(), TestCaseError> {
    let output = s.output();
    let draw = |axis: usize, what: usize| values::<f32>(seed, 16)[axis * 8 + what].abs();
    let up_to = |share: f32, most: usize| ((share * (most + 1) as f32) as usize).min(most);
    let size = [0, 1].map(|axis| 1 + up_to(draw(axis, 0), output[axis] - 1));
    let step = conv.patch_step();
    let places: Vec<[usize; 2]> = (1..4)
        .map(|n| [0, 1].map(|axis| up_to(draw(axis, n), output[axis] - size[axis]) / step * step))
        .collect();
    let whole = BlockedShape { batch: 1, channels: s.in_channels, size: s.input, pad: conv.source_pad() };
    let dst = BlockedShape { batch: 1, channels: s.out_channels, size: output, pad: [1, 0] };
    let x = values::<f32>(seed + 1, s.input_len());
    let bias: Vec<f32> = values::<f32>(seed + 2, s.out_channels)
        .into_iter()
        .chain([0.0; BLOCK])
        .take(dst.blocks() * BLOCK)
        .collect();
    let epilogue =
        || BlockedEpilogue { bias: Some(&bias), activation: Activation::Relu, ..Default::default() };
    let mut y = vec![f32::NAN; dst.len()];
    if plain {
        conv.run_planar(1, &x, epilogue(), &dst, &mut y).unwrap();
    } else {
        conv.run(&whole, &blocked(&whole, &x), epilogue(), &dst, &mut y).unwrap();
    }
    let (reach, patch) = (conv.reach().unwrap(), conv.for_patch(size).unwrap().unwrap());
    let starts: Vec<[isize; 2]> = places.iter().map(|&place| reach.start(place)).collect();
    let source = BlockedShape { batch: 3, size: reach.window(size), pad: [0, 0], ..whole };
    let patches = BlockedShape { batch: 3, size, ..dst };
    let run = || {
        let mut y = vec![f32::NAN; patches.len()];
        if plain {
            let mut windows = vec![f32::NAN; 3 * s.in_channels * source.size[0] * source.size[1]];
            let pictures = [x.as_slice(); 3].concat();
            cut_planar((s.in_channels, s.input), &pictures, &starts, source.size, &mut windows).unwrap();
            patch.run_planar(3, &windows, epilogue(), &patches, &mut y).unwrap();
        } else {
            let mut windows = vec![f32::NAN; source.len()];
            let base = blocked(&whole, &x);
            cut_windows((&whole, &base), None, &starts, 0.0, (&source, &mut windows)).unwrap();
            patch.run(&source, &windows, epilogue(), &patches, &mut y).unwrap();
        }
        planar(&patches, &y)
    };
    let y = planar(&dst, &y);
    for threads in [1, 2, 3] {
        let found = on_threads(threads, run);
        for (place, found) in places.iter().zip(found.chunks_exact(s.out_channels * size[0] * size[1])) {
            let [rows, columns] = [0, 1].map(|axis| place[axis]..place[axis] + size[axis]);
            let expected = crop(&y, output, &rows, &columns);
            let same = found.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits()));
            prop_assert!(same, "{:?} at {:?}, {} threads", size, place, threads);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(200))]

    #[test]
    fn direct_patches_have_the_bits_of_the_whole(s in blocked_conv_shapes(1_usize..2), seed in 0_u64..1000) {
        let w = values::<f32>(seed + 3, s.weight_len());
        if let Some(conv) = BlockedConv::forward(&s, &w).unwrap() {
            agrees(&s, &conv, false, seed)?;
        }
        if let Some(conv) = BlockedConv::forward_planar(&s, &w).unwrap() {
            agrees(&s, &conv, true, seed)?;
        }
        if let Some(conv) = BlockedConv::forward_split(&s, &w).unwrap() {
            agrees(&s, &conv, false, seed)?;
        }
    }

    #[test]
    fn filtered_patches_have_the_bits_of_the_whole(s in winograd_shapes(), seed in 0_u64..1000) {
        let w = values::<f32>(seed + 3, s.weight_len());
        agrees(&s, &BlockedConv::forward_winograd(&s, &w).unwrap().unwrap(), false, seed)?;
        agrees(&s, &BlockedConv::forward_winograd_lent(&s, Arc::new(w)).unwrap(), false, seed)?;
    }
}

#[test]
fn what_has_no_patches_says_so() {
    let s = ConvShape::new(ConvParams {
        input: [9, 9],
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1; 4],
        ..Default::default()
    })
    .unwrap();
    let w = values::<f32>(1, 9);
    let strided = BlockedConv::input_grad(&s, &w).unwrap().unwrap();
    assert!(strided.reach().is_none() && strided.for_patch([1, 1]).unwrap().is_none());
    let dense = ConvShape::new(ConvParams { stride: [1, 1], ..*s.params() }).unwrap();
    let large = BlockedConv::input_grad_winograd(&dense, 4, &w).unwrap().unwrap();
    assert!(large.reach().is_none() && large.for_patch([4, 4]).unwrap().is_none());
    let forward = BlockedConv::forward(&s, &w).unwrap().unwrap();
    for size in [[0, 1], [6, 1]] {
        assert!(matches!(forward.for_patch(size), Err(KernelError::Shape { .. })));
    }
}
