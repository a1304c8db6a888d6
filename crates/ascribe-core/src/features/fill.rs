//! Replacement values for hidden features.

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

/// What a fill is given when a part of a sample is to be replaced.
#[derive(Clone, Copy, Debug)]
pub struct Hidden<'a> {
    /// Position of the sample in the batch.
    pub sample: usize,
    /// Index of the variation: that of the point that the mask was made for.
    pub number: usize,
    /// Index of the draw.
    pub draw: usize,
    /// The sample's explained inputs, with a first axis of length 1.
    pub x: &'a [Tensor],
    /// The mask that says what is hidden.
    pub mask: &'a Mask,
    /// The features that the mask refers to.
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

/// Replaces what a mask hides, by fixed values or by values drawn conditionally on what is kept.
///
/// A fill that has to be fitted to data first is the result of fitting ([`crate::Fit`]).
pub trait Fill: Debug + Send + Sync {
    /// Number of draws over which a score is averaged.
    fn draws(&self) -> usize {
        1
    }

    /// The values for one draw, one tensor per explained input, shaped like it; only the values where the mask hides
    /// are used.
    ///
    /// # Errors
    /// If the values cannot be computed.
    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>>;

    /// Whether all values are zero.
    fn is_zero(&self) -> bool {
        false
    }
}

/// The replacement of hidden values, as a setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Removal {
    /// A reference. If it is a distribution ([`Baseline::Samples`]), its rows are used in order and scores are means
    /// over them: hidden features are marginalised independently of those that are kept.
    Baseline(Baseline),
    /// The values of other samples of the batch: the samples are permuted, and each takes its hidden values from the
    /// sample at the same place of the permutation (Breiman 2001; Fisher, Rudin & Dominici 2019).
    Permutation {
        /// Number of permutations over which a score is averaged.
        draws: usize,
    },
    /// Noisy linear imputation of pixels from their neighbours: see [`NoisyNeighbours`].
    NoisyNeighbours {
        /// Standard deviation σ of the noise.
        std: f64,
        /// Number of draws over which a score is averaged.
        draws: usize,
    },
}

impl Default for Removal {
    fn default() -> Self {
        Self::Baseline(Baseline::Zero)
    }
}

impl Removal {
    /// Prepares the replacement of hidden values in `x`; random values are drawn from `seed`.
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

/// The references of a batch.
#[derive(Clone, Debug)]
pub struct References {
    baseline: Baseline,
    /// One row per sample for each explained input; `None` for a distribution, whose rows do not depend on the sample.
    values: Option<Vec<Tensor>>,
    draws: usize,
    seed: u64,
}

impl References {
    /// The references that a baseline gives for these inputs: one draw, or one for each row of a distribution.
    ///
    /// # Errors
    /// If the baseline does not fit an input.
    pub fn new(baseline: &Baseline, x: &Inputs, seed: u64) -> Result<Self> {
        let draws = baseline.count()?;
        let distribution = matches!(baseline, Baseline::Samples(_));
        let mut values = Vec::new();
        for input in x.explained() {
            let rows = if distribution { input.value.narrow(0, 0, 1)? } else { input.value.clone() };
            values.push(baseline.reference(&rows, 0, seed)?);
        }
        Ok(Self { baseline: baseline.clone(), values: (!distribution).then_some(values), draws, seed })
    }
}

impl Fill for References {
    fn draws(&self) -> usize {
        self.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        match &self.values {
            Some(values) => values.iter().map(|of_input| Ok(of_input.narrow(0, hidden.sample, 1)?)).collect(),
            None => hidden.x.iter().map(|x| self.baseline.reference(x, hidden.draw, self.seed)).collect(),
        }
    }

    fn is_zero(&self) -> bool {
        matches!(self.baseline, Baseline::Zero)
    }
}

/// Values of other samples of the batch.
#[derive(Clone, Debug)]
pub struct Permuted {
    /// The explained inputs of the batch.
    values: Vec<Tensor>,
    /// For each draw, the sample that replaces each sample.
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
            return Err(Error::invalid("permutation", problem, "at least 1 draw and 2 samples"));
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
        let permutation = &self.permutations[hidden.draw];
        let from = permutation.get(hidden.sample).copied().ok_or_else(|| {
            let problem = format!("of {} samples has none for sample {}", permutation.len(), hidden.sample);
            Error::invalid("permutation", problem, "a permutation of the same batch")
        })?;
        self.values.iter().map(|of_input| Ok(of_input.narrow(0, from, 1)?)).collect()
    }
}
