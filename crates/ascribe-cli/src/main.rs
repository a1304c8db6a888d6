//! The command line of Ascribe: `ascribe explain photo.jpg --model resnet50.onnx -o why.png`.
//!
//! Results go to standard output, progress and warnings to standard error. The exit status is 0 for success, 2 for a wrong
//! request and 1 for any other failure.

mod args;
mod commands;
mod error;
mod output;
mod progress;
mod report;
mod settings;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::error::Failure;

fn main() -> ExitCode {
    let args = args::Args::parse();
    // A panic is a bug: it is reported as one, without a backtrace on the terminal.
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = std::panic::catch_unwind(|| commands::run(args)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Err(Failure::Other(format!("internal error, please report it: {text}")))
    });
    match outcome {
        Ok(text) => match std::io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader of a pipe may close it early, as `head` does.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(e) => fail(&Failure::Other(format!("standard output: {e}"))),
        },
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    // If standard error cannot be written to, there is nowhere left to report it.
    let _ = writeln!(std::io::stderr().lock(), "ascribe: {failure}");
    ExitCode::from(failure.status())
}
