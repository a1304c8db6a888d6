//! The rule for affine nodes, described by data.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::affine::{self, Affine};
use super::bound::Bound;
use super::quotient;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::Grads;
use crate::rule::{Contributions, Planned, Rule, Site, undefined_rule};

/// What a term uses as x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// x.
    #[default]
    All,
    /// x⁺ = max(x, 0).
    Positive,
    /// x⁻ = min(x, 0).
    Negative,
    /// 1 everywhere.
    One,
    /// The lowest values that x can have.
    Low,
    /// The highest values that x can have.
    High,
}

/// max(x, 0)
fn positive(x: &Tensor) -> Result<Tensor> {
    Ok(x.relu()?)
}

/// min(x, 0)
fn negative(x: &Tensor) -> Result<Tensor> {
    Ok(x.minimum(&x.zeros_like()?)?)
}

/// How a term transforms weights or biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// W.
    #[default]
    All,
    /// W⁺ = max(W, 0).
    Positive,
    /// W⁻ = min(W, 0).
    Negative,
    /// W + γ W⁺.
    FavourPositive(f64),
    /// W + γ W⁻.
    FavourNegative(f64),
    /// W², element-wise.
    Squared,
    /// 1 everywhere.
    One,
}

impl Weights {
    pub(super) fn of(self, w: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::All => w.clone(),
            Self::Positive => positive(w)?,
            Self::Negative => negative(w)?,
            Self::FavourPositive(gamma) => (w + (positive(w)? * gamma)?)?,
            Self::FavourNegative(gamma) => (w + (negative(w)? * gamma)?)?,
            Self::Squared => w.sqr()?,
            Self::One => w.ones_like()?,
        })
    }
}

/// A term ± (x_t W_t + b_t) of a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Term {
    /// The input x_t.
    pub input: Part,
    /// The weights W_t.
    pub weights: Weights,
    /// The bias b_t, if the term has one. It is included in the denominator only.
    pub bias: Option<Weights>,
    /// Whether the contribution is subtracted.
    pub minus: bool,
}

/// The outputs that a share applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// All outputs.
    #[default]
    Always,
    /// Outputs with z = W x + b > 0.
    Positive,
    /// Outputs with z < 0.
    Negative,
}

/// A share of the relevance, divided among the inputs in proportion to the terms' contributions:
/// R_i += Σ_t ± x_t,i [W_tᵀ s]_i, with s = factor · gate(z) · R / stab(Σ_t ± (W_t x_t + b_t)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Share {
    /// The outputs that the share applies to.
    pub gate: Gate,
    /// The fraction of the relevance.
    pub factor: f64,
    /// The terms.
    pub terms: Vec<Term>,
}

impl Default for Share {
    fn default() -> Self {
        Self { gate: Gate::Always, factor: 1.0, terms: Vec::new() }
    }
}

impl Share {
    /// A share that applies to all outputs.
    pub(super) fn of(terms: Vec<Term>) -> Self {
        Self { terms, ..Self::default() }
    }
}

/// A rule for affine nodes `y = W x + b`: shares of the relevance, each divided in proportion to contributions, with
/// stab(d) = d + ε sign(d), sign(0) = 1.
///
/// It applies to every affine operator: convolutions, linear layers, products with constants and sums with constants.
/// The rules of the LRP family are values of this type, see [`AffineRule::epsilon`] and its siblings; custom rules
/// are further values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AffineRule {
    /// The name, for messages.
    pub name: String,
    /// The shares.
    pub shares: Vec<Share>,
    /// The stabiliser ε; with 0, contributions that sum to exactly 0 receive nothing.
    pub epsilon: f64,
    /// Whether biases are included in the denominators, and so absorb relevance.
    pub absorb: bool,
    /// The lowest values that x can have, for terms that need them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<Bound>,
    /// The highest values that x can have, for terms that need them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<Bound>,
}

impl Default for AffineRule {
    fn default() -> Self {
        Self::new("affine", 1e-6, Vec::new())
    }
}

impl AffineRule {
    /// A rule from its shares, with biases in the denominators.
    pub fn new(name: &str, epsilon: f64, shares: Vec<Share>) -> Self {
        Self { name: name.into(), shares, epsilon, absorb: true, low: None, high: None }
    }

    /// Sets whether biases are included in the denominators.
    pub fn absorb(self, absorb: bool) -> Self {
        Self { absorb, ..self }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// If there are no shares, a share has no terms, or the stabiliser is negative.
    pub fn check(&self) -> Result<()> {
        if self.shares.is_empty() || self.shares.iter().any(|share| share.terms.is_empty()) {
            return Err(Error::invalid("rule", "has no share, or one without terms", "at least one of each"));
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return Err(Error::invalid("epsilon", self.epsilon.to_string(), "0 or a positive number"));
        }
        Ok(())
    }

    /// The input of a term.
    fn part(&self, part: Part, x: &Tensor) -> Result<Tensor> {
        let bound = |bound: &Option<Bound>, name: &str| match bound {
            Some(bound) => bound.like(x),
            None => Err(missing(name)),
        };
        match part {
            Part::All => Ok(x.clone()),
            Part::Positive => positive(x),
            Part::Negative => negative(x),
            Part::One => Ok(x.ones_like()?),
            Part::Low => bound(&self.low, "low"),
            Part::High => bound(&self.high, "high"),
        }
    }
}

impl Rule for AffineRule {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn check(&self, graph: &Graph, id: NodeId) -> Result<()> {
        if let Err(why) = affine::operand(graph, id) {
            return Err(undefined_rule(self, graph, id, why));
        }
        let parts = || self.shares.iter().flat_map(|share| &share.terms).map(|term| term.input);
        for (part, bound, name) in [(Part::Low, &self.low, "low"), (Part::High, &self.high, "high")] {
            if bound.is_none() && parts().any(|needed| needed == part) {
                return Err(missing(name).at(graph.node(id).name(), graph.node(id).op_name()));
            }
        }
        Ok(())
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let node = Affine::new(site, self)?;
        let mut signals: Grads = vec![None; site.inputs().len()];
        if !site.needs()[node.data] {
            return Ok(signals);
        }
        let z = site.output();
        let mut sum: Option<Tensor> = None;
        for share in &self.shares {
            let mut contributions = Vec::with_capacity(share.terms.len());
            let mut denominator: Option<Tensor> = None;
            for term in &share.terms {
                let (x, parameters) =
                    (self.part(term.input, node.x())?, term.parameters(&node, self.absorb)?);
                add(&mut denominator, node.forward(&x, &parameters)?, term.minus)?;
                contributions.push((x, parameters, term.minus));
            }
            let Some(denominator) = denominator else { continue };
            let gated = gated(signal, share.gate, z)?;
            let s = (quotient(&gated, &denominator, self.epsilon)? * share.factor)?;
            for (x, parameters, minus) in contributions {
                if let Some(back) = node.transpose(&s, &parameters)? {
                    add(&mut sum, (x * back)?, minus)?;
                }
            }
        }
        signals[node.data] = sum;
        Ok(signals)
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Planned {
        let contributions = if self.shares == Self::epsilon(0.0).shares {
            Contributions::All
        } else if self.shares == Self::z_plus(0.0).shares {
            Contributions::Positive
        } else {
            return Planned::Opaque;
        };
        Planned::Affine { contributions, epsilon: self.epsilon, absorb: self.absorb }
    }
}

/// The error of a rule that needs the range of the inputs.
fn missing(bound: &str) -> Error {
    Error::invalid(bound, "is not set", "the range of the inputs, which this rule needs")
}

/// Adds `value` to a sum, or subtracts it if `minus`.
fn add(sum: &mut Option<Tensor>, value: Tensor, minus: bool) -> Result<()> {
    *sum = Some(match (sum.take(), minus) {
        (Some(old), false) => (old + value)?,
        (Some(old), true) => (old - value)?,
        (None, false) => value,
        (None, true) => value.neg()?,
    });
    Ok(())
}

fn gated(signal: &Tensor, gate: Gate, z: &Tensor) -> Result<Tensor> {
    let mask = match gate {
        Gate::Positive => z.gt(0.0)?,
        Gate::Negative => z.lt(0.0)?,
        Gate::Always => return Ok(signal.clone()),
    };
    Ok((signal * mask.to_dtype(signal.dtype())?)?)
}
