//! What of a plan runs on patches, what on whole images, and what not at all.

use ascribe_kernels::blocked::{BlockedConv, Reach};

use super::region::{Patch, Region};
use crate::error::Result;
use crate::plan::arena::Placement;
use crate::plan::pool::Pool;
use crate::plan::program::{Image, ImageId, Instruction, Program, Register, Tail};

/// A patch that covers more of an image than one part in this many costs as much as the whole.
const WORTH: usize = 2;

/// How an image is known.
#[derive(Debug)]
pub(super) enum State {
    /// It is that of the base.
    Same,
    /// That of the base with a patch over it.
    Patch(Patch),
    /// Computed whole.
    Whole,
}

/// What becomes of an instruction of the plan.
#[derive(Debug)]
pub(super) enum Action {
    /// Nobody needs what it computes.
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
    /// Of images or of pictures, as the source is.
    Conv(Box<BlockedConv>, Tail),
    Combine(Tail),
    Pool(Pool),
    /// To these blocks of the destination.
    Copy {
        block: usize,
        blocks: usize,
    },
    /// From a picture.
    Block,
}

#[derive(Debug)]
pub(super) enum Source {
    Image(Window),
    /// The window of this size of a picture.
    Picture {
        register: Register,
        reach: Reach,
        size: [usize; 2],
    },
}

/// A window of each variation of an image.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) image: ImageId,
    pub(super) reach: Reach,
    /// What it sees outside the image.
    pub(super) outside: f32,
    /// Where it lies; the image's own patch, if that is the window.
    pub(super) slot: usize,
}

/// A plan for variations within some rectangles.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) states: Vec<State>,
    /// One for each instruction of the forward half.
    pub(super) actions: Vec<Action>,
    /// Images that are made whole behind each instruction.
    pub(super) spread: Vec<Vec<ImageId>>,
    /// Pieces of memory: the patch of each image, then windows.
    pub(super) slots: Vec<Image>,
    pub(super) placement: Placement,
    /// Images of the base that are read.
    pub(super) kept: Vec<bool>,
}

/// An instruction as something that can run on patches.
struct Access<'a> {
    picture: Option<Register>,
    image: Option<ImageId>,
    residual: Option<ImageId>,
    reach: Reach,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Conv(&'a BlockedConv, &'a Tail),
    Combine(&'a Tail),
    Pool(&'a Pool),
    Copy([usize; 2]),
    Block,
}

impl<'a> Access<'a> {
    /// `None` for instructions that always run whole.
    fn of(instruction: &'a Instruction) -> Option<Self> {
        let plain = |tail: &Tail| tail.record.is_none() && tail.mask.is_none();
        let (picture, image, reach, kind) = match instruction {
            Instruction::Conv { conv, src, tail, .. } if plain(tail) => {
                (None, Some(*src), conv.reach()?, Kind::Conv(conv, tail))
            }
            Instruction::PlanarConv { conv, src, tail, .. } if plain(tail) => {
                (Some(*src), None, conv.reach()?, Kind::Conv(conv, tail))
            }
            Instruction::Combine { src, tail, .. } if plain(tail) => {
                (None, Some(*src), Reach::POINT, Kind::Combine(tail))
            }
            Instruction::Pool { pool, src, .. } => (None, Some(*src), pool.reach(), Kind::Pool(pool)),
            Instruction::Copy { src, src_block: 0, dst_block, blocks, .. } => {
                (None, Some(*src), Reach::POINT, Kind::Copy([*dst_block, *blocks]))
            }
            Instruction::Block { src, .. } => (Some(*src), None, Reach::POINT, Kind::Block),
            _ => return None,
        };
        let residual = match kind {
            Kind::Conv(_, tail) | Kind::Combine(tail) => tail.residual,
            _ => None,
        };
        Some(Self { picture, image, residual, reach, kind })
    }

    /// Whether these patches have the bits of the whole.
    fn serves(&self, patch: &Patch) -> bool {
        match self.kind {
            Kind::Pool(pool) => patch.places.iter().all(|&place| pool.serves(place, patch.size)),
            Kind::Conv(conv, _) => {
                patch.places.iter().flatten().all(|at| at.is_multiple_of(conv.patch_step()))
            }
            _ => true,
        }
    }

    fn work(&self, size: [usize; 2]) -> Result<Option<Work>> {
        Ok(Some(match self.kind {
            Kind::Conv(conv, tail) => match conv.for_patch(size)? {
                Some(conv) => Work::Conv(Box::new(conv), tail.clone()),
                None => return Ok(None),
            },
            Kind::Combine(tail) => Work::Combine(tail.clone()),
            Kind::Pool(pool) => Work::Pool(pool.for_patch(size)?),
            Kind::Copy([block, blocks]) => Work::Copy { block, blocks },
            Kind::Block => Work::Block,
        }))
    }
}

/// The register that an instruction of a forward half writes.
fn register_written(instruction: &Instruction) -> Option<Register> {
    match instruction {
        Instruction::Unblock { dst, .. }
        | Instruction::Operator { dst, .. }
        | Instruction::Constant { dst, .. } => Some(*dst),
        _ => None,
    }
}

/// What is known of values while instructions are gone through.
struct Analysis<'a> {
    program: &'a Program,
    /// The register of the picture that varies.
    input: Register,
    rectangles: &'a [Region],
    /// For each image, what changes within each rectangle; `None` where it is computed whole.
    regions: Vec<Option<Vec<Region>>>,
    /// Registers that depend on the picture.
    touched: Vec<bool>,
    states: Vec<State>,
}

impl Layout {
    /// The layout for variations of the picture in `input` within these rectangles; `None` if nothing would be
    /// gained.
    ///
    /// # Errors
    /// Those of packing.
    pub(super) fn of(program: &Program, input: Register, rectangles: &[Region]) -> Result<Option<Self>> {
        let images = program.images.len();
        let mut analysis = Analysis {
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
        let convolves = |step: &Instruction| match step {
            Instruction::Conv { dst, .. } | Instruction::PlanarConv { dst, .. } => {
                matches!(analysis.states[dst.0], State::Patch(_))
            }
            _ => false,
        };
        if !program.forward.iter().any(convolves) {
            return Ok(None);
        }
        let states = analysis.states;
        Self::assemble(program, states, &last_write)
    }

    /// Actions, from the last to the first: only what the outputs need is done.
    fn assemble(program: &Program, states: Vec<State>, last_write: &[usize]) -> Result<Option<Self>> {
        let count = program.forward.len();
        let patched = |image: usize| match &states[image] {
            State::Patch(patch) => Image { size: patch.size, pad: [0, 0], ..program.images[image] },
            _ => Image { size: [0, 0], pad: [0, 0], ..program.images[image] },
        };
        let slots: Vec<Image> = (0..states.len()).map(patched).collect();
        let mut memory =
            Slots { program, lives: vec![None; slots.len()], kept: vec![false; slots.len()], slots };
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
                        // An image that nobody reads has no life.
                        let action = match memory.lives[dst.0] {
                            Some(_) => match memory.step(&states, step, dst, patch, at)? {
                                Some(step) => Action::Patch(Box::new(step)),
                                None => return Ok(None),
                            },
                            None => Action::Skip,
                        };
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
        let Slots { slots, lives, kept, .. } = memory;
        let lens: Vec<usize> = slots.iter().map(|slot| slot.shape(1).len()).collect();
        let placement = Placement::new(&lens, &lives);
        Ok(Some(Self { states, actions, spread, slots, placement, kept }))
    }
}

impl Analysis<'_> {
    /// Notes what an instruction changes of an image; `last` if no other one writes it.
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
        let worth = patch.pixels() * WORTH <= size[0] * size[1];
        if worth && access.is_some_and(|access| access.serves(&patch)) {
            State::Patch(patch)
        } else {
            State::Whole
        }
    }

    /// What changes in `dst`.
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

    /// No change, if an instruction reads nothing that depends on the picture.
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

/// The memory of patches and windows, while actions are found from the last to the first.
struct Slots<'a> {
    program: &'a Program,
    slots: Vec<Image>,
    lives: Vec<Option<[usize; 2]>>,
    kept: Vec<bool>,
}

impl Slots<'_> {
    /// Notes that instruction `at` reads an image of the base, and its patch.
    fn read(&mut self, states: &[State], image: ImageId, at: usize) {
        self.kept[image.0] = true;
        self.touch(states, image, at);
    }

    /// Notes that instruction `at` touches a patch.
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
