//! Functions of one value: activations and elementary functions.

use candle_core::Tensor;

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::Result;

/// A function applied to each value by itself.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pointwise {
    /// `max(x, 0)`; derivative 0 at 0.
    Relu,
    /// `min(max(x, low), high)`; derivative 0 at both bounds, so that `Clip(0, ∞)` is ReLU.
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
    /// −1, 0 or 1.
    Sign,
    /// Largest integer not above `x`.
    Floor,
    /// Smallest integer not below `x`.
    Ceil,
    /// Nearest integer.
    Round,
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // Through tanh, which does not overflow on either side.
    Ok((((x * 0.5)?.tanh()? * 0.5)? + 0.5)?)
}

fn softplus(x: &Tensor) -> Result<Tensor> {
    // max(x, 0) + ln(1 + e^{−|x|}) does not overflow.
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

fn mask(condition: &Tensor, like: &Tensor) -> Result<Tensor> {
    Ok(condition.to_dtype(like.dtype())?)
}

/// `e^{min(x, 0)}`: the exponential of the negative side, without overflow on the positive.
fn negative_exp(x: &Tensor) -> Result<Tensor> {
    Ok(x.minimum(&x.zeros_like()?)?.exp()?)
}

const GELU_CUBIC: f64 = 0.044_715;
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

fn gelu_tanh_inner(x: &Tensor) -> Result<Tensor> {
    Ok(((x + (x.powf(3.0)? * GELU_CUBIC)?)? * SQRT_2_OVER_PI)?)
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

    /// `f(x)` by candle operations.
    fn value(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.relu()?,
            Self::Clip { low, high } => {
                let x = low.map_or_else(|| Ok(x.clone()), |low| x.maximum(low))?;
                high.map_or_else(|| Ok(x.clone()), |high| x.minimum(high))?
            }
            Self::LeakyRelu { slope } => (x.relu()? - (x.neg()?.relu()? * slope)?)?,
            Self::Elu { alpha } => (x.relu()? + ((negative_exp(x)? - 1.0)? * alpha)?)?,
            Self::Selu { alpha, gamma } => (Self::Elu { alpha }.value(x)? * gamma)?,
            Self::Celu { alpha } => (x.relu()? + ((negative_exp(&(x / alpha)?)? - 1.0)? * alpha)?)?,
            Self::Gelu => (x * normal_cdf(x)?)?,
            Self::GeluTanh => ((x * 0.5)? * (gelu_tanh_inner(x)?.tanh()? + 1.0)?)?,
            Self::Silu => (x * sigmoid(x)?)?,
            Self::HardSwish => (x * Self::HARD_SWISH_GATE.value(x)?)?,
            Self::HardSigmoid { alpha, beta } => ((x * alpha)? + beta)?.clamp(0.0, 1.0)?,
            Self::Sigmoid => sigmoid(x)?,
            Self::Tanh => x.tanh()?,
            Self::Softplus => softplus(x)?,
            Self::Softsign => (x / (x.abs()? + 1.0)?)?,
            Self::Mish => (x * softplus(x)?.tanh()?)?,
            Self::Erf => x.erf()?,
            Self::Exp => x.exp()?,
            Self::Log => x.log()?,
            Self::Sqrt => x.sqrt()?,
            Self::Pow { exponent } => x.powf(exponent)?,
            Self::Abs => x.abs()?,
            Self::Neg => x.neg()?,
            Self::Reciprocal => x.recip()?,
            Self::Sin => x.sin()?,
            Self::Cos => x.cos()?,
            Self::Sign => x.sign()?,
            Self::Floor => x.floor()?,
            Self::Ceil => x.ceil()?,
            Self::Round => x.round()?,
        })
    }

    const HARD_SWISH_GATE: Self = Self::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };

    /// `f′(x)`, given `x` and `y = f(x)`, by candle operations.
    fn derivative(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => mask(&x.gt(0.0)?, x)?,
            Self::Clip { low, high } => {
                let above = low.map_or_else(|| x.ones_like(), |low| x.gt(low)?.to_dtype(x.dtype()))?;
                high.map_or_else(|| Ok(above.clone()), |high| &above * x.lt(high)?.to_dtype(x.dtype())?)?
            }
            Self::LeakyRelu { slope } => {
                let positive = mask(&x.gt(0.0)?, x)?;
                ((positive * (1.0 - slope))? + slope)?
            }
            Self::Elu { alpha } => {
                let positive = mask(&x.gt(0.0)?, x)?;
                (&positive + ((positive.neg()? + 1.0)? * (negative_exp(x)? * alpha)?)?)?
            }
            Self::Selu { alpha, gamma } => (Self::Elu { alpha }.derivative(x, y)? * gamma)?,
            Self::Celu { alpha } => {
                let positive = mask(&x.gt(0.0)?, x)?;
                (&positive + ((positive.neg()? + 1.0)? * negative_exp(&(x / alpha)?)?)?)?
            }
            Self::Gelu => {
                let density = ((x.sqr()? * -0.5)?.exp()?
                    * (0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2))?;
                (normal_cdf(x)? + (x * density)?)?
            }
            Self::GeluTanh => {
                let t = gelu_tanh_inner(x)?.tanh()?;
                let slope = (((x.sqr()? * (3.0 * GELU_CUBIC))? + 1.0)? * SQRT_2_OVER_PI)?;
                let outer = ((x * 0.5)? * (t.sqr()?.neg()? + 1.0)?)?;
                (((t + 1.0)? * 0.5)? + (outer * slope)?)?
            }
            Self::Silu => {
                let s = sigmoid(x)?;
                (&s * ((x * (s.neg()? + 1.0)?)? + 1.0)?)?
            }
            Self::HardSwish => {
                let gate = Self::HARD_SWISH_GATE;
                let value = gate.value(x)?;
                let slope = gate.derivative(x, &value)?;
                (value + (x * slope)?)?
            }
            Self::HardSigmoid { alpha, .. } => {
                let inside = (mask(&y.gt(0.0)?, x)? * mask(&y.lt(1.0)?, x)?)?;
                (inside * alpha)?
            }
            Self::Sigmoid => (y * (y.neg()? + 1.0)?)?,
            Self::Tanh => (y.sqr()?.neg()? + 1.0)?,
            Self::Softplus => sigmoid(x)?,
            Self::Softsign => (x.abs()? + 1.0)?.sqr()?.recip()?,
            Self::Mish => {
                let t = softplus(x)?.tanh()?;
                let slope = (x * ((t.sqr()?.neg()? + 1.0)? * sigmoid(x)?)?)?;
                (t + slope)?
            }
            Self::Erf => (x.sqr()?.neg()?.exp()? * std::f64::consts::FRAC_2_SQRT_PI)?,
            Self::Exp => y.clone(),
            Self::Log => x.recip()?,
            Self::Sqrt => (y.recip()? * 0.5)?,
            Self::Pow { exponent } => (x.powf(exponent - 1.0)? * exponent)?,
            Self::Abs => x.sign()?,
            Self::Neg => (x.ones_like()? * -1.0)?,
            Self::Reciprocal => y.sqr()?.neg()?,
            Self::Sin => x.cos()?,
            Self::Cos => x.sin()?.neg()?,
            Self::Sign | Self::Floor | Self::Ceil | Self::Round => x.zeros_like()?,
        })
    }
}

/// Φ(x), the distribution function of the standard normal distribution.
fn normal_cdf(x: &Tensor) -> Result<Tensor> {
    Ok((((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?)
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

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        self.value(input(inputs, 0)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) || self.is_step() {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        Ok(vec![Some((args.grad * self.derivative(x, args.output)?)?)])
    }
}
