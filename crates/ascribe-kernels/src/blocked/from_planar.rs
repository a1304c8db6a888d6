//! Convolutions that read contiguous NCHW and write the blocked layout: the first layer of a network.
//!
//! An image has three channels, so that blocks of sixteen channels would be mostly zeros. The register tile broadcasts
//! source values and does not need them in blocks. It only needs rows that are padded with zeros, so each task copies
//! the rows that it reads.

use std::sync::Arc;

use super::conv::{BlockedConv, Form, wrong_form};
use super::epilogue::BlockedEpilogue;
use super::job::Job;
use super::layout::BlockedShape;
use super::pack::{CHAIN, Class, Step, pack, panels};
use super::tile::{Entry, Mode, SUMS, most_blocks};
use super::tiling::{Source, Units};
use crate::conv::lattice::Lattice;
use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::{Scratch, run_tasks};
use crate::shape::ConvShape;
use crate::simd::{Isa, Kernel, Simd, low_mask};

/// How source rows are copied: padded with zeros, and with columns grouped by their residue modulo the stride, so that
/// neighbouring destination pixels read neighbouring values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    stride: [usize; 2],
    /// Padding above and to the left.
    pad: [usize; 2],
    /// Number of columns per residue.
    columns: usize,
    /// Number of source rows from the first to the last that a destination row depends on.
    span: usize,
}

impl Rows {
    /// For `width` destination columns whose windows span `extent` rows and columns.
    pub(super) fn new(stride: [usize; 2], pad: [usize; 2], extent: [usize; 2], width: usize) -> Self {
        Self {
            stride,
            pad,
            columns: ((width - 1) * stride[1] + extent[1] - 1) / stride[1] + 1,
            span: extent[0],
        }
    }

    /// Number of floats in a copied row.
    fn pitch(&self) -> usize {
        self.stride[1] * self.columns
    }
}

impl BlockedConv {
    /// Packs a forward convolution that reads contiguous NCHW, for layers with few input channels. Run it with
    /// [`BlockedConv::run_planar`].
    ///
    /// `None` if there is more than one group.
    ///
    /// # Errors
    /// [`crate::KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward_planar(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::forward_planar_with(Isa::detect(), shape, weight)
    }

    pub(super) fn forward_planar_with(isa: Isa, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("planar convolution", "weight", shape.weight_len(), weight.len())?;
        if shape.groups != 1 {
            return Ok(None);
        }
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        let [kernel_h, kernel_w] = shape.kernel;
        let stride_w = shape.stride[1];
        let output = shape.output();
        let extent = [0, 1].map(|axis| (shape.kernel[axis] - 1) * shape.dilation[axis] + 1);
        let rows = Rows::new(shape.stride, [shape.padding[0], shape.padding[1]], extent, output[1]);
        // Taps of a kernel row whose columns have the same residue modulo the stride are adjacent in the copy.
        let together = if shape.dilation[1] == 1 { stride_w } else { kernel_w };
        let mut steps = Vec::new();
        let mut row = 0;
        for channel in 0..shape.in_channels {
            for i in 0..kernel_h {
                for j in 0..together.min(kernel_w) {
                    let count = (kernel_w - j).div_ceil(together);
                    steps.push(Step { block: channel, tap: i * kernel_w + j, count, row });
                    row += count;
                }
            }
        }
        let mut chains = Vec::new();
        let chain = row.div_ceil(row.div_ceil(CHAIN));
        for (at, step) in steps.iter().enumerate() {
            if step.row >= chains.len() * chain {
                chains.push(at..at + 1);
            } else if let Some(last) = chains.last_mut() {
                last.end = at + 1;
            }
        }
        let classes = vec![Class { lattice: Lattice::forward(shape), steps, chains }];
        let mut panels = panels(1, shape.out_channels, shape.in_channels, most_blocks(isa, Mode::Dense(1)));
        let taps = kernel_h * kernel_w;
        let weights = pack(&mut panels, &classes, |_, row, step, place| {
            let tap = step.tap + place * together;
            if row < shape.out_channels {
                weight[(row * shape.in_channels + step.block) * taps + tap]
            } else {
                0.0
            }
        });
        Ok(Some(Self {
            isa,
            mode: Mode::Dense(1),
            form: Form::FromPlanar(rows),
            src: (shape.in_channels, shape.input),
            dst: (shape.out_channels, output),
            source_pad: [0, 0],
            depth: shape.in_channels,
            classes,
            panels,
            weights: Arc::new(weights),
            lent: None,
        }))
    }

    /// Runs a convolution packed by [`BlockedConv::forward_planar`] on contiguous NCHW. Writes all of `dst`,
    /// including the zeros of the border and of the padded channels.
    ///
    /// # Errors
    /// [`crate::KernelError::Shape`] when the convolution was packed for blocked sources, or batch, channels or size of
    /// `dst_shape` do not fit; [`crate::KernelError::Length`] when a slice does not have the length of
    /// its shape.
    pub fn run_planar(
        &self,
        batch: usize,
        src: &[f32],
        epilogue: BlockedEpilogue<'_>,
        dst_shape: &BlockedShape,
        dst: &mut [f32],
    ) -> Result<()> {
        const KERNEL: &str = "planar convolution";
        let Form::FromPlanar(rows) = self.form else {
            return Err(wrong_form(KERNEL, "forward_planar"));
        };
        let (channels, [height, width]) = self.src;
        let sample_len = channels * height * width;
        check_len(KERNEL, "src", batch.saturating_mul(sample_len), src.len())?;
        self.check_destination(KERNEL, batch, &epilogue, dst_shape, dst)?;
        if batch == 0 {
            return Ok(());
        }
        let class = &self.classes[0];
        let unit_rows = Units::choose(&[&class.lattice], false).rows();
        let unit_bytes = channels * unit_rows * rows.stride[0] * rows.pitch() * size_of::<f32>();
        let units = class.lattice.grid[0].div_ceil(unit_rows);
        // A task copies rows once and uses them for all panels.
        let work = self.work(units, batch, unit_bytes, 1);
        let strip_rows = (work.longest() * unit_rows - 1) * rows.stride[0] + rows.span;
        let plane = strip_rows * rows.pitch();
        let entry = |step: &Step| {
            let [kernel_row, column] = class.lattice.taps[step.tap];
            let [kernel_row, column] =
                [(kernel_row + rows.pad[0] as isize) as usize, (column + rows.pad[1] as isize) as usize];
            let column = column % rows.stride[1] * rows.columns + column / rows.stride[1];
            let offset = step.block * plane + kernel_row * rows.pitch() + column;
            Entry { offset: offset as isize, count: step.count }
        };
        let entries = vec![class.steps.iter().map(entry).collect()];
        let row_step = rows.stride[0] * rows.pitch();
        let job = Job::new(self, entries, epilogue, dst_shape, dst, false, |_| Source {
            origin: 0,
            row_step,
            column_step: 1,
        });
        run_tasks(
            work.tasks(),
            || (Scratch::<f32>::new(channels * plane), Scratch::<f32>::new(SUMS)),
            |(copy, sums), task| {
                let (copy, sums) = (copy.pointer(), sums.pointer());
                for (sample, units) in work.samples(work.task(task).0) {
                    job.clear_borders(sample, units.clone(), 0..self.panels.len());
                    let first = units.start * unit_rows * rows.stride[0];
                    let count =
                        ((units.end * unit_rows).min(class.lattice.grid[0]) - units.start * unit_rows - 1)
                            * rows.stride[0]
                            + rows.span;
                    let src = &src[sample * sample_len..][..sample_len];
                    for (channel, src) in src.chunks_exact(height * width).enumerate() {
                        // SAFETY: a channel of the copy has `strip_rows` rows, no fewer than `count`.
                        unsafe {
                            let copy = copy.add(channel * plane);
                            f32::dispatch(
                                self.isa,
                                CopyRows { rows, src, width, height, first, count, copy },
                            );
                        }
                    }
                    // Offsets of tiles are relative to row 0 of the whole image.
                    let copy = copy.wrapping_sub(first * rows.pitch()).cast_const();
                    for panel in &self.panels {
                        for chain in 0..class.chains.len() {
                            // SAFETY: lengths are checked, the rows are copied, and no other task has these units.
                            unsafe {
                                let dst = job.destination(panel, sample);
                                job.chain(0, chain, panel, sample, units.clone(), copy, dst, sums);
                            }
                        }
                    }
                }
            },
        );
        Ok(())
    }
}

/// Copies the padded rows `first..first + count` of a channel.
struct CopyRows<'a> {
    rows: Rows,
    src: &'a [f32],
    width: usize,
    height: usize,
    first: usize,
    count: usize,
    copy: *mut f32,
}

impl Kernel<f32> for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Self { rows, src, width, height, first, count, copy } = self;
        let [_, stride] = rows.stride;
        for at in 0..count {
            let row = (first + at).wrapping_sub(rows.pad[0]);
            for residue in 0..stride {
                // Columns q with 0 ≤ q · stride + residue − pad < width.
                let low = rows.pad[1].saturating_sub(residue).div_ceil(stride).min(rows.columns);
                let high = (width + rows.pad[1]).saturating_sub(residue).div_ceil(stride).min(rows.columns);
                let inside = if row < height { low..high.max(low) } else { 0..0 };
                // SAFETY: the caller provides room for `count` rows; masks keep reads within the line.
                unsafe {
                    let out = copy.add((at * stride + residue) * rows.columns);
                    out.write_bytes(0, inside.start);
                    out.add(inside.end).write_bytes(0, rows.columns - inside.end);
                    if inside.is_empty() {
                        continue;
                    }
                    let line = src[row * width..][..width].as_ptr().wrapping_add(residue);
                    let mut q = inside.start;
                    while q < inside.end {
                        let mask = low_mask(S::LANES.min(inside.end - q));
                        let from = line.wrapping_add(q * stride).wrapping_sub(rows.pad[1]);
                        S::store_masked(out.add(q), mask, S::merge_any(S::zero(), from, stride, mask));
                        q += S::LANES;
                    }
                }
            }
        }
    }
}
