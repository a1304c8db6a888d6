//! Model loading for Ascribe: ONNX, safetensors, PyTorch checkpoints, architectures, weights and preprocessing.
//!
//! - [`weights`]: parameter files (`.safetensors`, PyTorch `.pth`) as an ordered [`StateDict`](weights::StateDict);
//! - [`zoo`]: architectures by name, built from those parameters as a graph;
//! - [`onnx`]: networks from ONNX files;
//! - [`registry`]: which named models exist, and where their weights come from;
//! - [`fetch`]: finds those weights on this machine, or brings them here;
//! - [`preprocess`]: from a photograph to the input tensor, as torchvision does it;
//! - [`labels`]: names of classes;
//! - [`tensors`]: input tensors and attributions in `.npy` and `.safetensors` files.
//!
//! Everything here reads files that somebody else wrote. Architecture invariant: no file, however
//! malformed, makes this crate panic or allocate more than a small multiple of the file's own size
//! (of a picture: more than its stated number of pixels, which is limited).

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
