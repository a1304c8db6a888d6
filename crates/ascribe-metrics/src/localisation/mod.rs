//! Does the attribution lie on the object?

mod pointing_game;
mod scene;

pub use pointing_game::{PointingGame, PointingGameScore};
pub use scene::{Object, Scene};
