//! How a convolution is divided among tasks.
//!
//! A *unit* is a small part of the rows or pixels of a sample, a *strip* a range of consecutive units (of consecutive
//! samples), and a *panel* one to three blocks of destination channels that are summed together.

use std::ops::Range;

/// Bytes of source in a strip, about. A task reads them once per panel, so they should stay in the second-level cache.
const STRIP: usize = 512 * 1024;
/// Fewest multiplications per task: with fewer, starting the task would cost too much.
const TASK: usize = 500_000;

/// The division into tasks: a task computes a strip of units for a group of panels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    units_per_sample: usize,
    /// Units of all samples.
    units: usize,
    /// Number of strips.
    strips: usize,
    panels: usize,
    /// Number of groups of panels.
    groups: usize,
}

impl Work {
    /// Divides `batch` samples of `units_per_sample` units, which read `unit_bytes` of source each, and `panels`
    /// panels; `products` is the number of multiplications of all of them.
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

    /// Divides the units into strips of at least `least` units (if there are that many); each task computes all panels.
    pub(super) fn strips(batch: usize, units_per_sample: usize, unit_bytes: usize, least: usize) -> Self {
        let units = batch * units_per_sample;
        let threads = rayon::current_num_threads();
        let fit = units.div_ceil((2 * STRIP / unit_bytes.max(1)).max(1));
        let strips = fit.max(4 * threads).min(units / least.max(1)).max(threads).min(units);
        Self { units_per_sample, units, strips, panels: 1, groups: 1 }
    }

    /// Gives each panel to one task, or, if that makes too few tasks for the threads, to several tasks with a part of
    /// the units each.
    pub(super) fn panels(batch: usize, units_per_sample: usize, panels: usize) -> Self {
        let units = batch * units_per_sample;
        let threads = rayon::current_num_threads();
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        let strips = wanted.div_ceil(panels.max(1)).min(units);
        Self { units_per_sample, units, strips, panels, groups: panels }
    }

    /// Divides the lines of the grids of `batch` samples; a task prepares `line_bytes` of memory per line, once for all
    /// of its panels. Panels are only divided among tasks if there are too few lines for the threads.
    pub(super) fn lines(
        batch: usize,
        grid: [usize; 2],
        line_bytes: usize,
        panels: usize,
        products: usize,
    ) -> Self {
        /// Fewest pixels per task: with fewer, the weights would be read too often.
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

    /// Number of tasks.
    pub(super) fn tasks(&self) -> usize {
        self.strips * self.groups
    }

    /// Number of units in the longest strip; at least one.
    pub(super) fn longest_strip(&self) -> usize {
        self.units.div_ceil(self.strips.max(1)).max(1)
    }

    /// Most units of one sample in a strip; at least one.
    pub(super) fn longest(&self) -> usize {
        self.longest_strip().min(self.units_per_sample).max(1)
    }

    /// The units and the panels of a task.
    pub(super) fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (strip, group) = (task / self.groups, task % self.groups);
        let part = |at: usize, of: usize, len: usize| at * len / of..(at + 1) * len / of;
        (part(strip, self.strips, self.units), part(group, self.groups, self.panels))
    }

    /// Splits a range of units where samples end: each sample, with the range of its units.
    pub(super) fn samples(&self, units: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let per = self.units_per_sample;
        let samples = if units.is_empty() { 0..0 } else { units.start / per..(units.end - 1) / per + 1 };
        samples.map(move |sample| {
            let first = sample * per;
            (sample, units.start.max(first) - first..units.end.min(first + per) - first)
        })
    }
}
