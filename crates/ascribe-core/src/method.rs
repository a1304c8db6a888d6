//! What every method is, apart from what it computes.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::attribution::Cost;
use crate::card::{Card, Score};
use crate::config;
use crate::error::Result;
use crate::inputs::Inputs;

/// A method's configuration: a struct whose fields are the settings, with its card.
///
/// It is what the author of a method writes beside [`crate::Explainer::find`]; [`Method`] follows.
pub trait Configured: Serialize + DeserializeOwned + Default + Debug + Send + Sync {
    /// What there is to say about the method.
    const CARD: Card;

    /// Checks the settings.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// How many rows an explanation of these inputs will push through the model.
    fn cost(&self, x: &Inputs) -> Cost {
        Cost::once(x)
    }
}

/// A configured method, whatever it explains.
pub trait Method: Debug + Send + Sync {
    /// What there is to say about the method.
    fn card(&self) -> &'static Card;

    /// The full configuration.
    fn config(&self) -> Value;

    /// Checks the configuration.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()>;

    /// How many rows an explanation of these inputs will push through the model.
    fn cost(&self, x: &Inputs) -> Cost;

    /// The identifier that the catalogue, the command line and configuration files use.
    fn id(&self) -> &'static str {
        self.card().id
    }

    /// What scores a class that a target names; a method that wraps another asks that one.
    fn score(&self) -> Score {
        self.card().score
    }

    /// Whether zero has no meaning in its maps, only differences have; a method that wraps another asks that one.
    fn is_relative(&self) -> bool {
        self.card().relative
    }
}

impl<T: Configured> Method for T {
    fn card(&self) -> &'static Card {
        &T::CARD
    }

    fn config(&self) -> Value {
        config::write(self)
    }

    fn check(&self) -> Result<()> {
        Configured::check(self)
    }

    fn cost(&self, x: &Inputs) -> Cost {
        Configured::cost(self, x)
    }
}
