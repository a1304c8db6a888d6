//! Variations of a sample that differ from it in a rectangle only.

use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::outputs::Outputs;

/// A rectangle of an image, in rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rectangle {
    /// The first row and the first column.
    pub start: [usize; 2],
    /// Number of rows and of columns.
    pub size: [usize; 2],
}

impl Rectangle {
    /// Checks that the rectangle lies in an image of this height and width.
    ///
    /// # Errors
    /// Names the rectangle and the image.
    pub fn check(&self, sides: [usize; 2]) -> Result<()> {
        let fits =
            |axis: usize| self.start[axis].checked_add(self.size[axis]).is_some_and(|end| end <= sides[axis]);
        if fits(0) && fits(1) {
            return Ok(());
        }
        let Self { start, size } = self;
        Err(Error::invalid(
            "rectangle",
            format!("starts at {start:?} and is {size:?} large"),
            format!("a part of the image, {sides:?}"),
        ))
    }
}

/// A model that has evaluated a sample, and evaluates variations of it at less cost: see
/// [`crate::Predictor::variations`].
pub trait Variations {
    /// The outputs for some variations of the sample: row n of `x` differs from it within rectangle number
    /// `rectangles[n]` at most, counted as they were announced. The outputs are those of
    /// [`crate::Predictor::predict`], bit for bit.
    ///
    /// # Errors
    /// Those of the model; if a row differs from the sample elsewhere, or there is not one rectangle per row.
    fn predict(&self, x: &Inputs, rectangles: &[usize]) -> Result<Outputs>;

    /// Groups of rectangles that are cheaper to evaluate together; the outputs do not depend on the grouping.
    fn group(&self, rectangle: usize) -> usize {
        let _ = rectangle;
        0
    }
}
