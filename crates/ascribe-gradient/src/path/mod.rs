//! Integrals of gradients along paths.
//!
//! A path γ leads from a start γ(0) to the sample γ(1) = x. Its attribution is ∫₀¹ ∇S(γ(α)) ⊙ γ′(α) dα, which sums to
//! S(x) − S(γ(0)) for any path (Sundararajan, Taly & Yan 2017, §5). [`Path`] describes the position and the velocity
//! of a path; [`Integrator`] is responsible for quadrature, error control and cheaper evaluation if the model
//! supports it. [`Steered`] paths are directed by the gradient itself.

mod integrator;
mod quadrature;
mod references;
mod refined;
mod steered;

use ascribe_core::{Inputs, Result, Tensor};

pub use integrator::Integrator;
pub use quadrature::Quadrature;
pub use references::References;
pub use steered::{Steered, Step, integrate_steered};

/// The paths of the samples of a batch. A sample has one tensor for each explained input; its first axis has length
/// 1.
pub trait Path {
    /// The starts of the paths: one tensor for each explained input, with one row for each sample.
    fn starts(&self) -> &[Tensor];

    /// The position γ(α) of a sample's path, for α between 0 and 1.
    ///
    /// # Errors
    /// If the arithmetic fails.
    fn position(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>>;

    /// The velocity γ′(α).
    ///
    /// # Errors
    /// If the arithmetic fails.
    fn velocity(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>>;

    /// Whether the velocity is x − γ(0) everywhere. Along such paths, a model may share the work of its first layer
    /// ([`ascribe_core::Differentiable::line`]).
    fn is_straight(&self) -> bool {
        false
    }
}

/// Straight lines: γ(α) = x′ + α (x − x′).
#[derive(Clone, Debug)]
pub struct Straight {
    starts: Vec<Tensor>,
    ways: Vec<Tensor>,
}

impl Straight {
    /// The lines from these starts, which are shaped like the explained inputs, to the samples.
    ///
    /// # Errors
    /// If the starts do not fit the inputs.
    pub fn new(x: &Inputs, starts: &[Tensor]) -> Result<Self> {
        let ways = x.explained().zip(starts).map(|(x, start)| Ok((&x.value - start)?));
        Ok(Self { starts: starts.to_vec(), ways: ways.collect::<Result<_>>()? })
    }
}

impl Path for Straight {
    fn starts(&self) -> &[Tensor] {
        &self.starts
    }

    fn position(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>> {
        let at = |(start, way): (&Tensor, &Tensor)| {
            Ok((start.narrow(0, sample, 1)? + (way.narrow(0, sample, 1)? * alpha)?)?)
        };
        self.starts.iter().zip(&self.ways).map(at).collect()
    }

    fn velocity(&self, sample: usize, _: f64) -> Result<Vec<Tensor>> {
        row(&self.ways, sample)
    }

    fn is_straight(&self) -> bool {
        true
    }
}

/// The rows of one sample.
fn row(values: &[Tensor], sample: usize) -> Result<Vec<Tensor>> {
    values.iter().map(|value| Ok(value.narrow(0, sample, 1)?)).collect()
}

/// `sum += weight · values` for each tensor.
fn accumulate(sum: &mut Vec<Tensor>, values: &[Tensor], weight: f64) -> Result<()> {
    if sum.is_empty() {
        *sum = values.iter().map(|v| Ok((v * weight)?)).collect::<Result<_>>()?;
        return Ok(());
    }
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = (&*sum + (value * weight)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
