//! The same graph with other constants, another type or other outputs.

use candle_core::{DType, Tensor};

use super::{Body, Graph, NodeId};
use crate::error::{Error, Result};
use crate::ops::Op;

impl Graph {
    /// The same graph with other constants: `change` returns a new value for those it wants to replace.
    ///
    /// # Errors
    /// Those of `change`, or if a replacement has another shape.
    pub fn map_constants(
        &self,
        mut change: impl FnMut(NodeId, &Tensor) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let mut nodes = self.inner.nodes.clone();
        for (i, node) in nodes.iter_mut().enumerate() {
            if let Body::Constant(value) = &mut node.body
                && let Some(new) = change(NodeId(i), value)?
            {
                if new.dims() != value.dims() {
                    return Err(Error::invalid(
                        format!("constant '{}'", node.name),
                        format!("shape {:?}", new.dims()),
                        format!("{:?}", value.dims()),
                    ));
                }
                *value = new;
            }
        }
        let graph = Self::assemble(nodes, self.inner.outputs.clone(), self.vanished(), self.backend)?;
        Ok(graph.typed_as(self))
    }

    /// The same graph in another floating-point type. Integer constants stay as they are; casts to floating
    /// point become casts to this type, so that operands keep meeting in the same one.
    ///
    /// # Errors
    /// If `dtype` is neither f32 nor f64.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::invalid("data type", format!("{dtype:?}"), "f32 or f64"));
        }
        let mut nodes = self.inner.nodes.clone();
        for node in &mut nodes {
            match &mut node.body {
                Body::Constant(value) if value.dtype().is_float() => *value = value.to_dtype(dtype)?,
                Body::Op(Op::Cast(cast)) if cast.to.is_float() => cast.to = dtype,
                _ => {}
            }
        }
        let graph = Self::assemble(nodes, self.inner.outputs.clone(), self.vanished(), self.backend)?;
        Ok(Self { dtype: Some(dtype), ..graph.typed_as(self) })
    }

    /// The graph with other outputs. The first ones have the names that they have in this one.
    pub(super) fn with_outputs(&self, outputs: Vec<NodeId>) -> Result<Self> {
        let nodes = self.inner.nodes.clone();
        Ok(Self::assemble(nodes, outputs, self.vanished(), self.backend())?.typed_as(self))
    }
}
