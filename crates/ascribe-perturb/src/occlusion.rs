//! Occlusion: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", §4.2.
//!
//! Slides a window W over the input, replaces the values that it covers by the baseline, and attributes the drop of
//! the score to them. A value's attribution is the mean over the windows that cover it:
//!
//! `A_i = 1/|{W ∋ i}| Σ_{W ∋ i} S(x) − S(x with W replaced by x′)`
//!
//! Cost: one evaluation per window position, and one for S(x). If the model is a graph that runs as a plan, only what
//! a window changes is computed ([`ascribe_core::Predictor::variations`]), with the same results in less time.

use ascribe_core::features::{Features, Mask, References};
use ascribe_core::{
    Baseline, Card, Configured, Cost, Explainer, Found, Inputs, Predictor, Result, Task, config, sweep,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Configuration of occlusion.
///
/// `window` and `stride` apply to the last axes of the input; the axes before them are covered completely: on an
/// image `[N, C, H, W]`, `[16, 16]` covers 16 × 16 pixels in all channels. A single number applies to all
/// axes after the channels: a square on images, a cube on volumes `[N, C, D, H, W]`, an interval on time series `[N, C, T]` and
/// tables `[N, F]`.
#[derive(Clone, Debug, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct Occlusion {
    /// Size of the window along each axis.
    #[serde(deserialize_with = "config::one_or_many")]
    pub window: Vec<usize>,
    /// Stride of the window along each axis.
    #[serde(deserialize_with = "config::one_or_many")]
    pub stride: Vec<usize>,
    /// The baseline that fills the window.
    pub baseline: Baseline,
}

impl Default for Occlusion {
    fn default() -> Self {
        Self::new(16, 8)
    }
}

impl Occlusion {
    /// A square window with this side length and stride.
    pub fn new(window: usize, stride: usize) -> Self {
        Self::with_window(&[window], &[stride])
    }

    /// A window with these sizes and strides along the last axes of the input.
    pub fn with_window(window: &[usize], stride: &[usize]) -> Self {
        Self { window: window.to_vec(), stride: stride.to_vec(), baseline: Baseline::Zero }
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
        let windows = Features::windows(x, &self.window, &self.stride).map_or(0, |w| w.count(0));
        Cost { forward: x.batch().unwrap_or(0) * (windows + 1), backward: 0 }
    }

    fn check(&self) -> Result<()> {
        self.baseline.check_single()
    }
}

impl<M: Predictor + ?Sized> Explainer<M> for Occlusion {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let windows = Features::windows(task.x, &self.window, &self.stride)?;
        let fill = References::new(&self.baseline, task.x, task.run.get_seed())?;
        let samples = task.samples()?;
        let scores = task.score(task.x, &samples)?;
        let mut drops = vec![Vec::with_capacity(windows.count(0)); samples.len()];
        let covered = |point: sweep::Point| Ok(Mask::Without(vec![point.index]));
        let points = sweep::every(&samples, windows.count(0));
        task.masked(&windows, &fill, &points, covered, |point, _, score| {
            drops[point.sample].push(scores[point.sample] - score[0]);
            Ok(())
        })?;
        let notes = match windows.uncovered(0) {
            0 => Vec::new(),
            missed => vec![format!(
                "{missed} values lie under no window (stride larger than window): their attribution is 0"
            )],
        };
        Ok(Found { notes, ..Found::new(windows.to_inputs(task.x, &drops)?, scores) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ascribe_core::{BlackBox, DType, Device, Run, Target, Tensor};

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
    fn tokens_and_levels_are_replaced() {
        // The score counts the tokens 7.
        let model = BlackBox::new(|x: &Tensor| x.eq(7_i64)?.to_dtype(DType::F64)?.sum_keepdim(1));
        let tokens = Tensor::new(&[[7_i64, 2, 7, 7, 0]], &Device::Cpu).unwrap();
        let x = Inputs::single(tokens).unwrap().explain("").unwrap();
        let one = Occlusion::with_window(&[1], &[1]);
        let found = one.explain(&model, &x, &Target::Class(0), &Run::new()).unwrap();
        assert_eq!(found.values().to_vec2::<f32>().unwrap(), [[1.0, 0.0, 1.0, 1.0, 0.0]]);
        let seven = one.baseline(Baseline::Constant(7.0));
        let found = seven.explain(&model, &x, &Target::Class(0), &Run::new()).unwrap();
        assert_eq!(found.values().to_vec2::<f32>().unwrap(), [[0.0, -1.0, 0.0, 0.0, -1.0]]);
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
