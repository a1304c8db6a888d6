//! Values and derivatives by candle operations, on any device.

use candle_core::{DType, Tensor};

use super::Pointwise;
use super::elementary::apply;
use crate::error::{Error, Result};

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // e⁻ˣ may overflow: 1 / ∞ is the limit. Unlike ½ + ½ tanh(x/2), this is accurate for negative x.
    Ok((x.neg()?.exp()? + 1.0)?.recip()?)
}

fn softplus(x: &Tensor) -> Result<Tensor> {
    // max(x, 0) + ln(1 + e^{−|x|}) does not overflow.
    Ok((x.relu()? + ln_1p(&x.abs()?.neg()?.exp()?)?)?)
}

/// `ln(1 + x)` to full precision for small `x ≥ 0`: the rounding errors of `1 + x` cancel (Kahan's trick).
fn ln_1p(x: &Tensor) -> Result<Tensor> {
    let sum = (x + 1.0)?;
    let seen = (&sum - 1.0)?;
    Ok(seen.eq(0.0)?.where_cond(x, &(sum.log()? * (x / seen)?)?)?)
}

/// `e^{min(x, 0)} − 1` to full precision near 0, in the same way.
fn negative_expm1(x: &Tensor) -> Result<Tensor> {
    let x = x.minimum(&x.zeros_like()?)?;
    let exp = x.exp()?;
    let seen = (&exp - 1.0)?;
    let exact = ((&x * &seen)? / exp.log()?)?;
    // Where the exponential vanishes, its logarithm is −∞.
    let value = exp.lt(1e-3)?.where_cond(&seen, &exact)?;
    Ok(exp.eq(1.0)?.where_cond(&x, &value)?)
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
    Ok(((x + ((x.sqr()? * x)? * GELU_CUBIC)?)? * SQRT_2_OVER_PI)?)
}

/// Φ(x), the distribution function of the standard normal distribution.
fn normal_cdf(x: &Tensor) -> Result<Tensor> {
    Ok((((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?)
}

/// `x` to a power, by cheaper operations for the usual ones.
fn powf(x: &Tensor, exponent: f64) -> Result<Tensor> {
    Ok(match exponent {
        0.5 => x.sqrt()?,
        1.0 => x.clone(),
        2.0 => x.sqr()?,
        3.0 => (x.sqr()? * x)?,
        -1.0 => x.recip()?,
        _ => x.powf(exponent)?,
    })
}

/// Candle rounds halves away from zero.
fn round_half_even(x: &Tensor) -> Result<Tensor> {
    let half = (x - x.floor()?)?.eq(0.5)?;
    Ok(half.where_cond(&((x * 0.5)?.round()? * 2.0)?, &x.round()?)?)
}

impl Pointwise {
    /// `f(x)` by candle operations.
    pub(super) fn value(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.relu()?,
            Self::Clip { low, high } => {
                let x = low.map_or_else(|| Ok(x.clone()), |low| x.maximum(low))?;
                high.map_or_else(|| Ok(x.clone()), |high| x.minimum(high))?
            }
            Self::LeakyRelu { slope } => (x.relu()? - (x.neg()?.relu()? * slope)?)?,
            Self::Elu { alpha } => (x.relu()? + (negative_expm1(x)? * alpha)?)?,
            Self::Selu { alpha, gamma } => (Self::Elu { alpha }.value(x)? * gamma)?,
            Self::Celu { alpha } => (x.relu()? + (negative_expm1(&(x / alpha)?)? * alpha)?)?,
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
            Self::Pow { exponent } => powf(x, exponent)?,
            Self::Abs => x.abs()?,
            Self::Neg => x.neg()?,
            Self::Reciprocal => x.recip()?,
            Self::Sin => x.sin()?,
            Self::Cos => x.cos()?,
            Self::Tan => apply(x, f64::tan)?,
            Self::Asin => apply(x, f64::asin)?,
            Self::Acos => apply(x, f64::acos)?,
            Self::Atan => apply(x, f64::atan)?,
            Self::Sinh => apply(x, f64::sinh)?,
            Self::Cosh => apply(x, f64::cosh)?,
            Self::Asinh => apply(x, f64::asinh)?,
            Self::Acosh => apply(x, f64::acosh)?,
            Self::Atanh => apply(x, f64::atanh)?,
            Self::Shrink { threshold, bias } => {
                let high = x.gt(threshold)?.where_cond(&(x - bias)?, &x.zeros_like()?)?;
                x.lt(-threshold)?.where_cond(&(x + bias)?, &high)?
            }
            Self::Sign => x.sign()?,
            Self::Floor => x.floor()?,
            Self::Ceil => x.ceil()?,
            Self::Round => round_half_even(x)?,
        })
    }

    /// The functions that make sense for integers; candle's own panic.
    pub(super) fn of_integers(self, x: &Tensor) -> Result<Tensor> {
        let zero = || x.zeros_like();
        let unsigned = matches!(x.dtype(), DType::U8 | DType::U32);
        Ok(match self {
            Self::Floor | Self::Ceil | Self::Round => x.clone(),
            Self::Relu => x.maximum(&zero()?)?,
            Self::Abs if unsigned => x.clone(),
            Self::Abs => x.maximum(&(zero()? - x)?)?,
            Self::Neg if !unsigned => (zero()? - x)?,
            Self::Clip { low, high } => {
                let x = low.map_or_else(|| Ok(x.clone()), |low| x.maximum(low))?;
                high.map_or_else(|| Ok(x.clone()), |high| x.minimum(high))?
            }
            _ => return Err(Error::invalid("input", format!("holds {:?}", x.dtype()), "floating point")),
        })
    }

    const HARD_SWISH_GATE: Self = Self::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };

    /// `f′(x)`, given `x` and `y = f(x)`, by candle operations.
    pub(super) fn derivative(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
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
            Self::Pow { exponent } if exponent != 0.0 => (powf(x, exponent - 1.0)? * exponent)?,
            Self::Abs => x.sign()?,
            Self::Neg => (x.ones_like()? * -1.0)?,
            Self::Reciprocal => y.sqr()?.neg()?,
            Self::Sin => x.cos()?,
            Self::Cos => x.sin()?.neg()?,
            Self::Tan => (y.sqr()? + 1.0)?,
            Self::Asin => apply(x, |x| ((1.0 - x) * (1.0 + x)).sqrt().recip())?,
            Self::Acos => apply(x, |x| -((1.0 - x) * (1.0 + x)).sqrt().recip())?,
            Self::Atan => apply(x, |x| (1.0 + x * x).recip())?,
            Self::Sinh => apply(x, f64::cosh)?,
            Self::Cosh => apply(x, f64::sinh)?,
            Self::Asinh => apply(x, |x| x.hypot(1.0).recip())?,
            Self::Acosh => apply(x, |x| ((x - 1.0) * (x + 1.0)).sqrt().recip())?,
            Self::Atanh => apply(x, |x| ((1.0 - x) * (1.0 + x)).recip())?,
            Self::Shrink { threshold, .. } => mask(&x.gt(threshold)?.maximum(&x.lt(-threshold)?)?, x)?,
            Self::Pow { .. } | Self::Sign | Self::Floor | Self::Ceil | Self::Round => x.zeros_like()?,
        })
    }
}
