//! Cutting a graph in two, for attribution at layers and of neurons.

use super::{Body, Graph, InputSpec, Node, NodeId, Trace};
use crate::error::{Error, Result};
use crate::inputs::{Inputs, Role};

impl Graph {
    /// The head: the part of the graph that ends at `id`, with this node as the only output.
    ///
    /// Applying a method to the head with [`crate::Target::Neuron`] explains a neuron. All inputs are kept, including those
    /// that the node does not depend on.
    ///
    /// # Errors
    /// If the node does not depend on an input.
    pub fn until_node(&self, id: NodeId) -> Result<Self> {
        if !self.is_dynamic(id) {
            let name = self.node(id).name();
            return Err(Error::invalid(
                format!("node '{name}'"),
                "does not depend on an input",
                "one that does",
            ));
        }
        let nodes = self.inner.nodes.clone();
        let head = Self::assemble(nodes, vec![id], self.vanished(), self.backend())?.typed_as(self);
        // The output is another one.
        Ok(Self { output_names: None, kind: None, ..head })
    }

    /// The tail: the part of the graph that starts at `id`, and the inputs to run it with.
    ///
    /// Applying a method to the tail explains at a layer. The first of the inputs is the value of `id` that `trace` recorded,
    /// named after the node. Where other paths bypass the node (a residual connection), the values on those paths are
    /// further inputs of the tail, **fixed** at what the trace recorded: methods neither perturb nor explain them.
    ///
    /// # Errors
    /// If no output depends on the node, the trace lacks a value, or a value that bypasses the node does not have one row
    /// per sample.
    pub fn from_node(&self, id: NodeId, trace: &Trace) -> Result<(Self, Inputs)> {
        let mut below = vec![false; self.len()];
        below[id.0] = true;
        for (user, node) in self.nodes() {
            below[user.0] |= node.inputs.iter().any(|i| below[i.0]);
        }
        let name = self.node(id).name();
        if !self.is_dynamic(id) || !self.outputs().iter().any(|o| below[o.0]) {
            return Err(Error::invalid(
                format!("node '{name}'"),
                "is not on a path from an input to an output",
                "one that is",
            ));
        }
        let mut needed = vec![false; self.len()];
        self.outputs().iter().for_each(|o| needed[o.0] = true);
        for (user, node) in self.nodes().rev() {
            if needed[user.0] && below[user.0] && user != id {
                node.inputs.iter().for_each(|i| needed[i.0] = true);
            }
        }
        let mut inputs = Inputs::named([(name, trace.value(id)?.clone())])?;
        let mut nodes = self.inner.nodes.clone();
        let mut keep = Vec::new();
        for (at, node) in self.nodes() {
            let frozen = needed[at.0] && !below[at.0] && self.is_dynamic(at);
            if at == id || frozen {
                let value = trace.value(at)?;
                if value.dims().first() != Some(&trace.batch) {
                    return Err(Error::invalid(
                        format!("value of node '{}'", node.name()),
                        format!("has shape {:?}", value.dims()),
                        format!("a first axis with the {} samples, to cut the graph there", trace.batch),
                    ));
                }
                let sides = value.dims()[1..].iter().map(|&s| Some(s)).collect();
                let integer = value.dtype().is_int();
                nodes[at.0].body = Body::Input(InputSpec { sides, integer });
                nodes[at.0].inputs.clear();
                if frozen {
                    inputs = inputs.with(node.name(), value.clone(), Role::Fixed)?;
                }
            }
            if needed[at.0] || at == id {
                keep.push(at);
            }
        }
        let mut place = vec![None; self.len()];
        let mut kept: Vec<Node> = Vec::with_capacity(keep.len());
        for at in keep {
            let mut node = nodes[at.0].clone();
            for input in &mut node.inputs {
                *input = place[input.0]
                    .ok_or_else(|| Error::invalid("graph", "is not ordered", "operands first"))?;
            }
            place[at.0] = Some(NodeId(kept.len()));
            kept.push(node);
        }
        let outputs = self.outputs().iter().filter_map(|o| place[o.0]).collect();
        let vanished = self.vanished().moved(|id| place[id.0]);
        Ok((Self::assemble(kept, outputs, &vanished, self.backend())?.typed_as(self), inputs))
    }
}
