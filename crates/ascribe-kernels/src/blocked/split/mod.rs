//! Pointwise convolutions on the processor's matrix unit.
//!
//! The unit multiplies 16-bit floats only. Numbers are split into three of them each, and six of the nine products of
//! parts are summed in single precision: see [`crate::matrix`]. Source values are split once per task, into memory that
//! stays in the second-level cache, weights when they are packed.

mod task;

use std::sync::Arc;

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
    /// Packs a pointwise forward convolution for the processor's matrix unit, which multiplies several times as fast as
    /// its vectors do, and no less precisely: numbers are split into three `bfloat16` each, whose products are summed in
    /// single precision.
    ///
    /// `None` where the processor has no such unit ([`has_matrix_unit`]), unless the kernel is 1 × 1, there is no
    /// padding and one group. Numbers below 10⁻³³ lose precision, and infinite ones become NaN.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_split(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Unit::detect().map_or(Ok(None), |unit| Self::forward_split_with(unit, shape, weight))
    }

    /// Packs the input gradient of a pointwise convolution of stride 1 for the processor's matrix unit; see
    /// [`BlockedConv::forward_split`].
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
        let channels = shape.in_channels;
        Ok(Self::split(
            (unit, Split::Three),
            shape,
            channels,
            shape.out_channels,
            Lattice::forward(shape),
            |row, channel| weight[row * channels + channel],
        ))
    }

    pub(super) fn input_grad_split_with(
        unit: Unit,
        shape: &ConvShape,
        weight: &[f32],
    ) -> Result<Option<Self>> {
        check_len("split input gradient", "weight", shape.weight_len(), weight.len())?;
        let rows = shape.in_channels;
        let Some((lattice, _)) = Lattice::input_grad(shape).into_iter().next() else { return Ok(None) };
        if shape.stride != [1, 1] {
            return Ok(None);
        }
        Ok(Self::split((unit, Split::Two), shape, shape.out_channels, rows, lattice, |row, channel| {
            weight[channel * rows + row]
        }))
    }

    fn split(
        (unit, split): (Unit, Split),
        shape: &ConvShape,
        channels: usize,
        rows: usize,
        lattice: Lattice,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Option<Self> {
        if shape.kernel != [1, 1] || shape.padding != [0; 4] || shape.groups != 1 {
            return None;
        }
        let mut panels = panels(1, rows, channels, 2);
        let weights = match split {
            Split::Two => pack::<2>(&mut panels, (rows, channels), weight),
            Split::Three => pack::<3>(&mut panels, (rows, channels), weight),
        };
        Some(Self {
            isa: Isa::detect(),
            mode: Mode::Dense(BLOCK),
            form: Form::Split(unit, split),
            src: (channels, lattice.src),
            dst: (rows, lattice.dst),
            source_pad: [0, 0],
            depth: channels.div_ceil(BLOCK),
            classes: vec![Class::blocked(lattice, channels)],
            panels,
            weights: Arc::new(weights),
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
        let lattice = &self.classes[0].lattice;
        let pixels = dst_shape.batch * lattice.points();
        let residual_pad = epilogue.residual.map_or([0; 2], |(shape, _)| shape.pad);
        let job = Job {
            conv: self,
            unit,
            split,
            lattice,
            pixels,
            steps: self.depth.div_ceil(BLOCKS),
            src_shape,
            src,
            flat: lattice.is_pointwise() && [src_shape.pad, dst_shape.pad, residual_pad] == [[0; 2]; 3],
            output: Output::new(epilogue, dst_shape, dst),
        };
        let pair_bytes = job.pair_len() * size_of::<u16>();
        let products = pixels * self.src.0 * self.dst.0;
        let work = Work::pixels(pixels.div_ceil(PAIR), pair_bytes, self.panels.len(), products);
        run_tasks(
            work.tasks(),
            || Memory::new(work.longest_strip() * job.pair_len()),
            |memory, task| {
                let (pairs, panels) = work.task(task);
                // SAFETY: the memory has room for the longest task; tasks have pixels or panels of their own.
                unit.scope(|| unsafe { Task::new(&job, pairs, &self.panels[panels], memory).run() });
            },
        );
    }
}

/// Whether this processor has a matrix unit that the convolutions of [`BlockedConv::forward_split`] can use.
pub fn has_matrix_unit() -> bool {
    Unit::detect().is_some()
}

/// The weights of each panel as right operands of [`product`]; a pair of values is the same channel of two blocks.
fn pack<const P: usize>(
    panels: &mut [Panel],
    (rows, channels): (usize, usize),
    weight: impl Fn(usize, usize) -> f32,
) -> Buffer {
    // Two 16-bit floats in the memory of one of 32 bits.
    const WORDS: usize = TILE / 2;
    let steps = channels.div_ceil(DEPTH);
    let blocks: usize = panels.iter().map(|panel| panel.blocks).sum();
    let mut packed = Buffer::new(blocks * steps * P * WORDS);
    let mut start = 0;
    for panel in panels {
        panel.weights.push(start);
        let out = &mut packed[start..][..panel.blocks * steps * P * WORDS];
        for (step, out) in out.chunks_exact_mut(panel.blocks * P * WORDS).enumerate() {
            for (column, n) in (0..panel.blocks).flat_map(|column| (0..ROWS).map(move |n| (column, n))) {
                let row = (panel.block + column) * BLOCK + n;
                for k in 0..BLOCK {
                    let pair = [0, 1].map(|block| {
                        let channel = step * DEPTH + block * BLOCK + k;
                        let inside = row < rows && channel < channels;
                        parts::<P>(if inside { weight(row, channel) } else { 0.0 })
                    });
                    for part in 0..P {
                        let word = u32::from(pair[0][part]) | u32::from(pair[1][part]) << 16;
                        out[(part * panel.blocks + column) * WORDS + k * ROWS + n] = f32::from_bits(word);
                    }
                }
            }
        }
        start += panel.blocks * steps * P * WORDS;
    }
    packed
}
