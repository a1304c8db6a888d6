//! Measures the steps of a planned run.

use super::program::Instruction;
use super::rules::{Backward, Rules};
use super::run::Runner;
use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::inputs::Inputs;
use crate::target::Target;

/// One step of a planned run.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// Whether the step belongs to the backward half.
    pub backward: bool,
    /// What the step computes.
    pub what: String,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Number of multiplications by the operator's definition, whatever algorithm is used; 0 for steps that are bound
    /// by memory bandwidth.
    pub products: f64,
}

impl Graph {
    /// Runs the forward half, and the backward half down to `wanted` unless that is empty, and measures each step.
    /// `None` if the graph has no plan.
    ///
    /// The first run of a plan packs weights and touches fresh memory, so measure a later one.
    ///
    /// # Errors
    /// As [`Graph::forward`], and if the target does not fit the outputs.
    pub fn profile(&self, x: &Inputs, target: &Target, wanted: &[NodeId]) -> Result<Option<Vec<StepTime>>> {
        let samples: Vec<usize> = (0..x.batch()?).collect();
        let inputs = self.bind(x)?;
        let Some(plan) = self.plans().get(self, &inputs, &[], wanted, &Rules::default())? else {
            return Ok(None);
        };
        let seed = |outputs: &_| target.seed(outputs, &samples);
        let (_, ran) = plan.run(self, inputs, x.batch()?, Backward::default(), seed)?;
        let runner = plan.runner(self, x.batch()?);
        let steps = plan.program.forward.iter().chain(&plan.program.backward);
        let times = steps.zip(ran.seconds).enumerate();
        let time = |(at, (step, seconds))| {
            let (what, products) = runner.describe(step);
            StepTime { backward: at >= plan.program.forward.len(), what, seconds, products }
        };
        Ok(Some(times.map(time).collect()))
    }
}

impl Runner<'_> {
    fn describe(&self, step: &Instruction) -> (String, f64) {
        let image = |id| {
            let shape = self.shape(id);
            format!("{}×{}×{}", shape.channels, shape.size[0], shape.size[1])
        };
        let node = |id| {
            let node = self.graph.node(id);
            format!("{} {}", node.op_name(), node.name())
        };
        let (what, products) = match step {
            Instruction::Conv { conv, .. } => (format!("convolution {conv}"), conv.products_per_sample()),
            Instruction::PlanarConv { conv, .. } => {
                (format!("convolution of a picture {conv}"), conv.products_per_sample())
            }
            Instruction::PlanarGrad { conv, .. } => {
                (format!("gradient as a picture {conv}"), conv.products_per_sample())
            }
            Instruction::PlainGrad { src, .. } => (format!("plain gradient {}", image(*src)), 0),
            Instruction::Combine { dst, tail, .. } => {
                let parts = [("add", tail.residual.is_some()), ("mask", tail.mask.is_some())];
                let parts: Vec<&str> = parts.iter().filter(|p| p.1).map(|p| p.0).collect();
                (format!("combine {} {}", parts.join(" "), image(*dst)), 0)
            }
            Instruction::Redistribute { dst, .. } => (format!("redistribute {}", image(*dst)), 0),
            Instruction::Pool { src, .. } => (format!("pooling {}", image(*src)), 0),
            Instruction::PoolGrad { dst, .. } => (format!("pooling gradient {}", image(*dst)), 0),
            Instruction::Copy { src, .. } => (format!("copy {}", image(*src)), 0),
            Instruction::Block { dst, .. } => (format!("block {}", image(*dst)), 0),
            Instruction::Unblock { src, .. } => (format!("unblock {}", image(*src)), 0),
            Instruction::Operator { node: id, .. } => (node(*id), 0),
            Instruction::Vjp { node: id, .. } => (format!("vjp {}", node(*id)), 0),
            Instruction::Constant { .. } => ("constant".into(), 0),
            Instruction::Sum { .. } => ("sum".into(), 0),
        };
        (what, products as f64 * self.batch as f64)
    }
}
