//! Hidden values from rows of the data in the same cluster.

use candle_core::Tensor;
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::correlated::Scales;
use super::k_means::k_means;
use super::table::{Layout, Table, kept};
use super::{DRAWS, check_count, uniform};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::features::{Fill, Hidden};
use crate::fit::Fit;
use crate::random;
use crate::run::Run;

/// Draws of hidden values from the rows of the data that belong to the same cluster as the sample.
///
/// The data is divided into clusters by k-means, with each value in units of its standard deviation. A sample belongs to the
/// cluster c whose centre `μ_c` is closest in what is kept, the least sum of `((x_j − μ_cj) / σ_j)²` over the kept values j, and a draw is the hidden
/// values of one of its rows, each with the same probability. Where nothing is kept, a draw is any row of the data.
///
/// This takes features as independent within a cluster: `p(hidden | kept) ≈ p(hidden | cluster)`. It is the idea of conditional
/// subgroups (Molnar, König, Bischl & Casalicchio 2024, "Model-agnostic feature importance and effects with dependent features: a
/// conditional subgroup approach", Data Mining and Knowledge Discovery 38), whose subgroups are leaves of decision trees, one tree
/// for each feature. The clusters here serve any set of hidden features, and have no paper of their own.
///
/// Cost: O(n p k) for each of at most 300 iterations with n rows, p values and k clusters; O(s k) for each draw with s kept values.
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::features::conditional::Clustered;
/// use ascribe_core::features::{Features, Fill, Hidden, Mask};
/// use ascribe_core::{Device, Fit, Inputs, Run, Tensor};
/// let rows = Tensor::new(&[[0_f64, 5.0], [1.0, 6.0], [20.0, -5.0], [21.0, -6.0]], &Device::Cpu)?;
/// let data = InMemory::labelled(&rows, &[0; 4])?;
/// let fill = Clustered { clusters: 2, ..Clustered::default() }.fit(&data, &Run::new())?;
/// let x = Tensor::new(&[[19_f64, 0.0]], &Device::Cpu)?;
/// let features = Features::positions(&Inputs::single(x.clone())?)?;
/// let mask = Mask::Without(vec![1]);
/// let hidden = Hidden { sample: 0, number: 0, draw: 0, x: &[x], mask: &mask, features: &features };
/// let drawn = fill.fill(&hidden)?[0].to_vec2::<f64>()?[0][1];
/// assert!([-5.0, -6.0].contains(&drawn));
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clustered {
    /// Number of clusters, from 1 to the number of different rows.
    pub clusters: usize,
    /// Number of draws that a score is the mean of.
    pub draws: usize,
}

impl Default for Clustered {
    /// 10 clusters, 100 draws.
    fn default() -> Self {
        Self { clusters: 10, draws: DRAWS }
    }
}

/// The rows of the data, and their clusters.
#[derive(Debug)]
pub struct FittedClustered {
    layout: Layout,
    samples: DMatrix<f64>,
    scales: Scales,
    /// In units of the standard deviations, one column per cluster.
    centres: DMatrix<f64>,
    members: Vec<Vec<usize>>,
    draws: usize,
    seed: u64,
}

/// Stream of the starting points of the clusters.
const CLUSTERS: random::Domain = random::Domain::new("clusters");

impl FittedClustered {
    /// Numbers of the samples in each cluster. None is empty.
    pub fn members(&self) -> &[Vec<usize>] {
        &self.members
    }

    /// The cluster that is closest in these values.
    fn closest(&self, sample: &[f64], kept: &[usize]) -> usize {
        let standard: Vec<f64> = kept.iter().map(|&at| self.scales.standard(at, sample[at])).collect();
        let squared = |cluster: usize| -> f64 {
            kept.iter().zip(&standard).map(|(&at, own)| (own - self.centres[(at, cluster)]).powi(2)).sum()
        };
        let all = (0..self.members.len()).map(|cluster| (cluster, squared(cluster)));
        all.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(cluster, _)| cluster)
    }
}

impl Fit for Clustered {
    type Fitted = FittedClustered;

    /// # Errors
    /// If there are no draws or no clusters, or more clusters than different rows; if the dataset has fewer than two samples, or
    /// samples with values that are not finite, of different shapes, or of more than [`LARGEST`](super::LARGEST) values; the
    /// dataset's own; if the run is cancelled.
    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<FittedClustered> {
        check_count("draws", self.draws)?;
        check_count("clusters", self.clusters)?;
        if self.clusters > data.len().max(2) {
            let problem = format!("are {} of {} samples", self.clusters, data.len());
            return Err(Error::invalid("clusters", problem, "at most as many as samples"));
        }
        let Table { layout, samples } = Table::read(data, run)?;
        let scales = Scales::of(&samples);
        let mut rng = random::stream(run.get_seed(), CLUSTERS, 0);
        let (centres, assigned) =
            k_means(&scales.standardised(&samples), self.clusters, &mut rng, &run.quiet())?;
        let mut members = vec![Vec::new(); self.clusters];
        assigned.iter().enumerate().for_each(|(sample, &cluster)| members[cluster].push(sample));
        Ok(FittedClustered {
            layout,
            samples,
            scales,
            centres,
            members,
            draws: self.draws,
            seed: run.get_seed(),
        })
    }
}

impl Fill for FittedClustered {
    fn draws(&self) -> usize {
        self.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let (mut row, positions) = self.layout.read(hidden)?;
        let (kept, share) = (kept(&positions), uniform(self.seed, hidden.draw));
        // The share is less than 1, and so the position less than the count.
        let position = |count: usize| (share * count as f64) as usize;
        let drawn = if kept.is_empty() {
            position(self.samples.ncols())
        } else {
            let members = &self.members[self.closest(&row, &kept)];
            members[position(members.len())]
        };
        for at in (0..row.len()).filter(|&at| positions[at]) {
            row[at] = self.samples[(at, drawn)];
        }
        Layout::write(&row, hidden.x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::features::Mask;

    /// Rows near (0, 0, 0) and twice as many near (10, 1000, −5); the scales of the values differ.
    fn groups() -> Vec<Vec<f64>> {
        let row = |number: u64| {
            let noise = numbers(number, 3);
            if number.is_multiple_of(3) {
                vec![noise[0], 100.0 * noise[1], noise[2]]
            } else {
                vec![10.0 + noise[0], 1000.0 + 100.0 * noise[1], noise[2] - 5.0]
            }
        };
        (0..30).map(row).collect()
    }

    fn fit(table: &[Vec<f64>], clusters: usize, draws: usize) -> Result<FittedClustered> {
        let data = rows(&table.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Clustered { clusters, draws }.fit(&data, &Run::new().seed(8))
    }

    #[test]
    fn draws_are_rows_of_the_cluster() -> Result<()> {
        let (table, draws) = (groups(), 3000);
        let fill = fit(&table, 2, draws)?;
        let mut members = fill.members().to_vec();
        members.sort();
        assert_eq!(members[0], (0..30).step_by(3).collect::<Vec<_>>());
        for (x, first) in [([3.0, 900.0, -4.0], true), ([9.0, 300.0, -4.0], false)] {
            // Of the kept value alone: the others say another cluster.
            let drawn = values(&fill, &x, &Mask::With(vec![0]))?;
            let cluster: Vec<&Vec<f64>> =
                (0..30).filter(|n| (n % 3 == 0) == first).map(|n| &table[n]).collect();
            for row in &cluster {
                let found = drawn.iter().filter(|own| own[0] == x[0] && own[1..] == row[1..]).count() as f64;
                let share = 1.0 / cluster.len() as f64;
                let error = (draws as f64 * share * (1.0 - share)).sqrt();
                assert!((found - draws as f64 * share).abs() < 5.0 * error, "{found} draws of {row:?}");
            }
            assert!(drawn.iter().all(|own| cluster.iter().any(|row| own[1..] == row[1..])));
        }
        Ok(())
    }

    #[test]
    fn all_rows_are_drawn_where_nothing_is_kept_or_all_are_one_cluster() -> Result<()> {
        let table = groups();
        let drawn = values(&fit(&table, 2, 400)?, &[0.0; 3], &Mask::With(vec![]))?;
        assert!(table.iter().all(|row| drawn.contains(row)) && drawn.iter().all(|row| table.contains(row)));
        let drawn = values(&fit(&table, 1, 400)?, &[0.0; 3], &Mask::With(vec![0]))?;
        assert!(table.iter().all(|row| drawn.iter().any(|own| own[1..] == row[1..])));
        Ok(())
    }

    #[test]
    fn draws_do_not_depend_on_the_batch() -> Result<()> {
        check_batches(&fit(&groups(), 2, 7)?, &[[2.5, -1.0, 3.0], [10.0, 900.0, -5.0]])
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        let table = groups();
        check_errors(&fit(&table, 2, 2)?, |data| {
            Clustered { clusters: 1, draws: 1 }.fit(data, &Run::new()).map(|_| ())
        })?;
        let wrong = |clusters, draws| fit(&table, clusters, draws).unwrap_err().to_string();
        assert!(wrong(2, 0).contains("draws") && wrong(0, 1).contains("clusters"));
        assert!(wrong(31, 1).contains("31 of 30 samples"));
        Ok(())
    }
}
