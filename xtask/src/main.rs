//! Development tasks of Ascribe; run as `cargo xtask TASK`.

mod bench;
mod ci;
mod docs;
mod features;
mod fetch;
mod golden;
mod models;
mod paths;
mod python;
mod reproduce;
mod shapes;

use clap::{Parser, Subcommand};

/// Development tasks of Ascribe.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch the weights of models into the cache (all of them if none is named)
    Fetch {
        /// Names of models
        names: Vec<String>,
    },
    /// Check claims of papers with measurements; writes target/reproduce/report.html and .json
    Reproduce(reproduce::Reproduce),
    /// Rebuild fixtures/golden with the pinned Python references
    Golden(golden::Golden),
    /// Train the small network of fixtures/models on generated shapes
    TrainShapes(shapes::Train),
    /// Run the criterion benches, or with --peers the side-by-side measurements
    Bench(bench::Bench),
    /// Print distances of results from those in double precision, for Ascribe and PyTorch
    Accuracy(bench::Accuracy),
    /// Print the time of each step of a prediction and its gradient
    Profile(bench::Profile),
    /// Measure one workload, for `bench --peers`
    #[command(hide = true)]
    BenchWorker,
    /// Print whether ONNX files load, agree with onnxruntime, and can be explained
    Models(models::Models),
    /// Rewrite the generated parts of the book: tables of methods, metrics and settings, and the list of pages of methods
    Docs(docs::Docs),
    /// Check that each crate builds without default features, and with each of its features alone
    Features,
    /// Run all checks of the gate
    Ci,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Fetch { names } => fetch::run(&names),
        Task::Reproduce(args) => reproduce::run(&args),
        Task::Golden(args) => golden::run(&args),
        Task::TrainShapes(args) => shapes::train(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Profile(args) => bench::profile(&args),
        Task::Accuracy(args) => bench::accuracy(&args),
        Task::BenchWorker => bench::worker(),
        Task::Models(args) => models::run(&args),
        Task::Docs(args) => docs::run(&args),
        Task::Features => features::run(),
        Task::Ci => ci::run(),
    }
}
