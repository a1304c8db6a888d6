//! Similarity of maps, for metrics and studies that compare the maps of two models.

use ascribe_core::{Error, Reduction, Result, Tensor};

use crate::statistics::{Ssim, spearman};

/// How maps are compared.
pub(super) struct Similarity {
    /// Whether absolute values are compared, instead of signed ones.
    pub absolute: bool,
    /// How the channels are reduced to one map.
    pub reduction: Reduction,
    /// The settings of structural similarity.
    pub ssim: Ssim,
}

/// The maps of a batch.
pub(super) struct Maps {
    /// One map per sample, in row-major order.
    pub maps: Vec<Vec<f64>>,
    /// Height and width.
    pub size: [usize; 2],
}

/// The similarity of two maps.
pub(super) struct Alike {
    /// Rank correlation; `None` if one of the maps is constant.
    pub rank: Option<f64>,
    /// Structural similarity; `None` if the window does not fit the maps.
    pub ssim: Option<f64>,
}

impl Similarity {
    /// The maps of all samples.
    pub fn maps(&self, values: &Tensor) -> Result<Maps> {
        let maps = self.reduction.reduce(values)?;
        let maps = if self.absolute { maps.abs()? } else { maps };
        let size = match *maps.dims() {
            [_, h, w] => [h, w],
            [_, l] => [1, l],
            // Structural similarity is defined for images; its window does not fit this.
            [_, d, h, w] => [1, d * h * w],
            _ => {
                return Err(Error::invalid(
                    "attribution",
                    format!("has shape {:?}", values.dims()),
                    "[N, C, H, W]",
                ));
            }
        };
        Ok(Maps { maps: maps.flatten_from(1)?.to_vec2()?, size })
    }

    /// Rank correlation and, if the window fits the maps, structural similarity of the maps, scaled to a maximum
    /// absolute value of 1.
    pub fn compare(&self, a: &[f64], b: &[f64], size: [usize; 2]) -> Result<Alike> {
        let scaled = |map: &[f64]| -> Vec<f64> {
            let largest = map.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            map.iter().map(|v| if largest > 0.0 { v / largest } else { 0.0 }).collect()
        };
        let range = if self.absolute { 1.0 } else { 2.0 };
        let ssim = if self.ssim.window <= size[0].min(size[1]) {
            Some(self.ssim.compare(&scaled(a), &scaled(b), size, range)?)
        } else {
            None
        };
        Ok(Alike { rank: spearman(a, b)?, ssim })
    }
}
