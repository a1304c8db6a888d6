//! Executes a layout.

use std::ops::Range;

use ascribe_kernels::blocked::{self, BlockedEpilogue, BlockedShape, Patches};
use candle_core::Tensor;

use super::Base;
use super::layout::{Action, Layout, Source, State, Step, Window, Work};
use crate::error::{Error, Result};
use crate::ops::fast;
use crate::plan::arena::Arena;
use crate::plan::program::{ImageId, Tail};
use crate::plan::run::{Runner, Workspace};

/// The memory of a run; it is kept between runs.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) whole: Workspace,
    patches: Arena,
    winners: Vec<u8>,
}

/// One batch of variations.
pub(super) struct Batch<'a> {
    /// Runs the instructions on whole images.
    pub(super) runner: Runner<'a>,
    pub(super) layout: &'a Layout,
    pub(super) base: &'a Base,
    /// Index of each row's rectangle in its group.
    pub(super) rectangles: &'a [usize],
}

impl Batch<'_> {
    /// Computes the registers of the outputs in `memory.whole`.
    pub(super) fn run(&self, memory: &mut Memory, inputs: Vec<Tensor>) -> Result<()> {
        let program = self.runner.program;
        memory.whole.prepare(&self.runner)?;
        memory.patches.reserve(self.layout.placement.len * self.runner.batch);
        for (register, value) in program.inputs.iter().zip(inputs) {
            memory.whole.registers[register.0] = Some(value.contiguous()?);
        }
        for (at, (instruction, action)) in program.forward.iter().zip(&self.layout.actions).enumerate() {
            match action {
                Action::Skip => {}
                Action::Whole => self.runner.step(&mut memory.whole, instruction)?,
                Action::Patch(step) => self.patch(memory, step)?,
            }
            for &image in &self.layout.spread[at] {
                self.spread(memory, image)?;
            }
            for register in &self.runner.last_reads[at] {
                memory.whole.registers[register.0] = None;
            }
        }
        Ok(())
    }

    fn shape(&self, slot: usize) -> BlockedShape {
        self.layout.slots[slot].shape(self.runner.batch)
    }

    fn range(&self, slot: usize) -> Range<usize> {
        let start = self.layout.placement.offsets[slot] * self.runner.batch;
        start..start + self.shape(slot).len()
    }

    /// Where the patch of an image lies in each row; nowhere if it has none.
    fn places(&self, image: ImageId) -> Option<Vec<[usize; 2]>> {
        match &self.layout.states[image.0] {
            State::Patch(patch) => Some(self.rectangles.iter().map(|&r| patch.places[r]).collect()),
            State::Same | State::Whole => None,
        }
    }

    /// Computes the patch of an image.
    fn patch(&self, memory: &mut Memory, step: &Step) -> Result<()> {
        let places = self.places(step.dst).unwrap_or_default();
        let source = match &step.source {
            Source::Image(window) => Some(window),
            Source::Picture { .. } => None,
        };
        for window in [source, step.residual.as_ref()].into_iter().flatten() {
            self.window(&mut memory.patches, window, &places)?;
        }
        let Memory { whole, patches, winners } = memory;
        let picture = match &step.source {
            Source::Picture { register, reach, size } => {
                let starts: Vec<[isize; 2]> = places.iter().map(|&place| reach.start(place)).collect();
                cut_picture(whole.value(*register)?, &starts, *size)?
            }
            Source::Image(_) => Vec::new(),
        };
        let slot = |window: &Window| self.range(window.slot);
        let reads = [source.map(slot), step.residual.as_ref().map(slot)];
        let ([src, residual], dst) = patches.split(reads, self.range(step.dst.0));
        let src = source.map(|window| self.shape(window.slot)).zip(src);
        let residual = step.residual.as_ref().map(|window| self.shape(window.slot)).zip(residual);
        let residual = residual.as_ref().map(|(shape, values)| (shape, *values));
        let dst_shape = self.shape(step.dst.0);
        match (&step.work, src) {
            (Work::Conv(conv, tail), Some((shape, src))) => {
                conv.run(&shape, src, epilogue(tail, residual), &dst_shape, dst)?;
            }
            (Work::Conv(conv, tail), None) => {
                conv.run_planar(places.len(), &picture, epilogue(tail, residual), &dst_shape, dst)?;
            }
            (Work::Combine(tail), Some((shape, src))) => {
                blocked::apply(&shape, src, epilogue(tail, residual), &dst_shape, dst)?;
            }
            (Work::Pool(pool), Some((shape, src))) => {
                if pool.has_winners() {
                    winners.resize(pool.winners_len(places.len())?, 0);
                }
                pool.run((&shape, src), (&dst_shape, dst), winners)?;
            }
            (Work::Copy { block, blocks }, Some((shape, src))) => {
                blocked::copy_blocks((&shape, src, 0), (&dst_shape, dst, *block), *blocks)?;
            }
            (Work::Block, None) => blocked::to_blocked(&dst_shape, &picture, dst)?,
            (Work::Combine(_) | Work::Pool(_) | Work::Copy { .. }, None) | (Work::Block, Some(_)) => {
                return Err(Error::invalid("plan", "a step on patches has no source", "a valid plan"));
            }
        }
        Ok(())
    }

    /// Assembles a window from the base image and the patches over it.
    fn window(&self, patches: &mut Arena, window: &Window, places: &[[usize; 2]]) -> Result<()> {
        let Window { image, reach, outside, slot } = window;
        if *slot == image.0 {
            return Ok(());
        }
        let starts: Vec<[isize; 2]> = places.iter().map(|&place| reach.start(place)).collect();
        let own = self.places(*image);
        let own_shape = self.shape(image.0);
        let ([own_values], out) =
            patches.split([own.as_ref().map(|_| self.range(image.0))], self.range(*slot));
        let own = own.as_deref().zip(own_values);
        let own = own.map(|(places, values)| Patches { shape: &own_shape, values, places });
        let (base_shape, base) = self.base.image(self.runner.program, *image);
        Ok(blocked::cut_windows((&base_shape, base), own, &starts, *outside, (&self.shape(*slot), out))?)
    }

    /// Completes an image from the base image and its patches.
    fn spread(&self, memory: &mut Memory, image: ImageId) -> Result<()> {
        let own_shape = self.shape(image.0);
        let own = self.places(image);
        let own = own.as_deref().map(|places| Patches {
            shape: &own_shape,
            values: memory.patches.read(self.range(image.0)),
            places,
        });
        let (_, out) = memory.whole.arena.split::<0>([], self.runner.range(image));
        let (base_shape, base) = self.base.image(self.runner.program, image);
        let starts = vec![[0, 0]; self.rectangles.len()];
        Ok(blocked::cut_windows((&base_shape, base), own, &starts, 0.0, (&self.runner.shape(image), out))?)
    }
}

fn epilogue<'a>(tail: &'a Tail, residual: Option<(&'a BlockedShape, &'a [f32])>) -> BlockedEpilogue<'a> {
    let bias = tail.bias.as_ref().map(|bias| bias.as_slice());
    BlockedEpilogue { bias, residual, activation: tail.activation, ..BlockedEpilogue::default() }
}

/// Cuts one window from each image of `[N, C, H, W]`.
fn cut_picture(picture: &Tensor, starts: &[[isize; 2]], size: [usize; 2]) -> Result<Vec<f32>> {
    let (_, channels, height, width) = picture.dims4()?;
    let mut windows = vec![0.0; starts.len() * channels * size[0] * size[1]];
    let picture = fast::slice::<f32>(picture)?;
    blocked::cut_planar((channels, [height, width]), &picture, starts, size, &mut windows)?;
    Ok(windows)
}
