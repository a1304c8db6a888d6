//! Tables of rules for affine nodes, as data.

use std::sync::Arc;

use serde::de::{self, Deserializer, SeqAccess, Visitor, value};
use serde::{Deserialize, Serialize};

use super::basic::{Norm, Pass, Undefined};
use super::bound::Bound;
use super::presets::Preset;
use super::terms::AffineRule;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::{Kind, Op};
use crate::rule::{Composite, Gradient, Selector, comes_from_inputs, is_first_affine, is_layer};

/// The affine nodes that an entry applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// All affine nodes.
    All,
    /// The first layers: see [`Selector::FirstAffine`].
    First,
    /// Convolutions and transposed convolutions.
    Convolution,
    /// All affine nodes but convolutions.
    Linear,
    /// Nodes whose name matches a pattern, in which `*` matches any characters and `?` a single one. A name without
    /// wildcards may also be one from before the graph was rewritten to canonical form.
    Name(String),
    /// Layers, that is, affine nodes with a weight, by their number in the order of the graph, from the input on.
    Layers {
        /// The first layer, counted from 0.
        from: usize,
        /// The end of the range (exclusive); if it is omitted, all following layers are included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<usize>,
    },
}

/// A rule for affine nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleName {
    /// [`AffineRule::epsilon`].
    Epsilon,
    /// [`AffineRule::gamma`].
    Gamma,
    /// [`AffineRule::z_plus`].
    ZPlus,
    /// [`AffineRule::epsilon`] with ε = 0.
    Zero,
    /// [`AffineRule::alpha_beta`].
    AlphaBeta,
    /// [`AffineRule::w_square`].
    WSquare,
    /// [`AffineRule::flat`].
    Flat,
    /// [`AffineRule::z_box`].
    Box,
    /// [`Pass`]: relevance passes unchanged, if input and output have the same shape.
    Pass,
    /// The true gradient.
    Gradient,
    /// A rule given in full.
    Terms(AffineRule),
}

/// What happens to the relevance that belongs to a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// The bias absorbs it: this relevance does not reach the inputs.
    #[default]
    Absorb,
    /// The inputs get it: biases are omitted from the denominators.
    Zero,
}

/// The numeric parameters of the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Stabiliser of the ε-rule.
    pub epsilon: f64,
    /// γ of the γ-rule.
    pub gamma: f64,
    /// α of the αβ-rule.
    pub alpha: f64,
    /// β of the αβ-rule.
    pub beta: f64,
    /// The stabiliser of all other rules.
    pub stabiliser: f64,
    /// What happens to the relevance of biases.
    pub bias: Bias,
    /// The lowest values that the model's inputs can have, for the zᴮ-rule.
    pub low: Option<Bound>,
    /// The highest values that the model's inputs can have, for the zᴮ-rule.
    pub high: Option<Bound>,
}

impl Default for Numbers {
    /// ε = stabiliser = 10⁻⁶, γ = ¼, α = 2, β = 1; biases absorb relevance.
    fn default() -> Self {
        let bias = Bias::Absorb;
        Self {
            epsilon: 1e-6,
            gamma: 0.25,
            alpha: 2.0,
            beta: 1.0,
            stabiliser: 1e-6,
            bias,
            low: None,
            high: None,
        }
    }
}

/// A rule for some affine nodes. Parameters that are given replace those of [`Numbers`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The nodes.
    pub at: At,
    /// Their rule.
    pub rule: RuleName,
    /// ε.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// γ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// α.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// β.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// The stabiliser of rules other than ε.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stabiliser: Option<f64>,
    /// What happens to the relevance of biases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Bias>,
    /// The lowest values of the node's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Bound>,
    /// The highest values of the node's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Bound>,
}

/// A table of rules for affine nodes: the name of a preset, or a list of entries, of which the first that matches a
/// node applies.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum CompositeSpec {
    /// A common table.
    Preset(Preset),
    /// A custom table. Affine nodes that match no entry have no rule.
    Entries(Vec<Entry>),
}

impl Default for CompositeSpec {
    fn default() -> Self {
        Self::Preset(Preset::default())
    }
}

impl From<Preset> for CompositeSpec {
    fn from(preset: Preset) -> Self {
        Self::Preset(preset)
    }
}

impl From<Vec<Entry>> for CompositeSpec {
    fn from(entries: Vec<Entry>) -> Self {
        Self::Entries(entries)
    }
}

impl<'de> Deserialize<'de> for CompositeSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CompositeSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a table of rules, or a list of entries { \"at\": …, \"rule\": … }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<CompositeSpec, E> {
                Preset::deserialize(value::StrDeserializer::new(name)).map(CompositeSpec::Preset)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> std::result::Result<CompositeSpec, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(seq)).map(CompositeSpec::Entries)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Entry {
    /// A rule with the default parameters.
    pub fn new(at: At, rule: RuleName) -> Self {
        Self {
            at,
            rule,
            epsilon: None,
            gamma: None,
            alpha: None,
            beta: None,
            stabiliser: None,
            bias: None,
            low: None,
            high: None,
        }
    }

    /// The parameters of this entry; those that it does not set are `usual`.
    fn numbers(&self, usual: &Numbers) -> Numbers {
        Numbers {
            epsilon: self.epsilon.unwrap_or(usual.epsilon),
            gamma: self.gamma.unwrap_or(usual.gamma),
            alpha: self.alpha.unwrap_or(usual.alpha),
            beta: self.beta.unwrap_or(usual.beta),
            stabiliser: self.stabiliser.unwrap_or(usual.stabiliser),
            bias: self.bias.unwrap_or(usual.bias),
            low: self.low.clone().or_else(|| usual.low.clone()),
            high: self.high.clone().or_else(|| usual.high.clone()),
        }
    }

    /// Adds this entry to a composite.
    fn add(&self, composite: Composite, graph: &Graph, usual: &Numbers) -> Result<Composite> {
        self.check_fields()?;
        let numbers = self.numbers(usual);
        numbers.check()?;
        let selector = self.at.selector(graph)?;
        let rule = match &self.rule {
            RuleName::Pass => return Ok(composite.with(selector, Pass)),
            RuleName::Gradient => return Ok(composite.with(selector, Gradient)),
            RuleName::Terms(rule) => {
                rule.check()?;
                rule.clone()
            }
            RuleName::Epsilon => AffineRule::epsilon(numbers.epsilon),
            RuleName::Gamma => AffineRule::gamma(numbers.gamma, numbers.stabiliser),
            RuleName::ZPlus => AffineRule::z_plus(numbers.stabiliser),
            RuleName::Zero => AffineRule::epsilon(0.0),
            RuleName::AlphaBeta => {
                let sum = numbers.alpha - numbers.beta;
                if (sum - 1.0).abs() > 1e-9 {
                    let expected = "1, so that relevance is conserved";
                    return Err(Error::invalid("alpha − beta", format!("is {sum}"), expected));
                }
                AffineRule::alpha_beta(numbers.alpha, numbers.beta, numbers.stabiliser)
            }
            RuleName::WSquare => AffineRule::w_square(numbers.stabiliser),
            RuleName::Flat => AffineRule::flat(numbers.stabiliser),
            RuleName::Box => AffineRule::z_box(numbers.stabiliser),
        };
        let absorb = rule.absorb && numbers.bias == Bias::Absorb;
        // The range of the model's inputs is that of layers that see them as they are.
        let matching = |id: &NodeId| selector.matches(graph, *id);
        let sees_inputs = graph
            .nodes()
            .map(|(id, _)| id)
            .filter(matching)
            .all(|id| comes_from_inputs(graph, id, |_| false));
        let (low, high) =
            if sees_inputs { (numbers.low, numbers.high) } else { (self.low.clone(), self.high.clone()) };
        let (low, high) = (rule.low.clone().or(low), rule.high.clone().or(high));
        if let (Some(low), Some(high)) = (&low, &high) {
            low.check_below(high)?;
        }
        Ok(composite.with(selector, AffineRule { absorb, low, high, ..rule }))
    }

    /// Refuses numbers that the rule does not read.
    fn check_fields(&self) -> Result<()> {
        let given = [
            ("epsilon", self.epsilon.is_some()),
            ("gamma", self.gamma.is_some()),
            ("alpha", self.alpha.is_some()),
            ("beta", self.beta.is_some()),
            ("stabiliser", self.stabiliser.is_some()),
            ("bias", self.bias.is_some()),
            ("low", self.low.is_some()),
            ("high", self.high.is_some()),
        ];
        let read: &[&str] = match &self.rule {
            RuleName::Pass | RuleName::Gradient => &[],
            RuleName::Epsilon => &["epsilon", "bias"],
            RuleName::Zero => &["bias"],
            RuleName::Gamma => &["gamma", "stabiliser", "bias"],
            RuleName::ZPlus | RuleName::WSquare => &["stabiliser", "bias"],
            RuleName::AlphaBeta => &["alpha", "beta", "stabiliser", "bias"],
            RuleName::Flat => &["stabiliser"],
            RuleName::Box => &["low", "high", "stabiliser", "bias"],
            RuleName::Terms(_) => &["low", "high", "bias"],
        };
        match given.iter().find(|(name, given)| *given && !read.contains(name)) {
            Some((name, _)) => Err(Error::invalid(
                *name,
                format!("is set for the rule {}", crate::config::write(&self.rule)),
                if read.is_empty() {
                    "no numbers".into()
                } else {
                    format!("one of {read:?}, which this rule has")
                },
            )),
            None => Ok(()),
        }
    }
}

impl Numbers {
    /// Checks that the numbers are finite, and those that must not be negative are not.
    ///
    /// # Errors
    /// If a number is invalid; the error names it.
    pub fn check(&self) -> Result<()> {
        let all = [
            ("epsilon", self.epsilon),
            ("gamma", self.gamma),
            ("alpha", self.alpha),
            ("beta", self.beta),
            ("stabiliser", self.stabiliser),
        ];
        match all.iter().find(|(_, value)| !(*value >= 0.0 && value.is_finite())) {
            Some((name, value)) => Err(Error::invalid(*name, value.to_string(), "0 or a positive number")),
            None => Ok(()),
        }
    }
}

impl At {
    /// # Errors
    /// If no affine node of the graph matches.
    fn selector(&self, graph: &Graph) -> Result<Selector> {
        Ok(match self {
            Self::All => Selector::Kind(Kind::Affine),
            Self::First => {
                if !graph.nodes().any(|(id, _)| is_first_affine(graph, id)) {
                    let problem = "does not exist: values change between the inputs and each convolution or linear layer";
                    return Err(Error::invalid("first layer", problem, "an entry by the name of the layer"));
                }
                Selector::FirstAffine
            }
            Self::Convolution => Selector::Where(Arc::new(is_convolution)),
            Self::Linear => Selector::Where(Arc::new(|graph, id| {
                graph.kind(id) == Kind::Affine && !is_convolution(graph, id)
            })),
            Self::Name(pattern) => {
                let mut meant = graph.find_all(pattern)?;
                meant.retain(|&id| graph.kind(id) == Kind::Affine);
                if meant.is_empty() {
                    let problem = format!("'{pattern}' is no affine node");
                    return Err(Error::invalid(
                        "name of a layer",
                        problem,
                        "a convolution, linear layer or the like",
                    ));
                }
                Selector::Where(Arc::new(move |_, id| meant.contains(&id)))
            }
            &Self::Layers { from, to } => {
                let layers: Vec<NodeId> =
                    graph.nodes().map(|(id, _)| id).filter(|&id| is_layer(graph, id)).collect();
                let to = to.unwrap_or(layers.len());
                if from >= to || to > layers.len() {
                    let expected = format!("a part of the graph's {} layers", layers.len());
                    return Err(Error::invalid("layers", format!("from {from} to {to}"), expected));
                }
                let meant = layers[from..to].to_vec();
                Selector::Where(Arc::new(move |_, id| meant.contains(&id)))
            }
        })
    }
}

impl CompositeSpec {
    /// The composite of a graph in canonical form: first the entries of `before`, then the entries of this table,
    /// then the ε-rule without parameters for sums and averages, rules that pass relevance for activations, and true
    /// gradients for operators that only move values. Other nodes have no rule, which gives an error that names them.
    ///
    /// # Errors
    /// If a number is negative or infinite, or a node that an entry names does not exist.
    pub fn composite(&self, before: &[Entry], graph: &Graph, numbers: &Numbers) -> Result<Composite> {
        numbers.check()?;
        let own = match self {
            Self::Preset(preset) => preset.entries(),
            Self::Entries(entries) => entries.clone(),
        };
        let mut table = Composite::gradient();
        for entry in before.iter().chain(&own) {
            table = entry.add(table, graph, numbers)?;
        }
        let norm = Norm { epsilon: numbers.stabiliser };
        Ok(table
            .on(Kind::Average, norm)
            .on(Kind::Sum, norm)
            .on(Kind::Activation, Pass)
            .on(Kind::MaxPool, Gradient)
            .on(Kind::Structural, Gradient)
            .on(Kind::Blocking, Gradient)
            .otherwise(Undefined))
    }
}

fn is_convolution(graph: &Graph, id: NodeId) -> bool {
    graph.kind(id) == Kind::Affine
        && matches!(
            graph.node(id).op(),
            Some(Op::Conv(_) | Op::ConvTranspose(_) | Op::Conv3d(_) | Op::ConvTranspose3d(_))
        )
}
