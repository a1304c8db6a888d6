//! Downloads the weights of a named model, if they are not on this machine, and prints a summary of them.
//!
//! ```text
//! cargo run -p ascribe-models --example pull -- efficientnet-lite1
//! ```

use std::process::ExitCode;

use ascribe_models::fetch::{self, Progress, PullOptions};
use ascribe_models::registry::{DEFAULT_MODEL, Registry};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> ascribe_models::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let entry = Registry::builtin().get(&name)?;
    let located = fetch::pull_entry(entry, &PullOptions::default(), &|progress| match progress {
        Progress::Downloading { done, total } => match total {
            Some(total) => eprint!("\r{done} of {total} bytes"),
            None => eprint!("\r{done} bytes"),
        },
        Progress::Trying(source) => eprintln!("trying {source}"),
        Progress::Failed(_, reason) => eprintln!("\nthat did not work: {reason}"),
        other => eprintln!("\n{other:?}"),
    })?;
    let weights = fetch::load(entry, None)?;
    println!("{}: {:?}", located.path.display(), located.origin);
    println!("{} tensors, {} values, licence {}", weights.len(), weights.parameter_count(), entry.licence);
    Ok(())
}
