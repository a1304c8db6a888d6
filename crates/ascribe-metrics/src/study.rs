//! What needs more than one case: studies, which train networks.

use ascribe_core::{Boxed, Dataset, Fit, Predictor, Result, Run};

use crate::metric::Measure;
use crate::row::Row;

/// A way to train networks: [`Fit`] whose result is a model. Whatever fits one is one.
pub trait Train<M: Predictor>: Fit<Fitted = M> + Sync {}

impl<M: Predictor, T: Fit<Fitted = M> + Sync> Train<M> for T {}

/// What a study is about.
#[derive(Clone, Copy)]
pub struct StudyCase<'a, M: Predictor> {
    /// The methods that are compared.
    pub methods: &'a [Boxed<M>],
    /// How networks are trained. The same dataset gives the same network.
    pub train: &'a dyn Train<M>,
    /// What they are trained on.
    pub training: &'a dyn Dataset,
    /// The samples that are explained.
    pub data: &'a dyn Dataset,
    /// How to run.
    pub run: &'a Run,
}

/// A configured study of models of type `M`.
///
/// A study has a card and settings as a metric has, and says of each method what a metric would; but it makes its models
/// itself, so that [`crate::Metric::evaluate`], which is about one model, cannot do it.
pub trait Study<M: Predictor>: Measure {
    /// Trains, explains and compares: one row per method and sample, method by method.
    ///
    /// # Errors
    /// If the settings are wrong, a dataset lacks what the study needs, training or a method fails, or the run is cancelled.
    fn conduct(&self, case: &StudyCase<'_, M>) -> Result<Vec<Row>>;
}
