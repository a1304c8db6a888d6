//! Selects the rule for each node.

use std::fmt::{self, Debug};
use std::sync::Arc;

use super::{Gradient, Rule};
use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::{Kind, Op, Slot};

/// A condition on a node of a graph. It does not see values: the rule of each node is selected before anything runs.
pub type Predicate = Arc<dyn Fn(&Graph, NodeId) -> bool + Send + Sync>;

/// Selects the nodes that a rule applies to.
#[derive(Clone)]
pub enum Selector {
    /// Nodes of this kind.
    Kind(Kind),
    /// The node with this name.
    Name(String),
    /// The first layers: see [`is_first_affine`].
    FirstAffine,
    /// Nodes that satisfy a condition.
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
    pub(crate) fn matches(&self, graph: &Graph, id: NodeId) -> bool {
        match self {
            Self::Kind(kind) => graph.kind(id) == *kind,
            Self::Name(name) => graph.node(id).name() == name,
            Self::FirstAffine => is_first_affine(graph, id),
            Self::Where(condition) => condition(graph, id),
        }
    }
}

/// Whether a node is a first layer: it is affine with a weight, and between it and the inputs values are only moved, or scaled
/// and shifted one by one, as in a normalisation of pictures that is part of the graph.
pub fn is_first_affine(graph: &Graph, id: NodeId) -> bool {
    let one_by_one = |id: NodeId| {
        let op = graph.node(id).op();
        graph.kind(id) == Kind::Affine
            && matches!(op, Some(Op::Binary(_) | Op::Pointwise(_) | Op::ScaleShift(_) | Op::BatchNorm(_)))
    };
    is_layer(graph, id) && !one_by_one(id) && comes_from_inputs(graph, id, one_by_one)
}

/// Whether a node is affine with a weight.
pub(crate) fn is_layer(graph: &Graph, id: NodeId) -> bool {
    let weighs = |slot| graph.slot(id, slot) == Slot::Weight;
    graph.kind(id) == Kind::Affine && (0..graph.node(id).inputs().len()).any(weighs)
}

/// Whether the data of a node come from the inputs through nodes that only move values, and others that `through` allows.
pub(crate) fn comes_from_inputs(graph: &Graph, id: NodeId, through: impl Fn(NodeId) -> bool) -> bool {
    let mut stack: Vec<NodeId> = graph.node(id).inputs().to_vec();
    while let Some(at) = stack.pop() {
        match graph.kind(at) {
            Kind::Input | Kind::Constant => {}
            Kind::Structural => stack.extend(graph.node(at).inputs()),
            _ if through(at) => stack.extend(graph.node(at).inputs()),
            _ => return false,
        }
    }
    true
}

/// A table of rules: the first entry whose selector matches a node determines the node's rule.
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

    /// Adds an entry after the existing ones.
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

    /// Checks, without computing anything, that a rule is defined for each node between the outputs and the nodes `wanted`
    /// that a signal may arrive at.
    ///
    /// # Errors
    /// That of the first such node, from the output on, for which its rule is not defined.
    pub fn check(&self, graph: &Graph, wanted: &[NodeId]) -> Result<()> {
        if self.is_gradient() {
            return Ok(());
        }
        let mut above = vec![false; graph.len()];
        for id in wanted {
            above[id.index()] = true;
        }
        let mut visited = vec![false; graph.len()];
        for (id, node) in graph.nodes() {
            visited[id.index()] = node.inputs().iter().any(|i| above[i.index()]);
            above[id.index()] |= visited[id.index()];
        }
        let mut arrives = vec![false; graph.len()];
        for id in graph.outputs() {
            arrives[id.index()] = true;
        }
        for (id, node) in graph.nodes().rev() {
            if !arrives[id.index()] || graph.kind(id) == Kind::Blocking {
                continue;
            }
            if visited[id.index()] {
                self.rule_for(graph, id).check(graph, id)?;
            }
            let passed = node.inputs().iter().enumerate();
            for (_, operand) in passed.filter(|(slot, _)| graph.slot(id, *slot) != Slot::Other) {
                arrives[operand.index()] = true;
            }
        }
        Ok(())
    }

    /// The rule for a node.
    pub fn rule_for(&self, graph: &Graph, id: NodeId) -> &Arc<dyn Rule> {
        self.entries.iter().find(|(s, _)| s.matches(graph, id)).map_or(&self.fallback, |(_, rule)| rule)
    }
}
