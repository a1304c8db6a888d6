//! Planned execution: a graph compiled once for given input shapes.
//!
//! A plan performs the same arithmetic as the graph, arranged for the caches of a CPU. Convolutions and the operators
//! around them work on images with blocked channels ([`ascribe_kernels::blocked`]). A bias, a residual addition and
//! an activation are applied while the sums of a convolution are still in registers. All images share one arena, in
//! which they are placed by their lifetimes. For the backward pass only what an input gradient needs is stored: one
//! bit per value of an activation, and one byte per window of max-pooling. Operators without a blocked kernel run on
//! tensors, with a conversion before and after.
//!
//! Variations of a sample within a rectangle run the forward half only on the patches that change ([`patch`]). Points
//! on a straight line share the first layer ([`line`]), and sums of gradients share its transpose ([`total`]).
//!
//! Nodes whose value or gradient is requested are never fused into others. A backward pass follows the rules of a
//! composite: the rules that [`Planned`] lists run on blocked images, any other rule runs on tensors at its node
//! only. For other data types and devices the graph is executed node by node ([`crate::Graph::backward`]).

mod arena;
mod budget;
mod chain;
mod compile;
mod line;
mod packs;
mod patch;
mod pool;
mod profile;
mod program;
mod relevance;
mod reverse;
mod rules;
mod run;
mod shapes;
#[cfg(test)]
mod tests;
mod total;
mod unit;

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::inputs::Inputs;
use crate::ops::Backend;
use crate::outputs::Outputs;
use crate::rule::Planned;
use arena::Placement;
use packs::Packs;
pub use profile::StepTime;
use program::{Instruction, Program, Register};
pub(crate) use rules::{Backward, Rules};
use run::{Runner, Workspace};

/// What a plan is specialised for; the key of the cache of plans.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    /// Shapes of the inputs without the batch axis, in the order of the graph's inputs.
    inputs: Vec<Vec<usize>>,
    keep: Vec<NodeId>,
    wanted: Vec<NodeId>,
    /// [`Rules::key`]
    rules: Vec<Planned>,
}

/// A compiled graph.
pub(crate) struct Plan {
    key: Key,
    program: Program,
    placement: Placement,
    last_reads: Vec<Vec<Register>>,
    /// Memory of finished runs, for reuse.
    workspaces: Mutex<Vec<Workspace>>,
}

/// `None` if the graph cannot be planned.
type Compiled = Option<Arc<Plan>>;

/// The plans of a graph and the weights that they share.
#[derive(Default)]
pub(crate) struct Plans {
    /// Most recently used last.
    plans: Mutex<Vec<(Key, Compiled)>>,
    packs: Packs,
}

impl Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plans").finish_non_exhaustive()
    }
}

/// Number of plans that a graph caches: enough for predictions and gradients at a few nodes and input sizes.
const REMEMBERED: usize = 8;

/// The results of a run.
pub(crate) struct Ran {
    /// The requested values.
    pub(crate) kept: Vec<Tensor>,
    /// The requested signals, shaped like the values; zeros where no signal arrived.
    pub(crate) signals: Vec<Tensor>,
    /// Wall time of each step.
    seconds: Vec<f64>,
}

impl Plans {
    /// The plan for these inputs and rules; `None` if plans do not support the graph, its data type or its device.
    ///
    /// # Errors
    /// If the shapes do not fit the graph.
    pub(crate) fn get(
        &self,
        graph: &Graph,
        inputs: &[(NodeId, Tensor)],
        keep: &[NodeId],
        wanted: &[NodeId],
        rules: &Rules,
    ) -> Result<Option<Arc<Plan>>> {
        let served = |(id, value): &(NodeId, Tensor)| {
            value.device().is_cpu()
                && (value.dtype() == DType::F32 || graph.input_spec(*id).is_some_and(|s| s.integer))
        };
        // The gradients of parameters are computed node by node.
        let parameters = wanted.iter().any(|id| !graph.is_dynamic(*id));
        if parameters
            || graph.backend() == Backend::Portable
            || graph.dtype() != DType::F32
            || !inputs.iter().all(served)
        {
            return Ok(None);
        }
        let sides = inputs.iter().map(|(_, value)| value.dims()[1..].to_vec()).collect();
        let key =
            Key { inputs: sides, keep: keep.to_vec(), wanted: wanted.to_vec(), rules: rules.key().to_vec() };
        if let Some(plan) = self.known(&key) {
            return Ok(plan);
        }
        // Compile without holding the lock: while a rayon thread waits, it may run another task that requests the
        // same plan.
        let plan = Plan::compile(graph, &self.packs, inputs, key.clone(), rules)?.map(Arc::new);
        if let Some(plan) = self.known(&key) {
            return Ok(plan);
        }
        let mut plans = self.lock();
        if plans.len() == REMEMBERED {
            plans.remove(0);
        }
        plans.push((key, plan.clone()));
        Ok(plan)
    }

    /// Looks up the cached result for a key and marks it as most recently used.
    fn known(&self, key: &Key) -> Option<Compiled> {
        let mut plans = self.lock();
        let at = plans.iter().position(|(known, _)| known == key)?;
        let found = plans.remove(at);
        let plan = found.1.clone();
        plans.push(found);
        Some(plan)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Compiled)>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn compile(
        graph: &Graph,
        packs: &Packs,
        inputs: &[(NodeId, Tensor)],
        key: Key,
        rules: &Rules,
    ) -> Result<Option<Self>> {
        let constants = graph.nodes().filter_map(|(_, node)| node.constant());
        let fits = |value: &Tensor| {
            value.device().is_cpu() && matches!(value.dtype(), DType::F32)
                || value.device().is_cpu() && !value.dtype().is_float()
        };
        if !constants.into_iter().all(fits) {
            return Ok(None);
        }
        let sides: Vec<(NodeId, Vec<usize>)> =
            inputs.iter().map(|(id, _)| *id).zip(key.inputs.iter().cloned()).collect();
        // The error about shapes that do not match is reported when the graph is executed node by node.
        let Ok(Some(shapes)) = shapes::infer(graph, &sides) else { return Ok(None) };
        let program = compile::compile(graph, packs, rules, shapes, &key.keep, &key.wanted)?;
        let placement = Placement::of(&program);
        let last_reads = last_reads(&program);
        Ok(Some(Self { key, program, placement, last_reads, workspaces: Mutex::default() }))
    }

    /// Runs the forward half. If there is a backward half, calls `seed` to turn the outputs into gradients with
    /// respect to them, and runs it.
    ///
    /// # Errors
    /// Errors of the operators and of `seed`.
    pub(crate) fn run<T>(
        &self,
        graph: &Graph,
        inputs: Vec<(NodeId, Tensor)>,
        batch: usize,
        backward: Backward<'_>,
        seed: impl FnOnce(&Outputs) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<(T, Ran)> {
        self.with_workspace(|workspace| {
            let runner = Runner { how: backward, ..self.runner(graph, batch) };
            runner.forward(workspace, inputs.into_iter().map(|(_, value)| value).collect())?;
            let (found, seeds) = seed(&self.outputs(graph, workspace)?)?;
            let kept = workspace.tensors(&self.program.kept)?;
            let mut signals = Vec::new();
            if !self.key.wanted.is_empty() {
                runner.backward(workspace, seeds)?;
                signals = runner.gradients(workspace)?;
            }
            let seconds = std::mem::take(&mut workspace.seconds);
            Ok((found, Ran { kept, signals, seconds }))
        })
    }

    /// Calls `run` with the memory of a finished run, or with new memory if there is none.
    fn with_workspace<T>(&self, run: impl FnOnce(&mut Workspace) -> Result<T>) -> Result<T> {
        let mut workspace =
            self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let found = run(&mut workspace)?;
        workspace.clear();
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        Ok(found)
    }

    /// The graph's outputs, after the forward half has run.
    fn outputs(&self, graph: &Graph, workspace: &Workspace) -> Result<Outputs> {
        let outputs = workspace.tensors(&self.program.outputs)?;
        let named = graph.output_names().map(str::to_string).zip(outputs);
        Ok(Outputs::new(named.collect())?.with_kind(graph.output_kind()))
    }

    fn runner<'a>(&'a self, graph: &'a Graph, batch: usize) -> Runner<'a> {
        Runner {
            graph,
            how: Backward::default(),
            program: &self.program,
            placement: &self.placement,
            last_reads: &self.last_reads,
            batch,
        }
    }
}

/// For each instruction, the registers that no later instruction reads and that are not results.
fn last_reads(program: &Program) -> Vec<Vec<Register>> {
    let mut kept = vec![false; program.registers];
    let results = program.outputs.iter().chain(&program.kept);
    for register in results.chain(program.wanted.iter().filter_map(|(register, _)| register.as_ref())) {
        kept[register.0] = true;
    }
    let steps: Vec<&Instruction> = program.forward.iter().chain(&program.backward).collect();
    let mut reads = vec![Vec::new(); steps.len()];
    for (number, step) in steps.iter().enumerate().rev() {
        for register in step.uses().registers {
            if !kept[register.0] {
                kept[register.0] = true;
                reads[number].push(register);
            }
        }
    }
    reads
}

impl Graph {
    /// The plan for these inputs and the gradients at these nodes, if the graph computes a batch of any size at once: the plan of
    /// one with a fixed batch serves no other number of rows.
    fn free_plan(&self, inputs: &[(NodeId, Tensor)], wanted: &[NodeId]) -> Result<Option<Arc<Plan>>> {
        if self.fixed_batch().is_some() {
            return Ok(None);
        }
        self.plans().get(self, inputs, &[], wanted, &Rules::default())
    }

    /// The plan for a forward pass on these inputs, if there is one.
    pub(crate) fn plan(&self, x: &Inputs, keep: &[NodeId]) -> Result<Option<Arc<Plan>>> {
        self.plans().get(self, &self.bind(x)?, keep, &[], &Rules::default())
    }
}
