//! The range of the inputs.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The lowest or highest values that a model's input can have, in the model's own units, that is, after
/// preprocessing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// One value everywhere.
    Value(f64),
    /// One value per channel, for inputs `[N, C, …]`.
    Channels(Vec<f64>),
}

impl Bound {
    /// Checks that these values lie below those of `high`, where both can be compared.
    ///
    /// # Errors
    /// If one does not.
    pub(super) fn check_below(&self, high: &Self) -> Result<()> {
        let below = match (self, high) {
            (Self::Value(low), Self::Value(high)) => low < high,
            (Self::Value(low), Self::Channels(high)) => high.iter().all(|high| low < high),
            (Self::Channels(low), Self::Value(high)) => low.iter().all(|low| low < high),
            (Self::Channels(low), Self::Channels(high)) => low.iter().zip(high).all(|(low, high)| low < high),
        };
        if below {
            Ok(())
        } else {
            Err(Error::invalid("low", format!("is {self:?}"), format!("below high = {high:?}")))
        }
    }

    /// A tensor with these values, shaped like `x`.
    ///
    /// # Errors
    /// If the number of channels of `x` differs.
    pub(super) fn like(&self, x: &Tensor) -> Result<Tensor> {
        let values = match self {
            Self::Value(value) => Tensor::new(*value, x.device())?,
            Self::Channels(values) if x.rank() > 1 && x.dims()[1] == values.len() => {
                let mut shape = vec![1; x.rank()];
                shape[1] = values.len();
                Tensor::from_slice(values, shape, x.device())?
            }
            Self::Channels(values) => {
                let problem = format!("has {} channels", values.len());
                return Err(Error::invalid("bound", problem, format!("as many as axis 1 of {:?}", x.dims())));
            }
        };
        Ok(values.to_dtype(x.dtype())?.broadcast_as(x.shape())?.contiguous()?)
    }
}
