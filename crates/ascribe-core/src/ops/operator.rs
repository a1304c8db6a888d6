//! The trait of operators.

use std::fmt::Debug;

use candle_core::Tensor;

use crate::error::Result;

/// The implementation that operators use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The kernels of `ascribe-kernels` where they apply (CPU, f32 and f64), candle operations elsewhere.
    #[default]
    Auto,
    /// Candle operations only. Runs on any device, and is the reference that the kernels are tested against.
    Portable,
}

/// The kind of an operator, by which backward rules are chosen.
///
/// Rules depend only on these few kinds, so that a new operator works with every rule as soon as it is
/// added. The kind can depend on which inputs are dynamic: `x + constant` is affine, `x + y` is a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A model input.
    Input,
    /// A stored value.
    Constant,
    /// `y = W x + b` with constant `W` and `b`: convolution, linear, scaling by a constant.
    Affine,
    /// A parameter-free weighted mean of its input: average pooling, mean over axes, bilinear resizing.
    Average,
    /// One value in, one value out: ReLU, GELU, tanh, exp, …
    Activation,
    /// Each output is one of the inputs, chosen by comparison: max-pooling, maximum over axes, `max(x, y)`.
    MaxPool,
    /// Sum or difference of dynamic values: residual connections, sum over axes.
    Sum,
    /// Product or quotient of dynamic values: gating, attention's matrix products.
    Product,
    /// Division by statistics of the input: layer, group and instance norm, local response norm.
    Normalisation,
    /// Softmax and log-softmax.
    Softmax,
    /// Moves values without changing them: reshape, concatenation, padding, gathering.
    Structural,
    /// Piecewise constant: comparisons, casts to integers. No signal passes.
    Blocking,
}

/// The role of an input of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The value that the operator transforms.
    Data,
    /// A multiplicative parameter.
    Weight,
    /// An additive parameter.
    Bias,
    /// Anything that no rule may modify: indices, conditions, running statistics.
    Other,
}

/// Arguments of a vector-Jacobian product.
#[derive(Clone, Copy, Debug)]
pub struct Vjp<'a> {
    /// Values of the inputs.
    pub inputs: &'a [&'a Tensor],
    /// Value of the output.
    pub output: &'a Tensor,
    /// The vector: shaped like the output.
    pub grad: &'a Tensor,
    /// For each input, whether its product is requested.
    pub needs: &'a [bool],
    /// How to compute.
    pub backend: Backend,
}

impl Vjp<'_> {
    /// Whether the product with respect to input `slot` is requested.
    pub fn wants(&self, slot: usize) -> bool {
        self.needs.get(slot).copied().unwrap_or(false)
    }

    /// The value of input `slot`.
    ///
    /// # Errors
    /// If the operator has fewer inputs.
    pub fn input(&self, slot: usize) -> Result<&Tensor> {
        input(self.inputs, slot)
    }
}

/// Signals for the inputs of an operator, `None` where the signal was not requested or is identically zero.
pub type Grads = Vec<Option<Tensor>>;

/// A differentiable function of tensors with one output.
pub trait Operator: Debug + Send + Sync {
    /// The operator's name, as ONNX calls it where ONNX has it.
    fn name(&self) -> &'static str;

    /// The kind of the operator; `dynamic[i]` says whether input `i` depends on a model input.
    fn kind(&self, dynamic: &[bool]) -> Kind;

    /// The role of input `slot`; `dynamic` as for [`Operator::kind`].
    fn slot(&self, slot: usize, _dynamic: &[bool]) -> Slot {
        if slot == 0 { Slot::Data } else { Slot::Other }
    }

    /// Shape of the output for inputs of these shapes.
    ///
    /// # Errors
    /// If the operator does not accept such shapes: says which input is wrong and what would be right.
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>>;

    /// Computes the output. The shapes have passed [`Operator::output_shape`].
    ///
    /// # Errors
    /// If the device or the data type is not supported.
    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor>;

    /// Vector-Jacobian product: for each requested input `i`, `grad · ∂output/∂inputᵢ`, shaped like the input.
    ///
    /// Where the function has no derivative (ReLU at 0, ties in a maximum), PyTorch's convention is used.
    ///
    /// # Errors
    /// If the device or the data type is not supported.
    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads>;
}

/// Input `slot` of an operator's inputs.
pub(crate) fn input<'a>(inputs: &[&'a Tensor], slot: usize) -> Result<&'a Tensor> {
    inputs.get(slot).copied().ok_or_else(|| {
        crate::Error::invalid(
            "operator inputs",
            format!("{} given", inputs.len()),
            format!("at least {}", slot + 1),
        )
    })
}

/// The shapes of exactly `N` inputs.
pub(crate) fn shapes<'a, const N: usize>(inputs: &[&'a [usize]]) -> Result<[&'a [usize]; N]> {
    <[&[usize]; N]>::try_from(inputs).map_err(|_| {
        crate::Error::invalid("operator inputs", format!("{} given", inputs.len()), format!("{N}"))
    })
}
