//! What is written to standard error: notes, warnings, and progress bars on terminals.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use ascribe::core::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A progress bar with the time left; silent unless standard error is a terminal.
#[derive(Clone, Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar with this label.
    pub fn new(label: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {state}") {
            bar.set_style(style.with_key("state", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // The time left is unknown before the first rows. If a bar cannot be drawn, the command goes on.
                let _ = match (state.pos(), state.len()) {
                    (1.., Some(len)) => {
                        write!(out, "{}/{len}, {:#} left", state.pos(), HumanDuration(state.eta()))
                    }
                    _ => Ok(()),
                };
            }));
        }
        bar.set_message(label.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// A bar that counts bytes.
    pub fn bytes(label: &str) -> Self {
        let bar = Self::new(label);
        if let Ok(style) =
            ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes}, {eta} left")
        {
            bar.0.set_style(style);
        }
        bar
    }

    /// Changes the label.
    pub fn label(&self, label: &str) {
        self.0.set_message(label.to_string());
    }

    /// The callback for [`ascribe::core::Run::on_progress`].
    pub fn callback(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let bar = self.0.clone();
        move |progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    }

    /// Shows a position.
    pub fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A note on standard error.
pub fn note(text: &str) {
    // If standard error cannot be written to, there is nowhere to report it.
    let _ = writeln!(std::io::stderr().lock(), "ascribe: {text}");
}

/// A warning on standard error, in red on terminals.
pub fn warn(text: &str) {
    let red = anstyle::AnsiColor::Red.on_default().effects(anstyle::Effects::BOLD);
    // If standard error cannot be written to, there is nowhere to report it.
    let _ = writeln!(anstream::stderr().lock(), "{red}ascribe: warning: {text}{red:#}");
}
