//! What takes the place of hidden values, drawn given the values that are kept.
//!
//! A replacement that ignores what is kept asks a model about samples that do not occur where features depend on each
//! other. The fills of this module draw from an estimate of `p(hidden | kept)`, which is fitted on data ([`Fit`](crate::Fit)):
//!
//! | configuration | estimate of the distribution | suits |
//! | --- | --- | --- |
//! | [`Gaussian`] | a normal distribution of all values | values that are about normal |
//! | [`GaussianCopula`] | any marginals, with the dependence of a normal distribution | continuous values of any distribution |
//! | [`Empirical`] | rows of the data, weighted by their distance in what is kept | few kept values, much data |
//! | [`Clustered`] | rows of the data from the same cluster | data that falls into groups |
//! | [`PatchGaussian`] | a normal distribution of a patch of an image | windows of images |
//!
//! All but the last one take the values of all explained inputs as one row of numbers, at most [`LARGEST`] of them; the columns
//! of tables `[N, F]` are what they are made for. A feature of [`Features`](super::Features) may consist of several values.
//! Draws that ignore what is kept are those of [`Baseline::Samples`](crate::Baseline::Samples).
//!
//! The seed is that of the run that fits. A draw depends on the seed, its number, the sample's values and the mask alone: all
//! samples and masks share the random numbers of a draw, so that differences between masks vary less than their scores.

mod cache;
mod clustered;
mod copula;
mod correlated;
mod empirical;
mod gaussian;
mod k_means;
mod patch_gaussian;
mod patches;
mod ranks;
mod table;
#[cfg(test)]
mod testing;
mod weights;

pub use clustered::{Clustered, FittedClustered};
pub use copula::{FittedGaussianCopula, GaussianCopula};
pub use empirical::{Empirical, FittedEmpirical};
pub use gaussian::{FittedGaussian, Gaussian};
pub use patch_gaussian::{FittedPatchGaussian, PatchGaussian};
pub use table::LARGEST;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::{Error, Result};
use crate::random;

/// Number of draws that a score is the mean of, unless configured otherwise.
const DRAWS: usize = 100;

/// Checks that a setting is at least 1.
fn check_count(what: &str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid(what, "is 0", "at least 1"));
    }
    Ok(())
}

/// The standard normal numbers of a draw, one for each variable.
fn normals(seed: u64, draw: usize, count: usize) -> Vec<f64> {
    let stream = random::stream(seed, random::Domain::REMOVAL, draw as u64);
    StandardNormal.sample_iter(stream).take(count).collect()
}

/// The number in [0, 1) of a draw.
fn uniform(seed: u64, draw: usize) -> f64 {
    random::stream(seed, random::Domain::REMOVAL, draw as u64).random()
}
