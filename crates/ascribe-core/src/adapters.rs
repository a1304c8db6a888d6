//! Models that are not graphs: closures and candle modules.

use candle_core::{Tensor, Var};
use candle_nn::Module;

use crate::error::{Error, Result};
use crate::inputs::{Inputs, Role};
use crate::model::{Differentiable, Gradient, Predictor};
use crate::outputs::Outputs;
use crate::target::Target;

/// A closure over candle tensors as a black box.
///
/// ```
/// use ascribe_core::{BlackBox, Inputs, Predictor};
/// use candle_core::{DType, Device, Tensor};
/// let model = BlackBox::new(|x: &Tensor| x.sqr());
/// let x = Inputs::single(Tensor::ones((1, 2), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(model.predict(&x)?.primary().dims(), [1, 2]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlackBox<F>(F);

impl<F: Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync> BlackBox<F> {
    /// Wraps a closure from the single input to the output.
    pub fn new(function: F) -> Self {
        Self(function)
    }
}

impl<F: Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync> Predictor for BlackBox<F> {
    fn predict(&self, x: &Inputs) -> Result<Outputs> {
        Outputs::new(vec![("output".into(), (self.0)(only(x)?)?)])
    }
}

/// A `candle_nn::Module`, or a closure over candle tensors, with gradients by candle's autograd.
///
/// Candle cannot differentiate every operation (overlapping pooling, bilinear resizing); where it cannot, the
/// gradient is an error. A [`crate::Graph`] has no such limits.
#[derive(Clone, Debug)]
pub struct Autograd<M>(M);

impl<M: Module + Send + Sync> Autograd<M> {
    /// Wraps a module; closures `Fn(&Tensor) -> candle_core::Result<Tensor>` are modules.
    pub fn new(module: M) -> Self {
        Self(module)
    }
}

impl<M: Module + Send + Sync> Predictor for Autograd<M> {
    fn predict(&self, x: &Inputs) -> Result<Outputs> {
        Outputs::new(vec![("output".into(), self.0.forward(only(x)?)?)])
    }
}

impl<M: Module + Send + Sync> Differentiable for Autograd<M> {
    fn gradient(&self, x: &Inputs, target: &Target, samples: &[usize]) -> Result<Gradient> {
        let input = x
            .iter()
            .find(|i| i.role == Role::Explained)
            .ok_or_else(|| Error::invalid("inputs", "none is explained", "one floating-point input"))?;
        let var = Var::from_tensor(&only(x).map(|_| input.value.detach())?)?;
        let outputs = Outputs::new(vec![("output".into(), self.0.forward(var.as_tensor())?)])?;
        let scores = target.score(&outputs, samples)?;
        let grads = scores.sum_all()?.backward()?;
        // A score that does not depend on the input, and an operation that candle cannot differentiate, look
        // the same here: neither is reported as an attribution of zero.
        let value = grads.get(&var).cloned().ok_or_else(|| {
            Error::invalid(
                "gradient",
                "did not reach the input: the score does not depend on it, or candle cannot differentiate an operation",
                "a module built of differentiable candle operations",
            )
        })?;
        Ok(Gradient { scores: scores.detach(), values: vec![value] })
    }
}

fn only(x: &Inputs) -> Result<&Tensor> {
    let mut all = x.iter();
    match (all.next(), all.next()) {
        (Some(input), None) => Ok(&input.value),
        _ => Err(Error::invalid(
            "inputs",
            format!("{} given", x.len()),
            "one, which closures and modules take",
        )),
    }
}
