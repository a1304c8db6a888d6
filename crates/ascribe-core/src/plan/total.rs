//! Sums of gradients, in which the transpose of the first layer is applied only once.
//!
//! The gradient with respect to an image is Wᵀ g, where g is the gradient with respect to the output of the layer
//! that reads it. So `Σ w Wᵀ g = Wᵀ Σ w g` for any images, exact up to rounding.

use std::sync::Arc;

use ascribe_kernels::blocked::{self, Buffer};
use candle_core::Tensor;

use super::Plan;
use super::program::{ImageId, Instruction};
use super::run::{Runner, Workspace};
use crate::error::Result;
use crate::gradient_sum::GradientSum;
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::target::Target;

/// The running sum `Σ w g`.
pub(super) struct Total {
    /// The gradient g that the last instruction maps to the image.
    at: ImageId,
    sum: Buffer,
}

impl Total {
    /// An empty sum; `None` unless the last instruction of the plan is the only one that produces its only gradient.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let [(Some(wanted), _)] = plan.program.wanted.as_slice() else { return None };
        match plan.program.backward.last()? {
            Instruction::PlanarGrad { src, dst, .. } | Instruction::PlainGrad { src, dst, .. }
                if dst == wanted =>
            {
                Some(Self { at: *src, sum: Buffer::new(plan.program.one(*src).len()) })
            }
            _ => None,
        }
    }

    /// Runs the backward half from gradients of the outputs, except for the last step, and adds the weighted result
    /// row by row.
    pub(super) fn add(
        &mut self,
        runner: &Runner<'_>,
        memory: &mut Workspace,
        seeds: Vec<Tensor>,
        weights: &[f32],
    ) -> Result<()> {
        let program = runner.program;
        runner.seed(memory, seeds)?;
        runner.steps(memory, &program.backward[..program.backward.len() - 1], program.forward.len())?;
        let (one, all) = (program.one(self.at), runner.shape(self.at));
        let gradient = memory.arena.read(runner.range(self.at));
        Ok(blocked::accumulate(&one, &mut self.sum, weights, &all, gradient)?)
    }

    /// Applies the last step to the sum.
    pub(super) fn gradient(&self, graph: &Graph, plan: &Plan) -> Result<Vec<Tensor>> {
        let runner = plan.runner(graph, 1);
        plan.with_workspace(|memory| {
            memory.prepare(&runner)?;
            let (_, image) = memory.arena.split::<0>([], runner.range(self.at));
            image.copy_from_slice(&self.sum);
            plan.program.backward.last().map_or(Ok(()), |last| runner.step(memory, last))?;
            runner.gradients(memory)
        })
    }
}

/// The sum of gradients for a graph with a plan.
pub(crate) struct PlanSum<'a> {
    graph: &'a Graph,
    plan: Arc<Plan>,
    total: Total,
}

impl Graph {
    /// A sum of gradients at inputs shaped like `x`, if the last step of the plan can be shared.
    pub(crate) fn planned_sum(&self, x: &Inputs) -> Result<Option<PlanSum<'_>>> {
        let wanted = self.explained_nodes(x)?;
        self.check_slope(&wanted, None)?;
        let Some(plan) = self.free_plan(&self.bind(x)?, &wanted)? else { return Ok(None) };
        Ok(Total::of(&plan).map(|total| PlanSum { graph: self, plan, total }))
    }
}

impl GradientSum for PlanSum<'_> {
    fn add(&mut self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Tensor> {
        let plan = &self.plan;
        let runner = plan.runner(self.graph, samples.len());
        let inputs = self.graph.bind(x)?.into_iter().map(|(_, value)| value).collect();
        plan.with_workspace(|memory| {
            runner.forward(memory, inputs)?;
            let (scores, seeds) = target.seed(&plan.outputs(self.graph, memory)?, samples)?;
            self.total.add(&runner, memory, seeds, &vec![1.0; samples.len()])?;
            Ok(scores)
        })
    }

    fn sum(&self) -> Result<Vec<Tensor>> {
        self.total.gradient(self.graph, &self.plan)
    }
}
