//! One file per command.

mod compare;
mod evaluate;
mod explain;
mod inspect;
mod methods;
mod metrics;
mod models;

use ascribe::kernels::Isa;

use crate::args::{Args, Command};
use crate::error::{Failure, Result};

/// Runs a command; what it returns goes to standard output.
pub fn run(args: Args) -> Result<String> {
    Isa::from_environment().map_err(|error| Failure::request(error.to_string()))?;
    match args.command {
        Command::Explain(args) => explain::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Methods(args) => methods::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Models(args) => models::list(&args),
        Command::Pull(args) => models::pull(&args),
    }
}
