//! Hidden values from a normal distribution of all values.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::correlated::{Correlated, Scales};
use super::table::{Layout, Table};
use super::{DRAWS, check_count, normals};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::features::{Fill, Hidden};
use crate::fit::Fit;
use crate::run::Run;

/// Draws of hidden values from a normal distribution (Aas, Jullum & Løland 2021, "Explaining individual predictions when features
/// are dependent: More accurate approximations to Shapley values", Artificial Intelligence 298, §3.1).
///
/// The mean μ and the covariance Σ of all values are those of the data. Given the kept values `x_S`, the hidden values are normal
/// with
///
/// mean `μ_h + Σ_hS Σ_SS⁻¹ (x_S − μ_S)` and covariance `Σ_hh − Σ_hS Σ_SS⁻¹ Σ_Sh`,
///
/// in the units of the inputs. Draws are not limited to the range of the data, nor to values that a column of categories has.
///
/// A value that is the same in all samples keeps this value in all draws, and nothing is learnt from it. If the correlations of
/// the values that vary are singular, or nearly (columns that sum up to a constant, or fewer samples than values), correlations
/// are multiplied by 1 − 10⁻⁶; [`FittedGaussian::shrinkage`] tells.
///
/// Cost: one factorization, O(p³) for p values, for each set of kept values, and O(p²) for each draw.
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::features::conditional::Gaussian;
/// use ascribe_core::features::{Features, Fill, Hidden, Mask};
/// use ascribe_core::{Device, Fit, Inputs, Run, Tensor};
/// // The second column is the first one plus or minus 1.
/// let rows = Tensor::new(&[[0_f64, 1.0], [1.0, 0.0], [2.0, 3.0], [3.0, 2.0]], &Device::Cpu)?;
/// let data = InMemory::labelled(&rows, &[0; 4])?;
/// let fill = Gaussian { draws: 50 }.fit(&data, &Run::new().seed(1))?;
/// let x = Tensor::new(&[[3_f64, 0.0]], &Device::Cpu)?;
/// let features = Features::positions(&Inputs::single(x.clone())?)?;
/// let mask = Mask::Without(vec![1]);
/// let hidden = Hidden { sample: 0, number: 0, draw: 0, x: &[x], mask: &mask, features: &features };
/// let drawn = fill.fill(&hidden)?[0].to_vec2::<f64>()?[0][1];
/// assert_eq!(fill.draws(), 50);
/// assert!(drawn > -5.0 && drawn < 9.0); // The mean is 2.4, and the standard deviation about 1.
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gaussian {
    /// Number of draws that a score is the mean of.
    pub draws: usize,
}

impl Default for Gaussian {
    /// 100 draws.
    fn default() -> Self {
        Self { draws: DRAWS }
    }
}

/// A normal distribution of all values of a sample.
#[derive(Debug)]
pub struct FittedGaussian {
    layout: Layout,
    scales: Scales,
    correlated: Correlated,
    draws: usize,
    seed: u64,
}

impl FittedGaussian {
    /// What correlations were reduced by because those of the data are singular, as a share of them: 10⁻⁶, or 0.
    pub fn shrinkage(&self) -> f64 {
        self.correlated.shrinkage()
    }
}

impl Fit for Gaussian {
    type Fitted = FittedGaussian;

    /// # Errors
    /// If there are no draws; if the dataset has fewer than two samples, or samples with values that are not finite, of different
    /// shapes, or of more than [`LARGEST`](super::LARGEST) values; the dataset's own; if the run is cancelled.
    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<FittedGaussian> {
        check_count("draws", self.draws)?;
        let Table { layout, samples } = Table::read(data, run)?;
        let scales = Scales::of(&samples);
        let correlated = Correlated::of(&scales.standardised(&samples))?;
        Ok(FittedGaussian { layout, scales, correlated, draws: self.draws, seed: run.get_seed() })
    }
}

impl Fill for FittedGaussian {
    fn draws(&self) -> usize {
        self.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let (mut row, positions) = self.layout.read(hidden)?;
        let noise = normals(self.seed, hidden.draw, row.len());
        let standard = |at, value| self.scales.standard(at, value);
        self.correlated
            .replace(&mut row, &positions, &noise, standard, |at, z| self.scales.restore(at, z))?;
        Layout::write(&row, hidden.x)
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::super::testing::*;
    use super::*;
    use crate::features::{Features, Mask};
    use crate::{DType, Device, Inputs};

    const MEAN: [f64; 3] = [1.0, -2.0, 0.5];
    const COVARIANCE: [f64; 9] = [4.0, 1.2, -0.6, 1.2, 1.0, 0.3, -0.6, 0.3, 2.0];

    fn known(draws: usize) -> FittedGaussian {
        let data = with_covariance(&MEAN, &COVARIANCE, 50);
        Gaussian { draws }.fit(&data, &Run::new().seed(5)).unwrap()
    }

    /// Closed form for the covariances above.
    fn closed(kept: &[usize], hidden: &[usize], x: &[f64]) -> (DMatrix<f64>, DMatrix<f64>) {
        let all = DMatrix::from_row_slice(3, 3, &COVARIANCE);
        let part = |rows: &[usize], columns: &[usize]| {
            DMatrix::from_fn(rows.len(), columns.len(), |i, j| all[(rows[i], columns[j])])
        };
        let mean = |of: &[usize]| DMatrix::from_fn(of.len(), 1, |i, _| MEAN[of[i]]);
        if kept.is_empty() {
            return (mean(hidden), part(hidden, hidden));
        }
        let slopes = part(hidden, kept) * part(kept, kept).try_inverse().unwrap();
        let off = DMatrix::from_fn(kept.len(), 1, |i, _| x[kept[i]]) - mean(kept);
        (mean(hidden) + &slopes * off, part(hidden, hidden) - &slopes * part(kept, hidden))
    }

    #[test]
    fn mean_and_covariance_are_the_closed_form() {
        let x = [2.5, -1.0, 3.0];
        let fill = known(1);
        assert_eq!(fill.shrinkage(), 0.0);
        for hidden in [vec![0], vec![1], vec![0, 2], vec![1, 2], vec![0, 1, 2]] {
            let kept: Vec<usize> = (0..3).filter(|at| !hidden.contains(at)).collect();
            let flags: Vec<bool> = (0..3).map(|at| hidden.contains(&at)).collect();
            let (mean, covariance) = closed(&kept, &hidden, &x);
            // A draw is an affine function of its noise: mean at 0, columns of the factor at unit vectors.
            let at_noise = |noise: &[f64]| {
                let mut z: Vec<f64> = (0..3).map(|at| fill.scales.standard(at, x[at])).collect();
                fill.correlated.draw(&mut z, &flags, noise).unwrap();
                DMatrix::from_fn(hidden.len(), 1, |i, _| fill.scales.restore(hidden[i], z[hidden[i]]))
            };
            let found = at_noise(&[0.0; 3]);
            assert!((&found - mean).amax() < 1e-12, "{hidden:?}: {found}");
            let mut spread = DMatrix::zeros(hidden.len(), hidden.len());
            for &at in &hidden {
                let mut noise = [0.0; 3];
                noise[at] = 1.0;
                let column = at_noise(&noise) - &found;
                spread += &column * column.transpose();
            }
            assert!((&spread - covariance).amax() < 1e-12, "{hidden:?}: {spread}");
        }
    }

    #[test]
    fn a_linear_model_has_its_conditional_mean() -> Result<()> {
        let (x, weights, draws) = ([2.5, -1.0, 3.0], [1.0, 10.0, -3.0], 20_000);
        let (mean, covariance) = closed(&[1], &[0, 2], &x);
        let expected = mean[0] - 10.0 - 3.0 * mean[1];
        let variance = covariance[(0, 0)] - 6.0 * covariance[(0, 1)] + 9.0 * covariance[(1, 1)];
        let found = scores(&known(draws), &x, &weights, &[Mask::Without(vec![0, 2])], 500)?;
        let (found_mean, found_variance) = mean_and_variance(&found[0]);
        assert!(
            (found_mean - expected).abs() < 5.0 * (variance / draws as f64).sqrt(),
            "{found_mean} instead of {expected}"
        );
        // The variance of a normal sample's variance is 2 σ⁴ / (n − 1).
        let error = variance * (2.0 / draws as f64).sqrt();
        assert!((found_variance - variance).abs() < 5.0 * error, "{found_variance} instead of {variance}");
        Ok(())
    }

    #[test]
    fn what_is_independent_is_drawn_from_its_marginal() -> Result<()> {
        let data = with_covariance(&[1.0, 2.0], &[4.0, 0.0, 0.0, 9.0], 30);
        let fill = Gaussian { draws: 40 }.fit(&data, &Run::new().seed(2))?;
        let alone = values(&fill, &[7.0, 5.0], &Mask::Without(vec![1]))?;
        let elsewhere = values(&fill, &[-9.0, 5.0], &Mask::Without(vec![1]))?;
        for ((drawn, other), draw) in alone.iter().zip(&elsewhere).zip(0..) {
            let expected = 2.0 + 3.0 * normals(2, draw, 2)[1];
            assert!((drawn[1] - expected).abs() < 1e-12 && (other[1] - expected).abs() < 1e-12);
            assert_eq!((drawn[0], other[0]), (7.0, -9.0));
        }
        Ok(())
    }

    #[test]
    fn draws_do_not_depend_on_the_batch() -> Result<()> {
        check_batches(&known(7), &[[2.5, -1.0, 3.0], [0.0, 1.0, 0.0]])?;
        let (one, other) = (
            known(1),
            Gaussian { draws: 1 }.fit(&with_covariance(&MEAN, &COVARIANCE, 50), &Run::new().seed(6))?,
        );
        let mask = Mask::Without(vec![1]);
        assert_ne!(values(&one, &[0.0; 3], &mask)?, values(&other, &[0.0; 3], &mask)?, "the seed counts");
        Ok(())
    }

    #[test]
    fn a_value_that_does_not_vary_stays() -> Result<()> {
        let fill = Gaussian { draws: 5 }.fit(&rows(&[&[1.0, 0.1], &[2.0, 0.1], &[4.0, 0.1]]), &Run::new())?;
        for drawn in values(&fill, &[3.0, 8.0], &Mask::Without(vec![1]))? {
            assert_eq!(drawn, [3.0, 0.1]);
        }
        let given = values(&fill, &[3.0, 8.0], &Mask::Without(vec![0]))?;
        assert_eq!(given[0][0], values(&fill, &[3.0, 0.1], &Mask::Without(vec![0]))?[0][0]);
        Ok(())
    }

    #[test]
    fn images_of_several_inputs_are_one_row() -> Result<()> {
        // The value of the second input is the sum of the four of the first one.
        let sample = |number: usize| {
            let pixels = numbers(number as u64, 4);
            let sum = Tensor::new(&[[pixels.iter().sum::<f64>()]], &Device::Cpu)?;
            Inputs::named([("image", Tensor::from_vec(pixels, (1, 1, 2, 2), &Device::Cpu)?), ("sum", sum)])
        };
        let samples = (0..20)
            .map(|number| Ok(crate::dataset::Sample { inputs: sample(number)?, label: None, truth: None }));
        let data = crate::dataset::InMemory::new(samples.collect::<Result<_>>()?)?;
        let fill = Gaussian::default().fit(&data, &Run::new())?;
        assert!(fill.shrinkage() > 0.0, "the sum repeats the pixels");
        let x = sample(99)?;
        let features = Features::labels(
            &x,
            &[Tensor::zeros((2, 2), DType::U32, &Device::Cpu)?, Tensor::new(&[1_u32], &Device::Cpu)?],
        )?;
        let tensors: Vec<Tensor> = x.explained().map(|input| input.value.clone()).collect();
        let mask = Mask::Without(vec![1]);
        let drawn = fill.fill(&Hidden {
            sample: 0,
            number: 0,
            draw: 3,
            x: &tensors,
            mask: &mask,
            features: &features,
        })?;
        assert_eq!(drawn[0].dims(), [1, 1, 2, 2]);
        let (found, expected) = (drawn[1].to_vec2::<f64>()?[0][0], tensors[1].to_vec2::<f64>()?[0][0]);
        assert!((found - expected).abs() < 0.02, "{found} instead of {expected}");
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        check_errors(&known(2), |data| Gaussian::default().fit(data, &Run::new()).map(|_| ()))?;
        let none = Gaussian { draws: 0 }.fit(&with_covariance(&MEAN, &COVARIANCE, 9), &Run::new());
        assert!(none.unwrap_err().to_string().contains("draws"));
        Ok(())
    }
}
