//! Reference inputs, which represent missing information.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::{config, random};

/// The reference that a method compares an input with.
///
/// Values are in the model's input space, that is, after preprocessing; [`Baseline::pixel`] converts a grey level.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Baseline {
    /// Zeros: with mean-normalised images, the mean colour.
    #[default]
    Zero,
    /// One value everywhere.
    Constant(f64),
    /// One value per channel, for inputs `[N, C, …]`.
    Channels(Vec<f64>),
    /// The input, blurred over its positions (the axes after the channels) by a Gaussian with this standard deviation in pixels.
    Blurred {
        /// Standard deviation in pixels.
        sigma: f64,
    },
    /// Uniform noise, one draw.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// The input plus Gaussian noise, one draw.
    Gaussian {
        /// Standard deviation.
        std: f64,
    },
    /// For each value, the bound that is farther away: the "maximum distance" baseline of Sturmfels et al. 2020.
    MaxDistance {
        /// Lower bound of the input space.
        low: f64,
        /// Upper bound of the input space.
        high: f64,
    },
    /// This tensor: one row for all samples, or one per sample.
    ///
    /// In a configuration it is written as `{ "shape": […], "values": […] }`, with the values in row-major order;
    /// provenance records contain only the shape.
    Tensor(#[serde(serialize_with = "config::shape", deserialize_with = "config::tensor")] Tensor),
    /// A distribution: one reference per row; methods average over them. Written like [`Baseline::Tensor`].
    Samples(#[serde(serialize_with = "config::shape", deserialize_with = "config::tensor")] Tensor),
}

impl Baseline {
    /// The baseline that has this grey level in [0, 1] before normalisation: 0 is black, 1 is white.
    pub fn pixel(level: f64, mean: &[f64], std: &[f64]) -> Self {
        Self::Channels(mean.iter().zip(std).map(|(m, s)| (level - m) / s).collect())
    }

    /// Number of references per sample: 1, except for a distribution.
    ///
    /// # Errors
    /// If the distribution has no rows.
    pub fn count(&self) -> Result<usize> {
        match self {
            Self::Samples(rows) => match rows.dims().first() {
                Some(&n) if n > 0 => Ok(n),
                _ => Err(Error::invalid("baseline", "is a distribution without rows", "at least one")),
            },
            _ => Ok(1),
        }
    }

    /// Checks that there is a single reference per sample.
    ///
    /// # Errors
    /// If the baseline is a distribution.
    pub fn check_single(&self) -> Result<()> {
        match self.count()? {
            1 => Ok(()),
            n => Err(Error::invalid("baseline", format!("is a distribution of {n}"), "a single reference")),
        }
    }

    /// Checks that the numbers are valid.
    fn check(&self) -> Result<()> {
        let fail = |problem: String, expected: &str| Err(Error::invalid("baseline", problem, expected));
        match *self {
            Self::Constant(value) if !value.is_finite() => fail(format!("is {value}"), "a finite number"),
            Self::Uniform { low, high } | Self::MaxDistance { low, high }
                if !(low.is_finite() && high.is_finite() && low < high) =>
            {
                fail(format!("has bounds {low} and {high}"), "finite bounds, the lower one first")
            }
            Self::Gaussian { std } if !(std > 0.0 && std.is_finite()) => {
                fail(format!("has standard deviation {std}"), "a positive number")
            }
            _ => Ok(()),
        }
    }

    /// Reference `number` for each row of `x`, shaped like `x`. Random baselines draw from `seed`, with the same
    /// random numbers for every row. For integers, values are rounded.
    ///
    /// # Errors
    /// If the baseline does not fit the input's shape.
    pub fn reference(&self, x: &Tensor, number: usize, seed: u64) -> Result<Tensor> {
        if !x.dtype().is_float() {
            let exact = self.reference(&x.to_dtype(DType::F64)?, number, seed)?;
            return Ok(exact.round()?.to_dtype(x.dtype())?);
        }
        let noise = |draw: fn(&mut _, &[usize], DType, &candle_core::Device) -> Result<Tensor>| {
            let mut shape = x.dims().to_vec();
            shape[0] = 1;
            draw(&mut random::stream(seed, random::Domain::BASELINE, 0), &shape, x.dtype(), x.device())
        };
        self.check()?;
        let value = match self {
            Self::Zero => x.zeros_like()?,
            Self::Constant(value) => (x.zeros_like()? + *value)?,
            Self::Channels(values) => {
                if x.rank() < 2 || x.dim(1)? != values.len() {
                    return Err(Error::invalid(
                        "baseline",
                        format!("has {} channels", values.len()),
                        format!("as many as axis 1 of an input {:?}", x.dims()),
                    ));
                }
                let mut shape = vec![1; x.rank()];
                shape[1] = values.len();
                Tensor::from_slice(values, shape, x.device())?.to_dtype(x.dtype())?
            }
            Self::Blurred { sigma } => blur(x, *sigma)?,
            Self::Uniform { low, high } => ((noise(random::uniform)? * (high - low))? + *low)?,
            Self::Gaussian { std } => x.broadcast_add(&(noise(random::normal)? * *std)?)?,
            Self::MaxDistance { low, high } => {
                let middle = f64::midpoint(*low, *high);
                let low = (x.zeros_like()? + *low)?;
                let high = (x.zeros_like()? + *high)?;
                x.gt(middle)?.where_cond(&low, &high)?
            }
            Self::Tensor(value) => value.to_dtype(x.dtype())?,
            Self::Samples(rows) => rows.narrow(0, number, 1)?.to_dtype(x.dtype())?,
        };
        let fits = value.rank() == x.rank()
            && value.dims().iter().zip(x.dims()).all(|(have, want)| have == want || *have == 1);
        if !fits {
            return Err(Error::invalid(
                "baseline",
                format!("has shape {:?}", value.dims()),
                format!("{:?}, or one row of it", x.dims()),
            ));
        }
        Ok(value.broadcast_as(x.shape())?.contiguous()?)
    }
}

/// The largest standard deviation: a wider blur of any image is its mean, and a larger kernel would only take more
/// time.
const MAX_SIGMA: f64 = 10_000.0;

/// Gaussian blur over the positions of `[N, C, positions…]` with reflected borders; the kernel is cut off at 4 standard
/// deviations.
///
/// # Errors
/// If the input has fewer than three axes or `sigma` is not a positive number.
pub fn blur(x: &Tensor, sigma: f64) -> Result<Tensor> {
    if !(sigma > 0.0 && sigma <= MAX_SIGMA) {
        let expected = format!("a positive number of pixels, at most {MAX_SIGMA}");
        return Err(Error::invalid("sigma", sigma.to_string(), expected));
    }
    if x.rank() < 3 {
        return Err(Error::invalid(
            "input",
            format!("has shape {:?}", x.dims()),
            "[N, C, positions…] to be blurred",
        ));
    }
    (2..x.rank()).try_fold(x.clone(), |x, axis| {
        let matrix = blur_matrix(x.dim(axis)?, sigma);
        let side = x.dim(axis)?;
        let matrix = Tensor::from_vec(matrix, (side, side), x.device())?.to_dtype(x.dtype())?;
        // Blurring along one axis is a matrix product with that axis moved to the end.
        let moved = x.transpose(axis, x.rank() - 1)?.contiguous()?;
        let shape = moved.shape().clone();
        let blurred = moved.reshape(((), side))?.matmul(&matrix)?.reshape(shape)?;
        Ok(blurred.transpose(axis, x.rank() - 1)?.contiguous()?)
    })
}

/// `[side, side]` matrix whose column `j` holds the weights of output `j`.
fn blur_matrix(side: usize, sigma: f64) -> Vec<f64> {
    let radius = (4.0 * sigma + 0.5).floor() as i64;
    let weight = |d: i64| (-0.5 * (d as f64 / sigma).powi(2)).exp();
    let total: f64 = (-radius..=radius).map(weight).sum();
    let n = side as i64;
    let mut matrix = vec![0.0; side * side];
    for out in 0..n {
        for d in -radius..=radius {
            // Reflection at the outer edges of the border pixels: … 1 0 | 0 1 2 …
            let wrapped = (out + d).rem_euclid(2 * n);
            let source = if wrapped < n { wrapped } else { 2 * n - 1 - wrapped };
            matrix[(source * n + out) as usize] += weight(d) / total;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_tensor_can_be_written_as_a_setting() -> Result<()> {
        let read = |text: &str| serde_json::from_str::<Baseline>(text).map_err(|e| e.to_string());
        let baseline = read(r#"{ "tensor": { "shape": [1, 2], "values": [3, 4.5] } }"#);
        let x = Tensor::zeros((2, 2), DType::F32, &Device::Cpu)?;
        let Ok(baseline) = baseline else { panic!("{baseline:?}") };
        assert_eq!(baseline.reference(&x, 0, 0)?.to_vec2::<f32>()?, [[3.0, 4.5], [3.0, 4.5]]);
        for wrong in [
            r#"{ "tensor": { "shape": [2], "values": [3] } }"#,
            r#"{ "tensor": { "shape": [18446744073709551615, 2], "values": [] } }"#,
            r#"{ "tensor": [1, 2] }"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }
}
