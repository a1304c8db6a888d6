//! Building a graph node by node.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;

use super::{Body, Graph, InputSpec, Node, NodeId, Vanished};
use crate::error::{Error, Result};
use crate::ops::{Backend, Op};

/// Builds a [`Graph`]. Nodes can only use nodes that exist, so the order is topological by construction.
///
/// ```
/// use ascribe_core::{GraphBuilder, ops::Pointwise};
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(3)]);
/// let y = b.op("relu", Pointwise::Relu, &[x])?;
/// let graph = b.finish(&[y])?;
/// assert_eq!(graph.len(), 2);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    names: Names,
    aliases: Vec<(String, NodeId)>,
}

/// Names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    /// For names that were asked for again, the last number that was added: loops ask for one name thousands of times.
    last: HashMap<String, usize>,
}

impl Names {
    /// The name itself, or the name with the smallest free number if it is taken; it is taken then.
    pub(crate) fn unique(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_string()) {
            return name.to_string();
        }
        let last = self.last.entry(name.to_string()).or_insert(1);
        loop {
            *last += 1;
            let unique = format!("{name}_{last}");
            if self.taken.insert(unique.clone()) {
                return unique;
            }
        }
    }
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self { taken: names.into_iter().collect(), last: HashMap::new() }
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, name: &str, body: Body, inputs: &[NodeId]) -> NodeId {
        let fallback = match &body {
            Body::Input(_) => "input",
            Body::Constant(_) => "constant",
            Body::Op(op) => op.operator().name(),
        };
        let name = self.names.unique(if name.is_empty() { fallback } else { name });
        self.nodes.push(Node { name, body, inputs: inputs.to_vec() });
        NodeId(self.nodes.len() - 1)
    }

    /// Adds a floating-point input; `sides` are those after the batch axis, `None` for any length.
    pub fn input(&mut self, name: &str, sides: &[Option<usize>]) -> NodeId {
        self.push(name, Body::Input(InputSpec { sides: sides.to_vec(), integer: false }), &[])
    }

    /// Adds an integer input (tokens).
    pub fn integer_input(&mut self, name: &str, sides: &[Option<usize>]) -> NodeId {
        self.push(name, Body::Input(InputSpec { sides: sides.to_vec(), integer: true }), &[])
    }

    /// Adds a stored value. It must not change later, since plans keep values computed from it: pass a copy of a `Var`.
    pub fn constant(&mut self, name: &str, value: Tensor) -> NodeId {
        self.push(name, Body::Constant(value), &[])
    }

    /// Adds an operator.
    ///
    /// # Errors
    /// If an operand is not a node of this builder.
    pub fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[NodeId]) -> Result<NodeId> {
        if let Some(id) = inputs.iter().find(|id| id.0 >= self.nodes.len()) {
            return Err(Error::invalid(
                format!("node '{name}'"),
                format!("uses node number {}", id.0),
                format!("one of the {} nodes so far", self.nodes.len()),
            ));
        }
        Ok(self.push(name, Body::Op(op.into()), inputs))
    }

    /// A further name by which a node is found, such as that of its value in the source model. Names of nodes come first.
    pub fn alias(&mut self, name: &str, id: NodeId) {
        self.aliases.push((name.into(), id));
    }

    /// The node at a position.
    ///
    /// # Panics
    /// If the position is of another builder.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Number of nodes so far.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes yet.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The finished graph. Nodes that no output needs are dropped; inputs stay.
    ///
    /// # Errors
    /// If there is no output, or an output is not a node of this builder.
    pub fn finish(self, outputs: &[NodeId]) -> Result<Graph> {
        if let Some(id) = outputs.iter().find(|id| id.0 >= self.nodes.len()) {
            return Err(Error::invalid(
                "output",
                format!("is node number {}", id.0),
                format!("one of the {} nodes", self.nodes.len()),
            ));
        }
        let mut further = Vanished::default();
        for (name, id) in self.aliases.into_iter().filter(|(_, id)| id.0 < self.nodes.len()) {
            further.add_alias(name, id);
        }
        Graph::assemble(self.nodes, outputs.to_vec(), &further, Backend::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_however_often_they_are_asked_for() {
        let mut names = ["w_3".to_string()].into_iter().collect::<Names>();
        let first: Vec<String> = (0..4).map(|_| names.unique("w")).collect();
        assert_eq!(first, ["w", "w_2", "w_4", "w_5"]);
        assert_eq!(names.unique("w_3"), "w_3_2");
        // If each name were looked for from the start, this would take hours.
        let last = (0..200_000).map(|_| names.unique("w")).last();
        assert_eq!(last.as_deref(), Some("w_200005"));
    }
}
