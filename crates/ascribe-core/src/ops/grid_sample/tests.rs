//! The golden numbers are those of `torch.nn.functional.grid_sample` in double precision.

use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};

const MODES: [SampleMode; 3] = [SampleMode::Linear, SampleMode::Nearest, SampleMode::Cubic];
const PADDINGS: [SamplePadding; 3] = [SamplePadding::Zeros, SamplePadding::Border, SamplePadding::Reflection];

/// Places that are not near a pixel, where interpolation is smooth; some are outside of the image.
fn grid(shape: &[usize], sides: &[usize], align_corners: bool, seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let draws = random(&[count], 0.0, 1.0, seed).to_vec1::<f64>().unwrap();
    let axes = sides.len();
    let values: Vec<f64> = draws
        .iter()
        .enumerate()
        .map(|(i, draw)| {
            let side = sides[axes - 1 - i % axes] as f64;
            // A position with a fraction away from 0, ½ and 1.
            let whole = (draw * (side + 2.0)).floor() - 1.0;
            let part = draw * 97.0 % 1.0 * 0.3 + if draw * 31.0 % 1.0 < 0.5 { 0.1 } else { 0.6 };
            let position = whole + part;
            if align_corners && side > 1.0 {
                2.0 * position / (side - 1.0) - 1.0
            } else {
                (2.0 * position + 1.0) / side - 1.0
            }
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(24))]

    #[test]
    fn derivatives(
        sides in prop::collection::vec(2_usize..5, 1..4),
        places in 1_usize..4,
        mode in prop::sample::select(MODES.to_vec()),
        padding in prop::sample::select(PADDINGS.to_vec()),
        align_corners: bool,
        seed: u64,
    ) {
        let op = GridSample { mode, padding, align_corners };
        let x = random(&[&[2, 2], sides.as_slice()].concat(), -1.0, 1.0, seed);
        let mut shape = vec![places; sides.len() + 2];
        shape[0] = 2;
        shape[sides.len() + 1] = sides.len();
        let grid = grid(&shape, &sides, align_corners, seed ^ 1);
        check(&op, &[x, grid], &[true, true], seed);
    }
}

#[test]
fn values_as_pytorch() {
    let x =
        Tensor::new(&[1.0, -2.0, 0.5, 3.0, 4.0, -1.0], &Device::Cpu).unwrap().reshape((1, 1, 2, 3)).unwrap();
    let grid = Tensor::new(&[-0.7, -0.2, 0.3, 0.9, 1.4, -1.3, -2.1, 0.6], &Device::Cpu).unwrap();
    let grid = grid.reshape((1, 2, 2, 2)).unwrap();
    for (mode, padding, align_corners, expected) in GOLDEN {
        let op = GridSample { mode: *mode, padding: *padding, align_corners: *align_corners };
        let y = op.forward(&[&x, &grid], Backend::Auto).unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(
            y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
            "{op:?}: {y:?}, not {expected:?}"
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let op = GridSample { mode: SampleMode::Linear, padding: SamplePadding::Zeros, align_corners: false };
    let message = op.output_shape(&[&[2, 3, 4, 5], &[2, 6, 7, 3]]).unwrap_err().to_string();
    assert!(message.contains("[N, …, 2]"), "{message}");
    assert_eq!(op.output_shape(&[&[2, 3, 4, 5], &[2, 6, 7, 2]]).unwrap(), [2, 3, 6, 7]);
}

type Case = (SampleMode, SamplePadding, bool, [f64; 4]);

const GOLDEN: &[Case] = &[
    (SampleMode::Linear, SamplePadding::Zeros, false, [1.52, 1.05, 0.0, 0.0]),
    (SampleMode::Linear, SamplePadding::Zeros, true, [1.38, 2.312_5, 0.255, 0.0]),
    (SampleMode::Linear, SamplePadding::Border, false, [1.6, 1.75, 0.5, 3.0]),
    (SampleMode::Linear, SamplePadding::Border, true, [1.38, 2.312_5, 0.5, 2.6]),
    (SampleMode::Linear, SamplePadding::Reflection, false, [1.6, 1.75, 0.25, 3.25]),
    (SampleMode::Linear, SamplePadding::Reflection, true, [1.38, 2.312_5, -0.275, 2.45]),
    (SampleMode::Nearest, SamplePadding::Zeros, false, [1.0, 4.0, 0.0, 0.0]),
    (SampleMode::Nearest, SamplePadding::Zeros, true, [1.0, 4.0, 0.5, 0.0]),
    (SampleMode::Nearest, SamplePadding::Border, false, [1.0, 4.0, 0.5, 3.0]),
    (SampleMode::Nearest, SamplePadding::Border, true, [1.0, 4.0, 0.5, 3.0]),
    (SampleMode::Nearest, SamplePadding::Reflection, false, [1.0, 4.0, 0.5, 4.0]),
    (SampleMode::Nearest, SamplePadding::Reflection, true, [1.0, 4.0, 0.5, 4.0]),
    (SampleMode::Cubic, SamplePadding::Zeros, false, [1.812_200_703_125, 1.420_378_312_5, -0.007_533, 0.0]),
    (SampleMode::Cubic, SamplePadding::Zeros, true, [1.880_85, 2.587_263_847_656_2, 0.642_906, -0.179_82]),
    (SampleMode::Cubic, SamplePadding::Border, false, [1.621_761_625, 2.215_647_625, 0.536, 3.121_5]),
    (SampleMode::Cubic, SamplePadding::Border, true, [1.391_380_5, 2.544_299_593_75, 0.957_759_687_5, 2.648]),
    (
        SampleMode::Cubic,
        SamplePadding::Reflection,
        false,
        [1.625_117_5, 2.437_391_875, 0.377_71, 3.805_147_890_625],
    ),
    (
        SampleMode::Cubic,
        SamplePadding::Reflection,
        true,
        [1.441_965, 2.450_042_593_75, -0.362_054, 3.036_953],
    ),
];
