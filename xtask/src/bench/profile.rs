//! Measures the time of each step of a prediction and its gradient.

use std::time::Instant;

use anyhow::Context;
use ascribe::core::{DType, Inputs, Run, StepTime, Target, Tensor};
use ascribe::models::tensors;
use clap::Args;

use super::peers::median;

/// `cargo xtask profile`.
#[derive(Debug, Args)]
pub struct Profile {
    /// Network, as `cargo xtask bench --peers` has exported it
    #[arg(long, default_value = "resnet50")]
    network: String,
    /// Batch size
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Number of runs; the shortest time of each step is reported
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Number of threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prediction only, as perturbation methods need it
    #[arg(long)]
    forward: bool,
}

/// Prints a table of all steps.
pub fn run(args: &Profile) -> anyhow::Result<()> {
    let model = super::open(&args.network, false)?;
    let file = tensors::read(super::folder().join("input.safetensors"))?;
    let one = file.get("input")?.to_dtype(DType::F32)?;
    let x = Inputs::single(Tensor::cat(&vec![one; args.batch], 0)?)?;
    let wanted = if args.forward { Vec::new() } else { model.graph.inputs().to_vec() };
    let mut walls = Vec::new();
    let runs: Option<Vec<Vec<StepTime>>> = Run::new().threads(args.threads).install(|| {
        let one = |_| {
            let started = Instant::now();
            let steps = model.graph.profile(&x, &Target::Class(285), &wanted)?;
            walls.push(started.elapsed().as_secs_f64() * 1e3);
            Ok(steps)
        };
        (0..=args.runs).map(one).collect()
    })?;
    let runs = runs.context("this network runs without a plan")?;
    let Some(first) = runs.first() else { return Ok(()) };
    println!("| half | step | ms | GFLOP/s |");
    println!("| --- | --- | --- | --- |");
    let mut totals = [[0.0; 2]; 2];
    for (at, step) in first.iter().enumerate() {
        let seconds = runs[1..].iter().map(|run| run[at].seconds).fold(f64::INFINITY, f64::min);
        let rate = 2e-9 * step.products / seconds;
        let rate = if step.products > 0.0 { format!("{rate:.0}") } else { String::new() };
        let half = if step.backward { "backward" } else { "forward" };
        println!("| {half} | {} | {:.3} | {rate} |", step.what, seconds * 1e3);
        let total = &mut totals[usize::from(step.backward)];
        total[usize::from(step.products == 0.0)] += seconds * 1e3;
    }
    for (half, [products, rest]) in ["forward", "backward"].iter().zip(totals) {
        println!("{half}: {products:.1} ms in products, {rest:.1} ms in other steps");
    }
    let sums = runs.iter().map(|run| run.iter().map(|step| step.seconds * 1e3).sum::<f64>());
    let medians = [median(&walls), median(&sums.collect::<Vec<_>>())];
    println!("median of whole runs: {:.1} ms, of which steps {:.1} ms", medians[0], medians[1]);
    Ok(())
}
