//! Model loading for Ascribe: ONNX, safetensors, PyTorch checkpoints, architectures, weights and preprocessing.
//!
//! - [`weights`]: parameter files (`.safetensors`, PyTorch `.pth`) as an ordered [`StateDict`](weights::StateDict);
//! - [`zoo`]: network architectures by name, built as a graph from such parameters;
//! - [`onnx`]: networks from ONNX files;
//! - [`registry`]: the named models, and where their weights come from;
//! - [`fetch`]: finds those weights on this machine, or downloads them;
//! - [`preprocess`]: turns an image into the input tensor of a network, as torchvision does it;
//! - [`labels`]: the names of classes;
//! - [`tensors`]: input tensors and attributions in `.npy` and `.safetensors` files.
//!
//! This crate reads files that it must not trust. Invariant: no file, however malformed, makes this crate panic or
//! allocate more than a small multiple of the size of the file (for an image: more than its stated number of pixels
//! takes, which is limited).

pub mod error;
pub mod fetch;
pub mod files;
pub mod labels;
pub mod onnx;
pub mod preprocess;
pub mod registry;
pub mod tensors;
pub mod weights;
pub mod zoo;

pub use error::{Error, Result};
