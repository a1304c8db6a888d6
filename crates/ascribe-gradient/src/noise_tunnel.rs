//! Statistics of explanations of noisy copies of the input: `smooth-grad`, `smooth-grad-sq`, `var-grad`.
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
//! standard error of the estimate: s/√n for the mean of g or g², and √((m₄ − m₂²)/n) for the variance.
//!
//! Cost: n times that of the wrapped method, and one evaluation.

use ascribe_core::{
    Boxed, Card, Configured, Cost, Domain, Error, Explainer, Family, Found, Graph, Inputs, Method, Moments,
    Predictor, Registry, Result, Score, Spec, Task, Tensor, config, sweep,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Saliency;
use crate::noise::{Noise, NoiseUnit};

/// The statistic of the attributions of the noisy copies.
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

/// An explainer, applied to noisy copies of the input. The attribution is shaped like the explainer's.
///
/// ```
/// use ascribe_gradient::{NoiseTunnel, Saliency};
/// let method = NoiseTunnel::smooth_grad(Saliency::default()).samples(20).sigma(0.1);
/// # let _ = method;
/// ```
#[derive(Clone, Debug)]
pub struct NoiseTunnel<E> {
    /// The explainer.
    pub explainer: E,
    /// The statistic of its attributions.
    pub statistic: Statistic,
    /// The noise.
    pub noise: Noise,
}

impl<E> NoiseTunnel<E> {
    /// An explainer with noise.
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

    /// Sets σ as an absolute value, in units of the input.
    pub fn absolute_sigma(self, sigma: f64) -> Self {
        Self { noise: Noise { sigma, unit: NoiseUnit::Absolute, ..self.noise }, ..self }
    }

    /// Sets whether the standard error of each value is estimated.
    pub fn spread(self, spread: bool) -> Self {
        Self { noise: Noise { spread, ..self.noise }, ..self }
    }

    /// Uses these rows instead of random draws: each row is added to every sample.
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

impl Statistic {
    fn card(self) -> &'static Card {
        match self {
            Self::Mean => &SMOOTH_GRAD,
            Self::MeanSquare => &SMOOTH_GRAD_SQ,
            Self::Variance => &VAR_GRAD,
        }
    }

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

/// The parts of the card that the three methods share.
const NOISE: Card = Card { domain: Domain::Any, ..Card::gradient(Family::PostProcessing).with_method() };

pub(crate) const SMOOTH_GRAD: Card = Card {
    id: "smooth-grad",
    name: "SmoothGrad",
    also: &["noise tunnel"],
    summary: "mean of another method's attributions of noisy copies",
    paper: "Smilkov et al., SmoothGrad: removing noise by adding noise",
    year: 2017,
    networks: &["Inception-v3"],
    ..NOISE
};

pub(crate) const SMOOTH_GRAD_SQ: Card = Card {
    id: "smooth-grad-sq",
    name: "SmoothGrad²",
    also: &["SmoothGrad squared"],
    summary: "mean of squares of another method's attributions of noisy copies",
    paper: "Hooker, Erhan, Kindermans & Kim, A Benchmark for Interpretability Methods in Deep Neural Networks",
    year: 2019,
    networks: &["ResNet-50"],
    ..NOISE
};

pub(crate) const VAR_GRAD: Card = Card {
    id: "var-grad",
    name: "VarGrad",
    summary: "variance of another method's attributions of noisy copies",
    paper: "Adebayo, Gilmer, Goodfellow & Kim, Local Explanation Methods for Deep Neural Networks Lack Sensitivity to \
            Parameter Values",
    year: 2018,
    networks: &["Inception-v3"],
    ..NOISE
};

/// Builds the method with this statistic; it wraps the explainer that the configuration names, saliency by default.
fn build(given: &Value, registry: &Registry<'_>, statistic: Statistic) -> Result<Boxed<Graph>> {
    let id = statistic.card().id;
    let (explainer, fields) = registry.wrapped(id, given, Saliency::CARD.id)?;
    let noise = config::read(id, &fields).map_err(|e| match e {
        Error::Config { id, problem } if problem.starts_with("unknown field") => {
            Error::Config { id, problem: format!("{problem} (or `explainer`)") }
        }
        other => other,
    })?;
    Ok(Boxed::new(NoiseTunnel::new(explainer, statistic, noise)))
}

pub(crate) fn smooth_grad(given: &Value, registry: &Registry<'_>) -> Result<Boxed<Graph>> {
    build(given, registry, Statistic::Mean)
}

pub(crate) fn smooth_grad_sq(given: &Value, registry: &Registry<'_>) -> Result<Boxed<Graph>> {
    build(given, registry, Statistic::MeanSquare)
}

pub(crate) fn var_grad(given: &Value, registry: &Registry<'_>) -> Result<Boxed<Graph>> {
    build(given, registry, Statistic::Variance)
}

impl<E: Method> Method for NoiseTunnel<E> {
    fn card(&self) -> &'static Card {
        self.statistic.card()
    }

    fn config(&self) -> Value {
        let mut all = config::write(&self.noise);
        if let Some(fields) = all.as_object_mut() {
            fields.insert("explainer".into(), config::write(&Spec::of(&self.explainer)));
        }
        all
    }

    fn score(&self) -> Score {
        self.explainer.score()
    }

    /// The mean of relative maps is relative. In maps of squares and variances, the value zero has a meaning.
    fn is_relative(&self) -> bool {
        self.statistic == Statistic::Mean && self.explainer.is_relative()
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
        self.noise.check()
    }
}

impl<E: Method> NoiseTunnel<E> {
    /// The mean, if the model can sum gradients at a lower cost than one by one; `None` otherwise.
    fn summed<M: Predictor + ?Sized>(&self, task: &Task<'_, M>, sigmas: &[Vec<f64>]) -> Result<Option<Found>>
    where
        E: Explainer<M>,
    {
        let samples = task.samples()?;
        let (total, mut done) = (samples.len() * self.noise.samples, 0);
        let mut columns: Vec<Vec<Tensor>> = Vec::new();
        for sample in samples {
            // All samples have the same shape, so the first one decides for all.
            let one = task.x.select(&[sample])?;
            let Some(mut sum) = self.explainer.gradient_sum(task.model, &one)? else { return Ok(None) };
            for chunk in sweep::every(&[sample], self.noise.samples).chunks(task.run.get_batch()) {
                task.run.step(done, total)?;
                let (noisy, samples) = self.noise.copies(task.x, sigmas, chunk, task.run.get_seed())?;
                task.add_to_sum(sum.as_mut(), &noisy, &samples)?;
                done += chunk.len();
            }
            let sums = sum.sum()?;
            columns.resize(sums.len(), Vec::new());
            for (column, sum) in columns.iter_mut().zip(sums) {
                column.push((sum / self.noise.samples as f64)?);
            }
        }
        task.run.step(done, total)?;
        Ok(Some(Found { values: joined(&columns)?, ..Found::default() }))
    }

    /// The statistic, computed from the single attributions.
    fn collected<M: Predictor + ?Sized>(&self, task: &Task<'_, M>, sigmas: &[Vec<f64>]) -> Result<Found>
    where
        E: Explainer<M>,
    {
        let (run, inner) = (task.run, task.run.quiet());
        let all = sweep::every(&task.samples()?, self.noise.samples);
        // For each tensor of the attribution, the rows of the samples that are done.
        let mut values: Vec<Vec<Tensor>> = Vec::new();
        let mut spread: Vec<Vec<Tensor>> = Vec::new();
        let mut moments: Vec<Moments> = Vec::new();
        let mut done = 0;
        for chunk in all.chunks(run.get_batch()) {
            run.step(done, all.len())?;
            let (noisy, samples) = self.noise.copies(task.x, sigmas, chunk, run.get_seed())?;
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
        let known = self.noise.spread && self.noise.samples > 1;
        let spread = if known { Some(joined(&spread)?) } else { None };
        Ok(Found { values: joined(&values)?, spread, ..Found::default() })
    }
}

/// Concatenates the rows of each column.
fn joined(columns: &[Vec<Tensor>]) -> Result<Vec<Tensor>> {
    columns.iter().map(|rows| Ok(Tensor::cat(rows, 0)?)).collect()
}

impl<M: Predictor + ?Sized, E: Explainer<M>> Explainer<M> for NoiseTunnel<E> {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let sigmas = self.noise.sigmas(task.x)?;
        if !self.noise.spread
            && self.statistic == Statistic::Mean
            && let Some(found) = self.summed(task, &sigmas)?
        {
            return Ok(found);
        }
        self.collected(task, &sigmas)
    }

    fn check_model(&self, model: &M, x: &Inputs) -> Result<Vec<String>> {
        self.explainer.check_model(model, x)
    }

    fn cost_of(&self, model: &M, x: &Inputs) -> Result<Cost> {
        let once = Cost { forward: x.batch()?, backward: 0 };
        Ok(self.explainer.cost_of(model, x)? * self.noise.samples + once)
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Autograd, Device, Run, Target, to_f64};

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
        // S = ½ Σ x², so the gradient at a noisy copy is g = x + ε.
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
        let mean = explain(NoiseTunnel::smooth_grad(Saliency::default()))?;
        close(&flat(mean.values()), &[1.0, 2.0, 3.0, -1.0]);
        let error = mean.parts[0].spread.as_ref().map(flat).unwrap_or_default();
        close(&error, &[3_f64.sqrt(), 1.0, 3_f64.sqrt(), 1.0]);
        let square = explain(NoiseTunnel::smooth_grad_sq(Saliency::default()))?;
        close(&flat(square.values()), &[7.0, 6.0, 15.0, 3.0]);
        let variance = explain(NoiseTunnel::var_grad(Saliency::default()))?;
        close(&flat(variance.values()), &[6.0, 2.0, 6.0, 2.0]);
        assert_eq!(variance.provenance.method, "var-grad");
        assert_eq!(variance.provenance.config["explainer"]["method"], "saliency");
        assert_eq!(variance.provenance.cost, Cost { forward: 6 + 2, backward: 6 });
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
            Box::new(NoiseTunnel::smooth_grad(InputXGradient::default()).samples(5)),
            Box::new(NoiseTunnel::var_grad(IntegratedGradients::exactly(4)).samples(5)),
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
        let plain = || NoiseTunnel::smooth_grad(Saliency::default());
        assert!(explain(plain().samples(0)).is_err());
        assert!(explain(plain().sigma(-1.0)).is_err());
        assert!(explain(plain().sigma(f64::NAN)).is_err());
        assert!(explain(NoiseTunnel::var_grad(Saliency::default()).samples(1)).is_err());
        assert!(explain(plain().with_noise(Tensor::new(&[[1_f64, 2.0, 3.0]], &Device::Cpu)?)?).is_err());
        assert!(explain(plain().samples(1)).is_ok());
        Ok(())
    }
}
