//! Tests of resizing; the golden numbers are onnxruntime's.

use candle_core::{DType, Device};
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, distance, random};

const COORDINATES: [Coordinates; 5] = [
    Coordinates::HalfPixel,
    Coordinates::HalfPixelSymmetric,
    Coordinates::PytorchHalfPixel,
    Coordinates::AlignCorners,
    Coordinates::Asymmetric,
];
const ROUNDINGS: [Rounding; 4] =
    [Rounding::PreferFloor, Rounding::PreferCeil, Rounding::Floor, Rounding::Ceil];

fn mode() -> impl Strategy<Value = ResizeMode> {
    prop_oneof![
        prop::sample::select(ROUNDINGS.to_vec()).prop_map(|rounding| ResizeMode::Nearest { rounding }),
        Just(ResizeMode::Linear),
        Just(ResizeMode::Cubic { coefficient: -0.75 }),
    ]
}

fn size(axes: usize) -> impl Strategy<Value = ResizeSize> {
    prop_oneof![
        prop::collection::vec(1_usize..9, axes).prop_map(ResizeSize::Sides),
        prop::collection::vec(prop::sample::select(vec![1.0, 1.3, 2.0, 2.5]), axes)
            .prop_map(ResizeSize::Scales),
    ]
}

proptest! {
    #![proptest_config(ascribe_proptest::config(48))]
    #[test]
    fn derivatives(
        spatial in prop::collection::vec(1_usize..6, 2),
        one_axis in any::<bool>(),
        (size_1, size_2) in (size(1), size(2)),
        (antialias, exclude_outside) in any::<(bool, bool)>(),
        mode in mode(),
        coordinates in prop::sample::select(COORDINATES.to_vec()),
        seed in any::<u64>(),
    ) {
        let shape = if one_axis { vec![2, 3, spatial[0]] } else { vec![2, 1, spatial[0], spatial[1]] };
        let size = if one_axis { size_1 } else { size_2 };
        let edges = ResizeEdges { antialias, exclude_outside };
        check(&Resize { size, mode, coordinates, edges }, &[random(&shape, -1.0, 1.0, seed)], &[true], seed);
    }

    #[test]
    fn the_same_size_changes_nothing(
        h in 1_usize..7,
        w in 1_usize..7,
        mode in mode(),
        coordinates in prop::sample::select(COORDINATES.to_vec()),
        seed in any::<u64>(),
    ) {
        let x = random(&[1, 2, h, w], -1.0, 1.0, seed);
        let op = Resize { size: ResizeSize::Sides(vec![h, w]), mode, coordinates, edges: ResizeEdges::default() };
        prop_assert!(distance(&op.forward(&[&x], Backend::Auto).unwrap(), &x) < 1e-12);
    }
}

fn resized(shape: &[usize], size: ResizeSize, mode: ResizeMode, coordinates: Coordinates) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let x = Tensor::arange(1.0_f32, 1.0 + count as f32, &Device::Cpu).unwrap().reshape(shape).unwrap();
    let edges = ResizeEdges::default();
    let y = Resize { size, mode, coordinates, edges }.forward(&[&x], Backend::Auto).unwrap();
    y.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn nearest_as_onnxruntime() {
    let golden = [
        (Coordinates::HalfPixel, ["1122344", "1123344", "1112334", "1223444"]),
        (Coordinates::AlignCorners, ["1122334", "1223344", "1122334", "1223344"]),
        (Coordinates::Asymmetric, ["1223344", "1223344", "1122334", "1233444"]),
    ];
    for (coordinates, rows) in golden {
        for (rounding, row) in ROUNDINGS.into_iter().zip(rows) {
            let mode = ResizeMode::Nearest { rounding };
            let y = resized(&[1, 1, 4], ResizeSize::Sides(vec![7]), mode, coordinates);
            let y: String = y.iter().map(ToString::to_string).collect();
            assert_eq!(y, row, "{coordinates:?} {rounding:?}");
        }
    }
}

#[test]
fn linear_and_cubic_as_onnxruntime() {
    let close = |y: Vec<f32>, golden: &[f32]| {
        assert_eq!(y.len(), golden.len());
        assert!(y.iter().zip(golden).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?} {golden:?}");
    };
    let up = |c| resized(&[1, 1, 2, 2], ResizeSize::Sides(vec![3, 3]), ResizeMode::Linear, c);
    let down = |c| resized(&[1, 1, 4], ResizeSize::Sides(vec![3]), ResizeMode::Linear, c);
    close(up(Coordinates::HalfPixel), &[1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0]);
    close(up(Coordinates::AlignCorners), &[1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0]);
    let third = 1.0 / 3.0;
    close(
        up(Coordinates::Asymmetric),
        &[1.0, 2.0 - third, 2.0, 2.0 + third, 3.0, 3.0 + third, 3.0, 4.0 - third, 4.0],
    );
    close(down(Coordinates::HalfPixel), &[1.166_667, 2.5, 3.833_333]);
    close(down(Coordinates::AlignCorners), &[1.0, 2.5, 4.0]);
    close(down(Coordinates::Asymmetric), &[1.0, 2.333_333, 3.666_667]);
    let cubic = ResizeMode::Cubic { coefficient: -0.75 };
    close(
        resized(&[1, 1, 4], ResizeSize::Sides(vec![6]), cubic, Coordinates::HalfPixel),
        &[0.913_195, 1.406_25, 2.212_965, 2.787_038, 3.593_75, 4.086_806],
    );
}

#[test]
fn one_pixel_has_its_own_rule() {
    let one = |c| resized(&[1, 1, 4], ResizeSize::Sides(vec![1]), ResizeMode::Linear, c);
    assert_eq!(one(Coordinates::HalfPixel), [2.5]);
    assert_eq!(one(Coordinates::PytorchHalfPixel), [1.0]);
    assert_eq!(one(Coordinates::AlignCorners), [1.0]);
}

#[test]
fn scales_are_read_in_single_precision() {
    // 0.6 as stored in a file is slightly more than 0.6.
    let scale = f64::from(0.6_f32);
    let size = ResizeSize::Scales(vec![scale]);
    let mode = ResizeMode::Nearest { rounding: Rounding::Floor };
    let y = resized(&[1, 1, 5], size, mode, Coordinates::Asymmetric);
    assert_eq!(y, [1.0, 2.0, 4.0]);
}

#[test]
fn half_precision_runs_on_the_portable_path() {
    let x = random(&[1, 1, 3, 3], -1.0, 1.0, 1).to_dtype(DType::F16).unwrap();
    let op = Resize {
        size: ResizeSize::Scales(vec![2.0, 2.0]),
        mode: ResizeMode::Linear,
        coordinates: Coordinates::HalfPixel,
        edges: ResizeEdges::default(),
    };
    assert_eq!(op.forward(&[&x], Backend::Auto).unwrap().dims(), [1, 1, 6, 6]);
}

#[test]
fn wrong_sizes_are_named() {
    let op = |size| Resize {
        size,
        mode: ResizeMode::Linear,
        coordinates: Coordinates::HalfPixel,
        edges: ResizeEdges::default(),
    };
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.1, 1e30] {
        let message =
            op(ResizeSize::Scales(vec![scale])).output_shape(&[&[1, 1, 4]]).unwrap_err().to_string();
        assert!(message.starts_with("size: "), "{message}");
    }
    assert!(op(ResizeSize::Sides(vec![0])).output_shape(&[&[1, 1, 4]]).is_err());
    let message = op(ResizeSize::Sides(vec![2, 2])).output_shape(&[&[1, 1, 4]]).unwrap_err().to_string();
    assert!(message.contains("[1, 1, 4]"), "{message}");
}

/// Pillow's `BILINEAR` and torch's `interpolate(antialias=True)` give these numbers.
#[test]
fn shrinking_with_antialiasing_counts_every_value() {
    let x = Tensor::arange(0.0, 6.0, &Device::Cpu).unwrap().reshape((1, 1, 6)).unwrap();
    let edges = ResizeEdges { antialias: true, exclude_outside: true };
    let coordinates = Coordinates::HalfPixel;
    let op = Resize { size: ResizeSize::Sides(vec![2]), mode: ResizeMode::Linear, coordinates, edges };
    let y = op.forward(&[&x], Backend::Auto).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    // Weights 2/3, 1, 2/3, 1/3 of the positions around 1, without those beyond the border.
    let first =
        (2.0 / 3.0 * 0.0 + 1.0 + 2.0 / 3.0 * 2.0 + 3.0 / 3.0) / (2.0 / 3.0 + 1.0 + 2.0 / 3.0 + 1.0 / 3.0);
    assert!((y[0] - first).abs() < 1e-12 && (y[0] + y[1] - 5.0).abs() < 1e-12, "{y:?}");
}
