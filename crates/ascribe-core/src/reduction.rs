//! Reducing the channels of an attribution to one value per position.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the channels of an attribution `a` of shape [C, H, W] are reduced to one value per position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// `Σ_c a_c`: signed; preserves the sum of the map, and therefore completeness.
    #[default]
    Sum,
    /// `Σ_c a_c / C`: signed.
    Mean,
    /// `max_c |a_c|`: a magnitude; Simonyan et al. 2013, §3.1.
    MaxAbs,
    /// `Σ_c |a_c|`: a magnitude.
    SumAbs,
    /// `Σ_c |a_c| / C`: a magnitude.
    MeanAbs,
    /// `(Σ_c a_c²)^½`: a magnitude.
    L2,
}

impl Reduction {
    /// Every reduction.
    pub const ALL: [Self; 6] = [Self::Sum, Self::Mean, Self::MaxAbs, Self::SumAbs, Self::MeanAbs, Self::L2];

    /// The name in configurations and metadata, e.g. `max-abs`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::MaxAbs => "max-abs",
            Self::SumAbs => "sum-abs",
            Self::MeanAbs => "mean-abs",
            Self::L2 => "l2",
        }
    }

    /// A description for captions, e.g. "sum over channels".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Sum => "sum over channels",
            Self::Mean => "mean over channels",
            Self::MaxAbs => "largest |value| over channels",
            Self::SumAbs => "sum of |values| over channels",
            Self::MeanAbs => "mean of |values| over channels",
            Self::L2 => "L2 norm over channels",
        }
    }

    /// Whether the result keeps the attribution's sign.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::Sum | Self::Mean)
    }

    /// Reduces the values of one position. If any of them is NaN, so is the result.
    pub fn apply(self, channels: impl Iterator<Item = f64> + Clone) -> f64 {
        let count = channels.clone().count() as f64;
        match self {
            Self::Sum => channels.sum(),
            Self::Mean => channels.sum::<f64>() / count,
            Self::MaxAbs => channels
                .fold(0.0, |m: f64, v| if m.is_nan() || v.is_nan() { f64::NAN } else { m.max(v.abs()) }),
            Self::SumAbs => channels.map(f64::abs).sum(),
            Self::MeanAbs => channels.map(f64::abs).sum::<f64>() / count,
            Self::L2 => {
                // Scaled by the largest magnitude, so that squares neither overflow nor underflow.
                let largest = Self::MaxAbs.apply(channels.clone());
                if largest == 0.0 || !largest.is_finite() {
                    return largest;
                }
                largest * channels.map(|v| (v / largest).powi(2)).sum::<f64>().sqrt()
            }
        }
    }

    /// One value per position: `[N, C, H, W]` becomes `[N, H, W]`, `[N, C, L]` becomes `[N, L]`; `[N, D]` has no
    /// channels, and keeps its values (their magnitudes, if the reduction is one). In f64 on the CPU.
    ///
    /// # Errors
    /// If the attribution has no sample axis.
    pub fn reduce(self, values: &Tensor) -> Result<Tensor> {
        let values = values.to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
        let values = match values.rank() {
            0 | 1 => {
                let problem = format!("has shape {:?}", values.dims());
                return Err(Error::invalid("attribution", problem, "[N, D], [N, C, L] or [N, C, H, W]"));
            }
            2 => values.unsqueeze(1)?,
            _ => values,
        };
        let (samples, channels) = (values.dim(0)?, values.dim(1)?);
        let places: usize = values.dims()[2..].iter().product();
        let raw = values.flatten_all()?.to_vec1::<f64>()?;
        let mut reduced = Vec::with_capacity(samples * places);
        for sample in raw.chunks(channels * places) {
            reduced.extend(
                (0..places).map(|place| self.apply(sample.iter().skip(place).step_by(places).copied())),
            );
        }
        let mut shape = values.dims().to_vec();
        shape.remove(1);
        Ok(Tensor::from_vec(reduced, shape, &Device::Cpu)?)
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for Reduction {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.id() == name).ok_or_else(|| {
            Error::invalid(
                "channel reduction",
                format!("'{name}'"),
                format!("one of {}", Self::ALL.map(Self::id).join(", ")),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_reduced_place_by_place() {
        let values = Tensor::new(&[[[1.0, -2.0], [3.0, 0.0]]], &Device::Cpu).unwrap();
        for (reduction, expected) in [
            (Reduction::Sum, [4.0, -2.0]),
            (Reduction::Mean, [2.0, -1.0]),
            (Reduction::MaxAbs, [3.0, 2.0]),
            (Reduction::SumAbs, [4.0, 2.0]),
            (Reduction::MeanAbs, [2.0, 1.0]),
            (Reduction::L2, [10f64.sqrt(), 2.0]),
        ] {
            let found = reduction.reduce(&values).unwrap().to_vec2::<f64>().unwrap();
            assert!(
                found[0].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
                "{reduction}: {found:?}"
            );
            assert_eq!(reduction.id().parse::<Reduction>().unwrap(), reduction);
        }
        assert!("max".parse::<Reduction>().unwrap_err().to_string().contains("max-abs"));
        assert!(Reduction::Sum.reduce(&Tensor::new(&[1.0], &Device::Cpu).unwrap()).is_err());
    }
}
