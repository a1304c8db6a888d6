//! Compares predictions and gradients in single precision with those in double precision, for Ascribe and PyTorch.

use std::collections::BTreeMap;
use std::process::Command;

use ascribe::Model;
use ascribe::core::{Composite, DType, Device, Inputs, Run, Target, Tensor, random};
use ascribe::models::tensors;
use clap::Args;

use crate::{paths, python};

/// `cargo xtask accuracy`.
#[derive(Debug, Args)]
pub struct Accuracy {
    /// Networks, as `cargo xtask bench --peers` has exported them
    #[arg(long, value_delimiter = ',', default_value = "efficientnet-lite0,resnet50,vgg16")]
    networks: Vec<String>,
    /// Number of inputs: noisy copies of the input of the measurements
    #[arg(long, default_value_t = 10)]
    inputs: usize,
}

/// Class whose logit is differentiated.
const CLASS: usize = 285;

/// Prints the distances for Ascribe and PyTorch.
pub fn run(args: &Accuracy) -> anyhow::Result<()> {
    let folder = super::folder();
    let file = tensors::read(folder.join("input.safetensors"))?;
    let one = file.get("input")?.to_dtype(DType::F32)?;
    let mut rows = Vec::new();
    for sample in 0..args.inputs {
        let mut stream = random::stream(0, random::Domain::DATA, sample as u64);
        let noise = random::normal(&mut stream, one.dims(), DType::F32, &Device::Cpu)?;
        rows.push((&one + (noise * 0.5)?)?);
    }
    let all = folder.join("accuracy.safetensors");
    tensors::write(&all, "inputs", &Tensor::cat(&rows, 0)?, &BTreeMap::new())?;
    println!(
        "| network | side | logits: median, largest | gradient: median, largest | gradients within 1e-5 |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for network in &args.networks {
        let models = [super::open(network, false)?, super::open(network, true)?];
        let mut distances = [Vec::new(), Vec::new()];
        for row in &rows {
            let [single, double] = [at(&models[0], row)?, at(&models[1], row)?];
            for (distances, (a, b)) in distances.iter_mut().zip(single.iter().zip(&double)) {
                distances.push(distance(a, b)?);
            }
        }
        print_row(network, distances);
        let scripts = paths::root().join("benches/peers");
        let python = python::environment(&scripts.join("requirements.txt"))?;
        let script = scripts.join("accuracy.py");
        python::run(
            Command::new(python)
                .arg(script)
                .arg(network)
                .arg(folder.join(format!("{network}.safetensors")))
                .arg(&all),
        )?;
    }
    Ok(())
}

/// Logits and input gradient.
fn at(model: &Model, row: &Tensor) -> anyhow::Result<[Tensor; 2]> {
    let graph = &model.graph;
    let x = Inputs::single(row.to_dtype(model.dtype())?)?;
    Ok(Run::new().threads(2).install(|| {
        let logits = graph.forward(&x)?.primary().clone();
        let found = graph.propagate_to(
            &x,
            &Target::Class(CLASS),
            &[0],
            &Composite::gradient(),
            &[],
            graph.inputs(),
        )?;
        Ok([logits, found.signals[0].clone()])
    })?)
}

fn distance(a: &Tensor, b: &Tensor) -> anyhow::Result<f64> {
    let norm = |t: &Tensor| -> anyhow::Result<f64> { Ok(t.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt()) };
    Ok(norm(&(a.to_dtype(DType::F64)? - b)?)? / norm(b)?)
}

fn print_row(network: &str, mut distances: [Vec<f64>; 2]) {
    let exact = distances[1].iter().filter(|d| **d < 1e-5).count();
    let of = distances[1].len();
    let [logits, gradient] = distances.each_mut().map(|all| {
        all.sort_by(f64::total_cmp);
        let at = |i: usize| all.get(i).copied().unwrap_or(f64::NAN);
        format!("{:.1e}, {:.1e}", at(of / 2), at(of.saturating_sub(1)))
    });
    println!("| {network} | ours | {logits} | {gradient} | {exact} of {of} |");
}
