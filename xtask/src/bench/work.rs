//! Ascribe's side of the measurements: a process that runs workloads on request.
//!
//! Requests and answers are JSON objects, one per line; the Python side (`benches/peers/worker.py`) uses the same
//! protocol.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use ascribe::Model;
use ascribe::core::{DType, Device, Explainer, Graph, Inputs, Keep, Run, Target, Tensor};
use ascribe::gradient::{GradCam, IntegratedGradients, Lrp, LrpComposite, NoiseTunnel, Quadrature, Saliency};
use ascribe::models::tensors;
use ascribe::perturb::{Occlusion, Rise};
use serde::{Deserialize, Serialize};

/// A request.
#[derive(Debug, Deserialize, Serialize)]
pub struct Request {
    /// Parameter file of the peer.
    pub weights: String,
    /// Architecture.
    pub architecture: String,
    /// File with the tensor `input`.
    pub input: String,
    /// Class to explain.
    pub class: usize,
    /// Workload.
    pub workload: String,
    /// Whether the peer uses the channels-last layout; Ascribe has only one layout.
    pub channels_last: bool,
    /// The file for the attribution, if it is to be compared.
    pub output: Option<String>,
}

/// An answer.
#[derive(Debug, Deserialize, Serialize)]
pub struct Answer {
    /// Wall time of the explanation.
    pub seconds: f64,
    /// Peak resident memory during it, in MiB.
    pub peak_mib: f64,
    /// Resident memory before it, in MiB.
    pub before_mib: f64,
    /// Number of rows evaluated and of rows walked back; 0 if not counted.
    #[serde(default)]
    pub rows: usize,
}

/// A line of `/proc/self/status` in MiB; 0 if the file does not exist.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn explainer(workload: &str) -> anyhow::Result<Box<dyn Explainer<Graph>>> {
    Ok(match workload {
        "saliency" => Box::new(Saliency::default()),
        "ig-50" => Box::new(IntegratedGradients::exactly(50).quadrature(Quadrature::GaussLegendre)),
        // Like the peer, without standard errors.
        "smooth-grad-50" => {
            Box::new(NoiseTunnel::smooth_grad(Saliency::default()).samples(50).sigma(0.15).spread(false))
        }
        "grad-cam" => Box::new(GradCam::default().relu(true)),
        "lrp" => Box::new(Lrp::default().composite(LrpComposite::EpsilonPlus)),
        "rise-1000" => Box::new(Rise::default().masks(1000)),
        "occlusion" => Box::new(Occlusion::new(16, 8)),
        other => bail!("there is no workload '{other}'"),
    })
}

/// RISE uses probabilities as scores, the other methods logits.
fn target(request: &Request) -> Target {
    match request.workload.as_str() {
        "rise-1000" => Target::Probability(request.class),
        _ => Target::Class(request.class),
    }
}

/// Number of multiplications of convolutions, linear layers and matrix products for one row; an input gradient takes
/// the same number.
pub fn products_per_row(network: &str, input: &Path) -> anyhow::Result<f64> {
    let graph = super::open(network, false)?.graph;
    let x = Inputs::single(tensors::read(input)?.get("input")?.to_dtype(DType::F32)?)?;
    let trace = graph.trace(&x, Keep::All)?;
    let mut products = 0.0;
    for (id, node) in graph.nodes() {
        let inputs: Vec<&Tensor> = node.inputs().iter().map(|i| trace.value(*i)).collect::<Result<_, _>>()?;
        let each = match (node.op_name(), inputs.as_slice()) {
            ("Conv" | "Linear", [_, weight, ..]) => weight.elem_count() / weight.dim(0)?.max(1),
            ("MatMul", [a, ..]) => a.dims().last().copied().unwrap_or(0),
            _ => continue,
        };
        products += trace.value(id)?.elem_count() as f64 * each as f64;
    }
    Ok(products / x.batch()? as f64)
}

/// Answers requests from standard input until it ends.
pub fn worker() -> anyhow::Result<()> {
    let mut loaded: Option<(String, Model)> = None;
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("reading a request")?;
        if loaded.as_ref().is_none_or(|(name, _)| *name != request.architecture) {
            loaded = Some((request.architecture.clone(), super::open(&request.architecture, false)?));
        }
        let Some((_, model)) = &loaded else { bail!("no model") };
        let file = tensors::read(&request.input)?;
        let input: Tensor = file.get("input")?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        let x = Inputs::single(input)?;
        let method = explainer(&request.workload)?;
        // Resets the peak of resident memory that the operating system records.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let before_mib = status("VmRSS:");
        let started = Instant::now();
        let found = method.explain(&model.graph, &x, &target(&request), &Run::new().threads(2))?;
        let seconds = started.elapsed().as_secs_f64();
        if let Some(path) = &request.output {
            found.save(path)?;
        }
        let peak_mib = status("VmHWM:");
        let rows = found.provenance.cost.forward + found.provenance.cost.backward;
        let answer = Answer { seconds, peak_mib, before_mib, rows };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}
