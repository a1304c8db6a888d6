//! Variations of a sample that differ from it within a rectangle: only what changes is computed.
//!
//! The sample itself (the base) is run once, and its images are kept. A pixel of an image depends on a window of the
//! image before it, so a change within a rectangle of the input changes a rectangle of each later image, which grows
//! from layer to layer. A [`layout::Layout`] says how each image is represented: as the base image, as the base image
//! with a patch over it, or whole, from where patches would cover most of an image or an operator reads all of it.
//! Rectangles that are close to each other form a group with its own layout, since less changes near the borders.
//! Within a layout, all patches of an image have the same size, so that each instruction needs one kernel call for a
//! batch of variations. A patch contains the pixels that change and possibly more, lies inside its image, and is
//! computed from windows of the images before it by the same arithmetic as the whole image: the results are
//! bit-identical to a run on whole images.
//!
//! Nakandala, Kumar and Papakonstantinou 2019, *Incremental and Approximate Inference for Faster Occlusion-based Deep
//! CNN Explanations*.

mod access;
mod analysis;
mod layout;
mod region;
mod run;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use ascribe_kernels::blocked::BlockedShape;
use candle_core::{DType, Tensor};

use super::Plan;
use super::arena::Placement;
use super::program::{ImageId, Program};
use super::run::{Runner, Workspace};
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::inputs::Inputs;
use crate::ops::fast;
use crate::outputs::Outputs;
use crate::variations::{Rectangle, Variations};
use layout::Layout;
use region::{Region, grouped};
use run::{Batch, Memory};

/// The run of the unchanged sample.
#[derive(Debug)]
struct Base {
    inputs: Vec<Tensor>,
    placement: Placement,
    workspace: Workspace,
}

impl Base {
    /// Runs the sample and keeps the images that a layout reads.
    fn run(graph: &Graph, plan: &Plan, layouts: &[Option<Layout>], inputs: Vec<Tensor>) -> Result<Self> {
        let kept = |image: usize| layouts.iter().flatten().any(|layout| layout.kept[image]);
        let placement = Placement::keeping(&plan.program, kept);
        let mut workspace = Workspace::default();
        let runner = Runner { placement: &placement, ..plan.runner(graph, 1) };
        runner.forward(&mut workspace, inputs.clone())?;
        workspace.clear();
        Ok(Self { inputs, placement, workspace })
    }

    /// One of the kept images.
    fn image(&self, program: &Program, image: ImageId) -> (BlockedShape, &[f32]) {
        let shape = program.one(image);
        let start = self.placement.offsets[image.0];
        (shape, self.workspace.arena.read(start..start + shape.len()))
    }
}

/// A graph prepared for variations of one sample.
pub(crate) struct Patched<'a> {
    graph: &'a Graph,
    plan: Arc<Plan>,
    /// One for each group of rectangles; `None` if patches would not be faster.
    layouts: Vec<Option<Layout>>,
    base: Base,
    /// Index of the input that varies.
    input: usize,
    rectangles: Vec<Region>,
    /// The group of each rectangle, and its index in the group.
    members: Vec<[usize; 2]>,
    /// Memory of finished runs, for reuse.
    memories: Mutex<Vec<Memory>>,
}

impl Graph {
    /// Runs `base`, one sample, to prepare for variations of it within these rectangles. `None` if the graph has no
    /// plan, more than one input is explained, that input is not an image `[1, C, H, W]`, or patches would not be
    /// faster.
    ///
    /// # Errors
    /// As [`crate::Predictor::variations`].
    pub(crate) fn patched(&self, base: &Inputs, rectangles: &[Rectangle]) -> Result<Option<Patched<'_>>> {
        if base.batch()? != 1 {
            return Err(Error::invalid(
                "variations",
                format!("of {} samples", base.batch()?),
                "of one sample",
            ));
        }
        let inputs = self.bind(base)?;
        if rectangles.is_empty()
            || base.explained().count() != 1
            || inputs.iter().any(|(_, value)| value.dtype() != DType::F32)
        {
            return Ok(None);
        }
        let picture = self.explained_nodes(base)?;
        let Some(input) = inputs.iter().position(|(id, _)| picture == [*id]) else { return Ok(None) };
        let &[_, _, height, width] = inputs[input].1.dims() else { return Ok(None) };
        rectangles.iter().try_for_each(|rectangle| rectangle.check([height, width]))?;
        let rectangles: Vec<Region> = rectangles.iter().map(Region::from).collect();
        let Some(plan) = self.free_plan(&inputs, &[])? else { return Ok(None) };
        let register = plan.program.inputs[input];
        let (members, groups) = grouped(&rectangles, [height, width]);
        let layout = |group: &Vec<Region>| Layout::of(&plan.program, register, group);
        let layouts = groups.iter().map(layout).collect::<Result<Vec<_>>>()?;
        if layouts.iter().all(Option::is_none) {
            return Ok(None);
        }
        let inputs: candle_core::Result<Vec<Tensor>> =
            inputs.iter().map(|(_, value)| value.contiguous()).collect();
        let base = Base::run(self, &plan, &layouts, inputs?)?;
        let memories = Mutex::default();
        Ok(Some(Patched { graph: self, plan, layouts, base, input, rectangles, members, memories }))
    }
}

impl Patched<'_> {
    /// Checks that each row differs from the sample only within its rectangle.
    fn check(&self, inputs: &[(NodeId, Tensor)], rectangles: &[usize]) -> Result<()> {
        let count = self.rectangles.len();
        if let Some(number) = rectangles.iter().find(|&&number| number >= count) {
            return Err(Error::invalid(
                "rectangle",
                format!("number {number}"),
                format!("less than {count}"),
            ));
        }
        for (number, ((id, value), base)) in inputs.iter().zip(&self.base.inputs).enumerate() {
            if value.dims()[0] != rectangles.len() || value.dims()[1..] != base.dims()[1..] {
                return Err(Error::invalid(
                    "variations",
                    format!("have shape {:?}", value.dims()),
                    format!("{} rows of {:?}, as the sample", rectangles.len(), &base.dims()[1..]),
                ));
            }
            let value = value.contiguous()?;
            let (value, base_values) = (fast::slice::<f32>(&value)?, fast::slice::<f32>(base)?);
            for (row, (values, &rectangle)) in
                value.chunks_exact(base_values.len()).zip(rectangles).enumerate()
            {
                let free = if number == self.input { self.rectangles[rectangle] } else { Region::NONE };
                if !same_outside(values, &base_values, base.dims(), free) {
                    return Err(Error::invalid(
                        format!("row {row} of input '{}'", self.graph.node(*id).name()),
                        "differs from the sample outside its rectangle",
                        "the sample's values there",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether two samples of this shape have identical bits outside a region of the last two axes.
fn same_outside(a: &[f32], b: &[f32], dims: &[usize], free: Region) -> bool {
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    let &[.., height, width] = dims else { return same(a, b) };
    if free.is_empty() {
        return same(a, b);
    }
    let ([top, left], [bottom, right]) = (free.start, free.end);
    a.chunks_exact(width).zip(b.chunks_exact(width)).enumerate().all(|(line, (a, b))| {
        if (top..bottom).contains(&(line % height)) {
            same(&a[..left], &b[..left]) && same(&a[right..], &b[right..])
        } else {
            same(a, b)
        }
    })
}

impl Variations for Patched<'_> {
    fn predict(&self, x: &Inputs, rectangles: &[usize]) -> Result<Outputs> {
        self.check(&self.graph.bind(x)?, rectangles)?;
        let (mut parts, mut first) = (Vec::new(), 0);
        for part in rectangles.chunk_by(|&a, &b| self.group(a) == self.group(b)) {
            let rows: Vec<usize> = (first..first + part.len()).collect();
            parts.push(self.predict_group(&x.select(&rows)?, part)?);
            first += part.len();
        }
        self.joined(parts)
    }

    fn group(&self, rectangle: usize) -> usize {
        self.members[rectangle][0]
    }
}

impl Patched<'_> {
    /// The outputs of rows whose rectangles belong to one group.
    fn predict_group(&self, x: &Inputs, rectangles: &[usize]) -> Result<Outputs> {
        let [group, _] = self.members[rectangles[0]];
        let Some(layout) = &self.layouts[group] else { return self.graph.forward(x) };
        let memories = || self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = memories().pop().unwrap_or_default();
        let runner = self.plan.runner(self.graph, rectangles.len());
        let numbers: Vec<usize> = rectangles.iter().map(|&rectangle| self.members[rectangle][1]).collect();
        let batch = Batch { runner, layout, base: &self.base, rectangles: &numbers };
        let inputs = self.graph.bind(x)?.into_iter().map(|(_, value)| value).collect();
        batch.run(&mut memory, inputs)?;
        let outputs = self.plan.outputs(self.graph, &memory.whole)?;
        memory.whole.clear();
        memories().push(memory);
        Ok(outputs)
    }

    /// Concatenates the rows of all parts.
    fn joined(&self, mut parts: Vec<Outputs>) -> Result<Outputs> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut joined = Vec::new();
        for (at, (&id, name)) in self.graph.outputs().iter().zip(self.graph.output_names()).enumerate() {
            let of_part: Vec<&Tensor> =
                parts.iter().filter_map(|part| part.iter().nth(at)).map(|(_, value)| value).collect();
            // An output that depends on no input has no rows.
            let value =
                if self.graph.is_dynamic(id) { Tensor::cat(&of_part, 0)? } else { of_part[0].clone() };
            joined.push((name.to_string(), value));
        }
        parts[0].like(joined)
    }
}
