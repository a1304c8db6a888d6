//! The pixels of a task, in the order in which they are split into parts and multiplied.
//!
//! A task computes some rows of the grid (of computed pixels), for all residue classes. It splits the source pixels
//! that these depend on, line by line, into one sequence of *positions*. A line has as many positions as the grid has
//! columns, and additional ones for the columns that taps reach beyond the grid. So the source positions of different
//! taps are always the same distance apart, and sixteen consecutive positions can be multiplied at a time, for any tap.
//! Sums at the additional positions at the end of a line are computed too, and ignored.

use std::ops::Range;

use super::PAIR;
use crate::blocked::conv::WIDEST_BORDER;
use crate::blocked::layout::{BLOCK, BlockedShape};
use crate::conv::lattice::Lattice;
use crate::matrix::ROWS;

/// The grid and the reach of the taps, over all residue classes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Number of rows and columns of the largest grid.
    pub(super) grid: [usize; 2],
    /// Step in the source per grid point.
    pub(super) stride: [usize; 2],
    /// The first source row and column that a tap reads, relative to the grid point.
    first: [isize; 2],
    /// Number of further rows and columns up to the last ones that a tap reads.
    reach: [usize; 2],
}

impl Extent {
    /// Computes it for the lattices of all classes.
    pub(super) fn of(lattices: &[&Lattice]) -> Self {
        let along = |axis: usize| lattices.iter().flat_map(move |l| l.taps.iter().map(move |tap| tap[axis]));
        let first = [0, 1].map(|axis| along(axis).min().unwrap_or(0));
        let last = [0, 1].map(|axis| along(axis).max().unwrap_or(0));
        Self {
            grid: [0, 1].map(|axis| lattices.iter().map(|l| l.grid[axis]).max().unwrap_or(0)),
            stride: lattices.first().map_or([1, 1], |l| l.src_stride),
            first,
            reach: [0, 1].map(|axis| (last[axis] - first[axis]) as usize),
        }
    }

    /// The border that a source of this size needs; `None` where that is wider than [`WIDEST_BORDER`].
    pub(super) fn border(&self, src: [usize; 2]) -> Option<[usize; 2]> {
        let need = [0, 1].map(|axis| {
            let last = self.grid[axis].saturating_sub(1) * self.stride[axis] + self.reach[axis];
            (-self.first[axis]).max(last as isize + self.first[axis] + 1 - src[axis] as isize).max(0) as usize
        });
        need.iter().all(|&pad| pad <= WIDEST_BORDER).then_some(need)
    }

    /// Number of positions per line.
    pub(super) fn pitch(&self) -> usize {
        self.grid[1] + self.reach[1]
    }

    /// Whether taps reach beyond a grid point's own source pixel, so that additional rows or columns are needed.
    pub(super) fn has_halo(&self) -> bool {
        self.reach != [0, 0]
    }

    /// Number of positions for `rows` grid rows of a sample.
    pub(super) fn positions(&self, rows: usize) -> usize {
        (rows + self.reach[0]) * self.pitch()
    }

    /// Number of positions from that of a grid point to that of its source pixel for a tap.
    pub(super) fn distance(&self, tap: [isize; 2]) -> usize {
        let [row, column] = [0, 1].map(|axis| (tap[axis] - self.first[axis]) as usize);
        row * self.pitch() + column
    }

    /// Offset of the first source pixel of a grid point, in the first block of a sample.
    fn source(&self, src: &BlockedShape, sample: usize, place: [usize; 2]) -> usize {
        let [row, column] = [0, 1].map(|axis| {
            (place[axis] * self.stride[axis] + src.pad[axis]).wrapping_add_signed(self.first[axis])
        });
        sample * src.sample() + row * src.pitch() + column * BLOCK
    }

    /// Splits a range of the positions of `lines` where a line ends (if `flat`, where a sample ends). For each part:
    /// its first position, the number of positions, the sample, and row and column of the first.
    fn parts(
        self,
        flat: bool,
        lines: &Range<usize>,
        positions: Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, usize, [usize; 2])> {
        let (pitch, height, first) = (self.pitch(), self.grid[0], lines.start);
        let mut at = positions.start;
        std::iter::from_fn(move || {
            if at >= positions.end {
                return None;
            }
            let (line, column) = (first + at / pitch, at % pitch);
            let (sample, row) = (line / height, line % height);
            let room = if flat { (height - row) * pitch } else { pitch } - column;
            let len = room.min(positions.end - at);
            at += len;
            Some((at - len, len, sample, [row, column]))
        })
    }
}

/// One or two row tiles: sixteen or thirty-two consecutive positions, and the residue class that is computed there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) class: usize,
    /// The first position.
    pub(super) at: usize,
    /// Number of row tiles, 1 or 2.
    pub(super) tiles: usize,
}

/// The consecutive destination pixels of a pair that lie in one row of a sample (if rows follow each other without a
/// gap, in one sample).
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// The first of them, counted from the first position of the pair.
    pub(super) at: usize,
    /// Number of pixels.
    pub(super) pixels: usize,
    pub(super) sample: usize,
    /// Row and column in the destination of the first.
    pub(super) place: [usize; 2],
}

/// Consecutive source pixels that are split into parts one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    /// Position of the first pixel.
    pub(super) at: usize,
    /// Number of pixels.
    pub(super) pixels: usize,
    /// Offset of the first pixel in the source, in the first block of its sample.
    pub(super) offset: usize,
}

/// What a task has to split, multiply and store.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The row tiles to multiply.
    pub(super) pairs: Vec<Pair>,
    /// The destination pixels of each pair.
    pub(super) pieces: Vec<Piece>,
    /// Index of the first piece of each pair, and at the end the number of pieces.
    pub(super) piece_starts: Vec<usize>,
    /// The source pixels to split.
    pub(super) strokes: Vec<Stroke>,
    /// Index of the first stroke of each group of strokes that are split together, and at the end the number of
    /// strokes. There is one group per pair of the first class; with a halo, there is only one group.
    pub(super) stroke_starts: Vec<usize>,
    /// The number of positions.
    pub(super) positions: usize,
}

impl Lines {
    /// Computes this for `lines` of the grid; lines are numbered through all samples.
    pub(super) fn cut(
        &mut self,
        extent: &Extent,
        lattices: &[&Lattice],
        src: &BlockedShape,
        flat: bool,
        lines: Range<usize>,
    ) {
        let Self { pairs, pieces, piece_starts, strokes, stroke_starts, positions } = self;
        pairs.clear();
        pieces.clear();
        piece_starts.clear();
        strokes.clear();
        stroke_starts.clear();
        *positions = 0;
        let height = extent.grid[0];
        // Ranges of lines whose positions follow each other without a gap: with a halo those of a sample, otherwise all
        // lines.
        let mut stretches: Vec<(usize, Range<usize>)> = Vec::new();
        let mut line = lines.start;
        while line < lines.end {
            let end = lines.end.min((line / height + 1) * height);
            match stretches.last_mut() {
                Some((_, stretch)) if !extent.has_halo() => stretch.end = end,
                _ => stretches.push((*positions, line..end)),
            }
            *positions += extent.positions(end - line);
            line = end;
        }
        for (class, lattice) in lattices.iter().enumerate() {
            for (first, lines) in &stretches {
                let end = lines.len() * extent.pitch() - extent.reach[1];
                for start in (0..end).step_by(PAIR) {
                    let stop = end.min(start + PAIR);
                    piece_starts.push(pieces.len());
                    pairs.push(Pair { class, at: first + start, tiles: (stop - start).div_ceil(ROWS) });
                    for (at, len, sample, place) in extent.parts(flat, lines, start..stop) {
                        let width = if flat { len } else { lattice.grid[1].saturating_sub(place[1]) };
                        let pixels = width.min(len);
                        if place[0] < lattice.grid[0] && pixels > 0 {
                            let place = [0, 1].map(|axis| {
                                place[axis] * lattice.dst_stride[axis] + lattice.dst_offset[axis]
                            });
                            pieces.push(Piece { at: at - start, pixels, sample, place });
                        }
                    }
                }
            }
        }
        piece_starts.push(pieces.len());
        for (first, lines) in &stretches {
            if extent.has_halo() {
                let (sample, row, pitch) = (lines.start / height, lines.start % height, extent.pitch());
                for at in 0..lines.len() + extent.reach[0] {
                    let offset = extent.source(src, sample, [row + at, 0]);
                    strokes.push(Stroke { at: first + at * pitch, pixels: pitch, offset });
                }
            } else {
                let end = lines.len() * extent.pitch();
                for start in (0..end).step_by(PAIR) {
                    stroke_starts.push(strokes.len());
                    let parts = extent.parts(flat, lines, start..end.min(start + PAIR));
                    strokes.extend(parts.map(|(at, pixels, sample, place)| Stroke {
                        at,
                        pixels,
                        offset: extent.source(src, sample, place),
                    }));
                }
            }
        }
        if extent.has_halo() {
            stroke_starts.push(0);
        }
        stroke_starts.push(strokes.len());
    }
}
