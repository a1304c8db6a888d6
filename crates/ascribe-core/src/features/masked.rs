//! Evaluating masks × samples × draws.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

use super::cover::Features;
use super::fill::{Fill, Hidden};
use super::mask::Mask;
use crate::error::{Error, Result};
use crate::model::Predictor;
use crate::sweep::{self, Point};
use crate::task::Task;
use crate::variations::Rectangle;

impl<M: Predictor + ?Sized> Task<'_, M> {
    /// Scores of samples while parts of them are hidden. `mask` makes the mask of a point, several at a time; `take` receives
    /// the points one by one in their order, whatever the batch budget, each with its mask and its scores, one for each draw
    /// of the fill.
    ///
    /// Masks that hide features of an image ([`Mask::Without`]) run on what they change of it, where the model can do
    /// that ([`Predictor::variations`]): the same numbers for less. For that, points of a sample are to follow each other.
    ///
    /// # Errors
    /// Those of the model, the target and the closures; if the fill has no draws, or the run is cancelled.
    pub fn masked(
        &self,
        features: &Features,
        fill: &dyn Fill,
        points: &[Point],
        mask: impl Fn(Point) -> Result<Mask> + Sync,
        mut take: impl FnMut(Point, &Mask, &[f64]) -> Result<()>,
    ) -> Result<()> {
        let draws = fill.draws();
        if draws == 0 {
            return Err(Error::invalid("removal", "draws nothing", "at least one draw"));
        }
        let Some(first) = points.first() else { return Ok(()) };
        let rows: Vec<Point> = points
            .iter()
            .flat_map(|p| (0..draws).map(|draw| Point { sample: p.sample, index: p.index * draws + draw }))
            .collect();
        let of = |row: Point| Point { sample: row.sample, index: row.index / draws };
        // Masks from their making until their scores are known.
        let made: Mutex<HashMap<Point, Arc<Mask>>> = Mutex::default();
        let lock = || made.lock().unwrap_or_else(PoisonError::into_inner);
        let vary = |row: Point, x: &[Tensor]| {
            let (point, known) = (of(row), lock().get(&of(row)).cloned());
            let mask = if let Some(mask) = known {
                mask
            } else {
                // Not under the lock, so that other threads make theirs at the same time.
                let mask = Arc::new(mask(point)?);
                lock().entry(point).or_insert(mask).clone()
            };
            let hidden = Hidden { sample: row.sample, draw: row.index % draws, x, mask: &mask, features };
            mask.apply(x, &fill.fill(&hidden)?, fill.is_zero(), features, row.sample)
        };
        let mut scores = Vec::with_capacity(draws);
        let collect = |row: Point, score: f64| {
            scores.push(score);
            if scores.len() == draws {
                let mask = lock().remove(&of(row));
                let mask = mask.ok_or_else(|| {
                    Error::invalid("mask", format!("{row:?} was not evaluated"), "scores of rows that were")
                })?;
                take(of(row), &mask, &scores)?;
                scores.clear();
            }
            Ok(())
        };
        match rectangles(features, points, &mask, &mask(*first)?)? {
            Some(rectangles) => {
                let rectangle = |row: Point| rectangles[&of(row)];
                sweep::scores_within(self, &rows, rectangle, vary, collect)
            }
            None => sweep::scores(self, &rows, vary, collect),
        }
    }
}

/// The rectangle that each mask changes; `None` where that is of no use.
fn rectangles(
    features: &Features,
    points: &[Point],
    mask: &(impl Fn(Point) -> Result<Mask> + Sync),
    first: &Mask,
) -> Result<Option<HashMap<Point, Rectangle>>> {
    if !matches!(first, Mask::Without(_)) || features.inputs() != 1 || features.sides(0).len() != 3 {
        return Ok(None);
    }
    let area = features.sides(0)[1] * features.sides(0)[2];
    let (mut found, mut changed) = (HashMap::with_capacity(points.len()), 0);
    for &point in points {
        let Mask::Without(hidden) = mask(point)? else { return Ok(None) };
        // A mask that hides nothing changes nothing.
        let bounds = features.bounds(point.sample, &hidden);
        let bounds = bounds.unwrap_or(Rectangle { start: [0, 0], size: [1, 1] });
        changed += bounds.size[0] * bounds.size[1];
        found.insert(point, bounds);
    }
    // Where most of the image changes nothing would be saved.
    Ok((2 * changed <= points.len() * area).then_some(found))
}
