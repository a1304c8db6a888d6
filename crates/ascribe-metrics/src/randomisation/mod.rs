//! Does the attribution depend on the model?

mod data_randomisation;
mod model_randomisation;
mod similarity;

pub use data_randomisation::DataRandomisation;
pub use model_randomisation::{Mode, ModelRandomisation, randomise};
