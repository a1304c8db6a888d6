//! The backward walk: one traversal shared by all white-box methods.
//!
//! A walk is a forward pass, followed by a backward pass from signals at the outputs to the requested nodes with the
//! rule that a [`Composite`] selects for each node. It runs as a compiled plan if the graph has one (CPU, f32), and
//! node by node ([`Graph::backward`]) otherwise. [`Task::walk`](crate::Task::walk) counts its cost.

mod backward;

use std::ops::Range;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::graph::fixed_batch::{joined, joined_outputs};
use crate::graph::{Graph, Keep, NodeId, Trace};
use crate::inputs::Inputs;
use crate::model::Gradient;
use crate::outputs::Outputs;
use crate::plan::{Backward, Rules};
use crate::rule::{Composite, Rule};
use crate::target::Target;

pub use backward::Signals;

/// A walk over a graph: its destination nodes, its rules, and what else it returns.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    graph: &'a Graph,
    composite: &'a Composite,
    wanted: &'a [NodeId],
    keep: &'a [NodeId],
    reference: Option<&'a Inputs>,
}

/// The results of a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The values of the nodes to keep.
    pub kept: Vec<Tensor>,
    /// The signals at the wanted nodes, shaped like their values; zeros where no signal arrived.
    pub signals: Vec<Tensor>,
    /// The outputs of the reference run, if there was one.
    pub reference: Option<Outputs>,
}

impl<'a> Walk<'a> {
    /// A walk to any nodes.
    pub fn new(graph: &'a Graph, composite: &'a Composite, wanted: &'a [NodeId]) -> Self {
        Self { graph, composite, wanted, keep: &[], reference: None }
    }

    /// Returns the values of these nodes, too.
    pub fn keeping(self, nodes: &'a [NodeId]) -> Self {
        Self { keep: nodes, ..self }
    }

    /// Runs these inputs first (one row for each explained row), for rules that compare with a reference
    /// ([`crate::Site::reference`]).
    pub fn against(self, reference: &'a Inputs) -> Self {
        Self { reference: Some(reference), ..self }
    }

    /// The inputs of the reference run.
    pub(crate) fn reference(&self) -> Option<&'a Inputs> {
        self.reference
    }

    /// Runs the walk. `start` computes the signals at the outputs, one per output, and any other result that it wants
    /// returned.
    ///
    /// # Errors
    /// If the inputs do not fit the graph, or the reference has a different number of rows; if a rule is not defined
    /// for a node, which is known before anything is computed, or lacks the reference; [`Error::Flat`] if the outputs with
    /// a signal depend on the wanted nodes only through operators without gradient; errors of `start`.
    pub fn run<T>(
        &self,
        x: &Inputs,
        start: impl FnOnce(&Outputs) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<(T, Walked)> {
        match self.graph.parts(x)? {
            Some(parts) => self.run_in_parts(x, &parts, start),
            None => self.run_whole(x, start),
        }
    }

    /// [`Walk::run`] for a batch that the graph can compute at once.
    fn run_whole<T>(
        &self,
        x: &Inputs,
        start: impl FnOnce(&Outputs) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<(T, Walked)> {
        let graph = self.graph;
        self.composite.check(graph, self.wanted)?;
        let rules = Rules::of(graph, self.composite, self.wanted);
        let compared = self.reference.map(|reference| self.compare(reference, x, &rules)).transpose()?;
        let trace = compared.as_ref().map(|(trace, _)| trace);
        let reference = compared.as_ref().map(|(_, outputs)| outputs.clone());
        let start = |outputs: &Outputs| {
            let (found, seeds) = start(outputs)?;
            graph.check_slope(self.wanted, Some(&seeds))?;
            let (given, expected) = (seeds.len(), graph.outputs().len());
            if given != expected {
                let problem = format!("are {given}");
                return Err(Error::invalid(
                    "signals to start from",
                    problem,
                    format!("{expected}, one per output"),
                ));
            }
            Ok((found, seeds))
        };
        let inputs = graph.bind(x)?;
        if let Some(plan) = graph.plans().get(graph, &inputs, self.keep, self.wanted, &rules)? {
            let backward = Backward { rules: &rules, reference: trace };
            let (found, ran) = plan.run(graph, inputs, x.batch()?, backward, start)?;
            return Ok((found, Walked { kept: ran.kept, signals: ran.signals, reference }));
        }
        let own = graph.trace(x, Keep::All)?;
        let (found, seeds) = start(&own.outputs(graph)?)?;
        let seeds: Vec<_> = graph.outputs().iter().copied().zip(seeds).collect();
        let signals = graph.backward(&own, trace, &seeds, self.wanted, self.composite)?;
        let signals: Result<Vec<Tensor>> =
            self.wanted.iter().map(|&id| signals.get_or_zeros(id, &own)).collect();
        let kept: Result<Vec<Tensor>> = self.keep.iter().map(|&id| own.value(id).cloned()).collect();
        Ok((found, Walked { kept: kept?, signals: signals?, reference }))
    }

    /// [`Walk::run`] for a graph that cannot compute the whole batch at once: the outputs of all parts first, then the signals
    /// of each part.
    fn run_in_parts<T>(
        &self,
        x: &Inputs,
        parts: &[(Range<usize>, Inputs)],
        start: impl FnOnce(&Outputs) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<(T, Walked)> {
        let (found, seeds) = start(&self.graph.forward(x)?)?;
        let references = self.reference.map(|reference| self.graph.parts(reference)).transpose()?.flatten();
        let mut walked: Vec<(Range<usize>, Walked)> = Vec::with_capacity(parts.len());
        for (number, (rows, part)) in parts.iter().enumerate() {
            let size = part.batch()?;
            let seed = |seed: &Tensor| -> Result<Tensor> {
                let own = seed.narrow(0, rows.start, rows.len())?;
                Ok(own.pad_with_zeros(0, 0, size - rows.len())?.contiguous()?)
            };
            let seeds = seeds.iter().map(seed).collect::<Result<Vec<_>>>()?;
            let reference =
                references.as_ref().and_then(|all| all.get(number)).map(|(_, reference)| reference);
            let walk = Walk { reference: reference.or(self.reference), ..*self };
            walked.push((rows.clone(), walk.run_whole(part, |_| Ok(((), seeds)))?.1));
        }
        let column = |of: &dyn Fn(&Walked) -> &Vec<Tensor>, count: usize| -> Result<Vec<Tensor>> {
            let one = |at: usize| {
                let values: Vec<_> =
                    walked.iter().map(|(rows, w)| (rows.clone(), of(w)[at].clone())).collect();
                joined(&values)
            };
            (0..count).map(one).collect()
        };
        let outputs: Option<Vec<_>> =
            walked.iter().map(|(rows, w)| Some((rows.clone(), w.reference.clone()?))).collect();
        let reference = outputs.map(|outputs| joined_outputs(&outputs)).transpose()?;
        let kept = column(&|w| &w.kept, self.keep.len())?;
        Ok((found, Walked { kept, signals: column(&|w| &w.signals, self.wanted.len())?, reference }))
    }

    /// Runs the reference and keeps the values that rules compare with.
    fn compare(&self, reference: &Inputs, x: &Inputs, rules: &Rules) -> Result<(Trace, Outputs)> {
        let (rows, expected) = (reference.batch()?, x.batch()?);
        if rows != expected {
            return Err(Error::invalid(
                "reference",
                format!("has {rows} rows"),
                format!("{expected}, one each"),
            ));
        }
        let graph = self.graph;
        let mut needed: Vec<NodeId> = Vec::new();
        for (id, node) in graph.nodes().filter(|(id, _)| rules.rule(*id).is_some_and(Rule::compares)) {
            needed.extend(node.inputs().iter().chain([&id]));
        }
        needed.sort_unstable();
        needed.dedup();
        let trace = graph.record(reference, &needed)?;
        let outputs = trace.outputs(graph)?;
        Ok((trace, outputs))
    }
}

impl Graph {
    /// The trace of some nodes and of the outputs, by a plan if there is one.
    fn record(&self, x: &Inputs, nodes: &[NodeId]) -> Result<Trace> {
        let Some(plan) = self.plan(x, nodes)? else { return self.trace(x, Keep::Nodes(nodes)) };
        let outputs = |outputs: &Outputs| Ok((outputs.clone(), Vec::new()));
        let (outputs, ran) = plan.run(self, self.bind(x)?, x.batch()?, Backward::default(), outputs)?;
        let mut values = vec![None; self.len()];
        nodes.iter().zip(ran.kept).for_each(|(id, value)| values[id.index()] = Some(value));
        let own = self.outputs().iter().zip(outputs.iter());
        own.for_each(|(id, (_, value))| values[id.index()] = Some(value.clone()));
        Ok(Trace { values, batch: x.batch()? })
    }

    /// One forward pass and one backward walk with a composite, from the target to the explained inputs: the whole
    /// computation of a rule-based method.
    ///
    /// # Errors
    /// As [`crate::Differentiable::gradient`], or if a rule is not defined for a node.
    pub fn propagate(
        &self,
        x: &Inputs,
        target: &Target,
        samples: &[usize],
        composite: &Composite,
    ) -> Result<Gradient> {
        let wanted = self.explained_nodes(x)?;
        let found = self.propagate_to(x, target, samples, composite, &[], &wanted)?;
        Ok(Gradient { scores: found.scores, values: found.signals })
    }

    /// One forward pass and one backward walk with a composite, from the target to any nodes `wanted`; also returns
    /// the values of the nodes in `keep`.
    ///
    /// # Errors
    /// As [`Graph::propagate`].
    pub fn propagate_to(
        &self,
        x: &Inputs,
        target: &Target,
        samples: &[usize],
        composite: &Composite,
        keep: &[NodeId],
        wanted: &[NodeId],
    ) -> Result<Propagated> {
        let walk = Walk::new(self, composite, wanted).keeping(keep);
        let (scores, walked) = walk.run(x, |outputs| target.seed(outputs, samples))?;
        Ok(Propagated { scores, values: walked.kept, signals: walked.signals })
    }
}

/// The results of a walk from a target.
#[derive(Clone, Debug)]
pub struct Propagated {
    /// One score per row: `[rows]`.
    pub scores: Tensor,
    /// The values of the nodes to keep.
    pub values: Vec<Tensor>,
    /// The signals at the wanted nodes, shaped like their values.
    pub signals: Vec<Tensor>,
}
