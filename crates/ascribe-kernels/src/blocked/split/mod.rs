//! Convolutions on AMX, the processor's matrix unit.
//!
//! AMX multiplies only 16-bit floats. Each `f32` is split into a sum of two or three of them (its parts), and those
//! products of parts that are not negligible are summed in single precision; see [`crate::matrix`]. Weights are split
//! when they are packed. Source values are split once per task, into scratch that stays in the second-level cache.

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

/// Most pixels that are multiplied at a time: two row tiles.
const PAIR: usize = 2 * ROWS;
/// Blocks of channels that are multiplied per step.
const BLOCKS: usize = DEPTH / BLOCK;

impl BlockedConv {
    /// Packs a forward convolution for AMX, the processor's matrix unit. It multiplies several times as fast as vector
    /// instructions, and the result is as precise: each number is split into three `bfloat16`, whose products are
    /// summed in single precision.
    ///
    /// `None` where the processor has no AMX ([`has_matrix_unit`]), with groups, and with strides unless the kernel is
    /// 1 × 1. Numbers below 10⁻³³ lose precision, since AMX treats subnormal numbers as zero.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_split(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Unit::detect().map_or(Ok(None), |unit| Self::forward_split_with(unit, shape, weight))
    }

    /// Packs an input gradient for AMX, the processor's matrix unit; see [`BlockedConv::forward_split`]. Strides are
    /// supported.
    ///
    /// Each number is split into two `bfloat16`, which takes half as many products as three. Errors are about 2·10⁻⁶ of
    /// the standard deviation of the gradient, like those of F(4 × 4) in [`BlockedConv::input_grad_winograd`].
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

    /// Packs `weight(class, destination channel, source channel, tap)` for these residue classes.
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
                // SAFETY: the memory has room for the longest task; no two tasks have the same lines and panels.
                unit.scope(|| unsafe { Task::new(&job, lines, &self.panels[panels], memory).run() });
            },
        );
    }
}

/// Whether this processor has AMX with `bfloat16` and the operating system lets this process use it, so that
/// [`BlockedConv::forward_split`] can.
pub fn has_matrix_unit() -> bool {
    Unit::detect().is_some()
}

/// Packs the weights of each panel and class as right operands of [`crate::matrix::product`], tap by tap and 32
/// channels at a time. A pair of values belongs to the same channel of two neighbouring blocks.
fn pack<const P: usize>(
    panels: &mut [Panel],
    classes: &[Class],
    [channels, rows]: [usize; 2],
    weight: impl Fn(usize, usize, usize, usize) -> f32,
) -> Buffer {
    // Two 16-bit floats are stored in the memory of one `f32`.
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
