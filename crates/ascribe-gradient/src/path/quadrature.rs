//! Quadrature on the unit interval.

use std::f64::consts::PI;

use ascribe_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Nodes α_i and weights w_i, i = 0 … n − 1, of ∫₀¹ g(α) dα ≈ Σ_i w_i g(α_i). All weights sum to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quadrature {
    /// α_i = i / n, w_i = 1 / n.
    RiemannLeft,
    /// α_i = (i + 1) / n, w_i = 1 / n: the rule of Sundararajan et al. 2017, eq. 3.
    RiemannRight,
    /// α_i = (i + ½) / n, w_i = 1 / n.
    RiemannMiddle,
    /// α_i = i / (n − 1), w_i = 1 / (n − 1), half of it at both ends.
    RiemannTrapezoid,
    /// α_i = (1 + ξ_i) / 2 with the roots ξ_i of the Legendre polynomial of degree n: exact for polynomials of
    /// degree 2n − 1.
    #[default]
    GaussLegendre,
}

impl std::fmt::Display for Quadrature {
    /// Writes the name that configurations use.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

impl Quadrature {
    /// Nodes and weights, nodes in ascending order.
    ///
    /// # Errors
    /// If there are fewer nodes than the rule needs: 2 for the trapezoid, 1 for the others.
    pub fn nodes(self, n: usize) -> Result<Vec<(f64, f64)>> {
        let least = if self == Self::RiemannTrapezoid { 2 } else { 1 };
        if n < least {
            return Err(Error::invalid("steps", n.to_string(), format!("at least {least} for {self}")));
        }
        let count = n as f64;
        let even = |shift: f64| (0..n).map(|i| ((i as f64 + shift) / count, 1.0 / count)).collect();
        Ok(match self {
            Self::RiemannLeft => even(0.0),
            Self::RiemannRight => even(1.0),
            Self::RiemannMiddle => even(0.5),
            Self::RiemannTrapezoid => (0..n)
                .map(|i| {
                    let end = i == 0 || i == n - 1;
                    (i as f64 / (count - 1.0), if end { 0.5 } else { 1.0 } / (count - 1.0))
                })
                .collect(),
            Self::GaussLegendre => gauss_legendre(n),
        })
    }
}

/// Gauss–Legendre nodes on [0, 1], by Newton's method from Tricomi's estimate of the roots.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let count = n as f64;
    let mut nodes = vec![(0.5, 0.0); n];
    for i in 0..n.div_ceil(2) {
        let angle = PI * (i as f64 + 0.75) / (count + 0.5);
        let mut root = (1.0 - (count - 1.0) / (8.0 * count.powi(3))) * angle.cos();
        // Newton's method converges quadratically: from this start it reaches rounding error in a few steps.
        for _ in 0..10 {
            let (value, slope) = legendre(n, root);
            root -= value / slope;
        }
        if 2 * i + 1 == n {
            root = 0.0;
        }
        let slope = legendre(n, root).1;
        let weight = 1.0 / ((1.0 - root * root) * slope * slope);
        nodes[i] = (0.5 * (1.0 - root), weight);
        nodes[n - 1 - i] = (0.5 * (1.0 + root), weight);
    }
    nodes
}

/// The Legendre polynomial of degree n at t, and its derivative.
fn legendre(n: usize, t: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, t);
    for k in 2..=n {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k - 1.0) * t * value - (k - 1.0) * before) / k);
    }
    (value, n as f64 * (t * value - before) / (t * t - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Quadrature; 5] = [
        Quadrature::RiemannLeft,
        Quadrature::RiemannRight,
        Quadrature::RiemannMiddle,
        Quadrature::RiemannTrapezoid,
        Quadrature::GaussLegendre,
    ];

    #[test]
    fn weights_sum_to_one() -> Result<()> {
        for rule in ALL {
            for n in [2, 3, 10, 51, 300] {
                let nodes = rule.nodes(n)?;
                assert_eq!(nodes.len(), n);
                assert!((nodes.iter().map(|n| n.1).sum::<f64>() - 1.0).abs() < 1e-13, "{rule:?} {n}");
                assert!(nodes.windows(2).all(|w| w[0].0 < w[1].0), "{rule:?} {n}");
            }
        }
        Ok(())
    }

    #[test]
    fn gauss_legendre_is_exact_for_polynomials() -> Result<()> {
        for n in 1..=40 {
            let nodes = Quadrature::GaussLegendre.nodes(n)?;
            for degree in 0..2 * n {
                let sum: f64 = nodes.iter().map(|(a, w)| w * a.powi(degree as i32)).sum();
                let exact = 1.0 / (degree as f64 + 1.0);
                assert!((sum - exact).abs() < 1e-13, "{n} nodes, degree {degree}: {sum} instead of {exact}");
            }
        }
        Ok(())
    }

    #[test]
    fn nodes_as_documented() -> Result<()> {
        assert_eq!(Quadrature::RiemannLeft.nodes(4)?[1], (0.25, 0.25));
        assert_eq!(Quadrature::RiemannRight.nodes(4)?[3], (1.0, 0.25));
        assert_eq!(Quadrature::RiemannMiddle.nodes(2)?, [(0.25, 0.5), (0.75, 0.5)]);
        assert_eq!(Quadrature::RiemannTrapezoid.nodes(3)?, [(0.0, 0.25), (0.5, 0.5), (1.0, 0.25)]);
        assert!(Quadrature::RiemannTrapezoid.nodes(1).is_err());
        assert!(Quadrature::GaussLegendre.nodes(0).is_err());
        Ok(())
    }
}
