//! Paths that are directed by the gradient.

use ascribe_core::sweep::Point;
use ascribe_core::{Differentiable, Error, Found, Result, Task, Tensor, sweep};

use super::row;

/// The state of one sample's path. There is one tensor for each explained input, with a first axis of length 1.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Position of the sample in the batch.
    pub sample: usize,
    /// Index of the step, from 0.
    pub number: usize,
    /// The current position.
    pub position: &'a [Tensor],
    /// The score at this position.
    pub score: f64,
    /// The gradient at this position.
    pub gradient: &'a [Tensor],
}

/// Paths whose next point depends on the gradient at the current one: guided ones (Kapishnikov et al. 2021),
/// adversarial ones (Pan et al. 2021).
pub trait Steered {
    /// The starts of the paths: one tensor for each explained input, with one row for each sample.
    ///
    /// # Errors
    /// If they cannot be computed.
    fn starts(&self) -> Result<Vec<Tensor>>;

    /// The next point of a path; `None` if it has ended.
    ///
    /// # Errors
    /// If it cannot be computed.
    fn next(&self, step: &Step<'_>) -> Result<Option<Vec<Tensor>>>;
}

/// The attribution of the explained inputs along steered paths: Σ ∇S(γ_k) ⊙ (γ_{k+1} − γ_k) over the steps k of each
/// path. It sums to S at the path's end minus S at its start, up to the discretisation error. The paths of all
/// samples advance together, within the batch budget.
///
/// The result has no scores, because a path may end at a point other than the sample. The details `path_scores` hold,
/// for each sample, the scores at the path's start and end and the number of steps.
///
/// # Errors
/// Errors of the model, the target and the paths; if a path takes more than `max_steps` steps; if the run is
/// cancelled.
pub fn integrate_steered<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    paths: &impl Steered,
    max_steps: usize,
) -> Result<Found> {
    let samples = task.samples()?;
    let starts = paths.starts()?;
    let mut at: Vec<Vec<Tensor>> = samples.iter().map(|&s| row(&starts, s)).collect::<Result<_>>()?;
    let mut sums: Vec<Vec<Tensor>> = at
        .iter()
        .map(|one| one.iter().map(|t| Ok(t.zeros_like()?)).collect::<Result<_>>())
        .collect::<Result<_>>()?;
    let mut ends = vec![[0.0_f64, 0.0]; samples.len()];
    let mut taken = vec![0_usize; samples.len()];
    let mut open = samples.clone();
    for number in 0..=max_steps {
        if open.is_empty() {
            break;
        }
        let points: Vec<Point> = open.iter().map(|&sample| Point { sample, index: number }).collect();
        let mut next: Vec<(usize, Vec<Tensor>)> = Vec::new();
        sweep::gradients(
            task,
            &points,
            |point, _| Ok(at[point.sample].clone()),
            |point, found| {
                let sample = point.sample;
                ends[sample][usize::from(number > 0)] = found.score;
                let (position, gradient) = (&at[sample], &found.gradient);
                let step = Step { sample, number, position, score: found.score, gradient };
                let Some(to) = paths.next(&step)? else { return Ok(()) };
                for ((sum, gradient), (to, from)) in
                    sums[sample].iter_mut().zip(gradient).zip(to.iter().zip(position))
                {
                    *sum = (&*sum + (gradient * (to - from)?)?)?;
                }
                taken[sample] += 1;
                next.push((sample, to));
                Ok(())
            },
        )?;
        open = next.iter().map(|(sample, _)| *sample).collect();
        for (sample, to) in next {
            at[sample] = to;
        }
    }
    if let Some(sample) = open.first() {
        let problem = format!("of sample {sample} has not ended after {max_steps} steps");
        return Err(Error::invalid("path", problem, "one that ends, or more steps"));
    }
    let mut found = Found::default();
    for input in 0..starts.len() {
        let rows: Vec<&Tensor> = sums.iter().map(|of_sample| &of_sample[input]).collect();
        found.values.push(Tensor::cat(&rows, 0)?);
    }
    let path = |(ends, steps): (&[f64; 2], &usize)| {
        let end = if *steps == 0 { ends[0] } else { ends[1] };
        serde_json::json!({ "start": ends[0], "end": end, "steps": steps })
    };
    let paths: Vec<serde_json::Value> = ends.iter().zip(&taken).map(path).collect();
    found.details.insert("path_scores".into(), paths.into());
    Ok(found)
}
