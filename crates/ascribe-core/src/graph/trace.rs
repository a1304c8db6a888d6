//! The recorded values of a forward pass.

use candle_core::Tensor;

use super::{Graph, NodeId};
use crate::error::{Error, Result};
use crate::outputs::Outputs;

/// The values of a forward pass, for all nodes or for selected ones.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(crate) values: Vec<Option<Tensor>>,
    pub(crate) batch: usize,
}

impl Trace {
    /// Whether a node's value was recorded.
    pub fn has(&self, id: NodeId) -> bool {
        self.values.get(id.0).is_some_and(Option::is_some)
    }

    /// The value of a node.
    ///
    /// # Errors
    /// If the value was not recorded.
    pub fn value(&self, id: NodeId) -> Result<&Tensor> {
        self.values.get(id.0).and_then(Option::as_ref).ok_or_else(|| {
            Error::invalid(
                "trace",
                format!("holds no value for node number {}", id.0),
                "a trace that keeps it",
            )
        })
    }

    /// Number of samples.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The values of the graph's outputs.
    ///
    /// # Errors
    /// If they were not recorded.
    pub fn outputs(&self, graph: &Graph) -> Result<Outputs> {
        let values = graph.outputs().iter().zip(graph.output_names());
        let named = values.map(|(&id, name)| Ok((name.to_string(), self.value(id)?.clone())));
        Ok(Outputs::new(named.collect::<Result<_>>()?)?.with_kind(graph.output_kind()))
    }
}
