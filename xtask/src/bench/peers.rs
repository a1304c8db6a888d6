//! Measures Ascribe and other libraries in turn, A B A B, on the same machine in the same run.

use std::fmt::{self, Display};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use ascribe::core::Run;
use ascribe::models::tensors;
use ascribe_kernels::arithmetic_ceiling;
use candle_core::{DType, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::work::{Answer, Request, products_per_row};
use super::{Bench, NETWORKS, VISION_TRANSFORMER};
use crate::{paths, python};

/// Workloads of transformers, which have neither feature maps nor rules for relevance propagation.
const GRADIENTS: [&str; 3] = ["saliency", "ig-50", "smooth-grad-50"];
const WORKLOADS: [&str; 7] =
    ["saliency", "ig-50", "smooth-grad-50", "grad-cam", "lrp", "occlusion", "rise-1000"];
/// Workloads whose results cannot be compared element by element: two draw random numbers, and pytorch-grad-cam
/// scales its map to the range 0 to 1.
const INCOMPARABLE: [&str; 3] = ["smooth-grad-50", "rise-1000", "grad-cam"];

struct Side {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Side {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, requests, answers })
    }

    fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        writeln!(self.requests, "{}", serde_json::to_string(request)?)?;
        self.requests.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{request:?}: answer '{}'", line.trim()))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    network: String,
    workload: String,
    ours_seconds: f64,
    /// Arithmetic operations per second, counted by the definition of each operator, as a fraction of the rate of
    /// multiply-adds in registers in the same run.
    ceiling_fraction: f64,
    /// The peer with PyTorch's default memory layout.
    default: Against,
    /// The peer with the channels-last memory layout.
    channels_last: Against,
    /// Relative L2 distance of the two attributions; `None` if they are not comparable.
    distance: Option<f64>,
}

/// Ratios to the peer with one memory layout.
#[derive(Debug, Serialize)]
struct Against {
    seconds: f64,
    /// Median of the ratios of the pairs.
    ratio: f64,
    lowest_ratio: f64,
    highest_ratio: f64,
    /// Ratio of the peaks of resident memory.
    memory_ratio: f64,
}

fn chosen<'a>(asked: &'a [String], known: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    for name in asked {
        ensure!(known.contains(&name.as_str()), "there is no '{name}'; there are {known:?}");
    }
    Ok(if asked.is_empty() { known.to_vec() } else { asked.iter().map(String::as_str).collect() })
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// Measures and prints the table row by row, and stores it in `target/peers/table.json`. Failed measurements are
/// reported at the end, and do not stop the others.
pub fn run(args: &Bench) -> anyhow::Result<()> {
    ensure!(args.pairs > 0, "--pairs must be at least 1");
    let networks = chosen(&args.networks, &NETWORKS)?;
    let workloads = chosen(&args.workloads, &WORKLOADS)?;
    let scripts = paths::root().join("benches/peers");
    let python = python::environment(&scripts.join("requirements.txt"))?;
    let folder = super::folder();
    std::fs::create_dir_all(&folder)?;
    python::run(Command::new(&python).arg(scripts.join("networks.py")).arg(&folder).args(&networks))?;

    let bar = ProgressBar::new((networks.len() * workloads.len() * (args.pairs + 1)) as u64);
    bar.set_style(ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len}, {eta} left")?);
    println!(
        "| network | workload | ours, s | peer, s | ratio (lowest to highest) | memory | of the ceiling | \
         peer channels last, s | ratio | distance |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for network in networks {
        for workload in &workloads {
            if network == VISION_TRANSFORMER && !GRADIENTS.contains(workload) {
                continue;
            }
            bar.set_message(format!("{workload}, {network}"));
            let sides = Sides::start(&python, &scripts.join("worker.py"));
            match sides.and_then(|mut sides| sides.pairs(args.pairs, network, workload, &folder, &bar)) {
                Ok(row) => {
                    bar.suspend(|| println!("{row}"));
                    rows.push(row);
                }
                Err(error) => failures.push(format!("{workload} on {network}: {error:#}")),
            }
            let text = serde_json::to_string_pretty(&rows)?;
            ascribe::core::file::write(folder.join("table.json"), text.as_bytes())?;
        }
    }
    bar.finish_and_clear();
    ensure!(failures.is_empty(), "not measured:\n{}", failures.join("\n"));
    Ok(())
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, workload, ours_seconds, ceiling_fraction, default, channels_last, distance } =
            self;
        let distance = distance.map_or_else(String::new, |d| format!("{d:.1e}"));
        write!(
            f,
            "| {network} | {workload} | {ours_seconds:.3} | {:.3} | {:.2} ({:.2} to {:.2}) | {:.2} | \
             {ceiling_fraction:.2} | {:.3} | {:.2} ({:.2} to {:.2}) | {distance} |",
            default.seconds,
            default.ratio,
            default.lowest_ratio,
            default.highest_ratio,
            default.memory_ratio,
            channels_last.seconds,
            channels_last.ratio,
            channels_last.lowest_ratio,
            channels_last.highest_ratio,
        )
    }
}

/// The processes of one row of the table. Each row starts new ones, so that no memory of an earlier row is still
/// held.
struct Sides {
    own: Side,
    peer: Side,
    channels_last: Side,
}

impl Sides {
    fn start(python: &Path, script: &Path) -> anyhow::Result<Self> {
        let peer = || {
            let mut command = Command::new(python);
            command.arg(script).env("OMP_NUM_THREADS", "2");
            Side::start(command)
        };
        let mut own = Command::new(std::env::current_exe()?);
        own.arg("bench-worker");
        Ok(Self { own: Side::start(own)?, peer: peer()?, channels_last: peer()? })
    }

    fn pairs(
        &mut self,
        count: usize,
        network: &str,
        workload: &str,
        folder: &Path,
        bar: &ProgressBar,
    ) -> anyhow::Result<Row> {
        let Self { own, peer, channels_last: other } = self;
        let path = |name: String| folder.join(name).display().to_string();
        let request = |output: Option<PathBuf>, channels_last: bool| Request {
            weights: path(format!("{network}.safetensors")),
            architecture: network.to_string(),
            input: path("input.safetensors".into()),
            class: 285,
            workload: workload.to_string(),
            channels_last,
            output: output.map(|p| p.display().to_string()),
        };
        // The first round warms up all processes, and checks that they compute the same results.
        let files = [folder.join("own.safetensors"), folder.join("peer.safetensors")];
        own.ask(&request(Some(files[0].clone()), false))?;
        other.ask(&request(None, true))?;
        peer.ask(&request(Some(files[1].clone()), false))?;
        let distance =
            if INCOMPARABLE.contains(&workload) { None } else { Some(distance(&files[0], &files[1])?) };
        bar.inc(1);
        let (mut ours, mut theirs, mut last) = (Vec::new(), Vec::new(), Vec::new());
        let mut ceilings = Vec::new();
        for _ in 0..count {
            ceilings.push(Run::new().threads(2).install(|| Ok(arithmetic_ceiling()))?);
            ours.push(own.ask(&request(None, false))?);
            theirs.push(peer.ask(&request(None, false))?);
            last.push(other.ask(&request(None, true))?);
            bar.inc(1);
        }
        let each = products_per_row(network, &folder.join("input.safetensors"))?;
        let fractions: Vec<f64> = ours
            .iter()
            .zip(&ceilings)
            .map(|(a, ceiling)| 2e-9 * each * a.rows as f64 / a.seconds / ceiling)
            .collect();
        Ok(Row {
            network: network.into(),
            workload: workload.into(),
            ours_seconds: seconds(&ours),
            ceiling_fraction: median(&fractions),
            default: Against::of(&ours, &theirs),
            channels_last: Against::of(&ours, &last),
            distance,
        })
    }
}

fn seconds(answers: &[Answer]) -> f64 {
    median(&answers.iter().map(|a| a.seconds).collect::<Vec<_>>())
}

impl Against {
    fn of(ours: &[Answer], theirs: &[Answer]) -> Self {
        let peak = |all: &[Answer]| median(&all.iter().map(|a| a.peak_mib).collect::<Vec<_>>());
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a.seconds / b.seconds).collect();
        Self {
            seconds: seconds(theirs),
            ratio: median(&ratios),
            lowest_ratio: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            highest_ratio: ratios.iter().copied().fold(0.0, f64::max),
            memory_ratio: peak(ours) / peak(theirs),
        }
    }
}

/// Relative L2 distance of two stored attributions.
fn distance(own: &Path, peer: &Path) -> anyhow::Result<f64> {
    let read = |path: &Path| -> anyhow::Result<Tensor> {
        Ok(tensors::read(path)?.get("attribution")?.to_dtype(DType::F64)?)
    };
    let (a, b) = (read(own)?, read(peer)?);
    let norm = |t: &Tensor| -> anyhow::Result<f64> { Ok(t.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt()) };
    Ok(norm(&(&a - &b)?)? / norm(&b)?)
}
