//! Runs Winograd convolutions: transforms the source, multiplies at each point, and transforms the sums back.

use std::ops::Range;

use super::super::conv::BlockedConv;
use super::super::epilogue::BlockedEpilogue;
use super::super::finish::PanelFinish;
use super::super::layout::{BLOCK, BlockedShape};
use super::super::output::Output;
use super::super::pack::Panel;
use super::super::tile::{Call, Entry, MAX_BLOCKS, most_blocks, run, sizes};
use super::super::tiling::{Tile, split};
use super::super::work::Work;
use super::Winograd;
use super::filters::Raw;
use super::transform::{InputTransform, OutputTransform};
use crate::error::Result;
use crate::float::Float;
use crate::parallel::{Scratch, run_tasks};

/// Fewest tiles that a task should have: each task reads all filters, which is only worth it for many tiles.
const LEAST_TILES: usize = 56;

impl BlockedConv {
    /// [`BlockedConv::run`]; the arguments are checked.
    pub(in super::super) fn run_winograd(
        &self,
        winograd: Winograd,
        src_shape: &BlockedShape,
        src: &[f32],
        epilogue: BlockedEpilogue<'_>,
        dst_shape: &BlockedShape,
        dst: &mut [f32],
    ) -> Result<()> {
        let output = Output::new(epilogue, dst_shape, dst);
        let grid = self.classes[0].lattice.grid;
        let pass = Pass { conv: self, winograd, src_shape, src, output, grid };
        let Some(lent) = &self.lent else {
            pass.by_strips(&self.weights);
            return Ok(());
        };
        let len = self.src.0 * self.dst.0 * 9;
        let packed = match lent.packed.get() {
            Some(packed) => packed,
            // With few tiles, the transformed source takes less memory than the transformed filters: keep the former in
            // memory, and transform the filters of one panel at a time.
            None if src_shape.batch * grid[0] * grid[1] <= self.dst.0 => {
                return lent.read(len, |weight| pass.by_panels(weight));
            }
            None => {
                // If another thread packed at the same time, its result is kept and this one is dropped.
                let made = lent.read(len, |weight| self.pack_filters(winograd, weight))?;
                lent.packed.get_or_init(|| made)
            }
        };
        pass.by_strips(packed);
        Ok(())
    }
}

/// Memory for values at all points of all tiles, `[point][block][tile][16]`.
#[derive(Clone, Copy)]
struct Points {
    start: *mut f32,
    /// Floats from one point to the next, and from one block to the next.
    steps: [usize; 2],
}

// SAFETY: tasks write disjoint parts of the memory.
unsafe impl Send for Points {}
// SAFETY: as above.
unsafe impl Sync for Points {}

impl Points {
    /// For `tiles` tiles of `blocks` blocks of channels.
    fn new(start: *mut f32, blocks: usize, tiles: usize) -> Self {
        Self { start, steps: [Self::step(blocks, tiles), tiles * BLOCK] }
    }

    /// Floats from one point to the next. This is an odd number of cache lines, so that the points of a tile, which are
    /// written one after the other, are not mapped to the same lines of the cache.
    fn step(blocks: usize, tiles: usize) -> usize {
        ((blocks * tiles) | 1) * BLOCK
    }

    /// The values of `block` from `tile` on, at the first point.
    fn at(self, block: usize, tile: usize) -> *mut f32 {
        self.start.wrapping_add(block * self.steps[1] + tile * BLOCK)
    }
}

/// Scratch of a task for one panel.
struct Sums {
    /// The sums over source channels, `[point][block][tile][16]`.
    points: Scratch<f32>,
    /// The destination pixels of a row of tiles of one block, `[row][pixel][16]`.
    row: Scratch<f32>,
}

/// One run of a Winograd convolution.
struct Pass<'a> {
    conv: &'a BlockedConv,
    winograd: Winograd,
    src_shape: &'a BlockedShape,
    src: &'a [f32],
    output: Output<'a>,
    /// Number of rows and columns of tiles.
    grid: [usize; 2],
}

impl Pass<'_> {
    /// Each task transforms the source of some rows of tiles and computes all panels for them. `filters` are the
    /// transformed filters.
    fn by_strips(&self, filters: &[f32]) {
        let (depth, columns, points) = (self.conv.depth, self.grid[1], self.winograd.points());
        let row_bytes = columns * points * depth * BLOCK * size_of::<f32>();
        let work = Work::strips(self.src_shape.batch, self.grid[0], row_bytes, LEAST_TILES.div_ceil(columns));
        let most = work.longest_strip() * columns;
        run_tasks(
            work.tasks(),
            || (Scratch::new(points * Points::step(depth, most)), self.sums(most)),
            |(source, sums), task| {
                let source = Points::new(source.pointer(), depth, most);
                let units = work.task(task).0;
                for (sample, rows, first) in self.pieces(&work, &units) {
                    for block in 0..depth {
                        self.transform(sample, rows.clone(), block, source.at(block, first), source.steps[0]);
                    }
                }
                for panel in &self.conv.panels {
                    let filters = filters[panel.weights[0]..][..self.filters_len(panel.blocks)].as_ptr();
                    self.panel(panel, filters, source, (&work, units.clone()), sums, most);
                }
            },
        );
    }

    /// First the whole source is transformed. Then each task transforms the filters of a panel and computes the panel,
    /// for all rows of tiles or some of them.
    fn by_panels(&self, weight: Raw<'_>) {
        let (depth, columns, points) = (self.conv.depth, self.grid[1], self.winograd.points());
        let work = Work::panels(self.src_shape.batch, self.grid[0], self.conv.panels.len());
        let tiles = self.src_shape.batch * self.grid[0] * columns;
        let mut source = Scratch::new(points * Points::step(depth, tiles));
        let source = Points::new(source.pointer(), depth, tiles);
        run_tasks(
            self.src_shape.batch * depth,
            || (),
            |(), task| {
                let (sample, block) = (task / depth, task % depth);
                let out = source.at(block, sample * self.grid[0] * columns);
                self.transform(sample, 0..self.grid[0], block, out, source.steps[0]);
            },
        );
        let most = work.longest_strip() * columns;
        run_tasks(
            work.tasks(),
            || (Scratch::new(self.filters_len(most_blocks(self.conv.isa, self.conv.mode))), self.sums(most)),
            |(filters, sums), task| {
                let (units, panels) = work.task(task);
                for panel in &self.conv.panels[panels] {
                    let out = filters.pointer();
                    f32::dispatch(self.conv.isa, self.conv.filters(self.winograd, weight, panel, out));
                    let source = Points { start: source.at(0, units.start * columns), ..source };
                    self.panel(panel, out.cast_const(), source, (&work, units.clone()), sums, most);
                }
            },
        );
    }

    /// Number of floats in the transformed filters of a panel of `blocks` blocks.
    fn filters_len(&self, blocks: usize) -> usize {
        self.winograd.points() * self.conv.src.0 * blocks * BLOCK
    }

    /// Scratch for up to `most` tiles.
    fn sums(&self, most: usize) -> Sums {
        let outputs = self.winograd.outputs;
        Sums {
            points: Scratch::new(self.winograd.points() * Points::step(MAX_BLOCKS, most)),
            row: Scratch::new(outputs * self.grid[1] * outputs * BLOCK),
        }
    }

    /// The samples that a range of rows of tiles belongs to: each sample, with its rows and the number of its first
    /// tile. Tiles are numbered consecutively through all samples of the range.
    fn pieces(
        &self,
        work: &Work,
        units: &Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
        let (mut first, columns) = (0, self.grid[1]);
        work.samples(units.clone()).map(move |(sample, rows)| {
            first += rows.len() * columns;
            (sample, rows.clone(), first - rows.len() * columns)
        })
    }

    /// Computes Bᵀ d B for some rows of tiles of a source block.
    fn transform(&self, sample: usize, rows: Range<usize>, block: usize, out: *mut f32, point_step: usize) {
        let plane = (sample * self.src_shape.blocks() + block) * self.src_shape.plane();
        let transform = InputTransform {
            outputs: self.winograd.outputs,
            origin: self.winograd.origin,
            shape: self.src_shape,
            plane: &self.src[plane..][..self.src_shape.plane()],
            rows,
            columns: self.grid[1],
            out,
            point_step,
        };
        f32::dispatch(self.conv.isa, transform);
    }

    /// Computes some rows of tiles of a panel, from the transformed source to the destination.
    fn panel(
        &self,
        panel: &Panel,
        filters: *const f32,
        source: Points,
        (work, units): (&Work, Range<usize>),
        Sums { points, row }: &mut Sums,
        most: usize,
    ) {
        let sums = Points::new(points.pointer(), MAX_BLOCKS, most);
        self.products(panel, units.len() * self.grid[1], filters, source, sums);
        for (sample, rows, first) in self.pieces(work, &units) {
            for at in 0..panel.blocks {
                let place = (sample, panel.block + at, rows.clone());
                self.finish(place, sums.at(at, first), sums.steps[0], row.pointer());
            }
        }
    }

    /// Computes the pointwise convolutions of one panel at all points.
    fn products(&self, panel: &Panel, tiles: usize, filters: *const f32, source: Points, sums: Points) {
        let conv = self.conv;
        let (class, lanes) = (&conv.classes[0], panel.blocks * BLOCK);
        let entries: Vec<Entry> = class
            .steps
            .iter()
            .map(|step| Entry { offset: (step.block * source.steps[1]) as isize, count: step.count })
            .collect();
        let sizes = sizes(conv.isa, conv.mode, panel.blocks);
        let list: Vec<Tile> = split(tiles, sizes[0])
            .map(|(start, pixels)| {
                let at = start * BLOCK;
                Tile { src: at, dst: at, residual: 0, bits: 0, pixels, rows: 1 }
            })
            .collect();
        let mut kinds: Vec<usize> = list.iter().map(|tile| tile.pixels).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for point in 0..self.winograd.points() {
            for (chain, range) in class.chains.iter().enumerate() {
                let row = point * conv.src.0 + class.steps[range.start].row;
                let call = Call {
                    tiles: &list,
                    entries: &entries[range.clone()],
                    weights: filters.wrapping_add(row * lanes),
                    src: source.start.wrapping_add(point * source.steps[0]),
                    src_row: 0,
                    dst: sums.start.wrapping_add(point * sums.steps[0]),
                    dst_steps: [sums.steps[1], 0, BLOCK],
                    accumulate: chain > 0,
                    finish: None,
                    sums: sums.start,
                };
                for &pixels in &kinds {
                    // SAFETY: there is room for all tiles at every point and block.
                    unsafe { run(conv.isa, conv.mode, panel.blocks, 1, pixels, &call) };
                }
            }
        }
    }

    /// Transforms the sums of some rows of tiles of a block to destination pixels, applies the epilogue and stores
    /// them.
    fn finish(
        &self,
        (sample, block, rows): (usize, usize, Range<usize>),
        sums: *const f32,
        point_step: usize,
        row: *mut f32,
    ) {
        let (shape, outputs, columns) = (self.output.shape, self.winograd.outputs, self.grid[1]);
        let finish = PanelFinish::of_row(self.conv.isa, self.output.finish(sample, block), 1);
        let plane = self.output.plane(sample, block);
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
            f32::dispatch(self.conv.isa, transform);
            for i in 0..outputs.min(shape.size[0] - tile_row * outputs) {
                let y = tile_row * outputs + i;
                let values = row.wrapping_add(i * columns * outputs * BLOCK);
                // SAFETY: as above; `row` holds whole rows of tiles.
                unsafe { self.output.finish_row(&finish, plane, [y, 0], shape.size[1], values) };
            }
        }
    }
}
