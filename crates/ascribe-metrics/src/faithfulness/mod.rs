//! Does the score follow the attribution?

mod pixel_curve;

pub use pixel_curve::{Deletion, Insertion, PixelCurve};
