//! Adaptive quadrature along paths: more points where the gradients do not account for the change of the score.
//!
//! For every part of a path, ∫ ∇S · dγ is the change of the score between its ends, which is known. The difference
//! between that and the result of the quadrature is the gap of the part. Parts with large gaps are bisected.

use std::cell::RefCell;
use std::collections::VecDeque;

use ascribe_core::sweep::Point;
use ascribe_core::{DType, Differentiable, Error, Found, Result, Task, Tensor, sweep};

use super::quadrature::Quadrature;
use super::refined::{Integral, Part, Refined};
use super::{Path, accumulate, row};

/// Settings of the integration along paths; the fields are those of the methods that use it.
#[derive(Clone, Copy, Debug)]
pub struct Integrator {
    /// The points on the path at which the gradient is evaluated, and their weights.
    pub quadrature: Quadrature,
    /// Number of points on the path; with a tolerance, the number on each part.
    pub steps: usize,
    /// Largest acceptable completeness gap, as a fraction of |S(x) − S(x′)|; `None` for exactly `steps` points.
    pub tolerance: Option<f64>,
    /// Number of points on the path at which refinement stops.
    pub max_steps: usize,
}

/// Gap that causes a warning, as a fraction of the change of the score.
const ALARMING: f64 = 0.05;

/// Largest number of points: more than any path needs. The time to compute Gauss–Legendre nodes is quadratic in their
/// number.
const MAX_STEPS: usize = 100_000;

impl Integrator {
    /// Checks the settings.
    ///
    /// # Errors
    /// If a setting is invalid; the error names the field.
    pub fn check(&self) -> Result<()> {
        self.quadrature.nodes(self.steps.min(2))?;
        for (name, steps) in [("steps", self.steps), ("max_steps", self.max_steps)] {
            if steps > MAX_STEPS {
                return Err(Error::invalid(name, steps.to_string(), format!("at most {MAX_STEPS}")));
            }
        }
        if let Some(tolerance) = self.tolerance.filter(|t| !(*t > 0.0 && t.is_finite())) {
            return Err(Error::invalid("tolerance", tolerance.to_string(), "a positive number"));
        }
        if self.tolerance.is_some() && self.max_steps < self.steps {
            let expected = format!("at least steps = {}", self.steps);
            return Err(Error::invalid("max_steps", self.max_steps.to_string(), expected));
        }
        Ok(())
    }

    /// The attribution of the explained inputs: ∫ ∇S ⊙ γ′ dα, averaged over `count` paths of each sample, which
    /// `paths` creates by index. Without `multiply`, it is the mean gradient ∫ ∇S dα along straight paths, which does
    /// not satisfy completeness. Notes report the number of points; a gap of more than 5 % is a warning.
    ///
    /// # Errors
    /// Errors of the model, the target and the paths; if the run is cancelled.
    pub fn attribute<M: Differentiable + ?Sized, P: Path>(
        &self,
        task: &Task<'_, M>,
        count: usize,
        mut paths: impl FnMut(usize) -> Result<P>,
        multiply: bool,
    ) -> Result<Found> {
        let (x, samples) = (task.x, task.samples()?);
        let scores = task.score(x, &samples)?;
        let mut means = vec![0.0; samples.len()];
        let mut totals = vec![(Integral::default(), 0.0, 0_usize); samples.len()];
        for number in 0..count {
            let path = paths(number)?;
            let starts = task.score(&x.with_explained(path.starts().to_vec())?, &samples)?;
            means.iter_mut().zip(&starts).for_each(|(mean, start)| *mean += start / count as f64);
            let refined = self.refine(task, &path, &scores, &starts)?;
            for ((mean, gap, points), of) in totals.iter_mut().zip(&refined) {
                of.add_to(mean, count)?;
                *gap += of.gap() / count as f64;
                *points = (*points).max(of.points);
            }
        }
        let mut found = Found::default();
        for (sample, (_, gap, points)) in totals.iter().enumerate() {
            let relative = relative_gap(*gap, scores[sample], means[sample], dtype(task));
            self.judge(&mut found, sample, *points, relative, multiply);
        }
        let columns = x.explained().enumerate().map(|(i, _)| {
            let of = |integral: &Integral| {
                if multiply { integral.product.get(i).cloned() } else { integral.gradient.get(i).cloned() }
            };
            let rows: Option<Vec<Tensor>> = totals.iter().map(|(integral, ..)| of(integral)).collect();
            let rows = rows.ok_or_else(|| {
                Error::invalid("path", "is not straight", "a straight one, for gradients without the way")
            })?;
            Ok(Tensor::cat(&rows, 0)?)
        });
        found.values = columns.collect::<Result<_>>()?;
        found.baseline_scores = multiply.then_some(means);
        found.scores = Some(scores);
        Ok(found)
    }

    /// Adds a note or warning about how well a sample's attribution accounts for its score.
    fn judge(&self, found: &mut Found, sample: usize, points: usize, relative: f64, multiply: bool) {
        let percent = 100.0 * relative;
        if let Some(tolerance) = self.tolerance {
            let verdict = if relative > tolerance { "tolerance not reached" } else { "within tolerance" };
            found.notes.push(format!(
                "sample {sample}: {points} steps, completeness gap {percent:.2} % of S(x) − S(x′), {verdict}"
            ));
        }
        if multiply && relative > ALARMING {
            let rest = match self.tolerance {
                None => "raise `steps`, or set a `tolerance`",
                Some(_) => "raise `max_steps`, or take a baseline nearer to the input",
            };
            found.warnings.push(format!(
                "sample {sample}: the attribution misses {percent:.0} % of S(x) − S(x′) with {points} steps; {rest}"
            ));
        }
    }

    /// Integrates along the paths of all samples, and refines where the gradients do not account for the change of
    /// the score.
    fn refine<M: Differentiable + ?Sized>(
        &self,
        task: &Task<'_, M>,
        path: &impl Path,
        scores: &[f64],
        starts: &[f64],
    ) -> Result<Vec<Refined>> {
        let mut all: Vec<Refined> = scores.iter().map(|_| Refined::default()).collect();
        let whole =
            |sample: usize| Part { sample, ends: [0.0, 1.0], scores: [starts[sample], scores[sample]] };
        let mut open: Vec<Part> = (0..scores.len()).map(whole).collect();
        loop {
            let found = self.integrate(task, path, &open)?;
            for (part, integral) in open.drain(..).zip(found) {
                let gap = integral.total()? - (part.scores[1] - part.scores[0]);
                let of = &mut all[part.sample];
                of.points += self.steps;
                of.parts.push((part, integral, gap));
            }
            let Some(tolerance) = self.tolerance else { break };
            for (of, (score, start)) in all.iter_mut().zip(scores.iter().zip(starts)) {
                if relative_gap(of.gap(), *score, *start, dtype(task)) > tolerance {
                    // Bisecting a part replaces it by two.
                    let room = self.max_steps.saturating_sub(of.parts.len() * self.steps) / self.steps;
                    open.extend(of.cut(tolerance * (score - start).abs(), room));
                }
            }
            if open.is_empty() {
                break;
            }
            score_middles(task, path, &mut open)?;
        }
        all.iter_mut().for_each(Refined::sort);
        Ok(all)
    }

    /// The integrals over some parts of paths, in their order, with `steps` points each.
    fn integrate<M: Differentiable + ?Sized>(
        &self,
        task: &Task<'_, M>,
        path: &impl Path,
        parts: &[Part],
    ) -> Result<Vec<Integral>> {
        let nodes = self.quadrature.nodes(self.steps)?;
        if path.is_straight()
            && let Some(found) = integrate_lines(task, path, parts, &nodes)?
        {
            return Ok(found);
        }
        let steps = nodes.len();
        let points = parts.iter().enumerate().flat_map(|(number, part)| {
            (0..steps).map(move |node| Point { sample: part.sample, index: number * steps + node })
        });
        let node = |point: Point| parts[point.index / steps].node(nodes[point.index % steps]);
        let mut finished = Vec::with_capacity(parts.len());
        // Velocities of the points that are being evaluated: the rows of a chunk are made before the results of the
        // previous one arrive.
        let velocities = RefCell::new(VecDeque::new());
        let mut sum: Vec<Tensor> = Vec::new();
        sweep::gradients(
            task,
            &points.collect::<Vec<_>>(),
            |point, _| {
                let (alpha, _) = node(point);
                velocities.borrow_mut().push_back(path.velocity(point.sample, alpha)?);
                path.position(point.sample, alpha)
            },
            |point, found| {
                let (_, weight) = node(point);
                let velocity: Vec<Tensor> = velocities.borrow_mut().pop_front().unwrap_or_default();
                let last = (point.index + 1) % steps == 0;
                if path.is_straight() {
                    accumulate(&mut sum, &found.gradient, weight)?;
                    if last {
                        finished.push(Integral::of_line(&velocity, std::mem::take(&mut sum))?);
                    }
                    return Ok(());
                }
                let product = found.gradient.iter().zip(&velocity).map(|(g, v)| Ok((g * v)?));
                accumulate(&mut sum, &product.collect::<Result<Vec<_>>>()?, weight)?;
                if last {
                    finished.push(Integral { product: std::mem::take(&mut sum), gradient: Vec::new() });
                }
                Ok(())
            },
        )?;
        Ok(finished)
    }
}

fn dtype<M: ?Sized>(task: &Task<'_, M>) -> DType {
    task.x.explained().next().map_or(DType::F32, |input| input.value.dtype())
}

/// Evaluates the scores at the midpoints where the halves of bisected parts meet; the halves come in pairs.
fn score_middles<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    path: &impl Path,
    parts: &mut [Part],
) -> Result<()> {
    let points: Vec<Point> = parts
        .chunks_exact(2)
        .enumerate()
        .map(|(index, pair)| Point { sample: pair[0].sample, index })
        .collect();
    let middles: Vec<f64> = parts.chunks_exact(2).map(|pair| pair[0].ends[1]).collect();
    let places: Result<Vec<Vec<Tensor>>> =
        points.iter().map(|point| path.position(point.sample, middles[point.index])).collect();
    let places = places?;
    let mut scores = vec![0.0; points.len()];
    sweep::scores(
        task,
        &points,
        |point, _| Ok(places[point.index].clone()),
        |point, score| {
            scores[point.index] = score;
            Ok(())
        },
    )?;
    for (pair, middle) in parts.chunks_exact_mut(2).zip(scores) {
        pair[0].scores[1] = middle;
        pair[1].scores[0] = middle;
    }
    Ok(())
}

/// [`Integrator::integrate`] for models that share work along a straight line; `None` for other models.
fn integrate_lines<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    path: &impl Path,
    parts: &[Part],
    nodes: &[(f64, f64)],
) -> Result<Option<Vec<Integral>>> {
    let total = parts.len() * nodes.len();
    let mut finished = Vec::with_capacity(parts.len());
    let mut done = 0;
    for part in parts {
        let end = task.x.select(&[part.sample])?;
        let start = end.with_explained(row(path.starts(), part.sample)?)?;
        // All samples have the same shape, so the first line decides for all.
        let Some(mut line) = task.model.line(&start, &end)? else { return Ok(None) };
        let nodes: Vec<(f64, f64)> = nodes.iter().map(|&node| part.node(node)).collect();
        sweep::line(task, line.as_mut(), &nodes, part.sample, [done, total])?;
        done += nodes.len();
        finished.push(Integral::of_line(&path.velocity(part.sample, part.ends[0])?, line.sum()?)?);
    }
    Ok(Some(finished))
}

/// The gap as a fraction of the change of the score. A gap that rounding of the scores alone can cause counts as
/// zero; otherwise refinement would never end for a score that hardly changes.
fn relative_gap(gap: f64, score: f64, baseline: f64, dtype: DType) -> f64 {
    let unit = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let rounding = 4.0 * unit * (score.abs() + baseline.abs());
    if gap.abs() <= rounding {
        return 0.0;
    }
    gap.abs() / (score - baseline).abs().max(rounding).max(f64::MIN_POSITIVE)
}
