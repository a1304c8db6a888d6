//! Does the attribution keep its promises?

mod completeness;

pub use completeness::Completeness;
