//! The backward half of a program.

use ascribe_kernels::ConvShape;

use super::compile::Compiler;
use super::packs::{Part, Use};
use super::program::{ImageId, Instruction, Operand, Register};
use super::relevance::AffineRule;
use super::unit::{Gate, Home, Unit, UnitKind};
use crate::error::Result;
use crate::graph::NodeId;
use crate::rule::Planned;

/// The sum of the signals that have arrived at a value so far.
#[derive(Clone, Copy)]
enum Signal {
    Image(ImageId),
    Tensor(Register),
}

/// The state of the backward pass at one value.
#[derive(Clone, Copy, Default)]
struct Arrivals {
    expected: usize,
    arrived: usize,
    sum: Option<Signal>,
    /// Whether the activation's gate has been applied.
    gated: bool,
}

/// The backward pass under construction.
pub(super) struct Walk {
    at: Vec<Arrivals>,
    on_path: Vec<bool>,
    wanted: Vec<bool>,
}

impl Walk {
    /// Counts a signal that is about to be added to an image. Returns the sum so far, and the gate to apply if this
    /// signal is the last one.
    fn join(&mut self, at: NodeId, home: Home) -> (Option<ImageId>, Gate) {
        let wanted = self.wanted[at.index()];
        let arrivals = &mut self.at[at.index()];
        arrivals.arrived += 1;
        let last = arrivals.arrived == arrivals.expected;
        let gate = if last && !wanted { home.gate } else { Gate::default() };
        arrivals.gated = !gate.is_open();
        let residual = match arrivals.sum {
            Some(Signal::Image(sum)) => Some(sum),
            _ => None,
        };
        (residual, gate)
    }

    /// Whether the backward pass goes through a value.
    pub(super) fn passes(&self, at: NodeId) -> bool {
        self.on_path[at.index()]
    }

    /// If the value has a sum in the form of an image and no gate, counts an arrival and returns that image. The
    /// caller passes the new sum to [`Walk::replace`].
    pub(super) fn open_sum(&mut self, at: NodeId, home: Home) -> Option<ImageId> {
        match self.at[at.index()].sum {
            Some(Signal::Image(_)) if home.blocked && home.gate.is_open() => self.join(at, home).0,
            _ => None,
        }
    }

    /// Sets the sum of what has arrived.
    pub(super) fn replace(&mut self, at: NodeId, sum: ImageId) {
        self.at[at.index()].sum = Some(Signal::Image(sum));
    }
}

impl Compiler<'_> {
    /// Appends the backward pass from the outputs to `wanted`.
    pub(super) fn walk_back(&mut self, wanted: &[NodeId]) -> Result<()> {
        let mut walk = self.expectations(wanted);
        self.program.seeds = vec![None; self.graph.outputs().len()];
        for (number, &output) in self.graph.outputs().iter().enumerate() {
            if walk.on_path[output.index()] {
                let seed = self.register();
                self.program.seeds[number] = Some(seed);
                self.arrive_tensor(&mut walk, output, seed);
            }
        }
        let units = std::mem::take(&mut self.units);
        let mut found: Vec<Option<Register>> = vec![None; self.graph.len()];
        for unit in units.iter().rev() {
            if walk.wanted[unit.output.index()] {
                found[unit.output.index()] = self.signal_as_tensor(&walk, unit.output);
            }
            if unit.inputs.iter().any(|i| walk.on_path[i.index()]) {
                self.unit_back(&mut walk, unit)?;
            }
        }
        for &input in self.graph.inputs().iter().filter(|i| walk.wanted[i.index()]) {
            found[input.index()] = self.signal_as_tensor(&walk, input);
        }
        let shape = |id: &NodeId| (found[id.index()], self.shapes[id.index()].clone());
        self.program.wanted = wanted.iter().map(shape).collect();
        Ok(())
    }

    /// Which values the backward pass goes through, and how many signals will arrive at each.
    fn expectations(&self, wanted: &[NodeId]) -> Walk {
        let mut walk = Walk {
            at: vec![Arrivals::default(); self.graph.len()],
            on_path: vec![false; self.graph.len()],
            wanted: vec![false; self.graph.len()],
        };
        for id in wanted {
            walk.on_path[id.index()] = true;
            walk.wanted[id.index()] = true;
        }
        for unit in &self.units {
            walk.on_path[unit.output.index()] |= unit.inputs.iter().any(|i| walk.on_path[i.index()]);
        }
        for output in self.graph.outputs().iter().filter(|o| walk.on_path[o.index()]) {
            walk.at[output.index()].expected += 1;
        }
        for unit in self.units.iter().rev() {
            if walk.at[unit.output.index()].expected > 0 {
                for input in unit.inputs.iter().filter(|i| walk.on_path[i.index()]) {
                    walk.at[input.index()].expected += 1;
                }
            }
        }
        walk
    }

    fn unit_back(&mut self, walk: &mut Walk, unit: &Unit) -> Result<()> {
        let &Unit { node, ref kind, ref inputs, output } = unit;
        if let UnitKind::Operator { operands, output: value } = kind {
            if let Some(grad) = self.signal_as_tensor(walk, output) {
                self.operator_back(walk, output, operands, *value, grad);
            }
            return Ok(());
        }
        let rule = self.rules.at(node);
        if matches!(
            (kind, rule),
            (_, Planned::Opaque) | (UnitKind::PlanarConv { .. }, Planned::Affine { .. })
        ) {
            self.on_tensors(walk, node);
            return Ok(());
        }
        let Some(dy) = self.gated_image(walk, output) else { return Ok(()) };
        match (kind, rule) {
            (UnitKind::Conv { shape }, Planned::Affine { contributions, epsilon, absorb }) => {
                if self.relevance_is_blocked(inputs[0], self.graph.node(node).inputs()[1], shape)? {
                    let rule = AffineRule { contributions, epsilon, absorb };
                    self.convolution_relevance(walk, node, shape, rule, dy)?;
                } else {
                    self.on_tensors(walk, node);
                }
                return Ok(());
            }
            (UnitKind::Combine, Planned::Norm { epsilon }) => {
                return self.sum_relevance(walk, inputs, epsilon, dy);
            }
            _ => {}
        }
        // The direct branches of a sum come first, so that the convolution can add its result to theirs in its
        // epilogue.
        let passes: &[NodeId] = match kind {
            UnitKind::Combine => inputs,
            UnitKind::Conv { .. } | UnitKind::PlanarConv { .. } => &inputs[1..],
            _ => &[],
        };
        for &input in passes {
            if walk.on_path[input.index()] {
                self.arrive_image(walk, input, dy);
            }
        }
        match kind {
            UnitKind::Conv { shape } | UnitKind::PlanarConv { shape } if walk.on_path[inputs[0].index()] => {
                self.convolution_back(walk, node, shape, inputs[0], dy)?;
            }
            UnitKind::Pool { pool, winners } => {
                let (x, dst, pool) = (inputs[0], self.image_like(inputs[0]), pool.clone());
                if let Planned::Norm { epsilon } = rule {
                    let src = self.quotient(node, epsilon, dy)?;
                    let grad = Instruction::PoolGrad { pool, src, dst, winners: None, mask: None };
                    self.program.backward.push(grad);
                    let value = self.value(x)?;
                    self.arrive_product(walk, x, dst, value, None);
                    return Ok(());
                }
                // The first signal to arrive can apply the mask itself if it is also the last.
                let home = self.homes[x.index()];
                let first = walk.at[x.index()].sum.is_none() && !home.gate.positive;
                let mask = if first { walk.join(x, home).1.bits } else { None };
                let winners = *winners;
                self.program.backward.push(Instruction::PoolGrad { pool, src: dy, dst, winners, mask });
                if first {
                    walk.at[x.index()].sum = Some(Signal::Image(dst));
                } else {
                    self.arrive_image(walk, x, dst);
                }
            }
            UnitKind::Concat => {
                let mut src_block = 0;
                for &input in inputs {
                    let dst = self.image_like(input);
                    let blocks = self.program.one(dst).blocks();
                    if walk.on_path[input.index()] {
                        let copy = Instruction::Copy { src: dy, src_block, dst, dst_block: 0, blocks };
                        self.program.backward.push(copy);
                        self.arrive_image(walk, input, dst);
                    }
                    src_block += blocks;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn convolution_back(
        &mut self,
        walk: &mut Walk,
        node: NodeId,
        shape: &ConvShape,
        x: NodeId,
        dy: ImageId,
    ) -> Result<()> {
        let weight = self.graph.node(node).inputs()[1];
        let home = self.homes[x.index()];
        let packed = if home.blocked { self.packed(Use::InputGrad, weight, Part::All, shape)? } else { None };
        let Some(conv) = packed else {
            let dst = self.register();
            if let Some(conv) = self.packed(Use::PlanarGrad, weight, Part::All, shape)? {
                let sides = [shape.in_channels, shape.input[0], shape.input[1]];
                self.want_border(dy, conv.source_pad());
                self.program.backward.push(Instruction::PlanarGrad { conv, src: dy, dst, sides });
            } else {
                let conv = self.packs.plain_input_grad(self.graph, weight, shape)?;
                self.program.backward.push(Instruction::PlainGrad { conv, src: dy, dst });
            }
            self.arrive_tensor(walk, x, dst);
            return Ok(());
        };
        let dst = self.image_like(x);
        let (residual, gate) = walk.join(x, home);
        self.want_border(dy, conv.source_pad());
        let tail = gate.tail(residual);
        self.program.backward.push(Instruction::Conv { conv, src: dy, dst, tail });
        walk.at[x.index()].sum = Some(Signal::Image(dst));
        Ok(())
    }

    /// Adds a signal in the form of an image.
    pub(super) fn arrive_image(&mut self, walk: &mut Walk, at: NodeId, signal: ImageId) {
        let home = self.homes[at.index()];
        if !home.blocked {
            let dst = self.register();
            self.program.backward.push(Instruction::Unblock { src: signal, dst });
            self.arrive_tensor(walk, at, dst);
            return;
        }
        let (residual, gate) = walk.join(at, home);
        let sum = if residual.is_none() && gate.is_open() {
            signal
        } else {
            let dst = self.image_like(at);
            let tail = gate.tail(residual);
            self.program.backward.push(Instruction::Combine { src: signal, dst, tail });
            dst
        };
        walk.at[at.index()].sum = Some(Signal::Image(sum));
    }

    /// Adds a signal in the form of a tensor.
    fn arrive_tensor(&mut self, walk: &mut Walk, at: NodeId, signal: Register) {
        if self.homes[at.index()].blocked {
            let dst = self.image_like(at);
            self.program.backward.push(Instruction::Block { src: signal, dst });
            self.arrive_image(walk, at, dst);
            return;
        }
        let arrivals = &mut walk.at[at.index()];
        arrivals.arrived += 1;
        let before = arrivals.sum;
        let sum = match before {
            Some(Signal::Tensor(sum)) => {
                let dst = self.register();
                self.program.backward.push(Instruction::Sum { a: sum, b: signal, dst });
                dst
            }
            _ => signal,
        };
        walk.at[at.index()].sum = Some(Signal::Tensor(sum));
    }

    /// The final signal at a value, that is at the output of its activation, as a tensor.
    pub(super) fn signal_as_tensor(&mut self, walk: &Walk, at: NodeId) -> Option<Register> {
        match walk.at[at.index()].sum? {
            Signal::Tensor(register) => Some(register),
            Signal::Image(src) => {
                let dst = self.register();
                self.program.backward.push(Instruction::Unblock { src, dst });
                Some(dst)
            }
        }
    }

    /// The final signal at the input of the activation that produced a value.
    fn gated_image(&mut self, walk: &Walk, at: NodeId) -> Option<ImageId> {
        let Signal::Image(src) = walk.at[at.index()].sum? else { return None };
        let gate = self.homes[at.index()].gate;
        if walk.at[at.index()].gated || gate.is_open() {
            return Some(src);
        }
        let dst = self.image_like(at);
        self.program.backward.push(Instruction::Combine { src, dst, tail: gate.tail(None) });
        Some(dst)
    }

    pub(super) fn operator_back(
        &mut self,
        walk: &mut Walk,
        node: NodeId,
        operands: &[Operand],
        output: Register,
        grad: Register,
    ) {
        let inputs = self.graph.node(node).inputs().to_vec();
        let into: Vec<Option<Register>> =
            inputs.iter().map(|input| walk.on_path[input.index()].then(|| self.register())).collect();
        self.program.backward.push(Instruction::Vjp {
            node,
            operands: operands.to_vec(),
            output,
            grad,
            into: into.clone(),
        });
        for (&input, signal) in inputs.iter().zip(into) {
            if let Some(signal) = signal {
                self.arrive_tensor(walk, input, signal);
            }
        }
    }
}
