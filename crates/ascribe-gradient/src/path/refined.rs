//! The parts of a path and the integrals along them.

use ascribe_core::{Result, Tensor, to_f64};

use super::accumulate;

/// A part of a sample's path, between two values of α.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) sample: usize,
    pub(super) ends: [f64; 2],
    /// The scores at its ends; the attribution along the part must sum to their difference.
    pub(super) scores: [f64; 2],
}

impl Part {
    /// Maps a node and weight of the quadrature on \[0, 1\] to this part.
    pub(super) fn node(&self, (at, weight): (f64, f64)) -> (f64, f64) {
        let length = self.ends[1] - self.ends[0];
        (self.ends[0] + at * length, weight * length)
    }
}

/// The parts of a sample's path, each with its integral and its gap.
#[derive(Debug, Default)]
pub(super) struct Refined {
    pub(super) parts: Vec<(Part, Integral, f64)>,
    /// Number of points evaluated, including those of parts that were bisected.
    pub(super) points: usize,
}

impl Refined {
    /// The gap of the whole path.
    pub(super) fn gap(&self) -> f64 {
        self.parts.iter().map(|(_, _, gap)| gap).sum()
    }

    /// Bisects the parts with the largest gaps, until the gaps of the others sum to at most half of `wanted`, or
    /// `room` parts have been bisected; returns the halves, in pairs.
    pub(super) fn cut(&mut self, wanted: f64, room: usize) -> Vec<Part> {
        self.parts.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        let mut left: f64 = self.parts.iter().map(|(_, _, gap)| gap.abs()).sum();
        let enough = self.parts.iter().take_while(|(_, _, gap)| {
            let more = left > 0.5 * wanted;
            left -= gap.abs();
            more
        });
        let count = enough.count().min(room);
        let halves = |(part, _, _): (Part, Integral, f64)| {
            let middle = f64::midpoint(part.ends[0], part.ends[1]);
            [Part { ends: [part.ends[0], middle], ..part }, Part { ends: [middle, part.ends[1]], ..part }]
        };
        self.parts.drain(..count).flat_map(halves).collect()
    }

    /// Sorts the parts by their position along the path.
    pub(super) fn sort(&mut self) {
        self.parts.sort_by(|a, b| a.0.ends[0].total_cmp(&b.0.ends[0]));
    }

    /// Adds the integral over the path to a mean over `count` paths.
    pub(super) fn add_to(&self, mean: &mut Integral, count: usize) -> Result<()> {
        for (_, integral, _) in &self.parts {
            accumulate(&mut mean.product, &integral.product, 1.0 / count as f64)?;
            accumulate(&mut mean.gradient, &integral.gradient, 1.0 / count as f64)?;
        }
        Ok(())
    }
}

/// The integrals along a path, for each explained input.
#[derive(Clone, Debug, Default)]
pub(super) struct Integral {
    /// ∫ ∇S ⊙ γ′.
    pub(super) product: Vec<Tensor>,
    /// ∫ ∇S, for straight paths only.
    pub(super) gradient: Vec<Tensor>,
}

impl Integral {
    /// The integrals along a straight line, from x − x′ and the integral of the gradient.
    pub(super) fn of_line(way: &[Tensor], gradient: Vec<Tensor>) -> Result<Self> {
        let product: Result<Vec<Tensor>> = way.iter().zip(&gradient).map(|(way, g)| Ok((way * g)?)).collect();
        Ok(Self { product: product?, gradient })
    }

    /// The sum of the product over all values.
    pub(super) fn total(&self) -> Result<f64> {
        let parts = self.product.iter().map(|p| Ok(to_f64(&p.flatten_all()?)?.iter().sum::<f64>()));
        parts.sum()
    }
}
