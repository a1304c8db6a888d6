//! One task of a convolution on the matrix unit.
//!
//! The unit works beside the rest of the processor. While it multiplies a pair of tiles, the sums of the pair before are
//! finished, and, for the first panel, the pixels of the next pair split.

use std::ops::Range;

use super::lines::{Extent, Lines, Stroke};
use super::{BLOCKS, PAIR};
use crate::blocked::conv::BlockedConv;
use crate::blocked::finish::PanelFinish;
use crate::blocked::layout::{BLOCK, BlockedShape};
use crate::blocked::output::Output;
use crate::blocked::pack::Panel;
use crate::conv::lattice::Lattice;
use crate::float::Float;
use crate::matrix::{DEPTH, Operands, ROWS, Split, Unit, product, split_row};
use crate::parallel::Scratch;
use crate::simd::{Kernel, Simd};

/// Floats of the sums of two row tiles and two column tiles.
const SUMS: usize = PAIR * PAIR;

/// What tasks share.
pub(super) struct Job<'a> {
    conv: &'a BlockedConv,
    unit: Unit,
    split: Split,
    lattices: Vec<&'a Lattice>,
    pub(super) extent: Extent,
    /// Rows follow each other without a gap in every tensor.
    flat: bool,
    src_shape: &'a BlockedShape,
    src: &'a [f32],
    output: Output<'a>,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        conv: &'a BlockedConv,
        unit: Unit,
        split: Split,
        (src_shape, src): (&'a BlockedShape, &'a [f32]),
        output: Output<'a>,
    ) -> Self {
        let lattices: Vec<_> = conv.classes.iter().map(|class| &class.lattice).collect();
        let pads = [src_shape.pad, output.shape.pad, output.residual.map_or([0; 2], |(shape, _)| shape.pad)];
        let flat = matches!(lattices.as_slice(), [one] if one.is_pointwise()) && pads == [[0; 2]; 3];
        let extent = Extent::of(&lattices);
        Self { conv, unit, split, lattices, extent, flat, src_shape, src, output }
    }

    /// Steps per tap.
    fn chunks(&self) -> usize {
        self.conv.depth.div_ceil(BLOCKS)
    }

    /// Bytes of a line when it is split.
    pub(super) fn line_bytes(&self) -> usize {
        self.extent.pitch() * self.chunks() * self.split.parts() * DEPTH * size_of::<u16>()
    }

    /// Elements that so many lines take when they are split, and what is read behind them.
    pub(super) fn left_len(&self, lines: usize) -> usize {
        // Lines of another sample have rows above and below of their own.
        let samples = lines.div_ceil(self.extent.grid[0].max(1)) + 1;
        let positions = lines * self.extent.pitch() + samples * self.extent.positions(0);
        spread(positions) * self.chunks() * self.split.parts() * DEPTH
    }
}

/// Positions between the parts of a pixel: those of a task, what a pair reads behind the last, and no multiple of a power of
/// two, so that parts do not compete for places in the first-level cache.
fn spread(positions: usize) -> usize {
    (positions + PAIR) | 1
}

/// The memory of a thread.
pub(super) struct Memory {
    /// The split pixels of a task, `[chunk][part][position][32]`.
    left: Scratch<u16>,
    /// The sums that are computed, and those that are finished.
    sums: Scratch<f32>,
    lines: Lines,
    /// Distance to the left operands of each step, for every class.
    offsets: Vec<Vec<usize>>,
}

impl Memory {
    pub(super) fn new(left: usize) -> Self {
        Self {
            left: Scratch::new(left),
            sums: Scratch::new(2 * SUMS),
            lines: Lines::default(),
            offsets: Vec::new(),
        }
    }
}

/// Some lines of the grid for some panels.
pub(super) struct Task<'a> {
    job: &'a Job<'a>,
    panels: &'a [Panel],
    lines: &'a Lines,
    offsets: &'a [Vec<usize>],
    /// Positions between parts.
    spread: usize,
    left: *mut u16,
    sums: *mut f32,
    /// The epilogue of a panel, a sample and a class.
    finishes: Option<([usize; 3], [PanelFinish; 2])>,
}

/// What is left to do while the unit works: chunks of a group to split, and pieces of a product to finish.
struct Meanwhile {
    fill: Option<usize>,
    chunks: Range<usize>,
    finish: Option<(usize, usize)>,
    parts: Range<usize>,
}

impl<'a> Task<'a> {
    /// A task with as much memory as it needs.
    pub(super) fn new(
        job: &'a Job<'a>,
        lines: Range<usize>,
        panels: &'a [Panel],
        memory: &'a mut Memory,
    ) -> Self {
        let Memory { left, sums, lines: cut, offsets } = memory;
        cut.cut(&job.extent, &job.lattices, job.src_shape, job.flat, lines);
        let spread = spread(cut.positions);
        let chunk = job.split.parts() * spread;
        let of_tap = |tap: &[isize; 2]| {
            let distance = job.extent.distance(*tap);
            (0..job.chunks()).map(move |at| (at * chunk + distance) * DEPTH)
        };
        offsets.clear();
        offsets.extend(job.lattices.iter().map(|lattice| lattice.taps.iter().flat_map(of_tap).collect()));
        let (left, sums) = (left.pointer(), sums.pointer());
        Self { job, panels, lines: cut, offsets, spread, left, sums, finishes: None }
    }

    /// Computes the destination of all lines for all panels.
    ///
    /// # Safety
    /// Within the scope of the job's unit; memory has room for the lines, and no other task writes these panels of them.
    pub(super) unsafe fn run(mut self) {
        let job = self.job;
        let (lines, count) = (self.lines, self.lines.pairs.len());
        let groups = lines.stroke_starts.len() - 1;
        if groups > 0 {
            // SAFETY: the caller's contract, here and below.
            unsafe { self.fill(0, 0..job.chunks()) };
        }
        let mut before = None;
        for panel in 0..self.panels.len() {
            for (index, pair) in lines.pairs.iter().enumerate() {
                let current = &self.panels[panel];
                let offsets = &self.offsets[pair.class];
                let operands = Operands {
                    left: self.left.wrapping_add(pair.at * DEPTH),
                    offsets,
                    part: self.spread * DEPTH,
                    right: job.conv.weights[current.weights[pair.class]..].as_ptr().cast(),
                    split: job.split,
                    out: self.sums_of(panel * count + index),
                };
                // Groups are the pairs of the first class, which come first, if there is more than one.
                let fill = (panel == 0 && index + 1 < groups).then_some(index + 1);
                let mut rest = self.meanwhile(fill, before);
                let items = (rest.chunks.len() + rest.parts.len()).div_ceil(offsets.len().max(1));
                // SAFETY: as above; what is done meanwhile splits another pair and finishes other sums.
                unsafe {
                    let mut meanwhile = || self.advance(&mut rest, items);
                    product(job.unit, pair.tiles, current.blocks, &operands, &mut meanwhile);
                    self.advance(&mut rest, usize::MAX);
                }
                before = Some((panel, index));
            }
        }
        let mut rest = self.meanwhile(None, before);
        // SAFETY: as above.
        unsafe { self.advance(&mut rest, usize::MAX) };
    }

    fn sums_of(&self, product: usize) -> *mut f32 {
        self.sums.wrapping_add(product % 2 * SUMS)
    }

    fn meanwhile(&self, fill: Option<usize>, finish: Option<(usize, usize)>) -> Meanwhile {
        let parts = finish.map_or(0..0, |(panel, pair)| {
            let (blocks, starts) = (self.panels[panel].blocks, &self.lines.piece_starts);
            starts[pair] * blocks..starts[pair + 1] * blocks
        });
        let chunks = if fill.is_some() { 0..self.job.chunks() } else { 0..0 };
        Meanwhile { fill, chunks, finish, parts }
    }

    /// Does up to `items` of what is left.
    ///
    /// # Safety
    /// As [`Task::run`].
    unsafe fn advance(&mut self, rest: &mut Meanwhile, items: usize) {
        let fills = items.min(rest.chunks.len());
        if let Some(group) = rest.fill
            && fills > 0
        {
            let end = rest.chunks.start + fills;
            // SAFETY: the caller's contract.
            unsafe { self.fill(group, rest.chunks.start..end) };
            rest.chunks.start = end;
        }
        let Some((panel, pair)) = rest.finish else { return };
        for part in rest.parts.by_ref().take(items - fills) {
            let blocks = self.panels[panel].blocks;
            // SAFETY: the caller's contract.
            unsafe { self.finish(panel, pair, part / blocks, part % blocks) };
        }
    }

    /// Splits some chunks of the channels of a group.
    unsafe fn fill(&self, group: usize, chunks: Range<usize>) {
        let starts = &self.lines.stroke_starts;
        let strokes = &self.lines.strokes[starts[group]..starts[group + 1]];
        let (job, left, spread) = (self.job, self.left, self.spread);
        match job.split {
            Split::Two => f32::dispatch(job.conv.isa, Fill::<2> { job, strokes, chunks, spread, left }),
            Split::Three => f32::dispatch(job.conv.isa, Fill::<3> { job, strokes, chunks, spread, left }),
        }
    }

    /// Finishes the sums of a piece in one block of a panel.
    unsafe fn finish(&mut self, panel: usize, index: usize, piece: usize, column: usize) {
        let job = self.job;
        let (shape, current) = (job.output.shape, &self.panels[panel]);
        let sums = self.sums_of(panel * self.lines.pairs.len() + index);
        let (class, piece) = (self.lines.pairs[index].class, self.lines.pieces[piece]);
        let [y, x] = piece.place;
        let key = [panel, piece.sample, class];
        let finish = match &self.finishes {
            Some((of, finishes)) if *of == key => &finishes[column],
            _ => &self.finishes.insert((key, finishes(job, piece.sample, current, class))).1[column],
        };
        let plane = job.output.plane(piece.sample, current.block + column);
        let values = sums.wrapping_add((column * PAIR + piece.at) * BLOCK);
        // SAFETY: the caller's contract; each row of the destination begins in one piece.
        unsafe {
            if x == 0 && shape.pad != [0, 0] {
                shape.clear_rows(plane, y, y + 1);
            }
            job.output.finish_row(finish, plane, piece.place, piece.pixels, values);
        }
    }
}

fn finishes(job: &Job<'_>, sample: usize, panel: &Panel, class: usize) -> [PanelFinish; 2] {
    let step = job.lattices[class].dst_stride[1];
    [0, panel.blocks - 1].map(|column| {
        PanelFinish::of_row(job.conv.isa, job.output.finish(sample, panel.block + column), step)
    })
}

/// Splits source pixels into left operands of [`product`], `P` parts each.
struct Fill<'a, const P: usize> {
    job: &'a Job<'a>,
    strokes: &'a [Stroke],
    chunks: Range<usize>,
    spread: usize,
    left: *mut u16,
}

impl<const P: usize> Kernel<f32> for Fill<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Job { conv, extent, src_shape, src, .. } = self.job;
        let step = extent.stride[1] * BLOCK;
        for chunk in self.chunks {
            // An odd number of blocks: the weights of the missing one are zeros, whatever stands beside them.
            let blocks = [0, 1].map(|block| (chunk * BLOCKS + block).min(conv.depth - 1));
            for stroke in self.strokes {
                let [low, high] = blocks.map(|block| {
                    &src[stroke.offset + block * src_shape.plane()..][..(stroke.pixels - 1) * step + BLOCK]
                });
                let out = self.left.wrapping_add((chunk * P * self.spread + stroke.at) * DEPTH);
                for (at, (low, high)) in low.chunks(step).zip(high.chunks(step)).enumerate() {
                    if let (Some(low), Some(high)) = (low.first_chunk::<ROWS>(), high.first_chunk()) {
                        let out = out.wrapping_add(at * DEPTH);
                        // SAFETY: the caller provides room for the task's positions.
                        unsafe { split_row::<P>(low, high, out, self.spread * DEPTH) };
                    }
                }
            }
        }
    }
}
