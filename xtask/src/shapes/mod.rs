//! A small network, trained on generated pictures with known ground truth: which shape they contain, and where.

mod data;
mod training;

pub use data::{CLASSES, Shapes};
pub use training::{ARCHITECTURE, Train, preprocessing, train, untrained};
