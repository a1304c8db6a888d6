//! Integrated gradients: Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks", eqs. 1 and 3.
//!
//! The gradient, averaged along the straight line from a baseline x′ to the input, times the difference x − x′:
//!
//! A = (x − x′) ⊙ ∫₀¹ ∇S(x′ + α(x − x′)) dα ≈ (x − x′) ⊙ Σ_i w_i ∇S(x′ + α_i (x − x′))
//!
//! *Completeness*: the attribution sums to S(x) − S(x′), up to the quadrature error, which is reported as the
//! completeness gap. The gap is known for every part of the line, since the gradients along a part must account for
//! the change of the score between its ends. If the total gap is more than `tolerance` times |S(x) − S(x′)|, the
//! parts with the largest gaps are bisected, with `steps` points for each half, until the gap is small enough or the
//! line has `max_steps` points. Without a tolerance there are `steps` points. A gap of more than 5 % is a warning. If
//! the baseline is a distribution of R references, the result is the average over them.
//!
//! Cost: R · steps evaluations and backward walks, and 1 + R evaluations for the gap; refinement for a tolerance adds
//! at most the cost of twice `max_steps` points.

use std::collections::BTreeMap;

use ascribe_core::{
    Baseline, Card, Configured, Cost, Differentiable, Explainer, Family, Found, Inputs, Result, Task,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use crate::path::{Integrator, Quadrature, References, Straight};

/// Configuration of integrated gradients. The attribution has the input's shape.
///
/// The paper uses the right Riemann sum with 20 to 300 steps. The defaults are Gauss–Legendre quadrature and 50
/// steps, refined until the gap is at most 1 %.
///
/// ```
/// use ascribe_core::{Autograd, Device, Explainer, Inputs, Run, Target, Tensor};
/// use ascribe_gradient::IntegratedGradients;
/// // f = 1 − ReLU(1 − x) is flat at x = 2, but rises from 0 to 1 on the way from 0.
/// let f = Autograd::new(|x: &Tensor| (1.0 - (1.0 - x)?.relu()?));
/// let x = Inputs::single(Tensor::new(&[[2_f64]], &Device::Cpu)?)?;
/// let method = IntegratedGradients::default().steps(8).tolerance(1e-3);
/// let found = method.explain(&f, &x, &Target::Class(0), &Run::new())?;
/// assert!((found.values().to_vec2::<f64>()?[0][0] - 1.0).abs() < 1e-3);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct IntegratedGradients {
    /// The points on the line at which the gradient is evaluated, and their weights.
    pub quadrature: Quadrature,
    /// Number of points on the line; with a tolerance, the initial number.
    pub steps: usize,
    /// The baseline x′.
    pub baseline: Baseline,
    /// Baselines of single inputs, by name, if they differ from `baseline`.
    pub baselines: BTreeMap<String, Baseline>,
    /// Whether to multiply by x − x′; otherwise the result is the averaged gradient, which does not satisfy
    /// completeness.
    pub multiply_by_inputs: bool,
    /// Largest acceptable completeness gap, as a fraction of |S(x) − S(x′)|; `None` for exactly `steps` points.
    #[setters(into)]
    pub tolerance: Option<f64>,
    /// Number of points on the line at which refinement stops.
    pub max_steps: usize,
}

impl Default for IntegratedGradients {
    fn default() -> Self {
        Self {
            quadrature: Quadrature::GaussLegendre,
            steps: 50,
            baseline: Baseline::Zero,
            baselines: BTreeMap::new(),
            multiply_by_inputs: true,
            tolerance: Some(0.01),
            max_steps: 1600,
        }
    }
}

impl IntegratedGradients {
    /// Uses exactly this number of points, whatever the gap is: for comparisons.
    pub fn exactly(steps: usize) -> Self {
        Self { steps, tolerance: None, ..Self::default() }
    }

    fn integrator(&self) -> Integrator {
        let Self { quadrature, steps, tolerance, max_steps, .. } = *self;
        Integrator { quadrature, steps, tolerance, max_steps }
    }

    /// Sets the baseline of one input, if there are several.
    pub fn baseline_of(mut self, input: impl Into<String>, baseline: Baseline) -> Self {
        self.baselines.insert(input.into(), baseline);
        self
    }
}

impl Configured for IntegratedGradients {
    const CARD: Card = Card {
        id: "integrated-gradients",
        name: "Integrated gradients",
        also: &["IG", "path integrated gradients"],
        summary: "gradients along the straight path from a baseline, summed: accounts for the whole score",
        paper: "Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks",
        year: 2017,
        networks: &["GoogLeNet", "LSTM"],
        ..Card::gradient(Family::Integrated).with_baseline()
    };

    fn cost(&self, x: &Inputs) -> Cost {
        let samples = x.batch().unwrap_or(0);
        let counts = self.baselines.values().chain([&self.baseline]).map(|b| b.count().unwrap_or(1));
        let references = counts.max().unwrap_or(1);
        let line = Cost { forward: self.steps, backward: self.steps } * references;
        (line + Cost { forward: 1 + references, backward: 0 }) * samples
    }

    fn check(&self) -> Result<()> {
        self.integrator().check()
    }
}

impl<M: Differentiable + ?Sized> Explainer<M> for IntegratedGradients {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let mut references = References::new(task.x, &self.baseline, &self.baselines, task.run.get_seed())?;
        let count = references.count();
        let lines = |number| Straight::new(task.x, references.all(number)?);
        self.integrator().attribute(task, count, lines, self.multiply_by_inputs)
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Attribution, Autograd, Device, Run, Target, Tensor};

    use super::*;

    fn input(values: &[[f64; 1]]) -> Result<Inputs> {
        Inputs::single(Tensor::from_vec(
            values.iter().map(|v| v[0]).collect(),
            (values.len(), 1),
            &Device::Cpu,
        )?)
    }

    fn values(found: &Attribution) -> Result<Vec<f64>> {
        Ok(found.values().flatten_all()?.to_vec1()?)
    }

    #[test]
    fn quadratic_is_exact_and_averages_references() -> Result<()> {
        // S = x²: A = x² − x′², which the midpoint rule gives exactly.
        let model = Autograd::new(|x: &Tensor| x.sqr());
        let method = IntegratedGradients::exactly(3).quadrature(Quadrature::RiemannMiddle);
        let x = input(&[[3.0], [-1.0]])?;
        let found = method.explain(&model, &x, &Target::Class(0), &Run::new())?;
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(&values(&found)?, &[9.0, 1.0]));
        assert!(found.provenance.completeness_gap.is_some_and(|g| close(&g, &[0.0, 0.0])));
        let references = Baseline::Samples(Tensor::new(&[[1_f64], [2.0]], &Device::Cpu)?);
        let found =
            method.clone().baseline(references).explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert!(close(&values(&found)?, &[9.0 - 2.5, 1.0 - 2.5]));
        let own = Baseline::Tensor(Tensor::new(&[[1_f64], [2.0]], &Device::Cpu)?);
        let found = method.clone().baseline(own).explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert!(close(&values(&found)?, &[9.0 - 1.0, 1.0 - 4.0]), "one reference per sample");
        let found = method.multiply_by_inputs(false).explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert!(close(&values(&found)?, &[3.0, -1.0]));
        assert!(found.provenance.completeness_gap.is_none());
        Ok(())
    }

    #[test]
    fn tolerance_refines_each_sample_by_itself() -> Result<()> {
        let model = Autograd::new(|x: &Tensor| 1.0 - (1.0 - x)?.relu()?);
        let method = IntegratedGradients::default()
            .quadrature(Quadrature::RiemannRight)
            .steps(4)
            .tolerance(1e-3)
            .max_steps(4096);
        // The gradient is zero beyond x = 1, which the line to 0.5 does not reach.
        let x = input(&[[3.3], [0.5]])?;
        let found = method.explain(&model, &x, &Target::Class(0), &Run::new())?;
        for (value, expected) in values(&found)?.iter().zip([1.0, 0.5]) {
            assert!((value - expected).abs() < 1e-3);
        }
        let notes = &found.provenance.notes;
        assert!(notes[1].starts_with("sample 1: 4 steps"), "{notes:?}");
        assert!(notes[0].starts_with("sample 0: ") && notes[0].contains("within"), "{notes:?}");
        let alone = method.explain(&model, &input(&[[3.3]])?, &Target::Class(0), &Run::new())?;
        assert_eq!(values(&alone)?[0], values(&found)?[0]);
        let short = method.clone().max_steps(4).explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert!(short.provenance.notes[0].contains("not reached"), "{:?}", short.provenance.notes);
        Ok(())
    }

    #[test]
    fn a_large_gap_is_a_warning_that_says_what_to_do() -> Result<()> {
        let model = Autograd::new(|x: &Tensor| 1.0 - (1.0 - x)?.relu()?);
        let x = input(&[[3.3]])?;
        let warnings = |method: IntegratedGradients| -> Result<Vec<String>> {
            Ok(method.explain(&model, &x, &Target::Class(0), &Run::new())?.provenance.warnings)
        };
        // Three of ten points are before the kink at 1 / 3.3: 0.99 instead of 1. With two points it is one: 1.65.
        let middle = |steps| IntegratedGradients::exactly(steps).quadrature(Quadrature::RiemannMiddle);
        assert!(warnings(middle(10))?.is_empty());
        let alone = warnings(middle(2))?;
        assert!(alone[0].contains("misses 65 %") && alone[0].contains("`tolerance`"), "{alone:?}");
        let capped = warnings(middle(2).tolerance(0.01).max_steps(2))?;
        assert!(capped[0].contains("`max_steps`"), "{capped:?}");
        assert!(warnings(IntegratedGradients::default())?.is_empty());
        Ok(())
    }

    #[test]
    fn a_score_that_does_not_change_needs_no_refinement() -> Result<()> {
        let model = Autograd::new(|x: &Tensor| (x * 1e-9)? + 1e6);
        let x = Inputs::single(Tensor::new(&[[1_f32]], &Device::Cpu)?)?;
        let found = IntegratedGradients::default().explain(&model, &x, &Target::Class(0), &Run::new())?;
        assert!(found.provenance.cost.backward <= 50, "{:?}", found.provenance.cost);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() -> Result<()> {
        let model = Autograd::new(|x: &Tensor| x.sqr());
        let x = input(&[[1.0]])?;
        let plain = IntegratedGradients::default();
        for method in [
            plain.clone().steps(0),
            plain.clone().quadrature(Quadrature::RiemannTrapezoid).steps(1),
            plain.clone().tolerance(0.0),
            plain.clone().tolerance(0.1).max_steps(10),
            plain.clone().baseline_of("nobody", Baseline::Zero),
            plain.clone().baseline(Baseline::Channels(vec![1.0, 2.0])),
        ] {
            assert!(method.explain(&model, &x, &Target::Class(0), &Run::new()).is_err(), "{method:?}");
        }
        Ok(())
    }
}
