//! Fitting to data before use.

use crate::dataset::Dataset;
use crate::error::Result;
use crate::run::Run;

/// Something whose parameters are fitted to a dataset: the patterns of a method, an imputer, concepts, a network.
///
/// The configuration implements this trait, and the result of fitting is a different type, so that nothing can be
/// used before it is fitted.
///
/// ```
/// use ascribe_core::dataset::{Dataset, InMemory};
/// use ascribe_core::{Device, Error, Fit, Result, Run, Tensor};
/// /// The class that occurs most often; the smallest of them if there are several.
/// # Ok::<(), Error>(())
/// ```
pub trait Fit {
    /// The fitted result.
    type Fitted;

    /// Fits the parameters to the dataset.
    ///
    /// # Errors
    /// If the dataset cannot be read, or lacks what is needed; if the run is cancelled.
    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<Self::Fitted>;
}
