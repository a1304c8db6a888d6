//! Paths in the source tree.

use std::path::PathBuf;

/// The root of the source tree.
pub fn root() -> PathBuf {
    // CARGO_MANIFEST_DIR is the folder of this crate, one below the root.
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or(own.clone(), PathBuf::from)
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
