//! Backward rules: what a method does at a node, and how a method picks the rule for each node.

use std::fmt::{self, Debug};
use std::sync::Arc;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Trace};
use crate::ops::{Grads, Kind, Op, Slot, Vjp};

/// Maps the signal that arrives at a node's output to the signals that leave at its inputs.
///
/// A rule that has no definition for an operator must return [`Site::undefined`], never pass it by silently.
pub trait Rule: Debug + Send + Sync {
    /// The rule's name, for messages and records.
    fn name(&self) -> String;

    /// The signals for the operands: `None` for those that [`Site::needs`] does not ask for, or where the
    /// signal is identically zero.
    ///
    /// # Errors
    /// If the rule is not defined for the node, or its arithmetic fails.
    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads>;

    /// What the rule does at a node, if it can be said in words that a compiled plan knows; `None`, the default, sends
    /// the whole walk from node to node.
    ///
    /// Two rules with equal answers must do the same.
    fn planned(&self, _graph: &Graph, _id: NodeId) -> Option<Planned> {
        None
    }
}

/// What a rule does, in words that a compiled plan knows. s is the signal at the output, stab(d) = d + ε sign(d),
/// sign(0) = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planned {
    /// The true vector-Jacobian product.
    Gradient,
    /// The vector-Jacobian product of max(s, 0).
    Guided,
    /// max(s, 0), for activations.
    Rectified,
    /// s, for activations.
    Pass,
    /// `x ⊙ Jᵀ(s / stab(y))`, for sums and averages.
    Norm {
        /// The stabiliser.
        epsilon: f64,
    },
    /// `Σ x_t ⊙ W_tᵀ(s / stab(Σ W_t x_t + b))`, for affine nodes.
    Affine {
        /// Which contributions count.
        contributions: Contributions,
        /// The stabiliser.
        epsilon: f64,
        /// Whether the bias takes part in the denominator.
        absorb: bool,
    },
}

/// Which contributions to an affine node count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contributions {
    /// All: W x + b.
    All,
    /// The positive ones: W⁺x⁺ + W⁻x⁻ + b⁺.
    Positive,
}

/// A node as a rule sees it: operator, values of the run and, if there is one, of the reference run.
#[derive(Debug)]
pub struct Site<'a> {
    graph: &'a Graph,
    id: NodeId,
    op: &'a Op,
    inputs: Vec<&'a Tensor>,
    output: &'a Tensor,
    reference: Option<&'a Trace>,
    needs: Vec<bool>,
}

impl<'a> Site<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        id: NodeId,
        op: &'a Op,
        trace: &'a Trace,
        reference: Option<&'a Trace>,
        needs: Vec<bool>,
    ) -> Result<Self> {
        let inputs: Result<Vec<&Tensor>> = graph.node(id).inputs().iter().map(|i| trace.value(*i)).collect();
        Ok(Self { graph, id, op, inputs: inputs?, output: trace.value(id)?, reference, needs })
    }

    /// A site from its values.
    pub(crate) fn of_values(
        graph: &'a Graph,
        id: NodeId,
        op: &'a Op,
        inputs: Vec<&'a Tensor>,
        output: &'a Tensor,
        needs: Vec<bool>,
    ) -> Self {
        Self { graph, id, op, inputs, output, reference: None, needs }
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The node's position.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node's name.
    pub fn node_name(&self) -> &'a str {
        self.graph.node(self.id).name()
    }

    /// The operator.
    pub fn op(&self) -> &'a Op {
        self.op
    }

    /// What the node is to a rule.
    pub fn kind(&self) -> Kind {
        self.graph.kind(self.id)
    }

    /// What operand `slot` holds.
    pub fn slot(&self, slot: usize) -> Slot {
        self.graph.slot(self.id, slot)
    }

    /// Values of the operands.
    pub fn inputs(&self) -> &[&'a Tensor] {
        &self.inputs
    }

    /// Whether operand `slot` depends on a model input.
    pub fn is_dynamic(&self, slot: usize) -> bool {
        self.graph.node(self.id).inputs().get(slot).is_some_and(|i| self.graph.is_dynamic(*i))
    }

    /// For each operand, whether its signal is wanted.
    pub fn needs(&self) -> &[bool] {
        &self.needs
    }

    /// Value of the output.
    pub fn output(&self) -> &'a Tensor {
        self.output
    }

    /// Values of the operands and of the output in the reference run.
    ///
    /// # Errors
    /// If the walk has no reference trace, or it lacks a value.
    pub fn reference(&self) -> Result<(Vec<&'a Tensor>, &'a Tensor)> {
        let trace = self.reference.ok_or_else(|| {
            Error::invalid("backward walk", "has no reference trace", "one, for rules that compare with it")
        })?;
        let inputs: Result<Vec<&Tensor>> =
            self.graph.node(self.id).inputs().iter().map(|i| trace.value(*i)).collect();
        Ok((inputs?, trace.value(self.id)?))
    }

    /// The operator's output for other operands.
    ///
    /// # Errors
    /// As [`crate::ops::Operator::forward`].
    pub fn forward_with(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.op.operator().forward(inputs, self.graph.backend())
    }

    /// The operator's true vector-Jacobian product.
    ///
    /// # Errors
    /// As [`crate::ops::Operator::vjp`].
    pub fn vjp(&self, signal: &Tensor) -> Result<Grads> {
        self.vjp_with(&self.inputs, self.output, signal)
    }

    /// The operator's vector-Jacobian product at other operands.
    ///
    /// # Errors
    /// As [`crate::ops::Operator::vjp`].
    pub fn vjp_with(&self, inputs: &[&Tensor], output: &Tensor, signal: &Tensor) -> Result<Grads> {
        let backend = self.graph.backend();
        self.op.operator().vjp(&Vjp { inputs, output, grad: signal, needs: &self.needs, backend })
    }

    /// The error of a rule that has no definition for this node.
    pub fn undefined(&self, rule: &dyn Rule, why: impl Into<String>) -> Error {
        Error::UndefinedRule {
            rule: rule.name(),
            node: self.node_name().into(),
            op: self.op.operator().name().into(),
            why: why.into(),
        }
    }
}

/// The true vector-Jacobian product: plain back-propagation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradient;

impl Rule for Gradient {
    fn name(&self) -> String {
        "gradient".into()
    }

    fn apply(&self, site: &Site<'_>, signal: &Tensor) -> Result<Grads> {
        site.vjp(signal)
    }

    fn planned(&self, _: &Graph, _: NodeId) -> Option<Planned> {
        Some(Planned::Gradient)
    }
}

/// A condition on a node of a graph. It does not see values: which rule a node gets is decided before anything runs.
pub type Predicate = Arc<dyn Fn(&Graph, NodeId) -> bool + Send + Sync>;

/// Which nodes a rule is for.
#[derive(Clone)]
pub enum Selector {
    /// Nodes of this kind.
    Kind(Kind),
    /// The node of this name.
    Name(String),
    /// Affine nodes with a weight whose data comes straight from a model input, through structural nodes at
    /// most: the first layer.
    FirstAffine,
    /// Nodes that fulfil a condition.
    Where(Predicate),
}

impl Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "Kind({kind:?})"),
            Self::Name(name) => write!(f, "Name({name:?})"),
            Self::FirstAffine => write!(f, "FirstAffine"),
            Self::Where(_) => write!(f, "Where(…)"),
        }
    }
}

impl Selector {
    fn matches(&self, graph: &Graph, id: NodeId) -> bool {
        match self {
            Self::Kind(kind) => graph.kind(id) == *kind,
            Self::Name(name) => graph.node(id).name() == name,
            Self::FirstAffine => is_first_affine(graph, id),
            Self::Where(condition) => condition(graph, id),
        }
    }
}

/// Whether a node is affine with a weight and no other such node, nor anything that changes values, lies
/// between it and the inputs.
pub fn is_first_affine(graph: &Graph, id: NodeId) -> bool {
    let has_weight =
        |id: NodeId| (0..graph.node(id).inputs().len()).any(|i| graph.slot(id, i) == Slot::Weight);
    if graph.kind(id) != Kind::Affine || !has_weight(id) {
        return false;
    }
    let mut stack: Vec<NodeId> = graph.node(id).inputs().to_vec();
    while let Some(at) = stack.pop() {
        match graph.kind(at) {
            Kind::Input | Kind::Constant => {}
            Kind::Structural => stack.extend(graph.node(at).inputs()),
            _ => return false,
        }
    }
    true
}

/// A table of rules: the first entry whose selector matches a node gives the node's rule.
#[derive(Clone, Debug)]
pub struct Composite {
    entries: Vec<(Selector, Arc<dyn Rule>)>,
    fallback: Arc<dyn Rule>,
    /// Whether the fallback is the true gradient.
    plain: bool,
}

impl Default for Composite {
    fn default() -> Self {
        Self::gradient()
    }
}

impl Composite {
    /// The true gradient everywhere.
    pub fn gradient() -> Self {
        Self { entries: Vec::new(), fallback: Arc::new(Gradient), plain: true }
    }

    /// Whether this is the true gradient everywhere.
    pub fn is_gradient(&self) -> bool {
        self.plain && self.entries.is_empty()
    }

    /// Adds an entry behind those that exist.
    pub fn with(mut self, selector: Selector, rule: impl Rule + 'static) -> Self {
        self.entries.push((selector, Arc::new(rule)));
        self
    }

    /// Adds an entry for a kind of node.
    pub fn on(self, kind: Kind, rule: impl Rule + 'static) -> Self {
        self.with(Selector::Kind(kind), rule)
    }

    /// Sets the rule of nodes that no entry matches.
    pub fn otherwise(mut self, rule: impl Rule + 'static) -> Self {
        self.fallback = Arc::new(rule);
        self.plain = false;
        self
    }

    /// The rule for a node.
    pub fn rule_for(&self, graph: &Graph, id: NodeId) -> &Arc<dyn Rule> {
        self.entries.iter().find(|(s, _)| s.matches(graph, id)).map_or(&self.fallback, |(_, rule)| rule)
    }
}
