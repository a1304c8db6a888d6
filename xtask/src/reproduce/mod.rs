//! `cargo xtask reproduce`: compares claims of papers with measurements.

mod completeness;
mod gallery;
mod localisation;
mod sanity;

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ascribe::models::labels::Labels;
use ascribe::models::weights::StateDict;
use ascribe::models::zoo;
use ascribe::viz::report::{Claim, Report, Section, Verdict};
use ascribe::{Model, OpenOptions};
use clap::Args;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::{paths, shapes};

/// `cargo xtask reproduce`.
#[derive(Debug, Args)]
pub struct Reproduce {
    /// Suites to run: completeness, sanity, localisation, gallery (default: all)
    suites: Vec<String>,
    /// Fewer pictures and steps: under two minutes
    #[arg(long)]
    quick: bool,
}

/// The settings for every suite.
pub struct Setting {
    /// EfficientNet-Lite0.
    pub model: Model,
    /// Whether to use fewer pictures and steps.
    pub quick: bool,
    /// The shared progress bar; each suite announces its number of steps.
    pub bar: ProgressBar,
}

type Suite = (&'static str, fn(&Setting) -> u64, fn(&Setting) -> anyhow::Result<Vec<Section>>);

const SUITES: [Suite; 4] = [
    ("completeness", completeness::steps, completeness::run),
    ("sanity", sanity::steps, sanity::run),
    ("localisation", localisation::steps, localisation::run),
    ("gallery", gallery::steps, gallery::run),
];

#[derive(Serialize)]
struct Json<'a> {
    quick: bool,
    seconds: f64,
    suites: Vec<JsonSuite<'a>>,
}

#[derive(Serialize)]
struct JsonSuite<'a> {
    name: &'a str,
    seconds: f64,
    claims: Vec<&'a Claim>,
}

/// Runs the suites, writes the report, and prints the claims. A claim that does not hold is a result, not a failure
/// of the command.
pub fn run(args: &Reproduce) -> anyhow::Result<()> {
    for name in &args.suites {
        if !SUITES.iter().any(|s| s.0 == name) {
            bail!("there is no suite '{name}'; there are {:?}", SUITES.map(|s| s.0));
        }
    }
    let started = Instant::now();
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len}, {left}")?;
    bar.set_style(style.with_key("left", |state: &ProgressState, out: &mut dyn Write| {
        // The remaining time is unknown before the first step. Errors of writing the progress bar are ignored.
        let _ = match state.pos() {
            0 => write!(out, "time left not known yet"),
            _ => write!(out, "{:#} left", HumanDuration(state.eta())),
        };
    }));
    let model = Model::open(ascribe::DEFAULT_MODEL, &OpenOptions::default())?;
    let context = Setting { model, quick: args.quick, bar };
    let chosen: Vec<&Suite> =
        SUITES.iter().filter(|s| args.suites.is_empty() || args.suites.iter().any(|n| n == s.0)).collect();
    context.bar.set_length(chosen.iter().map(|s| (s.1)(&context)).sum());
    context.bar.set_draw_target(ProgressDrawTarget::stderr());
    context.bar.enable_steady_tick(Duration::from_millis(200));
    let mut found: Vec<(&str, f64, Vec<Section>)> = Vec::new();
    for (name, _, suite) in chosen {
        let began = Instant::now();
        let sections = suite(&context).with_context(|| format!("suite {name}"))?;
        found.push((name, began.elapsed().as_secs_f64(), sections));
    }
    context.bar.finish_and_clear();

    let folder = paths::target().join("reproduce");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let json = Json {
        quick: args.quick,
        seconds: started.elapsed().as_secs_f64(),
        suites: found
            .iter()
            .map(|(name, seconds, sections)| JsonSuite {
                name,
                seconds: *seconds,
                claims: sections.iter().flat_map(Section::claims).collect(),
            })
            .collect(),
    };
    let text = serde_json::to_string_pretty(&json)?;
    ascribe::core::file::write(folder.join("report.json"), text.as_bytes())?;
    let mut report = Report::new("What papers say, and what is measured here")
        .subtitle(if args.quick { "quick run" } else { "full run" })
        .fact("model", &*context.model.name)
        .fact("seconds", format!("{:.0}", json.seconds));
    for claim in found.iter().flat_map(|(_, _, sections)| sections).flat_map(Section::claims) {
        println!("{:<14} {}", word(claim.verdict), claim.statement);
        if let Some(measured) = &claim.measured {
            println!("{:<14} {measured}", "");
        }
    }
    for section in found.into_iter().flat_map(|(_, _, sections)| sections) {
        report = report.section(section);
    }
    let path = folder.join("report.html");
    report.save(&path)?;
    println!("wrote {} and report.json", path.display());
    Ok(())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::DoesNotHold => "DOES NOT HOLD",
        Verdict::NotChecked => "not checked",
    }
}

/// The verdict of a condition.
pub fn verdict(holds: bool) -> Verdict {
    if holds { Verdict::Holds } else { Verdict::DoesNotHold }
}

/// The small network that was trained on shapes.
pub fn network_of_shapes() -> anyhow::Result<Model> {
    let path = paths::root().join("fixtures/models/shapes.safetensors");
    let parameters = StateDict::load(&path).with_context(|| format!("reading {}", path.display()))?;
    let graph = zoo::build(shapes::ARCHITECTURE, &parameters, &zoo::BuildOptions::default())?;
    let model = Model::new(shapes::ARCHITECTURE, graph, shapes::preprocessing());
    Ok(model.with_labels(Labels::new(shapes::CLASSES)))
}
