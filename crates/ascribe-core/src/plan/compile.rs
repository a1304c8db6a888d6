//! Compiles a graph into a program: decides which nodes run together, in which layout, and what the backward pass
//! needs.

use std::sync::Arc;

use ascribe_kernels::blocked::{BLOCK, BlockedConv};
use ascribe_kernels::{Activation, ConvParams, ConvShape};

use super::chain::{Chain, activation};
use super::packs::{Packs, Part, Use, padded_bias};
use super::pool::Pool;
use super::program::{Bits, Image, ImageId, Instruction, Operand, Program, Register, Tail, Winners};
use super::rules::Rules;
use super::unit::{Gate, Home, Unit, UnitKind};
use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::{Binary, Conv, Op, Structure};
use crate::rule::{Contributions, Planned};

pub(super) struct Compiler<'a> {
    pub(super) graph: &'a Graph,
    pub(super) packs: &'a Packs,
    pub(super) rules: &'a Rules,
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) program: Program,
    pub(super) homes: Vec<Home>,
    pub(super) units: Vec<Unit>,
    pub(super) users: Vec<Vec<NodeId>>,
    /// Nodes whose value is requested or an output: such a node ends a unit.
    pub(super) visible: Vec<bool>,
    done: Vec<bool>,
    /// Whether the program has a backward half.
    record: bool,
}

/// Compiles a graph for inputs of these shapes (each of one sample).
///
/// # Errors
/// If a constant cannot be read.
pub(super) fn compile(
    graph: &Graph,
    packs: &Packs,
    rules: &Rules,
    shapes: Vec<Vec<usize>>,
    keep: &[NodeId],
    wanted: &[NodeId],
) -> Result<Program> {
    let mut users = vec![Vec::new(); graph.len()];
    for (id, node) in graph.nodes() {
        for input in node.inputs() {
            users[input.index()].push(id);
        }
    }
    let mut visible = vec![false; graph.len()];
    for id in keep.iter().chain(wanted).chain(graph.outputs()) {
        visible[id.index()] = true;
    }
    let mut compiler = Compiler {
        graph,
        packs,
        rules,
        shapes,
        program: Program::default(),
        homes: vec![Home::default(); graph.len()],
        units: Vec::new(),
        users,
        visible,
        done: vec![false; graph.len()],
        record: !wanted.is_empty(),
    };
    compiler.forward(keep)?;
    if !wanted.is_empty() {
        compiler.walk_back(wanted)?;
    }
    Ok(compiler.program)
}

impl Compiler<'_> {
    fn forward(&mut self, keep: &[NodeId]) -> Result<()> {
        for &input in self.graph.inputs() {
            let register = self.register();
            // Inputs with many channels (feature maps) are worth blocking; images with few channels are not.
            let blocked = matches!(*self.shapes[input.index()].as_slice(), [c, _, _] if c >= BLOCK)
                && self.graph.input_spec(input).is_some_and(|spec| !spec.integer);
            self.homes[input.index()] = Home { register: Some(register), blocked, ..Home::default() };
            self.done[input.index()] = true;
            self.program.inputs.push(register);
        }
        let graph = self.graph;
        for (id, node) in graph.nodes() {
            if let Some(op) = node.op().filter(|_| !self.done[id.index()]) {
                self.node(id, op)?;
            }
        }
        self.program.outputs = graph.outputs().iter().map(|&id| self.tensor_of(id)).collect();
        self.program.kept = keep.iter().map(|&id| self.tensor_of(id)).collect();
        Ok(())
    }

    fn node(&mut self, id: NodeId, op: &Op) -> Result<()> {
        let inputs = self.graph.node(id).inputs().to_vec();
        let served = match op {
            Op::Conv(conv) => self.convolution(id, conv, &inputs)?,
            Op::Binary(Binary::Add) => self.addition(id, &inputs),
            Op::Structure(Structure::Concat { axis: 1 }) => self.concatenation(id, &inputs),
            _ if activation(op).is_some() => self.lone_activation(id, &inputs),
            _ => match Pool::of(op, &self.image_dims(&inputs), &self.shapes[id.index()])? {
                Some(pool) => self.pooling(id, pool, inputs[0]),
                None => false,
            },
        };
        if !served {
            self.operator(id, &inputs);
        }
        Ok(())
    }

    /// The shape of the first input if its value is a blocked image, empty otherwise.
    fn image_dims(&self, inputs: &[NodeId]) -> Vec<usize> {
        match inputs.first() {
            Some(&first) if self.homes[first.index()].blocked => self.shapes[first.index()].clone(),
            _ => Vec::new(),
        }
    }

    /// A convolution on blocked images with packed weights; `None` if there is no kernel for it.
    pub(super) fn packed(
        &self,
        purpose: Use,
        weight: NodeId,
        part: Part,
        shape: &ConvShape,
    ) -> Result<Option<Arc<BlockedConv>>> {
        self.packs.blocked(self.graph, purpose, weight, part, shape)
    }

    fn convolution(&mut self, id: NodeId, conv: &Conv, inputs: &[NodeId]) -> Result<bool> {
        let &[x, weight, ref bias @ ..] = inputs else { return Ok(false) };
        let (&[channels, height, width], &[out, oh, ow]) =
            (self.shapes[x.index()].as_slice(), self.shapes[id.index()].as_slice())
        else {
            return Ok(false);
        };
        let constant = |id: &NodeId| self.graph.node(*id).constant().is_some();
        if !matches!(self.rules.at(id), Planned::Gradient | Planned::Affine { .. } | Planned::Opaque) {
            return Ok(false);
        }
        if !self.graph.is_dynamic(x) || !constant(&weight) || !bias.iter().all(constant) {
            return Ok(false);
        }
        let shape = ConvShape::new(ConvParams {
            batch: 1,
            in_channels: channels,
            out_channels: out,
            groups: conv.groups,
            input: [height, width],
            kernel: conv.window.kernel,
            stride: conv.window.stride,
            dilation: conv.window.dilation,
            padding: conv.window.padding,
        })?;
        if shape.output() != [oh, ow] {
            return Ok(false);
        }
        let plain = !self.homes[x.index()].blocked && channels < BLOCK;
        let on_plain = if plain { self.packed(Use::Planar, weight, Part::All, &shape)? } else { None };
        let planar = on_plain.is_some();
        let found = match on_plain {
            None => self.packed(Use::Forward, weight, Part::All, &shape)?,
            found => found,
        };
        let Some(packed) = found else { return Ok(false) };
        let bias = match bias {
            [bias] => Some(padded_bias(self.graph, *bias, Part::All, out)?),
            _ => None,
        };
        let alone = Chain { last: id, residual: None, activation: Activation::None };
        let chain = match self.rules.at(id) {
            Planned::Gradient => self.chain(id),
            // The backward half recomputes the denominator, so the sum before the activation is not needed.
            Planned::Affine { contributions: Contributions::Positive, .. }
                if self.relevance_is_blocked(x, weight, &shape)? =>
            {
                self.with_activation(alone)
            }
            _ => alone,
        };
        let (dst, tail, gate) = self.tail_of(&chain, bias);
        if planar {
            let src = self.tensor_of(x);
            self.program.forward.push(Instruction::PlanarConv { conv: packed, src, dst, tail });
        } else {
            let src = self.image_of(x);
            self.want_border(src, packed.source_pad());
            self.program.forward.push(Instruction::Conv { conv: packed, src, dst, tail });
        }
        let kind = if planar { UnitKind::PlanarConv { shape } } else { UnitKind::Conv { shape } };
        let mut inputs = vec![x];
        inputs.extend(chain.residual);
        self.finish(dst, gate, Unit { node: id, kind, inputs, output: chain.last });
        Ok(true)
    }

    /// Allocates the image for the result of a chain; returns it with the epilogue of the forward pass and the gate
    /// of the backward pass.
    fn tail_of(&mut self, chain: &Chain, bias: Option<Arc<Vec<f32>>>) -> (ImageId, Tail, Gate) {
        let dst = self.image_like(chain.last);
        let mut gate = Gate::default();
        if self.record && chain.activation != Activation::None {
            let rule = self.rules.at(chain.last);
            gate.positive = matches!(rule, Planned::Guided | Planned::Rectified);
            if matches!(rule, Planned::Gradient | Planned::Guided) {
                gate.bits = Some(self.bits_of(dst));
            }
        }
        let residual = chain.residual.map(|other| self.image_of(other));
        (dst, Tail { bias, residual, activation: chain.activation, record: gate.bits, mask: None }, gate)
    }

    /// Marks the nodes of a unit as computed.
    fn finish(&mut self, dst: ImageId, gate: Gate, unit: Unit) {
        let mut at = unit.node;
        self.done[at.index()] = true;
        while at != unit.output {
            let Some(next) = self.only_user(at) else { break };
            at = next;
            self.done[at.index()] = true;
        }
        let inputs_are = || unit.inputs.iter().all(|input| self.homes[input.index()].non_negative);
        let non_negative = match self.graph.node(unit.output).op().and_then(activation) {
            Some(Activation::Clip { min, .. }) => min >= 0.0,
            Some(Activation::Relu) => true,
            _ => !matches!(unit.kind, UnitKind::Conv { .. } | UnitKind::PlanarConv { .. }) && inputs_are(),
        };
        let home = Home { image: Some(dst), register: None, blocked: true, gate, non_negative };
        self.homes[unit.output.index()] = home;
        self.units.push(unit);
    }

    /// `a + b` of two images.
    fn addition(&mut self, id: NodeId, inputs: &[NodeId]) -> bool {
        let &[a, b] = inputs else { return false };
        let fits = |side: NodeId| {
            self.homes[side.index()].blocked && self.shapes[side.index()] == self.shapes[id.index()]
        };
        let rule = self.rules.at(id);
        if !fits(a) || !fits(b) || !matches!(rule, Planned::Gradient | Planned::Norm { .. } | Planned::Opaque)
        {
            return false;
        }
        let alone = Chain { last: id, residual: Some(b), activation: Activation::None };
        let chain = if rule == Planned::Opaque { alone } else { self.with_activation(alone) };
        self.combine(id, a, &chain, vec![a, b]);
        true
    }

    fn lone_activation(&mut self, id: NodeId, inputs: &[NodeId]) -> bool {
        let (&[x], Some(op)) = (inputs, self.graph.node(id).op()) else { return false };
        let served = self.is_gate(id) || self.rules.at(id) == Planned::Opaque;
        if !self.homes[x.index()].blocked || !served {
            return false;
        }
        let activation = activation(op).unwrap_or_default();
        self.combine(id, x, &Chain { last: id, residual: None, activation }, vec![x]);
        true
    }

    fn combine(&mut self, id: NodeId, x: NodeId, chain: &Chain, inputs: Vec<NodeId>) {
        let (dst, tail, gate) = self.tail_of(chain, None);
        let src = self.image_of(x);
        self.program.forward.push(Instruction::Combine { src, dst, tail });
        self.finish(dst, gate, Unit { node: id, kind: UnitKind::Combine, inputs, output: chain.last });
    }

    fn pooling(&mut self, id: NodeId, pool: Pool, x: NodeId) -> bool {
        match self.rules.at(id) {
            Planned::Gradient | Planned::Opaque => {}
            Planned::Norm { .. } if !pool.has_winners() => {}
            _ => return false,
        }
        let pool = Arc::new(pool);
        let (src, dst) = (self.image_of(x), self.image_like(id));
        // The kernel writes the winners whether or not there is a backward half.
        let winners = pool.has_winners().then(|| {
            self.program.winners.push(pool.clone());
            Winners(self.program.winners.len() - 1)
        });
        self.program.forward.push(Instruction::Pool { pool: pool.clone(), src, dst, winners });
        let kind = UnitKind::Pool { pool, winners };
        self.finish(dst, Gate::default(), Unit { node: id, kind, inputs: vec![x], output: id });
        true
    }

    /// Concatenates images along the channels; all but the last must consist of whole blocks.
    fn concatenation(&mut self, id: NodeId, inputs: &[NodeId]) -> bool {
        let whole = |(at, input): (usize, &NodeId)| {
            let aligned = self.shapes[input.index()].first().is_some_and(|c| c.is_multiple_of(BLOCK));
            self.homes[input.index()].blocked && (aligned || at + 1 == inputs.len())
        };
        let served = matches!(self.rules.at(id), Planned::Gradient | Planned::Opaque);
        if !inputs.iter().enumerate().all(whole) || !served {
            return false;
        }
        let dst = self.image_like(id);
        let mut dst_block = 0;
        for &input in inputs {
            let src = self.image_of(input);
            let blocks = self.program.one(src).blocks();
            let copy = Instruction::Copy { src, src_block: 0, dst, dst_block, blocks };
            self.program.forward.push(copy);
            dst_block += blocks;
        }
        let unit = Unit { node: id, kind: UnitKind::Concat, inputs: inputs.to_vec(), output: id };
        self.finish(dst, Gate::default(), unit);
        true
    }

    /// Any other operator runs on tensors.
    fn operator(&mut self, id: NodeId, inputs: &[NodeId]) {
        let constant = |id: &NodeId| self.graph.node(*id).constant().is_some();
        let operands: Vec<Operand> = inputs
            .iter()
            .map(|input| {
                if constant(input) {
                    Operand::Constant(*input)
                } else {
                    Operand::Register(self.tensor_of(*input))
                }
            })
            .collect();
        let dst = self.register();
        self.program.forward.push(Instruction::Operator { node: id, operands: operands.clone(), dst });
        self.homes[id.index()].register = Some(dst);
        self.done[id.index()] = true;
        let inputs = inputs.iter().copied().filter(|i| !constant(i)).collect();
        let kind = UnitKind::Operator { operands, output: dst };
        self.units.push(Unit { node: id, kind, inputs, output: id });
    }

    pub(super) fn register(&mut self) -> Register {
        self.program.registers += 1;
        Register(self.program.registers - 1)
    }

    /// A new image shaped like a node's value.
    pub(super) fn image_like(&mut self, id: NodeId) -> ImageId {
        let (channels, size) = match *self.shapes[id.index()].as_slice() {
            [channels, height, width] => (channels, [height, width]),
            _ => unreachable!("only values with three axes per sample become images"),
        };
        self.program.images.push(Image { channels, size, pad: [0, 0] });
        ImageId(self.program.images.len() - 1)
    }

    fn bits_of(&mut self, image: ImageId) -> Bits {
        self.program.bits.push(image);
        Bits(self.program.bits.len() - 1)
    }

    pub(super) fn want_border(&mut self, image: ImageId, pad: [usize; 2]) {
        let own = &mut self.program.images[image.0].pad;
        *own = [own[0].max(pad[0]), own[1].max(pad[1])];
    }

    /// A node's value as a tensor.
    fn tensor_of(&mut self, id: NodeId) -> Register {
        if let Some(register) = self.homes[id.index()].register {
            return register;
        }
        let dst = self.register();
        match self.homes[id.index()].image {
            Some(src) => self.program.forward.push(Instruction::Unblock { src, dst }),
            // A constant that is requested, or an output that depends on no input.
            None => self.program.forward.push(Instruction::Constant { node: id, dst }),
        }
        self.homes[id.index()].register = Some(dst);
        dst
    }

    /// A node's value as an image.
    fn image_of(&mut self, id: NodeId) -> ImageId {
        if let Some(image) = self.homes[id.index()].image {
            return image;
        }
        let src = self.tensor_of(id);
        let dst = self.image_like(id);
        self.program.forward.push(Instruction::Block { src, dst });
        self.homes[id.index()].image = Some(dst);
        dst
    }
}
