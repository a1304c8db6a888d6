//! Forward passes.

use candle_core::Tensor;

use super::fixed_batch::{joined_outputs, joined_traces};
use super::{Body, Graph, NodeId, Trace};
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::plan::Backward;

/// Which values a forward pass records.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// Every node's.
    All,
    /// Those of these nodes and of the outputs.
    Nodes(&'a [NodeId]),
}

impl Graph {
    /// The outputs for these inputs.
    ///
    /// # Errors
    /// If the inputs do not fit the graph, or an operator cannot compute; the message names the node.
    pub fn forward(&self, x: &Inputs) -> Result<Outputs> {
        if let Some(parts) = self.parts(x)? {
            let each = parts.into_iter().map(|(rows, x)| Ok((rows, self.forward(&x)?)));
            return joined_outputs(&each.collect::<Result<Vec<_>>>()?);
        }
        match self.plan(x, &[])? {
            Some(plan) => {
                let outputs = |outputs: &Outputs| Ok((outputs.clone(), Vec::new()));
                Ok(plan.run(self, self.bind(x)?, x.batch()?, Backward::default(), outputs)?.0)
            }
            None => self.trace(x, Keep::Nodes(&[]))?.outputs(self),
        }
    }

    /// Runs the graph and records values.
    ///
    /// # Errors
    /// As [`Graph::forward`].
    pub fn trace(&self, x: &Inputs, keep: Keep<'_>) -> Result<Trace> {
        if let (Some(parts), Some(size)) = (self.parts(x)?, self.fixed_batch()) {
            let each = parts.into_iter().map(|(rows, x)| Ok((rows, self.trace(&x, keep)?)));
            return joined_traces(size, &each.collect::<Result<Vec<_>>>()?);
        }
        let mut values = vec![None; self.len()];
        for (id, value) in self.bind(x)? {
            values[id.0] = Some(value);
        }
        let todo = vec![true; self.len()];
        self.fill(values, &todo, keep, x.batch()?)
    }

    /// Recomputes only what depends on `overrides`, with everything else as `trace` recorded it.
    ///
    /// # Errors
    /// If an override has another shape or data type than the node, or `trace` lacks a value that is needed.
    pub fn forward_from(&self, trace: &Trace, overrides: &[(NodeId, Tensor)]) -> Result<Trace> {
        let mut values = trace.values.clone();
        let mut dirty = vec![false; self.len()];
        let mut fixed = vec![false; self.len()];
        for (id, value) in overrides {
            if let Some(old) = &values[id.0]
                && (old.dims() != value.dims() || old.dtype() != value.dtype())
            {
                return Err(Error::invalid(
                    format!("override of node '{}'", self.node(*id).name()),
                    format!("is {:?} {:?}", value.dtype(), value.dims()),
                    format!("{:?} {:?}", old.dtype(), old.dims()),
                ));
            }
            values[id.0] = Some(value.clone());
            dirty[id.0] = true;
            fixed[id.0] = true;
        }
        for (id, node) in self.nodes() {
            if !dirty[id.0] && node.inputs.iter().any(|i| dirty[i.0]) {
                dirty[id.0] = true;
                values[id.0] = None;
            }
        }
        let todo: Vec<bool> = dirty.iter().zip(&fixed).map(|(d, f)| *d && !f).collect();
        self.fill(values, &todo, Keep::All, trace.batch)
    }

    /// Computes the missing values among `todo`, and frees values that are not needed any more.
    fn fill(
        &self,
        mut values: Vec<Option<Tensor>>,
        todo: &[bool],
        keep: Keep<'_>,
        batch: usize,
    ) -> Result<Trace> {
        let mut uses = vec![0_usize; self.len()];
        if let Keep::Nodes(kept) = keep {
            for (id, node) in self.nodes() {
                if todo[id.0] {
                    node.inputs.iter().for_each(|i| uses[i.0] += 1);
                }
            }
            kept.iter().chain(self.outputs()).for_each(|id| uses[id.0] += 1);
        }
        for (id, node) in self.nodes() {
            if !todo[id.0] || values[id.0].is_some() {
                continue;
            }
            if let Body::Constant(value) = &node.body {
                values[id.0] = Some(value.clone());
                continue;
            }
            let value = self.compute(id, &values)?;
            values[id.0] = Some(value);
            if matches!(keep, Keep::Nodes(_)) {
                for input in &node.inputs {
                    uses[input.0] -= 1;
                    if uses[input.0] == 0 {
                        values[input.0] = None;
                    }
                }
            }
        }
        Ok(Trace { values, batch })
    }

    /// The value of one operator from the values of its operands.
    fn compute(&self, id: NodeId, values: &[Option<Tensor>]) -> Result<Tensor> {
        let node = self.node(id);
        let operands: Result<Vec<&Tensor>> = node
            .inputs
            .iter()
            .map(|i| {
                // A trace of some nodes may lack the constants.
                values[i.0].as_ref().or(self.node(*i).constant()).ok_or_else(|| {
                    let name = self.node(*i).name();
                    Error::invalid(
                        format!("value of node '{name}'"),
                        "missing",
                        "an input or a recorded value",
                    )
                })
            })
            .collect();
        let Body::Op(op) = &node.body else {
            let expected = "a value in the inputs";
            return Err(Error::invalid(format!("input '{}'", node.name), "has no value", expected));
        };
        let run = || {
            let operands = operands?;
            let shapes: Vec<&[usize]> = operands.iter().map(|t| t.dims()).collect();
            op.operator().output_shape(&shapes)?;
            op.operator().forward(&operands, self.backend())
        };
        run().map_err(|e: Error| e.at(&node.name, node.op_name()))
    }

    /// Matches the given inputs with the graph's, by name; a single unnamed one with a single input.
    pub(crate) fn bind(&self, x: &Inputs) -> Result<Vec<(NodeId, Tensor)>> {
        x.batch()?;
        let own: Vec<&str> = self.inputs().iter().map(|&id| self.node(id).name()).collect();
        if x.len() != own.len() {
            return Err(Error::invalid(
                "inputs",
                format!("{} given", x.len()),
                format!("{}: {own:?}", own.len()),
            ));
        }
        self.inputs()
            .iter()
            .map(|&id| {
                let name = self.node(id).name();
                let value = x.find(name).ok_or_else(|| {
                    Error::invalid("inputs", format!("'{name}' is missing"), format!("the inputs {own:?}"))
                })?;
                self.check_input(id, value)?;
                Ok((id, value.clone()))
            })
            .collect()
    }

    fn check_input(&self, id: NodeId, value: &Tensor) -> Result<()> {
        let Some(spec) = self.input_spec(id) else { return Ok(()) };
        let name = self.node(id).name();
        let sides = value.dims().get(1..).unwrap_or(&[]);
        let fits = sides.len() == spec.sides.len()
            && sides.iter().zip(&spec.sides).all(|(have, want)| want.is_none_or(|want| want == *have));
        if !fits || value.rank() == 0 {
            let want: Vec<String> =
                spec.sides.iter().map(|s| s.map_or_else(|| "any".into(), |n| n.to_string())).collect();
            return Err(Error::invalid(
                format!("input '{name}'"),
                format!("has shape {:?}", value.dims()),
                format!("[batch, {}]", want.join(", ")),
            ));
        }
        let dtype = self.dtype();
        let fits = if spec.integer { value.dtype().is_int() } else { value.dtype() == dtype };
        if !fits {
            let want = if spec.integer {
                "integers".to_string()
            } else {
                format!("{dtype:?}, as the model's weights")
            };
            return Err(Error::invalid(
                format!("input '{name}'"),
                format!("holds {:?}", value.dtype()),
                want,
            ));
        }
        Ok(())
    }
}
