//! Input gradients that read the blocked layout and write contiguous NCHW: the gradient of a network's first layer.
//!
//! The lanes of a register tile are destination channels, but an image has only three. To use more lanes, the pixels of
//! a small neighbourhood are treated as additional channels: with three channels and 2 × 2 pixels, twelve of sixteen
//! lanes are used. They are rearranged to pixels when they are written.

use std::sync::Arc;

use super::conv::{BlockedConv, Form, border, wrong_form};
use super::epilogue::BlockedEpilogue;
use super::job::Job;
use super::layout::{BLOCK, BlockedShape};
use super::pack::{Class, pack, panels};
use super::tile::{Mode, SUMS, most_blocks};
use super::tiling::{Source, Units};
use crate::conv::lattice::{Lattice, kernel_positions};
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::{Scratch, SharedMut, run_tasks};
use crate::shape::ConvShape;
use crate::simd::{Isa, Kernel, Simd, transpose_back};

/// How neighbouring destination pixels are treated as channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fold {
    /// Channels of the destination.
    channels: usize,
    /// Height and width of the destination.
    size: [usize; 2],
    /// Height and width of a neighbourhood, in pixels.
    factor: [usize; 2],
}

impl BlockedConv {
    /// Packs an input gradient that writes contiguous NCHW, for layers with few input channels. Run it with
    /// [`BlockedConv::run_to_planar`].
    ///
    /// `None` if there is more than one group or there are more than 16 input channels, and where the source would need
    /// a border of more than 16 pixels.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad_planar(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::input_grad_planar_with(Isa::detect(), shape, weight)
    }

    pub(super) fn input_grad_planar_with(
        isa: Isa,
        shape: &ConvShape,
        weight: &[f32],
    ) -> Result<Option<Self>> {
        check_len("planar convolution input gradient", "weight", shape.weight_len(), weight.len())?;
        if shape.groups != 1 || shape.in_channels > BLOCK {
            return Ok(None);
        }
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        // A neighbourhood has as many rows and columns as the stride, so that all of its pixels meet the same source
        // pixels; 2 where the stride is 1, if the neighbourhood then still fits a block of 16 lanes.
        let factor = shape.stride.map(|stride| if stride == 1 { 2 } else { stride });
        let factor = if shape.in_channels * factor[0] * factor[1] <= BLOCK { factor } else { shape.stride };
        let step = [0, 1].map(|axis| factor[axis] / shape.stride[axis]);
        let classes = factor[0] * factor[1];
        let rows = shape.in_channels * classes;
        // For each (pixel of a neighbourhood, tap), the kernel element that it is multiplied with.
        let mut taps = Vec::<[isize; 2]>::new();
        let mut elements = Vec::<(usize, [isize; 2], usize)>::new();
        for class in 0..classes {
            let place = [class / factor[1], class % factor[1]];
            for (element, offset) in kernel_positions(shape) {
                let from = [0, 1].map(|axis| place[axis] as isize - offset[axis]);
                if (0..2).all(|axis| from[axis] % shape.stride[axis] as isize == 0) {
                    let tap = [0, 1].map(|axis| from[axis] / shape.stride[axis] as isize);
                    elements.push((class, tap, element));
                    taps.push(tap);
                }
            }
        }
        taps.sort_unstable();
        taps.dedup();
        let mut element_of = vec![None; classes * taps.len()];
        for (class, tap, element) in elements {
            if let Ok(tap) = taps.binary_search(&tap) {
                element_of[class * taps.len() + tap] = Some(element);
            }
        }
        let grid = [0, 1].map(|axis| shape.input[axis].div_ceil(factor[axis]));
        let count = taps.len();
        let lattice = Lattice {
            src: shape.output(),
            dst: grid,
            grid,
            src_stride: step,
            taps,
            dst_stride: [1, 1],
            dst_offset: [0, 0],
        };
        let mode = Mode::Dense(step[1] * BLOCK);
        let Some(source_pad) = border(std::slice::from_ref(&lattice)).filter(|_| mode.is_served()) else {
            return Ok(None);
        };
        let classes_of = vec![Class::blocked(lattice, shape.out_channels)];
        let mut panels = panels(1, rows, shape.out_channels, most_blocks(isa, mode));
        let kernel = shape.kernel[0] * shape.kernel[1];
        let weights = pack(&mut panels, &classes_of, |_, row, step, place| {
            // Lanes are [class][channel].
            let (class, channel) = (row / shape.in_channels, row % shape.in_channels);
            let element = if row < rows { element_of[class * count + step.tap] } else { None };
            let filter = (step.block * BLOCK + place) * shape.in_channels + channel;
            element.map_or(0.0, |element| weight[filter * kernel + element])
        });
        Ok(Some(Self {
            isa,
            mode,
            form: Form::ToPlanar(Fold { channels: shape.in_channels, size: shape.input, factor }),
            src: (shape.out_channels, shape.output()),
            dst: (rows, grid),
            source_pad,
            depth: shape.out_channels.div_ceil(BLOCK),
            classes: classes_of,
            panels,
            weights: Arc::new(weights),
            lent: None,
        }))
    }

    /// Runs an input gradient packed by [`BlockedConv::input_grad_planar`]: from a blocked output gradient to
    /// a contiguous NCHW input gradient, which is overwritten.
    ///
    /// # Errors
    /// [`crate::KernelError::Shape`] when the convolution was packed for blocked destinations, channels or size of
    /// `src_shape` do not fit, or its border is too narrow; [`crate::KernelError::Length`] when a slice does not have
    /// the length of its shape.
    pub fn run_to_planar(&self, src_shape: &BlockedShape, src: &[f32], dst: &mut [f32]) -> Result<()> {
        const KERNEL: &str = "planar convolution input gradient";
        let Form::ToPlanar(fold) = self.form else {
            return Err(wrong_form(KERNEL, "input_grad_planar"));
        };
        self.check_source(KERNEL, src_shape.batch, src_shape, src)?;
        let batch = src_shape.batch;
        let sample_len = fold.channels * fold.size[0] * fold.size[1];
        check_len(KERNEL, "dst", batch.saturating_mul(sample_len), dst.len())?;
        if batch == 0 {
            return Ok(());
        }
        let folded = BlockedShape { batch, channels: self.dst.0, size: self.dst.1, pad: [0, 0] };
        let class = &self.classes[0];
        let unit_rows = Units::choose(&[&class.lattice], false).rows();
        let units = class.lattice.grid[0].div_ceil(unit_rows);
        let unit_bytes = src_shape.plane() * size_of::<f32>() * self.depth / units.max(1);
        let work = self.work(units, batch, unit_bytes, 1);
        let entries = vec![Self::entries(class, src_shape)];
        let job = Job::new(self, entries, BlockedEpilogue::default(), &folded, &mut [], false, |lattice| {
            Source::blocked(lattice, src_shape)
        });
        let plane = work.longest() * unit_rows * folded.pitch();
        let dst = SharedMut::new(dst);
        run_tasks(
            work.tasks(),
            || (Scratch::<f32>::new(folded.blocks() * plane), Scratch::<f32>::new(SUMS)),
            |(strip, sums), task| {
                let (strip, sums) = (strip.pointer(), sums.pointer());
                for (sample, units) in work.samples(work.task(task).0) {
                    let first = units.start * unit_rows;
                    let end = (units.end * unit_rows).min(folded.size[0]);
                    for panel in &self.panels {
                        for chain in 0..class.chains.len() {
                            // SAFETY: lengths, shapes and the border are checked. The strip has room for the rows of
                            // these units, and offsets are relative to row 0.
                            unsafe {
                                let src = src.as_ptr().add(sample * src_shape.sample());
                                let to = strip
                                    .wrapping_add(panel.block * plane)
                                    .wrapping_sub(first * folded.pitch());
                                job.chain_in(0, chain, panel, sample, units.clone(), src, to, plane, sums);
                            }
                        }
                    }
                    for grid_row in first..end {
                        let row = grid_row * fold.factor[0];
                        // SAFETY: no other task writes these rows of the destination, and the strip is complete.
                        unsafe {
                            let out = dst.pointer().add(sample * sample_len + row * fold.size[1]);
                            let strip = strip.add((grid_row - first) * folded.pitch()).cast_const();
                            let rows = fold.factor[0].min(fold.size[0] - row);
                            f32::dispatch(self.isa, Unfold { fold, rows, strip, plane, out });
                        }
                    }
                }
            },
        );
        Ok(())
    }
}

/// Rearranges a row of neighbourhoods from channels to pixels.
struct Unfold {
    fold: Fold,
    /// Number of destination rows: the height of a neighbourhood, or fewer at the lower edge.
    rows: usize,
    /// The row of neighbourhoods, in the first block.
    strip: *const f32,
    /// Floats between blocks of the strip.
    plane: usize,
    /// Where to write: the first row of the first channel.
    out: *mut f32,
}

impl Unfold {
    /// Block, and lane in the block, of a channel of a pixel of a neighbourhood.
    fn lane(&self, row: usize, column: usize, channel: usize) -> (usize, usize) {
        let lane = (row * self.fold.factor[1] + column) * self.fold.channels + channel;
        (lane / BLOCK, lane % BLOCK)
    }
}

impl Kernel<f32> for Unfold {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let (channels, factor, [height, columns]) = (self.fold.channels, self.fold.factor[1], self.fold.size);
        let lines = || (0..self.rows).flat_map(|row| (0..channels).map(move |channel| (row, channel)));
        let pairs = factor == 2 && lines().all(|(row, c)| self.lane(row, 0, c).0 == self.lane(row, 1, c).0);
        let blocks = self.lane(self.rows - 1, factor - 1, channels - 1).0 + 1;
        // The start of a destination row of a channel.
        let line = |row: usize, channel: usize| self.out.wrapping_add((channel * height + row) * columns);
        let mut first = 0;
        // As long as there are whole vectors of neighbourhoods.
        while pairs && 2 * (first + S::LANES) <= columns {
            for block in 0..blocks {
                // SAFETY: the strip has that many pixels, and lines have that many columns.
                unsafe {
                    let from = self.strip.add(block * self.plane + first * BLOCK);
                    let mut pixels = [S::zero(); BLOCK];
                    for (at, vector) in pixels.iter_mut().enumerate() {
                        *vector = S::load(from.add(at * S::LANES));
                    }
                    let lanes = transpose_back::<S>(pixels);
                    for (row, channel) in lines() {
                        let ((found, left), (_, right)) =
                            (self.lane(row, 0, channel), self.lane(row, 1, channel));
                        if found == block {
                            let (low, high) = S::interleave(lanes[left], lanes[right]);
                            let to = line(row, channel).add(2 * first);
                            S::store(to, low);
                            S::store(to.add(S::LANES), high);
                        }
                    }
                }
            }
            first += S::LANES;
        }
        for (row, channel) in lines() {
            for column in factor * first..columns {
                let (block, lane) = self.lane(row, column % factor, channel);
                let from = block * self.plane + column / factor * BLOCK + lane;
                // SAFETY: the strip has a pixel for every neighbourhood.
                unsafe { *line(row, channel).add(column) = *self.strip.add(from) };
            }
        }
    }
}
