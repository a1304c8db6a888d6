//! Decides which instructions of a plan run on patches, which on whole images, and which are skipped.

use ascribe_kernels::blocked::{BlockedConv, Reach};

use super::access::{Access, Kind};
use super::analysis::{Analysis, register_written};
use super::region::{Patch, Region};
use crate::error::Result;
use crate::plan::arena::Placement;
use crate::plan::pool::Pool;
use crate::plan::program::{Image, ImageId, Instruction, Program, Register, Tail};

/// How the variations of an image are represented.
#[derive(Debug)]
pub(super) enum State {
    /// It is equal to the base image.
    Same,
    /// The base image with a patch over it.
    Patch(Patch),
    /// The whole image is computed.
    Whole,
}

/// How an instruction of the plan is executed.
#[derive(Debug)]
pub(super) enum Action {
    /// Its result is not needed.
    Skip,
    /// It runs as in the plan.
    Whole,
    /// It runs on patches.
    Patch(Box<Step>),
}

/// An instruction on patches.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) work: Work,
    pub(super) source: Source,
    pub(super) residual: Option<Window>,
    pub(super) dst: ImageId,
}

#[derive(Debug)]
pub(super) enum Work {
    /// A convolution of a blocked image or of a plain input, depending on the source.
    Conv(Box<BlockedConv>, Tail),
    Combine(Tail),
    Pool(Pool),
    /// A copy to these blocks of the destination.
    Copy {
        block: usize,
        blocks: usize,
    },
    /// A conversion of a plain input to a blocked image.
    Block,
}

#[derive(Debug)]
pub(super) enum Source {
    Image(Window),
    /// A window of this size of a plain (row-major) input.
    Picture {
        register: Register,
        reach: Reach,
        size: [usize; 2],
    },
}

/// A window of an image, one for each variation.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) image: ImageId,
    pub(super) reach: Reach,
    /// The value outside the image.
    pub(super) outside: f32,
    /// The slot that stores it; the slot of the image's own patch if the window is identical to the patch.
    pub(super) slot: usize,
}

/// The execution of a plan for variations within some rectangles.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) states: Vec<State>,
    /// One for each instruction of the forward half.
    pub(super) actions: Vec<Action>,
    /// The images that are completed to whole images after each instruction.
    pub(super) spread: Vec<Vec<ImageId>>,
    /// Memory slots: the patch of each image, followed by windows.
    pub(super) slots: Vec<Image>,
    pub(super) placement: Placement,
    /// The base images that are read.
    pub(super) kept: Vec<bool>,
}

impl Layout {
    /// The layout for variations of the input in register `input` within these rectangles; `None` if patches would
    /// not be faster.
    ///
    /// # Errors
    /// Errors of packing weights.
    pub(super) fn of(program: &Program, input: Register, rectangles: &[Region]) -> Result<Option<Self>> {
        let (states, last_write) = Analysis::of(program, input, rectangles);
        let convolves = |step: &Instruction| match step {
            Instruction::Conv { dst, .. } | Instruction::PlanarConv { dst, .. } => {
                matches!(states[dst.0], State::Patch(_))
            }
            _ => false,
        };
        if !program.forward.iter().any(convolves) {
            return Ok(None);
        }
        Self::assemble(program, states, &last_write)
    }

    /// Determines the actions from the last to the first, so that only what the outputs need is computed.
    fn assemble(program: &Program, states: Vec<State>, last_write: &[usize]) -> Result<Option<Self>> {
        let count = program.forward.len();
        let patched = |image: usize| match &states[image] {
            State::Patch(patch) => Image { size: patch.size, pad: [0, 0], ..program.images[image] },
            _ => Image { size: [0, 0], pad: [0, 0], ..program.images[image] },
        };
        let slots: Vec<Image> = (0..states.len()).map(patched).collect();
        let mut memory =
            Pieces { program, lives: vec![None; slots.len()], kept: vec![false; slots.len()], slots };
        let (mut whole, mut read) = (vec![false; states.len()], vec![false; program.registers]);
        program.outputs.iter().for_each(|register| read[register.0] = true);
        let (mut actions, mut spread) = (Vec::with_capacity(count), vec![Vec::new(); count]);
        for (at, step) in program.forward.iter().enumerate().rev() {
            let uses = step.uses();
            let needed = match (uses.writes, register_written(step)) {
                (Some(dst), _) => match &states[dst.0] {
                    State::Whole => whole[dst.0],
                    State::Same | State::Patch(_) => {
                        if whole[dst.0] && last_write[dst.0] == at {
                            spread[at].push(dst);
                            memory.read(&states, dst, at);
                        }
                        let State::Patch(patch) = &states[dst.0] else {
                            actions.push(Action::Skip);
                            continue;
                        };
                        // An image that is never read has no lifetime.
                        let action = match memory.lives[dst.0] {
                            Some(_) => match memory.step(&states, step, dst, patch, at)? {
                                Some(step) => Action::Patch(Box::new(step)),
                                None => return Ok(None),
                            },
                            None => Action::Skip,
                        };
                        if matches!(action, Action::Patch(_)) {
                            uses.registers.iter().for_each(|register| read[register.0] = true);
                        }
                        actions.push(action);
                        continue;
                    }
                },
                (None, Some(dst)) => read[dst.0],
                (None, None) => return Ok(None),
            };
            if needed {
                uses.reads.iter().for_each(|image| whole[image.0] = true);
                uses.registers.iter().for_each(|register| read[register.0] = true);
            }
            actions.push(if needed { Action::Whole } else { Action::Skip });
        }
        actions.reverse();
        let Pieces { slots, lives, kept, .. } = memory;
        let lens: Vec<usize> = slots.iter().map(|slot| slot.shape(1).len()).collect();
        let placement = Placement::new(&lens, &lives);
        Ok(Some(Self { states, actions, spread, slots, placement, kept }))
    }
}

/// The memory slots of patches and windows, while the actions are determined from the last to the first.
struct Pieces<'a> {
    program: &'a Program,
    slots: Vec<Image>,
    lives: Vec<Option<[usize; 2]>>,
    kept: Vec<bool>,
}

impl Pieces<'_> {
    /// Records that instruction `at` reads a base image and its patch.
    fn read(&mut self, states: &[State], image: ImageId, at: usize) {
        self.kept[image.0] = true;
        self.touch(states, image, at);
    }

    /// Records that instruction `at` accesses a patch.
    fn touch(&mut self, states: &[State], image: ImageId, at: usize) {
        if matches!(states[image.0], State::Patch(_)) {
            let life = self.lives[image.0].get_or_insert([at, at]);
            life[0] = life[0].min(at);
        }
    }

    fn step(
        &mut self,
        states: &[State],
        instruction: &Instruction,
        dst: ImageId,
        patch: &Patch,
        at: usize,
    ) -> Result<Option<Step>> {
        let Some(access) = Access::of(instruction) else { return Ok(None) };
        let Some(work) = access.work(patch.size)? else { return Ok(None) };
        self.touch(states, dst, at);
        let source = match (access.image, access.picture) {
            (Some(image), _) => {
                let outside = if let Kind::Pool(pool) = access.kind { pool.outside() } else { 0.0 };
                Source::Image(self.window(states, image, access.reach, outside, patch, at))
            }
            (None, Some(register)) => {
                Source::Picture { register, reach: access.reach, size: access.reach.window(patch.size) }
            }
            (None, None) => return Ok(None),
        };
        let residual = access.residual.map(|image| self.window(states, image, Reach::POINT, 0.0, patch, at));
        Ok(Some(Step { work, source, residual, dst }))
    }

    /// The window of `image` that `patch` depends on.
    fn window(
        &mut self,
        states: &[State],
        image: ImageId,
        reach: Reach,
        outside: f32,
        patch: &Patch,
        at: usize,
    ) -> Window {
        if reach == Reach::POINT && matches!(&states[image.0], State::Patch(own) if own == patch) {
            self.touch(states, image, at);
            return Window { image, reach, outside, slot: image.0 };
        }
        self.read(states, image, at);
        let size = reach.window(patch.size);
        self.slots.push(Image { size, pad: [0, 0], ..self.program.images[image.0] });
        self.lives.push(Some([at, at]));
        Window { image, reach, outside, slot: self.slots.len() - 1 }
    }
}
