//! Training, by the graph's own gradients with respect to its parameters.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use ascribe::core::ops::Slot;
use ascribe::core::{Composite, DType, Device, Graph, Inputs, Keep, NodeId, Tensor, random};
use ascribe::models::preprocess::{Preprocessing, Resize};
use ascribe::models::weights::StateDict;
use ascribe::models::zoo;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::data::{CLASSES, SIDE, ShapePicture, picture};
use crate::paths;

/// Architecture of the network, as the zoo calls it.
pub const ARCHITECTURE: &str = "shapes-cnn";

/// Stream of the pictures that accuracy is measured on.
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
    /// Where the parameters go
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// A batch of pictures as the network takes them: values in [0, 1] minus one half.
pub fn batch(pictures: &[ShapePicture]) -> anyhow::Result<Tensor> {
    let values: Vec<f32> = pictures.iter().flat_map(|p| p.pixels.iter().map(|v| v - 0.5)).collect();
    Ok(Tensor::from_vec(values, (pictures.len(), 3, SIDE, SIDE), &Device::Cpu)?)
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

/// Adam (Kingma & Ba 2015, algorithm 1) with the paper's constants.
#[derive(Default)]
struct Adam {
    moments: HashMap<NodeId, (Tensor, Tensor)>,
    steps: i32,
}

impl Adam {
    fn step(&mut self, graph: &Graph, grads: &HashMap<NodeId, Tensor>, rate: f64) -> anyhow::Result<Graph> {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        self.steps += 1;
        let (correct1, correct2) = (1.0 - f64::powi(beta1, self.steps), 1.0 - f64::powi(beta2, self.steps));
        Ok(graph.map_constants(|id, value| {
            let Some(grad) = grads.get(&id) else { return Ok(None) };
            let zeros = || Ok::<_, candle_core::Error>((value.zeros_like()?, value.zeros_like()?));
            let (m, v) = match self.moments.remove(&id) {
                Some(moments) => moments,
                None => zeros()?,
            };
            let m = ((m * beta1)? + (grad * (1.0 - beta1))?)?;
            let v = ((v * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
            let step = ((&m / correct1)? / ((&v / correct2)?.sqrt()? + epsilon)?)?;
            self.moments.insert(id, (m, v));
            Ok(Some((value - (step * rate)?)?))
        })?)
    }
}

/// Trains, reports accuracy on fresh pictures, and writes the parameters.
pub fn train(args: &Train) -> anyhow::Result<()> {
    ensure!(args.steps > 0 && args.batch > 0, "--steps and --batch must be at least 1");
    let started = Instant::now();
    let parameters = initial()?;
    let mut graph = zoo::build(ARCHITECTURE, &parameters, &zoo::BuildOptions::default())?;
    let trained: Vec<NodeId> = graph
        .parameters()
        .iter()
        .filter(|p| matches!(p.slot, Slot::Weight | Slot::Bias))
        .map(|p| p.constant)
        .collect();
    let bar = ProgressBar::new(args.steps as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta} {msg}")?);
    let mut adam = Adam::default();
    for step in 0..args.steps {
        let first = (step * args.batch) as u64;
        let pictures: Vec<ShapePicture> =
            (first..first + args.batch as u64).map(|n| picture(TRAIN_SEED, n)).collect();
        let (loss, grads) = gradients(&graph, &pictures, &trained)?;
        // The rate falls to zero along a half cosine.
        let rate = 1.5e-3 * (1.0 + (std::f64::consts::PI * step as f64 / args.steps as f64).cos());
        graph = adam.step(&graph, &grads, rate)?;
        bar.set_message(format!("loss {loss:.3}"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let right = accuracy(&graph, 1000)?;
    println!(
        "{:.1} % of 1000 new pictures right, after {:.0} s",
        100.0 * right,
        started.elapsed().as_secs_f64()
    );
    let mut state = StateDict::new();
    for &id in &trained {
        let node = graph.node(id);
        if let Some(value) = node.constant() {
            state.insert(node.name(), value.clone());
        }
    }
    let path =
        args.output.clone().unwrap_or_else(|| paths::root().join("fixtures/models/shapes.safetensors"));
    state.save(&path, None)?;
    let side = [SIDE; 2];
    let preprocessing = Preprocessing {
        resize: Some(Resize::Exact(side)),
        crop: Some(side),
        mean: vec![0.5; 3],
        std: vec![1.0; 3],
        ..Preprocessing::imagenet()
    };
    preprocessing.save(Preprocessing::sidecar_path(&path))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Mean cross-entropy and its gradient with respect to each trained constant.
fn gradients(
    graph: &Graph,
    pictures: &[ShapePicture],
    trained: &[NodeId],
) -> anyhow::Result<(f32, HashMap<NodeId, Tensor>)> {
    let trace = graph.trace(&Inputs::single(batch(pictures)?)?, Keep::All)?;
    let output = graph.outputs()[0];
    let logits = trace.value(output)?;
    let rows = logits.to_vec2::<f32>()?;
    let mut loss = 0.0;
    let mut seed = Vec::with_capacity(rows.len() * CLASSES.len());
    for (row, picture) in rows.iter().zip(pictures) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = row.iter().map(|l| (l - largest).exp()).sum();
        for (class, logit) in row.iter().enumerate() {
            let probability = (logit - largest).exp() / total;
            let truth = f32::from(u8::from(class == picture.class));
            loss -= truth * probability.max(f32::MIN_POSITIVE).ln();
            seed.push((probability - truth) / pictures.len() as f32);
        }
    }
    let seed = Tensor::from_vec(seed, logits.shape(), &Device::Cpu)?;
    let signals = graph.backward(&trace, None, &[(output, seed)], trained, &Composite::gradient())?;
    let grads = trained.iter().filter_map(|&id| Some((id, signals.get(id)?.clone()))).collect();
    Ok((loss / pictures.len() as f32, grads))
}

/// Share of fresh pictures that the network classifies right.
fn accuracy(graph: &Graph, count: u64) -> anyhow::Result<f64> {
    let mut right = 0;
    for first in (0..count).step_by(50) {
        let pictures: Vec<ShapePicture> =
            (first..(first + 50).min(count)).map(|n| picture(TEST_SEED, n)).collect();
        let outputs = graph.forward(&Inputs::single(batch(&pictures)?)?)?;
        let best = outputs.primary().argmax(1)?.to_vec1::<u32>()?;
        right += best.iter().zip(&pictures).filter(|(b, p)| **b as usize == p.class).count();
    }
    Ok(right as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_steps_lower_the_loss() {
        let mut graph = zoo::build(ARCHITECTURE, &initial().unwrap(), &zoo::BuildOptions::default()).unwrap();
        let trained: Vec<NodeId> = graph.parameters().iter().map(|p| p.constant).collect();
        let pictures: Vec<ShapePicture> = (0..8).map(|n| picture(3, n)).collect();
        let mut adam = Adam::default();
        let (first, _) = gradients(&graph, &pictures, &trained).unwrap();
        for _ in 0..30 {
            let (_, grads) = gradients(&graph, &pictures, &trained).unwrap();
            graph = adam.step(&graph, &grads, 3e-3).unwrap();
        }
        let (last, _) = gradients(&graph, &pictures, &trained).unwrap();
        assert!(last < 0.5 * first, "{first} to {last}");
    }
}
