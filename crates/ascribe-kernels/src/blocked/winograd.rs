//! Winograd's minimal filtering for 3 × 3 kernels of stride 1: F(2 × 2) and F(4 × 4).
//!
//! A tile of M × M destination pixels depends on N × N source pixels, N = M + 2. With the transforms B, G and
//! A of the method, y = Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A: N² products where the definition takes 9 M², 2.25 and 4
//! times fewer. For each of the N² points the sum over channels is a pointwise convolution whose pixels are
//! the tiles, and runs in the same register tile.
//!
//! Rounding errors grow with M, since the transforms subtract: see [`BlockedConv::forward_winograd`].
//!
//! Lavin and Gray 2016, *Fast Algorithms for Convolutional Neural Networks*.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;

use super::conv::{BlockedConv, Form};
use super::epilogue::BlockedEpilogue;
use super::finish::PanelFinish;
use super::layout::{BLOCK, BlockedShape};
use super::output::Output;
use super::pack::{Class, pack, panels};
use super::tile::{Call, Entry, MAX_BLOCKS, Mode, most_blocks, run, sizes};
use super::tiling::{Tile, split};
use super::transform::{InputTransform, OutputTransform, filter};
use super::work::Work;
use crate::conv::lattice::Lattice;
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::{Scratch, run_tasks};
use crate::shape::ConvShape;
use crate::simd::Isa;

/// A convolution by minimal filtering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Minimal {
    /// Destination pixels of a tile along an axis, 2 or 4.
    pub(super) outputs: usize,
    /// Source pixel, relative to the destination pixel, that the first kernel element meets.
    pub(super) origin: [isize; 2],
}

impl Display for Minimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F({0} × {0})", self.outputs)
    }
}

impl BlockedConv {
    /// Packs a forward convolution by Winograd's F(2 × 2, 3 × 3): 2.25 times fewer products than
    /// [`BlockedConv::forward`].
    ///
    /// `None` unless the kernel is 3 × 3, strides and dilations are 1 and there is one group. The errors are
    /// about twice those of [`BlockedConv::forward`]; F(4 × 4), with about ten times, is not offered here,
    /// since errors of the forward pass flip gates of activations.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_winograd(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::forward_winograd_with(Isa::detect(), shape, weight)
    }

    pub(super) fn forward_winograd_with(isa: Isa, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("winograd convolution", "weight", shape.weight_len(), weight.len())?;
        let channels = shape.in_channels;
        Ok(Self::minimal(
            isa,
            2,
            shape,
            (shape.in_channels, shape.input),
            (shape.out_channels, shape.output()),
            [0, 1].map(|axis| -(shape.padding[axis] as isize)),
            |row, channel, i, j| weight[((row * channels + channel) * 3 + i) * 3 + j],
        ))
    }

    /// Packs an input gradient by Winograd's F(4 × 4, 3 × 3), with 4 times fewer products than
    /// [`BlockedConv::input_grad`], or F(2 × 2, 3 × 3) for `outputs` = 2.
    ///
    /// `None` as for [`BlockedConv::forward_winograd`], and for other values of `outputs`. Relative to the
    /// largest gradient, errors of F(4 × 4) stay below 10⁻⁵; nothing downstream of an input gradient is
    /// discontinuous in it.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad_winograd(shape: &ConvShape, outputs: usize, weight: &[f32]) -> Result<Option<Self>> {
        Self::input_grad_winograd_with(Isa::detect(), shape, outputs, weight)
    }

    pub(super) fn input_grad_winograd_with(
        isa: Isa,
        shape: &ConvShape,
        outputs: usize,
        weight: &[f32],
    ) -> Result<Option<Self>> {
        check_len("winograd input gradient", "weight", shape.weight_len(), weight.len())?;
        let channels = shape.in_channels;
        Ok(Self::minimal(
            isa,
            outputs,
            shape,
            (shape.out_channels, shape.output()),
            (shape.in_channels, shape.input),
            [0, 1].map(|axis| shape.padding[axis] as isize - 2),
            |row, channel, i, j| weight[((channel * channels + row) * 3 + 2 - i) * 3 + 2 - j],
        ))
    }

    fn minimal(
        isa: Isa,
        outputs: usize,
        shape: &ConvShape,
        src: (usize, [usize; 2]),
        dst: (usize, [usize; 2]),
        origin: [isize; 2],
        weight: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Option<Self> {
        let fits = shape.kernel == [3, 3]
            && shape.stride == [1, 1]
            && shape.dilation == [1, 1]
            && shape.groups == 1
            && matches!(outputs, 2 | 4);
        if !fits {
            return None;
        }
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        let points = (outputs + 2) * (outputs + 2);
        let grid = dst.1.map(|size| size.div_ceil(outputs));
        let pointwise = Lattice {
            src: grid,
            dst: grid,
            grid,
            src_stride: [1, 1],
            taps: vec![[0, 0]],
            dst_stride: [1, 1],
            dst_offset: [0, 0],
        };
        let classes = vec![Class::blocked(pointwise, src.0); points];
        let mode = Mode::Dense(BLOCK);
        let mut panels = panels(1, dst.0, src.0, most_blocks(isa, mode));
        // Each filter is transformed once, [row][channel][point].
        let mut transformed = vec![0.0_f32; dst.0 * src.0 * points];
        for (at, out) in transformed.chunks_exact_mut(points).enumerate() {
            let (row, channel) = (at / src.0, at % src.0);
            filter(outputs, |i, j| f64::from(weight(row, channel, i, j)), out);
        }
        let weights = pack(&mut panels, &classes, |point, row, step, place| {
            let channel = step.block * BLOCK + place;
            if row < dst.0 { transformed[(row * src.0 + channel) * points + point] } else { 0.0 }
        });
        Some(Self {
            isa,
            mode,
            form: Form::Minimal(Minimal { outputs, origin }),
            src,
            dst,
            source_pad: [0, 0],
            depth: src.0.div_ceil(BLOCK),
            classes,
            panels,
            weights: Arc::new(weights),
        })
    }

    /// [`BlockedConv::run`]; the arguments are checked.
    pub(super) fn run_minimal(
        &self,
        minimal: Minimal,
        src_shape: &BlockedShape,
        src: &[f32],
        epilogue: BlockedEpilogue<'_>,
        dst_shape: &BlockedShape,
        dst: &mut [f32],
    ) {
        let outputs = minimal.outputs;
        let points = (outputs + 2) * (outputs + 2);
        let grid = self.classes[0].lattice.grid;
        let row_bytes = grid[1] * points * self.depth * BLOCK * size_of::<f32>();
        let work = Work::strips(src_shape.batch, grid[0], row_bytes, LEAST_TILES.div_ceil(grid[1]));
        let output = Output::new(epilogue, dst_shape, dst);
        let most = work.longest_strip() * grid[1];
        // An odd number of cache lines between points: they are written one after the other.
        let spread = |blocks: usize| ((blocks * most) | 1) * BLOCK;
        let (source_step, panel_step) = (spread(self.depth), spread(MAX_BLOCKS));
        let entries: Vec<Entry> = self.classes[0]
            .steps
            .iter()
            .map(|step| Entry { offset: (step.block * most * BLOCK) as isize, count: step.count })
            .collect();
        run_tasks(
            work.tasks(),
            || Buffers {
                source: Scratch::new(points * source_step),
                panel: Scratch::new(points * panel_step),
                row: Scratch::new(outputs * grid[1] * outputs * BLOCK),
            },
            |buffers, task| {
                let (source, sums, row) =
                    (buffers.source.pointer(), buffers.panel.pointer(), buffers.row.pointer());
                let units = work.task(task).0;
                // The tiles of all samples of the strip follow each other.
                let pieces = || {
                    let mut first = 0;
                    work.samples(units.clone()).map(move |(sample, rows)| {
                        first += rows.len() * grid[1];
                        (sample, rows.clone(), first - rows.len() * grid[1])
                    })
                };
                for (sample, rows, first) in pieces() {
                    for block in 0..self.depth {
                        let plane = (sample * src_shape.blocks() + block) * src_shape.plane();
                        let transform = InputTransform {
                            outputs,
                            origin: minimal.origin,
                            shape: src_shape,
                            plane: &src[plane..][..src_shape.plane()],
                            rows: rows.clone(),
                            columns: grid[1],
                            out: source.wrapping_add((block * most + first) * BLOCK),
                            point_step: source_step,
                        };
                        f32::dispatch(self.isa, transform);
                    }
                }
                let tiles = units.len() * grid[1];
                for panel in &self.panels {
                    self.products(panel, tiles, &entries, [source_step, panel_step], source, sums, most);
                    for (sample, rows, first) in pieces() {
                        for at in 0..panel.blocks {
                            let sums = sums.wrapping_add((at * most + first) * BLOCK).cast_const();
                            let place = (sample, panel.block + at, rows.clone());
                            self.finish(outputs, &output, place, sums, panel_step, row);
                        }
                    }
                }
            },
        );
    }

    /// Transforms the sums of some rows of tiles of a block back and applies the epilogue.
    fn finish(
        &self,
        outputs: usize,
        output: &Output<'_>,
        (sample, block, rows): (usize, usize, Range<usize>),
        sums: *const f32,
        point_step: usize,
        row: *mut f32,
    ) {
        let shape = output.shape;
        let columns = self.classes[0].lattice.grid[1];
        let finish = PanelFinish::of_row(self.isa, output.finish(sample, block), 1);
        let plane = output.plane(sample, block);
        let end = (rows.end * outputs).min(shape.size[0]);
        // SAFETY: the length is checked, these rows belong to one task.
        unsafe { shape.clear_rows(plane, rows.start * outputs, end) };
        for (at, tile_row) in rows.enumerate() {
            let transform = OutputTransform {
                outputs,
                columns,
                sums: sums.wrapping_add(at * columns * BLOCK),
                point_step,
                out: row,
            };
            f32::dispatch(self.isa, transform);
            for i in 0..outputs.min(shape.size[0] - tile_row * outputs) {
                let y = tile_row * outputs + i;
                let values = row.wrapping_add(i * columns * outputs * BLOCK);
                // SAFETY: as above; `row` holds whole rows of tiles.
                unsafe { output.finish_row(&finish, plane, [y, 0], shape.size[1], values) };
            }
        }
    }

    /// The pointwise convolutions of one panel at all points: `[point][block][tile][16]` from source to sums.
    fn products(
        &self,
        panel: &super::pack::Panel,
        tiles: usize,
        entries: &[Entry],
        [source_step, panel_step]: [usize; 2],
        source: *const f32,
        sums: *mut f32,
        most: usize,
    ) {
        let sizes = sizes(self.isa, self.mode, panel.blocks);
        let list: Vec<Tile> = split(tiles, sizes[0])
            .map(|(start, pixels)| {
                let at = start * BLOCK;
                Tile { src: at, dst: at, residual: 0, bits: 0, pixels, rows: 1 }
            })
            .collect();
        let mut kinds: Vec<usize> = list.iter().map(|tile| tile.pixels).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for (point, class) in self.classes.iter().enumerate() {
            for (chain, range) in class.chains.iter().enumerate() {
                let row = class.steps[range.start].row;
                let call = Call {
                    tiles: &list,
                    entries: &entries[range.clone()],
                    weights: self.weights[panel.weights[point] + row * panel.blocks * BLOCK..].as_ptr(),
                    src: source.wrapping_add(point * source_step),
                    src_row: 0,
                    dst: sums.wrapping_add(point * panel_step),
                    dst_steps: [most * BLOCK, 0, BLOCK],
                    accumulate: chain > 0,
                    finish: None,
                    sums,
                };
                for &pixels in &kinds {
                    // SAFETY: the scratches hold `most` tiles for every point and block.
                    unsafe { run(self.isa, self.mode, panel.blocks, 1, pixels, &call) };
                }
            }
        }
    }
}

/// Tiles that a task should have at least: they share the weights of a point.
const LEAST_TILES: usize = 56;

/// The memory of a thread.
struct Buffers {
    /// Transformed source, `[point][block][tile][16]`.
    source: Scratch<f32>,
    /// Sums of a panel, likewise.
    panel: Scratch<f32>,
    /// A row of tiles of one block, `[row][pixel][16]`.
    row: Scratch<f32>,
}
