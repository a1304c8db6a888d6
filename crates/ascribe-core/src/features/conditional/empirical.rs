//! Hidden values from rows of the data that resemble what is kept.

use candle_core::Tensor;
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::correlated::{Correlated, Scales};
use super::table::{Layout, Table, kept};
use super::weights::Weights;
use super::{DRAWS, check_count, uniform};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::features::{Fill, Hidden};
use crate::fit::Fit;
use crate::run::Run;

/// Draws of hidden values from the empirical conditional distribution (Aas, Jullum & Løland 2021, "Explaining individual
/// predictions when features are dependent: More accurate approximations to Shapley values", Artificial Intelligence 298, §3.3).
///
/// Row i of the data weighs
///
/// `w_i = exp(−D_i² / (2 σ²))` with `D_i² = (x_S − x_S⁽ⁱ⁾)ᵀ Σ_SS⁻¹ (x_S − x_S⁽ⁱ⁾) / |S|`,
///
/// where S are the kept values and Σ is the covariance of the data: D has no unit, and its mean square over pairs of samples
/// is 2. Of the rows in the order of their weights, only the first ones count, as few as have a share η of the total weight;
/// rows that weigh as much as the last of them count too, so that the order of the data does not matter. Where nothing is kept,
/// all rows weigh the same, and all count.
///
/// The paper's estimate is the mean of the scores of all these rows by their weights. A [`Fill`] has draws of equal weight, so that
/// each draw is the hidden values of one of the rows, chosen at random in proportion to the weights: the mean over draws has the
/// same expectation. Draws are jointly those of one row, and rows may come more than once. A sample that is itself a row of the
/// data is its own closest row.
///
/// Values that do not vary are ignored, and singular correlations are as for [`Gaussian`](super::Gaussian).
///
/// Cost: O(s³ + n s²) for each set of s kept values and n rows, O(s² + n s + n log n) for each sample, little for each draw.
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::features::conditional::Empirical;
/// use ascribe_core::features::{Features, Fill, Hidden, Mask};
/// use ascribe_core::{Device, Fit, Inputs, Run, Tensor};
/// let rows = Tensor::new(&[[0_f64, 5.0], [1.0, 6.0], [2.0, 7.0], [3.0, 9.0]], &Device::Cpu)?;
/// let fill = Empirical::default().fit(&InMemory::labelled(&rows, &[0; 4])?, &Run::new())?;
/// let x = Tensor::new(&[[2.1_f64, 0.0]], &Device::Cpu)?;
/// let features = Features::positions(&Inputs::single(x.clone())?)?;
/// let mask = Mask::Without(vec![1]);
/// let hidden = Hidden { sample: 0, number: 0, draw: 0, x: &[x], mask: &mask, features: &features };
/// assert_eq!(fill.fill(&hidden)?[0].to_vec2::<f64>()?[0][1], 7.0);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Empirical {
    /// Width σ of the kernel, in the unit of the distance D, which is none: positive. Rows at a distance of σ weigh 61 % of a row
    /// with equal kept values.
    pub sigma: f64,
    /// Share η of the total weight that the rows have which count, above 0 and at most 1.
    pub eta: f64,
    /// Number of draws that a score is the mean of.
    pub draws: usize,
}

impl Default for Empirical {
    /// The paper's σ of 0.1; a share η of 0.95, and 100 draws.
    fn default() -> Self {
        Self { sigma: 0.1, eta: 0.95, draws: DRAWS }
    }
}

/// The rows of the data, and the correlations of their values.
#[derive(Debug)]
pub struct FittedEmpirical {
    settings: Empirical,
    layout: Layout,
    samples: DMatrix<f64>,
    scales: Scales,
    correlated: Correlated,
    seed: u64,
    whitened: Cache<Vec<bool>, Whitened>,
    weights: Cache<(Vec<bool>, Vec<u64>), Weights>,
}

/// The rows of the data in coordinates where the kept values are uncorrelated with variance 1.
#[derive(Debug)]
struct Whitened {
    kept: Vec<usize>,
    root: DMatrix<f64>,
    /// One column per row of the data.
    rows: DMatrix<f64>,
}

impl FittedEmpirical {
    /// What correlations were reduced by because those of the data are singular, as a share of them: 10⁻⁶, or 0.
    pub fn shrinkage(&self) -> f64 {
        self.correlated.shrinkage()
    }

    fn whitened(&self, hidden: &[bool]) -> Result<Whitened> {
        let kept = kept(hidden);
        let root = self.correlated.root(&kept)?;
        let mut rows = DMatrix::from_fn(kept.len(), self.samples.ncols(), |value, row| {
            self.scales.standard(kept[value], self.samples[(kept[value], row)])
        });
        solve(&root, &mut rows)?;
        Ok(Whitened { kept, root, rows })
    }

    fn weights(&self, sample: &[f64], hidden: &[bool]) -> Result<Weights> {
        let Whitened { kept, root, rows } =
            &*self.whitened.get(&hidden.to_vec(), || self.whitened(hidden))?;
        let own = kept.iter().map(|&at| self.scales.standard(at, sample[at]));
        let mut own = DMatrix::from_iterator(kept.len(), 1, own);
        solve(root, &mut own)?;
        let own: DVector<f64> = own.column(0).into_owned();
        let values = kept.len().max(1) as f64;
        let squared: Vec<f64> = rows.column_iter().map(|row| (row - &own).norm_squared() / values).collect();
        Ok(Weights::new(&squared, self.settings.sigma, self.settings.eta))
    }
}

/// `A⁻¹ B` in place of B, for lower triangular A.
fn solve(root: &DMatrix<f64>, right: &mut DMatrix<f64>) -> Result<()> {
    if root.is_empty() || root.solve_lower_triangular_mut(right) {
        return Ok(());
    }
    Err(Error::invalid("correlations of the data", "are singular", "variables that do not repeat each other"))
}

impl Fit for Empirical {
    type Fitted = FittedEmpirical;

    /// # Errors
    /// If a setting is out of range; if the dataset has fewer than two samples, or samples with values that are not finite, of
    /// different shapes, or of more than [`LARGEST`](super::LARGEST) values; the dataset's own; if the run is cancelled.
    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<FittedEmpirical> {
        check_count("draws", self.draws)?;
        if !(self.sigma > 0.0 && self.sigma.is_finite()) {
            return Err(Error::invalid("sigma", format!("is {}", self.sigma), "a positive number"));
        }
        if !(self.eta > 0.0 && self.eta <= 1.0) {
            return Err(Error::invalid("eta", format!("is {}", self.eta), "a share above 0 and at most 1"));
        }
        let Table { layout, samples } = Table::read(data, run)?;
        let scales = Scales::of(&samples);
        let correlated = Correlated::of(&scales.standardised(&samples))?;
        let (variables, count) = samples.shape();
        Ok(FittedEmpirical {
            settings: self.clone(),
            layout,
            scales,
            correlated,
            seed: run.get_seed(),
            whitened: Cache::new(variables * (variables + count)),
            weights: Cache::new(2 * count + variables),
            samples,
        })
    }
}

impl Fill for FittedEmpirical {
    fn draws(&self) -> usize {
        self.settings.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let (mut row, positions) = self.layout.read(hidden)?;
        let known: Vec<u64> = kept(&positions).into_iter().map(|at| row[at].to_bits()).collect();
        let weights = self.weights.get(&(positions.clone(), known), || self.weights(&row, &positions))?;
        let drawn = weights.row(uniform(self.seed, hidden.draw));
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

    const COVARIANCE: [f64; 9] = [4.0, 1.2, -0.6, 1.2, 1.0, 0.3, -0.6, 0.3, 2.0];

    fn table(count: usize) -> Vec<Vec<f64>> {
        let data = with_covariance(&[1.0, -2.0, 0.5], &COVARIANCE, count);
        let row = |number| {
            data.sample(number).unwrap().inputs.find("").unwrap().to_vec2::<f64>().unwrap().remove(0)
        };
        (0..count).map(row).collect()
    }

    fn fit(table: &[Vec<f64>], sigma: f64, eta: f64, draws: usize) -> Result<FittedEmpirical> {
        let data = rows(&table.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Empirical { sigma, eta, draws }.fit(&data, &Run::new().seed(4))
    }

    #[test]
    fn weights_are_those_of_the_scaled_mahalanobis_distance() -> Result<()> {
        let (table, x, sigma) = (table(12), [0.0, 1.0, -1.0], 0.7);
        let fill = fit(&table, sigma, 1.0, 1)?;
        for kept in [vec![1], vec![0, 2], vec![0, 1, 2]] {
            let covariance =
                DMatrix::from_fn(kept.len(), kept.len(), |i, j| COVARIANCE[3 * kept[i] + kept[j]]);
            let inverse = covariance.try_inverse().unwrap();
            let expected: Vec<f64> = table
                .iter()
                .map(|row| {
                    let off = DVector::from_fn(kept.len(), |i, _| x[kept[i]] - row[kept[i]]);
                    (-(off.transpose() * &inverse * &off)[0] / kept.len() as f64 / (2.0 * sigma * sigma))
                        .exp()
                })
                .collect();
            let hidden: Vec<bool> = (0..3).map(|at| !kept.contains(&at)).collect();
            let found = fill.weights(&x, &hidden)?;
            let total: f64 = expected.iter().sum();
            let mut before = 0.0;
            assert_eq!(found.rows.len(), 12);
            for (&row, sum) in found.rows.iter().zip(&found.sums) {
                let weight = (sum - before) / found.sums[11];
                before = *sum;
                assert!(
                    (weight - expected[row] / total).abs() < 1e-12,
                    "row {row} weighs {weight}: {kept:?}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_wide_kernel_draws_from_the_marginals() -> Result<()> {
        let (table, draws) = (table(5), 5000);
        let fill = fit(&table, 1e6, 1.0, draws)?;
        let drawn = values(&fill, &[3.0, 0.0, 0.0], &Mask::Without(vec![1, 2]))?;
        for row in &table {
            let found = drawn.iter().filter(|own| own[1..] == row[1..] && own[0] == 3.0).count() as f64;
            let error = (draws as f64 * 0.2 * 0.8).sqrt();
            assert!((found - 0.2 * draws as f64).abs() < 5.0 * error, "{found} draws of a row");
        }
        // Nothing is kept: all rows count, whatever the settings.
        let fill = fit(&table, 1e-3, 0.5, 200)?;
        let drawn = values(&fill, &[0.0; 3], &Mask::With(vec![]))?;
        assert!(table.iter().all(|row| drawn.contains(row)) && drawn.iter().all(|row| table.contains(row)));
        Ok(())
    }

    #[test]
    fn a_narrow_kernel_picks_the_closest_row() -> Result<()> {
        let table = table(30);
        let fill = fit(&table, 1e-4, 0.95, 50)?;
        let by_value = |x: f64| {
            let order = |a: &&Vec<f64>, b: &&Vec<f64>| (a[1] - x).abs().total_cmp(&(b[1] - x).abs());
            table.iter().min_by(order).unwrap()
        };
        for x in [-3.0, -2.01, -1.2] {
            let closest = by_value(x);
            let drawn = values(&fill, &[9.0, x, 9.0], &Mask::With(vec![1]))?;
            assert!(drawn.iter().all(|row| *row == [closest[0], x, closest[2]]), "{drawn:?}");
        }
        Ok(())
    }

    #[test]
    fn draws_do_not_depend_on_the_batch() -> Result<()> {
        check_batches(&fit(&table(40), 0.5, 0.9, 7)?, &[[2.5, -1.0, 3.0], [0.0, 1.0, 0.0]])
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        let table = table(9);
        check_errors(&fit(&table, 0.1, 0.95, 2)?, |data| {
            Empirical::default().fit(data, &Run::new()).map(|_| ())
        })?;
        let wrong = |sigma, eta, draws| fit(&table, sigma, eta, draws).unwrap_err().to_string();
        for sigma in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(wrong(sigma, 0.95, 1).contains("sigma"), "{sigma}");
        }
        for eta in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(wrong(0.1, eta, 1).contains("eta"), "{eta}");
        }
        assert!(wrong(0.1, 0.95, 0).contains("draws"));
        Ok(())
    }
}
