//! One task of a pointwise convolution on the matrix unit.
//!
//! The unit works beside the rest of the processor. While it multiplies a pair of tiles, the sums of the pair before are
//! finished, and, for the first panel, the pixels of the next pair split.

use std::ops::Range;

use super::{BLOCKS, PAIR};
use crate::blocked::conv::BlockedConv;
use crate::blocked::finish::{PanelFinish, Sums, choose};
use crate::blocked::layout::{BLOCK, BlockedShape};
use crate::blocked::output::Output;
use crate::blocked::pack::Panel;
use crate::blocked::tile::MAX_BLOCKS;
use crate::blocked::tiling::Tile;
use crate::conv::lattice::Lattice;
use crate::float::Float;
use crate::matrix::{DEPTH, Operands, ROWS, Split, TILE, Unit, product, split_row};
use crate::parallel::Scratch;
use crate::simd::{Kernel, Simd};

/// Floats of the sums of two row tiles and two column tiles.
const SUMS: usize = PAIR * PAIR;

/// What tasks share.
pub(super) struct Job<'a> {
    pub(super) conv: &'a BlockedConv,
    pub(super) unit: Unit,
    pub(super) split: Split,
    pub(super) lattice: &'a Lattice,
    /// Pixels of the destination, of all samples.
    pub(super) pixels: usize,
    /// Steps of [`product`].
    pub(super) steps: usize,
    pub(super) src_shape: &'a BlockedShape,
    pub(super) src: &'a [f32],
    /// Rows follow each other without a gap in every tensor.
    pub(super) flat: bool,
    pub(super) output: Output<'a>,
}

impl Job<'_> {
    /// Elements of a pair of left tiles.
    pub(super) fn pair_len(&self) -> usize {
        2 * self.steps * self.split.parts() * TILE
    }
}

/// The memory of a thread.
pub(super) struct Memory {
    /// The split pixels of a task.
    left: Scratch<u16>,
    /// The sums that are computed, and those that are finished.
    sums: Scratch<f32>,
    pieces: Vec<Piece>,
    /// The first piece of each pair, and the number of pieces.
    starts: Vec<usize>,
}

impl Memory {
    pub(super) fn new(left: usize) -> Self {
        Self {
            left: Scratch::new(left),
            sums: Scratch::new(2 * SUMS),
            pieces: Vec::new(),
            starts: Vec::new(),
        }
    }
}

/// Consecutive pixels of one row of a sample (or of a sample without borders), within a pair of tiles.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The first pixel of the pair that it has.
    at: usize,
    pixels: usize,
    sample: usize,
    /// Row and column in the grid.
    place: [usize; 2],
}

/// Some pairs of tiles for some panels.
pub(super) struct Task<'a> {
    job: &'a Job<'a>,
    pairs: Range<usize>,
    panels: &'a [Panel],
    pieces: &'a [Piece],
    starts: &'a [usize],
    left: *mut u16,
    sums: *mut f32,
    /// The epilogue of a panel (by index) and a sample.
    finishes: Option<(usize, usize, [PanelFinish; 2])>,
}

/// What is left to do while the unit works: steps of a pair to split, and pieces of a product to finish.
struct Meanwhile {
    fill: Option<usize>,
    steps: Range<usize>,
    finish: Option<(usize, usize)>,
    parts: Range<usize>,
}

impl<'a> Task<'a> {
    /// A task with as much memory as it needs.
    pub(super) fn new(
        job: &'a Job<'a>,
        pairs: Range<usize>,
        panels: &'a [Panel],
        memory: &'a mut Memory,
    ) -> Self {
        let Memory { left, sums, pieces, starts } = memory;
        cut(job, pairs.clone(), pieces, starts);
        let (left, sums) = (left.pointer(), sums.pointer());
        Self { job, pairs, panels, pieces, starts, left, sums, finishes: None }
    }

    /// Computes the destination of all pairs for all panels.
    ///
    /// # Safety
    /// Within the scope of the job's unit; memory has room for the pairs, and no other task writes these panels of them.
    pub(super) unsafe fn run(mut self) {
        let Job { unit, split, pixels, steps, .. } = *self.job;
        let pairs = self.pairs.len();
        // SAFETY: the caller's contract, here and below.
        unsafe { self.fill(0, 0..steps) };
        let mut before = None;
        for panel in 0..self.panels.len() {
            for pair in 0..pairs {
                let rows = (pixels - (self.pairs.start + pair) * PAIR).min(PAIR).div_ceil(ROWS);
                let current = &self.panels[panel];
                let operands = Operands {
                    left: self.left.wrapping_add(pair * self.job.pair_len()),
                    right: self.job.conv.weights[current.weights[0]..].as_ptr().cast(),
                    steps,
                    split,
                    out: self.sums_of(panel * pairs + pair),
                };
                let mut rest = self.meanwhile(panel == 0 && pair + 1 < pairs, pair, before);
                let items = (rest.steps.len() + rest.parts.len()).div_ceil(steps.max(1));
                // SAFETY: as above; what is done meanwhile splits another pair and finishes other sums.
                unsafe {
                    product(unit, rows, current.blocks, &operands, &mut || self.advance(&mut rest, items));
                    self.advance(&mut rest, usize::MAX);
                }
                before = Some((panel, pair));
            }
        }
        let mut rest = self.meanwhile(false, 0, before);
        // SAFETY: as above.
        unsafe { self.advance(&mut rest, usize::MAX) };
    }

    fn sums_of(&self, product: usize) -> *mut f32 {
        self.sums.wrapping_add(product % 2 * SUMS)
    }

    fn meanwhile(&self, fill: bool, pair: usize, finish: Option<(usize, usize)>) -> Meanwhile {
        let parts = finish.map_or(0..0, |(panel, pair)| {
            let blocks = self.panels[panel].blocks;
            self.starts[pair] * blocks..self.starts[pair + 1] * blocks
        });
        let steps = if fill { 0..self.job.steps } else { 0..0 };
        Meanwhile { fill: fill.then_some(pair + 1), steps, finish, parts }
    }

    /// Does up to `items` of what is left.
    ///
    /// # Safety
    /// As [`Task::run`].
    unsafe fn advance(&mut self, rest: &mut Meanwhile, items: usize) {
        let fills = items.min(rest.steps.len());
        if let Some(pair) = rest.fill
            && fills > 0
        {
            let end = rest.steps.start + fills;
            // SAFETY: the caller's contract.
            unsafe { self.fill(pair, rest.steps.start..end) };
            rest.steps.start = end;
        }
        let Some((panel, pair)) = rest.finish else { return };
        for part in rest.parts.by_ref().take(items - fills) {
            let blocks = self.panels[panel].blocks;
            // SAFETY: the caller's contract.
            unsafe { self.finish(panel, pair, part / blocks, part % blocks) };
        }
    }

    /// Splits the source of some steps of a pair.
    unsafe fn fill(&self, pair: usize, steps: Range<usize>) {
        let pieces = &self.pieces[self.starts[pair]..self.starts[pair + 1]];
        let left = self.left.wrapping_add(pair * self.job.pair_len());
        // SAFETY: the caller's contract.
        match self.job.split {
            Split::Two => f32::dispatch(self.job.conv.isa, Fill::<2> { job: self.job, pieces, steps, left }),
            Split::Three => {
                f32::dispatch(self.job.conv.isa, Fill::<3> { job: self.job, pieces, steps, left })
            }
        }
    }

    /// Finishes the sums of a piece in one block of a panel.
    unsafe fn finish(&mut self, panel: usize, pair: usize, piece: usize, column: usize) {
        let job = self.job;
        let (shape, current) = (job.output.shape, &self.panels[panel]);
        let sums = self.sums_of(panel * self.pairs.len() + pair);
        let piece = self.pieces[piece];
        let [y, x] = piece.place;
        let finish = match &self.finishes {
            Some((p, sample, finishes)) if (*p, *sample) == (panel, piece.sample) => &finishes[column],
            _ => {
                let new = (panel, piece.sample, finishes(job, piece.sample, current));
                &self.finishes.insert(new).2[column]
            }
        };
        let tile = Tile {
            src: 0,
            dst: 0,
            residual: job.output.residual.map_or(0, |(shape, _)| shape.at(y, x)),
            bits: y * shape.size[1] + x,
            pixels: piece.pixels,
            rows: 1,
        };
        let plane = job.output.plane(piece.sample, current.block + column);
        let sums = Sums {
            finish,
            tile: &tile,
            blocks: 1,
            values: sums.wrapping_add((column * PAIR + piece.at) * BLOCK),
            dst: plane.wrapping_add(shape.at(y, x)),
            dst_steps: [0, 0, BLOCK],
        };
        // SAFETY: the caller's contract; each row begins in one task.
        unsafe {
            if x == 0 && shape.pad != [0, 0] {
                shape.clear_rows(plane, y, y + 1);
            }
            (finish.run)(&sums);
        }
    }
}

/// Cuts the pixels of pairs into pieces.
fn cut(job: &Job<'_>, pairs: Range<usize>, pieces: &mut Vec<Piece>, starts: &mut Vec<usize>) {
    let (width, points) = (job.lattice.grid[1], job.lattice.points());
    pieces.clear();
    starts.clear();
    for pair in pairs {
        starts.push(pieces.len());
        let (mut pixel, end) = (pair * PAIR, job.pixels.min((pair + 1) * PAIR));
        while pixel < end {
            let (sample, point) = (pixel / points, pixel % points);
            let place = [point / width, point % width];
            let room = if job.flat { points - point } else { width - place[1] };
            let pixels = room.min(end - pixel);
            pieces.push(Piece { at: pixel % PAIR, pixels, sample, place });
            pixel += pixels;
        }
    }
    starts.push(pieces.len());
}

fn finishes(job: &Job<'_>, sample: usize, panel: &Panel) -> [PanelFinish; 2] {
    [0, panel.blocks - 1].map(|column| {
        let finish = job.output.finish(sample, panel.block + column);
        PanelFinish {
            blocks: [finish; MAX_BLOCKS],
            residual_steps: [0, BLOCK],
            bits_steps: [0, 1],
            run: choose(job.conv.isa, &finish, finish.lanes != u16::MAX),
        }
    })
}

/// Splits source pixels into left operands of [`product`], `P` parts each.
struct Fill<'a, const P: usize> {
    job: &'a Job<'a>,
    /// Those of a pair.
    pieces: &'a [Piece],
    steps: Range<usize>,
    left: *mut u16,
}

impl<const P: usize> Kernel<f32> for Fill<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Job { conv, lattice, src_shape, src, steps, .. } = self.job;
        for step in self.steps {
            // An odd number of blocks: the weights of the missing one are zeros, whatever stands beside them.
            let blocks = [0, 1].map(|block| (step * BLOCKS + block).min(conv.depth - 1));
            for piece in self.pieces {
                let [y, x] = [0, 1].map(|axis| piece.place[axis] * lattice.src_stride[axis]);
                let pixel = lattice.src_stride[1] * BLOCK;
                let [low, high] = blocks.map(|block| {
                    let start = (piece.sample * src_shape.blocks() + block) * src_shape.plane();
                    &src[start + src_shape.at(y, x)..][..(piece.pixels - 1) * pixel + BLOCK]
                });
                for (at, (low, high)) in low.chunks(pixel).zip(high.chunks(pixel)).enumerate() {
                    let row = piece.at + at;
                    let tile = (row / ROWS * steps + step) * P * TILE;
                    let out = self.left.wrapping_add(tile + row % ROWS * DEPTH);
                    if let (Some(low), Some(high)) = (low.first_chunk(), high.first_chunk()) {
                        // SAFETY: the caller provides room for the pair.
                        unsafe { split_row::<P>(low, high, out) };
                    }
                }
            }
        }
    }
}
