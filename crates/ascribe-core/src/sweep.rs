//! Evaluating many variations of each sample under the run's batch budget.

use candle_core::Tensor;

use crate::error::Result;
use crate::explainer::Task;
use crate::inputs::Inputs;
use crate::model::{Differentiable, Predictor};
use crate::target::to_f64;

/// One variation of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Position of the sample in the batch.
    pub sample: usize,
    /// Number of the variation, from 0.
    pub index: usize,
}

/// Score and gradient at one point; gradients have a first axis of length 1.
#[derive(Clone, Debug)]
pub struct AtPoint {
    /// The score.
    pub score: f64,
    /// The gradient for each explained input.
    pub gradient: Vec<Tensor>,
}

/// `count` variations of each of these samples, sample by sample.
pub fn every(samples: &[usize], count: usize) -> Vec<Point> {
    samples.iter().flat_map(|&sample| (0..count).map(move |index| Point { sample, index })).collect()
}

/// The inputs of some rows and the sample that each varies. `vary` makes a variation from the sample's explained
/// inputs (first axis of length 1).
///
/// # Errors
/// Those of `vary`, or if a point's sample is not one of `x`.
pub fn rows(
    x: &Inputs,
    points: &[Point],
    vary: &mut impl FnMut(Point, &[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<(Inputs, Vec<usize>)> {
    let samples: Vec<usize> = points.iter().map(|p| p.sample).collect();
    let mut columns: Vec<Vec<Tensor>> = Vec::new();
    for point in points {
        let one: Result<Vec<Tensor>> =
            x.explained().map(|i| Ok(i.value.narrow(0, point.sample, 1)?)).collect();
        let varied = vary(*point, &one?)?;
        columns.resize(varied.len(), Vec::new());
        columns.iter_mut().zip(varied).for_each(|(column, value)| column.push(value));
    }
    let values: Result<Vec<Tensor>> = columns
        .into_iter()
        .map(|mut column| match column.as_slice() {
            [_] => Ok(column.remove(0).contiguous()?),
            _ => Ok(Tensor::cat(&column, 0)?),
        })
        .collect();
    Ok((x.select(&samples)?.with_explained(values?)?, samples))
}

/// Gradients at these points.
///
/// `vary` as for [`rows`]; `take` receives the results one by one, in the order of the points, whatever the batch
/// budget: what it adds up is added up in the same order in every run.
///
/// # Errors
/// Those of the model and the closures, or if the run is cancelled.
pub fn gradients<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    points: &[Point],
    mut vary: impl FnMut(Point, &[Tensor]) -> Result<Vec<Tensor>>,
    mut take: impl FnMut(Point, AtPoint) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    for chunk in points.chunks(task.run.get_batch()) {
        task.run.step(done, points.len())?;
        let (inputs, samples) = rows(task.x, chunk, &mut vary)?;
        let found = task.gradient(&inputs, &samples)?;
        for (row, (point, score)) in chunk.iter().zip(to_f64(&found.scores)?).enumerate() {
            let gradient: Result<Vec<Tensor>> =
                found.values.iter().map(|g| Ok(g.narrow(0, row, 1)?)).collect();
            take(*point, AtPoint { score, gradient: gradient? })?;
        }
        done += chunk.len();
    }
    task.run.step(done, points.len())
}

/// Scores at these points; `vary` and `take` as for [`gradients`].
///
/// # Errors
/// Those of the model and the closures, or if the run is cancelled.
pub fn scores<M: Predictor + ?Sized>(
    task: &Task<'_, M>,
    points: &[Point],
    mut vary: impl FnMut(Point, &[Tensor]) -> Result<Vec<Tensor>>,
    mut take: impl FnMut(Point, f64) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    for chunk in points.chunks(task.run.get_batch()) {
        task.run.step(done, points.len())?;
        let (inputs, samples) = rows(task.x, chunk, &mut vary)?;
        let scores = task.score(&inputs, &samples)?;
        for (point, score) in chunk.iter().zip(scores) {
            take(*point, score)?;
        }
        done += chunk.len();
    }
    task.run.step(done, points.len())
}
