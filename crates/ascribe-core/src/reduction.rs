//! From the channels of an attribution to one number per place.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the channels of an attribution `a` of shape [C, H, W] become one value per place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Σ_c a_c: signed; keeps the map's total, hence completeness.
    #[default]
    Sum,
    /// Σ_c a_c / C: signed.
    Mean,
    /// max_c |a_c|: a magnitude; Simonyan et al. 2013, §3.1.
    MaxAbs,
    /// Σ_c |a_c|: a magnitude.
    SumAbs,
    /// Σ_c |a_c| / C: a magnitude.
    MeanAbs,
    /// (Σ_c a_c²)^½: a magnitude.
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

    /// The words for a caption, e.g. "sum over channels".
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

    /// One value per place: `[N, C, H, W]` becomes `[N, H, W]`, `[N, C, L]` becomes `[N, L]`; `[N, D]` has no
    /// channels, and keeps its values (their magnitudes, if the reduction is one). In f64 on the CPU.
    ///
    /// # Errors
    /// If the attribution has no sample axis.
    pub fn reduce(self, values: &Tensor) -> Result<Tensor> {
        let values = values.to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
        let channels = match values.rank() {
            0 | 1 => {
                let problem = format!("has shape {:?}", values.dims());
                return Err(Error::invalid("attribution", problem, "[N, D], [N, C, L] or [N, C, H, W]"));
            }
            2 => values.unsqueeze(1)?,
            _ => values,
        };
        Ok(match self {
            Self::Sum => channels.sum(1)?,
            Self::Mean => channels.mean(1)?,
            Self::MaxAbs => channels.abs()?.max(1)?,
            Self::SumAbs => channels.abs()?.sum(1)?,
            Self::MeanAbs => channels.abs()?.mean(1)?,
            Self::L2 => channels.sqr()?.sum(1)?.sqrt()?,
        })
    }
}
