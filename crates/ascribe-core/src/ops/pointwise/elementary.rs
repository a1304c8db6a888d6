//! Elementary functions that candle does not have, computed in f64.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// `f` of each value, on the CPU, rounded to the type of `x`; the result is on the device of `x`.
pub(super) fn apply(x: &Tensor, f: impl Fn(f64) -> f64) -> Result<Tensor> {
    let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let values: Vec<f64> = values.into_iter().map(f).collect();
    Ok(Tensor::from_vec(values, x.dims(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?)
}
