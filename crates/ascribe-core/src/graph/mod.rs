//! The model as a graph of named operators.

mod builder;
mod canonical;
mod changed;
mod cut;
mod execute;
mod explained;
pub(crate) mod fixed_batch;
mod shapes;
mod slope;
mod trace;
mod vanished;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

pub use builder::GraphBuilder;
pub(crate) use builder::Names;
pub use execute::Keep;
pub use trace::Trace;
use vanished::Vanished;

use crate::error::{Error, Result};
use crate::ops::{Backend, Kind, Op, Slot};
use crate::outputs::OutputKind;
use crate::plan::Plans;

/// Position of a node in its graph. Operands come before the nodes that use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// The position as a number.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a node computes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Body {
    /// A value given by the caller.
    Input(InputSpec),
    /// A stored value: weights, biases, constants.
    Constant(Tensor),
    /// An operator applied to other nodes.
    Op(Op),
}

/// What an input must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Sides after the batch axis; `None` accepts any length.
    pub sides: Vec<Option<usize>>,
    /// Whether the input holds integers (tokens), which have no gradient.
    pub integer: bool,
}

/// One use of an operator, one input or one constant.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) body: Body,
    pub(crate) inputs: Vec<NodeId>,
}

impl Node {
    /// The node's unique name, from the source model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the node computes.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The operator, if the node is one.
    pub fn op(&self) -> Option<&Op> {
        match &self.body {
            Body::Op(op) => Some(op),
            _ => None,
        }
    }

    /// The stored value, if the node is a constant.
    pub fn constant(&self) -> Option<&Tensor> {
        match &self.body {
            Body::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The nodes that this one takes its operands from.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The operator's name, `Input` or `Constant`.
    pub fn op_name(&self) -> &'static str {
        match &self.body {
            Body::Input(_) => "Input",
            Body::Constant(_) => "Constant",
            Body::Op(op) => op.operator().name(),
        }
    }
}

#[derive(Debug)]
struct Inner {
    nodes: Vec<Node>,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    names: HashMap<String, NodeId>,
    /// For each node, whether it depends on an input.
    dynamic: Vec<bool>,
    /// Names of nodes that canonicalisation removed.
    vanished: Vanished,
    plans: Plans,
}

/// A trained model: an immutable, topologically ordered graph of named operators.
///
/// Cloning is cheap. Each *use* of an operator is a node of its own, so that a module used twice, a functional
/// `ReLU` or an in-place operation needs no special treatment by any method.
///
/// Invariants: operands precede their users; names are unique; every node is needed by an output or is an
/// input.
#[derive(Clone, Debug)]
pub struct Graph {
    inner: Arc<Inner>,
    backend: Backend,
    /// The floating-point type; `None` if neither a constant nor a graph that this one was made from determines it.
    dtype: Option<DType>,
    /// Whether this is the result of [`Graph::canonical`].
    is_canonical: bool,
    /// The only batch size that the operators can compute, if they cannot compute any.
    rows: Option<usize>,
    /// What the first output says, if it was stated.
    kind: Option<OutputKind>,
    /// Names of the outputs, if they are not those of their nodes.
    output_names: Option<Arc<[String]>>,
}

/// A trained parameter: a constant that an operator uses as weight or bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The constant.
    pub constant: NodeId,
    /// The operator that uses it (the first, if it is shared).
    pub user: NodeId,
    /// Which operand of that operator it is: weight, bias, …
    pub slot: Slot,
}

impl Graph {
    /// Puts together a graph from nodes in topological order, dropping those that no output needs.
    pub(crate) fn assemble(
        nodes: Vec<Node>,
        outputs: Vec<NodeId>,
        vanished: &Vanished,
        backend: Backend,
    ) -> Result<Self> {
        if outputs.is_empty() {
            return Err(Error::invalid("graph", "has no output", "at least one"));
        }
        let mut needed = vec![false; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            needed[i] = matches!(node.body, Body::Input(_));
        }
        for id in &outputs {
            needed[id.0] = true;
        }
        for i in
            (0..nodes.len()).rev().filter(|&i| !matches!(nodes[i].body, Body::Input(_))).collect::<Vec<_>>()
        {
            if needed[i] {
                for input in &nodes[i].inputs {
                    needed[input.0] = true;
                }
            }
        }
        let mut place = vec![NodeId(usize::MAX); nodes.len()];
        let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
        let mut dynamic: Vec<bool> = Vec::with_capacity(nodes.len());
        let mut names = HashMap::new();
        let mut inputs = Vec::new();
        for (i, mut node) in nodes.into_iter().enumerate().filter(|(i, _)| needed[*i]) {
            let id = NodeId(kept.len());
            place[i] = id;
            for input in &mut node.inputs {
                *input = place[input.0];
            }
            if matches!(node.body, Body::Input(_)) {
                inputs.push(id);
            }
            dynamic.push(matches!(node.body, Body::Input(_)) || node.inputs.iter().any(|i| dynamic[i.0]));
            if names.insert(node.name.clone(), id).is_some() {
                return Err(Error::invalid(
                    "graph",
                    format!("two nodes are called '{}'", node.name),
                    "unique names",
                ));
            }
            kept.push(node);
        }
        let outputs = outputs.into_iter().map(|id| place[id.0]).collect();
        let vanished = vanished.moved(|id| place.get(id.0).copied().filter(|new| new.0 < kept.len()));
        let dtype = kept.iter().filter_map(Node::constant).map(Tensor::dtype).find(DType::is_float);
        let inner = Arc::new(Inner {
            nodes: kept,
            inputs,
            outputs,
            names,
            dynamic,
            vanished,
            plans: Plans::default(),
        });
        Ok(Self { inner, backend, dtype, is_canonical: false, rows: None, kind: None, output_names: None })
    }

    /// A graph of other nodes that computes what this one does; `moved` says where the value of a node is now.
    pub(crate) fn reassembled(
        &self,
        nodes: Vec<Node>,
        outputs: Vec<NodeId>,
        moved: impl Fn(NodeId) -> Option<NodeId>,
    ) -> Result<Self> {
        Ok(Self::assemble(nodes, outputs, &self.vanished().moved(moved), self.backend)?.typed_as(self))
    }

    /// Keeps the floating-point type of the graph that this one was made from, if no constant determines it, its fixed
    /// batch size, and what its first output says.
    fn typed_as(self, other: &Self) -> Self {
        Self {
            dtype: self.dtype.or(other.dtype),
            rows: other.rows,
            kind: other.kind,
            output_names: other.output_names.clone(),
            ..self
        }
    }

    /// The same graph, with a statement of what its first output says, which targets and metrics follow.
    #[must_use]
    pub fn with_output_kind(self, kind: Option<OutputKind>) -> Self {
        Self { kind, ..self }
    }

    /// The same graph with other names for its outputs than those of their nodes.
    ///
    /// # Errors
    /// If there is not one name for each output.
    pub fn with_output_names(self, names: impl IntoIterator<Item = String>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().collect();
        if names.len() != self.outputs().len() {
            let problem = format!("are {}", names.len());
            return Err(Error::invalid("names of outputs", problem, self.outputs().len().to_string()));
        }
        Ok(Self { output_names: Some(names.into()), ..self })
    }

    /// The names of the outputs.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.outputs().iter().enumerate().map(|(at, &id)| match &self.output_names {
            Some(names) => names[at].as_str(),
            None => self.node(id).name(),
        })
    }

    /// What the first output says, if it was stated.
    pub fn output_kind(&self) -> Option<OutputKind> {
        self.kind
    }

    /// The same graph, whose operators can compute batches of this size only: a model that was exported for one sample, and
    /// whose reshapes contain that number. Other batches are computed in parts; the last one is filled up.
    #[must_use]
    pub fn with_fixed_batch(self, rows: Option<usize>) -> Self {
        Self { rows: rows.map(|rows| rows.max(1)), ..self }
    }

    /// The only batch size that the operators can compute; `None` if they can compute any.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.rows
    }

    /// All nodes with their positions, operands first.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.inner.nodes.iter().enumerate().map(|(i, node)| (NodeId(i), node))
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.inner.nodes.len()
    }

    /// Whether the graph has no nodes; never true.
    pub fn is_empty(&self) -> bool {
        self.inner.nodes.is_empty()
    }

    /// The node at a position.
    ///
    /// # Panics
    /// If the position is of another, larger graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.inner.nodes[id.0]
    }

    /// The node of this name. In the canonical form, the name of a removed identity resolves to the node with the same
    /// value.
    ///
    /// # Errors
    /// [`Error::UnknownNode`], suggesting the node that the one of this name became part of, or the most similar
    /// name.
    pub fn find(&self, name: &str) -> Result<NodeId> {
        let known = self.inner.names.get(name).copied().or_else(|| self.inner.vanished.alias(name));
        known.ok_or_else(|| {
            let operators = self.nodes().filter(|(_, n)| n.constant().is_none()).map(|(_, n)| n.name());
            let merged = self.inner.vanished.merged(name).map(String::from);
            let suggestion = merged.or_else(|| crate::suggest::nearest(name, operators));
            Error::UnknownNode { name: name.into(), suggestion }
        })
    }

    fn vanished(&self) -> &Vanished {
        &self.inner.vanished
    }

    /// The inputs.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inner.inputs
    }

    /// The outputs; the first is the one that class targets refer to.
    pub fn outputs(&self) -> &[NodeId] {
        &self.inner.outputs
    }

    /// What an input must look like; `None` if the node is not an input.
    pub fn input_spec(&self, id: NodeId) -> Option<&InputSpec> {
        match &self.node(id).body {
            Body::Input(spec) => Some(spec),
            _ => None,
        }
    }

    /// Whether a node's value depends on an input.
    pub fn is_dynamic(&self, id: NodeId) -> bool {
        self.inner.dynamic[id.0]
    }

    /// For each operand of a node, whether it depends on an input.
    pub fn dynamic_inputs(&self, id: NodeId) -> Vec<bool> {
        self.node(id).inputs.iter().map(|i| self.is_dynamic(*i)).collect()
    }

    /// The kind of a node, by which backward rules are chosen.
    pub fn kind(&self, id: NodeId) -> Kind {
        match &self.node(id).body {
            Body::Input(_) => Kind::Input,
            Body::Constant(_) => Kind::Constant,
            Body::Op(op) => op.operator().kind(&self.dynamic_inputs(id)),
        }
    }

    /// The role of operand `slot` of a node.
    pub fn slot(&self, id: NodeId, slot: usize) -> Slot {
        match &self.node(id).body {
            Body::Op(op) => op.operator().slot(slot, &self.dynamic_inputs(id)),
            _ => Slot::Other,
        }
    }

    /// The nodes that use a node's value, in order.
    pub fn users(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes().filter(move |(_, n)| n.inputs.contains(&id)).map(|(user, _)| user)
    }

    /// The trained parameters, in the order of the operators that use them.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut seen = vec![false; self.len()];
        let mut parameters = Vec::new();
        for (user, node) in self.nodes() {
            for (i, &constant) in node.inputs.iter().enumerate() {
                let slot = self.slot(user, i);
                let counts = matches!(slot, Slot::Weight | Slot::Bias);
                if counts && self.node(constant).constant().is_some() && !seen[constant.0] {
                    seen[constant.0] = true;
                    parameters.push(Parameter { constant, user, slot });
                }
            }
        }
        parameters
    }

    /// The floating-point type of the constants and inputs; f32 if there are no constants and
    /// [`Graph::to_dtype`] did not say otherwise.
    pub fn dtype(&self) -> DType {
        self.dtype.unwrap_or(DType::F32)
    }

    /// The same graph with another backend.
    pub fn with_backend(&self, backend: Backend) -> Self {
        Self { backend, ..self.clone() }
    }

    /// The compiled forms of this graph.
    pub(crate) fn plans(&self) -> &Plans {
        &self.inner.plans
    }

    /// The backend of the operators.
    pub fn backend(&self) -> Backend {
        self.backend
    }
}
