//! What all methods have in common, apart from what they compute.

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
/// The author of a method implements this trait and [`crate::Explainer::find`]; [`Method`] is derived from it.
pub trait Configured: Serialize + DeserializeOwned + Default + Debug + Send + Sync {
    /// The description of the method.
    const CARD: Card;

    /// Checks the settings.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// How many rows the model evaluates for an explanation of these inputs.
    fn cost(&self, x: &Inputs) -> Cost {
        Cost::once(x)
    }
}

/// A configured method, whatever it explains.
pub trait Method: Debug + Send + Sync {
    /// The description of the method.
    fn card(&self) -> &'static Card;

    /// The full configuration.
    fn config(&self) -> Value;

    /// Checks the configuration.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    fn check(&self) -> Result<()>;

    /// How many rows the model evaluates for an explanation of these inputs.
    fn cost(&self, x: &Inputs) -> Cost;

    /// The identifier that the catalogue, the command line and configuration files use.
    fn id(&self) -> &'static str {
        self.card().id
    }

    /// What the score of a class is. A method that wraps another returns the answer of that method.
    fn score(&self) -> Score {
        self.card().score
    }

    /// Whether only differences between the values of its maps are meaningful, and the value zero is not. A method that wraps
    /// another returns the answer of that method, unless its own statistic changes that.
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
