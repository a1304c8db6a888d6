//! Functions of one value: activations and elementary functions.

mod elementary;
mod fast;
mod portable;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::Result;

/// A function applied to each value by itself.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pointwise {
    /// `max(x, 0)`; derivative 0 at 0.
    Relu,
    /// `min(max(x, low), high)`; derivative 0 at both bounds, so that `Clip(0, ∞)` is `Relu`.
    Clip {
        /// Lower bound, if any.
        low: Option<f64>,
        /// Upper bound, if any.
        high: Option<f64>,
    },
    /// `x` where positive, `slope · x` elsewhere.
    LeakyRelu {
        /// Slope of the negative side.
        slope: f64,
    },
    /// `x` where positive, `alpha · (eˣ − 1)` elsewhere (Clevert 2015).
    Elu {
        /// Saturation value of the negative side.
        alpha: f64,
    },
    /// `gamma · ELU(x)` (Klambauer 2017).
    Selu {
        /// Saturation value of the negative side.
        alpha: f64,
        /// Overall factor.
        gamma: f64,
    },
    /// `x where positive, alpha · (e^(x/alpha) − 1)` elsewhere (Barron 2017).
    Celu {
        /// Scale of the negative side.
        alpha: f64,
    },
    /// `x · Φ(x)` with the normal distribution function Φ (Hendrycks 2016).
    Gelu,
    /// GELU's approximation `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x · σ(x)`, also called swish.
    Silu,
    /// `x · clip(x / 6 + ½, 0, 1)`.
    HardSwish,
    /// `clip(alpha · x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x · tanh(softplus(x))`.
    Mish,
    /// Error function.
    Erf,
    /// `eˣ`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `x` to a constant power.
    Pow {
        /// The power.
        exponent: f64,
    },
    /// `|x|`; derivative 0 at 0.
    Abs,
    /// `−x`.
    Neg,
    /// `1 / x`.
    Reciprocal,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// `x + bias` below `−threshold`, `x − bias` above `threshold`, 0 between them.
    Shrink {
        /// Half the width of the interval that becomes 0.
        threshold: f64,
        /// What moves the other values towards 0.
        bias: f64,
    },
    /// −1, 0 or 1.
    Sign,
    /// Largest integer not above `x`.
    Floor,
    /// Smallest integer not below `x`.
    Ceil,
    /// Nearest integer; halves go to the even one, as in ONNX and PyTorch.
    Round,
}

impl Pointwise {
    /// Whether this is a rectifier: it passes positive values (nearly) unchanged and damps negative ones.
    /// Guided backpropagation, `DeconvNet` and `RectGrad` act on these.
    pub fn is_rectifier(self) -> bool {
        match self {
            Self::Clip { low, high } => low == Some(0.0) && high.is_none_or(|h| h > 0.0),
            Self::Relu
            | Self::LeakyRelu { .. }
            | Self::Elu { .. }
            | Self::Selu { .. }
            | Self::Celu { .. }
            | Self::Gelu
            | Self::GeluTanh
            | Self::Silu
            | Self::HardSwish
            | Self::Softplus
            | Self::Mish => true,
            _ => false,
        }
    }

    /// Whether the function is piecewise constant, so that no signal passes back.
    fn is_step(self) -> bool {
        matches!(self, Self::Sign | Self::Floor | Self::Ceil | Self::Round)
    }
}

impl Operator for Pointwise {
    fn name(&self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::Clip { .. } => "Clip",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Elu { .. } => "Elu",
            Self::Selu { .. } => "Selu",
            Self::Celu { .. } => "Celu",
            Self::Gelu | Self::GeluTanh => "Gelu",
            Self::Silu => "Silu",
            Self::HardSwish => "HardSwish",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Softplus => "Softplus",
            Self::Softsign => "Softsign",
            Self::Mish => "Mish",
            Self::Erf => "Erf",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Pow { .. } => "Pow",
            Self::Abs => "Abs",
            Self::Neg => "Neg",
            Self::Reciprocal => "Reciprocal",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Tan => "Tan",
            Self::Asin => "Asin",
            Self::Acos => "Acos",
            Self::Atan => "Atan",
            Self::Sinh => "Sinh",
            Self::Cosh => "Cosh",
            Self::Asinh => "Asinh",
            Self::Acosh => "Acosh",
            Self::Atanh => "Atanh",
            Self::Shrink { .. } => "Shrink",
            Self::Sign => "Sign",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
        }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        match self {
            Self::Neg => Kind::Affine,
            step if step.is_step() => Kind::Blocking,
            _ => Kind::Activation,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        if x.dtype().is_int() {
            return self.of_integers(x);
        }
        match fast::value(*self, x, backend)? {
            Some(y) => Ok(y),
            None => self.value(x),
        }
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) || self.is_step() {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let dx = match fast::product(*self, x, args)? {
            Some(dx) => dx,
            None => (args.grad * self.derivative(x, args.output)?)?,
        };
        Ok(vec![Some(dx)])
    }
}
