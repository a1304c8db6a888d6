//! Does the attribution have the properties that its method guarantees?

mod completeness;

pub use completeness::Completeness;
