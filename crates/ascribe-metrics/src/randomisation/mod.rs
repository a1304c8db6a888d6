//! Does the attribution depend on the model?

mod model_randomisation;

pub use model_randomisation::{Mode, ModelRandomisation, randomise};
