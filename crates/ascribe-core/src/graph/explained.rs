//! Finds nodes by name.

use wildmatch::WildMatch;

use super::{Graph, NodeId};
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::ops::Kind;

impl Graph {
    /// The nodes that depend on an input and whose name matches a pattern, in which `*` matches any characters and
    /// `?` a single one. A pattern without wildcards is looked up by [`Graph::find`].
    ///
    /// # Errors
    /// If there is no such node.
    pub fn find_all(&self, pattern: &str) -> Result<Vec<NodeId>> {
        if !pattern.contains(['*', '?']) {
            return Ok(vec![self.find(pattern)?]);
        }
        let matcher = WildMatch::new(pattern);
        let meant = self.nodes().filter(|(id, node)| self.is_dynamic(*id) && matcher.matches(node.name()));
        let found: Vec<NodeId> = meant.map(|(id, _)| id).collect();
        if found.is_empty() {
            let problem = format!("'{pattern}' matches none");
            return Err(Error::invalid(
                "names of nodes",
                problem,
                "a pattern with * and ? that a name matches",
            ));
        }
        Ok(found)
    }

    /// The nodes of the explained inputs, in the order of `x`.
    ///
    /// # Errors
    /// If an explained input is not one of the graph's, or nothing is explained (tokens have no gradient: the
    /// message names the embeddings where the graph can be cut).
    pub fn explained_nodes(&self, x: &Inputs) -> Result<Vec<NodeId>> {
        let nodes: Result<Vec<NodeId>> = x
            .explained()
            .map(|input| match self.inputs() {
                [only] if input.name.is_empty() => Ok(*only),
                _ => self.find(&input.name),
            })
            .collect();
        let nodes = nodes?;
        let integers = |id: &NodeId| self.input_spec(*id).is_some_and(|spec| spec.integer);
        if nodes.is_empty() || nodes.iter().any(integers) {
            let cuts: Vec<&str> =
                self.nodes().filter(|(id, _)| self.is_embedding(*id)).map(|(_, n)| n.name()).collect();
            return Err(Error::invalid(
                "inputs",
                "have no gradient: they are integers, or fixed",
                if cuts.is_empty() {
                    "a floating-point input, or a method that needs only outputs".to_string()
                } else {
                    format!(
                        "attribution at an embedding, `Location::Layer` with one of {cuts:?}, or a method that needs only outputs"
                    )
                },
            ));
        }
        Ok(nodes)
    }

    /// Whether a node looks up rows of a constant table by dynamic indices.
    pub fn is_embedding(&self, id: NodeId) -> bool {
        let node = self.node(id);
        self.kind(id) == Kind::Structural
            && matches!(node.inputs(), [table, index] if !self.is_dynamic(*table) && self.is_dynamic(*index))
    }
}
