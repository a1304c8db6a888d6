//! Layer-wise relevance propagation: Bach et al. 2015, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
//! Layer-Wise Relevance Propagation"; Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview".
//!
//! The score is redistributed backwards from the output, at each node in proportion to the contributions of its
//! inputs, so that no relevance is gained or lost, up to biases and stabilisers:
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
//! their signs. The walk runs on the graph's canonical form, in which batch norm is folded into the layer before it.
//! The difference between the attribution's sum and the initial relevance is reported as the completeness gap, and in
//! the notes.
//!
//! Cost: one evaluation and one backward walk; ε takes about 2, z⁺ 4 and γ 8 times the arithmetic of a gradient at
//! an affine node.

use std::collections::{BTreeMap, BTreeSet};

use ascribe_core::relevance::{At, Bound, CompositeSpec, Entry, Numbers};
use ascribe_core::{
    Card, Composite, Configured, Error, Explainer, Family, Found, Gradient, Graph, Inputs, NodeId, Result,
    Task, Tensor, Walk, to_f64,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

pub use ascribe_core::relevance::{Bias, Preset as LrpComposite, RuleName as LrpRule};

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
    /// The rules of affine nodes: the name of a table, or a list of entries such as `{ "at": "first", "rule": "flat"
    /// }`, of which the first that matches a node applies.
    #[setters(into)]
    pub composite: CompositeSpec,
    /// Rule of the first affine layer, if it differs.
    #[setters(strip_option)]
    pub first: Option<LrpRule>,
    /// Rules of affine nodes by name, or by a pattern with `*` and `?`, if they differ.
    pub layers: BTreeMap<String, LrpRule>,
    /// Stabiliser of the ε-rule.
    pub epsilon: f64,
    /// γ of the γ-rule.
    pub gamma: f64,
    /// α of the αβ-rule.
    pub alpha: f64,
    /// β of the αβ-rule.
    pub beta: f64,
    /// Stabiliser of all other rules.
    pub stabiliser: f64,
    /// What happens to the relevance of biases.
    pub bias: Bias,
    /// The lowest values that the model's inputs can have, for the zᴮ-rule: a number, or one for each channel.
    #[setters(strip_option)]
    pub low: Option<Bound>,
    /// The highest values that the model's inputs can have, for the zᴮ-rule.
    #[setters(strip_option)]
    pub high: Option<Bound>,
    /// Nodes whose relevance is returned in addition to that of the input, by name or by a pattern with `*` and `?`:
    /// further results `relevance.NAME`, shaped like the nodes' values.
    pub collect: Vec<String>,
}

impl Default for Lrp {
    fn default() -> Self {
        let Numbers { epsilon, gamma, alpha, beta, stabiliser, bias, low, high } = Numbers::default();
        Self {
            composite: CompositeSpec::default(),
            first: None,
            layers: BTreeMap::new(),
            epsilon,
            gamma,
            alpha,
            beta,
            stabiliser,
            bias,
            low,
            high,
            collect: Vec::new(),
        }
    }
}

impl Lrp {
    /// Sets the rule of an affine node.
    pub fn layer(mut self, name: impl Into<String>, rule: LrpRule) -> Self {
        self.layers.insert(name.into(), rule);
        self
    }

    fn numbers(&self) -> Numbers {
        let Self { epsilon, gamma, alpha, beta, stabiliser, bias, ref low, ref high, .. } = *self;
        Numbers { epsilon, gamma, alpha, beta, stabiliser, bias, low: low.clone(), high: high.clone() }
    }

    /// The table of rules for a graph in canonical form.
    ///
    /// # Errors
    /// If the graph has no node that a rule was set for.
    pub fn rules(&self, graph: &Graph) -> Result<Composite> {
        // An exact name counts more than a pattern.
        let (patterns, names): (Vec<_>, Vec<_>) =
            self.layers.iter().partition(|(name, _)| name.contains(['*', '?']));
        let layers = names.into_iter().chain(patterns);
        let layers = layers.map(|(name, rule)| Entry::new(At::Name(name.clone()), rule.clone()));
        let first = self.first.iter().map(|rule| Entry::new(At::First, rule.clone()));
        self.composite.composite(&layers.chain(first).collect::<Vec<_>>(), graph, &self.numbers())
    }

    /// The nodes whose relevance is collected, in the order of the graph.
    fn collected(&self, graph: &Graph) -> Result<Vec<NodeId>> {
        let found: Result<Vec<Vec<NodeId>>> = self.collect.iter().map(|name| graph.find_all(name)).collect();
        let found: BTreeSet<NodeId> = found?.into_iter().flatten().collect();
        if let Some(constant) = found.iter().find(|id| !graph.is_dynamic(**id)) {
            let problem = format!("'{}' does not depend on the input", graph.node(*constant).name());
            return Err(Error::invalid("collect", problem, "nodes that relevance passes through"));
        }
        Ok(found.into_iter().collect())
    }
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
        ..Card::gradient(Family::Vanilla).with_range()
    };

    fn check(&self) -> Result<()> {
        self.numbers().check()
    }
}

impl Explainer<Graph> for Lrp {
    fn check_model(&self, model: &Graph, x: &Inputs) -> Result<Vec<String>> {
        let graph = model.canonical()?;
        let wanted = [graph.explained_nodes(x)?, self.collected(&graph)?].concat();
        self.rules(&graph)?.check(&graph, &wanted)?;
        Ok(Vec::new())
    }

    fn find(&self, task: &Task<'_, Graph>) -> Result<Found> {
        let graph = task.model.canonical()?;
        let explained = graph.explained_nodes(task.x)?;
        let collected = self.collected(&graph)?;
        let wanted = [explained.as_slice(), &collected].concat();
        let rules = self.rules(&graph)?;
        let mut started = Vec::new();
        let mut found = task.by_samples(|x, samples| {
            let (scores, walked) = task.walk(&Walk::new(&graph, &rules, &wanted), x, |outputs| {
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
            Ok(Gradient { scores, values: walked.signals })
        })?;
        let inner = found.values.split_off(explained.len());
        let mut arrived = vec![0.0; started.len()];
        for value in &found.values {
            arrived.iter_mut().zip(row_sums(value)?).for_each(|(sum, own)| *sum += own);
        }
        let notes = conservation(&started, &arrived).into_iter().collect();
        let named = collected.iter().map(|id| format!("relevance.{}", graph.node(*id).name()));
        let extras = named.zip(inner).collect();
        Ok(Found { notes, extras, expected_totals: Some(started), ..found.into() })
    }
}

/// Sum of each row.
fn row_sums(values: &Tensor) -> Result<Vec<f64>> {
    let rows = values.dim(0)?;
    to_f64(&values.to_dtype(ascribe_core::DType::F64)?.reshape((rows, ()))?.sum(1)?)
}

/// A note on the sample whose relevance is conserved least.
fn conservation(started: &[f64], arrived: &[f64]) -> Option<String> {
    let gaps = started.iter().zip(arrived).map(|(s, a)| (a - s).abs() / s.abs().max(f64::MIN_POSITIVE));
    let (sample, gap) = gaps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (started, arrived) = (started[sample], arrived[sample]);
    let worst =
        if sample == 0 { String::new() } else { format!(" (sample {sample}, the worst of the batch)") };
    let change = if started == 0.0 {
        String::new()
    } else {
        format!(": {:.2} % gained or lost to biases and stabilisers", 100.0 * gap)
    };
    Some(format!("relevance: {started:.6} at the output, {arrived:.6} at the input{worst}{change}"))
}

#[cfg(test)]
mod tests;
