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
    /// Scores of samples with parts of them hidden. `mask` makes the mask of a point and may be called for several
    /// points in parallel. `take` receives the points one by one in their order, for any batch budget, each with its
    /// mask and its scores, one for each draw of the fill.
    ///
    /// For masks that hide features of an image ([`Mask::Without`]), only what they change is computed if the model
    /// supports that ([`Predictor::variations`]), with the same results. This requires that points of the same sample
    /// are consecutive, and that `mask` gives equal masks for equal points: it is called more than once.
    ///
    /// # Errors
    /// Errors of the model, the target and the closures; if the features are not those of these inputs, a mask refers to
    /// features that do not exist or does not fit the inputs, the fill has no draws, or the run is cancelled.
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
            return Err(Error::invalid("fill", "has no draws", "at least one draw"));
        }
        let Some(first) = points.first() else { return Ok(()) };
        features.check(self.x)?;
        let checked = |point: Point| {
            let mask = mask(point)?;
            mask.check(features, point.sample)?;
            Ok(mask)
        };
        // The rows of a point are counted by its position, so that a point may occur more than once.
        let rows: Vec<Point> = points
            .iter()
            .enumerate()
            .flat_map(|(at, p)| {
                (0..draws).map(move |draw| Point { sample: p.sample, index: at * draws + draw })
            })
            .collect();
        // Masks by position, from their creation until their scores are known.
        let made: Mutex<HashMap<usize, Arc<Mask>>> = Mutex::default();
        let lock = || made.lock().unwrap_or_else(PoisonError::into_inner);
        let vary = |row: Point, x: &[Tensor]| {
            let at = row.index / draws;
            let known = lock().get(&at).cloned();
            let mask = if let Some(mask) = known {
                mask
            } else {
                // The mask is made without holding the lock, so that other threads can make theirs meanwhile.
                let mask = Arc::new(checked(points[at])?);
                lock().entry(at).or_insert(mask).clone()
            };
            let (number, draw) = (points[at].index, row.index % draws);
            let hidden = Hidden { sample: row.sample, number, draw, x, mask: &mask, features };
            mask.apply(x, &fill.fill(&hidden)?, fill.is_zero(), features, row.sample)
        };
        let mut scores = Vec::with_capacity(draws);
        let collect = |row: Point, score: f64| {
            scores.push(score);
            if scores.len() == draws {
                let at = row.index / draws;
                let mask = lock().remove(&at);
                let mask = mask.ok_or_else(|| {
                    Error::invalid("mask", format!("{row:?} was not evaluated"), "scores of rows that were")
                })?;
                take(points[at], &mask, &scores)?;
                scores.clear();
            }
            Ok(())
        };
        let rectangles = match checked(*first)? {
            Mask::Without(_) => self.rectangles(features, points, &checked)?,
            _ => None,
        };
        match rectangles {
            Some(rectangles) => {
                let rectangle = |row: Point| rectangles[row.index / draws];
                sweep::scores_within(self, &rows, rectangle, vary, collect)
            }
            None => sweep::scores(self, &rows, vary, collect),
        }
    }

    /// The rectangle that the mask of each point changes; `None` if most of the image changes on average, so that nothing
    /// would be gained.
    fn rectangles(
        &self,
        features: &Features,
        points: &[Point],
        mask: &(impl Fn(Point) -> Result<Mask> + Sync),
    ) -> Result<Option<Vec<Rectangle>>> {
        let [only] = features.shapes() else { return Ok(None) };
        let &[_, height, width] = only.as_slice() else { return Ok(None) };
        let (mut found, mut changed) = (Vec::with_capacity(points.len()), 0);
        for &point in points {
            self.run.step(0, points.len())?;
            let Mask::Without(hidden) = mask(point)? else { return Ok(None) };
            // A mask that hides nothing changes nothing.
            let bounds = features.bounds(point.sample, &hidden);
            let bounds = bounds.unwrap_or(Rectangle { start: [0, 0], size: [1, 1] });
            changed += bounds.size[0] * bounds.size[1];
            if 2 * changed > points.len() * height * width {
                return Ok(None);
            }
            found.push(bounds);
        }
        Ok(Some(found))
    }
}
