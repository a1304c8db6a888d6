//! The positions that a convolution reads and writes.
//!
//! A forward convolution, and every residue class of a strided input gradient, has the same form: for each point a of a
//! two-dimensional grid,
//!
//! `dst[a · dst_stride + dst_offset] = Σ_channel Σ_tap weight[tap] · src[a · src_stride + tap]`,
//!
//! with zeros outside the source. [`Lattice`] holds these numbers, and [`Runs`] translates vectors of consecutive grid
//! points into masked memory accesses.

use crate::shape::ConvShape;

/// The positions that a convolution reads and writes in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lattice {
    /// Height and width of the source.
    pub(crate) src: [usize; 2],
    /// Height and width of the destination.
    pub(crate) dst: [usize; 2],
    /// Number of rows and columns of points that are computed.
    pub(crate) grid: [usize; 2],
    /// Step in the source per grid point.
    pub(crate) src_stride: [usize; 2],
    /// For each kernel element, its offset in the source relative to `point · src_stride`.
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

    /// The lattices of an input gradient, one per residue class, each with the index of the kernel element of every
    /// tap.
    ///
    /// Input pixels whose position has the same residue modulo the stride meet the same kernel elements, and
    /// neighbouring pixels of such a class meet neighbouring pixels of the output gradient. So each class is a
    /// convolution of stride 1 over the output gradient, and no multiplications with inserted zeros are needed.
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

    /// Number of points that are computed.
    pub(crate) fn points(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Elements of a channel of the source.
    pub(crate) fn src_plane(&self) -> usize {
        self.src[0] * self.src[1]
    }

    /// Elements of a channel of the destination.
    pub(crate) fn dst_plane(&self) -> usize {
        self.dst[0] * self.dst[1]
    }

    /// Whether every destination pixel depends only on the source pixel at the same position.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps == [[0, 0]]
            && self.src_stride == [1, 1]
            && self.dst_stride == [1, 1]
            && self.src == self.dst
            && self.src == self.grid
            && self.dst_offset == [0, 0]
    }

    /// Treats the plane of a pointwise convolution as one long row, since it does not matter there where rows end. This
    /// takes fewer runs.
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

/// A masked memory access: lane `l`, if it is in `mask`, is the element `offset + stride · l` of channel 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) mask: u32,
    pub(super) offset: isize,
}

/// The memory accesses of a block of vectors, for each position (tap) and vector.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Index in `all` of the first run of each (position, vector) pair, and the end.
    starts: Vec<u32>,
    all: Vec<Run>,
    /// Number of vectors.
    vectors: usize,
    /// Kept to reuse its memory.
    pieces: Pieces,
}

/// The part of a vector that lies in one grid row: lanes `lane..lane + len` are the points of `sample` in row `row`,
/// from column `column` on.
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
    /// Index in `all` of the first piece of each vector, and the end.
    starts: Vec<usize>,
    all: Vec<Piece>,
}

impl Runs {
    /// The runs of `vector` for `position`: the index of a tap, or 0 for destinations.
    #[inline(always)]
    pub(super) fn get(&self, position: usize, vector: usize) -> &[Run] {
        let at = position * self.vectors + vector;
        &self.all[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Computes the source runs of all taps for the vectors `first..first + vectors`. Consecutive grid points of
    /// consecutive samples fill the lanes; `sample_step` is the number of elements from one sample to the next.
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

    /// Computes the destination runs (position 0 only); arguments as for [`Runs::source`].
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

    /// Adds a run. It is merged with the previous run of the same vector if both have the same offset: where the grid
    /// is as wide as the plane in memory, all points of a sample in a vector are one run.
    fn push(&mut self, start: usize, lane: usize, len: usize, offset: isize) {
        let mask = crate::simd::low_mask(len) << lane;
        match self.all[start..].last_mut() {
            Some(run) if run.offset == offset => run.mask |= mask,
            _ => self.all.push(Run { mask, offset }),
        }
    }
}

impl Pieces {
    /// Cuts the vectors `first..first + vectors` where grid rows and samples end.
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

    /// The pieces of each vector.
    fn vectors(&self) -> impl Iterator<Item = &[Piece]> {
        self.starts.windows(2).map(|ends| &self.all[ends[0]..ends[1]])
    }
}
