//! Constant folding of element-wise operators.

use super::Fold;
use crate::onnx::array::{Array, Data, broadcast, count};
use crate::onnx::value::Res;

/// The function of a unary operator on floating-point values.
fn unary(op: &str) -> Option<fn(f64) -> f64> {
    Some(match op {
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sqrt" => f64::sqrt,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        "Tan" => f64::tan,
        "Asin" => f64::asin,
        "Acos" => f64::acos,
        "Atan" => f64::atan,
        "Sinh" => f64::sinh,
        "Cosh" => f64::cosh,
        "Asinh" => f64::asinh,
        "Acosh" => f64::acosh,
        "Atanh" => f64::atanh,
        "Tanh" => f64::tanh,
        "Reciprocal" => f64::recip,
        "Neg" => |x| -x,
        "Abs" => f64::abs,
        "Sign" => |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
        "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "Relu" => |x| x.max(0.0),
        _ => return None,
    })
}

/// The function of a unary operator on integers.
fn unary_int(op: &str) -> Option<fn(i64) -> i64> {
    Some(match op {
        "Neg" => i64::wrapping_neg,
        "Abs" => i64::wrapping_abs,
        "Sign" => i64::signum,
        "Relu" => |x| x.max(0),
        "Floor" | "Ceil" | "Round" => |x| x,
        _ => return None,
    })
}

/// The function of a binary operator on floating-point values; `truncated` is for `Mod` with `fmod`.
fn binary(op: &str, truncated: bool) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        "Add" | "Sum" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f64::powf,
        "Max" => f64::max,
        "Min" => f64::min,
        "Mod" if truncated => |a, b| a % b,
        "Mod" => |a, b| a - b * (a / b).floor(),
        _ => return None,
    })
}

/// Applies a binary operator to integers.
fn binary_int(op: &str, truncated: bool, a: i64, b: i64) -> Res<i64> {
    let divide = |f: fn(i64, i64) -> i64| if b == 0 { Err("divides by zero".into()) } else { Ok(f(a, b)) };
    match op {
        "Add" | "Sum" => Ok(a.wrapping_add(b)),
        "Sub" => Ok(a.wrapping_sub(b)),
        "Mul" => Ok(a.wrapping_mul(b)),
        "Max" => Ok(a.max(b)),
        "Min" => Ok(a.min(b)),
        "Div" => divide(i64::wrapping_div),
        "Mod" if truncated => divide(i64::wrapping_rem),
        // The result has the sign of the divisor, as in Python.
        "Mod" => divide(|a, b| {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r }
        }),
        "Pow" => match u32::try_from(b) {
            Ok(b) => Ok(a.wrapping_pow(b)),
            Err(_) => Err("raises an integer to a negative power".into()),
        },
        _ => Err("is not defined for integers".into()),
    }
}

/// Whether a comparison holds, as a function of the order of its operands.
fn compare(op: &str) -> Option<fn(std::cmp::Ordering) -> bool> {
    Some(match op {
        "Equal" => std::cmp::Ordering::is_eq,
        "Less" => std::cmp::Ordering::is_lt,
        "LessOrEqual" => std::cmp::Ordering::is_le,
        "Greater" => std::cmp::Ordering::is_gt,
        "GreaterOrEqual" => std::cmp::Ordering::is_ge,
        _ => return None,
    })
}

/// Broadcasts two arrays to one shape.
fn together(a: &Array, b: &Array) -> Res<(Array, Array)> {
    let shape = broadcast(&a.shape, &b.shape)?;
    if count(&shape)? > 4 * super::LIMIT {
        return Err(format!("would compute a constant of shape {shape:?}, which is too large").into());
    }
    Ok((a.expand(&shape)?, b.expand(&shape)?))
}

fn zip<A: Copy, B: Copy, C>(a: &[A], b: &[B], f: impl Fn(A, B) -> C) -> Vec<C> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

impl Fold<'_> {
    pub(super) fn arithmetic(&self) -> Option<Res<Array>> {
        let truncated = self.attributes.flag("fmod", false).unwrap_or(false);
        if let Some(f) = unary(self.op) {
            return Some(self.input(0).and_then(|x| {
                let data = match (&x.data, unary_int(self.op)) {
                    (Data::Int(v), Some(f)) => Data::Int(v.iter().map(|&i| f(i)).collect()),
                    (Data::Float(v), _) => Data::Float(v.iter().map(|&i| f(i)).collect()),
                    _ => return Err("is not defined for integers".into()),
                };
                Ok(Array { shape: x.shape.clone(), data })
            }));
        }
        if let Some(f) = binary(self.op, truncated) {
            return Some(self.chain(|a, b| match (&a.data, &b.data) {
                (Data::Int(x), Data::Int(y)) => {
                    let values = zip(x, y, |x, y| binary_int(self.op, truncated, x, y));
                    Ok(Data::Int(values.into_iter().collect::<Res<_>>()?))
                }
                (Data::Float(x), Data::Float(y)) => Ok(Data::Float(zip(x, y, f))),
                // For `Pow`, the types of base and exponent may differ.
                (Data::Float(x), Data::Int(_)) if self.op == "Pow" => {
                    Ok(Data::Float(zip(x, &b.to_floats(), f)))
                }
                (Data::Int(x), Data::Float(y)) if self.op == "Pow" => {
                    Ok(Data::Int(zip(x, y, |x, y| (x as f64).powf(y) as i64)))
                }
                _ => Err("operands have different types".into()),
            }));
        }
        if let Some(holds) = compare(self.op) {
            return Some(self.chain(|a, b| match (&a.data, &b.data) {
                (Data::Int(x), Data::Int(y)) => Ok(Data::Bool(zip(x, y, |x, y| holds(x.cmp(&y))))),
                (Data::Bool(x), Data::Bool(y)) => Ok(Data::Bool(zip(x, y, |x, y| holds(x.cmp(&y))))),
                (Data::Float(x), Data::Float(y)) => {
                    Ok(Data::Bool(zip(x, y, |x: f64, y: f64| x.partial_cmp(&y).is_some_and(holds))))
                }
                _ => Err("operands have different types".into()),
            }));
        }
        // Two's complement: the same in every width.
        let bits: Option<fn(i64, i64) -> i64> = match self.op {
            "BitwiseAnd" => Some(|a, b| a & b),
            "BitwiseOr" => Some(|a, b| a | b),
            "BitwiseXor" => Some(|a, b| a ^ b),
            _ => None,
        };
        if let Some(bits) = bits {
            return Some(self.chain(|a, b| Ok(Data::Int(zip(a.as_ints()?, b.as_ints()?, bits)))));
        }
        let logic: fn(bool, bool) -> bool = match self.op {
            "And" => |a, b| a && b,
            "Or" => |a, b| a || b,
            "Xor" => |a, b| a != b,
            _ => return None,
        };
        Some(self.chain(|a, b| Ok(Data::Bool(zip(a.as_bools()?, b.as_bools()?, logic)))))
    }

    /// Combines all inputs from left to right with a function of two arrays of the same shape.
    fn chain(&self, f: impl Fn(&Array, &Array) -> Res<Data>) -> Res<Array> {
        let mut result = self.input(0)?.clone();
        for i in 1..self.inputs.len() {
            let (a, b) = together(&result, self.input(i)?)?;
            result = Array { data: f(&a, &b)?, shape: a.shape };
        }
        Ok(result)
    }

    pub(super) fn select(&self) -> Res<Array> {
        let (condition, a, b) = (self.input(0)?, self.input(1)?, self.input(2)?);
        let (a, b) = together(a, b)?;
        let (condition, a) = together(condition, &a)?;
        let b = b.expand(&a.shape)?;
        let holds = condition.as_bools()?;
        let mut both = a.clone();
        both.append(&b)?;
        let n = a.len();
        let picked = holds.iter().enumerate().map(|(i, &c)| if c { i } else { n + i });
        Ok(both.pick(picked, a.shape))
    }
}
