//! Evaluating each sample of a batch once, at most the run's batch budget at a time.

use ascribe_core::{
    Attribution, Composite, Cost, Found, Gradient, Graph, Inputs, Method, Result, Run, Target, Task, Tensor,
    check_finite, explain, to_f64,
};

/// What came out of all samples.
pub(crate) struct Samples {
    /// Score of each sample.
    pub(crate) scores: Vec<f64>,
    /// One tensor per explained input, or whatever else was asked for.
    pub(crate) values: Vec<Tensor>,
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
        scores.extend(to_f64(&found.scores)?);
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

/// Explains by one walk of a composite over the canonical graph.
pub(crate) fn explain_by(
    method: &dyn Method,
    composite: &Composite,
    graph: &Graph,
    x: &Inputs,
    target: &Target,
    run: &Run,
) -> Result<Attribution> {
    explain(method, graph, x, target, run, |task| {
        let found = propagate(task, &graph.canonical()?, composite)?;
        Ok(Found { values: found.values, scores: Some(found.scores), ..Found::default() })
    })
}
