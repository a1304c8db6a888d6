//! Sampling of images and volumes at computed places.

mod taps;

use candle_core::{DType, Device, Tensor};

use self::taps::{Tap, taps};
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// How values between the pixels are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SampleMode {
    /// Linear interpolation along each axis.
    Linear,
    /// The nearest pixel, halves to the even one. No gradient passes to the grid.
    Nearest,
    /// Cubic interpolation along each axis (a = −0.75).
    Cubic,
}

/// What is outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplePadding {
    /// Zeros.
    Zeros,
    /// The pixels at the border.
    Border,
    /// The image, mirrored at its border.
    Reflection,
}

/// Samples at the places of a grid: inputs `x [N, C, (D,) H, W]` and `grid [N, (D′,) H′, W′, axes]`; the output is
/// `[N, C, (D′,) H′, W′]`. The last axis of the grid holds `(x, y(, z))` between −1 and 1, which are the edges of the
/// first and the last pixel or, with `align_corners`, their centres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GridSample {
    /// The interpolation.
    pub mode: SampleMode,
    /// The padding.
    pub padding: SamplePadding,
    /// What −1 and 1 stand for.
    pub align_corners: bool,
}

/// The geometry of one sampling, and what it samples, in f64.
struct Sampling {
    /// Sides of the image.
    sides: Vec<usize>,
    samples: usize,
    channels: usize,
    /// Number of places per sample.
    places: usize,
    image: Vec<f64>,
    grid: Vec<f64>,
}

fn host(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?.flatten_all()?.to_vec1()?)
}

fn like(values: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

impl Sampling {
    fn new(x: &Tensor, grid: &Tensor) -> Result<Self> {
        let dims = x.dims();
        let places = grid.dims()[1..grid.rank() - 1].iter().product();
        Ok(Self {
            sides: dims[2..].to_vec(),
            samples: dims[0],
            channels: dims[1],
            places,
            image: host(x)?,
            grid: host(grid)?,
        })
    }

    /// Calls `f` for each sample, place and channel-independent combination of taps: with the index of the place, the
    /// taps along each axis, and their flat position in a channel, which is `None` outside of the image.
    fn each(&self, op: GridSample, mut f: impl FnMut(usize, usize, &[Tap], usize)) {
        let axes = self.sides.len();
        for sample in 0..self.samples {
            for place in 0..self.places {
                let at = (sample * self.places + place) * axes;
                // The grid holds the coordinate of the last axis first.
                let along: Vec<Vec<Tap>> = (0..axes)
                    .map(|axis| taps(op, self.grid[at + axes - 1 - axis], self.sides[axis]))
                    .collect();
                let mut chosen = vec![0; axes];
                loop {
                    let combination: Vec<Tap> = along.iter().zip(&chosen).map(|(t, &i)| t[i]).collect();
                    let flat = combination
                        .iter()
                        .zip(&self.sides)
                        .try_fold(0, |flat, (tap, &side)| Some(flat * side + tap.at?));
                    if let Some(flat) = flat {
                        f(sample, place, &combination, flat);
                    }
                    let Some(axis) = (0..axes).rev().find(|&a| chosen[a] + 1 < along[a].len()) else { break };
                    chosen[axis] += 1;
                    chosen[axis + 1..].fill(0);
                }
            }
        }
    }

    /// The first position of a channel in the image, and of its result.
    fn starts(&self, sample: usize, channel: usize) -> (usize, usize) {
        let row = sample * self.channels + channel;
        (row * self.sides.iter().product::<usize>(), row * self.places)
    }
}

impl Operator for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        match dynamic {
            [_, true, ..] => Kind::Product,
            _ => Kind::Average,
        }
    }

    fn slot(&self, _: usize, _: &[bool]) -> Slot {
        Slot::Data
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, grid] = shapes(inputs)?;
        let axes = x.len().saturating_sub(2);
        let fits = (1..=3).contains(&axes)
            && grid.len() == x.len()
            && grid[0] == x[0]
            && grid.last() == Some(&axes)
            && !x.contains(&0);
        if !fits {
            return Err(Error::invalid(
                "grid",
                format!("has shape {grid:?}"),
                format!("[N, …, {axes}] with {} axes for an input {x:?}", x.len()),
            ));
        }
        Ok([&x[..2], &grid[1..grid.len() - 1]].concat())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (x, grid) = (input(inputs, 0)?, input(inputs, 1)?);
        let shape = self.output_shape(&[x.dims(), grid.dims()])?;
        let sampling = Sampling::new(x, grid)?;
        let mut y = vec![0.0; shape.iter().product()];
        sampling.each(*self, |sample, place, taps, flat| {
            let weight: f64 = taps.iter().map(|tap| tap.weight).product();
            for channel in 0..sampling.channels {
                let (from, to) = sampling.starts(sample, channel);
                y[to + place] += weight * sampling.image[from + flat];
            }
        });
        like(y, &shape, x)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, grid) = (args.input(0)?, args.input(1)?);
        let (sampling, grad) = (Sampling::new(x, grid)?, host(args.grad)?);
        let axes = sampling.sides.len();
        let mut dx = vec![0.0; sampling.image.len()];
        let mut dg = vec![0.0; sampling.grid.len()];
        sampling.each(*self, |sample, place, taps, flat| {
            let weight: f64 = taps.iter().map(|tap| tap.weight).product();
            let mut seen = 0.0;
            for channel in 0..sampling.channels {
                let (from, to) = sampling.starts(sample, channel);
                dx[from + flat] += weight * grad[to + place];
                seen += grad[to + place] * sampling.image[from + flat];
            }
            for axis in 0..axes {
                let slope: f64 = taps
                    .iter()
                    .enumerate()
                    .map(|(a, t)| if a == axis { t.slope } else { t.weight })
                    .product();
                dg[(sample * sampling.places + place) * axes + axes - 1 - axis] += slope * seen;
            }
        });
        Ok(vec![
            if args.wants(0) { Some(like(dx, x.dims(), x)?) } else { None },
            if args.wants(1) { Some(like(dg, grid.dims(), grid)?) } else { None },
        ])
    }
}

#[cfg(test)]
mod tests;
