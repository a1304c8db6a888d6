//! Sums of gradients, with the first layer's transpose applied once.
//!
//! The gradient at a picture is Wᵀ g, where g is the gradient at the value of the layer that reads it. So
//! `Σ w Wᵀ g = Wᵀ Σ w g`, exact but for rounding, whatever the pictures are.

use std::sync::Arc;

use ascribe_kernels::blocked::{self, Buffer};
use candle_core::Tensor;

use super::program::{ImageId, Instruction};
use super::run::{Runner, Workspace};
use super::{Plan, Rules};
use crate::error::Result;
use crate::gradient_sum::GradientSum;
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::target::Target;

/// `Σ w g` so far.
pub(super) struct Total {
    /// The gradient that the last instruction takes to the picture.
    at: ImageId,
    sum: Buffer,
}

impl Total {
    /// Nothing yet; `None` unless the last instruction of the plan alone makes its only gradient.
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

    /// Walks back from gradients of the outputs, but for the last step, and adds what arrives, row by row.
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

    /// The last step, for the sum.
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

/// The sum for a graph with a plan.
pub(crate) struct PlanSum<'a> {
    graph: &'a Graph,
    plan: Arc<Plan>,
    total: Total,
}

impl Graph {
    /// A sum of gradients at inputs like `x`, if the last step of a plan can be shared.
    pub(crate) fn planned_sum(&self, x: &Inputs) -> Result<Option<PlanSum<'_>>> {
        let wanted = self.explained_nodes(x)?;
        let rules = Rules::default();
        let Some(plan) = self.plans().get(self, &self.bind(x)?, &[], &wanted, &rules)? else {
            return Ok(None);
        };
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
