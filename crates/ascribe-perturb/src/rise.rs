//! RISE: Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models".
//!
//! Averages random masks `M_i`, weighted by the score of the masked input (eq. 6):
//!
//! `A = 1 / (n · p) Σ_i S(x ⊙ M_i) M_i`
//!
//! A mask (§3.2) is a grid of s × s cells, each kept with probability p, enlarged bilinearly to
//! (s + 1)⌈H/s⌉ × (s + 1)⌈W/s⌉ and cropped to H × W at a random offset below one cell. The paper scores with class
//! probabilities: [`ascribe_core::Target::Probability`] is meant, which the catalogue and the command line pick unless told otherwise.
//! A logit is seldom near zero, so that its map is dominated by the mean of the masks and looks nearly uniform.
//!
//! Cost: n evaluations, and one for S(x).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ascribe_core::ops::{Backend, Binary, Operator};
use ascribe_core::{
    Baseline, Card, Configured, Cost, DType, Device, Domain, Error, Explainer, Found, Inputs, Predictor,
    Result, Score, Task, Tensor, random, sweep,
};
use derive_setters::Setters;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Configuration of RISE. The attribution is `[N, 1, H, W]`: one map for all channels.
///
/// ```
/// use ascribe_core::{BlackBox, DType, Device, Explainer, Inputs, Run, Target, Tensor};
/// use ascribe_perturb::Rise;
/// // A model that sees the left half only.
/// let model = BlackBox::new(|x: &Tensor| x.narrow(3, 0, 4)?.mean((1, 2, 3))?.unsqueeze(1));
/// let x = Inputs::single(Tensor::ones((1, 1, 8, 8), DType::F32, &Device::Cpu)?)?;
/// let found = Rise::new(500).cells(4).explain(&model, &x, &Target::Class(0), &Run::new().seed(1))?;
/// let half = |start| found.values().narrow(3, start, 4)?.mean_all()?.to_scalar::<f32>();
/// assert!(half(0)? > half(4)?);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct Rise {
    /// Number of masks n.
    pub masks: usize,
    /// Cells s along each side of the grid.
    pub cells: usize,
    /// Probability p that a cell is kept.
    pub probability: f64,
    /// What shows where a mask is 0.
    pub baseline: Baseline,
    /// Masks `[n, H, W]` to use instead of random ones.
    #[serde(skip)]
    #[setters(skip)]
    pub given: Option<Tensor>,
}

impl Default for Rise {
    /// The paper's setting for ResNet-50: 8000 masks of 7 × 7 cells, p = ½.
    fn default() -> Self {
        Self { masks: 8000, cells: 7, probability: 0.5, baseline: Baseline::Zero, given: None }
    }
}

impl Rise {
    /// The paper's setting with another number of masks.
    pub fn new(masks: usize) -> Self {
        Self { masks, ..Self::default() }
    }

    /// Uses these masks `[n, H, W]` instead of random ones.
    ///
    /// # Errors
    /// If they do not have three axes.
    pub fn with_masks(self, masks: Tensor) -> Result<Self> {
        let (count, _, _) = masks
            .dims3()
            .map_err(|_| Error::invalid("masks", format!("have shape {:?}", masks.dims()), "[n, H, W]"))?;
        Ok(Self { masks: count, given: Some(masks), ..self })
    }

    /// Mask number `index` for an image of this size, row by row.
    fn mask(&self, index: usize, [height, width]: [usize; 2], seed: u64) -> Result<Vec<f64>> {
        if let Some(given) = &self.given {
            let mask = given.narrow(0, index, 1)?.squeeze(0)?.to_dtype(DType::F64)?;
            if mask.dims() != [height, width] {
                let problem = format!("have shape {:?}", mask.dims());
                return Err(Error::invalid("masks", problem, format!("[{height}, {width}], as the input")));
            }
            return Ok(mask.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?);
        }
        let mut rng = random::stream(seed, random::Domain::MASKS, index as u64);
        let s = self.cells;
        let grid: Vec<f64> =
            (0..s * s).map(|_| f64::from(u8::from(rng.random::<f64>() < self.probability))).collect();
        let taps = |side: usize, offset: usize| -> Vec<(usize, usize, f64)> {
            let cell = side.div_ceil(s);
            let scale = s as f64 / ((s + 1) * cell) as f64;
            (0..side)
                .map(|i| {
                    let at = (((i + offset) as f64 + 0.5) * scale - 0.5).clamp(0.0, (s - 1) as f64);
                    let low = at.floor() as usize;
                    (low, (low + 1).min(s - 1), at - low as f64)
                })
                .collect()
        };
        let rows = taps(height, rng.random_range(0..height.div_ceil(s)));
        let cols = taps(width, rng.random_range(0..width.div_ceil(s)));
        let mut mask = Vec::with_capacity(height * width);
        for &(top, bottom, down) in &rows {
            for &(left, right, along) in &cols {
                let mix = |row: usize| grid[row * s + left] * (1.0 - along) + grid[row * s + right] * along;
                mask.push(mix(top) * (1.0 - down) + mix(bottom) * down);
            }
        }
        Ok(mask)
    }
}

/// The single explained input, which must be an image batch: samples, height and width.
fn image(x: &Inputs) -> Result<(usize, [usize; 2])> {
    let explained: Vec<_> = x.explained().collect();
    match explained.as_slice() {
        [one] => match *one.value.dims() {
            [n, _, h, w] => Ok((n, [h, w])),
            _ => Err(Error::invalid(
                "input",
                format!("has shape {:?}", one.value.dims()),
                "images [N, C, H, W]",
            )),
        },
        _ => {
            Err(Error::invalid("inputs", format!("{} are explained", explained.len()), "one batch of images"))
        }
    }
}

impl Configured for Rise {
    const CARD: Card = Card {
        id: "rise",
        name: "RISE",
        also: &["randomized input sampling"],
        summary: "mean of random masks, weighted by the score of the masked input",
        paper: "Petsiuk, Das & Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models",
        year: 2018,
        score: Score::Probability,
        relative: true,
        domain: Domain::Image,
        networks: &["ResNet-50", "VGG-16"],
        ..Card::perturbation().with_baseline()
    };

    fn cost(&self, x: &Inputs) -> Cost {
        Cost { forward: x.batch().unwrap_or(0).saturating_mul(self.masks.saturating_add(1)), backward: 0 }
    }

    fn check(&self) -> Result<()> {
        if self.masks == 0 || self.cells == 0 {
            let problem = format!("{} masks of {} cells", self.masks, self.cells);
            return Err(Error::invalid("rise", problem, "at least 1 of each"));
        }
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            return Err(Error::invalid("probability", self.probability.to_string(), "above 0 and at most 1"));
        }
        match self.baseline.count()? {
            1 => Ok(()),
            n => Err(Error::invalid("baseline", format!("is a distribution of {n}"), "a single reference")),
        }
    }
}

impl<M: Predictor + ?Sized> Explainer<M> for Rise {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let x = task.x;
        let (batch, size) = image(x)?;
        if self.given.is_none() && self.cells > size[0].max(size[1]) {
            return Err(Error::invalid(
                "cells",
                self.cells.to_string(),
                format!("at most one per pixel of an input of {} × {}", size[0], size[1]),
            ));
        }
        let area = size[0] * size[1];
        let seed = task.run.get_seed();
        let references: Result<Vec<Tensor>> =
            x.explained().map(|i| self.baseline.reference(&i.value, 0, seed)).collect();
        let references = references?;
        // Sums of S·M and of (S·M)², for the mean and its standard error.
        let mut sums = vec![[0.0_f64; 2]; batch * area];
        // Masks from their making until the scores of what they left are known.
        let pending = Mutex::new(HashMap::new());
        sweep::scores(
            task,
            &sweep::every(&task.samples()?, self.masks),
            |point, inputs| {
                let mask = self.mask(point.index, size, seed)?;
                let values = Tensor::from_slice(&mask, (1, 1, size[0], size[1]), &Device::Cpu)?;
                pending.lock().unwrap_or_else(PoisonError::into_inner).insert(point, mask);
                let masked = |x: &Tensor, values: &Tensor| Binary::Mul.forward(&[x, values], Backend::Auto);
                inputs
                    .iter()
                    .zip(&references)
                    .map(|(x, reference)| {
                        let values = values.to_dtype(x.dtype())?.to_device(x.device())?;
                        if matches!(self.baseline, Baseline::Zero) {
                            return masked(x, &values);
                        }
                        let reference = reference.narrow(0, point.sample, 1)?;
                        Ok((&reference + masked(&(x - &reference)?, &values)?)?)
                    })
                    .collect()
            },
            |point, score| {
                let made = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&point);
                let mask = made.ok_or_else(|| {
                    Error::invalid(
                        "mask",
                        format!("{} was not shown", point.index),
                        "scores of rows that were",
                    )
                })?;
                let sums = &mut sums[point.sample * area..][..area];
                sums.par_iter_mut().zip(&mask).with_min_len(4096).for_each(|(sum, m)| {
                    let term = score * m / self.probability;
                    sum[0] += term;
                    sum[1] += term * term;
                });
                Ok(())
            },
        )?;
        let n = self.masks as f64;
        let (mut means, mut errors) = (Vec::with_capacity(sums.len()), Vec::with_capacity(sums.len()));
        for [sum, squares] in sums {
            let mean = sum / n;
            means.push(mean);
            errors.push(((squares / n - mean * mean).max(0.0) / (n - 1.0).max(1.0)).sqrt());
        }
        let (dtype, device) =
            references.first().map_or((DType::F32, Device::Cpu), |r| (r.dtype(), r.device().clone()));
        let map = |values: Vec<f64>| -> Result<Vec<Tensor>> {
            let map = Tensor::from_vec(values, (batch, 1, size[0], size[1]), &device)?;
            Ok(vec![map.to_dtype(dtype)?])
        };
        Ok(Found { values: map(means)?, spread: Some(map(errors)?), ..Found::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ascribe_core::{BlackBox, Run, Target};

    #[test]
    fn masks_lie_between_0_and_1_and_keep_p_on_average() {
        let rise = Rise::new(400).cells(4).probability(0.3);
        let mut sum = 0.0;
        for i in 0..400 {
            let mask = rise.mask(i, [13, 17], 7).unwrap();
            assert!(mask.iter().all(|m| (0.0..=1.0).contains(m)));
            sum += mask.iter().sum::<f64>() / mask.len() as f64;
        }
        assert!((sum / 400.0 - 0.3).abs() < 0.02, "{}", sum / 400.0);
    }

    #[test]
    fn masks_depend_on_seed_and_number_alone() {
        let rise = Rise::new(3);
        assert_eq!(rise.mask(2, [9, 9], 1).unwrap(), Rise::new(99).mask(2, [9, 9], 1).unwrap());
        assert_ne!(rise.mask(2, [9, 9], 1).unwrap(), rise.mask(2, [9, 9], 2).unwrap());
    }

    #[test]
    fn the_pixel_that_matters_stands_out() {
        let model = BlackBox::new(|x: &Tensor| x.narrow(2, 6, 1)?.narrow(3, 2, 1)?.flatten_from(1));
        let x = Inputs::single(Tensor::ones((1, 1, 8, 8), DType::F64, &Device::Cpu).unwrap()).unwrap();
        let found = Rise::new(500).cells(4).explain(&model, &x, &Target::Class(0), &Run::new()).unwrap();
        let values = found.values().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert!((best / 8).abs_diff(6) <= 1 && (best % 8).abs_diff(2) <= 1, "maximum at {best}");
        assert!(found.parts[0].spread.is_some());
    }

    #[test]
    fn wrong_settings_are_named() {
        for (rise, word) in [(Rise::new(0), "masks"), (Rise::new(1).probability(0.0), "probability")] {
            assert!(rise.check().unwrap_err().to_string().contains(word));
        }
    }
}
