//! Explanations of noisy copies of the input, summed up: `smooth-grad`, `smooth-grad-sq`, `var-grad`.
//!
//! With g_i the attribution that another method gives x + ε_i, ε_i ~ N(0, σ²):
//!
//! | id | statistic | source |
//! | --- | --- | --- |
//! | `smooth-grad` | 1/n Σ_i g_i | Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", §3 |
//! | `smooth-grad-sq` | 1/n Σ_i g_i² | Hooker et al. 2019, "A Benchmark for Interpretability Methods in Deep Neural Networks", §4 |
//! | `var-grad` | 1/n Σ_i g_i² − (1/n Σ_i g_i)² | Adebayo et al. 2018, "Sanity Checks for Saliency Maps", §3 |
//!
//! g_i is signed. σ is a fraction of the sample's range x_max − x_min (10 % to 20 % in Smilkov et al.), or absolute.
//! Draw i is the same for every sample of a batch and does not depend on the number of draws. The spread is the
//! standard error of the estimate: s/√n of g or g², and √((m₄ − m₂²)/n) for the variance.
//!
//! Cost: n times that of the method inside, and one evaluation.

use ascribe_core::{
    Attribution, Cost, Error, Explainer, Found, Inputs, Method, Predictor, Result, Run, Target, Tensor,
    explain, random, sweep, to_f64,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::moments::Moments;

/// What is computed from the attributions of the noisy copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// Their mean: `smooth-grad`.
    #[default]
    Mean,
    /// The mean of their squares: `smooth-grad-sq`.
    MeanSquare,
    /// Their variance: `var-grad`.
    Variance,
}

/// What σ is measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseUnit {
    /// The range x_max − x_min of each sample, for each explained input.
    #[default]
    Range,
    /// The input's own unit.
    Absolute,
}

/// Configuration of the noise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Number n of noisy copies.
    pub samples: usize,
    /// Standard deviation σ.
    pub sigma: f64,
    /// What σ is measured in.
    pub unit: NoiseUnit,
    /// Noise to use instead of random draws: `[n, …]`, one row per copy, shaped like a sample.
    #[serde(skip)]
    pub given: Option<Tensor>,
}

impl Default for Noise {
    /// 50 copies with 15 % noise, the middle of what Smilkov et al. recommend.
    fn default() -> Self {
        Self { samples: 50, sigma: 0.15, unit: NoiseUnit::Range, given: None }
    }
}

/// An explainer, asked about noisy copies of the input. The attribution is shaped like the explainer's.
///
/// ```
/// use ascribe_gradient::{NoiseTunnel, Saliency};
/// let method = NoiseTunnel::smooth_grad(Saliency::new()).samples(20).sigma(0.1);
/// # let _ = method;
/// ```
#[derive(Clone, Debug)]
pub struct NoiseTunnel<E> {
    /// The explainer.
    pub explainer: E,
    /// What is computed from its attributions.
    pub statistic: Statistic,
    /// The noise.
    pub noise: Noise,
}

impl<E> NoiseTunnel<E> {
    /// An explainer behind noise.
    pub fn new(explainer: E, statistic: Statistic, noise: Noise) -> Self {
        Self { explainer, statistic, noise }
    }

    /// `smooth-grad`: the mean.
    pub fn smooth_grad(explainer: E) -> Self {
        Self::new(explainer, Statistic::Mean, Noise::default())
    }

    /// `smooth-grad-sq`: the mean of squares.
    pub fn smooth_grad_sq(explainer: E) -> Self {
        Self::new(explainer, Statistic::MeanSquare, Noise::default())
    }

    /// `var-grad`: the variance.
    pub fn var_grad(explainer: E) -> Self {
        Self::new(explainer, Statistic::Variance, Noise::default())
    }

    /// Sets the number of noisy copies.
    pub fn samples(self, samples: usize) -> Self {
        Self { noise: Noise { samples, ..self.noise }, ..self }
    }

    /// Sets σ as a fraction of each sample's range.
    pub fn sigma(self, fraction: f64) -> Self {
        Self { noise: Noise { sigma: fraction, unit: NoiseUnit::Range, ..self.noise }, ..self }
    }

    /// Sets σ in the input's own unit.
    pub fn absolute_sigma(self, sigma: f64) -> Self {
        Self { noise: Noise { sigma, unit: NoiseUnit::Absolute, ..self.noise }, ..self }
    }

    /// Adds these rows to every sample, one after the other, instead of random draws.
    ///
    /// # Errors
    /// If there are no rows.
    pub fn with_noise(self, rows: Tensor) -> Result<Self> {
        match rows.dims().first() {
            Some(&samples) if samples > 0 => {
                Ok(Self { noise: Noise { samples, given: Some(rows), ..self.noise }, ..self })
            }
            _ => Err(Error::invalid("noise", format!("has shape {:?}", rows.dims()), "at least one row")),
        }
    }
}

impl Noise {
    /// The noisy copies of some points, drawn side by side, and the sample of each.
    fn copies(
        &self,
        x: &Inputs,
        sigmas: &[Vec<f64>],
        points: &[sweep::Point],
        seed: u64,
    ) -> Result<(Inputs, Vec<usize>)> {
        let copy = |point: &sweep::Point| {
            let sigmas = sigmas.get(point.sample).into_iter().flatten();
            self.copy(&one(x, point.sample)?, sigmas, point.index, seed)
        };
        let copies: Result<Vec<Vec<Tensor>>> = points.par_iter().map(copy).collect();
        let mut copies = copies?.into_iter();
        sweep::rows(x, points, &mut |_, _| Ok(copies.next().unwrap_or_default()))
    }

    /// Noisy copy number `draw` of one sample's explained inputs, with a standard deviation for each.
    fn copy<'a>(
        &self,
        one: &[Tensor],
        sigmas: impl IntoIterator<Item = &'a f64>,
        draw: usize,
        seed: u64,
    ) -> Result<Vec<Tensor>> {
        let mut rng = random::stream(seed, draw as u64);
        one.iter()
            .zip(sigmas)
            .map(|(x, sigma)| {
                let Some(rows) = &self.given else { return random::normal_around(&mut rng, x, *sigma) };
                let noise = rows.narrow(0, draw, 1)?.to_dtype(x.dtype())?;
                if noise.dims() != x.dims() {
                    let problem = format!("has rows of shape {:?}", &noise.dims()[1..]);
                    return Err(Error::invalid("noise", problem, format!("{:?}", &x.dims()[1..])));
                }
                Ok((x + noise)?)
            })
            .collect()
    }

    /// The standard deviation for each sample and explained input.
    fn sigmas(&self, x: &Inputs) -> Result<Vec<Vec<f64>>> {
        (0..x.batch()?).map(|s| one(x, s)?.iter().map(|x| self.sigma(x)).collect()).collect()
    }

    /// The standard deviation for one sample.
    fn sigma(&self, x: &Tensor) -> Result<f64> {
        let range = match self.unit {
            NoiseUnit::Absolute => return Ok(self.sigma),
            NoiseUnit::Range => {
                let flat = x.flatten_all()?;
                let ends = Tensor::stack(&[flat.max(0)?, flat.min(0)?], 0)?;
                let ends = to_f64(&ends)?;
                ends[0] - ends[1]
            }
        };
        Ok(self.sigma * range)
    }
}

/// The explained inputs of one sample.
fn one(x: &Inputs, sample: usize) -> Result<Vec<Tensor>> {
    x.explained().map(|input| Ok(input.value.narrow(0, sample, 1)?)).collect()
}

impl Statistic {
    fn push(self, moments: &mut Moments, value: &Tensor) -> Result<()> {
        match self {
            Self::MeanSquare => moments.push(&value.sqr()?),
            Self::Mean => moments.push(value),
            Self::Variance => moments.push_for_variance(value),
        }
    }

    fn of(self, moments: &Moments) -> Result<Option<(Tensor, Option<Tensor>)>> {
        match self {
            Self::Mean | Self::MeanSquare => moments.mean(),
            Self::Variance => moments.variance(),
        }
    }
}

impl<E: Method> Method for NoiseTunnel<E> {
    fn id(&self) -> &'static str {
        match self.statistic {
            Statistic::Mean => "smooth-grad",
            Statistic::MeanSquare => "smooth-grad-sq",
            Statistic::Variance => "var-grad",
        }
    }

    fn config(&self) -> serde_json::Value {
        let mut config = serde_json::to_value(&self.noise).unwrap_or_default();
        if let Some(fields) = config.as_object_mut() {
            let inner =
                serde_json::json!({ "method": self.explainer.id(), "config": self.explainer.config() });
            fields.insert("explainer".into(), inner);
        }
        config
    }

    fn cost(&self, x: &Inputs) -> Cost {
        let once = Cost { forward: x.batch().unwrap_or(0), backward: 0 };
        self.explainer.cost(x) * self.noise.samples + once
    }

    fn check(&self) -> Result<()> {
        self.explainer.check()?;
        let least = if self.statistic == Statistic::Variance { 2 } else { 1 };
        if self.noise.samples < least {
            let problem = self.noise.samples.to_string();
            return Err(Error::invalid("samples", problem, format!("at least {least} for {}", self.id())));
        }
        if !(self.noise.sigma >= 0.0 && self.noise.sigma.is_finite()) {
            return Err(Error::invalid("sigma", self.noise.sigma.to_string(), "0 or a positive number"));
        }
        match self.noise.given.as_ref().map(Tensor::dims) {
            Some(dims) if dims.first() != Some(&self.noise.samples) => {
                let problem = format!("given with shape {dims:?}");
                Err(Error::invalid("noise", problem, format!("{} rows", self.noise.samples)))
            }
            _ => Ok(()),
        }
    }
}

impl<M: Predictor + ?Sized, E: Explainer<M>> Explainer<M> for NoiseTunnel<E> {
    fn explain(&self, model: &M, x: &Inputs, target: &Target, run: &Run) -> Result<Attribution> {
        explain(self, model, x, target, run, |task| {
            let inner = run.quiet();
            let all = sweep::every(&task.samples()?, self.noise.samples);
            // Per part of the attribution, the rows of the samples that are done.
            let mut values: Vec<Vec<Tensor>> = Vec::new();
            let mut spread: Vec<Vec<Tensor>> = Vec::new();
            let mut moments: Vec<Moments> = Vec::new();
            let sigmas = self.noise.sigmas(x)?;
            let mut done = 0;
            for chunk in all.chunks(run.get_batch()) {
                run.step(done, all.len())?;
                let (noisy, samples) = self.noise.copies(x, &sigmas, chunk, run.get_seed())?;
                let target = task.target.for_rows(&samples)?;
                let found = self.explainer.explain(task.model, &noisy, &target, &inner)?;
                task.count(found.provenance.cost);
                for (row, point) in chunk.iter().enumerate() {
                    moments.resize_with(found.parts.len(), Moments::default);
                    for (moments, part) in moments.iter_mut().zip(&found.parts) {
                        self.statistic.push(moments, &part.values.narrow(0, row, 1)?)?;
                    }
                    if point.index + 1 == self.noise.samples {
                        values.resize(moments.len(), Vec::new());
                        spread.resize(moments.len(), Vec::new());
                        for (i, moments) in moments.drain(..).enumerate() {
                            let Some((value, error)) = self.statistic.of(&moments)? else { continue };
                            values[i].push(value);
                            spread[i].extend(error);
                        }
                    }
                }
                done += chunk.len();
            }
            run.step(done, all.len())?;
            let join = |parts: Vec<Vec<Tensor>>| -> Result<Vec<Tensor>> {
                parts.iter().map(|rows| Ok(Tensor::cat(rows, 0)?)).collect()
            };
            let spread = if self.noise.samples > 1 { Some(join(spread)?) } else { None };
            Ok(Found { values: join(values)?, spread, ..Found::default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Autograd, Device};

    use super::*;
    use crate::{InputXGradient, IntegratedGradients, Saliency};

    fn flat(t: &Tensor) -> Vec<f64> {
        to_f64(&t.flatten_all().unwrap_or_else(|e| unreachable!("{e}"))).unwrap_or_default()
    }

    fn input() -> Result<Inputs> {
        Inputs::single(Tensor::new(&[[0.0_f64, 1.0], [2.0, -2.0]], &Device::Cpu)?)
    }

    #[test]
    fn statistics_of_given_noise() -> Result<()> {
        // S = ½ Σ x², so that g = x + ε.
        let model = Autograd::new(|x: &Tensor| x.sqr()?.sum_keepdim(1)? * 0.5);
        let noise = Tensor::new(&[[1_f64, 0.0], [-2.0, 3.0], [4.0, 0.0]], &Device::Cpu)?;
        let explain = |method: NoiseTunnel<Saliency>| {
            method.with_noise(noise.clone())?.explain(
                &model,
                &input()?,
                &Target::Class(0),
                &Run::new().batch(2),
            )
        };
        let close = |a: &[f64], b: &[f64]| {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
        };
        let mean = explain(NoiseTunnel::smooth_grad(Saliency::new()))?;
        close(&flat(mean.values()), &[1.0, 2.0, 3.0, -1.0]);
        let error = mean.parts[0].spread.as_ref().map(flat).unwrap_or_default();
        close(&error, &[3_f64.sqrt(), 1.0, 3_f64.sqrt(), 1.0]);
        let square = explain(NoiseTunnel::smooth_grad_sq(Saliency::new()))?;
        close(&flat(square.values()), &[7.0, 6.0, 15.0, 3.0]);
        let variance = explain(NoiseTunnel::var_grad(Saliency::new()))?;
        close(&flat(variance.values()), &[6.0, 2.0, 6.0, 2.0]);
        assert_eq!(variance.provenance.method, "var-grad");
        assert_eq!(variance.provenance.config["explainer"]["method"], "saliency");
        assert_eq!(variance.provenance.cost, Cost { forward: 6 + 2, backward: 6 });
        Ok(())
    }

    #[test]
    fn sigma_is_a_fraction_of_the_range() -> Result<()> {
        let noise = Noise { sigma: 0.5, ..Noise::default() };
        let x = Tensor::new(&[[-1_f64, 3.0]], &Device::Cpu)?;
        assert_eq!(noise.sigma(&x)?, 2.0);
        let drawn = noise.copy(std::slice::from_ref(&x), &[2.0], 3, 7)?;
        let normal = random::normal(&mut random::stream(7, 3), &[1, 2], x.dtype(), &Device::Cpu)?;
        assert_eq!(flat(&drawn[0]), flat(&(x + (normal * 2.0)?)?));
        Ok(())
    }

    #[test]
    fn the_same_for_every_batch_budget_and_around_sweeping_methods() -> Result<()> {
        let model = Autograd::new(|x: &Tensor| x.tanh()?.sum_keepdim(1));
        let target = Target::Classes(vec![0, 0]);
        let run = |method: &dyn Explainer<_>, x: &Inputs, batch: usize, target: &Target| {
            method.explain(&model, x, target, &Run::new().seed(5).batch(batch)).map(|a| flat(a.values()))
        };
        let methods: [Box<dyn Explainer<Autograd<_>>>; 2] = [
            Box::new(NoiseTunnel::smooth_grad(InputXGradient::new()).samples(5)),
            Box::new(NoiseTunnel::var_grad(IntegratedGradients::new().steps(4)).samples(5)),
        ];
        for method in methods {
            let one = run(&*method, &input()?, 1, &target)?;
            for batch in [3, 8, 100] {
                assert_eq!(run(&*method, &input()?, batch, &target)?, one);
            }
            let second = run(&*method, &input()?.select(&[1])?, 3, &Target::Class(0))?;
            assert_eq!(second, one[2..], "a sample of a batch gives what it gives alone");
        }
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() -> Result<()> {
        let model = Autograd::new(|x: &Tensor| x.sqr()?.sum_keepdim(1));
        let explain = |m: NoiseTunnel<Saliency>| m.explain(&model, &input()?, &Target::Class(0), &Run::new());
        let plain = || NoiseTunnel::smooth_grad(Saliency::new());
        assert!(explain(plain().samples(0)).is_err());
        assert!(explain(plain().sigma(-1.0)).is_err());
        assert!(explain(plain().sigma(f64::NAN)).is_err());
        assert!(explain(NoiseTunnel::var_grad(Saliency::new()).samples(1)).is_err());
        assert!(explain(plain().with_noise(Tensor::new(&[[1_f64, 2.0, 3.0]], &Device::Cpu)?)?).is_err());
        assert!(explain(plain().samples(1)).is_ok());
        Ok(())
    }
}
