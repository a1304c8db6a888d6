//! Is the attribution on the object?

mod pointing_game;

pub use ascribe_core::truth::{Mask, Masks, Object, Region, Scene};
pub use pointing_game::{PointingGame, PointingGameScore};
