//! One task of a convolution on AMX, the processor's matrix unit.
//!
//! AMX works in parallel with the rest of the core. While it multiplies a pair of row tiles, the vector units finish
//! the sums of the previous pair (the epilogue) and, during the first panel, split the pixels of the next pair.

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

/// Number of floats in the sums of two row tiles and two column tiles.
const SUMS: usize = PAIR * PAIR;

/// What the tasks of a run share.
pub(super) struct Job<'a> {
    conv: &'a BlockedConv,
    unit: Unit,
    split: Split,
    lattices: Vec<&'a Lattice>,
    pub(super) extent: Extent,
    /// Whether rows follow each other without a gap in every tensor, so that they can be treated as one long row.
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

    /// Number of steps per tap: chunks of 32 source channels.
    fn chunks(&self) -> usize {
        self.conv.depth.div_ceil(BLOCKS)
    }

    /// Bytes that a line takes when it is split into parts.
    pub(super) fn line_bytes(&self) -> usize {
        self.extent.pitch() * self.chunks() * self.split.parts() * DEPTH * size_of::<u16>()
    }

    /// Number of elements that `lines` lines take when they are split into parts, including those beyond the last line
    /// that are read but not used.
    pub(super) fn left_len(&self, lines: usize) -> usize {
        // Each sample needs additional rows above and below its lines.
        let samples = lines.div_ceil(self.extent.grid[0].max(1)) + 1;
        let positions = lines * self.extent.pitch() + samples * self.extent.positions(0);
        spread(positions) * self.chunks() * self.split.parts() * DEPTH
    }
}

/// Number of positions from one part of a pixel to the next: those of the task, and as many as a pair can read beyond
/// the last. It is odd, so that the parts of a pixel are not mapped to the same lines of the first-level cache.
fn spread(positions: usize) -> usize {
    (positions + PAIR) | 1
}

/// Memory that a thread reuses for all of its tasks.
pub(super) struct Memory {
    /// The source pixels of a task, split into parts: `[chunk][part][position][32]`.
    left: Scratch<u16>,
    /// Two buffers: the sums that are being computed, and those to which the epilogue is being applied.
    sums: Scratch<f32>,
    lines: Lines,
    /// For each residue class, the distance to the left operand of each step.
    offsets: Vec<Vec<usize>>,
}

impl Memory {
    /// With room for `left` elements of split pixels.
    pub(super) fn new(left: usize) -> Self {
        Self {
            left: Scratch::new(left),
            sums: Scratch::new(2 * SUMS),
            lines: Lines::default(),
            offsets: Vec::new(),
        }
    }
}

/// A task: some lines of the grid, for some panels.
pub(super) struct Task<'a> {
    job: &'a Job<'a>,
    panels: &'a [Panel],
    lines: &'a Lines,
    offsets: &'a [Vec<usize>],
    /// Number of positions from one part to the next.
    spread: usize,
    left: *mut u16,
    sums: *mut f32,
    /// The epilogues of the two blocks of a panel that were used last, with their panel, sample and class.
    finishes: Option<([usize; 3], [PanelFinish; 2])>,
}

/// The work that is still to be done while AMX multiplies.
struct Meanwhile {
    /// The group of strokes to split.
    fill: Option<usize>,
    /// Its chunks of channels that are not yet split.
    chunks: Range<usize>,
    /// Panel and pair whose sums are finished.
    finish: Option<(usize, usize)>,
    /// Those of its (piece, block) that are not yet finished.
    parts: Range<usize>,
}

impl<'a> Task<'a> {
    /// Prepares the task for `lines` of the grid; `memory` has room for them.
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
    /// Only within the scope of the job's unit. The memory has room for the lines, and no other task writes these
    /// panels of these lines.
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
                // If there is more than one group, the groups are the pairs of the first class, which come first.
                let fill = (panel == 0 && index + 1 < groups).then_some(index + 1);
                let mut rest = self.meanwhile(fill, before);
                let items = (rest.chunks.len() + rest.parts.len()).div_ceil(offsets.len().max(1));
                // SAFETY: as above. The work done meanwhile splits another pair and reads the other buffer of sums.
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

    /// The buffer for the sums of a product; products alternate between two buffers.
    fn sums_of(&self, product: usize) -> *mut f32 {
        self.sums.wrapping_add(product % 2 * SUMS)
    }

    /// The work to do while AMX multiplies: the group to split, and the panel and pair to finish.
    fn meanwhile(&self, fill: Option<usize>, finish: Option<(usize, usize)>) -> Meanwhile {
        let parts = finish.map_or(0..0, |(panel, pair)| {
            let (blocks, starts) = (self.panels[panel].blocks, &self.lines.piece_starts);
            starts[pair] * blocks..starts[pair + 1] * blocks
        });
        let chunks = if fill.is_some() { 0..self.job.chunks() } else { 0..0 };
        Meanwhile { fill, chunks, finish, parts }
    }

    /// Does up to `items` items of the remaining work.
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

    /// Splits some chunks of the channels of a group of strokes.
    unsafe fn fill(&self, group: usize, chunks: Range<usize>) {
        let starts = &self.lines.stroke_starts;
        let strokes = &self.lines.strokes[starts[group]..starts[group + 1]];
        let (job, left, spread) = (self.job, self.left, self.spread);
        match job.split {
            Split::Two => f32::dispatch(job.conv.isa, Fill::<2> { job, strokes, chunks, spread, left }),
            Split::Three => f32::dispatch(job.conv.isa, Fill::<3> { job, strokes, chunks, spread, left }),
        }
    }

    /// Applies the epilogue to the sums of a piece in one block of a panel, and stores them.
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
        // SAFETY: the caller's contract. Each row of the destination begins in exactly one piece, so that its border is
        // cleared only once.
        unsafe {
            if x == 0 && shape.pad != [0, 0] {
                shape.clear_rows(plane, y, y + 1);
            }
            job.output.finish_row(finish, plane, piece.place, piece.pixels, values);
        }
    }
}

/// The epilogues of the first and the last block of a panel (it has at most two).
fn finishes(job: &Job<'_>, sample: usize, panel: &Panel, class: usize) -> [PanelFinish; 2] {
    let step = job.lattices[class].dst_stride[1];
    [0, panel.blocks - 1].map(|column| {
        PanelFinish::of_row(job.conv.isa, job.output.finish(sample, panel.block + column), step)
    })
}

/// Splits source pixels into `P` parts each, as left operands of [`product`].
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
            // With an odd number of blocks, the last block is read twice; the weights for the second copy are zero.
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
