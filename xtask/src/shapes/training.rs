//! Trains the network of shapes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use ascribe::core::ops::Slot;
use ascribe::core::{DType, Device, Fit, Graph, Run, Tensor, random};
use ascribe::metrics::training::{Training, accuracy};
use ascribe::models::preprocess::{Preprocessing, Resize};
use ascribe::models::weights::StateDict;
use ascribe::models::zoo;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::data::{CLASSES, SIDE, Shapes};
use crate::paths;

/// Name of the network's architecture in the zoo.
pub const ARCHITECTURE: &str = "shapes-cnn";

/// Seed of the pictures on which accuracy is measured.
const TEST_SEED: u64 = 1;
const TRAIN_SEED: u64 = 0;

/// `cargo xtask train-shapes`.
#[derive(Debug, Args)]
pub struct Train {
    /// Steps of the optimiser
    #[arg(long, default_value_t = 1500)]
    steps: usize,
    /// Pictures per step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Output file for the parameters
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Channels in and out of the convolutions `conv1` …, then of the linear layer `fc`.
const CHANNELS: [[usize; 2]; 5] = [[3, 16], [16, 32], [32, 32], [32, 64], [64, CLASSES.len()]];

/// Random parameters (He et al. 2015); the zoo checks names and shapes.
fn initial() -> anyhow::Result<StateDict> {
    let mut parameters = StateDict::new();
    for (layer, [from, to]) in CHANNELS.into_iter().enumerate() {
        let last = layer + 1 == CHANNELS.len();
        let (name, shape) = if last {
            ("fc".to_string(), vec![to, from])
        } else {
            (format!("conv{}", layer + 1), vec![to, from, 3, 3])
        };
        let fan_in: usize = shape.iter().skip(1).product();
        let noise = random::normal(
            &mut random::stream(2, random::Domain::PARAMETERS, layer as u64),
            &shape,
            DType::F32,
            &Device::Cpu,
        )?;
        parameters.insert(format!("{name}.weight"), (noise * (2.0 / fan_in as f64).sqrt())?);
        parameters.insert(format!("{name}.bias"), Tensor::zeros(to, DType::F32, &Device::Cpu)?);
    }
    Ok(parameters)
}

/// The network with random parameters.
pub fn untrained() -> anyhow::Result<Graph> {
    Ok(zoo::build(ARCHITECTURE, &initial()?, &zoo::BuildOptions::default())?)
}

/// The preprocessing of the network.
pub fn preprocessing() -> Preprocessing {
    let side = [SIDE; 2];
    Preprocessing {
        resize: Some(Resize::Exact(side)),
        crop: Some(side),
        mean: vec![0.5; 3],
        std: vec![1.0; 3],
        ..Preprocessing::imagenet()
    }
}

/// Trains the network, reports its accuracy on new pictures, and writes the parameters.
pub fn train(args: &Train) -> anyhow::Result<()> {
    ensure!(args.steps > 0 && args.batch > 0, "--steps and --batch must be at least 1");
    let started = Instant::now();
    let bar = ProgressBar::new(args.steps as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}")?);
    let shown = bar.clone();
    let run = Run::new().on_progress(move |progress| shown.set_position(progress.done as u64));
    // Each picture is used only once.
    let data = Shapes { seed: TRAIN_SEED, count: args.steps * args.batch };
    let graph = Training::new(untrained()?).steps(args.steps).batch(args.batch).fit(&data, &run)?;
    bar.finish_and_clear();
    let right = accuracy(&graph, &Shapes { seed: TEST_SEED, count: 1000 }, &Run::new().batch(50))?;
    println!(
        "{:.1} % of 1000 new pictures right, after {:.0} s",
        100.0 * right,
        started.elapsed().as_secs_f64()
    );
    let mut state = StateDict::new();
    for parameter in graph.parameters().iter().filter(|p| matches!(p.slot, Slot::Weight | Slot::Bias)) {
        let node = graph.node(parameter.constant);
        if let Some(value) = node.constant() {
            state.insert(node.name(), value.clone());
        }
    }
    let path =
        args.output.clone().unwrap_or_else(|| paths::root().join("fixtures/models/shapes.safetensors"));
    state.save(&path, None)?;
    preprocessing().save(Preprocessing::sidecar_path(&path))?;
    println!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_steps_learn_a_few_pictures() {
        let data = Shapes { seed: 3, count: 8 };
        let graph = untrained().unwrap();
        let before = accuracy(&graph, &data, &Run::new()).unwrap();
        let trained = Training::new(graph).steps(60).batch(8).fit(&data, &Run::new()).unwrap();
        let after = accuracy(&trained, &data, &Run::new()).unwrap();
        assert!(before < 0.9 && after > 0.9, "{before} to {after}");
    }
}
