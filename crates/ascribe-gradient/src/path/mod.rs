//! Integrals of gradients along paths.
//!
//! A path γ leads from a start γ(0) to the sample γ(1) = x. What it attributes is ∫₀¹ ∇S(γ(α)) ⊙ γ′(α) dα, which sums to
//! S(x) − S(γ(0)), whatever the path (Sundararajan, Taly & Yan 2017, §5). [`Path`] says where a path is and where to it goes;
//! [`Integrator`] owns quadrature, control of the error and what models do for less. [`Steered`] paths find their way by the
//! gradient itself.

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

/// The paths of the samples of a batch. Tensors of a sample have a first axis of length 1, one for each explained input.
pub trait Path {
    /// Where the paths start: one tensor for each explained input, one row for each sample.
    fn starts(&self) -> &[Tensor];

    /// Where the path of a sample is at α, between 0 and 1: γ(α).
    ///
    /// # Errors
    /// If the arithmetic fails.
    fn position(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>>;

    /// Where to it goes from there: γ′(α).
    ///
    /// # Errors
    /// If the arithmetic fails.
    fn velocity(&self, sample: usize, alpha: f64) -> Result<Vec<Tensor>>;

    /// Whether the velocity is x − γ(0) everywhere. Such paths share a model's first layer where it can do that
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
    /// The lines from these starts, shaped like the explained inputs, to the samples.
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
        self.ways.iter().map(|way| Ok(way.narrow(0, sample, 1)?)).collect()
    }

    fn is_straight(&self) -> bool {
        true
    }
}

/// The rows of one sample.
fn row(values: &[Tensor], sample: usize) -> Result<Vec<Tensor>> {
    values.iter().map(|value| Ok(value.narrow(0, sample, 1)?)).collect()
}

/// `sum += weight · values`, tensor by tensor.
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
