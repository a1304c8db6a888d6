//! `cargo xtask ci`: runs the gate.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::paths;

/// Runs the gate's script.
pub fn run() -> anyhow::Result<()> {
    let script = paths::root().join(".ci/run");
    let status =
        Command::new("bash").arg(&script).current_dir(paths::root()).status().context("starting bash")?;
    ensure!(status.success(), "{} failed: {status}", script.display());
    Ok(())
}
