//! The rules of LRP. Those for affine nodes are one rule described by data.

use ascribe_core::ops::Grads;
use ascribe_core::{Contributions, Error, Graph, NodeId, Planned, Result, Rule, Site, Tensor};
use serde::{Deserialize, Serialize};

use super::affine::Affine;

/// Which part of x a term uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// x.
    All,
    /// x⁺ = max(x, 0).
    Positive,
    /// x⁻ = min(x, 0).
    Negative,
}

impl Part {
    fn of(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::All => x.clone(),
            Self::Positive => x.relu()?,
            Self::Negative => x.minimum(&x.zeros_like()?)?,
        })
    }
}

/// What a term makes of weights or biases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// W.
    All,
    /// W⁺ = max(W, 0).
    Positive,
    /// W⁻ = min(W, 0).
    Negative,
    /// W + γ W⁺.
    FavourPositive(f64),
    /// W + γ W⁻.
    FavourNegative(f64),
}

impl Weights {
    pub(super) fn of(self, w: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::All => w.clone(),
            Self::Positive => Part::Positive.of(w)?,
            Self::Negative => Part::Negative.of(w)?,
            Self::FavourPositive(gamma) => (w + (Part::Positive.of(w)? * gamma)?)?,
            Self::FavourNegative(gamma) => (w + (Part::Negative.of(w)? * gamma)?)?,
        })
    }
}

/// A contribution x_t W_t + b_t to a share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The part x_t of x.
    pub input: Part,
    /// The weights W_t.
    pub weights: Weights,
    /// The bias b_t, if the term has one. It takes part in the denominator only.
    pub bias: Option<Weights>,
}

/// For which outputs a share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// All.
    Always,
    /// Those with z = W x + b > 0.
    Positive,
    /// Those with z < 0.
    Negative,
}

/// A share of the relevance, divided among the inputs in proportion to the terms' contributions:
/// R_i += Σ_t x_t,i [W_tᵀ s]_i, with s = factor · gate(z) · R / stab(Σ_t W_t x_t + b_t).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// For which outputs.
    pub gate: Gate,
    /// How much of the relevance.
    pub factor: f64,
    /// The contributions.
    pub terms: Vec<Term>,
}

/// A rule for affine nodes `y = W x + b`: shares of the relevance, each divided in proportion to contributions, with
/// stab(d) = d + ε sign(d), sign(0) = 1.
///
/// It applies to every affine operator: convolutions, linear layers, products with and sums with constants. A rule of
/// the family that is not here is another value of this type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AffineRule {
    /// For messages.
    pub name: String,
    /// The shares.
    pub shares: Vec<Share>,
    /// The stabiliser ε; 0 gives nothing to contributions that sum to exactly 0.
    pub epsilon: f64,
    /// Whether biases take part in denominators, and so absorb relevance.
    pub absorb: bool,
}

impl AffineRule {
    /// LRP-ε: R_i = x_i [Wᵀ (R / stab(W x + b))]_i (Bach et al. 2015, eq. 58; Montavon et al. 2019, §10.2.1); with
    /// ε = 0, LRP-0.
    pub fn epsilon(epsilon: f64) -> Self {
        let term = Term { input: Part::All, weights: Weights::All, bias: Some(Weights::All) };
        Self::new("lrp-epsilon", epsilon, vec![Share { gate: Gate::Always, factor: 1.0, terms: vec![term] }])
    }

    /// z⁺, also called LRP-α₁β₀: only positive contributions x⁺W⁺ + x⁻W⁻ count (Bach et al. 2015, eq. 60;
    /// Montavon et al. 2017, §5.1 for x ≥ 0).
    pub fn z_plus(epsilon: f64) -> Self {
        let terms = vec![
            Term { input: Part::Positive, weights: Weights::Positive, bias: Some(Weights::Positive) },
            Term { input: Part::Negative, weights: Weights::Negative, bias: None },
        ];
        Self::new("lrp-z-plus", epsilon, vec![Share { gate: Gate::Always, factor: 1.0, terms }])
    }

    /// LRP-γ: positive contributions count 1 + γ times where the output is positive, negative ones where it is negative
    /// (Montavon et al. 2019, §10.2.3, for x ≥ 0; Andéol et al. 2021 for signed x). An output of exactly 0 passes
    /// nothing.
    pub fn gamma(gamma: f64, epsilon: f64) -> Self {
        let share = |gate, favoured: fn(f64) -> Weights, other: fn(f64) -> Weights| {
            let term = |input, weights, bias| Term { input, weights, bias };
            let terms = vec![
                term(Part::Positive, favoured(gamma), Some(favoured(gamma))),
                term(Part::Negative, other(gamma), None),
            ];
            Share { gate, factor: 1.0, terms }
        };
        let shares = vec![
            share(Gate::Positive, Weights::FavourPositive, Weights::FavourNegative),
            share(Gate::Negative, Weights::FavourNegative, Weights::FavourPositive),
        ];
        Self::new("lrp-gamma", epsilon, shares)
    }

    /// A rule from its parts, with biases in the denominators.
    pub fn new(name: &str, epsilon: f64, shares: Vec<Share>) -> Self {
        Self { name: name.into(), shares, epsilon, absorb: true }
    }

    /// Sets whether biases take part in denominators.
    pub fn absorb(self, absorb: bool) -> Self {
        Self { absorb, ..self }
    }
}

impl Rule for AffineRule {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let node = Affine::new(site, self)?;
        let mut signals: Grads = vec![None; site.inputs().len()];
        if !site.needs()[node.data] {
            return Ok(signals);
        }
        let z = if self.shares.iter().all(|s| s.gate == Gate::Always) {
            None
        } else if self.absorb {
            Some(site.output().clone())
        } else {
            Some(node.forward(node.x(), &node.modified(Weights::All, None)?)?)
        };
        let mut sum: Option<Tensor> = None;
        for share in &self.shares {
            let mut contributions = Vec::with_capacity(share.terms.len());
            let mut denominator: Option<Tensor> = None;
            for term in &share.terms {
                let (x, parameters) = (term.input.of(node.x())?, term.parameters(&node, self.absorb)?);
                add(&mut denominator, node.forward(&x, &parameters)?)?;
                contributions.push((x, parameters));
            }
            let Some(denominator) = denominator else { continue };
            let gated = gated(signal, share.gate, z.as_ref())?;
            let s = (quotient(&gated, &denominator, self.epsilon)? * share.factor)?;
            for (x, parameters) in contributions {
                if let Some(back) = node.transpose(&s, &parameters)? {
                    add(&mut sum, (x * back)?)?;
                }
            }
        }
        signals[node.data] = sum;
        Ok(signals)
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Option<Planned> {
        let contributions = if self.shares == Self::epsilon(0.0).shares {
            Contributions::All
        } else if self.shares == Self::z_plus(0.0).shares {
            Contributions::Positive
        } else {
            return None;
        };
        Some(Planned::Affine { contributions, epsilon: self.epsilon, absorb: self.absorb })
    }
}

fn add(sum: &mut Option<Tensor>, value: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(old) => (old + value)?,
        None => value,
    });
    Ok(())
}

fn gated(signal: &Tensor, gate: Gate, z: Option<&Tensor>) -> Result<Tensor> {
    let mask = match (gate, z) {
        (Gate::Positive, Some(z)) => z.gt(0.0)?,
        (Gate::Negative, Some(z)) => z.lt(0.0)?,
        _ => return Ok(signal.clone()),
    };
    Ok((signal * mask.to_dtype(signal.dtype())?)?)
}

/// R / stab(d); 0 where ε and d are both 0.
fn quotient(signal: &Tensor, denominator: &Tensor, epsilon: f64) -> Result<Tensor> {
    if epsilon == 0.0 {
        let zero = denominator.eq(0.0)?;
        let safe = zero.where_cond(&denominator.ones_like()?, denominator)?;
        return Ok(zero.where_cond(&signal.zeros_like()?, &(signal / safe)?)?);
    }
    let sign = ((denominator.ge(0.0)?.to_dtype(denominator.dtype())? * 2.0)? - 1.0)?;
    Ok((signal / (denominator + (sign * epsilon)?)?)?)
}

/// The ε-rule for linear nodes without parameters: sums, differences, averages.
/// R_i = x_i [Jᵀ (R / stab(y))]_i with the node's Jacobian J.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// The stabiliser ε.
    pub epsilon: f64,
}

impl Rule for Norm {
    fn name(&self) -> String {
        "lrp-norm".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let back = site.vjp(&quotient(signal, site.output(), self.epsilon)?)?;
        let signals = site.inputs().iter().zip(back);
        signals.map(|(x, g)| g.map(|g| Ok::<_, Error>((*x * g)?)).transpose()).collect()
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Option<Planned> {
        Some(Planned::Norm { epsilon: self.epsilon })
    }
}

/// All relevance passes as it is: activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass;

impl Rule for Pass {
    fn name(&self) -> String {
        "lrp-pass".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        let signals = site.inputs().iter().zip(site.needs()).map(|(x, &needed)| {
            if needed && x.dims() != signal.dims() {
                return Err(site.undefined(self, "its output is not shaped like its input"));
            }
            Ok(needed.then(|| signal.clone()))
        });
        signals.collect()
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Option<Planned> {
        Some(Planned::Pass)
    }
}

/// No rule is defined: the error names the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undefined;

impl Rule for Undefined {
    fn name(&self) -> String {
        "lrp".into()
    }

    fn apply(&self, site: &Site<'_>, _: &Tensor) -> Result<Grads> {
        use ascribe_core::ops::Kind;
        let why = match site.kind() {
            Kind::Product => {
                "it multiplies values that both depend on the input; a gradient method, such as \
                 integrated-gradients, is defined for it"
            }
            Kind::Softmax => {
                "softmax has no rule; if it is the network's last node, explain its logits \
                 instead, otherwise use a gradient method, such as integrated-gradients"
            }
            Kind::Normalisation => {
                "it divides by statistics of its input; a gradient method, such as \
                 integrated-gradients, is defined for it"
            }
            _ => "no rule is set for it",
        };
        Err(site.undefined(self, why))
    }
}
