//! A small network, trained here on pictures whose truth is known: which shape, and where.

mod data;
mod training;

pub use data::{ShapePicture, picture};
pub use training::{ARCHITECTURE, Train, batch, train};
