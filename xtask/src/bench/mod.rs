//! `cargo xtask bench`: criterion benches, and measurements side by side with peers.

mod accuracy;
mod peers;
mod profile;
mod work;

use std::process::Command;

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
    /// Pairs of measurements per workload
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Networks: efficientnet-lite0, mobilenet-v2, resnet50, vgg16
    #[arg(long, value_delimiter = ',')]
    networks: Vec<String>,
    /// Workloads: saliency, ig-50, smooth-grad-50, grad-cam, lrp, occlusion, rise-1000
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
}

/// Runs the benches.
pub fn run(args: &Bench) -> anyhow::Result<()> {
    if args.peers {
        return peers::run(args);
    }
    python::run(
        Command::new("cargo").args(["bench", "--package", "ascribe-benches"]).current_dir(paths::root()),
    )
}
