//! Layer-wise relevance propagation: Bach et al. 2015, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
//! Layer-Wise Relevance Propagation"; Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview".
//!
//! The score is redistributed from the output backwards, at each node in proportion to what each input contributes,
//! so that (up to biases and stabilisers) no relevance is gained or lost:
//!
//! R_i = Σ_j z_ij / Σ_i′ z_i′j R_j,  z_ij = x_i w_ij for LRP-0
//!
//! | node | rule |
//! | --- | --- |
//! | affine: convolution, linear, product or sum with a constant | ε, γ or z⁺, see [`AffineRule`] |
//! | sum and difference of dynamic values, averages | ε-rule without parameters, [`Norm`] |
//! | activation | passes, [`Pass`] |
//! | max-pooling, maximum | all to the (first) maximum |
//! | reshape, concatenation, padding, … | follows the values |
//! | product of dynamic values, softmax, layer norm and its like | an error that names the node |
//!
//! It starts with ∂S/∂z ⊙ z at the outputs z: for a class, its logit; for a difference of classes, both logits with
//! their signs. The walk runs on the graph's canonical form, in which batch norm is part of the layer before it. How far the
//! attribution's sum is from what it started with is reported as the completeness gap, and in the notes.
//!
//! Cost: one evaluation and one backward walk; ε takes about 2, z⁺ 4 and γ 8 times the arithmetic of a gradient at
//! an affine node.

mod affine;
mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

use ascribe_core::ops::{Kind, Op};
use ascribe_core::{
    Card, Composite, Configured, Error, Explainer, Family, Found, Gradient, GradientRule, Graph, NodeId,
    Result, Selector, Task, Tensor, to_f64,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

pub use rule::{AffineRule, Gate, Norm, Part, Pass, Share, Term, Weights};

/// A rule for affine nodes; its numbers are fields of [`Lrp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrpRule {
    /// [`AffineRule::epsilon`].
    Epsilon,
    /// [`AffineRule::gamma`].
    Gamma,
    /// [`AffineRule::z_plus`].
    ZPlus,
}

/// Which rule affine nodes get by their operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrpComposite {
    /// z⁺ at convolutions, ε elsewhere (Kohlbrenner et al. 2020, "Towards Best Practice in Explaining Neural Network
    /// Decisions with LRP").
    #[default]
    EpsilonPlus,
    /// γ at convolutions, ε elsewhere.
    EpsilonGamma,
    /// ε everywhere.
    Epsilon,
    /// γ everywhere.
    Gamma,
    /// z⁺ everywhere.
    ZPlus,
}

impl LrpComposite {
    /// The rules of convolutions and of other affine nodes.
    fn rules(self) -> (LrpRule, LrpRule) {
        match self {
            Self::EpsilonPlus => (LrpRule::ZPlus, LrpRule::Epsilon),
            Self::EpsilonGamma => (LrpRule::Gamma, LrpRule::Epsilon),
            Self::Epsilon => (LrpRule::Epsilon, LrpRule::Epsilon),
            Self::Gamma => (LrpRule::Gamma, LrpRule::Gamma),
            Self::ZPlus => (LrpRule::ZPlus, LrpRule::ZPlus),
        }
    }
}

/// What happens to the share of relevance that belongs to a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// The bias keeps it: relevance is lost on the way.
    #[default]
    Absorb,
    /// The inputs get it: biases are left out of the denominators.
    Zero,
}

/// Configuration of layer-wise relevance propagation. The attribution has the input's shape.
///
/// ```
/// use ascribe_core::{Device, Explainer, GraphBuilder, Inputs, Run, Target, Tensor, ops::Linear};
/// use ascribe_gradient::{Lrp, LrpComposite};
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(2)]);
/// let w = b.constant("w", Tensor::new(&[[3_f64, -1.0]], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[x, w])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[1_f64, 1.0]], &Device::Cpu)?)?;
/// let method = Lrp::default().composite(LrpComposite::Epsilon).epsilon(0.0);
/// let found = method.explain(&graph, &x, &Target::Class(0), &Run::new())?;
/// assert_eq!(found.values().to_vec2::<f64>()?, [[3.0, -1.0]]); // contributions to the score of 2
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct Lrp {
    /// Which rule affine nodes get by their operator.
    pub composite: LrpComposite,
    /// Rule of the first affine layer, where it differs.
    #[setters(strip_option)]
    pub first: Option<LrpRule>,
    /// Rules of single affine nodes, by name (in the graph's canonical form), where they differ.
    pub layers: BTreeMap<String, LrpRule>,
    /// Stabiliser of the ε-rule.
    pub epsilon: f64,
    /// γ of the γ-rule.
    pub gamma: f64,
    /// Stabiliser of all other rules.
    pub stabiliser: f64,
    /// What happens to the relevance of biases.
    pub bias: Bias,
}

impl Default for Lrp {
    fn default() -> Self {
        Self {
            composite: LrpComposite::EpsilonPlus,
            first: None,
            layers: BTreeMap::new(),
            epsilon: 1e-6,
            gamma: 0.25,
            stabiliser: 1e-6,
            bias: Bias::Absorb,
        }
    }
}

impl Lrp {
    /// Sets the rule of an affine node.
    pub fn layer(mut self, name: impl Into<String>, rule: LrpRule) -> Self {
        self.layers.insert(name.into(), rule);
        self
    }

    fn rule(&self, rule: LrpRule) -> AffineRule {
        let rule = match rule {
            LrpRule::Epsilon => AffineRule::epsilon(self.epsilon),
            LrpRule::Gamma => AffineRule::gamma(self.gamma, self.stabiliser),
            LrpRule::ZPlus => AffineRule::z_plus(self.stabiliser),
        };
        rule.absorb(self.bias == Bias::Absorb)
    }

    /// The table of rules for a graph in canonical form.
    ///
    /// # Errors
    /// If it lacks a node that a rule is set for.
    pub fn rules(&self, graph: &Graph) -> Result<Composite> {
        let (convolution, other) = self.composite.rules();
        let mut table = Composite::gradient();
        for (name, &rule) in &self.layers {
            // Found by a name that it had before the graph was brought into canonical form, too.
            let node = graph.node(graph.find(name)?);
            table = table.with(Selector::Name(node.name().into()), self.rule(rule));
        }
        if let Some(rule) = self.first {
            table = table.with(Selector::FirstAffine, self.rule(rule));
        }
        let norm = Norm { epsilon: self.stabiliser };
        Ok(table
            .with(Selector::Where(Arc::new(is_convolution)), self.rule(convolution))
            .on(Kind::Affine, self.rule(other))
            .on(Kind::Average, norm)
            .on(Kind::Sum, norm)
            .on(Kind::Activation, Pass)
            .on(Kind::MaxPool, GradientRule)
            .on(Kind::Structural, GradientRule)
            .on(Kind::Blocking, GradientRule)
            .otherwise(rule::Undefined))
    }
}

fn is_convolution(graph: &Graph, id: NodeId) -> bool {
    graph.kind(id) == Kind::Affine && matches!(graph.node(id).op(), Some(Op::Conv(_) | Op::ConvTranspose(_)))
}

impl Configured for Lrp {
    const CARD: Card = Card {
        id: "lrp",
        name: "Layer-wise relevance propagation",
        also: &["layer-wise relevance propagation", "relevance propagation"],
        summary: "the score, handed back layer by layer in proportion to contributions",
        paper: "Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance \
                Propagation",
        year: 2015,
        networks: &["AlexNet", "VGG-16", "LSTM"],
        ..Card::gradient(Family::Vanilla)
    };

    fn check(&self) -> Result<()> {
        for (name, value) in
            [("epsilon", self.epsilon), ("gamma", self.gamma), ("stabiliser", self.stabiliser)]
        {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::invalid(name, value.to_string(), "0 or a positive number"));
            }
        }
        Ok(())
    }
}

impl Explainer<Graph> for Lrp {
    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        let graph = task.model.canonical()?;
        let wanted = graph.explained_nodes(task.x)?;
        let rules = self.rules(&graph)?;
        let mut started = Vec::new();
        let found = task.by_samples(|x, samples| {
            let (scores, walked) = task.walk(&graph, x, &rules, &wanted, |outputs| {
                let (scores, seeds) = task.target.seed(outputs, samples)?;
                let mut start = vec![0.0; samples.len()];
                let mut relevance = Vec::with_capacity(seeds.len());
                for ((_, output), seed) in outputs.iter().zip(seeds) {
                    let own = (seed * output)?;
                    row_sums(&own)?.iter().zip(&mut start).for_each(|(own, sum)| *sum += own);
                    relevance.push(own);
                }
                started.extend(start);
                Ok((scores, relevance))
            })?;
            Ok(Gradient { scores, values: walked.gradients })
        })?;
        let mut arrived = vec![0.0; started.len()];
        for value in &found.values {
            arrived.iter_mut().zip(row_sums(value)?).for_each(|(sum, own)| *sum += own);
        }
        let notes = conservation(&started, &arrived).into_iter().collect();
        Ok(Found { notes, expected_totals: Some(started), ..found.into() })
    }
}

/// Sum of each row.
fn row_sums(values: &Tensor) -> Result<Vec<f64>> {
    let rows = values.dim(0)?;
    to_f64(&values.to_dtype(ascribe_core::DType::F64)?.reshape((rows, ()))?.sum(1)?)
}

/// A note on the sample whose relevance is conserved worst.
fn conservation(started: &[f64], arrived: &[f64]) -> Option<String> {
    let gaps = started.iter().zip(arrived).map(|(s, a)| (a - s).abs() / s.abs().max(f64::MIN_POSITIVE));
    let (sample, gap) = gaps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (started, arrived) = (started[sample], arrived[sample]);
    let worst =
        if sample == 0 { String::new() } else { format!(" (sample {sample}, the worst of the batch)") };
    Some(format!(
        "relevance: {started:.6} at the output, {arrived:.6} at the input{worst}: {:.2} % gained or lost to biases \
         and stabilisers",
        100.0 * gap
    ))
}

#[cfg(test)]
mod tests;
