//! Determines where each image changes.

use super::access::Access;
use super::layout::State;
use super::region::{Patch, Region};
use crate::plan::program::{ImageId, Instruction, Program, Register};

/// A patch that covers a larger fraction of an image than this (numerator, denominator) costs as much as the whole
/// image.
const WORTH: [usize; 2] = [7, 10];

/// The register that an instruction of a forward half writes.
pub(super) fn register_written(instruction: &Instruction) -> Option<Register> {
    match instruction {
        Instruction::Unblock { dst, .. }
        | Instruction::Operator { dst, .. }
        | Instruction::Constant { dst, .. } => Some(*dst),
        _ => None,
    }
}

/// What is known about values while the instructions are analysed in order.
pub(super) struct Analysis<'a> {
    program: &'a Program,
    /// The register of the input that varies.
    input: Register,
    rectangles: &'a [Region],
    /// For each image, the region that changes for each rectangle; `None` if the whole image is computed.
    regions: Vec<Option<Vec<Region>>>,
    /// Whether each register depends on the varying input.
    touched: Vec<bool>,
    states: Vec<State>,
}

impl<'a> Analysis<'a> {
    /// The state of each image when the input in register `input` changes within these rectangles, and the last
    /// instruction that writes each image.
    pub(super) fn of(
        program: &'a Program,
        input: Register,
        rectangles: &'a [Region],
    ) -> (Vec<State>, Vec<usize>) {
        let images = program.images.len();
        let mut analysis = Self {
            program,
            input,
            rectangles,
            regions: vec![Some(vec![Region::NONE; rectangles.len()]); images],
            touched: vec![false; program.registers],
            states: (0..images).map(|_| State::Same).collect(),
        };
        analysis.touched[input.0] = true;
        let mut last_write = vec![0; images];
        for (at, step) in program.forward.iter().enumerate() {
            if let Some(dst) = step.uses().writes {
                last_write[dst.0] = at;
            }
        }
        for (at, step) in program.forward.iter().enumerate() {
            match step.uses().writes {
                Some(dst) => analysis.image(step, dst, last_write[dst.0] == at),
                None => analysis.register(step),
            }
        }
        (analysis.states, last_write)
    }

    /// Records the region of an image that an instruction changes; `last` if no later instruction writes it.
    fn image(&mut self, step: &Instruction, dst: ImageId, last: bool) {
        let access = Access::of(step);
        let found = access.as_ref().map_or_else(|| self.untouched(step), |access| self.changes(access, dst));
        let joined = |a: Vec<Region>, b: Vec<Region>| a.into_iter().zip(b).map(|(a, b)| a.join(b)).collect();
        let regions = self.regions[dst.0].take().zip(found).map(|(a, b)| joined(a, b));
        self.regions[dst.0] = regions;
        if last {
            self.states[dst.0] = self.state(access.as_ref(), dst);
            if matches!(self.states[dst.0], State::Whole) {
                self.regions[dst.0] = None;
            }
        }
    }

    fn state(&self, access: Option<&Access<'_>>, dst: ImageId) -> State {
        let Some(regions) = &self.regions[dst.0] else { return State::Whole };
        let size = self.program.images[dst.0].size;
        let Some(patch) = Patch::around(regions, size) else { return State::Same };
        let worth = patch.pixels() * WORTH[1] <= size[0] * size[1] * WORTH[0];
        if worth && access.is_some_and(|access| access.serves(&patch)) {
            State::Patch(patch)
        } else {
            State::Whole
        }
    }

    /// The region of `dst` that changes for each rectangle.
    fn changes(&self, access: &Access<'_>, dst: ImageId) -> Option<Vec<Region>> {
        let size = self.program.images[dst.0].size;
        let source = match (access.image, access.picture) {
            (Some(image), _) => self.regions[image.0].clone()?,
            (None, Some(picture)) if picture == self.input => self.rectangles.to_vec(),
            (None, Some(picture)) if self.touched[picture.0] => return None,
            _ => vec![Region::NONE; self.rectangles.len()],
        };
        let through = source.into_iter().map(|region| region.through(&access.reach, size));
        match access.residual {
            None => Some(through.collect()),
            Some(residual) => {
                let own = self.regions[residual.0].as_ref()?;
                Some(through.zip(own).map(|(region, own)| region.join(*own)).collect())
            }
        }
    }

    /// Empty regions if the instruction reads nothing that depends on the varying input, else `None`.
    fn untouched(&self, step: &Instruction) -> Option<Vec<Region>> {
        (!self.depends(step)).then(|| vec![Region::NONE; self.rectangles.len()])
    }

    fn register(&mut self, step: &Instruction) {
        if let Some(register) = register_written(step) {
            self.touched[register.0] = self.depends(step);
        }
    }

    fn depends(&self, step: &Instruction) -> bool {
        let uses = step.uses();
        uses.registers.iter().any(|register| self.touched[register.0])
            || uses.reads.iter().any(|image| !matches!(self.states[image.0], State::Same))
    }
}
