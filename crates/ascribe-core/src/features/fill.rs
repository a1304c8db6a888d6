//! What takes the place of what is hidden.

use std::fmt::Debug;

use candle_core::Tensor;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::cover::Features;
use super::mask::Mask;
use super::neighbours::NoisyNeighbours;
use crate::baseline::Baseline;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::random;

/// What is known when a part of a sample is to be replaced.
#[derive(Clone, Copy, Debug)]
pub struct Hidden<'a> {
    /// Position of the sample in the batch.
    pub sample: usize,
    /// Number of the draw.
    pub draw: usize,
    /// The sample's explained inputs, with a first axis of length 1.
    pub x: &'a [Tensor],
    /// What of it is hidden.
    pub mask: &'a Mask,
    /// The features that the mask speaks of.
    pub features: &'a Features,
}

impl Hidden<'_> {
    /// For each value of each explained input, whether it is hidden.
    ///
    /// # Errors
    /// If the mask is soft.
    pub fn positions(&self) -> Result<Vec<Vec<bool>>> {
        let (listed, otherwise) = match self.mask {
            Mask::Without(features) => (features, false),
            Mask::With(features) => (features, true),
            Mask::Soft(_) => {
                return Err(Error::invalid(
                    "mask",
                    "hides values in part",
                    "one that hides or keeps features",
                ));
            }
        };
        let mut all: Vec<Vec<bool>> = self.x.iter().map(|x| vec![otherwise; x.elem_count()]).collect();
        for run in listed.iter().flat_map(|&feature| self.features.runs(self.sample, feature)) {
            all[run.input][run.start..run.start + run.len].fill(!otherwise);
        }
        Ok(all)
    }
}

/// What takes the place of what a mask hides: values given beforehand, or drawn given what is kept.
///
/// One that has to learn from data first is made by its own fitting.
pub trait Fill: Debug + Send + Sync {
    /// Number of draws that a score is the mean of.
    fn draws(&self) -> usize {
        1
    }

    /// Values for one draw, one tensor per explained input, shaped like it; only those that the mask hides count.
    ///
    /// # Errors
    /// If the values cannot be found.
    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>>;

    /// Whether all values are zero.
    fn is_zero(&self) -> bool {
        false
    }
}

/// What takes the place of hidden values, as a setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Removal {
    /// A reference. The rows of a distribution ([`Baseline::Samples`]) are drawn in their order, and scores are means over
    /// them: what is hidden is marginalised, independently of what is kept.
    Baseline(Baseline),
    /// The values of other samples of the batch: all samples are permuted, and what is hidden comes from the sample at the
    /// same place of the permutation (Breiman 2001; Fisher, Rudin & Dominici 2019).
    Permutation {
        /// Number of permutations that a score is the mean of.
        draws: usize,
    },
    /// Noisy linear imputation of pixels from their neighbours: [`NoisyNeighbours`].
    NoisyNeighbours {
        /// Standard deviation σ of the noise.
        std: f64,
        /// Number of draws that a score is the mean of.
        draws: usize,
    },
}

impl Default for Removal {
    fn default() -> Self {
        Self::Baseline(Baseline::Zero)
    }
}

impl Removal {
    /// Prepares the replacement of hidden values in `x`; what is random is drawn from `seed`.
    ///
    /// # Errors
    /// If the setting does not fit the inputs.
    pub fn prepare(&self, x: &Inputs, seed: u64) -> Result<Box<dyn Fill>> {
        Ok(match self {
            Self::Baseline(baseline) => Box::new(References::new(baseline, x, seed)?),
            Self::Permutation { draws } => Box::new(Permuted::new(x, *draws, seed)?),
            Self::NoisyNeighbours { std, draws } => Box::new(NoisyNeighbours::new(*std, *draws, seed)?),
        })
    }
}

/// References of a batch.
#[derive(Clone, Debug)]
pub struct References {
    /// Of each draw, of each explained input: one row per sample.
    values: Vec<Vec<Tensor>>,
    zero: bool,
}

impl References {
    /// The references that a baseline has for these inputs: one draw, or one for each row of a distribution.
    ///
    /// # Errors
    /// If the baseline does not fit an input.
    pub fn new(baseline: &Baseline, x: &Inputs, seed: u64) -> Result<Self> {
        let draw = |number: usize| -> Result<Vec<Tensor>> {
            x.explained().map(|input| baseline.reference(&input.value, number, seed)).collect()
        };
        let values: Result<Vec<Vec<Tensor>>> = (0..baseline.count()?).map(draw).collect();
        Ok(Self { values: values?, zero: matches!(baseline, Baseline::Zero) })
    }
}

impl Fill for References {
    fn draws(&self) -> usize {
        self.values.len()
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        self.values[hidden.draw].iter().map(|of_input| Ok(of_input.narrow(0, hidden.sample, 1)?)).collect()
    }

    fn is_zero(&self) -> bool {
        self.zero
    }
}

/// Values of other samples of the batch.
#[derive(Clone, Debug)]
pub struct Permuted {
    /// The explained inputs of the batch.
    values: Vec<Tensor>,
    /// Of each draw, the sample that takes the place of each.
    permutations: Vec<Vec<usize>>,
}

impl Permuted {
    /// `draws` random permutations of the samples of `x`, the same for all features.
    ///
    /// # Errors
    /// If there are no draws, or a single sample.
    pub fn new(x: &Inputs, draws: usize, seed: u64) -> Result<Self> {
        let batch = x.batch()?;
        if draws == 0 || batch < 2 {
            let problem = format!("{draws} draws of {batch} samples");
            return Err(Error::invalid("permutation", problem, "at least 1 draw of 2 samples"));
        }
        let permutation = |draw: usize| {
            let mut samples: Vec<usize> = (0..batch).collect();
            samples.shuffle(&mut random::stream(seed, random::Domain::REMOVAL, draw as u64));
            samples
        };
        Ok(Self {
            values: x.explained().map(|input| input.value.clone()).collect(),
            permutations: (0..draws).map(permutation).collect(),
        })
    }
}

impl Fill for Permuted {
    fn draws(&self) -> usize {
        self.permutations.len()
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let from = self.permutations[hidden.draw][hidden.sample];
        self.values.iter().map(|of_input| Ok(of_input.narrow(0, from, 1)?)).collect()
    }
}
