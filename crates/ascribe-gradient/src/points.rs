//! Gradients at a list of variations of samples, under the run's batch budget.

use ascribe_core::sweep::{AtPoint, Point};
use ascribe_core::{Differentiable, Inputs, Result, Task, Tensor};

use crate::walk::numbers;

/// The inputs of some rows: each varies one sample's explained inputs (first axis of length 1).
pub(crate) fn rows(
    x: &Inputs,
    points: &[Point],
    vary: &mut impl FnMut(Point, &[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<(Inputs, Vec<usize>)> {
    let samples: Vec<usize> = points.iter().map(|p| p.sample).collect();
    let mut columns: Vec<Vec<Tensor>> = Vec::new();
    for &point in points {
        let one: Result<Vec<Tensor>> =
            x.explained().map(|i| Ok(i.value.narrow(0, point.sample, 1)?)).collect();
        let varied = vary(point, &one?)?;
        columns.resize(varied.len(), Vec::new());
        columns.iter_mut().zip(varied).for_each(|(column, value)| column.push(value));
    }
    let values: Result<Vec<Tensor>> = columns.iter().map(|column| Ok(Tensor::cat(column, 0)?)).collect();
    Ok((x.select(&samples)?.with_explained(values?)?, samples))
}

/// Gradients at `count` variations of each of these samples, as [`ascribe_core::sweep::gradients`] does for all
/// samples: `take` receives them in order, whatever the batch budget.
pub(crate) fn gradients<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    samples: &[usize],
    count: usize,
    mut vary: impl FnMut(Point, &[Tensor]) -> Result<Vec<Tensor>>,
    mut take: impl FnMut(Point, AtPoint) -> Result<()>,
) -> Result<()> {
    let points = every(samples, count);
    let mut done = 0;
    for chunk in points.chunks(task.run.get_batch()) {
        task.run.step(done, points.len())?;
        let (inputs, samples) = rows(task.x, chunk, &mut vary)?;
        let found = task.gradient(&inputs, &samples)?;
        for (row, (&point, score)) in chunk.iter().zip(numbers(&found.scores)?).enumerate() {
            let gradient: Result<Vec<Tensor>> =
                found.values.iter().map(|g| Ok(g.narrow(0, row, 1)?)).collect();
            take(point, AtPoint { score, gradient: gradient? })?;
        }
        done += chunk.len();
    }
    task.run.step(done, points.len())
}

/// `count` variations of each of these samples, sample by sample.
pub(crate) fn every(samples: &[usize], count: usize) -> Vec<Point> {
    samples.iter().flat_map(|&sample| (0..count).map(move |index| Point { sample, index })).collect()
}
