//! The rules of relevance propagation on blocked images.

use std::sync::Arc;

use ascribe_kernels::blocked::BlockedConv;
use ascribe_kernels::{Activation, ConvShape};

use super::compile::Compiler;
use super::packs::{Part, Use, padded_bias};
use super::program::{ImageId, Instruction, Operand, Register, Tail};
use super::reverse::Walk;
use crate::error::{Error, Result};
use crate::graph::NodeId;
use crate::rule::Contributions;

/// The rule of an affine node, see [`crate::rule::Planned::Affine`].
#[derive(Clone, Copy)]
pub(super) struct AffineRule {
    pub(super) contributions: Contributions,
    pub(super) epsilon: f64,
    pub(super) absorb: bool,
}

impl Compiler<'_> {
    /// Whether a rule for a convolution of `x` can run on blocked images.
    pub(super) fn relevance_is_blocked(&self, x: NodeId, weight: NodeId, shape: &ConvShape) -> Result<bool> {
        if !self.homes[x.index()].blocked {
            return Ok(false);
        }
        let forward = self.packed(Use::Forward, weight, Part::Positive, shape)?;
        Ok(forward.is_some() && self.packed(Use::Relevance, weight, Part::Positive, shape)?.is_some())
    }

    /// A value that the forward half has stored as an image.
    pub(super) fn value(&self, id: NodeId) -> Result<ImageId> {
        self.homes[id.index()]
            .image
            .ok_or_else(|| Error::invalid("plan", "a value is not an image", "a valid plan"))
    }

    /// Relevance at a convolution: see [`crate::rule::Planned::Affine`].
    pub(super) fn convolution_relevance(
        &mut self,
        walk: &mut Walk,
        node: NodeId,
        shape: &ConvShape,
        rule: AffineRule,
        signal: ImageId,
    ) -> Result<()> {
        let inputs = self.graph.node(node).inputs().to_vec();
        let (x, weight) = (inputs[0], inputs[1]);
        let terms = self.terms(x, rule.contributions)?;
        let z = match rule.contributions {
            Contributions::All if rule.absorb => self.value(node)?,
            _ => self.denominator(node, shape, rule, &terms)?,
        };
        let s = self.image_like(node);
        self.program.backward.push(Instruction::Redistribute {
            signal,
            denominators: [Some(z), None],
            epsilon: rule.epsilon as f32,
            factor: None,
            addend: None,
            dst: s,
        });
        let mut sum = None;
        for (at, &(value, part)) in terms.iter().enumerate() {
            let conv = served(self.packed(Use::Relevance, weight, part, shape)?)?;
            self.want_border(s, conv.source_pad());
            let dst = self.image_like(x);
            self.program.backward.push(Instruction::Conv { conv, src: s, dst, tail: Tail::default() });
            if at + 1 == terms.len() {
                self.arrive_product(walk, x, dst, value, sum);
            } else {
                let product = self.image_like(x);
                self.program.backward.push(product_of(dst, value, sum, product));
                sum = Some(product);
            }
        }
        Ok(())
    }

    /// The parts of x, each with the part of the weights that it is multiplied by.
    fn terms(&mut self, x: NodeId, contributions: Contributions) -> Result<Vec<(ImageId, Part)>> {
        let value = self.value(x)?;
        Ok(match contributions {
            Contributions::All => vec![(value, Part::All)],
            Contributions::Positive if self.homes[x.index()].non_negative => vec![(value, Part::Positive)],
            Contributions::Positive => {
                let negative = Activation::Clip { min: f32::NEG_INFINITY, max: 0.0 };
                let mut part = |activation| {
                    let dst = self.image_like(x);
                    let tail = Tail { activation, ..Tail::default() };
                    self.program.backward.push(Instruction::Combine { src: value, dst, tail });
                    dst
                };
                vec![(part(Activation::Relu), Part::Positive), (part(negative), Part::Negative)]
            }
        })
    }

    /// `Σ W_t x_t + b`
    fn denominator(
        &mut self,
        node: NodeId,
        shape: &ConvShape,
        rule: AffineRule,
        terms: &[(ImageId, Part)],
    ) -> Result<ImageId> {
        let inputs = self.graph.node(node).inputs().to_vec();
        let mut bias = None;
        if let Some(&id) = inputs.get(2).filter(|_| rule.absorb) {
            bias = Some(padded_bias(self.graph, id, terms[0].1, shape.out_channels)?);
        }
        let mut sum = None;
        for &(src, part) in terms {
            let conv = served(self.packed(Use::Forward, inputs[1], part, shape)?)?;
            self.want_border(src, conv.source_pad());
            let dst = self.image_like(node);
            let tail = Tail { bias: bias.take(), residual: sum, ..Tail::default() };
            self.program.backward.push(Instruction::Conv { conv, src, dst, tail });
            sum = Some(dst);
        }
        sum.ok_or_else(|| Error::invalid("plan", "a rule has no terms", "a valid plan"))
    }

    /// Relevance at a sum of two images.
    pub(super) fn sum_relevance(
        &mut self,
        walk: &mut Walk,
        inputs: &[NodeId],
        epsilon: f64,
        signal: ImageId,
    ) -> Result<()> {
        let &[a, b] = inputs else {
            return Err(Error::invalid("plan", "a sum does not have two operands", "a valid plan"));
        };
        let (first, second) = (self.value(a)?, self.value(b)?);
        for (input, value) in [(a, first), (b, second)] {
            if walk.passes(input) {
                let dst = self.image_like(input);
                self.program.backward.push(Instruction::Redistribute {
                    signal,
                    denominators: [Some(first), Some(second)],
                    epsilon: epsilon as f32,
                    factor: Some(value),
                    addend: None,
                    dst,
                });
                self.arrive_image(walk, input, dst);
            }
        }
        Ok(())
    }

    /// Computes s / stab(y) at the output of an averaging node.
    pub(super) fn quotient(&mut self, output: NodeId, epsilon: f64, signal: ImageId) -> Result<ImageId> {
        let (value, dst) = (self.value(output)?, self.image_like(output));
        self.program.backward.push(Instruction::Redistribute {
            signal,
            denominators: [Some(value), None],
            epsilon: epsilon as f32,
            factor: None,
            addend: None,
            dst,
        });
        Ok(dst)
    }

    /// Adds x ⊙ c + `with` to the signal at x.
    pub(super) fn arrive_product(
        &mut self,
        walk: &mut Walk,
        x: NodeId,
        c: ImageId,
        value: ImageId,
        with: Option<ImageId>,
    ) {
        let dst = self.image_like(x);
        // The sum so far can be added in the same pass, unless a gate follows.
        let sum = if with.is_none() { walk.open_sum(x, self.homes[x.index()]) } else { None };
        self.program.backward.push(product_of(c, value, with.or(sum), dst));
        if sum.is_some() {
            walk.replace(x, dst);
        } else {
            self.arrive_image(walk, x, dst);
        }
    }

    /// Runs the rule of a unit on tensors, if it cannot run on blocked images.
    pub(super) fn on_tensors(&mut self, walk: &mut Walk, node: NodeId) {
        let inputs = self.graph.node(node).inputs().to_vec();
        let mut operands = Vec::with_capacity(inputs.len());
        for input in inputs {
            let constant = self.graph.node(input).constant().is_some();
            operands.push(if constant {
                Operand::Constant(input)
            } else {
                Operand::Register(self.tensor_back(input))
            });
        }
        let output = self.tensor_back(node);
        if let Some(grad) = self.signal_as_tensor(walk, node) {
            self.operator_back(walk, node, &operands, output, grad);
        }
    }

    /// A value of the forward half as a tensor.
    fn tensor_back(&mut self, id: NodeId) -> Register {
        let home = self.homes[id.index()];
        if let Some(register) = home.register {
            return register;
        }
        let dst = self.register();
        self.program.backward.push(match home.image {
            Some(src) => Instruction::Unblock { src, dst },
            None => Instruction::Constant { node: id, dst },
        });
        self.homes[id.index()].register = Some(dst);
        dst
    }
}

/// Unwraps a kernel that [`Compiler::relevance_is_blocked`] has found to exist.
fn served(found: Option<Arc<BlockedConv>>) -> Result<Arc<BlockedConv>> {
    found.ok_or_else(|| Error::invalid("plan", "a kernel is missing", "a valid plan"))
}

/// `dst = factor · signal + addend`.
fn product_of(signal: ImageId, factor: ImageId, addend: Option<ImageId>, dst: ImageId) -> Instruction {
    let factor = Some(factor);
    Instruction::Redistribute { signal, denominators: [None; 2], epsilon: 0.0, factor, addend, dst }
}
