//! `cargo xtask features`: checks that each crate builds without its default features, and with each of its features
//! alone.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::paths;

/// Features that are skipped because only some machines can build them, with what they need. A feature that enables one
/// of these is skipped as well.
const SKIPPED: [(&str, &str); 5] = [
    ("accelerate", "Apple's Accelerate framework"),
    ("cuda", "the CUDA toolkit"),
    ("cudnn", "the cuDNN library"),
    ("metal", "Apple's Metal framework"),
    ("mkl", "Intel's MKL library"),
];

/// The part of the output of `cargo metadata` that is read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    features: Features,
}

/// Features of a crate, each with what it enables.
type Features = BTreeMap<String, Vec<String>>;

/// Checks all crates of the workspace; stops at the first that does not build.
pub fn run() -> anyhow::Result<()> {
    let crates = crates()?;
    for (name, features) in &crates {
        check(name, None)?;
        for feature in features.keys().filter(|feature| *feature != "default") {
            match need(&crates, name, feature) {
                Some(need) => println!("{name}: skipping feature {feature}, which needs {need}"),
                None => check(name, Some(feature))?,
            }
        }
    }
    Ok(())
}

/// The crates of the workspace.
fn crates() -> anyhow::Result<BTreeMap<String, Features>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("reading the output of cargo metadata")?;
    Ok(metadata.packages.into_iter().map(|package| (package.name, package.features)).collect())
}

/// The requirement of a feature that only some machines satisfy.
fn need(crates: &BTreeMap<String, Features>, name: &str, feature: &str) -> Option<&'static str> {
    if let Some((_, need)) = SKIPPED.iter().find(|(skipped, _)| *skipped == feature) {
        return Some(need);
    }
    let enabled = crates.get(name)?.get(feature)?;
    enabled.iter().find_map(|entry| match entry.split_once('/') {
        // A feature of a dependency: `crate/feature`, or `crate?/feature` if the dependency is optional.
        Some((dependency, feature)) => need(crates, dependency.trim_end_matches('?'), feature),
        None => need(crates, name, entry),
    })
}

/// Checks a crate without its default features, or with one feature alone.
fn check(name: &str, feature: Option<&str>) -> anyhow::Result<()> {
    let with =
        feature.map_or("without features".to_owned(), |feature| format!("with feature {feature} alone"));
    println!("{name} {with}");
    let mut command = cargo();
    command.args(["check", "--locked", "--package", name, "--no-default-features"]);
    command.args(feature.iter().flat_map(|feature| ["--features", feature]));
    let status = command.status().context("starting cargo check")?;
    ensure!(status.success(), "{name} does not build {with}: {status}");
    Ok(())
}

/// The cargo executable: the one that runs this task, if there is one.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(list: &[(&str, &[&str])]) -> Features {
        let owned = |enabled: &[&str]| enabled.iter().map(|entry| (*entry).to_owned()).collect();
        list.iter().map(|(name, enabled)| ((*name).to_owned(), owned(enabled))).collect()
    }

    #[test]
    fn features_that_enable_skipped_ones_are_skipped() {
        let low = features(&[("cuda", &["candle-core/cuda"]), ("gpu", &["candle-core?/metal"])]);
        let high = features(&[("fast", &["gpu"]), ("gpu", &["low/gpu"]), ("viz", &["dep:viz", "png/std"])]);
        let crates = BTreeMap::from([("low".to_owned(), low), ("high".to_owned(), high)]);
        assert_eq!(need(&crates, "low", "cuda"), Some("the CUDA toolkit"));
        assert_eq!(need(&crates, "low", "gpu"), Some("Apple's Metal framework"));
        assert_eq!(need(&crates, "high", "fast"), Some("Apple's Metal framework"));
        assert_eq!(need(&crates, "high", "viz"), None);
    }
}
