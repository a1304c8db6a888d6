//! Measures how time grows with the number of steps, batch size, image size and depth.

use std::process::Command;
use std::time::Instant;

use ascribe::core::{DType, Explainer, Graph, Inputs, Run, Target, Tensor};
use ascribe::gradient::{IntegratedGradients, Saliency};
use ascribe::models::tensors;

use super::peers::median;
use crate::{paths, python};

/// Number of measurements, of which the median is reported.
const ROUNDS: usize = 5;
/// The network for which the number of steps and the batch size vary.
const NETWORK: &str = "efficientnet-lite0";
/// A network that accepts images of any size.
const ANY_SIDE: &str = "mobilenet-v2";
/// Networks of growing depth.
const DEPTHS: [&str; 4] = ["resnet18", "resnet34", "resnet50", "resnet101"];

/// Prints a table.
pub fn run() -> anyhow::Result<()> {
    let scripts = paths::root().join("benches/peers");
    let python = python::environment(&scripts.join("requirements.txt"))?;
    let folder = super::folder();
    std::fs::create_dir_all(&folder)?;
    let names = DEPTHS.iter().chain([&NETWORK, &ANY_SIDE]);
    python::run(Command::new(python).arg(scripts.join("networks.py")).arg(&folder).args(names))?;
    let file = tensors::read(folder.join("input.safetensors"))?;
    let picture = file.get("input")?.to_dtype(DType::F32)?;
    let model = super::open(NETWORK, false)?;

    println!("| what | value | seconds |");
    println!("| --- | --- | --- |");
    let ig = |steps| IntegratedGradients::exactly(steps);
    let run = Run::new().threads(2);
    for steps in [10, 20, 50, 100, 200] {
        row("steps of integrated gradients", steps, &ig(steps), &model.graph, &picture, &run)?;
    }
    for batch in [1, 2, 4, 8, 16, 32] {
        let run = run.clone().batch(batch);
        row("rows together, 32 steps", batch, &ig(32), &model.graph, &picture, &run)?;
    }
    let model = super::open(ANY_SIDE, false)?;
    for side in [112, 160, 224, 320, 448] {
        let picture = picture.upsample_nearest2d(side, side)?;
        row("side of the picture, saliency", side, &Saliency::default(), &model.graph, &picture, &run)?;
    }
    for name in DEPTHS {
        let model = super::open(name, false)?;
        let depth: usize = name.trim_start_matches("resnet").parse()?;
        row("layers of a ResNet, saliency", depth, &Saliency::default(), &model.graph, &picture, &run)?;
    }
    Ok(())
}

fn row(
    what: &str,
    value: usize,
    method: &dyn Explainer<Graph>,
    graph: &Graph,
    picture: &Tensor,
    run: &Run,
) -> anyhow::Result<()> {
    let x = Inputs::single(picture.clone())?;
    let mut seconds = Vec::new();
    for _ in 0..=ROUNDS {
        let started = Instant::now();
        method.explain(graph, &x, &Target::Class(285), run)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    // The first one compiles the plan.
    println!("| {what} | {value} | {:.3} |", median(&seconds[1..]));
    Ok(())
}
