//! Executes a program.

use std::ops::Range;
use std::time::Instant;

use ascribe_kernels::Epilogue;
use ascribe_kernels::blocked::{self, BlockedEpilogue, BlockedShape, Redistribution};
use candle_core::{Device, Tensor};

use super::arena::{Arena, Placement};
use super::program::{ImageId, Instruction, Operand, Program, Register, Tail};
use super::rules::Backward;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::{Binary, Operator, Vjp, fast};
use crate::rule::Site;

/// The memory of one run. It is kept between runs, so that repeated explanations allocate only once.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) arena: Arena,
    pub(super) registers: Vec<Option<Tensor>>,
    pub(super) bits: Vec<Vec<u16>>,
    winners: Vec<Vec<u8>>,
    /// Wall time of each step so far.
    pub(super) seconds: Vec<f64>,
}

/// A program with everything that is needed to run it.
pub(super) struct Runner<'a> {
    pub(super) graph: &'a Graph,
    pub(super) how: Backward<'a>,
    pub(super) program: &'a Program,
    pub(super) placement: &'a Placement,
    /// For each instruction, the registers that are not read after it.
    pub(super) last_reads: &'a [Vec<Register>],
    pub(super) batch: usize,
}

impl Workspace {
    pub(super) fn prepare(&mut self, runner: &Runner<'_>) -> Result<()> {
        let Runner { program, placement, batch, .. } = runner;
        self.arena.reserve(placement.len * batch);
        self.seconds.clear();
        self.registers.clear();
        self.registers.resize(program.registers, None);
        self.bits.resize_with(program.bits.len(), Vec::new);
        for (bits, image) in self.bits.iter_mut().zip(&program.bits) {
            bits.resize(runner.shape(*image).mask_len(), 0);
        }
        self.winners.resize_with(program.winners.len(), Vec::new);
        for (winners, pool) in self.winners.iter_mut().zip(&program.winners) {
            winners.resize(pool.winners_len(*batch)?, 0);
        }
        Ok(())
    }

    /// Drops all tensors.
    pub(super) fn clear(&mut self) {
        self.registers.clear();
    }

    /// The values of some registers.
    pub(super) fn tensors(&self, registers: &[Register]) -> Result<Vec<Tensor>> {
        registers.iter().map(|&register| self.value(register).cloned()).collect()
    }

    pub(super) fn value(&self, register: Register) -> Result<&Tensor> {
        self.registers[register.0]
            .as_ref()
            .ok_or_else(|| Error::invalid("plan", "a value was freed too early", "a valid plan"))
    }
}

impl Runner<'_> {
    pub(super) fn shape(&self, image: ImageId) -> BlockedShape {
        self.program.images[image.0].shape(self.batch)
    }

    pub(super) fn range(&self, image: ImageId) -> Range<usize> {
        let start = self.placement.offsets[image.0] * self.batch;
        start..start + self.shape(image).len()
    }

    /// Runs the forward half; `inputs` are in the order of the graph's inputs.
    pub(super) fn forward(&self, workspace: &mut Workspace, inputs: Vec<Tensor>) -> Result<()> {
        workspace.prepare(self)?;
        for (register, value) in self.program.inputs.iter().zip(inputs) {
            workspace.registers[register.0] = Some(value.contiguous()?);
        }
        self.steps(workspace, &self.program.forward, 0)
    }

    /// Runs the backward half from gradients of the outputs.
    pub(super) fn backward(&self, workspace: &mut Workspace, seeds: Vec<Tensor>) -> Result<()> {
        self.seed(workspace, seeds)?;
        self.steps(workspace, &self.program.backward, self.program.forward.len())
    }

    /// Sets the gradients of the outputs.
    pub(super) fn seed(&self, workspace: &mut Workspace, seeds: Vec<Tensor>) -> Result<()> {
        for (register, seed) in self.program.seeds.iter().zip(seeds) {
            if let Some(register) = register {
                workspace.registers[register.0] = Some(seed.contiguous()?);
            }
        }
        Ok(())
    }

    /// The requested gradients; zeros where no signal arrived.
    pub(super) fn gradients(&self, workspace: &Workspace) -> Result<Vec<Tensor>> {
        let gradient = |(register, sides): &(Option<Register>, Vec<usize>)| -> Result<Tensor> {
            if let Some(found) = register.and_then(|r| workspace.registers[r.0].clone()) {
                return Ok(found);
            }
            let shape: Vec<usize> = std::iter::once(self.batch).chain(sides.iter().copied()).collect();
            Ok(Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?)
        };
        self.program.wanted.iter().map(gradient).collect()
    }

    /// Runs some steps; `first` is the index of the first one, counted over both halves.
    pub(super) fn steps(&self, workspace: &mut Workspace, steps: &[Instruction], first: usize) -> Result<()> {
        for (number, step) in steps.iter().enumerate() {
            let started = Instant::now();
            self.step(workspace, step)?;
            workspace.seconds.push(started.elapsed().as_secs_f64());
            for register in &self.last_reads[first + number] {
                workspace.registers[register.0] = None;
            }
        }
        Ok(())
    }

    pub(super) fn step(&self, workspace: &mut Workspace, step: &Instruction) -> Result<()> {
        match step {
            Instruction::Conv { conv, src, dst, tail } => {
                let (src_shape, dst_shape) = (self.shape(*src), self.shape(*dst));
                self.tailed(workspace, Some(*src), *dst, tail, |src, epilogue, dst| {
                    conv.run(&src_shape, src, epilogue, &dst_shape, dst)
                })
            }
            Instruction::PlanarConv { conv, src, dst, tail } => {
                let dst_shape = self.shape(*dst);
                let x = workspace.value(*src)?.clone();
                let x = fast::slice::<f32>(&x)?;
                self.tailed(workspace, None, *dst, tail, |_, epilogue, dst| {
                    conv.run_planar(self.batch, &x, epilogue, &dst_shape, dst)
                })
            }
            Instruction::PlanarGrad { conv, src, dst, sides: [channels, height, width] } => {
                let shape = [self.batch, *channels, *height, *width];
                let mut dx = vec![0.0; shape.iter().product()];
                let dy = workspace.arena.read(self.range(*src));
                conv.run_to_planar(&self.shape(*src), dy, &mut dx)?;
                workspace.registers[dst.0] = Some(fast::tensor(dx, &shape)?);
                Ok(())
            }
            Instruction::PlainGrad { conv, src, dst } => {
                let dy = self.unblocked(workspace, *src)?;
                let sides = conv.destination();
                let shape = [self.batch, sides[0], sides[1], sides[2]];
                let mut dx = vec![0.0; shape.iter().product()];
                conv.run(self.batch, &dy, &Epilogue::default(), &mut dx)?;
                workspace.registers[dst.0] = Some(fast::tensor(dx, &shape)?);
                Ok(())
            }
            Instruction::Combine { src, dst, tail } => {
                let (src_shape, dst_shape) = (self.shape(*src), self.shape(*dst));
                self.tailed(workspace, Some(*src), *dst, tail, |src, epilogue, dst| {
                    blocked::apply(&src_shape, src, epilogue, &dst_shape, dst)
                })
            }
            Instruction::Pool { pool, src, dst, winners } => {
                let (src_shape, dst_shape) = (self.shape(*src), self.shape(*dst));
                let ([src], dst) = workspace.arena.split([Some(self.range(*src))], self.range(*dst));
                let winners = winners.map_or(&mut [][..], |w| &mut workspace.winners[w.0]);
                pool.run((&src_shape, src.unwrap_or_default()), (&dst_shape, dst), winners)
            }
            Instruction::PoolGrad { pool, src, dst, winners, mask } => {
                let (src_shape, dst_shape) = (self.shape(*src), self.shape(*dst));
                let ([src], dst) = workspace.arena.split([Some(self.range(*src))], self.range(*dst));
                let winners = winners.map_or(&[][..], |w| &workspace.winners[w.0]);
                let mask = mask.map(|bits| workspace.bits[bits.0].as_slice());
                pool.gradient((&src_shape, src.unwrap_or_default()), winners, mask, (&dst_shape, dst))
            }
            Instruction::Copy { src, src_block, dst, dst_block, blocks } => {
                let (src_shape, dst_shape) = (self.shape(*src), self.shape(*dst));
                let ([src], dst) = workspace.arena.split([Some(self.range(*src))], self.range(*dst));
                let src = (&src_shape, src.unwrap_or_default(), *src_block);
                Ok(blocked::copy_blocks(src, (&dst_shape, dst, *dst_block), *blocks)?)
            }
            Instruction::Redistribute { .. } => self.redistribute(workspace, step),
            Instruction::Block { src, dst } => {
                let shape = self.shape(*dst);
                let (_, image) = workspace.arena.split::<0>([], self.range(*dst));
                match &workspace.registers[src.0] {
                    Some(value) => {
                        let value = value.contiguous()?;
                        blocked::to_blocked(&shape, &fast::slice::<f32>(&value)?, image)?;
                    }
                    None => image.fill(0.0),
                }
                Ok(())
            }
            Instruction::Unblock { src, dst } => {
                let shape = self.shape(*src);
                let sides = [shape.batch, shape.channels, shape.size[0], shape.size[1]];
                let values = self.unblocked(workspace, *src)?;
                workspace.registers[dst.0] = Some(fast::tensor(values, &sides)?);
                Ok(())
            }
            Instruction::Constant { node, dst } => {
                workspace.registers[dst.0] = self.graph.node(*node).constant().cloned();
                Ok(())
            }
            Instruction::Operator { node, operands, dst } => {
                let value = self.operator(workspace, *node, operands).map_err(|e| self.at(*node, e))?;
                workspace.registers[dst.0] = Some(value);
                Ok(())
            }
            Instruction::Vjp { node, operands, output, grad, into } => {
                self.vjp(workspace, *node, operands, [*output, *grad], into).map_err(|e| self.at(*node, e))
            }
            Instruction::Sum { a, b, dst } => {
                let sum = match (&workspace.registers[a.0], &workspace.registers[b.0]) {
                    (Some(a), Some(b)) => Some(Binary::Add.forward(&[a, b], self.graph.backend())?),
                    (a, b) => a.clone().or_else(|| b.clone()),
                };
                workspace.registers[dst.0] = sum;
                Ok(())
            }
        }
    }

    fn at(&self, node: NodeId, error: Error) -> Error {
        let node = self.graph.node(node);
        error.at(node.name(), node.op_name())
    }

    /// Runs a kernel with an epilogue.
    fn tailed(
        &self,
        workspace: &mut Workspace,
        src: Option<ImageId>,
        dst: ImageId,
        tail: &Tail,
        kernel: impl FnOnce(&[f32], BlockedEpilogue<'_>, &mut [f32]) -> ascribe_kernels::Result<()>,
    ) -> Result<()> {
        // The recorded bits are moved out, so that the mask can be borrowed at the same time.
        let mut recorded = tail.record.map(|bits| std::mem::take(&mut workspace.bits[bits.0]));
        let residual_shape = tail.residual.map(|residual| self.shape(residual));
        let reads = [src.map(|src| self.range(src)), tail.residual.map(|residual| self.range(residual))];
        let ([src, residual], dst) = workspace.arena.split(reads, self.range(dst));
        let epilogue = BlockedEpilogue {
            bias: tail.bias.as_ref().map(|bias| bias.as_slice()),
            residual: residual_shape.as_ref().zip(residual),
            activation: tail.activation,
            record: recorded.as_deref_mut(),
            mask: tail.mask.map(|bits| workspace.bits[bits.0].as_slice()),
        };
        let done = kernel(src.unwrap_or_default(), epilogue, dst);
        if let (Some(bits), Some(recorded)) = (tail.record, recorded) {
            workspace.bits[bits.0] = recorded;
        }
        Ok(done?)
    }

    fn redistribute(&self, workspace: &mut Workspace, step: &Instruction) -> Result<()> {
        let Instruction::Redistribute { signal, denominators: [a, b], epsilon, factor, addend, dst } = step
        else {
            return Ok(());
        };
        let images = [Some(*signal), *a, *b, *factor, *addend];
        let shapes = images.map(|image| image.map(|image| self.shape(image)));
        let reads = images.map(|image| image.map(|image| self.range(image)));
        let (reads, out) = workspace.arena.split(reads, self.range(*dst));
        let image = |at: usize| shapes[at].as_ref().zip(reads[at]);
        let Some(signal) = image(0) else { return Ok(()) };
        let operands = Redistribution {
            signal,
            denominators: [image(1), image(2)],
            epsilon: *epsilon,
            factor: image(3),
            addend: image(4),
        };
        Ok(blocked::redistribute(&operands, &self.shape(*dst), out)?)
    }

    fn unblocked(&self, workspace: &Workspace, image: ImageId) -> Result<Vec<f32>> {
        let shape = self.shape(image);
        let mut values = vec![0.0; shape.batch * shape.channels * shape.size[0] * shape.size[1]];
        blocked::from_blocked(&shape, workspace.arena.read(self.range(image)), &mut values)?;
        Ok(values)
    }

    fn operands<'w>(&'w self, workspace: &'w Workspace, operands: &[Operand]) -> Result<Vec<&'w Tensor>> {
        let value = |operand: &Operand| match operand {
            Operand::Register(register) => workspace.value(*register),
            Operand::Constant(node) => self
                .graph
                .node(*node)
                .constant()
                .ok_or_else(|| Error::invalid("plan", "an operand is missing", "a valid plan")),
        };
        operands.iter().map(value).collect()
    }

    fn operator(&self, workspace: &Workspace, node: NodeId, operands: &[Operand]) -> Result<Tensor> {
        let operands = self.operands(workspace, operands)?;
        let Some(op) = self.graph.node(node).op() else {
            return Err(Error::invalid("plan", "a node is not an operator", "a valid plan"));
        };
        op.operator().forward(&operands, self.graph.backend())
    }

    fn vjp(
        &self,
        workspace: &mut Workspace,
        node: NodeId,
        operands: &[Operand],
        [output, grad]: [Register; 2],
        into: &[Option<Register>],
    ) -> Result<()> {
        let Some(op) = self.graph.node(node).op() else {
            return Err(Error::invalid("plan", "a node is not an operator", "a valid plan"));
        };
        // A signal that vanished at a later node has no value.
        let Some(grad) = workspace.registers[grad.0].clone() else { return Ok(()) };
        let needs: Vec<bool> = into.iter().map(Option::is_some).collect();
        let found = {
            let inputs = self.operands(workspace, operands)?;
            let output = workspace.value(output)?;
            if let Some(rule) = self.how.rules.rule(node) {
                let at = (self.graph, node, op);
                rule.apply(&Site::new(at, inputs, output, self.how.reference, needs), &grad)?
            } else {
                let backend = self.graph.backend();
                op.operator().vjp(&Vjp { inputs: &inputs, output, grad: &grad, needs: &needs, backend })?
            }
        };
        if found.len() != into.len() {
            let problem = format!("returns {} signals", found.len());
            return Err(Error::invalid("rule", problem, format!("{}, one per operand", into.len())));
        }
        for (register, value) in into.iter().zip(found) {
            if let Some(register) = register {
                workspace.registers[register.0] = value;
            }
        }
        Ok(())
    }
}
