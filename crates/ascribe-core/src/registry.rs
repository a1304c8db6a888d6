//! Lists of methods, and how to build one by its identifier.
//!
//! Each crate with methods has such a list, in the order in which they are shown. A [`Registry`] joins several lists and finds
//! methods by name:
//!
//! ```ignore
//! pub const METHODS: &[Entry] = &[Entry::gradient::<Saliency>(), Entry::white_box::<Lrp>()];
//! const REGISTRY: Registry<'_> = Registry::new(&[METHODS]);
//! let explainer = REGISTRY.build("saliency", &serde_json::json!({ "abs": true }))?;
//! ```

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::card::{Card, Needs};
use crate::config;
use crate::error::{Error, Result};
use crate::explainer::{Explainer, Found};
use crate::gradient_sum::GradientSum;
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::method::{Configured, Method};
use crate::model::{Differentiable, Predictor};
use crate::task::Task;
use crate::{Cost, Score};

/// An explainer whose method is chosen at run time.
pub struct Boxed<M: Predictor + ?Sized>(Box<dyn Explainer<M>>);

impl<M: Predictor + ?Sized> Boxed<M> {
    /// Any explainer.
    pub fn new(explainer: impl Explainer<M> + 'static) -> Self {
        Self(Box::new(explainer))
    }
}

impl<M: Predictor + ?Sized> Deref for Boxed<M> {
    type Target = dyn Explainer<M>;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl<M: Predictor + ?Sized> fmt::Debug for Boxed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<M: Predictor + ?Sized> Method for Boxed<M> {
    fn card(&self) -> &'static Card {
        self.0.card()
    }

    fn config(&self) -> Value {
        self.0.config()
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }

    fn cost(&self, x: &Inputs) -> Cost {
        self.0.cost(x)
    }

    fn score(&self) -> Score {
        self.0.score()
    }

    fn is_relative(&self) -> bool {
        self.0.is_relative()
    }
}

impl<M: Predictor + ?Sized> Explainer<M> for Boxed<M> {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        self.0.find(task)
    }

    fn check_model(&self, model: &M, x: &Inputs) -> Result<Vec<String>> {
        self.0.check_model(model, x)
    }

    fn cost_of(&self, model: &M, x: &Inputs) -> Result<Cost> {
        self.0.cost_of(model, x)
    }

    fn gradient_sum<'a>(&self, model: &'a M, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        self.0.gradient_sum(model, x)
    }
}

/// How an entry builds an explainer from a configuration. Methods that wrap another find it in the registry.
pub type Build = fn(&Value, &Registry<'_>) -> Result<Boxed<Graph>>;

/// A method in a list.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its description.
    pub card: &'static Card,
    /// What it needs of a model.
    pub needs: Needs,
    build: Build,
}

impl Entry {
    /// A method that needs a model's outputs.
    pub const fn black_box<T>() -> Self
    where
        T: Configured + Explainer<dyn Predictor> + Explainer<Graph> + 'static,
    {
        Self::of::<T>(Needs::BlackBox)
    }

    /// A method that needs gradients.
    pub const fn gradient<T>() -> Self
    where
        T: Configured + Explainer<dyn Differentiable> + Explainer<Graph> + 'static,
    {
        Self::of::<T>(Needs::Gradient)
    }

    /// A method that needs the graph.
    pub const fn white_box<T: Configured + Explainer<Graph> + 'static>() -> Self {
        Self::of::<T>(Needs::WhiteBox)
    }

    /// A method that wraps another: `build` makes it from a configuration with a field `explainer`, see
    /// [`Registry::wrapped`].
    pub const fn wrapper(card: &'static Card, build: Build) -> Self {
        Self { card, needs: Needs::Inner, build }
    }

    const fn of<T: Configured + Explainer<Graph> + 'static>(needs: Needs) -> Self {
        Self {
            card: &T::CARD,
            needs,
            build: |given, _| Ok(Boxed::new(config::read::<T>(T::CARD.id, given)?)),
        }
    }
}

/// A method and its configuration, as text. In JSON an identifier, or `{ "method": …, "config": { … } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Spec {
    /// Identifier of the method.
    pub method: String,
    /// The fields that differ from the defaults.
    pub config: Value,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a method's identifier, or an object with `method` and `config`")]
enum Written {
    Name(String),
    #[serde(rename_all = "kebab-case")]
    Whole(Whole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    method: String,
    #[serde(default)]
    config: Value,
}

impl From<Written> for Spec {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(method) => Self { method, config: Value::Null },
            Written::Whole(Whole { method, config }) => Self { method, config },
        }
    }
}

impl Spec {
    /// The description of this method.
    pub fn of(method: &(impl Method + ?Sized)) -> Self {
        Self { method: method.id().into(), config: method.config() }
    }
}

/// The methods of several lists.
#[derive(Clone, Copy, Debug)]
pub struct Registry<'a> {
    lists: &'a [&'a [Entry]],
}

impl<'a> Registry<'a> {
    /// Joins lists.
    pub const fn new(lists: &'a [&'a [Entry]]) -> Self {
        Self { lists }
    }

    /// All methods, in the order of the lists.
    pub fn entries(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.lists.iter().flat_map(|list| list.iter())
    }

    /// The method of this identifier.
    ///
    /// # Errors
    /// [`Error::Unknown`], which suggests the method that has this as another name, or the most similar identifier.
    pub fn find(&self, id: &str) -> Result<&'a Entry> {
        self.entries().find(|entry| entry.card.id == id).ok_or_else(|| {
            let called = self.entries().find(|entry| entry.card.is_called(id)).map(|entry| entry.card.id);
            Error::unknown("method", id, called, self.entries().map(|entry| entry.card.id))
        })
    }

    /// The explainer of this identifier with this configuration: an object with the fields that differ from the defaults,
    /// or `null`.
    ///
    /// # Errors
    /// If there is no such method, or the configuration has an unknown field (the message lists the valid ones) or a value
    /// that makes no sense.
    pub fn build(&self, id: &str, config: &Value) -> Result<Boxed<Graph>> {
        let built = (self.find(id)?.build)(config, self)?;
        built.check()?;
        Ok(built)
    }

    /// For a method that wraps another: takes the field `explainer` out of its configuration and builds what it describes,
    /// or the method `default` where there is no such field; returns the rest of the configuration beside it.
    ///
    /// # Errors
    /// As [`Registry::build`].
    pub fn wrapped(&self, id: &str, given: &Value, default: &str) -> Result<(Boxed<Graph>, Value)> {
        let mut fields = match given {
            Value::Null => Map::new(),
            Value::Object(fields) => fields.clone(),
            other => {
                let problem = format!("is {other}; expected an object with its fields");
                return Err(Error::Config { id: id.into(), problem });
            }
        };
        let spec = match fields.remove("explainer") {
            None => Spec { method: default.into(), config: Value::Null },
            Some(value) => serde_json::from_value(value)
                .map_err(|e| Error::Config { id: id.into(), problem: format!("`explainer`: {e}") })?,
        };
        Ok((self.build(&spec.method, &spec.config)?, Value::Object(fields)))
    }
}
