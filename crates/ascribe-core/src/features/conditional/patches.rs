//! Patches of images.

use candle_core::Tensor;
use nalgebra::{DMatrix, DVector};

use super::correlated::Scales;
use crate::error::{Error, Result};
use crate::inputs::Inputs;

/// Number of patches that are added up at once.
const BLOCK: usize = 256;

/// Offsets in an image of the values of a patch: channel by channel, row by row.
pub(super) fn offsets(
    patch: usize,
    [channels, height, width]: [usize; 3],
    [top, left]: [usize; 2],
) -> Vec<usize> {
    let rows = (0..channels)
        .flat_map(|channel| (0..patch).map(move |y| (channel * height + top + y) * width + left));
    rows.flat_map(|start| start..start + patch).collect()
}

/// The only explained input, an image: its values and sides.
pub(super) fn image<'a>(
    what: &str,
    inputs: impl Iterator<Item = &'a Tensor>,
    patch: usize,
) -> Result<(&'a Tensor, [usize; 3])> {
    let inputs: Vec<&Tensor> = inputs.collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(|x| x.dims()).collect();
    match (inputs.as_slice(), shapes.as_slice()) {
        (&[x], &[&[1, channels, height, width]]) if height.min(width) >= patch => {
            Ok((x, [channels, height, width]))
        }
        _ => {
            let expected =
                format!("one image [1, C, H, W] with sides of at least {patch}, that of the patches");
            Err(Error::invalid(what, format!("has explained inputs {shapes:?}"), expected))
        }
    }
}

/// The explained inputs.
pub(super) fn explained(inputs: &Inputs) -> impl Iterator<Item = &Tensor> {
    inputs.explained().map(|input| &input.value)
}

/// Sums of patches and of their products, relative to the first one.
pub(super) struct Sums {
    origin: DVector<f64>,
    sum: DVector<f64>,
    products: DMatrix<f64>,
    count: usize,
    /// Columns that have not been added yet.
    pending: Vec<f64>,
}

impl Sums {
    pub fn new(origin: Vec<f64>) -> Self {
        let values = origin.len();
        let (sum, products) = (DVector::zeros(values), DMatrix::zeros(values, values));
        Self { origin: DVector::from_vec(origin), sum, products, count: 0, pending: Vec::new() }
    }

    pub fn push(&mut self, patch: impl Iterator<Item = f64>) {
        self.pending.extend(patch.zip(self.origin.iter()).map(|(value, origin)| value - origin));
        if self.pending.len() >= BLOCK * self.origin.len() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let values = self.origin.len();
        let block = DMatrix::from_vec(values, self.pending.len() / values, std::mem::take(&mut self.pending));
        self.sum += block.column_sum();
        self.products += &block * block.transpose();
        self.count += block.ncols();
    }

    /// Means and standard deviations, and correlations; 0 for what does not vary.
    pub fn finish(mut self) -> (Scales, DMatrix<f64>) {
        self.flush();
        let count = self.count as f64;
        let mean = &self.sum / count;
        let covariance = (self.products - &self.sum * mean.transpose()) / (count - 1.0);
        let deviation = covariance.diagonal().map(|variance| variance.max(0.0).sqrt());
        let correlation = DMatrix::from_fn(mean.len(), mean.len(), |i, j| {
            let scale = deviation[i] * deviation[j];
            if scale == 0.0 { 0.0 } else { covariance[(i, j)] / scale }
        });
        let mean = self.origin + mean;
        (Scales::new(mean.as_slice().to_vec(), deviation.as_slice().to_vec()), correlation)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::numbers;
    use super::*;

    #[test]
    fn patches_are_channel_by_channel() {
        assert_eq!(offsets(2, [2, 3, 4], [1, 2]), [6, 7, 10, 11, 18, 19, 22, 23]);
    }

    #[test]
    fn sums_give_means_and_correlations() {
        // More patches than a block, far from zero, the last value constant.
        let patches: Vec<Vec<f64>> = (0..600)
            .map(|number| {
                let noise = numbers(number, 2);
                vec![1e4 + noise[0], noise[0] + 2.0 * noise[1], 0.1]
            })
            .collect();
        let mut sums = Sums::new(patches[0].clone());
        for patch in &patches {
            sums.push(patch.iter().copied());
        }
        let (scales, correlation) = sums.finish();
        let all = DMatrix::from_fn(3, 600, |value, patch| patches[patch][value]);
        let expected = Scales::of(&all);
        for at in 0..3 {
            for z in [0.0, 1.0] {
                let (found, expected) = (scales.restore(at, z), expected.restore(at, z));
                assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
            }
        }
        let standard = expected.standardised(&all);
        let expected = &standard * standard.transpose() / 599.0;
        assert!((correlation - expected).amax() < 1e-9);
        assert_eq!(scales.restore(2, 5.0), 0.1, "what does not vary has no deviation");
    }
}
