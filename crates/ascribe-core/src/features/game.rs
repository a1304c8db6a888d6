//! An explained sample as a game of its features.

use super::cover::Features;
use super::fill::Fill;
use super::mask::Mask;
use crate::error::{Error, Result};
use crate::game::{Coalition, Game};
use crate::model::Predictor;
use crate::sweep::Point;
use crate::task::Task;

/// The game whose players are the features of a sample. The value of a coalition is the score while only its members
/// are kept, averaged over the draws of the fill (Lundberg & Lee 2017, eq. 9 and §4).
#[derive(Debug)]
pub struct MaskedGame<'a, M: ?Sized> {
    /// Model, inputs and target.
    pub task: &'a Task<'a, M>,
    /// The players.
    pub features: &'a Features,
    /// The replacement of hidden features.
    pub fill: &'a dyn Fill,
    /// Position of the sample in the batch.
    pub sample: usize,
}

impl<M: Predictor + ?Sized> Game for MaskedGame<'_, M> {
    fn players(&self) -> usize {
        self.features.count(self.sample)
    }

    fn values(&self, coalitions: &[Coalition]) -> Result<Vec<f64>> {
        let players = self.players();
        if let Some(other) = coalitions.iter().find(|coalition| coalition.players() != players) {
            let problem = format!("is one of {} players", other.players());
            return Err(Error::invalid("coalition", problem, format!("one of {players} features")));
        }
        let points: Vec<Point> =
            (0..coalitions.len()).map(|index| Point { sample: self.sample, index }).collect();
        let kept = |point: Point| Ok(Mask::With(coalitions[point.index].members().collect()));
        let mut values = Vec::with_capacity(points.len());
        self.task.masked(self.features, self.fill, &points, kept, |_, _, scores| {
            values.push(scores.iter().sum::<f64>() / scores.len() as f64);
            Ok(())
        })?;
        Ok(values)
    }
}
