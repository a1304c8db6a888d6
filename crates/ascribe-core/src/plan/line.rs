//! Gradients along a straight line, in which the work of the first layer is shared.
//!
//! The first layer is affine: z(x) = W x + b. On the line x(α) = x′ + α (x − x′) it follows that z(α) = z(x′) + α W
//! (x − x′), and the weighted sum of gradients is `Σ w Wᵀ g = Wᵀ Σ w g`, where g is the gradient at z(α). So the
//! layer is evaluated twice and its transpose once, whatever the number of points; per point only one multiplication
//! and one addition per value remain. This is exact up to rounding.

use std::sync::Arc;

use ascribe_kernels::blocked::{self, BlockedConv, BlockedEpilogue, Buffer};
use candle_core::{DType, Tensor};

use super::Plan;
use super::program::{ImageId, Instruction, Tail};
use super::run::{Runner, Workspace};
use super::total::Total;
use crate::error::Result;
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::line::Line;
use crate::ops::fast;
use crate::target::Target;

/// The first and the last step of a program, which the points of a line share.
struct Ends {
    /// Index of the first layer among the forward instructions.
    first: usize,
    conv: Arc<BlockedConv>,
    /// The layer's output, and its epilogue.
    value: ImageId,
    tail: Tail,
    total: Total,
}

impl Plan {
    /// The ends, if the only input is read by the first layer alone and the only gradient is produced by its
    /// transpose alone.
    fn ends(&self) -> Option<Ends> {
        let program = &self.program;
        let total = Total::of(self)?;
        let [input] = program.inputs.as_slice() else { return None };
        let steps = || program.forward.iter().chain(&program.backward);
        let mut readers = steps()
            .enumerate()
            .flat_map(|(at, step)| step.uses().registers.into_iter().map(move |register| (at, register)))
            .filter(|(_, register)| register == input);
        let ((first, _), None) = (readers.next()?, readers.next()) else { return None };
        let results = [&program.outputs, &program.kept];
        let Some(Instruction::PlanarConv { conv, dst: value, tail, .. }) = program.forward.get(first) else {
            return None;
        };
        if results.iter().any(|of| of.contains(input)) || tail.residual.is_some() || tail.mask.is_some() {
            return None;
        }
        Some(Ends { first, conv: conv.clone(), value: *value, tail: tail.clone(), total })
    }
}

/// A line between two samples, for a graph with a plan.
pub(crate) struct PlanLine<'a> {
    graph: &'a Graph,
    plan: Arc<Plan>,
    ends: Ends,
    /// z(x′) with the bias, and W (x − x′).
    start: Buffer,
    way: Buffer,
}

impl Graph {
    /// The line between two samples, if the plan can share the graph's first layer.
    pub(crate) fn planned_line(&self, start: &Inputs, end: &Inputs) -> Result<Option<PlanLine<'_>>> {
        let wanted = self.explained_nodes(end)?;
        self.check_slope(&wanted, None)?;
        let (from, bound) = (self.bind(start)?, self.bind(end)?);
        let ([(_, from)], [(_, to)]) = (from.as_slice(), bound.as_slice()) else {
            return Ok(None);
        };
        if wanted != self.inputs() || from.dims() != to.dims() || from.dims().first() != Some(&1) {
            return Ok(None);
        }
        let Some(plan) = self.free_plan(&bound, &wanted)? else { return Ok(None) };
        let Some(ends) = plan.ends() else { return Ok(None) };
        let shape = plan.program.one(ends.value);
        let value = |x: &Tensor, bias: Option<&[f32]>| -> Result<Buffer> {
            let x = x.to_dtype(DType::F32)?.contiguous()?;
            let mut z = Buffer::new(shape.len());
            let epilogue = BlockedEpilogue { bias, ..BlockedEpilogue::default() };
            ends.conv.run_planar(1, &fast::slice::<f32>(&x)?, epilogue, &shape, &mut z)?;
            Ok(z)
        };
        let bias = ends.tail.bias.as_ref().map(|bias| bias.as_slice());
        let (start, way) = (value(from, bias)?, value(&(to - from)?, None)?);
        Ok(Some(PlanLine { graph: self, plan, ends, start, way }))
    }
}

impl PlanLine<'_> {
    /// Does the work of the first layer's instruction for points on the line.
    fn first(&self, runner: &Runner<'_>, memory: &mut Workspace, nodes: &[(f64, f64)]) -> Result<()> {
        let (ends, shape) = (&self.ends, self.plan.program.one(self.ends.value));
        let mut bits = ends.tail.record.map(|bits| std::mem::take(&mut memory.bits[bits.0]));
        let (_, value) = memory.arena.split::<0>([], runner.range(ends.value));
        for (row, (value, (alpha, _))) in value.chunks_exact_mut(shape.len()).zip(nodes).enumerate() {
            let scale = vec![*alpha as f32; shape.blocks() * blocked::BLOCK];
            let len = shape.mask_len();
            let epilogue = BlockedEpilogue {
                residual: Some((&shape, &self.start)),
                activation: ends.tail.activation,
                record: bits.as_mut().map(|bits| &mut bits[row * len..][..len]),
                ..BlockedEpilogue::default()
            };
            blocked::scale_shift(&scale, &shape, &self.way, epilogue, &shape, value)?;
        }
        if let (Some(place), Some(bits)) = (ends.tail.record, bits) {
            memory.bits[place.0] = bits;
        }
        Ok(())
    }
}

impl Line for PlanLine<'_> {
    fn add(&mut self, nodes: &[(f64, f64)], target: &Target, sample: usize) -> Result<Tensor> {
        let (plan, first) = (self.plan.clone(), self.ends.first);
        let (runner, program) = (plan.runner(self.graph, nodes.len()), &plan.program);
        plan.with_workspace(|memory| {
            memory.prepare(&runner)?;
            runner.steps(memory, &program.forward[..first], 0)?;
            self.first(&runner, memory, nodes)?;
            runner.steps(memory, &program.forward[first + 1..], first + 1)?;
            let outputs = plan.outputs(self.graph, memory)?;
            let (scores, seeds) = target.seed(&outputs, &vec![sample; nodes.len()])?;
            let weights: Vec<f32> = nodes.iter().map(|(_, weight)| *weight as f32).collect();
            self.ends.total.add(&runner, memory, seeds, &weights)?;
            Ok(scores)
        })
    }

    fn sum(&self) -> Result<Vec<Tensor>> {
        self.ends.total.gradient(self.graph, &self.plan)
    }
}
