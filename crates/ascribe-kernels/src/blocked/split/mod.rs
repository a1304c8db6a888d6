//! Convolutions on the processor's matrix unit.
//!
//! The unit multiplies 16-bit floats only. Numbers are split into two or three of them each, and the products of parts that
//! matter are summed in single precision: see [`crate::matrix`]. Source values are split once per task, into memory that
//! stays in the second-level cache, weights when they are packed.

mod lines;
mod task;

use std::sync::Arc;

use self::lines::Extent;
use self::task::{Job, Memory, Task};
use super::buffer::Buffer;
use super::conv::{BlockedConv, Form};
use super::epilogue::BlockedEpilogue;
use super::layout::{BLOCK, BlockedShape};
use super::output::Output;
use super::pack::{Class, Panel, panels};
use super::tile::Mode;
use super::work::Work;
use crate::conv::lattice::Lattice;
use crate::error::{Result, check_len};
use crate::matrix::{DEPTH, ROWS, Split, TILE, Unit, parts};
use crate::parallel::run_tasks;
use crate::shape::ConvShape;
use crate::simd::Isa;

/// Pixels that are multiplied together.
const PAIR: usize = 2 * ROWS;
/// Blocks of channels per step.
const BLOCKS: usize = DEPTH / BLOCK;

impl BlockedConv {
    /// Packs a forward convolution for the processor's matrix unit, which multiplies several times as fast as its vectors
    /// do, and no less precisely: numbers are split into three `bfloat16` each, whose products are summed in single
    /// precision.
    ///
    /// `None` where the processor has no such unit ([`has_matrix_unit`]), with groups, and with strides unless the kernel is
    /// 1 × 1. Numbers below 10⁻³³ lose precision, since the unit takes numbers that are too small to be normal for zero.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_split(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Unit::detect().map_or(Ok(None), |unit| Self::forward_split_with(unit, shape, weight))
    }

    /// Packs an input gradient for the processor's matrix unit; see [`BlockedConv::forward_split`]. There may be strides.
    ///
    /// Numbers are split into two `bfloat16` each, which takes half the products of three: errors are about 2·10⁻⁶ of the
    /// gradient's deviation, those of F(4 × 4) in [`BlockedConv::input_grad_winograd`].
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad_split(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Unit::detect().map_or(Ok(None), |unit| Self::input_grad_split_with(unit, shape, weight))
    }

    pub(super) fn forward_split_with(unit: Unit, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("split convolution", "weight", shape.weight_len(), weight.len())?;
        let lattice = Lattice::forward(shape);
        let (channels, taps) = (shape.in_channels, lattice.taps.len());
        if shape.groups != 1 || (taps > 1 && shape.stride != [1, 1]) {
            return Ok(None);
        }
        let sides = [(channels, shape.input), (shape.out_channels, shape.output())];
        Ok(Self::split((unit, Split::Three), sides, vec![lattice], |_, row, channel, tap| {
            weight[(row * channels + channel) * taps + tap]
        }))
    }

    pub(super) fn input_grad_split_with(
        unit: Unit,
        shape: &ConvShape,
        weight: &[f32],
    ) -> Result<Option<Self>> {
        check_len("split input gradient", "weight", shape.weight_len(), weight.len())?;
        if shape.groups != 1 {
            return Ok(None);
        }
        let (lattices, elements): (Vec<_>, Vec<_>) = Lattice::input_grad(shape).into_iter().unzip();
        let (rows, taps) = (shape.in_channels, shape.kernel[0] * shape.kernel[1]);
        let sides = [(shape.out_channels, shape.output()), (rows, shape.input)];
        Ok(Self::split((unit, Split::Two), sides, lattices, |class, row, channel, tap| {
            weight[(channel * rows + row) * taps + elements[class][tap]]
        }))
    }

    /// `weight` is that of (class, destination channel, source channel, tap).
    fn split(
        (unit, split): (Unit, Split),
        [src, dst]: [(usize, [usize; 2]); 2],
        lattices: Vec<Lattice>,
        weight: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Option<Self> {
        let source_pad = Extent::of(&lattices.iter().collect::<Vec<_>>()).border(src.1)?;
        let classes: Vec<_> = lattices.into_iter().map(|lattice| Class::blocked(lattice, src.0)).collect();
        let mut panels = panels(1, dst.0, src.0, 2);
        let weights = match split {
            Split::Two => pack::<2>(&mut panels, &classes, [src.0, dst.0], weight),
            Split::Three => pack::<3>(&mut panels, &classes, [src.0, dst.0], weight),
        };
        Some(Self {
            isa: Isa::detect(),
            mode: Mode::Dense(BLOCK),
            form: Form::Split(unit, split),
            src,
            dst,
            source_pad,
            depth: src.0.div_ceil(BLOCK),
            classes,
            panels,
            weights: Arc::new(weights),
            lent: None,
        })
    }

    /// [`BlockedConv::run`]; the arguments are checked.
    pub(super) fn run_split(
        &self,
        (unit, split): (Unit, Split),
        src_shape: &BlockedShape,
        src: &[f32],
        epilogue: BlockedEpilogue<'_>,
        dst_shape: &BlockedShape,
        dst: &mut [f32],
    ) {
        let output = Output::new(epilogue, dst_shape, dst);
        let job = Job::new(self, unit, split, (src_shape, src), output);
        let work = Work::lines(
            dst_shape.batch,
            job.extent.grid,
            job.line_bytes(),
            self.panels.len(),
            dst_shape.batch * self.products_per_sample(),
        );
        run_tasks(
            work.tasks(),
            || Memory::new(job.left_len(work.longest_strip())),
            |memory, task| {
                let (lines, panels) = work.task(task);
                // SAFETY: the memory has room for the longest task; tasks have lines or panels of their own.
                unit.scope(|| unsafe { Task::new(&job, lines, &self.panels[panels], memory).run() });
            },
        );
    }
}

/// Whether this processor has a matrix unit that the convolutions of [`BlockedConv::forward_split`] can use.
pub fn has_matrix_unit() -> bool {
    Unit::detect().is_some()
}

/// The weights of each panel and class as right operands of [`crate::matrix::product`], tap by tap and 32 channels at a
/// time; a pair of values is the same channel of two blocks.
fn pack<const P: usize>(
    panels: &mut [Panel],
    classes: &[Class],
    [channels, rows]: [usize; 2],
    weight: impl Fn(usize, usize, usize, usize) -> f32,
) -> Buffer {
    // Two 16-bit floats in the memory of one of 32 bits.
    const WORDS: usize = TILE / 2;
    let chunks = channels.div_ceil(DEPTH);
    let blocks: usize = panels.iter().map(|panel| panel.blocks).sum();
    let taps: usize = classes.iter().map(|class| class.lattice.taps.len()).sum();
    let mut packed = Buffer::new(blocks * taps * chunks * P * WORDS);
    let mut start = 0;
    for panel in panels {
        for (index, class) in classes.iter().enumerate() {
            panel.weights.push(start);
            let steps = class.lattice.taps.len() * chunks;
            let out = &mut packed[start..][..panel.blocks * steps * P * WORDS];
            for (step, out) in out.chunks_exact_mut(panel.blocks * P * WORDS).enumerate() {
                let (tap, chunk) = (step / chunks, step % chunks);
                for (column, n) in (0..panel.blocks).flat_map(|column| (0..ROWS).map(move |n| (column, n))) {
                    let row = (panel.block + column) * BLOCK + n;
                    for k in 0..BLOCK {
                        let pair = [0, 1].map(|block| {
                            let channel = chunk * DEPTH + block * BLOCK + k;
                            let inside = row < rows && channel < channels;
                            parts::<P>(if inside { weight(index, row, channel, tap) } else { 0.0 })
                        });
                        for part in 0..P {
                            let word = u32::from(pair[0][part]) | u32::from(pair[1][part]) << 16;
                            out[(part * panel.blocks + column) * WORDS + k * ROWS + n] = f32::from_bits(word);
                        }
                    }
                }
            }
            start += out.len();
        }
    }
    packed
}
