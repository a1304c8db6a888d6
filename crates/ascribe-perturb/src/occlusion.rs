//! Occlusion: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", §4.2.
//!
//! Slides a window W over the input, replaces what it covers by the baseline, and credits the covered values
//! with the drop of the score. A value's attribution is the mean over the windows that cover it:
//!
//! `A_i = 1/|{W ∋ i}| Σ_{W ∋ i} S(x) − S(x with W replaced by x′)`
//!
//! Cost: one evaluation per window position, and one for S(x). Where a graph runs as a plan, a window of an image costs
//! what it changes ([`ascribe_core::Predictor::variations`]): the same numbers for less time.

use ascribe_core::{
    Baseline, Card, Configured, Cost, DType, Error, Explainer, Found, Inputs, Predictor, Rectangle, Result,
    Task, Tensor, sweep,
};
use candle_core::WithDType;
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use crate::windows::{Window, slide};

/// Configuration of occlusion.
///
/// `window` and `stride` belong to the last axes of the input; axes before them are covered whole: on an image
/// `[N, C, H, W]`, `[16, 16]` covers 16 × 16 pixels in all channels. A single number stands for the last two
/// axes of images, and for the last axis of everything else.
#[derive(Clone, Debug, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct Occlusion {
    /// Sides of the window.
    pub window: Vec<usize>,
    /// Steps between positions of the window.
    pub stride: Vec<usize>,
    /// What the window is filled with.
    pub baseline: Baseline,
}

impl Default for Occlusion {
    fn default() -> Self {
        Self::new(16, 8)
    }
}

impl Occlusion {
    /// A square window with this side and stride.
    pub fn new(window: usize, stride: usize) -> Self {
        Self { window: vec![window], stride: vec![stride], baseline: Baseline::Zero }
    }

    /// A window with these sides and strides, for the last axes of the input.
    pub fn with_window(window: &[usize], stride: &[usize]) -> Self {
        Self { window: window.to_vec(), stride: stride.to_vec(), baseline: Baseline::Zero }
    }

    /// All windows on all inputs: number of the input, window.
    fn windows(&self, x: &Inputs) -> Result<Vec<(usize, Window)>> {
        let mut all = Vec::new();
        for (number, input) in x.explained().enumerate() {
            let sides = &input.value.dims()[1..];
            let axes = if sides.len() >= 3 { 2 } else { 1 };
            let spread = |sizes: &[usize]| match *sizes {
                [one] => vec![one; axes],
                _ => sizes.to_vec(),
            };
            all.extend(
                slide(sides, &spread(&self.window), &spread(&self.stride))?.into_iter().map(|w| (number, w)),
            );
        }
        Ok(all)
    }
}

impl Configured for Occlusion {
    const CARD: Card = Card {
        id: "occlusion",
        name: "Occlusion",
        also: &["sliding window", "occlusion sensitivity"],
        summary: "drop of the score when a window of the input is covered",
        paper: "Zeiler & Fergus, Visualizing and Understanding Convolutional Networks",
        year: 2014,
        networks: &["AlexNet"],
        ..Card::perturbation().with_baseline()
    };

    fn cost(&self, x: &Inputs) -> Cost {
        let windows = self.windows(x).map_or(0, |w| w.len());
        Cost { forward: x.batch().unwrap_or(0) * (windows + 1), backward: 0 }
    }

    fn check(&self) -> Result<()> {
        match self.baseline.count()? {
            1 => Ok(()),
            n => Err(Error::invalid("baseline", format!("is a distribution of {n}"), "a single reference")),
        }
    }
}

impl<M: Predictor + ?Sized> Explainer<M> for Occlusion {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let x = task.x;
        let windows = self.windows(x)?;
        let references: Result<Vec<Tensor>> =
            x.explained().map(|i| self.baseline.reference(&i.value, 0, task.run.get_seed())).collect();
        let references = references?;
        let samples = task.samples()?;
        let scores = task.score(x, &samples)?;
        let sides: Vec<Vec<usize>> = x.explained().map(|i| i.value.dims()[1..].to_vec()).collect();
        let mut sums: Vec<Vec<f64>> = x.explained().map(|i| vec![0.0; i.value.elem_count()]).collect();
        let fill_one = |point: sweep::Point, inputs: &[Tensor]| {
            let (number, window) = &windows[point.index];
            let mut inputs = inputs.to_vec();
            let reference = references[*number].narrow(0, point.sample, 1)?;
            inputs[*number] = fill(&inputs[*number], &reference, window)?;
            Ok(inputs)
        };
        let credit = |point: sweep::Point, score: f64| {
            let (number, window) = &windows[point.index];
            let drop = scores[point.sample] - score;
            let row = sides[*number].iter().product::<usize>();
            let sums = &mut sums[*number][point.sample * row..][..row];
            window.runs(&sides[*number], |at, len| {
                sums[at..at + len].iter_mut().for_each(|s| *s += drop);
            });
            Ok(())
        };
        let points = sweep::every(&samples, windows.len());
        match rectangles(&windows, &sides) {
            Some(rectangles) => sweep::scores_within(task, &points, &rectangles, fill_one, credit)?,
            None => sweep::scores(task, &points, fill_one, credit)?,
        }
        let counts = counts(&windows, &sides);
        let mut notes = Vec::new();
        let missed: usize = counts.iter().flatten().filter(|c| **c == 0.0).count();
        if missed > 0 {
            notes.push(format!(
                "{missed} values lie under no window (stride larger than window): their attribution is 0"
            ));
        }
        let values: Result<Vec<Tensor>> = x
            .explained()
            .zip(sums.iter().zip(&counts))
            .map(|(input, (sums, counts))| {
                let means: Vec<f64> =
                    sums.iter().zip(counts.iter().cycle()).map(|(s, c)| s / c.max(1.0)).collect();
                let like = &input.value;
                Ok(Tensor::from_vec(means, like.shape(), like.device())?.to_dtype(like.dtype())?)
            })
            .collect();
        Ok(Found { notes, ..Found::new(values?, scores) })
    }
}

/// `x` with the window's values taken from `reference`.
fn fill(x: &Tensor, reference: &Tensor, window: &Window) -> Result<Tensor> {
    let inner = window.start.iter().zip(&window.len).map(|(&start, &len)| start..start + len);
    let ranges: Vec<std::ops::Range<usize>> = std::iter::once(0..1).chain(inner).collect();
    let mut patch = reference.clone();
    for (axis, range) in ranges.iter().enumerate().skip(1) {
        patch = patch.narrow(axis, range.start, range.len())?;
    }
    match (x.dtype(), x.device().is_cpu()) {
        (DType::F32, true) => splice::<f32>(x, &patch, window),
        (DType::F64, true) => splice::<f64>(x, &patch, window),
        _ => Ok(x.contiguous()?.slice_assign(&ranges, &patch.contiguous()?)?),
    }
}

/// [`fill`] on the CPU: one copy of the values, where candle's assignment makes masks of the whole input.
fn splice<T: WithDType>(x: &Tensor, patch: &Tensor, window: &Window) -> Result<Tensor> {
    let (mut values, patch) = (x.flatten_all()?.to_vec1::<T>()?, patch.flatten_all()?.to_vec1::<T>()?);
    let mut rest = patch.as_slice();
    window.runs(&x.dims()[1..], |at, len| {
        let (run, behind) = rest.split_at(len);
        values[at..at + len].copy_from_slice(run);
        rest = behind;
    });
    Ok(Tensor::from_vec(values, x.shape(), x.device())?)
}

/// The rows and columns of the windows, if they are windows of the only input, and that is an image `[N, C, H, W]`.
fn rectangles(windows: &[(usize, Window)], sides: &[Vec<usize>]) -> Option<Vec<Rectangle>> {
    let [only] = sides else { return None };
    let rectangle = |window: &Window| match (window.start.as_slice(), window.len.as_slice()) {
        (&[_, top, left], &[_, height, width]) => {
            Some(Rectangle { start: [top, left], size: [height, width] })
        }
        _ => None,
    };
    (only.len() == 3).then(|| windows.iter().map(|(_, window)| rectangle(window)).collect()).flatten()
}

/// For each value of each input, the number of windows that cover it.
fn counts(windows: &[(usize, Window)], sides: &[Vec<usize>]) -> Vec<Vec<f64>> {
    let mut counts: Vec<Vec<f64>> = sides.iter().map(|s| vec![0.0; s.iter().product()]).collect();
    for (number, window) in windows {
        let counts = &mut counts[*number];
        window.runs(&sides[*number], |at, len| counts[at..at + len].iter_mut().for_each(|c| *c += 1.0));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use ascribe_core::{BlackBox, DType, Device, Run, Target};

    fn linear() -> (BlackBox<impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync>, Tensor, Tensor) {
        let w = Tensor::arange(0.0, 32.0, &Device::Cpu).unwrap().reshape((1, 2, 4, 4)).unwrap();
        let x = ((w.sin().unwrap() * 2.0).unwrap() + 0.5).unwrap();
        let weights = w.clone();
        (BlackBox::new(move |x: &Tensor| x.broadcast_mul(&weights)?.sum((1, 2, 3))?.unsqueeze(1)), w, x)
    }

    #[test]
    fn tiles_of_a_linear_model_hold_their_own_contribution() {
        let (model, w, x) = linear();
        let inputs = Inputs::single(x.clone()).unwrap();
        let found = Occlusion::new(2, 2).explain(&model, &inputs, &Target::Class(0), &Run::new()).unwrap();
        let contribution = (w * x).unwrap();
        let tile = |t: &Tensor| t.narrow(2, 2, 2).unwrap().narrow(3, 0, 2).unwrap();
        let expected = tile(&contribution).sum_all().unwrap().to_scalar::<f64>().unwrap();
        for value in tile(found.values()).flatten_all().unwrap().to_vec1::<f64>().unwrap() {
            assert!((value - expected).abs() < 1e-12);
        }
        assert_eq!(found.provenance.cost, Occlusion::new(2, 2).cost(&inputs));
    }

    #[test]
    fn single_values_of_a_linear_model_are_input_times_gradient() {
        let (model, w, x) = linear();
        let inputs = Inputs::single(x.clone()).unwrap();
        let one = Occlusion::with_window(&[1, 1, 1], &[1, 1, 1]);
        let found = one.explain(&model, &inputs, &Target::Class(0), &Run::new().batch(5)).unwrap();
        let gap = (found.values() - (w * x).unwrap()).unwrap().abs().unwrap().sum_all().unwrap();
        assert!(gap.to_scalar::<f64>().unwrap() < 1e-10);
    }

    #[test]
    fn a_stride_beyond_the_window_is_noted() {
        let (model, _, x) = linear();
        let inputs = Inputs::single(x).unwrap();
        let found = Occlusion::new(1, 2).explain(&model, &inputs, &Target::Class(0), &Run::new()).unwrap();
        assert!(found.provenance.notes[0].contains("under no window"), "{:?}", found.provenance.notes);
    }

    #[test]
    fn distributions_are_refused() {
        let (model, _, x) = linear();
        let rows = Tensor::zeros((2, 2, 4, 4), DType::F64, &Device::Cpu).unwrap();
        let method = Occlusion::new(1, 1).baseline(Baseline::Samples(rows));
        let error =
            method.explain(&model, &Inputs::single(x).unwrap(), &Target::Class(0), &Run::new()).unwrap_err();
        assert!(error.to_string().contains("single reference"), "{error}");
    }
}
