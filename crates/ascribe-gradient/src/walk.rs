//! Evaluating each sample of a batch once, at most the run's batch budget at a time.

use ascribe_core::{
    Composite, Cost, DType, Device, Gradient, Graph, Inputs, Result, Task, Tensor, check_finite,
};

/// What came out of all samples.
pub(crate) struct Samples {
    /// Score of each sample.
    pub(crate) scores: Vec<f64>,
    /// One tensor per explained input, or whatever else was asked for.
    pub(crate) values: Vec<Tensor>,
}

/// Scores as numbers.
pub(crate) fn numbers(scores: &Tensor) -> Result<Vec<f64>> {
    Ok(scores.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec1()?)
}

/// Calls `part` on some samples at a time and joins what it returns along the first axis.
pub(crate) fn by_samples<M: ?Sized>(
    task: &Task<'_, M>,
    mut part: impl FnMut(&Inputs, &[usize]) -> Result<Gradient>,
) -> Result<Samples> {
    let samples = task.samples()?;
    let mut scores = Vec::with_capacity(samples.len());
    let mut columns: Vec<Vec<Tensor>> = Vec::new();
    for chunk in samples.chunks(task.run.get_batch()) {
        task.run.step(scores.len(), samples.len())?;
        let found = part(&task.x.select(chunk)?, chunk)?;
        check_finite("score", &found.scores)?;
        scores.extend(numbers(&found.scores)?);
        columns.resize(found.values.len(), Vec::new());
        columns.iter_mut().zip(found.values).for_each(|(column, value)| column.push(value));
    }
    task.run.step(scores.len(), samples.len())?;
    let values: Result<Vec<Tensor>> = columns
        .into_iter()
        .map(|column| match column.as_slice() {
            [one] => Ok(one.clone()),
            all => Ok(Tensor::cat(all, 0)?),
        })
        .collect();
    Ok(Samples { scores, values: values? })
}

/// One walk of a composite over `graph` for every sample. The graph is the task's, or one that computes the same.
pub(crate) fn propagate(task: &Task<'_, Graph>, graph: &Graph, composite: &Composite) -> Result<Samples> {
    by_samples(task, |x, samples| {
        task.count(Cost { forward: samples.len(), backward: samples.len() });
        graph.propagate(x, &task.target, samples, composite)
    })
}

/// Cost of one evaluation and one walk per sample.
pub(crate) fn once(x: &Inputs) -> Cost {
    let samples = x.batch().unwrap_or(0);
    Cost { forward: samples, backward: samples }
}

/// The graph in the form that rules are defined on: batch norm folded into its neighbour, activations that an
/// exporter took apart put together again. The outputs stay the same up to rounding.
pub(crate) fn canonical(graph: &Graph) -> Result<Graph> {
    graph.canonical()
}
