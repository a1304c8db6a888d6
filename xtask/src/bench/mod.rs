//! `cargo xtask bench`: Criterion benchmarks, and side-by-side measurements with other libraries.

mod accuracy;
mod growth;
mod peers;
mod profile;
mod work;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use ascribe::{Model, OpenOptions};
use clap::Args;

pub use accuracy::{Accuracy, run as accuracy};
pub use profile::{Profile, run as profile};
pub use work::worker;

use crate::{paths, python};

/// `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Measure beside captum, zennit and pytorch-grad-cam, in turn, in one run
    #[arg(long)]
    peers: bool,
    /// Measure how time grows with steps, batch, side of the picture and depth
    #[arg(long, conflicts_with = "peers")]
    growth: bool,
    /// Pairs of measurements per workload
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Networks: efficientnet-lite0, mobilenet-v2, resnet50, vgg16, vit-b-16
    #[arg(long, value_delimiter = ',')]
    networks: Vec<String>,
    /// Workloads: saliency, ig-50, smooth-grad-50, grad-cam, lrp, occlusion, rise-1000
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
}

/// The networks that are measured.
const NETWORKS: [&str; 5] = ["efficientnet-lite0", "mobilenet-v2", "resnet50", "vgg16", VISION_TRANSFORMER];
/// The network that Ascribe loads from an ONNX file.
const VISION_TRANSFORMER: &str = "vit-b-16";

/// The folder of the networks' files.
fn folder() -> PathBuf {
    paths::target().join("peers")
}

/// A network as Ascribe reads it.
fn open(network: &str, double: bool) -> anyhow::Result<Model> {
    let (architecture, ending) = match network {
        VISION_TRANSFORMER => (None, "onnx"),
        _ => (Some(network.to_string()), "safetensors"),
    };
    let options = OpenOptions { architecture, double, ..OpenOptions::default() };
    let file = folder().join(format!("{network}.{ending}"));
    Model::open(&file.display().to_string(), &options)
        .with_context(|| format!("{network}; `cargo xtask bench --peers` writes the networks"))
}

/// Runs the benches.
pub fn run(args: &Bench) -> anyhow::Result<()> {
    if args.peers {
        return peers::run(args);
    }
    if args.growth {
        return growth::run();
    }
    python::run(
        Command::new("cargo").args(["bench", "--package", "ascribe-benches"]).current_dir(paths::root()),
    )
}
