//! What each position of a resized axis reads.

use ascribe_kernels::Float;
use candle_core::{DType, Device, Tensor};

use super::{Coordinates, ResizeEdges, ResizeMode, ResizeSize, Rounding};
use crate::error::{Error, Result};

/// The length of resized axis number `i`, and output length / input length as the coordinates use it.
pub(super) fn side(size: &ResizeSize, i: usize, input: usize) -> Result<(usize, f64)> {
    let wrong = |problem: String, expected: &str| Error::invalid("size", problem, expected);
    let (out, scale) = match size {
        ResizeSize::Sides(sides) => {
            let out = sides.get(i).copied().unwrap_or(0);
            (out as f64, out as f64 / input as f64)
        }
        ResizeSize::Scales(scales) => {
            let scale = scales.get(i).copied().unwrap_or(0.0);
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(wrong(format!("scale {scale}"), "a positive number"));
            }
            // Files store scales in single precision: 0.6 · 5 must be 3, not 3.0000001.
            ((input as f32 * scale as f32).floor().into(), scale)
        }
    };
    if !(1.0..f64::from(u32::MAX)).contains(&out) {
        return Err(wrong(format!("{out} values from {input}"), "at least 1 and less than 2³²"));
    }
    Ok((out as usize, scale))
}

/// For each position of an axis's result, the positions of the input it reads and their weights.
#[derive(Debug)]
pub(super) struct Taps {
    inputs: usize,
    /// Input position and weight of every tap, one result's after the other.
    weights: Vec<(u32, f64)>,
    /// Where the taps of each result end.
    ends: Vec<usize>,
    /// Whether every result copies a value.
    copies: bool,
}

/// A position of the result in the coordinates of the input, with every operation rounded by `r`.
fn coordinate(
    coordinates: Coordinates,
    at: usize,
    input: usize,
    out: usize,
    scale: f64,
    r: impl Fn(f64) -> f64,
) -> f64 {
    let (i, scale, input, out) = (at as f64, r(scale), input as f64, out as f64);
    let half_pixel = |offset: f64| r(r(offset + r((i + 0.5) / scale)) - 0.5);
    match coordinates {
        Coordinates::AlignCorners if out > 1.0 => r(r(i * (input - 1.0)) / (out - 1.0)),
        Coordinates::PytorchHalfPixel if out == 1.0 => 0.0,
        Coordinates::AlignCorners => 0.0,
        Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => half_pixel(0.0),
        Coordinates::HalfPixelSymmetric => {
            let adjustment = r(out / r(scale * input));
            half_pixel(r(input / 2.0 * r(1.0 - adjustment)))
        }
        Coordinates::Asymmetric => r(i / scale),
    }
}

/// Keys's cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// The value of a kernel at a distance.
fn kernel(mode: ResizeMode, x: f64) -> f64 {
    match mode {
        ResizeMode::Cubic { coefficient } => cubic(x, coefficient),
        _ => (1.0 - x.abs()).max(0.0),
    }
}

impl Taps {
    pub(super) fn new(
        mode: ResizeMode,
        coordinates: Coordinates,
        edges: ResizeEdges,
        input: usize,
        [out, scale]: [f64; 2],
    ) -> Self {
        let (out, last) = (out as usize, input as i64 - 1);
        let copies = matches!(mode, ResizeMode::Nearest { .. });
        let mut taps = Self { inputs: input, weights: Vec::new(), ends: Vec::with_capacity(out), copies };
        // The kernel is widened by the factor by which a side shrinks, so that every value counts.
        let shrink = if edges.antialias { scale.min(1.0) } else { 1.0 };
        let reach = if matches!(mode, ResizeMode::Cubic { .. }) { 2.0 } else { 1.0 } / shrink;
        for at in 0..out {
            if let ResizeMode::Nearest { rounding } = mode {
                // In single precision, as the runtimes compute it: whether a coordinate comes out just above or
                // just below an integer decides which pixel is read.
                let x = coordinate(coordinates, at, input, out, scale, |v| f64::from(v as f32));
                let nearest = match rounding {
                    Rounding::PreferFloor => (x - 0.5).ceil(),
                    Rounding::PreferCeil => (x + 0.5).floor(),
                    Rounding::Floor => x.floor(),
                    Rounding::Ceil => x.ceil(),
                };
                taps.push([((nearest as i64).clamp(0, last) as u32, 1.0)].into_iter());
                continue;
            }
            let x = coordinate(coordinates, at, input, out, scale, |v| v);
            let (first, end) = if edges.antialias {
                ((x - reach + 1.0).floor() as i64, (x + reach + 1.0).floor() as i64)
            } else {
                (x.floor() as i64 + 1 - reach as i64, x.floor() as i64 + 1 + reach as i64)
            };
            let inside = (first..end).filter(|i| !edges.exclude_outside || (0..=last).contains(i));
            let own: Vec<(u32, f64)> =
                inside.map(|i| (i.clamp(0, last) as u32, kernel(mode, (i as f64 - x) * shrink))).collect();
            let total: f64 = own.iter().map(|tap| tap.1).sum();
            let normalised = edges.antialias || edges.exclude_outside;
            taps.push(own.into_iter().map(|(i, w)| (i, if normalised { w / total } else { w })));
        }
        taps
    }

    /// Adds the taps of a result.
    fn push(&mut self, taps: impl Iterator<Item = (u32, f64)>) {
        self.weights.extend(taps);
        self.ends.push(self.weights.len());
    }

    /// Length of the axis before resizing.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of the axis after resizing.
    pub(super) fn outputs(&self) -> usize {
        self.ends.len()
    }

    /// The taps of each position, unconverted.
    fn all(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.weights[start..end])
    }

    /// The taps of each position.
    pub(super) fn iter<T: Float>(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, T)>> {
        self.all().map(|taps| taps.iter().map(|&(i, w)| (i as usize, T::from_f64(w))))
    }

    /// The single position that each position reads, if it copies its value.
    pub(super) fn sources(&self) -> Option<Vec<u32>> {
        self.copies.then(|| self.weights.iter().map(|tap| tap.0).collect())
    }

    /// `[inputs, outputs]`: the weights as a matrix, in the type of `like`.
    pub(super) fn matrix(&self, like: &Tensor) -> Result<Tensor> {
        let (rows, cols) = (self.inputs, self.outputs());
        let mut matrix = vec![0.0; rows * cols];
        for (out, taps) in self.all().enumerate() {
            for &(i, weight) in taps {
                matrix[i as usize * cols + out] += weight;
            }
        }
        let dtype = if like.dtype().is_float() { like.dtype() } else { DType::F32 };
        Ok(Tensor::from_vec(matrix, (rows, cols), &Device::Cpu)?.to_dtype(dtype)?.to_device(like.device())?)
    }
}
