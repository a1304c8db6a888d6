//! Applying rewrites to a graph.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;

use super::Pass;
use super::view::View;
use crate::error::Result;
use crate::graph::{Body, Graph, Node, NodeId};
use crate::ops::Op;

/// The replacement of a node.
pub(super) enum Rewrite {
    /// A stored value.
    Constant(Tensor),
    /// No node: another one has the same value.
    Same(NodeId),
    /// Another operator, under the same name.
    Op(Op, Vec<Operand>),
}

impl Rewrite {
    pub(super) fn op(op: impl Into<Op>, operands: Vec<Operand>) -> Self {
        Self::Op(op.into(), operands)
    }
}

/// An operand of a new operator.
pub(super) enum Operand {
    /// A value of the graph.
    Node(NodeId),
    /// A new constant.
    New {
        /// The parameter that it comes from.
        from: String,
        value: Tensor,
        /// The constant that it is a function of, so that operators that share that constant share this one, too.
        shared: Option<NodeId>,
    },
    /// A new value, computed before the node.
    Computed {
        /// The node that its name is derived from.
        from: String,
        op: Op,
        operands: Vec<Operand>,
    },
}

impl Operand {
    pub(super) fn new(from: impl Into<String>, value: Tensor) -> Self {
        Self::New { from: from.into(), value, shared: None }
    }
}

/// The names that the original graph uses, and what new ones are derived from.
pub(super) struct Names {
    original: HashSet<String>,
    /// New names, with the original name that each comes from.
    derived: HashMap<String, String>,
}

impl Names {
    pub(super) fn of(graph: &Graph) -> Self {
        let original = graph.nodes().map(|(_, node)| node.name().to_string()).collect();
        Self { original, derived: HashMap::new() }
    }

    /// A name derived from that of the original parameter, which neither the original graph nor `taken` contains.
    fn derive(&mut self, from: &str, taken: &HashSet<String>) -> String {
        let base = self.derived.get(from).map_or(from, String::as_str).to_string();
        let mut name = format!("{base}.folded");
        let mut count = 1;
        while self.original.contains(&name) || taken.contains(&name) {
            count += 1;
            name = format!("{base}.folded_{count}");
        }
        self.derived.insert(name.clone(), base);
        name
    }
}

/// A graph under construction.
#[derive(Default)]
struct Draft {
    nodes: Vec<Node>,
    /// For each node of the old graph, its place in the new one.
    place: Vec<NodeId>,
    /// New constants that are functions of an old one.
    shared: HashMap<NodeId, NodeId>,
    /// New constants and values, whose names are provisional.
    unnamed: Vec<NodeId>,
    /// Names of removed nodes, with the node that has their value.
    aliases: Vec<(String, NodeId)>,
    /// Nodes whose name an output of the graph has.
    claimed: HashSet<NodeId>,
}

impl Draft {
    fn push(&mut self, name: &str, body: Body, inputs: Vec<NodeId>) -> NodeId {
        self.nodes.push(Node { name: name.into(), body, inputs });
        NodeId(self.nodes.len() - 1)
    }

    fn operand(&mut self, operand: Operand) -> NodeId {
        match operand {
            Operand::Node(id) => self.place[id.0],
            Operand::New { from, value, shared } => {
                if let Some(&known) = shared.as_ref().and_then(|key| self.shared.get(key)) {
                    return known;
                }
                let id = self.push(&from, Body::Constant(value), Vec::new());
                self.unnamed.push(id);
                if let Some(key) = shared {
                    self.shared.insert(key, id);
                }
                id
            }
            Operand::Computed { from, op, operands } => {
                let inputs = operands.into_iter().map(|operand| self.operand(operand)).collect();
                let id = self.push(&from, Body::Op(op), inputs);
                self.unnamed.push(id);
                id
            }
        }
    }

    /// Replaces a node by `to`. If the node is an output, its name is kept: `to` takes it, if possible.
    fn redirect(&mut self, node: &Node, is_output: bool, to: NodeId) -> Option<NodeId> {
        if !is_output {
            self.aliases.push((node.name.clone(), to));
            return Some(to);
        }
        let target = &mut self.nodes[to.0];
        if !matches!(target.body, Body::Op(_)) || !self.claimed.insert(to) {
            return None;
        }
        self.aliases.push((std::mem::replace(&mut target.name, node.name.clone()), to));
        Some(to)
    }

    /// For each node, whether it stays.
    fn kept(&self, outputs: &[NodeId]) -> Vec<bool> {
        let mut kept: Vec<bool> = self.nodes.iter().map(|n| matches!(n.body, Body::Input(_))).collect();
        for output in outputs {
            kept[output.0] = true;
        }
        for (i, node) in self.nodes.iter().enumerate().rev() {
            if kept[i] {
                for input in &node.inputs {
                    kept[input.0] = true;
                }
            }
        }
        kept
    }

    /// Gives the remaining new constants their final names; returns all remaining names.
    fn name_parameters(&mut self, kept: &[bool], names: &mut Names) -> HashSet<String> {
        let mut new = vec![false; self.nodes.len()];
        for id in &self.unnamed {
            new[id.0] = true;
        }
        let staying = (0..self.nodes.len()).filter(|&i| kept[i] && !new[i]);
        let mut taken: HashSet<String> = staying.map(|i| self.nodes[i].name.clone()).collect();
        for id in &self.unnamed {
            let node = &mut self.nodes[id.0];
            node.name = names.derive(&node.name, &taken);
            if kept[id.0] {
                taken.insert(node.name.clone());
            }
        }
        taken
    }
}

/// Applies a pass to every node; `None` if it changes nothing.
pub(super) fn rewrite_all(graph: &Graph, pass: Pass, names: &mut Names) -> Result<Option<Graph>> {
    let view = View::new(graph);
    let mut draft = Draft::default();
    let mut changed = false;
    for (id, node) in graph.nodes() {
        let rewrite = match node.body() {
            Body::Op(op) => pass(&view, id).map_err(|e| e.at(node.name(), op.operator().name()))?,
            _ => None,
        };
        let is_output = view.is_output(id);
        let moved = match rewrite {
            None => None,
            Some(Rewrite::Constant(value)) => {
                Some(draft.push(node.name(), Body::Constant(value), Vec::new()))
            }
            Some(Rewrite::Op(op, operands)) => {
                let inputs = operands.into_iter().map(|operand| draft.operand(operand)).collect();
                Some(draft.push(node.name(), Body::Op(op), inputs))
            }
            Some(Rewrite::Same(other)) => draft.redirect(node, is_output, draft.place[other.0]),
        };
        changed |= moved.is_some();
        let place = moved.unwrap_or_else(|| {
            let inputs = node.inputs().iter().map(|i| draft.place[i.0]).collect();
            draft.push(node.name(), node.body.clone(), inputs)
        });
        draft.place.push(place);
        if is_output {
            draft.claimed.insert(place);
        }
    }
    if !changed {
        return Ok(None);
    }
    finish(graph, draft, names).map(Some)
}

/// Assembles the new graph and records the replacements of removed names.
fn finish(old: &Graph, mut draft: Draft, names: &mut Names) -> Result<Graph> {
    let outputs: Vec<NodeId> = old.outputs().iter().map(|o| draft.place[o.0]).collect();
    let kept = draft.kept(&outputs);
    let staying = draft.name_parameters(&kept, names);
    let mut vanished = old.vanished().moved(|id| draft.place.get(id.0).copied().filter(|new| kept[new.0]));
    for (name, id) in draft.aliases.drain(..).filter(|(_, id)| kept[id.0]) {
        vanished.add_alias(name, id);
    }
    // The node that each removed node became part of; users come first, so that theirs is known.
    let mut fate: Vec<Option<&str>> = vec![None; old.len()];
    for (id, node) in old.nodes().rev() {
        let found = staying.contains(node.name()) || vanished.alias(node.name()).is_some();
        fate[id.0] = if found { Some(node.name()) } else { old.users(id).find_map(|user| fate[user.0]) };
        if let (false, Body::Op(_), Some(into)) = (found, node.body(), fate[id.0]) {
            vanished.add_merged(node.name().into(), into.into());
        }
    }
    for (name, id) in old.vanished().aliases() {
        if let (None, Some(into)) = (vanished.alias(name), fate[id.0]) {
            vanished.add_merged(name.into(), into.into());
        }
    }
    vanished.follow_merged();
    Ok(Graph::assemble(draft.nodes, outputs, &vanished, old.backend())?.typed_as(old))
}
