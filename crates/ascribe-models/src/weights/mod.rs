//! Parameter files (safetensors and PyTorch checkpoints), as an ordered map from names to tensors.
//!
//! ```
//! use ascribe_models::weights::StateDict;
//! use candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("linear.safetensors");
//! let mut weights = StateDict::new();
//! weights.insert("fc.weight", Tensor::zeros((10, 4), DType::F32, &Device::Cpu)?);
//! weights.insert("fc.bias", Tensor::zeros(10, DType::F32, &Device::Cpu)?);
//! weights.save(&path, Some(DType::F16))?;
//!
//! let weights = StateDict::load(&path)?;
//! weights.check(&[("fc.weight", vec![10, 4]), ("fc.bias", vec![10])])?;
//! assert_eq!(weights.get_as("fc.bias", DType::F32)?.dtype(), DType::F32);
//! # Ok(())
//! # }
//! ```

mod check;
pub(crate) mod element;
mod load;
mod nesting;
mod pickle;
pub(crate) mod safetensors;
mod state_dict;
mod torch;
mod torch_views;

pub use check::ParameterMismatch;
pub use state_dict::StateDict;
