//! One run of a blocked convolution: what its tasks share, and how a task sums a chain.

use std::ops::Range;

use super::conv::BlockedConv;
use super::epilogue::BlockedEpilogue;
use super::finish::{Finish, PanelFinish, choose};
use super::layout::{BLOCK, BlockedShape};
use super::output::Output;
use super::pack::{Class, Panel};
use super::tile::{Call, Entry, MAX_BLOCKS, run, sizes};
use super::tiling::{Source, Tiling, Units};
use crate::conv::lattice::Lattice;

/// Everything that the tasks of a run share.
pub(super) struct Job<'a> {
    conv: &'a BlockedConv,
    units: Units,
    pub(super) units_per_sample: usize,
    /// How planes are cut into register tiles, for each number of blocks per panel and each class.
    tilings: [Vec<Tiling>; MAX_BLOCKS],
    /// For each class, the number of floats between grid rows in the source.
    src_rows: Vec<usize>,
    /// For each class, where the source values of each step are.
    entries: Vec<Vec<Entry>>,
    output: Output<'a>,
}

impl<'a> Job<'a> {
    /// `entries` tell where the source values of each class and step are, `source` where those of a lattice's grid
    /// points are; `borderless` is whether no tensor has a border.
    pub(super) fn new(
        conv: &'a BlockedConv,
        entries: Vec<Vec<Entry>>,
        epilogue: BlockedEpilogue<'a>,
        dst_shape: &'a BlockedShape,
        dst: &'a mut [f32],
        borderless: bool,
        source: impl Fn(&Lattice) -> Source,
    ) -> Self {
        let lattices: Vec<_> = conv.classes.iter().map(|class| &class.lattice).collect();
        let units = Units::choose(&lattices, borderless);
        let residual = epilogue.residual.map(|(shape, _)| shape);
        let tilings = std::array::from_fn(|index| {
            if !conv.panels.iter().any(|panel| panel.blocks == index + 1) {
                return Vec::new();
            }
            let sizes = sizes(conv.isa, conv.mode, index + 1);
            let tiling =
                |lattice: &&Lattice| Tiling::new(lattice, units, sizes, source(lattice), dst_shape, residual);
            lattices.iter().map(tiling).collect()
        });
        Self {
            conv,
            units,
            units_per_sample: lattices.iter().map(|lattice| units.count(lattice.grid)).max().unwrap_or(0),
            tilings,
            src_rows: lattices.iter().map(|lattice| source(lattice).row_step).collect(),
            entries,
            output: Output::new(epilogue, dst_shape, dst),
        }
    }

    /// The start of a panel's first destination block.
    pub(super) fn destination(&self, panel: &Panel, sample: usize) -> *mut f32 {
        self.output.plane(sample, panel.block)
    }

    /// Sets the border beside some units of a sample to zero, for some panels.
    pub(super) fn clear_borders(&self, sample: usize, units: Range<usize>, panels: Range<usize>) {
        let Units::Rows(rows) = self.units else { return };
        let shape = self.output.shape;
        let step = self.conv.classes.first().map_or(1, |class| class.lattice.dst_stride[0]) * rows;
        let [first, end] = [units.start, units.end].map(|unit| (unit * step).min(shape.size[0]));
        for panel in &self.conv.panels[panels] {
            for block in panel.block..panel.block + panel.blocks {
                // SAFETY: the length is checked; no other task has these rows of these blocks.
                unsafe { shape.clear_rows(self.output.plane(sample, block), first, end) };
            }
        }
    }

    /// Sums the products of one chain for some units of a sample, and after the last chain applies the epilogue.
    ///
    /// # Safety
    /// `src` is the first source block of the panel's group in the sample, and all taps are readable from there. `dst`
    /// is the first destination block of the panel. `sums` has room for a tile. No other task writes these units of
    /// this panel.
    pub(super) unsafe fn chain(
        &self,
        class: usize,
        chain: usize,
        panel: &Panel,
        sample: usize,
        units: Range<usize>,
        src: *const f32,
        dst: *mut f32,
        sums: *mut f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            self.chain_in(class, chain, panel, sample, units, src, dst, self.output.shape.plane(), sums);
        };
    }

    /// As [`Job::chain`], with `dst_block` floats between the blocks of the destination.
    ///
    /// # Safety
    /// As [`Job::chain`].
    pub(super) unsafe fn chain_in(
        &self,
        class: usize,
        chain: usize,
        panel: &Panel,
        sample: usize,
        units: Range<usize>,
        src: *const f32,
        dst: *mut f32,
        dst_block: usize,
        sums: *mut f32,
    ) {
        let conv = self.conv;
        let weights = panel.weights[class];
        let Class { lattice, steps, chains } = &conv.classes[class];
        let tiling = &self.tilings[panel.blocks - 1][class];
        let tiles = tiling.of(units.start, units.end);
        let range = chains[chain].clone();
        let row = steps.get(range.start).map_or(0, |step| step.row);
        let shape = self.output.shape;
        let last = chain + 1 == chains.len() && !self.output.plain;
        let finish = last.then(|| self.finish(panel, sample, lattice));
        let call = Call {
            tiles,
            entries: &self.entries[class][range],
            weights: conv.weights[weights + row * panel.blocks * BLOCK..].as_ptr(),
            src,
            src_row: self.src_rows[class],
            dst,
            dst_steps: [dst_block, lattice.dst_stride[0] * shape.pitch(), lattice.dst_stride[1] * BLOCK],
            accumulate: chain > 0,
            finish: finish.as_ref(),
            sums,
        };
        for &(rows, pixels) in &tiling.kinds {
            // SAFETY: the caller's contract; tilings are made for the panel's blocks.
            unsafe { run(conv.isa, conv.mode, panel.blocks, rows, pixels, &call) };
        }
    }

    /// The epilogue of a panel for a sample.
    fn finish(&self, panel: &Panel, sample: usize, lattice: &Lattice) -> PanelFinish {
        let shape = self.output.shape;
        let blocks: [Finish; MAX_BLOCKS] =
            std::array::from_fn(|at| self.output.finish(sample, panel.block + at.min(panel.blocks - 1)));
        let [step_h, step_w] = lattice.dst_stride;
        let tail = blocks.iter().any(|block| block.lanes != u16::MAX);
        PanelFinish {
            run: choose(self.conv.isa, &blocks[0], tail),
            blocks,
            residual_steps: self
                .output
                .residual
                .map_or([0; 2], |(shape, _)| [step_h * shape.pitch(), step_w * BLOCK]),
            bits_steps: [step_h * shape.size[1], step_w],
        }
    }
}
