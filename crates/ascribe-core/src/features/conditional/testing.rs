//! What the tests of the fills share.

use candle_core::{DType, Device, Tensor};
use nalgebra::DMatrix;

use super::LARGEST;
use super::correlated::Scales;
use crate::dataset::{Dataset, InMemory, Sample};
use crate::error::Result;
use crate::features::{Features, Fill, Hidden, Mask};
use crate::sweep::{self, Point};
use crate::{BlackBox, Inputs, Run, Target, Task, random};

/// Standard normal numbers.
pub fn numbers(number: u64, count: usize) -> Vec<f64> {
    let mut stream = random::stream(0, random::Domain::DATA, number);
    random::normal(&mut stream, &[count], DType::F64, &Device::Cpu).unwrap().to_vec1().unwrap()
}

/// A dataset of these rows.
pub fn rows(rows: &[&[f64]]) -> InMemory {
    let all = Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap();
    InMemory::labelled(&all, &vec![0; rows.len()]).unwrap()
}

/// Samples with exactly this mean and covariance.
pub fn with_covariance(mean: &[f64], covariance: &[f64], count: usize) -> InMemory {
    let p = mean.len();
    let raw = DMatrix::from_vec(p, count, numbers(1, p * count));
    let centred = DMatrix::from_fn(p, count, |i, j| raw[(i, j)] - raw.row(i).mean());
    let found = &centred * centred.transpose() / (count as f64 - 1.0);
    let white = found.cholesky().unwrap().l().solve_lower_triangular(&centred).unwrap();
    let wanted = DMatrix::from_row_slice(p, p, covariance).cholesky().unwrap().l() * white;
    let all: Vec<Vec<f64>> =
        wanted.column_iter().map(|c| c.iter().zip(mean).map(|(v, m)| v + m).collect()).collect();
    rows(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// All draws for a row of a table, whose columns are the features.
pub fn values(fill: &dyn Fill, x: &[f64], mask: &Mask) -> Result<Vec<Vec<f64>>> {
    let x = Tensor::from_slice(x, (1, x.len()), &Device::Cpu)?;
    let features = Features::positions(&Inputs::single(x.clone())?)?;
    let of_draw = |draw| {
        let hidden =
            Hidden { sample: 0, number: 0, draw, x: std::slice::from_ref(&x), mask, features: &features };
        Ok(fill.fill(&hidden)?[0].to_vec2::<f64>()?.remove(0))
    };
    (0..fill.draws()).map(of_draw).collect()
}

/// Scores of a linear model on all draws, for each mask.
pub fn scores(
    fill: &dyn Fill,
    x: &[f64],
    weights: &[f64],
    masks: &[Mask],
    batch: usize,
) -> Result<Vec<Vec<f64>>> {
    batched(fill, &[x], weights, masks, &Run::new().batch(batch))
}

/// Scores of samples, for each mask.
fn batched(
    fill: &dyn Fill,
    x: &[&[f64]],
    weights: &[f64],
    masks: &[Mask],
    run: &Run,
) -> Result<Vec<Vec<f64>>> {
    let weights = Tensor::from_slice(weights, (1, weights.len()), &Device::Cpu)?;
    let model = BlackBox::new(move |x: &Tensor| x.broadcast_mul(&weights)?.sum_keepdim(1));
    let x = Inputs::single(Tensor::from_vec(x.concat(), (x.len(), x[0].len()), &Device::Cpu)?)?;
    let (task, features) = (Task::new(&model, &x, Target::Class(0), run), Features::positions(&x)?);
    let mut found = Vec::new();
    let points = sweep::every(&task.samples()?, masks.len());
    let mask = |point: Point| Ok(masks[point.index].clone());
    run.install(|| {
        task.masked(&features, fill, &points, mask, |_, _, scores| {
            found.push(scores.to_vec());
            Ok(())
        })
    })?;
    Ok(found)
}

/// Checks that two samples get the same scores in any batch, on any number of threads, and one by one.
pub fn check_batches(fill: &dyn Fill, x: &[[f64; 3]; 2]) -> Result<()> {
    let masks = [Mask::Without(vec![1]), Mask::With(vec![1]), Mask::Without(vec![]), Mask::With(vec![])];
    let weights = [1.0, 10.0, 100.0];
    let expected = batched(fill, &[&x[0], &x[1]], &weights, &masks, &Run::new().batch(1).threads(1))?;
    assert_eq!(expected.len(), 8);
    assert!(expected[0].iter().any(|score| *score != expected[0][0]), "draws differ: {expected:?}");
    for batch in [1, 3, 64] {
        assert_eq!(
            batched(fill, &[&x[0], &x[1]], &weights, &masks, &Run::new().batch(batch).threads(2))?,
            expected
        );
    }
    let reversed: Vec<Mask> = masks.iter().rev().cloned().collect();
    let mut alone = batched(fill, &[&x[1]], &weights, &reversed, &Run::new())?;
    alone.reverse();
    assert_eq!(alone, expected[4..]);
    Ok(())
}

pub fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let scales = Scales::of(&DMatrix::from_row_slice(1, values.len(), values));
    (scales.restore(0, 0.0), (scales.restore(0, 1.0) - scales.restore(0, 0.0)).powi(2))
}

/// Checks the errors that all fills for tables have in common; `fill` is fitted on rows of three values.
pub fn check_errors(fill: &dyn Fill, fit: impl Fn(&dyn Dataset) -> Result<()>) -> Result<()> {
    let fail = |data: &dyn Dataset| fit(data).unwrap_err().to_string();
    assert!(fail(&rows(&[&[1.0, 2.0]])).contains("has 1 samples"));
    assert!(fail(&rows(&[&[1.0, 2.0], &[3.0, f64::NAN]])).contains("sample 1 of the dataset: is NaN"));
    let wide = InMemory::labelled(&Tensor::zeros((2, LARGEST + 1), DType::F64, &Device::Cpu)?, &[0, 0])?;
    assert!(fail(&wide).contains("2001 values; expected at most 2000"));
    let sample = |shape: &[usize]| -> Result<Sample> {
        let inputs = Inputs::single(Tensor::zeros(shape, DType::F64, &Device::Cpu)?)?;
        Ok(Sample { inputs, label: None, truth: None })
    };
    let mixed = InMemory::new(vec![sample(&[1, 6])?, sample(&[1, 2, 3])?])?;
    let error = fail(&mixed);
    assert!(
        error.contains("sample 1 has explained inputs of shapes [[2, 3]]") && error.contains("[[6]]"),
        "{error}"
    );
    let soft = Mask::Soft(vec![Tensor::new(&[[0.5]], &Device::Cpu)?]);
    let error = |x: &[f64], mask: &Mask| values(fill, x, mask).unwrap_err().to_string();
    assert!(error(&[0.0; 3], &soft).contains("hides or keeps features"));
    assert!(error(&[0.0; 4], &Mask::Without(vec![0])).contains("expected those of the data"));
    let missing = [f64::NAN, 0.0, 0.0];
    assert!(error(&missing, &Mask::Without(vec![1])).contains("value 0 is NaN and kept"));
    assert!(values(fill, &missing, &Mask::Without(vec![0]))?.iter().flatten().all(|value| value.is_finite()));
    Ok(())
}
