//! `cargo xtask fetch`.

use ascribe::models::fetch::{Progress, PullOptions, pull};
use ascribe::models::registry::Registry;
use indicatif::{ProgressBar, ProgressStyle};

/// Fetches the weights of these models, or of all models if none is named; continues after a failure and reports all
/// failures at the end.
pub fn run(names: &[String]) -> anyhow::Result<()> {
    let all: Vec<String> = Registry::builtin().models().iter().map(|m| m.name.clone()).collect();
    let names = if names.is_empty() { &all } else { names };
    let mut failures = Vec::new();
    for name in names {
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta}")?);
        bar.set_message(name.clone());
        let outcome = pull(name, &PullOptions::default(), &|progress| match progress {
            Progress::Downloading { done, total } => {
                bar.set_length(total.unwrap_or(done));
                bar.set_position(done);
            }
            Progress::Trying(source) => bar.println(format!("{name}: {source}")),
            _ => {}
        });
        bar.finish_and_clear();
        match outcome {
            Ok(located) => println!("{name}: {}", located.path.display()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
