//! Hidden values from a Gaussian copula.

use candle_core::Tensor;
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::correlated::{Correlated, Scales};
use super::ranks::Marginal;
use super::table::{Layout, Table};
use super::{DRAWS, check_count, normals};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::features::{Fill, Hidden};
use crate::fit::Fit;
use crate::run::Run;

/// Draws of hidden values from a Gaussian copula with empirical marginals (Aas, Jullum & Løland 2021, "Explaining individual
/// predictions when features are dependent: More accurate approximations to Shapley values", Artificial Intelligence 298, §3.2).
///
/// Each value `x_j` becomes its normal score `v_j = Φ⁻¹(F̂_j(x_j))`, with the empirical distribution function `F̂_j` of the data; for n
/// samples, F̂ is rank / (n + 1), so that scores are finite. The scores are taken as normal with variances 1 and the correlations
/// R that they have in the data. Hidden scores are drawn given the kept ones, from a normal distribution with
///
/// mean `R_hS R_SS⁻¹ v_S` and covariance `R_hh − R_hS R_SS⁻¹ R_Sh`,
///
/// and become values again by the empirical quantiles `F̂_j⁻¹(Φ(v_j))`. These are values that the variable has in the data, without
/// interpolation between them: draws have the range and the marginals of the data, and columns of whole numbers stay whole
/// numbers. Only the ranks of kept values count, beyond the range of the data too.
///
/// Values that do not vary, singular correlations and cost are as for [`Gaussian`](super::Gaussian).
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::features::conditional::GaussianCopula;
/// use ascribe_core::features::{Features, Fill, Hidden, Mask};
/// use ascribe_core::{Device, Fit, Inputs, Run, Tensor};
/// let rows = Tensor::new(&[[0_f64, 1.0], [1.0, 10.0], [2.0, 1000.0], [3.0, 100.0]], &Device::Cpu)?;
/// let fill = GaussianCopula { draws: 50 }.fit(&InMemory::labelled(&rows, &[0; 4])?, &Run::new())?;
/// let x = Tensor::new(&[[3_f64, 0.0]], &Device::Cpu)?;
/// let features = Features::positions(&Inputs::single(x.clone())?)?;
/// let mask = Mask::Without(vec![1]);
/// let hidden = Hidden { sample: 0, number: 0, draw: 0, x: &[x], mask: &mask, features: &features };
/// let drawn = fill.fill(&hidden)?[0].to_vec2::<f64>()?[0][1];
/// assert!([1.0, 10.0, 100.0, 1000.0].contains(&drawn));
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianCopula {
    /// Number of draws that a score is the mean of.
    pub draws: usize,
}

impl Default for GaussianCopula {
    /// 100 draws.
    fn default() -> Self {
        Self { draws: DRAWS }
    }
}

/// The marginals of all values of a sample, and the correlations of their normal scores.
#[derive(Debug)]
pub struct FittedGaussianCopula {
    layout: Layout,
    marginals: Vec<Marginal>,
    correlated: Correlated,
    draws: usize,
    seed: u64,
}

impl FittedGaussianCopula {
    /// What correlations were reduced by because those of the data are singular, as a share of them: 10⁻⁶, or 0.
    pub fn shrinkage(&self) -> f64 {
        self.correlated.shrinkage()
    }
}

impl Fit for GaussianCopula {
    type Fitted = FittedGaussianCopula;

    /// # Errors
    /// If there are no draws; if the dataset has fewer than two samples, or samples with values that are not finite, of different
    /// shapes, or of more than [`LARGEST`](super::LARGEST) values; the dataset's own; if the run is cancelled.
    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<FittedGaussianCopula> {
        check_count("draws", self.draws)?;
        let Table { layout, samples } = Table::read(data, run)?;
        let marginals: Vec<Marginal> =
            samples.row_iter().map(|row| Marginal::of(row.iter().copied())).collect();
        let scores = DMatrix::from_fn(samples.nrows(), samples.ncols(), |row, column| {
            marginals[row].score(samples[(row, column)])
        });
        let correlated = Correlated::of(&Scales::of(&scores).standardised(&scores))?;
        Ok(FittedGaussianCopula { layout, marginals, correlated, draws: self.draws, seed: run.get_seed() })
    }
}

impl Fill for FittedGaussianCopula {
    fn draws(&self) -> usize {
        self.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let (mut row, positions) = self.layout.read(hidden)?;
        let noise = normals(self.seed, hidden.draw, row.len());
        let score = |at: usize, value| self.marginals[at].score(value);
        self.correlated.replace(&mut row, &positions, &noise, score, |at, z| self.marginals[at].value(z))?;
        Layout::write(&row, hidden.x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gaussian;
    use super::super::testing::*;
    use super::*;
    use crate::features::Mask;

    const COVARIANCE: [f64; 9] = [4.0, 1.2, -0.6, 1.2, 1.0, 0.3, -0.6, 0.3, 2.0];

    #[test]
    fn a_normal_distribution_is_one_with_a_gaussian_copula() -> Result<()> {
        let (count, draws) = (2000, 2000);
        let data = with_covariance(&[1.0, -2.0, 0.5], &COVARIANCE, count);
        let copula = GaussianCopula { draws }.fit(&data, &Run::new())?;
        let gaussian = Gaussian { draws }.fit(&data, &Run::new())?;
        for (mask, weights) in [
            (Mask::Without(vec![0]), [1.0, 0.0, 0.0]),
            (Mask::With(vec![1]), [0.5, 0.0, 1.0]),
            (Mask::With(vec![]), [1.0; 3]),
        ] {
            let of =
                |fill: &dyn Fill| scores(fill, &[2.5, -1.0, 1.0], &weights, std::slice::from_ref(&mask), 500);
            let ((mean, variance), (other, expected)) =
                (mean_and_variance(&of(&copula)?[0]), mean_and_variance(&of(&gaussian)?[0]));
            // Both use the same random numbers, and differ by the errors of the empirical marginals and of correlations of
            // ranks, which have standard errors of about σ / √n.
            let error = (expected / count as f64).sqrt();
            assert!((mean - other).abs() < 5.0 * error, "{mean} instead of {other}: {mask:?}");
            let error = expected * (2.0 / count as f64).sqrt();
            assert!((variance - expected).abs() < 5.0 * error, "{variance} instead of {expected}: {mask:?}");
        }
        Ok(())
    }

    #[test]
    fn only_ranks_count() -> Result<()> {
        let table: Vec<Vec<f64>> = (0..60)
            .map(|number| {
                let noise = numbers(number, 3);
                vec![noise[0], noise[0] + noise[1], noise[2]]
            })
            .collect();
        let curved: Vec<Vec<f64>> =
            table.iter().map(|row| vec![row[0].exp(), row[1].powi(3), row[2]]).collect();
        let fit = |table: &[Vec<f64>]| {
            GaussianCopula { draws: 40 }
                .fit(&rows(&table.iter().map(Vec::as_slice).collect::<Vec<_>>()), &Run::new())
        };
        let (straight, curved) = (fit(&table)?, fit(&curved)?);
        for mask in [Mask::Without(vec![1]), Mask::Without(vec![0, 1]), Mask::With(vec![])] {
            let drawn = values(&straight, &[0.7, -0.2, 0.4], &mask)?;
            let again = values(&curved, &[0.7_f64.exp(), (-0.2_f64).powi(3), 0.4], &mask)?;
            let expected: Vec<Vec<f64>> =
                drawn.iter().map(|row| vec![row[0].exp(), row[1].powi(3), row[2]]).collect();
            assert_eq!(again, expected);
            assert!(drawn.iter().all(|row| row[1] == -0.2 || table.iter().any(|own| own[1] == row[1])));
        }
        Ok(())
    }

    #[test]
    fn marginals_are_those_of_the_data() -> Result<()> {
        // A skewed variable, one of two values, and a constant.
        let table: Vec<[f64; 3]> =
            (0..40).map(|n| [f64::from(n * n), f64::from(u8::from(n % 4 == 0)), 7.0]).collect();
        let data = rows(&table.iter().map(<[f64; 3]>::as_slice).collect::<Vec<_>>());
        let draws = 4000;
        let fill = GaussianCopula { draws }.fit(&data, &Run::new().seed(1))?;
        let drawn = values(&fill, &[0.0; 3], &Mask::With(vec![]))?;
        let share =
            |is: &dyn Fn(&[f64]) -> bool| drawn.iter().filter(|row| is(row)).count() as f64 / draws as f64;
        for (found, expected) in [
            (share(&|row| row[0] < 100.0), 0.25),
            (share(&|row| row[0] < 400.0), 0.5),
            (share(&|row| row[1] == 1.0), 0.25),
        ] {
            let error = (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!((found - expected).abs() < 5.0 * error, "{found} instead of {expected}");
        }
        assert!(
            drawn.iter().all(|row| table.iter().any(|own| own[0] == row[0])
                && row[1].fract() == 0.0
                && row[2] == 7.0)
        );
        Ok(())
    }

    #[test]
    fn draws_do_not_depend_on_the_batch() -> Result<()> {
        let fill = GaussianCopula { draws: 7 }
            .fit(&with_covariance(&[0.0; 3], &COVARIANCE, 50), &Run::new().seed(3))?;
        check_batches(&fill, &[[2.5, -1.0, 3.0], [0.0, 1.0, 0.0]])
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        let data = with_covariance(&[0.0; 3], &COVARIANCE, 50);
        let fill = GaussianCopula { draws: 2 }.fit(&data, &Run::new())?;
        check_errors(&fill, |data| GaussianCopula::default().fit(data, &Run::new()).map(|_| ()))?;
        let none = GaussianCopula { draws: 0 }.fit(&data, &Run::new());
        assert!(none.unwrap_err().to_string().contains("draws"));
        Ok(())
    }
}
