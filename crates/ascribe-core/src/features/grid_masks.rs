//! Random masks from an enlarged grid.

use candle_core::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random;

/// Smooth random masks for images (Petsiuk, Das & Saenko 2018, §3.2): a grid of s × s cells, each kept with
/// probability p, is upsampled bilinearly to (s + 1)⌈H/s⌉ × (s + 1)⌈W/s⌉ and cropped to H × W at a random offset
/// below one cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridMasks {
    /// Cells s along each side of the grid.
    pub cells: usize,
    /// Probability p that a cell is kept.
    pub probability: f64,
}

impl GridMasks {
    /// Checks the settings.
    ///
    /// # Errors
    /// If there are no cells, or p is not in (0, 1].
    pub fn check(&self) -> Result<()> {
        if self.cells == 0 {
            return Err(Error::invalid("cells", "0", "at least 1"));
        }
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            return Err(Error::invalid("probability", self.probability.to_string(), "above 0 and at most 1"));
        }
        Ok(())
    }

    /// Mask number `index` of a seed, as `[1, 1, H, W]` in double precision.
    ///
    /// # Errors
    /// If the grid has more cells than the longer side has pixels.
    pub fn draw(&self, index: usize, [height, width]: [usize; 2], seed: u64) -> Result<Tensor> {
        let s = self.cells;
        if s > height.max(width) {
            let expected = format!("at most one per pixel of an input of {height} × {width}");
            return Err(Error::invalid("cells", s.to_string(), expected));
        }
        let mut rng = random::stream(seed, random::Domain::MASKS, index as u64);
        let grid: Vec<f64> =
            (0..s * s).map(|_| f64::from(u8::from(rng.random::<f64>() < self.probability))).collect();
        // For each position along a side: the two cells around it, and its relative distance from the first one.
        let taps = |side: usize, offset: usize| -> Vec<(usize, usize, f64)> {
            let cell = side.div_ceil(s);
            let scale = s as f64 / ((s + 1) * cell) as f64;
            (0..side)
                .map(|i| {
                    let at = (((i + offset) as f64 + 0.5) * scale - 0.5).clamp(0.0, (s - 1) as f64);
                    let low = at.floor() as usize;
                    (low, (low + 1).min(s - 1), at - low as f64)
                })
                .collect()
        };
        let rows = taps(height, rng.random_range(0..height.div_ceil(s)));
        let columns = taps(width, rng.random_range(0..width.div_ceil(s)));
        let mut mask = Vec::with_capacity(height * width);
        for &(top, bottom, down) in &rows {
            for &(left, right, along) in &columns {
                let mix = |row: usize| grid[row * s + left] * (1.0 - along) + grid[row * s + right] * along;
                mask.push(mix(top) * (1.0 - down) + mix(bottom) * down);
            }
        }
        Ok(Tensor::from_vec(mask, (1, 1, height, width), &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(masks: GridMasks, index: usize, sides: [usize; 2], seed: u64) -> Vec<f64> {
        masks.draw(index, sides, seed).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn masks_lie_between_0_and_1_and_keep_p_on_average() {
        let masks = GridMasks { cells: 4, probability: 0.3 };
        let mut sum = 0.0;
        for i in 0..400 {
            let mask = mask(masks, i, [13, 17], 7);
            assert!(mask.iter().all(|m| (0.0..=1.0).contains(m)));
            sum += mask.iter().sum::<f64>() / mask.len() as f64;
        }
        assert!((sum / 400.0 - 0.3).abs() < 0.02, "{}", sum / 400.0);
    }

    #[test]
    fn masks_depend_on_seed_and_number_alone() {
        let masks = GridMasks { cells: 7, probability: 0.5 };
        assert_eq!(mask(masks, 2, [9, 9], 1), mask(masks, 2, [9, 9], 1));
        assert_ne!(mask(masks, 2, [9, 9], 1), mask(masks, 2, [9, 9], 2));
        assert_ne!(mask(masks, 2, [9, 9], 1), mask(masks, 3, [9, 9], 1));
    }

    #[test]
    fn wrong_settings_are_named() {
        let check = |cells, probability| GridMasks { cells, probability }.check().unwrap_err().to_string();
        assert!(check(0, 0.5).contains("cells") && check(1, 0.0).contains("probability"));
        let fine = GridMasks { cells: 10, probability: 0.5 };
        assert!(fine.draw(0, [9, 9], 0).unwrap_err().to_string().contains("one per pixel"));
    }
}
