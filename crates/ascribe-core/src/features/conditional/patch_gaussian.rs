//! Hidden windows of images from a normal distribution of their surroundings.

use candle_core::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::correlated::{Correlated, Scales};
use super::patches::{Sums, explained, image, offsets};
use super::table::{LARGEST, check_kept};
use super::{check_count, normals};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::features::{Fill, Hidden, Mask};
use crate::fit::Fit;
use crate::inputs::check_finite;
use crate::run::Run;
use crate::variations::Rectangle;
use crate::{random, values};

/// Draws of a hidden window of an image from a normal distribution of the patch around it (Zintgraf, Cohen, Adel & Welling 2017,
/// "Visualizing Deep Neural Network Decisions: Prediction Difference Analysis", §3.1, eq. 4, for windows of k × k pixels as in
/// §3.2, and §4 for the normal distribution).
///
/// Pixels depend mostly on those close to them, and on where these lie relative to them rather than in the image. So
/// `p(window | rest of the image) ≈ p(window | rest of the patch)` for a patch of l × l pixels, l > k, that contains the window,
/// and all patches, with all their channels, have one normal distribution, whose mean and covariance are those of random patches
/// of the data's images. The window given the rest of the patch is then normal as for [`Gaussian`](super::Gaussian), where
/// singular correlations are described, too.
///
/// The window lies in the middle of the patch (for an odd margin, one pixel more lies below and to the right); close to the border
/// the patch is moved into the image. Values are not limited to the range of the data. The authors' program differs in taking
/// channels as independent of each other, and in cutting values to the range of the data.
///
/// It serves images `[N, C, H, W]` as the only explained input, with sides of at least l, and masks that hide features within a
/// square of at most l − 1 pixels ([`Mask::Without`]), such as the windows of occlusion. Images of the data may differ in size.
///
/// Cost: for m patches of p = l² C values, O(m p²) to fit; O(p³) for each place of a window within its patch, and O(p²) for each
/// draw.
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::features::conditional::PatchGaussian;
/// use ascribe_core::features::{Features, Fill, Hidden, Mask};
/// use ascribe_core::{Device, Fit, Inputs, Run, Tensor};
/// let images = Tensor::rand(0_f64, 1.0, (20, 1, 8, 8), &Device::Cpu)?;
/// let data = InMemory::labelled(&images, &[0; 20])?;
/// let fill = PatchGaussian { patch: 4, patches: 400, draws: 5 }.fit(&data, &Run::new())?;
/// let x = images.narrow(0, 0, 1)?;
/// let features = Features::windows(&Inputs::single(x.clone())?, &[2], &[2])?;
/// let mask = Mask::Without(vec![3]);
/// let hidden = Hidden { sample: 0, number: 0, draw: 0, x: &[x], mask: &mask, features: &features };
/// assert_eq!(fill.fill(&hidden)?[0].dims(), [1, 1, 8, 8]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatchGaussian {
    /// Side l of the patches in pixels: more than that of the windows to be hidden, and l² times the number of channels at most
    /// [`LARGEST`].
    pub patch: usize,
    /// Number of patches that the distribution is estimated from, in equal parts from all images: more than a patch has values.
    pub patches: usize,
    /// Number of draws that a score is the mean of.
    pub draws: usize,
}

impl Default for PatchGaussian {
    /// The paper's 10 draws; patches of 14 × 14 for windows of 10 × 10, and 20 000 of them, as the authors' program has it.
    fn default() -> Self {
        Self { patch: 14, patches: 20_000, draws: 10 }
    }
}

/// A normal distribution of patches of images.
#[derive(Debug)]
pub struct FittedPatchGaussian {
    patch: usize,
    channels: usize,
    scales: Scales,
    correlated: Correlated,
    draws: usize,
    seed: u64,
}

/// Streams of the places of patches: one for each image.
const PATCHES: random::Domain = random::Domain::new("patches");

impl FittedPatchGaussian {
    /// What correlations were reduced by because those of the data are singular, as a share of them: 10⁻⁶, or 0.
    pub fn shrinkage(&self) -> f64 {
        self.correlated.shrinkage()
    }

    /// Where the patch around a window starts along an axis.
    fn start(&self, window: Rectangle, axis: usize, side: usize) -> usize {
        let margin = (self.patch - window.size[axis]) / 2;
        window.start[axis].saturating_sub(margin).min(side - self.patch)
    }

    /// The rectangle that a mask hides; `None` if it hides nothing.
    fn window(&self, hidden: &Hidden<'_>) -> Result<Option<Rectangle>> {
        let expected = || {
            format!("a mask that hides features within a square of at most {0} × {0} pixels", self.patch - 1)
        };
        let features = match hidden.mask {
            Mask::Without(features) => features,
            Mask::With(_) => return Err(Error::invalid("mask", "hides all but some features", expected())),
            Mask::Soft(_) => return Err(Error::invalid("mask", "hides values in part", expected())),
        };
        let window = hidden.features.bounds(hidden.sample, features);
        match window {
            Some(Rectangle { size: [height, width], .. }) if height.max(width) >= self.patch => {
                Err(Error::invalid("mask", format!("hides {height} × {width} pixels"), expected()))
            }
            window => Ok(window),
        }
    }
}

impl Fit for PatchGaussian {
    type Fitted = FittedPatchGaussian;

    /// # Errors
    /// If a setting is out of range; if the dataset is empty, or has samples that are no single image, are smaller than a patch,
    /// differ in their number of channels or are not finite; the dataset's own; if the run is cancelled.
    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<FittedPatchGaussian> {
        check_count("draws", self.draws)?;
        if self.patch < 2 {
            return Err(Error::invalid(
                "patch",
                format!("is {}", self.patch),
                "at least 2, more than the side of a window",
            ));
        }
        if data.is_empty() {
            return Err(Error::invalid("dataset", "has no samples", "at least one image"));
        }
        let first = data.sample(0)?.inputs;
        let (first, sides) = image("sample 0 of the dataset", explained(&first), self.patch)?;
        let channels = sides[0];
        let count = self.patch.saturating_mul(self.patch).saturating_mul(channels);
        if count > LARGEST {
            let problem = format!("is {}: a patch has {count} values", self.patch);
            return Err(Error::invalid("patch", problem, format!("one with at most {LARGEST} values")));
        }
        if self.patches <= count {
            let problem = format!("are {} for {count} values of a patch", self.patches);
            return Err(Error::invalid("patches", problem, "more than a patch has values"));
        }
        let origin = values::numbers(first)?;
        let mut sums =
            Sums::new(offsets(self.patch, sides, [0, 0]).into_iter().map(|at| origin[at]).collect());
        let images = data.len().min(self.patches);
        for number in 0..images {
            run.step(number, images)?;
            let what = format!("sample {number} of the dataset");
            let inputs = data.sample(number)?.inputs;
            let (x, sides) = image(&what, explained(&inputs), self.patch)?;
            if sides[0] != channels {
                return Err(Error::invalid(
                    what,
                    format!("has {} channels", sides[0]),
                    format!("{channels}, as sample 0"),
                ));
            }
            check_finite(&what, x)?;
            let pixels = values::numbers(x)?;
            let mut rng = random::stream(run.get_seed(), PATCHES, number as u64);
            for _ in 0..self.patches / images + usize::from(number < self.patches % images) {
                let place = [sides[1], sides[2]].map(|side| rng.random_range(0..=side - self.patch));
                sums.push(offsets(self.patch, sides, place).into_iter().map(|at| pixels[at]));
            }
        }
        run.step(images, images)?;
        let (scales, correlation) = sums.finish();
        let correlated = Correlated::new(correlation)?;
        let (patch, draws, seed) = (self.patch, self.draws, run.get_seed());
        Ok(FittedPatchGaussian { patch, channels, scales, correlated, draws, seed })
    }
}

impl Fill for FittedPatchGaussian {
    fn draws(&self) -> usize {
        self.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let (x, sides) = image("sample", hidden.x.iter(), self.patch)?;
        if sides[0] != self.channels {
            let expected = format!("{}, as the images that the fill was fitted on", self.channels);
            return Err(Error::invalid("sample", format!("has {} channels", sides[0]), expected));
        }
        let Some(window) = self.window(hidden)? else { return Ok(vec![x.clone()]) };
        let mut pixels = values::numbers(x)?;
        let positions = hidden.positions()?.concat();
        let place = [self.start(window, 0, sides[1]), self.start(window, 1, sides[2])];
        let offsets = offsets(self.patch, sides, place);
        let flags: Vec<bool> = offsets.iter().map(|&at| positions[at]).collect();
        let patch: Vec<f64> = offsets.iter().map(|&at| pixels[at]).collect();
        check_kept(&patch, &flags)?;
        let mut standard: Vec<f64> = (0..patch.len()).map(|at| self.scales.standard(at, patch[at])).collect();
        self.correlated.draw(&mut standard, &flags, &normals(self.seed, hidden.draw, patch.len()))?;
        for at in (0..patch.len()).filter(|&at| flags[at]) {
            pixels[offsets[at]] = self.scales.restore(at, standard[at]);
        }
        let drawn = Tensor::from_vec(pixels, x.shape(), &Device::Cpu)?;
        Ok(vec![drawn.to_dtype(x.dtype())?.to_device(x.device())?])
    }
}

#[cfg(test)]
mod tests;
