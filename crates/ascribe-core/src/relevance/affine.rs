//! An affine node `y = W x + b` as the generic rule needs it: W and b, or parts of them, can be applied to parts of
//! x, and transposed.

use candle_core::Tensor;

use super::terms::{Term, Weights};
use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::{Backend, Binary, Op, Operator, Pointwise, Slot, Vjp};
use crate::rule::{Rule, Site};

/// An affine node whose parameters can be modified for each term of a rule.
pub(super) struct Affine<'a> {
    site: &'a Site<'a>,
    /// The index of the operand x.
    pub(super) data: usize,
    form: Form<'a>,
}

enum Form<'a> {
    /// The operator takes W and b as operands: convolution, linear layer, matrix product, scale and shift.
    Parameters(Vec<(Slot, &'a Tensor)>),
    /// `y = w ⊙ x + b` whose operator has no operand for `w`: `x + c`, `c − x`, `x / c`, `−x`, and also `x · c`.
    Elementwise { weight: Tensor, bias: Option<Tensor> },
}

/// The parameters of one term, as [`Affine::forward`] and [`Affine::transpose`] take them.
pub(super) enum Modified {
    Operands(Vec<Tensor>),
    Elementwise { weight: Tensor, bias: Option<Tensor> },
}

/// The index of the only operand that depends on the input.
///
/// # Errors
/// The reason why no rule for affine nodes is defined for this node.
pub(super) fn operand(graph: &Graph, id: NodeId) -> Result<usize, &'static str> {
    let node = graph.node(id);
    let mut dynamic = (0..node.inputs().len()).filter(|&i| graph.is_dynamic(node.inputs()[i]));
    let (Some(data), None) = (dynamic.next(), dynamic.next()) else {
        return Err("it does not have exactly one operand that depends on the input");
    };
    let elementwise = matches!(
        node.op(),
        Some(
            Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div) | Op::Pointwise(Pointwise::Neg)
        )
    );
    let is_known = |i: usize| i == data || matches!(graph.slot(id, i), Slot::Weight | Slot::Bias);
    if elementwise || (0..node.inputs().len()).all(is_known) {
        Ok(data)
    } else {
        Err("it has parameters other than a weight and a bias; in the graph's canonical form it has not")
    }
}

impl<'a> Affine<'a> {
    /// # Errors
    /// If the node is not affine in exactly one dynamic operand, or has parameters that no rule may modify.
    pub(super) fn new(site: &'a Site<'a>, rule: &dyn Rule) -> Result<Self> {
        let data = operand(site.graph(), site.id()).map_err(|why| site.undefined(rule, why))?;
        let x = site.inputs()[data];
        let other = site.inputs().iter().enumerate().find(|(i, _)| *i != data).map(|(_, value)| *value);
        let scalar =
            |value: f64| -> Result<Tensor> { Ok(Tensor::new(&[value], x.device())?.to_dtype(x.dtype())?) };
        let form = match (site.op(), other) {
            (Op::Binary(Binary::Add), Some(c)) => {
                Form::Elementwise { weight: scalar(1.0)?, bias: Some(c.clone()) }
            }
            (Op::Binary(Binary::Sub), Some(c)) if data == 0 => {
                Form::Elementwise { weight: scalar(1.0)?, bias: Some(c.neg()?) }
            }
            (Op::Binary(Binary::Sub), Some(c)) => {
                Form::Elementwise { weight: scalar(-1.0)?, bias: Some(c.clone()) }
            }
            (Op::Binary(Binary::Mul), Some(c)) => Form::Elementwise { weight: c.clone(), bias: None },
            (Op::Binary(Binary::Div), Some(c)) if data == 0 => {
                Form::Elementwise { weight: c.recip()?, bias: None }
            }
            (Op::Pointwise(Pointwise::Neg), None) => Form::Elementwise { weight: scalar(-1.0)?, bias: None },
            _ => {
                let slots: Vec<(Slot, &Tensor)> =
                    site.inputs().iter().enumerate().map(|(i, value)| (site.slot(i), *value)).collect();
                Form::Parameters(slots)
            }
        };
        Ok(Self { site, data, form })
    }

    /// The value of x.
    pub(super) fn x(&self) -> &'a Tensor {
        self.site.inputs()[self.data]
    }

    /// The parameters of a term: modified W and b, with b = 0 if the term has no bias.
    pub(super) fn modified(&self, weights: Weights, bias: Option<Weights>) -> Result<Modified> {
        let modify_bias = |b: &Tensor| match bias {
            Some(part) => part.of(b),
            None => Ok(b.zeros_like()?),
        };
        Ok(match &self.form {
            Form::Parameters(slots) => Modified::Operands(
                slots
                    .iter()
                    .enumerate()
                    .map(|(i, (slot, value))| match slot {
                        _ if i == self.data => Ok((*value).clone()),
                        Slot::Bias => modify_bias(value),
                        _ => weights.of(value),
                    })
                    .collect::<Result<_>>()?,
            ),
            Form::Elementwise { weight, bias } => Modified::Elementwise {
                weight: weights.of(weight)?,
                bias: bias.as_ref().map(modify_bias).transpose()?,
            },
        })
    }

    /// W x + b for these x and parameters.
    pub(super) fn forward(&self, x: &Tensor, parameters: &Modified) -> Result<Tensor> {
        match parameters {
            Modified::Operands(operands) => self.site.forward_with(&self.with_data(x, operands)),
            Modified::Elementwise { weight, bias } => {
                let y = Binary::Mul.forward(&[x, weight], self.backend())?;
                match bias {
                    Some(bias) => Binary::Add.forward(&[&y, bias], self.backend()),
                    None => Ok(y),
                }
            }
        }
    }

    /// Wᵀ s, shaped like x.
    pub(super) fn transpose(&self, s: &Tensor, parameters: &Modified) -> Result<Option<Tensor>> {
        match parameters {
            Modified::Operands(operands) => {
                let mut grads =
                    self.site.vjp_with(&self.with_data(self.x(), operands), self.site.output(), s)?;
                Ok(if self.data < grads.len() { grads.swap_remove(self.data) } else { None })
            }
            Modified::Elementwise { weight, .. } => {
                let inputs = [self.x(), weight];
                let args = Vjp {
                    inputs: &inputs,
                    output: self.site.output(),
                    grad: s,
                    needs: &[true, false],
                    backend: self.backend(),
                };
                Ok(Binary::Mul.vjp(&args)?.into_iter().next().flatten())
            }
        }
    }

    fn backend(&self) -> Backend {
        self.site.graph().backend()
    }

    fn with_data<'b>(&self, x: &'b Tensor, operands: &'b [Tensor]) -> Vec<&'b Tensor> {
        operands.iter().enumerate().map(|(i, o)| if i == self.data { x } else { o }).collect()
    }
}

impl Term {
    /// The parameters of this term at a node; the bias is omitted if `absorb` is false.
    pub(super) fn parameters(&self, node: &Affine<'_>, absorb: bool) -> Result<Modified> {
        node.modified(self.weights, self.bias.filter(|_| absorb))
    }
}
