//! What a method may need of a model.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::gradient_sum::GradientSum;
use crate::graph::{Graph, Keep, NodeId};
use crate::inputs::{Inputs, Outputs};
use crate::line::Line;
use crate::ops::Kind;
pub use crate::plan::Walked;
use crate::rule::Composite;
use crate::target::Target;
use crate::variations::{Rectangle, Variations};

/// A black box: something that computes outputs from inputs.
pub trait Predictor: Send + Sync {
    /// The outputs for these inputs.
    ///
    /// # Errors
    /// If the inputs do not fit the model or it cannot compute.
    fn predict(&self, x: &Inputs) -> Result<Outputs>;

    /// How many rows like those of `x` the model is best given together, if it knows. It has no influence on
    /// results.
    fn preferred_batch(&self, _x: &Inputs) -> Option<usize> {
        None
    }

    /// A cheaper way to evaluate variations of `base` (one sample) that differ from it within one of these
    /// rectangles of its explained input `[1, C, H, W]`; `None` where the model has none, and [`Predictor::predict`]
    /// is to be used.
    ///
    /// # Errors
    /// If `base` does not fit the model or is not one sample, or a rectangle does not lie in it.
    fn variations<'a>(
        &'a self,
        base: &Inputs,
        rectangles: &[Rectangle],
    ) -> Result<Option<Box<dyn Variations + 'a>>> {
        let _ = (base, rectangles);
        Ok(None)
    }
}

/// Scores and their gradients.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// One score per row: `[rows]`.
    pub scores: Tensor,
    /// Gradient of each row's score with respect to each explained input, shaped like the input.
    pub values: Vec<Tensor>,
}

/// A model with gradients with respect to its inputs.
pub trait Differentiable: Predictor {
    /// The score of each row and its gradient with respect to each explained input.
    ///
    /// `samples[i]` is the position in the original batch of the sample that row `i` varies; it picks the
    /// row's target.
    ///
    /// # Errors
    /// If the inputs or the target do not fit the model.
    fn gradient(&self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Gradient>;

    /// A cheaper way to sum gradients along the straight line between two samples, which may differ in their explained
    /// inputs; `None` where the model has none, and [`Differentiable::gradient`] is to be used. The sums are the same
    /// but for rounding.
    ///
    /// # Errors
    /// If the samples do not fit the model.
    fn line<'a>(&'a self, start: &Inputs, end: &Inputs) -> Result<Option<Box<dyn Line + 'a>>> {
        let _ = (start, end);
        Ok(None)
    }

    /// A cheaper way to sum gradients at inputs shaped like `x`, whose first axis does not count; `None` where the model
    /// has none, and [`Differentiable::gradient`] is to be used. The sums are the same but for rounding.
    ///
    /// # Errors
    /// If such inputs do not fit the model.
    fn gradient_sum<'a>(&'a self, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        let _ = x;
        Ok(None)
    }
}

impl Predictor for Graph {
    fn predict(&self, x: &Inputs) -> Result<Outputs> {
        self.forward(x)
    }

    fn preferred_batch(&self, x: &Inputs) -> Option<usize> {
        self.suitable_batch(x)
    }

    fn variations<'a>(
        &'a self,
        base: &Inputs,
        rectangles: &[Rectangle],
    ) -> Result<Option<Box<dyn Variations + 'a>>> {
        Ok(self.patched(base, rectangles)?.map(|patched| Box::new(patched) as _))
    }
}

impl Differentiable for Graph {
    fn gradient(&self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Gradient> {
        self.propagate(x, target, samples, &Composite::gradient())
    }

    fn line<'a>(&'a self, start: &Inputs, end: &Inputs) -> Result<Option<Box<dyn Line + 'a>>> {
        Ok(self.planned_line(start, end)?.map(|line| Box::new(line) as _))
    }

    fn gradient_sum<'a>(&'a self, x: &Inputs) -> Result<Option<Box<dyn GradientSum + 'a>>> {
        Ok(self.planned_sum(x)?.map(|sum| Box::new(sum) as _))
    }
}

impl Graph {
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
        if nodes.is_empty() {
            let cuts: Vec<&str> =
                self.nodes().filter(|(id, _)| self.is_embedding(*id)).map(|(_, n)| n.name()).collect();
            return Err(Error::invalid(
                "inputs",
                "none can be explained: integers have no gradient, and fixed inputs are not varied",
                if cuts.is_empty() {
                    "a floating-point input".to_string()
                } else {
                    format!("attribution at an embedding, `Location::Layer` with one of {cuts:?}")
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

    /// One forward run and one backward walk with a composite, from the target to the explained inputs: the
    /// whole of every rule-based method.
    ///
    /// # Errors
    /// As [`Differentiable::gradient`], or if a rule is not defined for a node.
    pub fn propagate(
        &self,
        x: &Inputs,
        target: &Target,
        samples: &[usize],
        composite: &Composite,
    ) -> Result<Gradient> {
        let wanted = self.explained_nodes(x)?;
        let found = self.propagate_to(x, target, samples, composite, &[], &wanted)?;
        Ok(Gradient { scores: found.scores, values: found.signals })
    }

    /// One forward run and one backward walk with a composite, from the target to the nodes in `wanted`, whichever
    /// they are; returns the values of the nodes in `keep` beside them.
    ///
    /// It runs as a compiled plan where the graph has one (CPU, f32) and the plan knows the composite's rules
    /// ([`crate::Planned`]), and from node to node otherwise.
    ///
    /// # Errors
    /// As [`Graph::propagate`].
    pub fn propagate_to(
        &self,
        x: &Inputs,
        target: &Target,
        samples: &[usize],
        composite: &Composite,
        keep: &[NodeId],
        wanted: &[NodeId],
    ) -> Result<Propagated> {
        let (scores, walked) =
            self.walk(x, composite, keep, wanted, |outputs| target.seed(outputs, samples))?;
        Ok(Propagated { scores, values: walked.kept, signals: walked.gradients })
    }

    /// One forward run and one backward walk from whatever signals `start` makes of the outputs, one per output,
    /// beside anything that it wants returned.
    ///
    /// # Errors
    /// As [`Graph::propagate`], and those of `start`.
    pub fn walk<T>(
        &self,
        x: &Inputs,
        composite: &Composite,
        keep: &[NodeId],
        wanted: &[NodeId],
        start: impl FnOnce(&Outputs) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<(T, Walked)> {
        let inputs = self.bind(x)?;
        if let Some(plan) = self.plans().get(self, &inputs, keep, wanted, composite)? {
            return plan.run(self, inputs, x.batch()?, start);
        }
        let trace = self.trace(x, Keep::All)?;
        let (found, seeds) = start(&trace.outputs(self)?)?;
        let seeds: Vec<_> = self.outputs().iter().copied().zip(seeds).collect();
        let signals = self.backward(&trace, None, &seeds, wanted, composite)?;
        let gradients: Result<Vec<Tensor>> =
            wanted.iter().map(|&id| signals.get_or_zeros(id, &trace)).collect();
        let kept: Result<Vec<Tensor>> = keep.iter().map(|&id| trace.value(id).cloned()).collect();
        Ok((found, Walked { kept: kept?, gradients: gradients?, seconds: Vec::new() }))
    }
}

/// What a backward walk to some nodes found.
#[derive(Clone, Debug)]
pub struct Propagated {
    /// One score per row: `[rows]`.
    pub scores: Tensor,
    /// The values of the nodes to keep.
    pub values: Vec<Tensor>,
    /// What arrived at the nodes wanted, shaped like their values.
    pub signals: Vec<Tensor>,
}
