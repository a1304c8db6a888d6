//! How a convolution is shared among tasks.

use std::ops::Range;

/// Bytes of source that a task goes through once per panel: they should stay in the second-level cache.
const STRIP: usize = 512 * 1024;
/// Products that repay a task.
const TASK: usize = 500_000;

/// Tasks are pairs of a strip of consecutive units (of consecutive samples) and a group of panels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    units_per_sample: usize,
    units: usize,
    strips: usize,
    panels: usize,
    groups: usize,
}

impl Work {
    /// Shares `batch` samples of `units_per_sample` units, each `unit_bytes` of source, for `panels` panels;
    /// `products` is all that there is to compute.
    pub(super) fn new(
        batch: usize,
        units_per_sample: usize,
        unit_bytes: usize,
        panels: usize,
        products: usize,
    ) -> Self {
        let units = batch * units_per_sample;
        let threads = rayon::current_num_threads();
        let wanted = if threads == 1 { 1 } else { (6 * threads).min(products / TASK).max(1) };
        let mut strips = units.div_ceil((STRIP / unit_bytes.max(1)).max(1));
        if strips * panels < wanted {
            strips = wanted.div_ceil(panels.max(1));
        }
        if strips >= threads {
            strips = strips.next_multiple_of(threads);
        }
        let strips = strips.min(units);
        let groups = wanted.div_ceil(strips.max(1)).min(panels);
        Self { units_per_sample, units, strips, panels, groups }
    }

    /// Shares units in strips of no fewer than `least`, where there are as many, all panels together.
    pub(super) fn strips(batch: usize, units_per_sample: usize, unit_bytes: usize, least: usize) -> Self {
        let units = batch * units_per_sample;
        let threads = rayon::current_num_threads();
        let fit = units.div_ceil((2 * STRIP / unit_bytes.max(1)).max(1));
        let strips = fit.max(4 * threads).min(units / least.max(1)).max(threads).min(units);
        Self { units_per_sample, units, strips, panels: 1, groups: 1 }
    }

    /// Gives each panel to a task, or to several, each with some of the units, where there are fewer panels than threads ask for.
    pub(super) fn panels(batch: usize, units_per_sample: usize, panels: usize) -> Self {
        let units = batch * units_per_sample;
        let threads = rayon::current_num_threads();
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        let strips = wanted.div_ceil(panels.max(1)).min(units);
        Self { units_per_sample, units, strips, panels, groups: panels }
    }

    /// Shares the lines of grids of `batch` samples, each `line_bytes` of what a task prepares of them: for all panels, which
    /// are only shared where there are few lines.
    pub(super) fn lines(
        batch: usize,
        grid: [usize; 2],
        line_bytes: usize,
        panels: usize,
        products: usize,
    ) -> Self {
        /// Fewer pixels would read the weights too often.
        const LEAST: usize = 96;
        let units = batch * grid[0];
        let threads = rayon::current_num_threads();
        let wanted = if threads == 1 { 1 } else { (4 * threads).min(products / TASK).max(1) };
        let fit = units.div_ceil((STRIP / line_bytes.max(1)).max(1));
        let mut strips = fit.min(units / LEAST.div_ceil(grid[1].max(1)).max(1));
        strips = strips.max(wanted.min(units * grid[1] / (LEAST + LEAST / 2))).max(1);
        if strips >= threads {
            strips = strips.next_multiple_of(threads);
        }
        let strips = strips.min(units);
        let groups = wanted.div_ceil(2 * strips.max(1)).min(panels);
        Self { units_per_sample: grid[0], units, strips, panels, groups }
    }

    pub(super) fn tasks(&self) -> usize {
        self.strips * self.groups
    }

    /// Most units in a strip; at least one.
    pub(super) fn longest_strip(&self) -> usize {
        self.units.div_ceil(self.strips.max(1)).max(1)
    }

    /// Most units of a sample in a strip; at least one.
    pub(super) fn longest(&self) -> usize {
        self.longest_strip().min(self.units_per_sample).max(1)
    }

    /// The units and the panels of a task.
    pub(super) fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (strip, group) = (task / self.groups, task % self.groups);
        let part = |at: usize, of: usize, len: usize| at * len / of..(at + 1) * len / of;
        (part(strip, self.strips, self.units), part(group, self.groups, self.panels))
    }

    /// Cuts units at samples: each sample with its units.
    pub(super) fn samples(&self, units: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let per = self.units_per_sample;
        let samples = if units.is_empty() { 0..0 } else { units.start / per..(units.end - 1) / per + 1 };
        samples.map(move |sample| {
            let first = sample * per;
            (sample, units.start.max(first) - first..units.end.min(first + per) - first)
        })
    }
}
