//! Integrals of gradients along lines, with more points where the gradients do not account for the score.
//!
//! For every part of a line, ∫ ∇S · dx is the change of the score between its ends, which is known: the difference between that and
//! what the quadrature gives is the part's gap. Parts with large gaps are cut in two.

use std::cell::RefCell;
use std::collections::VecDeque;

use ascribe_core::sweep::Point;
use ascribe_core::{DType, Differentiable, Result, Task, Tensor, sweep, to_f64};

use crate::quadrature::Quadrature;
use crate::references::References;

/// How lines are integrated; the fields are those of the methods that use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integrator {
    pub(crate) quadrature: Quadrature,
    pub(crate) steps: usize,
    pub(crate) tolerance: Option<f64>,
    pub(crate) max_steps: usize,
}

impl Integrator {
    /// The integrals over some parts of lines, in their order, with `steps` points each.
    fn integrate<M: Differentiable + ?Sized>(
        &self,
        task: &Task<'_, M>,
        references: &mut References<'_>,
        parts: &[Part],
    ) -> Result<Vec<Integral>> {
        let nodes = self.quadrature.nodes(self.steps)?;
        if let Some(found) = integrate_lines(task, references, parts, &nodes)? {
            return Ok(found);
        }
        let steps = nodes.len();
        let points = parts.iter().enumerate().flat_map(|(number, part)| {
            (0..steps).map(move |node| Point { sample: part.sample, index: number * steps + node })
        });
        let mut finished = Vec::with_capacity(parts.len());
        let mut line: Vec<(Tensor, Tensor)> = Vec::new();
        // Directions x − x′ of the lines under way: a chunk of rows may begin one before another's result is in.
        let lines = RefCell::new(VecDeque::new());
        let mut sum: Vec<Tensor> = Vec::new();
        sweep::gradients(
            task,
            &points.collect::<Vec<_>>(),
            |point, one| {
                let part = &parts[point.index / steps];
                if point.index % steps == 0 {
                    let start = references.one(part.reference, part.sample)?;
                    line = one.iter().zip(start).map(|(x, s)| Ok(((x - &s)?, s))).collect::<Result<_>>()?;
                    let way: Vec<Tensor> = line.iter().map(|(way, _)| way.clone()).collect();
                    lines.borrow_mut().push_back(way);
                }
                let (alpha, _) = part.node(nodes[point.index % steps]);
                line.iter().map(|(way, start)| Ok((start + (way * alpha)?)?)).collect()
            },
            |point, found| {
                let (_, weight) = parts[point.index / steps].node(nodes[point.index % steps]);
                accumulate(&mut sum, &found.gradient, weight)?;
                if (point.index + 1) % steps == 0 {
                    let way: Vec<Tensor> = lines.borrow_mut().pop_front().unwrap_or_default();
                    finished.push(Integral::of_line(&way, std::mem::take(&mut sum))?);
                }
                Ok(())
            },
        )?;
        Ok(finished)
    }

    /// Integrates along the lines of all samples from one reference, with more points where the gradients do not account for the
    /// score.
    pub(crate) fn refine<M: Differentiable + ?Sized>(
        &self,
        task: &Task<'_, M>,
        references: &mut References<'_>,
        reference: usize,
        scores: &[f64],
        starts: &[f64],
    ) -> Result<Vec<Refined>> {
        let dtype = task.x.explained().next().map_or(DType::F32, |input| input.value.dtype());
        let mut all: Vec<Refined> = scores.iter().map(|_| Refined::default()).collect();
        let whole = |sample: usize| Part {
            sample,
            reference,
            ends: [0.0, 1.0],
            scores: [starts[sample], scores[sample]],
        };
        let mut open: Vec<Part> = (0..scores.len()).map(whole).collect();
        loop {
            let found = self.integrate(task, references, &open)?;
            for (part, integral) in open.drain(..).zip(found) {
                let gap = integral.total()? - (part.scores[1] - part.scores[0]);
                let of = &mut all[part.sample];
                of.points += self.steps;
                of.parts.push((part, integral, gap));
            }
            let Some(tolerance) = self.tolerance else { break };
            for (of, (score, start)) in all.iter_mut().zip(scores.iter().zip(starts)) {
                if relative_gap(of.gap(), *score, *start, dtype) > tolerance {
                    // Each part that is cut gives two.
                    let room = self.max_steps.saturating_sub(of.parts.len() * self.steps) / self.steps;
                    open.extend(of.cut(tolerance * (score - start).abs(), room));
                }
            }
            if open.is_empty() {
                break;
            }
            score_middles(task, references, &mut open)?;
        }
        for of in &mut all {
            // Summed up along the line, in whatever order the parts were found.
            of.parts.sort_by(|a, b| a.0.ends[0].total_cmp(&b.0.ends[0]));
        }
        Ok(all)
    }
}

/// Evaluates the scores at which cut parts meet: parts come in pairs, one behind the other.
fn score_middles<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    references: &mut References<'_>,
    parts: &mut [Part],
) -> Result<()> {
    let mut rows = Vec::new();
    for pair in parts.chunks_exact(2) {
        let start = references.one(pair[0].reference, pair[0].sample)?;
        rows.push((pair[0].ends[1], start));
    }
    let points: Vec<Point> = parts
        .chunks_exact(2)
        .enumerate()
        .map(|(index, pair)| Point { sample: pair[0].sample, index })
        .collect();
    let mut middles = vec![0.0; points.len()];
    sweep::scores(
        task,
        &points,
        |point, one| {
            let (alpha, start) = &rows[point.index];
            one.iter().zip(start).map(|(x, s)| Ok((s + ((x - s)? * *alpha)?)?)).collect()
        },
        |point, score| {
            middles[point.index] = score;
            Ok(())
        },
    )?;
    for (pair, middle) in parts.chunks_exact_mut(2).zip(middles) {
        pair[0].scores[1] = middle;
        pair[1].scores[0] = middle;
    }
    Ok(())
}

/// A part of the line from a reference to a sample, between two positions α.
#[derive(Clone, Copy, Debug)]
struct Part {
    sample: usize,
    reference: usize,
    ends: [f64; 2],
    /// The scores at its ends: what the attribution along the part is to sum to is their difference.
    scores: [f64; 2],
}

impl Part {
    /// A node of the quadrature on \[0, 1\], moved to this part.
    fn node(&self, (at, weight): (f64, f64)) -> (f64, f64) {
        let length = self.ends[1] - self.ends[0];
        (self.ends[0] + at * length, weight * length)
    }
}

/// The parts that a sample's line consists of, each with its integral and its gap.
#[derive(Default)]
pub(crate) struct Refined {
    parts: Vec<(Part, Integral, f64)>,
    /// Points evaluated, those of parts that were cut included.
    pub(crate) points: usize,
}

impl Refined {
    /// The gap of the whole.
    pub(crate) fn gap(&self) -> f64 {
        self.parts.iter().map(|(_, _, gap)| gap).sum()
    }

    /// Cuts the parts with the largest gaps in two, until those that are left sum to at most half of what is wanted, or there is
    /// no room for more; returns the halves, in pairs.
    fn cut(&mut self, wanted: f64, room: usize) -> Vec<Part> {
        self.parts.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        let mut left: f64 = self.parts.iter().map(|(_, _, gap)| gap.abs()).sum();
        let enough = self.parts.iter().take_while(|(_, _, gap)| {
            let more = left > 0.5 * wanted;
            left -= gap.abs();
            more
        });
        let count = enough.count().min(room);
        let halves = |(part, _, _): (Part, Integral, f64)| {
            let middle = f64::midpoint(part.ends[0], part.ends[1]);
            [Part { ends: [part.ends[0], middle], ..part }, Part { ends: [middle, part.ends[1]], ..part }]
        };
        self.parts.drain(..count).flat_map(halves).collect()
    }

    /// Adds the integral over the line, as one of `count`, to a mean.
    pub(crate) fn add_to(&self, mean: &mut Integral, count: usize) -> Result<()> {
        for (_, integral, _) in &self.parts {
            accumulate(&mut mean.product, &integral.product, 1.0 / count as f64)?;
            accumulate(&mut mean.gradient, &integral.gradient, 1.0 / count as f64)?;
        }
        Ok(())
    }
}

/// [`IntegratedGradients::integrate`] for models that share work along a line; `None` for others.
fn integrate_lines<M: Differentiable + ?Sized>(
    task: &Task<'_, M>,
    references: &mut References<'_>,
    parts: &[Part],
    nodes: &[(f64, f64)],
) -> Result<Option<Vec<Integral>>> {
    let total = parts.len() * nodes.len();
    let mut finished = Vec::with_capacity(parts.len());
    let mut done = 0;
    for part in parts {
        let end = task.x.select(&[part.sample])?;
        let start = end.with_explained(references.one(part.reference, part.sample)?)?;
        // Samples have one shape: the first line decides for all.
        let Some(mut line) = task.model.line(&start, &end)? else { return Ok(None) };
        let nodes: Vec<(f64, f64)> = nodes.iter().map(|&node| part.node(node)).collect();
        sweep::line(task, line.as_mut(), &nodes, part.sample, [done, total])?;
        done += nodes.len();
        let way: Result<Vec<Tensor>> =
            end.explained().zip(start.explained()).map(|(x, s)| Ok((&x.value - &s.value)?)).collect();
        finished.push(Integral::of_line(&way?, line.sum()?)?);
    }
    Ok(Some(finished))
}

/// What integration along a line gives, for each explained input.
#[derive(Clone, Default)]
pub(crate) struct Integral {
    /// (x − x′) ⊙ ∫ ∇S.
    pub(crate) product: Vec<Tensor>,
    /// ∫ ∇S.
    pub(crate) gradient: Vec<Tensor>,
}

impl Integral {
    /// Given x − x′ and the integral of the gradient.
    fn of_line(way: &[Tensor], gradient: Vec<Tensor>) -> Result<Self> {
        let product: Result<Vec<Tensor>> = way.iter().zip(&gradient).map(|(way, g)| Ok((way * g)?)).collect();
        Ok(Self { product: product?, gradient })
    }

    /// The sum of the product over all values.
    fn total(&self) -> Result<f64> {
        let parts = self.product.iter().map(|p| Ok(to_f64(&p.flatten_all()?)?.iter().sum::<f64>()));
        parts.sum()
    }
}

/// `sum += weight · values`, tensor by tensor.
fn accumulate(sum: &mut Vec<Tensor>, values: &[Tensor], weight: f64) -> Result<()> {
    if sum.is_empty() {
        *sum = values.iter().map(|v| Ok((v * weight)?)).collect::<Result<_>>()?;
        return Ok(());
    }
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = (&*sum + (value * weight)?)?;
    }
    Ok(())
}

/// The gap as a fraction of the change of score. What rounding of the scores alone can make is no gap: without that, a score
/// that hardly changes would be integrated for ever.
pub(crate) fn relative_gap(gap: f64, score: f64, baseline: f64, dtype: DType) -> f64 {
    let unit = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let rounding = 4.0 * unit * (score.abs() + baseline.abs());
    if gap.abs() <= rounding {
        return 0.0;
    }
    gap.abs() / (score - baseline).abs().max(rounding).max(f64::MIN_POSITIVE)
}
