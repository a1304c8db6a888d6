//! RISE: Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models".
//!
//! Averages random masks `M_i`, weighted by the score of the masked input (eq. 6):
//!
//! `A = 1 / (n · p) Σ_i S(x ⊙ M_i) M_i`
//!
//! The masks (§3.2) are [`GridMasks`]. The paper uses class probabilities as scores: use
//! [`ascribe_core::Target::Probability`], which is the default of the catalogue and the command line. A logit is
//! seldom near zero, so its map is dominated by the mean of the masks and looks nearly uniform.
//!
//! Cost: n evaluations, and one for S(x).

use ascribe_core::features::{Features, GridMasks, Mask, References};
use ascribe_core::{
    Baseline, Card, Configured, Cost, Domain, Error, Explainer, Found, Inputs, Moments, Predictor, Result,
    Score, Task, Tensor, config, sweep,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Configuration of RISE. The attribution is `[N, 1, H, W]`: one map for all channels; `[N, 1, T]` for time series,
/// `[N, 1, D, H, W]` for volumes, `[N, F]` for tables.
///
/// ```
/// use ascribe_core::{BlackBox, DType, Device, Explainer, Inputs, Run, Target, Tensor};
/// use ascribe_perturb::Rise;
/// // A model that depends only on the left half.
/// let model = BlackBox::new(|x: &Tensor| x.narrow(3, 0, 4)?.mean((1, 2, 3))?.unsqueeze(1));
/// let x = Inputs::single(Tensor::ones((1, 1, 8, 8), DType::F32, &Device::Cpu)?)?;
/// let found = Rise::default().masks(500).cells(4).explain(&model, &x, &Target::Class(0), &Run::new().seed(1))?;
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
    /// The replacement of the input where a mask is 0.
    pub baseline: Baseline,
    /// Masks `[n, H, W]` (in general `[n, positions…]`) to use instead of random ones.
    #[serde(serialize_with = "config::optional_shape", deserialize_with = "config::optional_tensor")]
    #[setters(strip_option)]
    pub given: Option<Tensor>,
}

impl Default for Rise {
    /// The paper's settings for ResNet-50: 8000 masks of 7 × 7 cells, p = ½.
    fn default() -> Self {
        Self { masks: 8000, cells: 7, probability: 0.5, baseline: Baseline::Zero, given: None }
    }
}

impl Rise {
    /// The paper's settings with these masks `[n, H, W]` instead of random ones.
    pub fn with_masks(masks: Tensor) -> Self {
        Self { given: Some(masks), ..Self::default() }
    }

    /// Number of masks n.
    fn count(&self) -> usize {
        self.given.as_ref().map_or(self.masks, |given| given.dims().first().copied().unwrap_or(0))
    }

    fn grid(&self) -> GridMasks {
        GridMasks { cells: self.cells, probability: self.probability }
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
        Cost { forward: x.batch().unwrap_or(0).saturating_mul(self.count().saturating_add(1)), backward: 0 }
    }

    fn check(&self) -> Result<()> {
        if self.count() == 0 {
            return Err(Error::invalid("rise", "0 masks", "at least 1"));
        }
        self.grid().check()?;
        self.baseline.check_single()
    }
}

impl<M: Predictor + ?Sized> Explainer<M> for Rise {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let ((inputs, sides), seed) = (task.positions()?, task.run.get_seed());
        // A table has no axis of channels.
        let fits = |mask: Tensor| if inputs.rank() == 2 { mask.squeeze(1) } else { Ok(mask) };
        let fill = References::new(&self.baseline, task.x, seed)?;
        let points = sweep::every(&task.samples()?, self.count());
        let mut moments = vec![Moments::default(); inputs.dim(0)?];
        let mask = |point: sweep::Point| match &self.given {
            Some(given) => match Mask::row(given, point.index, &sides)? {
                Mask::Soft(rows) => Ok(Mask::Soft(rows.into_iter().map(fits).collect::<Result<_, _>>()?)),
                other => Ok(other),
            },
            None => Ok(Mask::Soft(vec![fits(self.grid().draw(point.index, &sides, seed)?)?])),
        };
        task.masked(&Features::positions(task.x)?, &fill, &points, mask, |point, mask, score| {
            let Mask::Soft(masks) = mask else { return Ok(()) };
            moments[point.sample].push(&(&masks[0] * (score[0] / self.probability))?)
        })?;
        Found::means(&moments, inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ascribe_core::{BlackBox, DType, Device, Run, Target};

    #[test]
    fn the_pixel_that_matters_stands_out() {
        let model = BlackBox::new(|x: &Tensor| x.narrow(2, 6, 1)?.narrow(3, 2, 1)?.flatten_from(1));
        let x = Inputs::single(Tensor::ones((1, 1, 8, 8), DType::F64, &Device::Cpu).unwrap()).unwrap();
        let found =
            Rise::default().masks(500).cells(4).explain(&model, &x, &Target::Class(0), &Run::new()).unwrap();
        let values = found.values().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert!((best / 8).abs_diff(6) <= 1 && (best % 8).abs_diff(2) <= 1, "maximum at {best}");
        assert!(found.parts[0].spread.is_some());
    }

    #[test]
    fn wrong_settings_are_named() {
        for (rise, word) in
            [(Rise::default().masks(0), "masks"), (Rise::default().masks(1).probability(0.0), "probability")]
        {
            assert!(rise.check().unwrap_err().to_string().contains(word));
        }
    }
}
