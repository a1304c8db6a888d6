//! The backward walk, node by node.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::graph::{Body, Graph, NodeId, Trace};
use crate::ops::{Backend, Binary, Operator};
use crate::rule::{Composite, Site};

/// The signals at the nodes that a backward walk was requested for.
#[derive(Clone, Debug)]
pub struct Signals {
    values: Vec<Option<Tensor>>,
}

impl Signals {
    /// The signal at a node; `None` if none arrived, because no seed depends on the node.
    pub fn get(&self, id: NodeId) -> Option<&Tensor> {
        self.values.get(id.0).and_then(Option::as_ref)
    }

    /// The signal at a node; zeros shaped like its value if none arrived.
    ///
    /// # Errors
    /// If the trace lacks the node's value.
    pub fn get_or_zeros(&self, id: NodeId, trace: &Trace) -> Result<Tensor> {
        match self.get(id) {
            Some(signal) => Ok(signal.clone()),
            None => Ok(trace.value(id)?.zeros_like()?),
        }
    }
}

impl Graph {
    /// Walks back from the nodes in `seeds` to those in `wanted`, with the rule that `composite` selects for each
    /// node on the way. `reference` is a second trace for rules that compare with one (DeepLIFT).
    ///
    /// Signals that arrive at a node over several paths are added in a fixed order, from the last user of the node to
    /// the first. Constants in `wanted` receive parameter gradients.
    ///
    /// # Errors
    /// If the trace lacks values, a seed has the wrong shape, or a rule is not defined for a node.
    pub fn backward(
        &self,
        trace: &Trace,
        reference: Option<&Trace>,
        seeds: &[(NodeId, Tensor)],
        wanted: &[NodeId],
        composite: &Composite,
    ) -> Result<Signals> {
        let mut on_path = vec![false; self.len()];
        for id in wanted {
            on_path[id.0] = true;
        }
        let stop: Vec<bool> = on_path.clone();
        for (id, node) in self.nodes() {
            on_path[id.0] |= node.inputs.iter().any(|i| on_path[i.0]);
        }
        let mut values: Vec<Option<Tensor>> = vec![None; self.len()];
        for (id, seed) in seeds {
            let shape = trace.value(*id)?.dims();
            if seed.dims() != shape {
                return Err(Error::invalid(
                    "seed",
                    format!("has shape {:?}", seed.dims()),
                    format!("{shape:?}"),
                ));
            }
            add(&mut values[id.0], seed.clone(), self.backend())?;
        }
        for (id, node) in self.nodes().rev() {
            let Body::Op(op) = &node.body else { continue };
            let needs: Vec<bool> = node.inputs.iter().map(|i| on_path[i.0]).collect();
            if !needs.contains(&true) {
                continue;
            }
            let signal = if stop[id.0] { values[id.0].clone() } else { values[id.0].take() };
            let Some(signal) = signal else { continue };
            let inputs: Result<Vec<&Tensor>> = node.inputs.iter().map(|i| trace.value(*i)).collect();
            let site = Site::new((self, id, op), inputs?, trace.value(id)?, reference, needs);
            let signals = composite
                .rule_for(self, id)
                .apply(&site, &signal)
                .map_err(|e| e.at(node.name(), node.op_name()))?;
            if signals.len() != node.inputs.len() {
                let rule = composite.rule_for(self, id).name();
                let problem = format!("returns {} signals for node '{}'", signals.len(), node.name());
                return Err(Error::invalid(
                    format!("rule '{rule}'"),
                    problem,
                    format!("{}", node.inputs.len()),
                ));
            }
            for (input, signal) in node.inputs.iter().zip(signals) {
                if let Some(signal) = signal.filter(|_| on_path[input.0]) {
                    add(&mut values[input.0], signal, self.backend())?;
                }
            }
        }
        for (value, stop) in values.iter_mut().zip(stop) {
            if !stop {
                *value = None;
            }
        }
        Ok(Signals { values })
    }
}

fn add(sum: &mut Option<Tensor>, signal: Tensor, backend: Backend) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(old) => Binary::Add.forward(&[&old, &signal], backend)?,
        None => signal,
    });
    Ok(())
}
