//! Where a convolution reads and writes.
//!
//! Forward convolutions and every residue class of a strided input gradient have one form: for each
//! point (a, b) of a grid,
//!
//! `dst[a · dst_stride + dst_offset] = Σ_channel Σ_tap weight[tap] · src[a · src_stride + tap]`,
//!
//! with zeros outside the source. [`Lattice`] holds these numbers, and [`Runs`] turns vectors of
//! consecutive grid points into masked memory accesses.

use crate::shape::ConvShape;

/// The positions that a convolution reads and writes in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lattice {
    /// Height and width of the source.
    pub(crate) src: [usize; 2],
    /// Height and width of the destination.
    pub(crate) dst: [usize; 2],
    /// Number of points computed, by row and column.
    pub(crate) grid: [usize; 2],
    /// Step in the source per grid point.
    pub(crate) src_stride: [usize; 2],
    /// Offsets in the source relative to `point · src_stride`.
    pub(crate) taps: Vec<[isize; 2]>,
    /// Step in the destination per grid point.
    pub(crate) dst_stride: [usize; 2],
    /// Position in the destination of the first grid point.
    pub(crate) dst_offset: [usize; 2],
}

impl Lattice {
    /// The lattice of a forward convolution; its taps are the kernel's elements in order.
    pub(crate) fn forward(shape: &ConvShape) -> Self {
        Self {
            src: shape.input,
            dst: shape.output(),
            grid: shape.output(),
            src_stride: shape.stride,
            taps: kernel_positions(shape).map(|(_, offset)| offset).collect(),
            dst_stride: [1, 1],
            dst_offset: [0, 0],
        }
    }

    /// The lattices of an input gradient, each with the kernel element of every tap.
    ///
    /// Input pixels of one residue class modulo the stride meet the same taps, at stride 1 in the
    /// output gradient: one dense convolution per class, and no multiplication by inserted zeros.
    pub(crate) fn input_grad(shape: &ConvShape) -> Vec<(Self, Vec<usize>)> {
        let stride = shape.stride;
        let mut lattices = Vec::new();
        for class_h in 0..stride[0].min(shape.input[0]) {
            for class_w in 0..stride[1].min(shape.input[1]) {
                let class = [class_h, class_w];
                let (indices, taps): (Vec<_>, Vec<_>) = kernel_positions(shape)
                    .filter_map(|(index, tap)| {
                        let from = [0, 1].map(|axis| class[axis] as isize - tap[axis]);
                        let whole = [0, 1].map(|axis| from[axis] % stride[axis] as isize == 0);
                        (whole == [true; 2])
                            .then(|| (index, [0, 1].map(|axis| from[axis] / stride[axis] as isize)))
                    })
                    .unzip();
                let lattice = Self {
                    src: shape.output(),
                    dst: shape.input,
                    grid: [0, 1].map(|axis| (shape.input[axis] - class[axis]).div_ceil(stride[axis])),
                    src_stride: [1, 1],
                    taps,
                    dst_stride: stride,
                    dst_offset: class,
                };
                lattices.push((lattice, indices));
            }
        }
        lattices
    }

    pub(crate) fn points(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    pub(crate) fn src_plane(&self) -> usize {
        self.src[0] * self.src[1]
    }

    pub(crate) fn dst_plane(&self) -> usize {
        self.dst[0] * self.dst[1]
    }

    /// Whether every destination pixel depends on the source pixel at its own place alone.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps == [[0, 0]]
            && self.src_stride == [1, 1]
            && self.dst_stride == [1, 1]
            && self.src == self.dst
            && self.src == self.grid
            && self.dst_offset == [0, 0]
    }

    /// A pointwise convolution does not care where rows end; as one long row it needs fewer runs.
    pub(crate) fn flattened(mut self) -> Self {
        if self.is_pointwise() {
            let row = [1, self.points()];
            (self.src, self.dst, self.grid) = (row, row, row);
        }
        self
    }
}

/// Index of each kernel element and its offset in the input relative to `output position · stride`.
pub(crate) fn kernel_positions(shape: &ConvShape) -> impl Iterator<Item = (usize, [isize; 2])> {
    let [height, width] = shape.kernel;
    let (dilation, padding) = (shape.dilation, shape.padding);
    (0..height * width).map(move |index| {
        let at = [index / width, index % width];
        let offset = |axis: usize| (at[axis] * dilation[axis]) as isize - padding[axis] as isize;
        (index, [offset(0), offset(1)])
    })
}

/// A masked access: lane `l` of `mask` is the element `offset + stride · l` of channel 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) mask: u32,
    pub(super) offset: isize,
}

/// The runs of each (position, vector) pair of a block of vectors.
#[derive(Debug, Default)]
pub(super) struct Runs {
    starts: Vec<u32>,
    all: Vec<Run>,
    vectors: usize,
    pieces: Pieces,
}

/// A piece of a vector within one grid row: lanes `lane..lane + len` are points (row, column…) of `sample`.
#[derive(Debug, Clone, Copy)]
struct Piece {
    lane: usize,
    len: usize,
    sample: usize,
    row: usize,
    column: usize,
}

/// The pieces of consecutive vectors.
#[derive(Debug, Default)]
struct Pieces {
    starts: Vec<usize>,
    all: Vec<Piece>,
}

impl Runs {
    /// The runs of `position` (an index into the positions given to a constructor) and `vector`.
    #[inline(always)]
    pub(super) fn get(&self, position: usize, vector: usize) -> &[Run] {
        let at = position * self.vectors + vector;
        &self.all[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Source runs of all taps for the vectors `first..first + vectors`. Consecutive grid points of
    /// consecutive samples fill the lanes; `sample_step` is the distance between samples.
    pub(super) fn source(
        &mut self,
        lattice: &Lattice,
        batch: usize,
        sample_step: usize,
        lanes: usize,
        first: usize,
        vectors: usize,
    ) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.cut(lattice, batch, lanes, first, vectors);
        self.clear(vectors);
        let [height, width] = lattice.src;
        let [step_h, step_w] = lattice.src_stride;
        for &[tap_h, tap_w] in &lattice.taps {
            for pieces in pieces.vectors() {
                let start = self.all.len();
                for piece in pieces {
                    let row = (piece.row * step_h) as isize + tap_h;
                    if row < 0 || row >= height as isize {
                        continue;
                    }
                    // Lanes whose column `at + lane · step` lies in 0..width.
                    let at = (piece.column * step_w) as isize + tap_w;
                    let low = if at < 0 { at.unsigned_abs().div_ceil(step_w) } else { 0 };
                    let room = width as isize - at;
                    let high = if room > 0 { (room as usize).div_ceil(step_w).min(piece.len) } else { 0 };
                    if low < high {
                        let offset = (piece.sample * sample_step) as isize + row * width as isize + at
                            - (piece.lane * step_w) as isize;
                        self.push(start, piece.lane + low, high - low, offset);
                    }
                }
                self.starts.push(self.all.len() as u32);
            }
        }
        self.pieces = pieces;
    }

    /// Destination runs (position 0 only); arguments as for [`Runs::source`].
    pub(super) fn destination(
        &mut self,
        lattice: &Lattice,
        batch: usize,
        sample_step: usize,
        lanes: usize,
        first: usize,
        vectors: usize,
    ) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.cut(lattice, batch, lanes, first, vectors);
        self.clear(vectors);
        let [step_h, step_w] = lattice.dst_stride;
        for pieces in pieces.vectors() {
            let start = self.all.len();
            for piece in pieces {
                let row = piece.row * step_h + lattice.dst_offset[0];
                let at = piece.column * step_w + lattice.dst_offset[1];
                let offset = (piece.sample * sample_step + row * lattice.dst[1] + at) as isize
                    - (piece.lane * step_w) as isize;
                self.push(start, piece.lane, piece.len, offset);
            }
            self.starts.push(self.all.len() as u32);
        }
        self.pieces = pieces;
    }

    fn clear(&mut self, vectors: usize) {
        self.vectors = vectors;
        self.all.clear();
        self.starts.clear();
        self.starts.push(0);
    }

    /// Adds a run, merged with the previous one of the same vector where both have the same base: with
    /// equal widths of grid and memory a whole sample is one run.
    fn push(&mut self, start: usize, lane: usize, len: usize, offset: isize) {
        let mask = crate::simd::low_mask(len) << lane;
        match self.all[start..].last_mut() {
            Some(run) if run.offset == offset => run.mask |= mask,
            _ => self.all.push(Run { mask, offset }),
        }
    }
}

impl Pieces {
    /// Cuts vectors at the ends of grid rows and samples.
    fn cut(&mut self, lattice: &Lattice, batch: usize, lanes: usize, first: usize, vectors: usize) {
        let points = lattice.points();
        let total = batch * points;
        let width = lattice.grid[1];
        self.starts.clear();
        self.all.clear();
        for vector in first..first + vectors {
            self.starts.push(self.all.len());
            let start = vector * lanes;
            let end = (start + lanes).min(total);
            let mut at = start;
            while at < end {
                let (sample, point) = (at / points, at % points);
                let (row, column) = (point / width, point % width);
                let len = (width - column).min(end - at);
                self.all.push(Piece { lane: at - start, len, sample, row, column });
                at += len;
            }
        }
        self.starts.push(self.all.len());
    }

    fn vectors(&self) -> impl Iterator<Item = &[Piece]> {
        self.starts.windows(2).map(|ends| &self.all[ends[0]..ends[1]])
    }
}
