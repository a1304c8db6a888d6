//! A node as a rule sees it.

use candle_core::Tensor;

use super::Rule;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Trace};
use crate::ops::{Grads, Kind, Op, Slot, Vjp};

/// A node as a rule sees it: its operator, the values of the run and, if there is one, of the reference run.
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
        (graph, id, op): (&'a Graph, NodeId, &'a Op),
        inputs: Vec<&'a Tensor>,
        output: &'a Tensor,
        reference: Option<&'a Trace>,
        needs: Vec<bool>,
    ) -> Self {
        Self { graph, id, op, inputs, output, reference, needs }
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The node's identifier.
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

    /// The kind of the node.
    pub fn kind(&self) -> Kind {
        self.graph.kind(self.id)
    }

    /// The role of operand `slot`.
    pub fn slot(&self, slot: usize) -> Slot {
        self.graph.slot(self.id, slot)
    }

    /// The values of the operands.
    pub fn inputs(&self) -> &[&'a Tensor] {
        &self.inputs
    }

    /// Whether operand `slot` depends on a model input.
    pub fn is_dynamic(&self, slot: usize) -> bool {
        self.graph.node(self.id).inputs().get(slot).is_some_and(|i| self.graph.is_dynamic(*i))
    }

    /// Whether the signal of each operand is needed.
    pub fn needs(&self) -> &[bool] {
        &self.needs
    }

    /// The value of the output.
    pub fn output(&self) -> &'a Tensor {
        self.output
    }

    /// The values of the operands and of the output in the reference run.
    ///
    /// # Errors
    /// If the walk has no reference trace, or the trace lacks a value.
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

    /// The error of a rule that is not defined for this node.
    pub fn undefined(&self, rule: &dyn Rule, why: impl Into<String>) -> Error {
        super::undefined_rule(rule, self.graph, self.id, why)
    }
}
