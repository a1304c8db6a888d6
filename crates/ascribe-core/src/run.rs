//! How to run a computation: seed, batch budget, threads, progress, cancellation.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub done: usize,
    /// Steps planned.
    pub total: usize,
}

/// Receives progress.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// How to run: seed, batch budget, threads, progress, cancellation. None of it is global.
///
/// On the CPU, neither the batch budget nor the number of threads changes a bit of the results.
#[derive(Clone, Default)]
pub struct Run {
    seed: u64,
    batch: Option<usize>,
    threads: Option<usize>,
    progress: Option<ProgressFn>,
    cancel: Option<Arc<AtomicBool>>,
}

impl Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("seed", &self.seed)
            .field("batch", &self.batch)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Number of rows that are evaluated together if neither the caller nor the model chooses it: enough to keep the kernels busy,
/// few enough for activations to stay in the caches.
const DEFAULT_BATCH: usize = 8;

/// The largest number of threads; no machine has more.
const MAX_THREADS: usize = 4096;

impl Run {
    /// Seed 0, default batch, all threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the seed of everything that draws random numbers.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets how many rows are evaluated together; by default the model chooses, depending on the size of the caches.
    pub fn batch(self, rows: usize) -> Self {
        Self { batch: Some(rows), ..self }
    }

    /// Sets the number of threads.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Sets a callback for progress.
    pub fn on_progress(self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(progress)), ..self }
    }

    /// Sets a flag that cancels the run when it becomes true.
    pub fn cancel_with(self, flag: Arc<AtomicBool>) -> Self {
        Self { cancel: Some(flag), ..self }
    }

    /// The seed.
    pub fn get_seed(&self) -> u64 {
        self.seed
    }

    /// Rows evaluated together, at least 1.
    pub fn get_batch(&self) -> usize {
        self.batch.unwrap_or(DEFAULT_BATCH).max(1)
    }

    /// This run, with this batch budget if it has none.
    pub(crate) fn or_batch(&self, rows: impl FnOnce() -> Option<usize>) -> Self {
        Self { batch: self.batch.or_else(rows), ..self.clone() }
    }

    /// The run for a part of a larger one: same seed, budget and cancellation, but no progress of its own.
    pub fn quiet(&self) -> Self {
        Self { progress: None, threads: None, ..self.clone() }
    }

    /// Reports progress.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the run was cancelled.
    pub fn step(&self, done: usize, total: usize) -> Result<()> {
        if self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled { done, total });
        }
        if let Some(progress) = &self.progress {
            progress(Progress { done, total });
        }
        Ok(())
    }

    /// Runs a function on the number of threads asked for.
    ///
    /// # Errors
    /// Those of the function, or if the threads cannot be started.
    pub fn install<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(threads) = self.threads else { return function() };
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::invalid("threads", threads.to_string(), format!("1 to {MAX_THREADS}")));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::invalid("threads", format!("{threads}: {e}"), "fewer threads"))?;
        pool.install(function)
    }
}
