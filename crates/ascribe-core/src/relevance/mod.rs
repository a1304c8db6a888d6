//! Relevance propagation: rules that distribute the relevance of a node among its inputs in proportion to their
//! contributions.
//!
//! All rules for affine nodes are instances of one rule, [`AffineRule`], described by data. [`Norm`] and [`Pass`] are
//! the rules of sums, averages and activations. The rule of each node is given by a list of [`Entry`], in Rust or in
//! JSON, or by the name of a [`Preset`], which is such a list. [`CompositeSpec`] turns them into the
//! [`Composite`](crate::Composite) of a graph.

#![allow(clippy::doc_markdown, reason = "formulas are written in prose, with the papers' symbols")]

mod affine;
mod basic;
mod bound;
mod presets;
mod spec;
mod terms;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use crate::error::Result;

pub use basic::{Norm, Pass};
pub use bound::Bound;
pub use presets::Preset;
pub use spec::{At, Bias, CompositeSpec, Entry, Numbers, RuleName};
pub use terms::{AffineRule, Gate, Part, Share, Term, Weights};

/// R / stab(d), or 0 where both ε and d are 0.
fn quotient(signal: &Tensor, denominator: &Tensor, epsilon: f64) -> Result<Tensor> {
    if epsilon == 0.0 {
        let zero = denominator.eq(0.0)?;
        let safe = zero.where_cond(&denominator.ones_like()?, denominator)?;
        return Ok(zero.where_cond(&signal.zeros_like()?, &(signal / safe)?)?);
    }
    let sign = ((denominator.ge(0.0)?.to_dtype(denominator.dtype())? * 2.0)? - 1.0)?;
    Ok((signal / (denominator + (sign * epsilon)?)?)?)
}
