//! `cargo xtask golden`: rebuilds the golden files with the pinned Python references.

use std::process::Command;

use clap::Args;

use crate::{paths, python};

/// Scripts in `fixtures/scripts`, in the order of their dependencies.
const SCRIPTS: [&str; 10] = [
    "images.py",
    "convert_efficientnet_lite0.py",
    "onnx_exports.py",
    "zoo_logits.py",
    "onnx_ops.py",
    "onnx_ml.py",
    "malformed.py",
    "preprocess_golden.py",
    "weights_golden.py",
    "methods_all.py",
];

/// `cargo xtask golden`.
#[derive(Debug, Args)]
pub struct Golden {
    /// Only these scripts
    #[arg(long, value_name = "SCRIPT", value_delimiter = ',')]
    only: Vec<String>,
}

/// Runs the scripts in an environment with pinned packages.
pub fn run(args: &Golden) -> anyhow::Result<()> {
    let folder = paths::root().join("fixtures/scripts");
    for name in &args.only {
        anyhow::ensure!(
            SCRIPTS.contains(&name.as_str()),
            "there is no script '{name}'; there are {SCRIPTS:?}"
        );
    }
    let python = python::environment(&folder.join("requirements.txt"))?;
    for script in SCRIPTS.iter().filter(|s| args.only.is_empty() || args.only.iter().any(|o| o == *s)) {
        println!("{script}");
        python::run(Command::new(&python).arg(folder.join(script)).current_dir(paths::root()))?;
    }
    Ok(())
}
