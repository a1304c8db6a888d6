//! Random masks from an enlarged grid.

use candle_core::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random;

/// Smooth random masks (Petsiuk, Das & Saenko 2018, §3.2): for images, a grid of s × s cells, each kept with
/// probability p, is upsampled bilinearly to (s + 1)⌈H/s⌉ × (s + 1)⌈W/s⌉ and cropped to H × W at a random offset
/// below one cell. Time series and volumes have grids of one and three axes.
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

    /// Mask number `index` of a seed for positions with these sides: `[1, 1, H, W]` for `[H, W]`, likewise for time series and
    /// volumes, in double precision.
    ///
    /// # Errors
    /// If the grid has more cells along a side than the longest one has positions, or there are no or more than three sides.
    pub fn draw(&self, index: usize, sides: &[usize], seed: u64) -> Result<Tensor> {
        let s = self.cells;
        let longest = sides.iter().copied().max().unwrap_or(0);
        if !(1..=3).contains(&sides.len()) || s > longest {
            let expected = format!("at most one per position of an input with the sides {sides:?}");
            return Err(Error::invalid("cells", s.to_string(), expected));
        }
        let mut rng = random::stream(seed, random::Domain::MASKS, index as u64);
        let cells = s.pow(sides.len() as u32);
        let grid: Vec<f64> =
            (0..cells).map(|_| f64::from(u8::from(rng.random::<f64>() < self.probability))).collect();
        let taps: Vec<Vec<Tap>> =
            sides.iter().map(|&side| taps(s, side, rng.random_range(0..side.div_ceil(s)))).collect();
        let mut mask = Vec::with_capacity(sides.iter().product());
        let mut at = Vec::with_capacity(sides.len());
        every(&taps, &mut at, &mut |at: &[Tap]| mask.push(interpolated(&grid, s, 0, at)));
        let shape: Vec<usize> = [1, 1].iter().chain(sides).copied().collect();
        Ok(Tensor::from_vec(mask, shape, &Device::Cpu)?)
    }
}

/// The two cells around a position along a side, and its relative distance from the first one.
type Tap = (usize, usize, f64);

/// The cells around each position of a side, `offset` positions into an enlarged grid of `s` cells.
fn taps(s: usize, side: usize, offset: usize) -> Vec<Tap> {
    let cell = side.div_ceil(s);
    let scale = s as f64 / ((s + 1) * cell) as f64;
    (0..side)
        .map(|i| {
            let at = (((i + offset) as f64 + 0.5) * scale - 0.5).clamp(0.0, (s - 1) as f64);
            let low = at.floor() as usize;
            (low, (low + 1).min(s - 1), at - low as f64)
        })
        .collect()
}

/// Calls `each` for every combination of one tap per side, in row-major order.
fn every(taps: &[Vec<Tap>], at: &mut Vec<Tap>, each: &mut impl FnMut(&[Tap])) {
    let Some((first, rest)) = taps.split_first() else { return each(at) };
    for tap in first {
        at.push(*tap);
        every(rest, at, each);
        at.pop();
    }
}

/// Linear interpolation along all sides; `cell` is the number of the cells chosen so far.
fn interpolated(grid: &[f64], s: usize, cell: usize, at: &[Tap]) -> f64 {
    let Some((&(low, high, along), rest)) = at.split_first() else { return grid[cell] };
    let part = |index: usize| interpolated(grid, s, cell * s + index, rest);
    part(low) * (1.0 - along) + part(high) * along
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(masks: GridMasks, index: usize, sides: [usize; 2], seed: u64) -> Vec<f64> {
        masks.draw(index, &sides, seed).unwrap().flatten_all().unwrap().to_vec1().unwrap()
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
        assert!(fine.draw(0, &[9, 9], 0).unwrap_err().to_string().contains("one per position"));
    }

    #[test]
    fn series_and_volumes_have_masks_of_their_own() {
        let masks = GridMasks { cells: 3, probability: 0.5 };
        let series = masks.draw(1, &[20], 4).unwrap();
        assert_eq!(series.dims(), [1, 1, 20]);
        let values = series.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        // Between the centres of two cells a mask is a straight line: its second difference is zero, but at few places.
        let bends = values.windows(3).filter(|w| (w[0] - 2.0 * w[1] + w[2]).abs() > 1e-12).count();
        assert!(bends <= 6, "{values:?}");
        let volume = masks.draw(1, &[4, 5, 6], 4).unwrap();
        assert_eq!(volume.dims(), [1, 1, 4, 5, 6]);
        assert!(masks.draw(0, &[], 0).is_err());
    }
}
