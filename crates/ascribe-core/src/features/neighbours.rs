//! Imputes hidden pixels from their neighbours.

use candle_core::{DType, Device, Tensor};

use super::fill::{Fill, Hidden};
use crate::error::{Error, Result};
use crate::random;

/// Noisy linear imputation (Rong, Leemann, Borisov, Kasneci & Kasneci 2022, "A Consistent and Efficient Evaluation
/// Strategy for Attribution Methods", §4.2): a hidden pixel is the weighted mean of its eight neighbours, including
/// hidden ones, plus Gaussian noise. Direct neighbours have weight 1/6, diagonal ones 1/12; neighbours outside the
/// image are omitted. The means are the solution of a system of linear equations, computed by conjugate gradients for
/// each channel. If the whole image is hidden, the mean is 0.
///
/// It supports images `[N, C, H, W]` and masks that hide or keep whole features.
#[derive(Clone, Copy, Debug)]
pub struct NoisyNeighbours {
    std: f64,
    draws: usize,
    seed: u64,
}

impl NoisyNeighbours {
    /// Imputation with noise of standard deviation `std` (0.01 in the paper); scores are averaged over `draws`.
    ///
    /// # Errors
    /// If `std` is negative or there are no draws.
    pub fn new(std: f64, draws: usize, seed: u64) -> Result<Self> {
        if !(std >= 0.0 && std.is_finite()) {
            return Err(Error::invalid("std", std.to_string(), "0 or a positive number"));
        }
        if draws == 0 {
            return Err(Error::invalid("draws", "0", "at least 1"));
        }
        Ok(Self { std, draws, seed })
    }
}

impl Fill for NoisyNeighbours {
    fn draws(&self) -> usize {
        self.draws
    }

    fn fill(&self, hidden: &Hidden<'_>) -> Result<Vec<Tensor>> {
        let mut rng = random::stream(self.seed, random::Domain::REMOVAL, hidden.draw as u64);
        let holes = hidden.positions()?;
        hidden
            .x
            .iter()
            .zip(&holes)
            .map(|(x, holes)| {
                let &[1, channels, height, width] = x.dims() else {
                    let problem = format!("have shape {:?}", x.dims());
                    return Err(Error::invalid("inputs", problem, "images [N, C, H, W] to be imputed"));
                };
                let mut values = x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                let area = height * width;
                let mut system: Option<(&[bool], System)> = None;
                for channel in 0..channels {
                    let of_channel = channel * area..(channel + 1) * area;
                    let own = &holes[of_channel.clone()];
                    // Most masks hide the same pixels of all channels.
                    let known = system.take().filter(|(holes, _)| *holes == own);
                    let (_, of_own) =
                        system.insert(known.unwrap_or_else(|| (own, System::new(own, [height, width]))));
                    of_own.impute(&mut values[of_channel]);
                }
                let noise = random::normal(&mut rng, x.dims(), DType::F64, &Device::Cpu)?;
                let imputed = Tensor::from_vec(values, x.shape(), &Device::Cpu)?;
                Ok((imputed + (noise * self.std)?)?.to_dtype(x.dtype())?.to_device(x.device())?)
            })
            .collect()
    }
}

/// Offsets and weights of the neighbours of a pixel.
const NEIGHBOURS: [([isize; 2], f64); 8] = [
    ([-1, -1], 1.0 / 12.0),
    ([-1, 0], 1.0 / 6.0),
    ([-1, 1], 1.0 / 12.0),
    ([0, -1], 1.0 / 6.0),
    ([0, 1], 1.0 / 6.0),
    ([1, -1], 1.0 / 12.0),
    ([1, 0], 1.0 / 6.0),
    ([1, 1], 1.0 / 12.0),
];

/// The relative residual at which conjugate gradients stop: far below any noise that is worth adding.
const TOLERANCE: f64 = 1e-8;

/// The system `Σ_j w_j (x_i − x_j) = 0` over the neighbours j of each hidden pixel i: symmetric, and positive definite if some
/// pixel is known.
struct System {
    /// Positions of the hidden pixels, which are the unknowns.
    unknowns: Vec<usize>,
    /// The diagonal: the sum of the weights of all neighbours.
    diagonal: Vec<f64>,
    /// For each unknown, its neighbours among the unknowns, by their numbers, with their weights.
    hidden: Vec<Vec<(usize, f64)>>,
    /// For each unknown, its neighbours that are known, by their positions, with their weights.
    known: Vec<Vec<(usize, f64)>>,
}

impl System {
    fn new(hidden: &[bool], [height, width]: [usize; 2]) -> Self {
        let unknowns: Vec<usize> = (0..hidden.len()).filter(|&at| hidden[at]).collect();
        let mut number = vec![0; hidden.len()];
        unknowns.iter().enumerate().for_each(|(n, &at)| number[at] = n);
        let mut system = Self { diagonal: Vec::new(), hidden: Vec::new(), known: Vec::new(), unknowns };
        for &at in &system.unknowns {
            let (mut of_hidden, mut of_known, mut sum) = (Vec::new(), Vec::new(), 0.0);
            for &([down, along], weight) in &NEIGHBOURS {
                let row = (at / width).checked_add_signed(down).filter(|row| *row < height);
                let column = (at % width).checked_add_signed(along).filter(|column| *column < width);
                let (Some(row), Some(column)) = (row, column) else { continue };
                let neighbour = row * width + column;
                sum += weight;
                if hidden[neighbour] {
                    of_hidden.push((number[neighbour], weight));
                } else {
                    of_known.push((neighbour, weight));
                }
            }
            system.diagonal.push(sum);
            system.hidden.push(of_hidden);
            system.known.push(of_known);
        }
        system
    }

    /// Replaces the hidden pixels of one channel by their means.
    fn impute(&self, pixels: &mut [f64]) {
        let right = |of: &Vec<(usize, f64)>| of.iter().map(|(at, weight)| weight * pixels[*at]).sum();
        let right: Vec<f64> = self.known.iter().map(right).collect();
        let product = |x: &[f64]| -> Vec<f64> {
            let rows = self.diagonal.iter().zip(&self.hidden).zip(x);
            rows.map(|((diagonal, of), own)| diagonal * own - of.iter().map(|(n, w)| w * x[*n]).sum::<f64>())
                .collect()
        };
        let solution = conjugate_gradients(&right, product);
        self.unknowns.iter().zip(solution).for_each(|(&at, value)| pixels[at] = value);
    }
}

/// Solves A x = b for a symmetric positive definite A; 0 if b is 0.
fn conjugate_gradients(b: &[f64], product: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut x, mut residual, mut direction) = (vec![0.0; b.len()], b.to_vec(), b.to_vec());
    let mut squared = dot(&residual, &residual);
    let goal = squared * TOLERANCE * TOLERANCE;
    for _ in 0..10 * b.len() {
        // NaN and infinity in the picture stay what they are.
        if squared <= goal || !squared.is_finite() {
            break;
        }
        let along = product(&direction);
        let step = squared / dot(&direction, &along);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        residual.iter_mut().zip(&along).for_each(|(r, a)| *r -= step * a);
        let next = dot(&residual, &residual);
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / squared * *d);
        squared = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_pixels_are_weighted_means_of_their_neighbours() {
        // A plane is harmonic: in the interior, imputation reproduces it.
        let plane: Vec<f64> = (0..42).map(|at| 2.0 * f64::from(at / 7) - 0.5 * f64::from(at % 7)).collect();
        let hidden: Vec<bool> = (0..42).map(|at| [9, 10, 16, 17, 18, 31].contains(&at)).collect();
        let mut pixels: Vec<f64> =
            plane.iter().zip(&hidden).map(|(p, h)| if *h { 99.0 } else { *p }).collect();
        System::new(&hidden, [6, 7]).impute(&mut pixels);
        for (pixel, expected) in pixels.iter().zip(&plane) {
            assert!((pixel - expected).abs() < 1e-6, "{pixel} instead of {expected}");
        }
    }

    #[test]
    fn a_corner_has_three_neighbours() {
        let mut pixels = [0.0, 1.0, 2.0, 5.0];
        System::new(&[true, false, false, false], [2, 2]).impute(&mut pixels);
        // (1/6 · 1 + 1/6 · 2 + 1/12 · 5) / (5/12)
        assert!((pixels[0] - (1.0 + 2.0 + 2.5) / 2.5).abs() < 1e-12, "{pixels:?}");
        let mut nothing = [3.0; 4];
        System::new(&[true; 4], [2, 2]).impute(&mut nothing);
        assert_eq!(nothing, [0.0; 4]);
    }
}
