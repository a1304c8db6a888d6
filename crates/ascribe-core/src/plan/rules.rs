//! The rule of each node in a backward pass.

use std::sync::Arc;

use crate::graph::{Graph, NodeId, Trace};
use crate::rule::{Composite, Planned, Rule};

/// The rules of a backward pass by node; empty for the true gradient.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    planned: Vec<Planned>,
    rules: Vec<Arc<dyn Rule>>,
}

/// What the backward half of a plan needs at run time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backward<'a> {
    pub(crate) rules: &'a Rules,
    /// The values of a reference run, for rules that compare with one (such as DeepLIFT).
    pub(crate) reference: Option<&'a Trace>,
}

/// The rules of the true gradient.
static GRADIENT: Rules = Rules { planned: Vec::new(), rules: Vec::new() };

impl Default for Backward<'_> {
    fn default() -> Self {
        Self { rules: &GRADIENT, reference: None }
    }
}

impl Rules {
    /// The rules of a composite for a backward pass to `wanted`.
    pub(crate) fn of(graph: &Graph, composite: &Composite, wanted: &[NodeId]) -> Self {
        if composite.is_gradient() || wanted.is_empty() {
            return Self::default();
        }
        let mut on_path = vec![false; graph.len()];
        for id in wanted {
            on_path[id.index()] = true;
        }
        let mut all = Self { planned: Vec::with_capacity(graph.len()), rules: Vec::new() };
        let gradient: Arc<dyn Rule> = Arc::new(crate::rule::Gradient);
        for (id, node) in graph.nodes() {
            let reached = node.inputs().iter().any(|i| on_path[i.index()]);
            on_path[id.index()] |= reached;
            let rule = if reached { composite.rule_for(graph, id) } else { &gradient };
            all.planned.push(rule.planned(graph, id));
            all.rules.push(rule.clone());
        }
        all
    }

    /// The part of the rules that a plan is specialised for.
    pub(super) fn key(&self) -> &[Planned] {
        &self.planned
    }

    /// The planned rule of a node.
    pub(super) fn at(&self, id: NodeId) -> Planned {
        self.planned.get(id.index()).copied().unwrap_or(Planned::Gradient)
    }

    /// The rule of a node, if it is not the true gradient.
    pub(crate) fn rule(&self, id: NodeId) -> Option<&dyn Rule> {
        let rule = self.rules.get(id.index())?;
        (self.at(id) != Planned::Gradient).then_some(&**rule)
    }
}
