//! The activation functions of recurrent layers.

use ascribe_core::ops::{Binary, Compare, Pointwise, Where};

use super::super::Call;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// `outer · f(inner · x) + shift`, or `x` where it is above a threshold and 0 elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Activation {
    inner: f64,
    function: Option<Pointwise>,
    outer: f64,
    shift: f64,
    threshold: Option<f64>,
}

impl From<Pointwise> for Activation {
    fn from(function: Pointwise) -> Self {
        Self { inner: 1.0, function: Some(function), outer: 1.0, shift: 0.0, threshold: None }
    }
}

impl Activation {
    /// The function of a name as ONNX defines it. Parameters are taken from the front of `alphas` and `betas` by the
    /// functions that have them.
    fn parse(name: &str, alphas: &mut &[f32], betas: &mut &[f32]) -> Res<Self> {
        let next = |list: &mut &[f32], default: Option<f32>, parameter: &str| -> Res<f64> {
            let value = match list.split_first() {
                Some((&first, rest)) => {
                    *list = rest;
                    Some(first)
                }
                None => default,
            };
            value.map(f64::from).ok_or_else(|| format!("activation '{name}' has no {parameter}").into())
        };
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Pointwise::Relu.into(),
            "tanh" => Pointwise::Tanh.into(),
            "sigmoid" => Pointwise::Sigmoid.into(),
            "softsign" => Pointwise::Softsign.into(),
            "softplus" => Pointwise::Softplus.into(),
            "leakyrelu" => Pointwise::LeakyRelu { slope: next(alphas, Some(0.01), "alpha")? }.into(),
            "elu" => Pointwise::Elu { alpha: next(alphas, Some(1.0), "alpha")? }.into(),
            "hardsigmoid" => Pointwise::HardSigmoid {
                alpha: next(alphas, Some(0.2), "alpha")?,
                beta: next(betas, Some(0.5), "beta")?,
            }
            .into(),
            "affine" => Self {
                inner: 1.0,
                function: None,
                outer: next(alphas, None, "alpha")?,
                shift: next(betas, None, "beta")?,
                threshold: None,
            },
            "thresholdedrelu" => Self {
                inner: 1.0,
                function: None,
                outer: 1.0,
                shift: 0.0,
                threshold: Some(next(alphas, Some(1.0), "alpha")?),
            },
            "scaledtanh" => Self {
                outer: next(alphas, None, "alpha")?,
                inner: next(betas, None, "beta")?,
                ..Pointwise::Tanh.into()
            },
            _ => return Err(format!("activation '{name}' is not supported (attribute activations)").into()),
        })
    }

    /// Applies the function; the result has the name `name`.
    pub fn apply(self, cx: &mut Context, name: &str, x: &Value) -> Res<Value> {
        if let Some(threshold) = self.threshold {
            let threshold = cx.number(&format!("{name}/threshold"), threshold)?;
            let zero = cx.number(&format!("{name}/zero"), 0.0)?;
            let above = format!("{name}/above");
            let above = cx.apply(&above, Compare::Greater, &[x, &threshold], Elem::Bool)?;
            return cx.apply(name, Where, &[&above, x, &zero], Elem::Float);
        }
        let steps = [
            (self.inner != 1.0).then_some(Step::Binary("inner", Binary::Mul, self.inner)),
            self.function.map(Step::Function),
            (self.outer != 1.0).then_some(Step::Binary("outer", Binary::Mul, self.outer)),
            (self.shift != 0.0).then_some(Step::Binary("shift", Binary::Add, self.shift)),
        ];
        let steps: Vec<Step> = steps.into_iter().flatten().collect();
        let mut value = x.clone();
        for (i, step) in steps.iter().enumerate() {
            let own = if i + 1 == steps.len() { name.to_string() } else { format!("{name}/{i}") };
            value = match *step {
                Step::Function(function) => cx.apply(&own, function, &[&value], Elem::Float)?,
                Step::Binary(part, op, number) => {
                    let number = cx.number(&format!("{name}/{part}"), number)?;
                    cx.apply(&own, op, &[&value, &number], Elem::Float)?
                }
            };
        }
        Ok(value)
    }
}

/// One node of an activation.
#[derive(Clone, Copy)]
enum Step {
    Binary(&'static str, Binary, f64),
    Function(Pointwise),
}

/// The functions of each direction: one for `RNN` (f), two for `GRU` (f, g), three for `LSTM` (f, g, h).
pub(super) fn activations(call: &Call<'_>, directions: usize) -> Res<Vec<Vec<Activation>>> {
    let defaults: &[Pointwise] = match call.op {
        "RNN" => &[Pointwise::Tanh],
        "GRU" => &[Pointwise::Sigmoid, Pointwise::Tanh],
        _ => &[Pointwise::Sigmoid, Pointwise::Tanh, Pointwise::Tanh],
    };
    let names = call.attributes.strings("activations")?;
    if names.is_empty() {
        return Ok(vec![defaults.iter().map(|&f| f.into()).collect(); directions]);
    }
    if names.len() != defaults.len() * directions {
        return Err(format!(
            "activations {names:?} do not fit; expected {} for each direction",
            defaults.len()
        )
        .into());
    }
    let mut alphas = call.attributes.floats("activation_alpha").unwrap_or(&[]);
    let mut betas = call.attributes.floats("activation_beta").unwrap_or(&[]);
    let all = names
        .iter()
        .map(|n| Activation::parse(n, &mut alphas, &mut betas))
        .collect::<Res<Vec<Activation>>>()?;
    Ok(all.chunks(defaults.len()).map(<[Activation]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_go_to_the_functions_that_have_them() {
        let (mut alphas, mut betas): (&[f32], &[f32]) = (&[0.5, 0.25], &[2.0]);
        let mut parse = |name: &str| Activation::parse(name, &mut alphas, &mut betas);
        assert_eq!(parse("Tanh").unwrap(), Pointwise::Tanh.into());
        assert_eq!(parse("LeakyRelu").unwrap(), Pointwise::LeakyRelu { slope: 0.5 }.into());
        let scaled = Activation { inner: 2.0, outer: 0.25, ..Pointwise::Tanh.into() };
        assert_eq!(parse("ScaledTanh").unwrap(), scaled);
        assert_eq!(parse("elu").unwrap(), Pointwise::Elu { alpha: 1.0 }.into());
        assert!(parse("Affine").is_err(), "it has no default");
        assert!(parse("Swish").is_err());
    }
}
