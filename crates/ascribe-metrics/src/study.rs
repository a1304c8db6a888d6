//! Studies: evaluations that train networks, and so need more than one case.

use ascribe_core::{Boxed, Dataset, Fit, Predictor, Result, Run};

use crate::metric::Measure;
use crate::row::Row;

/// A way to train networks: any [`Fit`] whose result is a model.
pub trait Train<M: Predictor>: Fit<Fitted = M> + Sync {}

impl<M: Predictor, T: Fit<Fitted = M> + Sync> Train<M> for T {}

/// The inputs of a study.
#[derive(Clone, Copy)]
pub struct StudyCase<'a, M: Predictor> {
    /// The methods that are compared.
    pub methods: &'a [Boxed<M>],
    /// How networks are trained. The same dataset must give the same network.
    pub train: &'a dyn Train<M>,
    /// The dataset that they are trained on.
    pub training: &'a dyn Dataset,
    /// The samples that are explained.
    pub data: &'a dyn Dataset,
    /// How to run.
    pub run: &'a Run,
}

/// A configured study of models of type `M`.
///
/// A study has a card and settings like a metric, and its rows are like those of a metric; but it creates its models
/// itself, which [`crate::Metric::evaluate`], for a single model, cannot do.
pub trait Study<M: Predictor>: Measure {
    /// Trains networks, explains and compares: one row per method and sample, ordered by method.
    ///
    /// # Errors
    /// If the settings are wrong, a dataset lacks what the study needs, training or a method fails, or the run is cancelled.
    fn conduct(&self, case: &StudyCase<'_, M>) -> Result<Vec<Row>>;
}
