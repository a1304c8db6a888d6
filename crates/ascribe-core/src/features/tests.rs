use candle_core::{DType, Device, Tensor};

use super::*;
use crate::error::Result;
use crate::game::shapley_values;
use crate::sweep::{self, Point};
use crate::{Baseline, BlackBox, Inputs, Rectangle, Target, Task};

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn images(samples: usize) -> Inputs {
    let values: Vec<f64> = (0..samples * 12).map(|v| v as f64).collect();
    Inputs::single(tensor(&values, &[samples, 2, 2, 3])).unwrap()
}

#[test]
fn a_run_over_the_end_of_a_row_reaches_over_whole_rows() -> Result<()> {
    let labels = Tensor::new(&[[0_i64, 1, 1], [1, 2, 2]], &Device::Cpu)?;
    let features = Features::labels(&images(1), &[labels])?;
    assert_eq!((features.count(0), features.is_partition(0), features.uncovered(0)), (3, true, 0));
    let bounds = |of: &[usize]| features.bounds(0, of);
    assert_eq!(bounds(&[0]), Some(Rectangle { start: [0, 0], size: [1, 1] }));
    assert_eq!(bounds(&[1]), Some(Rectangle { start: [0, 0], size: [2, 3] }));
    assert_eq!(bounds(&[2]), Some(Rectangle { start: [1, 1], size: [1, 2] }));
    assert_eq!(bounds(&[0, 2]), Some(Rectangle { start: [0, 0], size: [2, 3] }));
    assert_eq!(bounds(&[]), None);
    Ok(())
}

#[test]
fn labels_must_fit() -> Result<()> {
    let fail = |labels: Tensor| Features::labels(&images(2), &[labels]).unwrap_err().to_string();
    assert!(fail(Tensor::new(&[[0_i64, 2, 2], [2, 0, 0]], &Device::Cpu)?).contains("1 does not occur"));
    assert!(fail(Tensor::new(&[[-1_i64, 0, 0], [1, 1, 1]], &Device::Cpu)?).contains("reach from -1"));
    assert!(fail(Tensor::new(&[0_i64, 1], &Device::Cpu)?).contains("have shape [2]"));
    assert!(fail(Tensor::new(&[[0_f32, 1.0, 1.0]], &Device::Cpu)?).contains("integers"));
    assert!(Features::labels(&images(2), &[]).unwrap_err().to_string().contains("are 0 tensors"));
    Ok(())
}

#[test]
fn each_sample_may_have_its_own_features() -> Result<()> {
    let labels = Tensor::new(&[[[[0_i64, 0, 0], [1, 1, 1]]], [[[0, 1, 2], [0, 1, 2]]]], &Device::Cpu)?;
    let features = Features::labels(&images(2), &[labels])?;
    assert_eq!((features.count(0), features.count(1)), (2, 3));
    let found = features.to_inputs(&images(2), &[vec![1.0, 2.0], vec![3.0, 4.0, 5.0]])?;
    let rows = found[0].flatten_from(1)?.to_vec2::<f64>()?;
    assert_eq!(rows[0], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!(rows[1], [3.0, 4.0, 5.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]);
    assert!(features.to_inputs(&images(2), &[vec![1.0], vec![2.0]]).is_err());
    Ok(())
}

#[test]
fn overlapping_features_are_averaged() -> Result<()> {
    let x = Inputs::single(tensor(&[0.0; 4], &[1, 4]))?;
    let windows = Features::windows(&x, &[2], &[1])?;
    assert_eq!(windows.coverage(0), [[1, 2, 2, 1]]);
    assert_eq!(windows.to_inputs(&x, &[vec![1.0, 2.0, 4.0]])?[0].to_vec2::<f64>()?, [[1.0, 1.5, 3.0, 4.0]]);
    Ok(())
}

#[test]
fn a_single_size_is_that_of_all_spatial_axes() -> Result<()> {
    // Windows of 2 with stride 2: along each axis of 4 there are 2.
    for (shape, expected, covered) in [
        (vec![1, 4], 2, 2),
        (vec![1, 3, 4], 2, 3 * 2),
        (vec![1, 3, 4, 4], 4, 3 * 2 * 2),
        (vec![1, 3, 4, 4, 4], 8, 3 * 2 * 2 * 2),
    ] {
        let count: usize = shape.iter().product();
        let x = Inputs::single(tensor(&vec![0.0; count], &shape))?;
        let windows = Features::windows(&x, &[2], &[2])?;
        assert_eq!(windows.count(0), expected, "{shape:?}");
        assert_eq!(windows.coverage(0), [vec![1; count]], "{shape:?}");
        assert_eq!(count / expected, covered);
        let sizes = vec![2; (shape.len() - 2).max(1)];
        assert_eq!(Features::windows(&x, &sizes, &sizes)?.count(0), expected, "{shape:?}");
    }
    Ok(())
}

/// Scores of masks over two samples; each of four values has a decimal digit of the score.
fn decimals() -> (BlackBox<impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync>, Inputs) {
    let model = BlackBox::new(|x: &Tensor| {
        x.broadcast_mul(&tensor(&[1.0, 10.0, 100.0, 1000.0], &[1, 4]))?.sum_keepdim(1)
    });
    (model, Inputs::single(tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[2, 4])).unwrap())
}

fn scores(
    fill: &dyn Fill,
    features: &Features,
    points: &[Point],
    mask: impl Fn(Point) -> Mask + Sync,
    batch: usize,
) -> Result<Vec<Vec<f64>>> {
    let (model, x) = decimals();
    let run = crate::Run::new().batch(batch);
    let task = Task::new(&model, &x, Target::Class(0), &run);
    let mut found = Vec::new();
    task.masked(
        features,
        fill,
        points,
        |point| Ok(mask(point)),
        |_, _, scores| {
            found.push(scores.to_vec());
            Ok(())
        },
    )?;
    assert_eq!(task.cost().forward, points.len() * fill.draws());
    Ok(found)
}

#[test]
fn masks_hide_keep_and_mix() -> Result<()> {
    let (_, x) = decimals();
    let features = Features::labels(&x, &[Tensor::new(&[0_u32, 0, 1, 1], &Device::Cpu)?])?;
    let points = sweep::every(&[0, 1], 3);
    let share = tensor(&[0.5, 1.0, 0.0, 0.25], &[1, 4]);
    let mask = |point: Point| match point.index {
        0 => Mask::Without(vec![1]),
        1 => Mask::With(vec![1]),
        _ => Mask::Soft(vec![share.clone()]),
    };
    let expected = [[21.0], [4300.0], [1020.5], [65.0], [8700.0], [2062.5]];
    for batch in [1, 2, 5, 64] {
        let zero = References::new(&Baseline::Zero, &x, 0)?;
        assert_eq!(scores(&zero, &features, &points, mask, batch)?, expected);
        // Zeros that are not declared as zeros.
        let zeros = References::new(&Baseline::Constant(0.0), &x, 0)?;
        assert_eq!(scores(&zeros, &features, &points, mask, batch)?, expected);
        let ones = References::new(&Baseline::Constant(1.0), &x, 0)?;
        let of_ones = scores(&ones, &features, &points[..3], mask, batch)?;
        assert_eq!(of_ones, [[1121.0], [4311.0], [1.0 + 20.0 + 100.0 + 1000.0 * 1.75]]);
    }
    Ok(())
}

#[test]
fn a_distribution_gives_one_score_for_each_row() -> Result<()> {
    let (_, x) = decimals();
    let features = Features::positions(&x)?;
    let rows = tensor(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0], &[3, 4]);
    let fill = Removal::Baseline(Baseline::Samples(rows)).prepare(&x, 0)?;
    for batch in [1, 2, 4, 7] {
        let found =
            scores(&*fill, &features, &sweep::every(&[0, 1], 2), |p| Mask::Without(vec![p.index]), batch)?;
        assert_eq!(found[0], [4320.0, 4321.0, 4322.0]);
        assert_eq!(found[3], [8705.0, 8715.0, 8725.0]);
    }
    Ok(())
}

#[test]
fn a_permutation_takes_values_of_the_batch() -> Result<()> {
    let (_, x) = decimals();
    let fill = Permuted::new(&x, 20, 3)?;
    let found =
        scores(&fill, &Features::positions(&x)?, &sweep::every(&[0], 1), |_| Mask::Without(vec![0]), 8)?;
    assert!(found[0].iter().all(|score| [4321.0, 4325.0].contains(score)));
    assert!(found[0].contains(&4321.0) && found[0].contains(&4325.0), "both samples are drawn");
    let (one, again) = (Permuted::new(&x, 20, 3)?, Permuted::new(&x, 20, 4)?);
    assert_ne!(format!("{one:?}"), format!("{again:?}"));
    assert!(Permuted::new(&images(1), 1, 0).is_err());
    Ok(())
}

#[test]
fn neighbours_fill_images_by_draws() -> Result<()> {
    let x = Inputs::single(tensor(&[1.0; 9], &[1, 1, 3, 3]))?;
    let model = BlackBox::new(|x: &Tensor| x.flatten_from(1)?.narrow(1, 4, 1));
    let run = crate::Run::new();
    let task = Task::new(&model, &x, Target::Class(0), &run);
    let fill = Removal::NoisyNeighbours { std: 0.1, draws: 3 }.prepare(&x, 1)?;
    let mut found = Vec::new();
    let features = Features::positions(&x)?;
    task.masked(
        &features,
        &*fill,
        &sweep::every(&[0], 1),
        |_| Ok(Mask::Without(vec![4])),
        |_, _, scores| {
            found.extend_from_slice(scores);
            Ok(())
        },
    )?;
    assert!(found.iter().all(|score| (score - 1.0).abs() < 0.5) && found[0] != found[1], "{found:?}");
    let soft = |_| Ok(Mask::Soft(vec![tensor(&[0.5], &[1, 1, 1, 1])]));
    let error = task.masked(&features, &*fill, &sweep::every(&[0], 1), soft, |_, _, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("hides or keeps features"), "{error}");
    Ok(())
}

#[test]
fn an_additive_model_is_a_game_whose_shapley_values_are_its_terms() -> Result<()> {
    let (model, x) = decimals();
    let run = crate::Run::new();
    let task = Task::new(&model, &x, Target::Class(0), &run);
    let features = Features::labels(&x, &[Tensor::new(&[0_u32, 1, 2, 2], &Device::Cpu)?])?;
    let rows = Tensor::from_slice(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], (2, 4), &Device::Cpu)?;
    let fill = References::new(&Baseline::Samples(rows), &x, 0)?;
    let game = MaskedGame { task: &task, features: &features, fill: &fill, sample: 1 };
    let values = shapley_values(&game, &run)?;
    for (value, expected) in values.iter().zip([4.5, 55.0, 650.0 + 7500.0]) {
        assert!((value - expected).abs() < 1e-9, "{values:?}");
    }
    Ok(())
}

#[test]
fn types_other_than_the_fast_ones_are_served() -> Result<()> {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0], &[1, 4]).to_dtype(DType::BF16)?;
    let inputs = Inputs::single(x.clone())?;
    let fill = References::new(&Baseline::Zero, &inputs, 0)?;
    let features = Features::positions(&inputs)?;
    let mask = Mask::Without(vec![1, 3]);
    let hidden = Hidden {
        sample: 0,
        number: 0,
        draw: 0,
        x: std::slice::from_ref(&x),
        mask: &mask,
        features: &features,
    };
    let found = mask.apply(hidden.x, &fill.fill(&hidden)?, false, &features, 0)?;
    assert_eq!(found[0].to_dtype(DType::F64)?.to_vec2::<f64>()?, [[1.0, 0.0, 3.0, 0.0]]);
    Ok(())
}
