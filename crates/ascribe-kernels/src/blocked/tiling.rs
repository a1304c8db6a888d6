//! How the pixels of a plane are divided into register tiles, and the tiles into units of work.

use super::layout::BlockedShape;
use crate::conv::lattice::Lattice;

/// Pixels per unit where rows do not matter ([`Units::Flat`]); a multiple of the widest tile.
const LINE: usize = 56;
/// Feature maps no wider than this are divided into tiles of two rows.
const NARROW: usize = 7;

/// A register tile: one or two rows of pixels that are summed together. The offsets are those of its first pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Offset in a source plane.
    pub(super) src: usize,
    /// Offset in a destination plane.
    pub(super) dst: usize,
    /// Offset in a plane of the residual.
    pub(super) residual: usize,
    /// Offset in a plane of bit masks.
    pub(super) bits: usize,
    /// Pixels per row.
    pub(super) pixels: usize,
    /// Number of rows, 1 or 2.
    pub(super) rows: usize,
}

/// Where the source pixels of a grid point are: `origin + row · row_step + column · column_step`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) origin: usize,
    /// Floats per grid row.
    pub(super) row_step: usize,
    /// Floats per grid column.
    pub(super) column_step: usize,
}

impl Source {
    /// The source positions of a lattice in a blocked tensor.
    pub(super) fn blocked(lattice: &Lattice, shape: &BlockedShape) -> Self {
        Self {
            origin: shape.at(0, 0),
            row_step: lattice.src_stride[0] * shape.pitch(),
            column_step: lattice.src_stride[1] * super::BLOCK,
        }
    }
}

/// How a grid is divided into units of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// A unit is this many grid rows.
    Rows(usize),
    /// A unit is a run of consecutive pixels that may extend over several rows. This is possible where rows follow each
    /// other without a gap in every tensor.
    Flat,
}

impl Units {
    /// Chooses for the lattices of a convolution; `borderless` is whether no tensor has a border.
    pub(super) fn choose(lattices: &[&Lattice], borderless: bool) -> Self {
        match lattices {
            [lattice] if borderless && lattice.is_pointwise() => Self::Flat,
            [first, ..] if first.grid[1] <= NARROW => Self::Rows(2),
            _ => Self::Rows(1),
        }
    }

    /// Grid rows per unit.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Rows(rows) => rows,
            Self::Flat => 1,
        }
    }

    /// Number of units of a grid.
    pub(super) fn count(self, grid: [usize; 2]) -> usize {
        match self {
            Self::Rows(rows) => grid[0].div_ceil(rows),
            Self::Flat => (grid[0] * grid[1]).div_ceil(LINE),
        }
    }
}

/// The register tiles of one plane.
#[derive(Debug, Clone)]
pub(super) struct Tiling {
    tiles: Vec<Tile>,
    /// Index of the first tile of each unit, and at the end the number of tiles.
    starts: Vec<usize>,
    /// The different tile sizes, as (rows, pixels per row).
    pub(super) kinds: Vec<(usize, usize)>,
}

impl Tiling {
    /// Divides the grid of `lattice` into tiles. `sizes` are the possible numbers of pixels per row for tiles of one
    /// row and of two rows.
    pub(super) fn new(
        lattice: &Lattice,
        units: Units,
        sizes: [&[usize]; 2],
        source: Source,
        dst: &BlockedShape,
        residual: Option<&BlockedShape>,
    ) -> Self {
        let mut tiling = Self { tiles: Vec::new(), starts: vec![0], kinds: Vec::new() };
        let place = |row: usize, column: usize, rows: usize, pixels: usize| {
            let at = [row, column];
            let [y, x] = [0, 1].map(|axis| at[axis] * lattice.dst_stride[axis] + lattice.dst_offset[axis]);
            Tile {
                src: source.origin + row * source.row_step + column * source.column_step,
                dst: dst.at(y, x),
                residual: residual.map_or(0, |shape| shape.at(y, x)),
                bits: y * dst.size[1] + x,
                pixels,
                rows,
            }
        };
        let [height, width] = lattice.grid;
        for unit in 0..units.count(lattice.grid) {
            match units {
                Units::Flat => {
                    // All pixels are treated as columns of row 0: without borders, the offsets are the same.
                    let len = LINE.min(height * width - unit * LINE);
                    tiling.tiles.extend(
                        split(len, sizes[0]).map(|(start, pixels)| place(0, unit * LINE + start, 1, pixels)),
                    );
                }
                Units::Rows(rows) => {
                    let end = height.min((unit + 1) * rows);
                    if rows == 2 && end == (unit + 1) * rows && sizes[1].contains(&width) {
                        tiling.tiles.push(place(unit * rows, 0, 2, width));
                    } else {
                        for row in unit * rows..end {
                            let tiles = split(width, sizes[0]);
                            tiling.tiles.extend(tiles.map(|(start, pixels)| place(row, start, 1, pixels)));
                        }
                    }
                }
            }
            tiling.starts.push(tiling.tiles.len());
        }
        for tile in &tiling.tiles {
            let kind = (tile.rows, tile.pixels);
            if !tiling.kinds.contains(&kind) {
                tiling.kinds.push(kind);
            }
        }
        tiling
    }

    /// The tiles of the units `first..end`; there may be fewer units than that.
    pub(super) fn of(&self, first: usize, end: usize) -> &[Tile] {
        let last = self.starts.len() - 1;
        &self.tiles[self.starts[first.min(last)]..self.starts[end.min(last)]]
    }
}

/// Divides `len` pixels into pieces whose sizes are among `sizes` (descending, down to 1). It makes as few pieces as
/// possible, of nearly equal size, as far as these sizes exist. Returns start and size of each piece.
pub(super) fn split(len: usize, sizes: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let most = sizes.first().copied().unwrap_or(1);
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = len - start;
        if left == 0 {
            return None;
        }
        let even = left.div_ceil(left.div_ceil(most));
        // If there is no tile of this size, take half of it (rounded up), or else the largest size that fits.
        let size = sizes
            .iter()
            .copied()
            .find(|&size| size == even)
            .or_else(|| sizes.iter().copied().find(|&size| size == even.div_ceil(2)))
            .or_else(|| sizes.iter().copied().find(|&size| size <= even))
            .unwrap_or(1);
        start += size;
        Some((start - size, size))
    })
}

#[cfg(test)]
mod tests {
    use super::split;
    use crate::blocked::tile::{Mode, sizes};
    use crate::simd::Isa;

    #[test]
    fn pieces_cover_everything_once_and_exist() {
        for (isa, blocks) in
            [(Isa::Avx512, 2), (Isa::Avx512, 3), (Isa::Avx2, 1), (Isa::Neon, 1), (Isa::Portable, 1)]
        {
            let [sizes, _] = sizes(isa, Mode::Dense(16), blocks);
            for len in 0..200 {
                let mut next = 0;
                for (start, size) in split(len, sizes) {
                    assert_eq!(start, next);
                    assert!(sizes.contains(&size));
                    next += size;
                }
                assert_eq!(next, len);
            }
        }
        let of = |len| {
            split(len, sizes(Isa::Avx512, Mode::Dense(16), 2)[0]).map(|(_, size)| size).collect::<Vec<_>>()
        };
        assert_eq!(of(56), [14; 4]);
        assert_eq!(of(13), [7, 6]);
        assert_eq!(of(15), [8, 7]);
    }
}
