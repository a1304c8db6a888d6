//! The references that each explained input is compared with.

use std::collections::BTreeMap;

use ascribe_core::{Baseline, Error, Inputs, Result, Tensor};

/// The references of a batch. They are created one at a time, because a large distribution would not fit into memory
/// at once.
#[derive(Clone, Debug)]
pub struct References<'a> {
    x: &'a Inputs,
    baselines: Vec<&'a Baseline>,
    seed: u64,
    count: usize,
    current: Option<(usize, Vec<Tensor>)>,
}

impl<'a> References<'a> {
    /// Uses `shared` for all explained inputs except those with an entry in `own`, by name.
    ///
    /// # Errors
    /// If an entry does not match any input, or distributions have different sizes.
    pub fn new(
        x: &'a Inputs,
        shared: &'a Baseline,
        own: &'a BTreeMap<String, Baseline>,
        seed: u64,
    ) -> Result<Self> {
        let names: Vec<&str> = x.explained().map(|i| i.name.as_str()).collect();
        if let Some(unknown) = own.keys().find(|k| !names.contains(&k.as_str())) {
            return Err(Error::invalid(
                "baselines",
                format!("there is no explained input '{unknown}'"),
                format!("one of {names:?}"),
            ));
        }
        let baselines: Vec<&Baseline> = names.iter().map(|n| own.get(*n).unwrap_or(shared)).collect();
        let counts = baselines.iter().map(|b| b.count()).collect::<Result<Vec<usize>>>()?;
        let count = counts.iter().copied().max().unwrap_or(1);
        if counts.iter().any(|&c| c != 1 && c != count) {
            return Err(Error::invalid(
                "baselines",
                format!("are distributions of {counts:?} references"),
                "the same number for every input, or 1",
            ));
        }
        Ok(Self { x, baselines, seed, count, current: None })
    }

    /// Number of references per sample.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reference `number` of all samples: one tensor per explained input, shaped like it.
    ///
    /// # Errors
    /// If a baseline does not fit its input.
    pub fn all(&mut self, number: usize) -> Result<&[Tensor]> {
        let current = match self.current.take() {
            Some(current) if current.0 == number => current,
            _ => {
                let values: Result<Vec<Tensor>> = self
                    .x
                    .explained()
                    .zip(&self.baselines)
                    .map(|(input, b)| {
                        b.reference(&input.value, if b.count()? == 1 { 0 } else { number }, self.seed)
                    })
                    .collect();
                (number, values?)
            }
        };
        Ok(&self.current.insert(current).1)
    }
}
