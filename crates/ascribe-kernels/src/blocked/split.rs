//! Pointwise convolutions on the processor's matrix unit.
//!
//! The unit multiplies 16-bit floats only. Numbers are split into three of them each, and six of the nine products of
//! parts are summed in single precision: see [`crate::matrix`]. Source values are split once per task, into memory that
//! stays in the second-level cache, weights when they are packed.

use std::ops::Range;
use std::sync::Arc;

use super::buffer::Buffer;
use super::conv::{BlockedConv, Form};
use super::epilogue::BlockedEpilogue;
use super::finish::{PanelFinish, Sums, choose};
use super::layout::{BLOCK, BlockedShape};
use super::output::Output;
use super::pack::{Class, Panel, panels};
use super::tile::{MAX_BLOCKS, Mode};
use super::tiling::Tile;
use super::work::Work;
use crate::conv::lattice::Lattice;
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::matrix::{DEPTH, Operands, PARTS, ROWS, TILE, Unit, parts, product, split_row};
use crate::parallel::{Scratch, run_tasks};
use crate::shape::ConvShape;
use crate::simd::{Isa, Kernel, Simd};

/// Pixels that are multiplied together.
const PAIR: usize = 2 * ROWS;
/// Floats of the sums of two row tiles and two column tiles.
const SUMS: usize = PAIR * PAIR;
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
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad_split(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Unit::detect().map_or(Ok(None), |unit| Self::input_grad_split_with(unit, shape, weight))
    }

    pub(super) fn forward_split_with(unit: Unit, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("split convolution", "weight", shape.weight_len(), weight.len())?;
        let channels = shape.in_channels;
        Ok(Self::split(unit, shape, channels, shape.out_channels, Lattice::forward(shape), |row, channel| {
            weight[row * channels + channel]
        }))
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
        Ok(Self::split(unit, shape, shape.out_channels, rows, lattice, |row, channel| {
            weight[channel * rows + row]
        }))
    }

    fn split(
        unit: Unit,
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
        let weights = pack(&mut panels, (rows, channels), weight);
        Some(Self {
            isa: Isa::detect(),
            mode: Mode::Dense(BLOCK),
            form: Form::Split(unit),
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
        unit: Unit,
        src_shape: &BlockedShape,
        src: &[f32],
        epilogue: BlockedEpilogue<'_>,
        dst_shape: &BlockedShape,
        dst: &mut [f32],
    ) {
        let lattice = &self.classes[0].lattice;
        let pixels = dst_shape.batch * lattice.points();
        let steps = self.depth.div_ceil(BLOCKS);
        let tile = steps * PARTS * TILE;
        let residual_pad = epilogue.residual.map_or([0; 2], |(shape, _)| shape.pad);
        let run = Run {
            conv: self,
            lattice,
            src_shape,
            src,
            flat: lattice.is_pointwise() && [src_shape.pad, dst_shape.pad, residual_pad] == [[0; 2]; 3],
            output: Output::new(epilogue, dst_shape, dst),
        };
        let products = pixels * self.src.0 * self.dst.0;
        let work =
            Work::pixels(pixels.div_ceil(PAIR), 2 * tile * size_of::<u16>(), self.panels.len(), products);
        run_tasks(
            work.tasks(),
            || {
                (
                    Scratch::<u16>::new(work.longest_strip() * 2 * tile),
                    Scratch::<f32>::new(SUMS),
                    Vec::new(),
                )
            },
            |(left, sums, pieces), task| {
                let (pairs, panels) = work.task(task);
                let range = pairs.start * PAIR..pixels.min(pairs.end * PAIR);
                run.cut(range.clone(), pieces);
                let (left, sums) = (left.pointer(), sums.pointer());
                // SAFETY: the scratches have room for the task's pixels and for a product; the pieces are the task's own.
                unit.scope(|| unsafe {
                    f32::dispatch(self.isa, Fill { run: &run, pieces, first: range.start, left });
                    for panel in &self.panels[panels] {
                        run.panel(unit, panel, &range, pieces, left, sums);
                    }
                });
            },
        );
    }
}

/// Whether this processor has a matrix unit that the convolutions of [`BlockedConv::forward_split`] can use.
pub fn has_matrix_unit() -> bool {
    Unit::detect().is_some()
}

/// The weights of each panel as right operands of [`product`]; a pair of values is the same channel of two blocks.
fn pack(
    panels: &mut [Panel],
    (rows, channels): (usize, usize),
    weight: impl Fn(usize, usize) -> f32,
) -> Buffer {
    // Two 16-bit floats in the memory of one of 32 bits.
    const WORDS: usize = TILE / 2;
    let steps = channels.div_ceil(DEPTH);
    let blocks: usize = panels.iter().map(|panel| panel.blocks).sum();
    let mut packed = Buffer::new(blocks * steps * PARTS * WORDS);
    let mut start = 0;
    for panel in panels {
        panel.weights.push(start);
        for column in 0..panel.blocks {
            for (step, k, n) in (0..steps)
                .flat_map(|step| (0..BLOCK).map(move |k| (step, k)))
                .flat_map(|(step, k)| (0..ROWS).map(move |n| (step, k, n)))
            {
                let row = (panel.block + column) * BLOCK + n;
                let pair = [0, 1].map(|block| {
                    let channel = step * DEPTH + block * BLOCK + k;
                    let inside = row < rows && channel < channels;
                    parts(if inside { weight(row, channel) } else { 0.0 })
                });
                for part in 0..PARTS {
                    let word = u32::from(pair[0][part]) | u32::from(pair[1][part]) << 16;
                    let tile = (step * PARTS + part) * panel.blocks + column;
                    packed[start + tile * WORDS + k * ROWS + n] = f32::from_bits(word);
                }
            }
        }
        start += panel.blocks * steps * PARTS * WORDS;
    }
    packed
}

/// Consecutive pixels of one row of a sample (or of a sample without borders), within a pair of tiles.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The first pixel, counted through the batch.
    at: usize,
    pixels: usize,
    sample: usize,
    /// Row and column in the grid.
    place: [usize; 2],
}

/// What tasks share.
struct Run<'a> {
    conv: &'a BlockedConv,
    lattice: &'a Lattice,
    src_shape: &'a BlockedShape,
    src: &'a [f32],
    /// Rows follow each other without a gap in every tensor.
    flat: bool,
    output: Output<'a>,
}

impl Run<'_> {
    /// Cuts a range of pixels into pieces.
    fn cut(&self, range: Range<usize>, pieces: &mut Vec<Piece>) {
        let [_, width] = self.lattice.grid;
        let points = self.lattice.points();
        pieces.clear();
        let mut at = range.start;
        while at < range.end {
            let (sample, point) = (at / points, at % points);
            let place = [point / width, point % width];
            let room = if self.flat { points - point } else { width - place[1] };
            let pixels = room.min(range.end - at).min(PAIR - at % PAIR);
            pieces.push(Piece { at, pixels, sample, place });
            at += pixels;
        }
    }

    /// Multiplies the split pixels of a task by the weights of a panel, and finishes the sums.
    ///
    /// # Safety
    /// Within the unit's scope; `left` holds the split pixels of `range` and `pieces` are its own; `sums` has room for
    /// [`SUMS`] floats; no other task writes the blocks of this panel there.
    unsafe fn panel(
        &self,
        unit: Unit,
        panel: &Panel,
        range: &Range<usize>,
        pieces: &[Piece],
        left: *const u16,
        sums: *mut f32,
    ) {
        let (shape, steps) = (self.output.shape, self.conv.depth.div_ceil(BLOCKS));
        let right = self.conv.weights[panel.weights[0]..].as_ptr().cast();
        let mut finishes: Option<(usize, [PanelFinish; 2])> = None;
        let mut product_of = usize::MAX;
        for piece in pieces {
            let pair = piece.at / PAIR;
            if product_of != pair {
                product_of = pair;
                let rows = (range.end - pair * PAIR).min(PAIR).div_ceil(ROWS);
                let left = left.wrapping_add((pair * PAIR - range.start) * steps * PARTS * DEPTH);
                // SAFETY: the caller's contract; weights are packed for the panel's blocks.
                unsafe { product(unit, rows, panel.blocks, &Operands { left, right, steps, out: sums }) };
            }
            let [y, x] = piece.place;
            let finishes = match &finishes {
                Some((sample, finishes)) if *sample == piece.sample => finishes,
                _ => &finishes.insert((piece.sample, self.finishes(piece.sample, panel))).1,
            };
            let tile = Tile {
                src: 0,
                dst: 0,
                residual: self.output.residual.map_or(0, |(shape, _)| shape.at(y, x)),
                bits: y * shape.size[1] + x,
                pixels: piece.pixels,
                rows: 1,
            };
            for (column, finish) in finishes.iter().enumerate().take(panel.blocks) {
                let plane = self.output.plane(piece.sample, panel.block + column);
                if x == 0 && shape.pad != [0, 0] {
                    // SAFETY: the length is checked; each row begins in one task.
                    unsafe { shape.clear_rows(plane, y, y + 1) };
                }
                let sums = Sums {
                    finish,
                    tile: &tile,
                    blocks: 1,
                    values: sums.wrapping_add(column * PAIR * BLOCK + piece.at % PAIR * BLOCK),
                    dst: plane.wrapping_add(shape.at(y, x)),
                    dst_steps: [0, 0, BLOCK],
                };
                // SAFETY: as above.
                unsafe { (finish.run)(&sums) };
            }
        }
    }

    fn finishes(&self, sample: usize, panel: &Panel) -> [PanelFinish; 2] {
        [0, panel.blocks - 1].map(|column| {
            let finish = self.output.finish(sample, panel.block + column);
            PanelFinish {
                blocks: [finish; MAX_BLOCKS],
                residual_steps: [0, BLOCK],
                bits_steps: [0, 1],
                run: choose(self.conv.isa, &finish, finish.lanes != u16::MAX),
            }
        })
    }
}

/// Splits the source pixels of a task into left operands of [`product`].
struct Fill<'a> {
    run: &'a Run<'a>,
    pieces: &'a [Piece],
    /// The task's first pixel.
    first: usize,
    left: *mut u16,
}

impl Kernel<f32> for Fill<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Run { conv, lattice, src_shape, src, .. } = *self.run;
        let steps = conv.depth.div_ceil(BLOCKS);
        for piece in self.pieces {
            let [y, x] = [0, 1].map(|axis| piece.place[axis] * lattice.src_stride[axis]);
            let source = &src[piece.sample * src_shape.sample()..][..src_shape.sample()];
            let pixel = lattice.src_stride[1] * BLOCK;
            for step in 0..steps {
                // An odd number of blocks: the weights of the missing one are zeros, whatever stands beside them.
                let blocks = [0, 1].map(|block| (step * BLOCKS + block).min(conv.depth - 1));
                let [low, high] = blocks.map(|block| block * src_shape.plane() + src_shape.at(y, x));
                for at in 0..piece.pixels {
                    let row = piece.at - self.first + at;
                    let tile = (row / ROWS * steps + step) * PARTS * TILE;
                    let out = self.left.wrapping_add(tile + row % ROWS * DEPTH);
                    let [low, high] = [low, high].map(|start| &source[start + at * pixel..]);
                    if let (Some(low), Some(high)) = (low.first_chunk(), high.first_chunk()) {
                        // SAFETY: the caller provides room for the task's pixels.
                        unsafe { split_row(low, high, out) };
                    }
                }
            }
        }
    }
}
