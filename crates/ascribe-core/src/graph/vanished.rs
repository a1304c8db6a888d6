//! Names of nodes of the source model that were removed by rewriting.

use std::collections::HashMap;

use super::NodeId;

/// The nodes that replaced removed ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vanished {
    /// Names of removed nodes, with the node that has the same value.
    aliases: HashMap<String, NodeId>,
    /// Names of nodes whose value is not computed any more, with the name of the node they became part of.
    merged: HashMap<String, String>,
}

impl Vanished {
    /// The node that has the value that the node of this name had.
    pub(crate) fn alias(&self, name: &str) -> Option<NodeId> {
        self.aliases.get(name).copied()
    }

    /// The name of the node that the node of this name became part of.
    pub(crate) fn merged(&self, name: &str) -> Option<&str> {
        self.merged.get(name).map(String::as_str)
    }

    pub(crate) fn add_alias(&mut self, name: String, id: NodeId) {
        self.aliases.insert(name, id);
    }

    pub(crate) fn add_merged(&mut self, name: String, into: String) {
        self.merged.insert(name, into);
    }

    /// Names of removed nodes, with the node that has the same value.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.aliases.iter().map(|(name, &id)| (name.as_str(), id))
    }

    /// Where a node became part of one that has itself become part of another, names the last one.
    pub(crate) fn follow_merged(&mut self) {
        let names: Vec<String> = self.merged.keys().cloned().collect();
        for name in names {
            let mut into = self.merged[&name].clone();
            while let Some(next) = self.merged.get(&into).filter(|next| **next != into) {
                into.clone_from(next);
            }
            self.merged.insert(name, into);
        }
    }

    /// The same for a graph whose nodes moved; aliases of nodes without a new place are forgotten.
    pub(crate) fn moved(&self, place: impl Fn(NodeId) -> Option<NodeId>) -> Self {
        let aliases = self.aliases.iter().filter_map(|(name, &id)| Some((name.clone(), place(id)?)));
        Self { aliases: aliases.collect(), merged: self.merged.clone() }
    }
}
