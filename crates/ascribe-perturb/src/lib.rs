//! Perturbation-based attribution methods of Ascribe.
//!
//! These methods need only the outputs of a model ([`ascribe_core::Predictor`]): they perturb the input and measure
//! the change of the score.
//!
//! ```
//! use ascribe_core::{BlackBox, DType, Device, Explainer, Inputs, Run, Target, Tensor};
//! use ascribe_perturb::Occlusion;
//!
//! // A model that depends only on the top left pixel.
//! let model = BlackBox::new(|x: &Tensor| x.narrow(2, 0, 1)?.narrow(3, 0, 1)?.flatten_from(1));
//! let x = Inputs::single(Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu)?)?;
//! let attribution = Occlusion::new(2, 2).explain(&model, &x, &Target::Class(0), &Run::new())?;
//! assert_eq!(attribution.values().sum_all()?.to_scalar::<f32>()?, 4.0);
//! # Ok::<(), ascribe_core::Error>(())
//! ```

mod occlusion;
mod rise;

use ascribe_core::Entry;

pub use occlusion::Occlusion;
pub use rise::Rise;

/// The methods of this crate, in the order in which they are listed.
pub const METHODS: &[Entry] = &[Entry::black_box::<Occlusion>(), Entry::black_box::<Rise>()];
