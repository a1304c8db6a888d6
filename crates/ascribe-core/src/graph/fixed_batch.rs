//! Graphs whose operators can compute one batch size only.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::Tensor;

use super::{Graph, Trace};
use crate::error::Result;
use crate::inputs::Inputs;
use crate::outputs::Outputs;

/// The rows of each part of a batch, and the inputs of the part.
pub(crate) type Parts = Vec<(Range<usize>, Inputs)>;

impl Graph {
    /// The parts in which a batch has to be computed, if it cannot be computed as a whole: the rows of each part, and the
    /// inputs, in which the last row is repeated where a part is too short.
    pub(crate) fn parts(&self, x: &Inputs) -> Result<Option<Parts>> {
        let batch = x.batch()?;
        let Some(size) = self.rows.filter(|size| *size != batch) else { return Ok(None) };
        let part = |start: usize| {
            let end = batch.min(start + size);
            let rows: Vec<usize> = (start..start + size).map(|row| row.min(end - 1)).collect();
            Ok((start..end, x.select(&rows)?))
        };
        (0..batch).step_by(size).map(part).collect::<Result<_>>().map(Some)
    }

    /// The inputs themselves, or those of the first part.
    pub(crate) fn first_part<'a>(&self, x: &'a Inputs) -> Result<Cow<'a, Inputs>> {
        Ok(match self.parts(x)? {
            Some(parts) => parts.into_iter().next().map_or(Cow::Borrowed(x), |(_, x)| Cow::Owned(x)),
            None => Cow::Borrowed(x),
        })
    }
}

/// The values of parts, each without the rows that fill it up, as one.
pub(crate) fn joined(parts: &[(Range<usize>, Tensor)]) -> Result<Tensor> {
    let own = |(rows, value): &(Range<usize>, Tensor)| value.narrow(0, 0, rows.len());
    Ok(Tensor::cat(&parts.iter().map(own).collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

/// The outputs of parts as one.
pub(crate) fn joined_outputs(parts: &[(Range<usize>, Outputs)]) -> Result<Outputs> {
    let Some((_, first)) = parts.first() else { return Outputs::new(Vec::new()) };
    let of = |at: usize, name: &str| -> Result<(String, Tensor)> {
        let values = parts.iter().filter_map(|(rows, outputs)| {
            outputs.iter().nth(at).map(|(_, value)| (rows.clone(), value.clone()))
        });
        Ok((name.to_string(), joined(&values.collect::<Vec<_>>())?))
    };
    first.like(first.iter().enumerate().map(|(at, (name, _))| of(at, name)).collect::<Result<_>>()?)
}

/// The traces of parts as one. A value that does not have its rows along the first axis is left out.
pub(crate) fn joined_traces(size: usize, parts: &[(Range<usize>, Trace)]) -> Result<Trace> {
    let batch = parts.last().map_or(0, |(rows, _)| rows.end);
    let count = parts.first().map_or(0, |(_, trace)| trace.values.len());
    let value = |at: usize| -> Result<Option<Tensor>> {
        let of = |(rows, trace): &(Range<usize>, Trace)| {
            let value = trace.values[at].as_ref().filter(|value| value.dims().first() == Some(&size));
            value.map(|value| (rows.clone(), value.clone()))
        };
        parts.iter().map(of).collect::<Option<Vec<_>>>().map(|values| joined(&values)).transpose()
    };
    Ok(Trace { values: (0..count).map(value).collect::<Result<_>>()?, batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Linear, Side, Structure};
    use crate::{Device, Differentiable, GraphBuilder, Keep, Target};

    /// A network whose reshape contains a batch of `fixed`, or of any size.
    fn network(fixed: Option<usize>) -> Result<Graph> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(2), Some(3)]);
        let first = fixed.map_or(Side::Same(0), Side::Fixed);
        let flat = b.op("flat", Structure::Reshape { shape: vec![first, Side::Fixed(6)] }, &[x])?;
        let weight = Tensor::arange(0_f64, 12.0, &Device::Cpu)?.sin()?.reshape((2, 6))?;
        let weight = b.constant("w", weight);
        let linear = b.op("linear", Linear, &[flat, weight])?;
        let y = b.op("y", crate::ops::Pointwise::Tanh, &[linear])?;
        Ok(b.finish(&[y])?.with_fixed_batch(fixed))
    }

    #[test]
    fn any_batch_can_be_computed() -> Result<()> {
        let x = Tensor::arange(0_f64, 30.0, &Device::Cpu)?.cos()?.reshape((5, 2, 3))?;
        let x = Inputs::single(x)?;
        let free = network(None)?;
        let samples = [0, 1, 2, 3, 4];
        let expected = free.gradient(&x, &Target::Class(1), &samples)?;
        let value = |trace: &Trace, graph: &Graph| -> Result<Vec<Vec<f64>>> {
            Ok(trace.value(graph.find("linear")?)?.to_vec2::<f64>()?)
        };
        for size in [1, 2, 5, 7] {
            let graph = network(Some(size))?;
            for graph in [graph.clone(), graph.canonical()?] {
                assert_eq!(graph.fixed_batch(), Some(size));
                let (own, other): (Vec<Vec<f64>>, Vec<Vec<f64>>) =
                    (graph.forward(&x)?.primary().to_vec2()?, free.forward(&x)?.primary().to_vec2()?);
                assert_eq!(own, other, "batches of {size}");
                let found = graph.gradient(&x, &Target::Class(1), &samples)?;
                assert_eq!(found.scores.to_vec1::<f64>()?, expected.scores.to_vec1::<f64>()?);
                assert_eq!(found.values[0].to_vec3::<f64>()?, expected.values[0].to_vec3::<f64>()?);
                assert_eq!(
                    value(&graph.trace(&x, Keep::All)?, &graph)?,
                    value(&free.trace(&x, Keep::All)?, &free)?
                );
                assert_eq!(graph.shapes(&x)?.len(), graph.len());
            }
        }
        Ok(())
    }
}
