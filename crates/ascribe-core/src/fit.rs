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
/// struct Majority;
/// impl Fit for Majority {
///     type Fitted = usize;
///     fn fit(&self, data: &dyn Dataset, _: &Run) -> Result<usize> {
///         let mut counts = std::collections::BTreeMap::new();
///         for sample in data.samples() {
///             if let Some(label) = sample?.label {
///                 *counts.entry(label).or_insert(0) += 1;
///             }
///         }
///         let most = counts.iter().max_by_key(|(class, count)| (**count, std::cmp::Reverse(**class)));
///         let none = || Error::invalid("dataset", "has no labels", "at least one");
///         most.map(|(class, _)| *class).ok_or_else(none)
///     }
/// }
/// let x = Tensor::new(&[[1_f32], [2.0], [3.0]], &Device::Cpu)?;
/// assert_eq!(Majority.fit(&InMemory::labelled(&x, &[4, 2, 2])?, &Run::new())?, 2);
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
