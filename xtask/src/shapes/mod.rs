//! A small network, trained here on pictures whose truth is known: which shape, and where.

mod data;
mod training;

pub use data::{CLASSES, Shapes};
pub use training::{ARCHITECTURE, Train, preprocessing, train, untrained};
