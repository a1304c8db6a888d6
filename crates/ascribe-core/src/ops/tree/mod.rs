//! Ensembles of decision trees.

mod ensemble;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

pub use self::ensemble::{Aggregate, Branch, Child, Leaf, Split, Tree};
use self::walk::{Flat, Number};
use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// An ensemble of decision trees: input `x [N, F]`, output `[N, outputs]`, where
///
/// ```text
/// y[n, o] = base[o] + Σₜ leafₜ(x[n])[o]        (sum; or the average, minimum or maximum over the trees t)
/// ```
///
/// and `leafₜ(x)` are the values of the leaf that the questions of tree `t` lead to: a random forest, gradient boosting, or a
/// single tree, as in ONNX's `TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble` before their transformation
/// of the scores. Outputs for which the leaf has no value count as 0 in a sum, and are left out of minimum and maximum.
///
/// Thresholds are rounded to the type of the input, in which values are compared and summed up in the order of the trees. The
/// output is piecewise constant and has no gradient.
///
/// ```
/// use ascribe_core::ops::{Aggregate, Branch, Child, Leaf, Split, Tree, TreeEnsemble};
/// let question = Split {
///     feature: 1,
///     branch: Branch::LessOrEqual,
///     threshold: 0.5,
///     members: vec![],
///     missing: false,
///     yes: Child::Leaf(0),
///     no: Child::Leaf(1),
///     hits: None,
/// };
/// let leaf = |value| Leaf { values: vec![(0, value)], hits: None };
/// let tree = Tree { root: Child::Split(0), splits: vec![question], leaves: vec![leaf(-1.0), leaf(2.0)] };
/// let ensemble = TreeEnsemble::new(vec![tree], 1, Aggregate::Sum, vec![])?;
/// assert_eq!(ensemble.features(), 2);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TreeEnsemble {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    trees: Vec<Tree>,
    outputs: usize,
    features: usize,
    aggregate: Aggregate,
    base: Vec<f64>,
    single: OnceLock<Flat<f32>>,
    double: OnceLock<Flat<f64>>,
}

impl TreeEnsemble {
    /// An ensemble with this many outputs. `base` is added to the outputs; empty for zeros.
    ///
    /// # Errors
    /// If there is no tree or no output, a node or leaf does not exist or is reached on two ways (a cycle), a leaf has a value for
    /// an output that does not exist, a threshold or a value is NaN, or `base` has another length.
    pub fn new(trees: Vec<Tree>, outputs: usize, aggregate: Aggregate, base: Vec<f64>) -> Result<Self> {
        let features = ensemble::check(&trees, outputs, &base)?;
        let base = if base.is_empty() { vec![0.0; outputs] } else { base };
        let (single, double) = (OnceLock::new(), OnceLock::new());
        Ok(Self { inner: Arc::new(Inner { trees, outputs, features, aggregate, base, single, double }) })
    }

    /// The trees.
    pub fn trees(&self) -> &[Tree] {
        &self.inner.trees
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.inner.outputs
    }

    /// How many features an input must have at least: one more than the largest that a node asks about.
    pub fn features(&self) -> usize {
        self.inner.features
    }

    /// How the values of the trees become one.
    pub fn aggregate(&self) -> Aggregate {
        self.inner.aggregate
    }

    /// What is added to each output.
    pub fn base(&self) -> &[f64] {
        &self.inner.base
    }

    fn run<T: Number>(&self, x: &Tensor, flat: &Flat<T>) -> Result<Tensor> {
        let (rows, features) = x.dims2()?;
        let values = x.contiguous()?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<T>()?;
        let base: Vec<T> = self.base().iter().map(|&value| T::nearest(value)).collect();
        let y = flat.forward(&values, features, self.aggregate(), &base);
        Ok(Tensor::from_vec(y, (rows, self.outputs()), &Device::Cpu)?.to_device(x.device())?)
    }
}

impl Operator for TreeEnsemble {
    fn name(&self) -> &'static str {
        "TreeEnsemble"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Blocking
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        match x {
            [rows, features] if *features >= self.features().max(1) => Ok(vec![*rows, self.outputs()]),
            _ => {
                let expected =
                    format!("[N, F] with at least the {} features of the trees", self.features().max(1));
                Err(Error::invalid("input", format!("has shape {x:?}"), expected))
            }
        }
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        match x.dtype() {
            DType::F32 => self.run(x, self.inner.single.get_or_init(|| Flat::new(self.trees()))),
            DType::F64 => self.run(x, self.inner.double.get_or_init(|| Flat::new(self.trees()))),
            other => Err(Error::invalid("input", format!("holds {other:?}"), "f32 or f64")),
        }
    }

    fn vjp(&self, _: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![None])
    }
}
