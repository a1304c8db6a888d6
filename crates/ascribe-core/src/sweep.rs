//! Evaluates many variations of each sample within the batch budget of the run.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::line::Line;
use crate::model::{Differentiable, Predictor};
use crate::target::to_f64;
use crate::task::Task;
use crate::variations::Rectangle;

/// One variation of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// Position of the sample in the batch.
    pub sample: usize,
    /// Index of the variation, from 0.
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

/// The points of `count` variations of each of these samples, ordered by sample.
pub fn every(samples: &[usize], count: usize) -> Vec<Point> {
    samples.iter().flat_map(|&sample| (0..count).map(move |index| Point { sample, index })).collect()
}

/// The explained inputs of one sample, with a first axis of length 1.
///
/// # Errors
/// If there is no such sample.
pub fn explained(x: &Inputs, sample: usize) -> Result<Vec<Tensor>> {
    x.explained().map(|input| Ok(input.value.narrow(0, sample, 1)?)).collect()
}

/// The inputs of some rows, and the sample that each row is a variation of; `variations` holds the explained inputs
/// of each point (first axis of length 1).
///
/// # Errors
/// If the variations do not fit, or a point's sample is not one of `x`.
fn rows(x: &Inputs, points: &[Point], variations: Vec<Vec<Tensor>>) -> Result<(Inputs, Vec<usize>)> {
    let samples: Vec<usize> = points.iter().map(|p| p.sample).collect();
    let inputs = x.explained().count();
    if variations.len() != points.len() || variations.iter().any(|varied| varied.len() != inputs) {
        let found: Vec<usize> = variations.iter().map(Vec::len).collect();
        let expected = format!("{} with {inputs} tensors each, one per explained input", points.len());
        return Err(Error::invalid("variations", format!("have {found:?} tensors"), expected));
    }
    let mut columns = vec![Vec::with_capacity(points.len()); inputs];
    for varied in variations {
        columns.iter_mut().zip(varied).for_each(|(column, value)| column.push(value));
    }
    let values: Result<Vec<Tensor>> = columns
        .into_iter()
        .map(|mut column| match column.as_slice() {
            [_] => Ok(column.remove(0).contiguous()?),
            _ => Ok(Tensor::cat(&column, 0)?),
        })
        .collect();
    Ok((x.varied(&samples, values?)?, samples))
}

/// Computes gradients at these points.
///
/// `vary` makes a variation from the explained inputs of a point's sample ([`explained`]); it is called in the order
/// of the points. `take` receives the results one by one, in the order of the points for any batch budget, so that
/// sums are added up in the same order in every run.
///
/// # Errors
/// Errors of the model and the closures, or if the run is cancelled.
pub fn gradients<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    points: &[Point],
    mut vary: impl FnMut(Point, &[Tensor]) -> Result<Vec<Tensor>>,
    mut take: impl FnMut(Point, AtPoint) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    for chunk in points.chunks(task.run.get_batch()) {
        task.run.step(done, points.len())?;
        let varied: Result<Vec<Vec<Tensor>>> =
            chunk.iter().map(|&point| vary(point, &explained(task.x, point.sample)?)).collect();
        let (inputs, samples) = rows(task.x, chunk, varied?)?;
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

/// Adds the gradients at all nodes of a sample's line to its sum ([`crate::Line::add`]). `done` and `total` count
/// points for the progress of the run.
///
/// # Errors
/// Errors of the model, or if the run is cancelled.
pub fn line<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    line: &mut dyn Line,
    nodes: &[(f64, f64)],
    sample: usize,
    [mut done, total]: [usize; 2],
) -> Result<()> {
    // As few batches as the budget allows, of equal size.
    let runs = nodes.len().div_ceil(task.run.get_batch());
    for chunk in nodes.chunks(nodes.len().div_ceil(runs.max(1)).max(1)) {
        task.run.step(done, total)?;
        task.add_to_line(line, chunk, sample)?;
        done += chunk.len();
    }
    task.run.step(done, total)
}

/// Computes scores at these points; `vary` and `take` as for [`gradients`], except that several variations are made
/// in parallel.
///
/// # Errors
/// Errors of the model and the closures, or if the run is cancelled.
pub fn scores<M: Predictor + ?Sized>(
    task: &Task<'_, M>,
    points: &[Point],
    vary: impl Fn(Point, &[Tensor]) -> Result<Vec<Tensor>> + Sync,
    mut take: impl FnMut(Point, f64) -> Result<()>,
) -> Result<()> {
    remaining(task, points, 0, &vary, &mut take)
}

/// Like [`scores`], with the same results, for variations that differ from their sample only within
/// `rectangle(point)`: only what changes is computed, if the model supports that ([`Predictor::variations`]). Points
/// of the same sample must be consecutive for that.
///
/// The points are evaluated in an order that suits the model. The run of each unchanged sample is not counted among
/// the rows.
///
/// # Errors
/// As [`scores`]; if a variation differs from its sample elsewhere.
pub fn scores_within<M: Predictor + ?Sized>(
    task: &Task<'_, M>,
    points: &[Point],
    rectangle: impl Fn(Point) -> Rectangle,
    vary: impl Fn(Point, &[Tensor]) -> Result<Vec<Tensor>> + Sync,
    mut take: impl FnMut(Point, f64) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    for of_sample in points.chunk_by(|a, b| a.sample == b.sample) {
        task.run.step(done, points.len())?;
        let base = task.x.select(&[of_sample[0].sample])?;
        let rectangles: Vec<Rectangle> = of_sample.iter().map(|point| rectangle(*point)).collect();
        let Some(variations) = task.model.variations(&base, &rectangles)? else {
            // All samples have the same shape, so the model does not support this for the others either.
            return remaining(task, points, done, &vary, &mut take);
        };
        // Points are evaluated group by group, but `take` receives them in order.
        let group = |at: usize| variations.group(at);
        let mut order: Vec<usize> = (0..of_sample.len()).collect();
        order.sort_by_key(|&at| group(at));
        let mut scores = vec![0.0; of_sample.len()];
        for part in order.chunk_by(|&a, &b| group(a) == group(b)) {
            for chunk in part.chunks(task.run.get_batch()) {
                task.run.step(done, points.len())?;
                let varied: Vec<Point> = chunk.iter().map(|&at| of_sample[at]).collect();
                let (inputs, samples) = side_by_side(task.x, &varied, &vary)?;
                let found = task.score_variations(variations.as_ref(), &inputs, chunk, &samples)?;
                chunk.iter().zip(found).for_each(|(&at, score)| scores[at] = score);
                done += chunk.len();
            }
        }
        of_sample.iter().zip(scores).try_for_each(|(point, score)| take(*point, score))?;
    }
    task.run.step(done, points.len())
}

/// The inputs of some rows, and the sample that each row is a variation of; `vary` makes variations from the
/// explained inputs of a point's sample ([`explained`]), several in parallel.
///
/// # Errors
/// The error of `vary` for the first point that has one; if the variations do not fit, or a point's sample is not one
/// of `x`.
pub fn side_by_side(
    x: &Inputs,
    points: &[Point],
    vary: &(impl Fn(Point, &[Tensor]) -> Result<Vec<Tensor>> + Sync),
) -> Result<(Inputs, Vec<usize>)> {
    let variation = |point: &Point| vary(*point, &explained(x, point.sample)?);
    let variations: Vec<Result<Vec<Tensor>>> = points.par_iter().map(variation).collect();
    rows(x, points, variations.into_iter().collect::<Result<_>>()?)
}

/// Scores the points after the first `done`.
fn remaining<M: Predictor + ?Sized>(
    task: &Task<'_, M>,
    points: &[Point],
    mut done: usize,
    vary: &(impl Fn(Point, &[Tensor]) -> Result<Vec<Tensor>> + Sync),
    take: &mut impl FnMut(Point, f64) -> Result<()>,
) -> Result<()> {
    for chunk in points[done..].chunks(task.run.get_batch()) {
        task.run.step(done, points.len())?;
        let (inputs, samples) = side_by_side(task.x, chunk, vary)?;
        for (point, score) in chunk.iter().zip(task.score(&inputs, &samples)?) {
            take(*point, score)?;
        }
        done += chunk.len();
    }
    task.run.step(done, points.len())
}
