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
/// "Visualizing Deep Neural Network Decisions: Prediction Difference Analysis", §3.1, conditional sampling).
///
/// Pixels depend mostly on those close to them, and on where these lie relative to them rather than in the image. So
/// p(window | rest of the image) ≈ p(window | rest of a patch of k × k pixels that contains the window), and all patches, with
/// all their channels, have one normal distribution, whose mean and covariance are those of random patches of the data's images.
/// The window given the rest of the patch is then normal as for [`Gaussian`](super::Gaussian), where singular correlations are
/// described, too.
///
/// The window lies in the middle of the patch (for an odd margin, one pixel more lies below and to the right); close to the border
/// the patch is moved into the image. Values are not limited to the range of the data. The authors' program treats channels as
/// independent and cuts values to the range of the data; the paper says neither.
///
/// It serves images `[N, C, H, W]` as the only explained input, with sides of at least k, and masks that hide features within a
/// square of at most k − 1 pixels ([`Mask::Without`]), such as the windows of occlusion. Images of the data may differ in size.
///
/// Cost: for m patches of p = k² C values, O(m p²) to fit; O(p³) for each place of a window within its patch, and O(p²) for each
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
/// let hidden = Hidden { sample: 0, draw: 0, x: &[x], mask: &mask, features: &features };
/// assert_eq!(fill.fill(&hidden)?[0].dims(), [1, 1, 8, 8]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatchGaussian {
    /// Side k of the patches in pixels: more than that of the windows to be hidden, and k² times the number of channels at most
    /// [`LARGEST`].
    pub patch: usize,
    /// Number of patches that the distribution is estimated from, in equal parts from all images: more than a patch has values.
    pub patches: usize,
    /// Number of draws that a score is the mean of.
    pub draws: usize,
}

impl Default for PatchGaussian {
    /// The paper's patches of 14 × 14 for windows of 10 × 10, and 10 draws; 20 000 patches, as the authors' program has it.
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
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::dataset::InMemory;
    use crate::features::Features;
    use crate::sweep::{self, Point};
    use crate::{BlackBox, DType, Inputs, Target, Task};

    const NOISE: f64 = 0.01;

    /// Images of planes at random angles, whose second channel is three times the first one, plus noise.
    fn planes(count: u64, [height, width]: [usize; 2]) -> Tensor {
        let image = |number: u64| {
            let plane = numbers(number, 3);
            let area = height * width;
            let noise = numbers(1000 + number, 2 * area);
            let pixel = |at: usize| {
                let (y, x) = ((at % area / width) as f64, (at % width) as f64);
                (plane[0] + plane[1] * y + plane[2] * x) * if at < area { 1.0 } else { 3.0 }
                    + NOISE * noise[at]
            };
            (0..2 * area).map(pixel).collect::<Vec<f64>>()
        };
        let all: Vec<f64> = (0..count).flat_map(image).collect();
        Tensor::from_vec(all, (count as usize, 2, height, width), &Device::Cpu).unwrap()
    }

    fn data(images: &Tensor) -> InMemory {
        InMemory::labelled(images, &vec![0; images.dims()[0]]).unwrap()
    }

    fn fit(draws: usize) -> FittedPatchGaussian {
        let settings = PatchGaussian { patch: 5, patches: 2000, draws };
        settings.fit(&data(&planes(60, [9, 8])), &Run::new().seed(3)).unwrap()
    }

    fn drawn(
        fill: &FittedPatchGaussian,
        x: &Tensor,
        features: &Features,
        mask: &Mask,
    ) -> Result<Vec<Vec<f64>>> {
        let of_draw = |draw| {
            let hidden = Hidden { sample: 0, draw, x: std::slice::from_ref(x), mask, features };
            Ok(fill.fill(&hidden)?[0].flatten_all()?.to_vec1::<f64>()?)
        };
        (0..fill.draws()).map(of_draw).collect()
    }

    #[test]
    fn what_follows_from_its_surroundings_comes_back() -> Result<()> {
        let (fill, x) = (fit(20), planes(100, [9, 8]).narrow(0, 99, 1)?);
        assert_eq!(fill.shrinkage(), 0.0);
        let (pixels, features) =
            (values::numbers(&x)?, Features::windows(&Inputs::single(x.clone())?, &[2], &[2])?);
        for window in 0..features.count(0) {
            let all = drawn(&fill, &x, &features, &Mask::Without(vec![window]))?;
            let runs = features.runs(0, window);
            let inside = |at: usize| runs.iter().any(|run| (run.start..run.start + run.len).contains(&at));
            let mut squares = Vec::new();
            for draw in &all {
                for at in 0..pixels.len() {
                    if inside(at) {
                        // The errors of the true pixel, of the draw and of the estimate.
                        assert!(
                            (draw[at] - pixels[at]).abs() < 0.1,
                            "{} instead of {}",
                            draw[at],
                            pixels[at]
                        );
                        squares.push((draw[at] - all[0][at]).powi(2));
                    } else {
                        assert_eq!(draw[at], pixels[at]);
                    }
                }
            }
            let spread = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
            assert!(spread > 0.5 * NOISE, "window {window}: draws differ by {spread}");
        }
        Ok(())
    }

    #[test]
    fn the_patch_lies_around_the_window_and_inside_the_image() {
        let fill = fit(1);
        let start =
            |from: usize, size: usize| fill.start(Rectangle { start: [from, 0], size: [size, 1] }, 0, 9);
        assert_eq!([0, 1, 2, 4, 6, 7].map(|from| start(from, 2)), [0, 0, 1, 3, 4, 4]);
        assert_eq!([0, 4, 8].map(|from| start(from, 1)), [0, 2, 4]);
    }

    #[test]
    fn superpixels_and_several_windows_are_served() -> Result<()> {
        let (fill, x) = (fit(3), planes(1, [5, 6]));
        let labels: Vec<u32> = (0..30)
            .map(|at| match at {
                7 | 8 | 13 => 1,
                14 | 20 => 2,
                29 => 3,
                _ => 0,
            })
            .collect();
        let labels = Tensor::from_vec(labels, (5, 6), &Device::Cpu)?;
        let features = Features::labels(&Inputs::single(x.clone())?, &[labels])?;
        let pixels = values::numbers(&x)?;
        for draw in drawn(&fill, &x, &features, &Mask::Without(vec![1, 2]))? {
            let changed: Vec<usize> = (0..60).filter(|&at| draw[at] != pixels[at]).collect();
            assert_eq!(changed, [7, 8, 13, 14, 20, 37, 38, 43, 44, 50]);
            assert!(changed.iter().all(|&at| (draw[at] - pixels[at]).abs() < 0.1));
        }
        assert_eq!(drawn(&fill, &x, &features, &Mask::Without(vec![]))?[0], pixels);
        let error = drawn(&fill, &x, &features, &Mask::Without(vec![1, 3])).unwrap_err().to_string();
        assert!(error.contains("hides 4 × 5 pixels") && error.contains("at most 4 × 4"), "{error}");
        Ok(())
    }

    #[test]
    fn draws_do_not_depend_on_the_batch() -> Result<()> {
        let (fill, images) = (fit(4), planes(2, [9, 8]));
        let model = BlackBox::new(|x: &Tensor| x.sqr()?.sum(3)?.sum(2)?.sum_keepdim(1));
        let scores = |x: &Tensor, batch: usize, threads: usize| -> Result<Vec<f64>> {
            let (x, run) = (Inputs::single(x.clone())?, Run::new().batch(batch).threads(threads));
            let task = Task::new(&model, &x, Target::Class(0), &run);
            let features = Features::windows(&x, &[3], &[3])?;
            let mut found = Vec::new();
            let mask = |point: Point| Ok(Mask::Without(vec![point.index]));
            run.install(|| {
                task.masked(&features, &fill, &sweep::every(&task.samples()?, 9), mask, |_, _, scores| {
                    found.extend_from_slice(scores);
                    Ok(())
                })
            })?;
            Ok(found)
        };
        let expected = scores(&images, 1, 1)?;
        assert_eq!(expected.len(), 2 * 9 * 4);
        assert_ne!(expected[0], expected[1]);
        for batch in [3, 64] {
            assert_eq!(scores(&images, batch, 2)?, expected);
        }
        assert_eq!(scores(&images.narrow(0, 1, 1)?, 5, 2)?, expected[36..]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        let images = planes(6, [9, 8]);
        let fail = |patch, patches, draws, data: &dyn Dataset| {
            PatchGaussian { patch, patches, draws }.fit(data, &Run::new()).unwrap_err().to_string()
        };
        assert!(fail(5, 2000, 0, &data(&images)).contains("draws"));
        assert!(fail(1, 2000, 1, &data(&images)).contains("at least 2, more than the side of a window"));
        assert!(fail(5, 50, 1, &data(&images)).contains("patches: are 50 for 50 values of a patch"));
        assert!(fail(9, 2000, 1, &data(&images)).contains("sides of at least 9"));
        assert!(fail(40, 2000, 1, &data(&planes(1, [40, 40]))).contains("a patch has 3200 values"));
        assert!(
            fail(2, 99, 1, &rows(&[&[1.0], &[2.0]])).contains("[[1, 1]]; expected one image [1, C, H, W]")
        );
        assert!(fail(5, 2000, 1, &InMemory::new(Vec::new())?).contains("has no samples"));
        let sample = |x: Tensor| -> Result<_> {
            Ok(crate::dataset::Sample { inputs: Inputs::single(x)?, label: None, truth: None })
        };
        let one = images.narrow(0, 0, 1)?;
        let mixed = InMemory::new(vec![sample(one.clone())?, sample(one.narrow(1, 0, 1)?)?])?;
        assert!(fail(5, 2000, 1, &mixed).contains("sample 1 of the dataset: has 1 channels; expected 2"));
        let broken = data(&Tensor::full(f64::NAN, (1, 2, 5, 5), &Device::Cpu)?);
        assert!(fail(5, 2000, 1, &broken).contains("is NaN"));

        let fill = fit(1);
        let of = |x: &Tensor, mask: &Mask| {
            let features = Features::windows(&Inputs::single(x.clone())?, &[5], &[5])?;
            drawn(&fill, x, &features, mask)
        };
        let error = |x: &Tensor, mask: &Mask| of(x, mask).unwrap_err().to_string();
        assert!(error(&one, &Mask::Without(vec![0])).contains("hides 5 × 5 pixels"));
        assert!(error(&one, &Mask::With(vec![0])).contains("hides all but some features"));
        assert!(
            error(&one, &Mask::Soft(vec![Tensor::new(0.5, &Device::Cpu)?])).contains("hides values in part")
        );
        assert!(error(&one.narrow(1, 0, 1)?, &Mask::Without(vec![0])).contains("has 1 channels"));
        assert!(error(&one.narrow(2, 0, 4)?, &Mask::Without(vec![0])).contains("sides of at least 5"));
        let missing = Tensor::full(f64::NAN, (1, 2, 9, 8), &Device::Cpu)?;
        assert!(error(&missing, &Mask::Without(vec![1])).contains("is NaN and kept"));
        assert_eq!(of(&one.to_dtype(DType::F64)?, &Mask::Without(vec![1]))?.len(), 1);
        Ok(())
    }
}
