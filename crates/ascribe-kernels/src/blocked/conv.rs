//! Convolutions and their input gradients on blocked tensors.

use std::fmt::{self, Display};
use std::sync::Arc;

use super::buffer::Buffer;
use super::epilogue::{BlockedEpilogue, same_tensor};
use super::from_planar::Rows;
use super::job::Job;
use super::layout::{BLOCK, BlockedShape};
use super::pack::{Class, Panel, Step, pack, panels};
use super::tile::{Entry, Mode, SUMS, most_blocks};
use super::tiling::Source;
use super::to_planar::Fold;
use super::winograd::{Lent, Winograd};
use super::work::Work;
use crate::conv::lattice::Lattice;
use crate::error::{KernelError, Result, check_len};
use crate::matrix::{Split, Unit};
use crate::parallel::{Scratch, run_tasks};
use crate::shape::ConvShape;
use crate::simd::Isa;

/// The widest border that a source may need. With a wider one, computing on the border would cost more than it saves.
pub(super) const WIDEST_BORDER: usize = 16;

/// A convolution, or its input gradient, on blocked tensors.
///
/// The *source* is the tensor that is read (input, or output gradient), the *destination* the one that is written
/// (output, or input gradient). Weights are packed once, or *lent*: they stay in the caller's memory and are read when
/// the convolution runs ([`super::Weights`]).
///
/// Batch size and borders of source and destination may differ from call to call. They have no influence on the
/// results.
///
/// ```
/// use ascribe_kernels::blocked::{BlockedConv, BlockedEpilogue, BlockedShape, from_blocked, to_blocked};
/// use ascribe_kernels::{ConvParams, ConvShape};
///
/// let shape = ConvShape::new(ConvParams {
///     input: [1, 3],
///     kernel: [1, 3],
///     padding: [0, 1, 0, 1],
///     ..Default::default()
/// })?;
/// let conv = BlockedConv::forward(&shape, &[1.0, 10.0, 100.0])?.expect("a dense convolution of stride 1");
/// let source = BlockedShape { batch: 1, channels: 1, size: [1, 3], pad: conv.source_pad() };
/// let output = BlockedShape { pad: [0, 0], ..source };
/// let (mut x, mut y) = (vec![0.0; source.len()], vec![0.0; output.len()]);
/// to_blocked(&source, &[1.0, 2.0, 3.0], &mut x)?;
/// conv.run(&source, &x, BlockedEpilogue::default(), &output, &mut y)?;
/// let mut plain = [0.0; 3];
/// from_blocked(&output, &y, &mut plain)?;
/// assert_eq!(plain, [210.0, 321.0, 32.0]);
/// # Ok::<(), ascribe_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BlockedConv {
    pub(super) isa: Isa,
    pub(super) mode: Mode,
    pub(super) form: Form,
    /// Channels, and height and width, of the source.
    pub(super) src: (usize, [usize; 2]),
    /// Channels, and height and width, of the destination.
    pub(super) dst: (usize, [usize; 2]),
    /// The least border that the source must have.
    pub(super) source_pad: [usize; 2],
    /// Number of source blocks that a destination block depends on.
    pub(super) depth: usize,
    /// The residue classes of destination pixels, each with its taps; one for a forward convolution.
    pub(super) classes: Vec<Class>,
    /// The destination blocks, in groups that are summed together.
    pub(super) panels: Vec<Panel>,
    /// The packed weights, shared with the convolutions of patches. Empty where weights are lent.
    pub(super) weights: Arc<Buffer>,
    /// The lent weights.
    pub(super) lent: Option<Lent>,
}

/// The algorithm, and the layouts of source and destination.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Direct, with source and destination in the blocked layout.
    Blocked,
    /// Direct, with the source in contiguous NCHW.
    FromPlanar(Rows),
    /// Direct, with the destination in contiguous NCHW.
    ToPlanar(Fold),
    /// Winograd, with source and destination in the blocked layout.
    Winograd(Winograd),
    /// On AMX, the processor's matrix unit, with source and destination in the blocked layout.
    Split(Unit, Split),
}

impl BlockedConv {
    /// Packs a forward convolution: source = input, destination = output.
    ///
    /// `None` where this layout has no kernel: for horizontal strides above 2, for groups, unless each has one source
    /// and one destination channel or multiples of 16 of both, and for convolutions that would need a border of more
    /// than 16 pixels.
    ///
    /// # Errors
    /// [`KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn forward(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::forward_with(Isa::detect(), shape, weight)
    }

    /// Packs an input gradient: source = output gradient, destination = input gradient. This is also the forward pass
    /// of a transposed convolution.
    ///
    /// `None` as for [`BlockedConv::forward`], except that any stride is supported.
    ///
    /// # Errors
    /// [`KernelError::Length`] when `weight` does not have `shape.weight_len()` elements.
    pub fn input_grad(shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        Self::input_grad_with(Isa::detect(), shape, weight)
    }

    pub(super) fn forward_with(isa: Isa, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("blocked convolution", "weight", shape.weight_len(), weight.len())?;
        let lattice = Lattice::forward(shape);
        let taps = lattice.taps.len();
        let channels = shape.in_channels / shape.groups;
        Ok(Self::build(
            isa,
            shape.groups,
            (shape.in_channels, shape.input),
            (shape.out_channels, shape.output()),
            vec![lattice],
            |_, row, channel, tap| weight[(row * channels + channel) * taps + tap],
        ))
    }

    pub(super) fn input_grad_with(isa: Isa, shape: &ConvShape, weight: &[f32]) -> Result<Option<Self>> {
        check_len("blocked convolution input gradient", "weight", shape.weight_len(), weight.len())?;
        let (lattices, elements): (Vec<_>, Vec<_>) = Lattice::input_grad(shape).into_iter().unzip();
        let taps = shape.kernel[0] * shape.kernel[1];
        let (channels, rows) = (shape.out_channels / shape.groups, shape.in_channels / shape.groups);
        Ok(Self::build(
            isa,
            shape.groups,
            (shape.out_channels, shape.output()),
            (shape.in_channels, shape.input),
            lattices,
            |class, row, channel, tap| {
                let (group, row) = (row / rows, row % rows);
                weight[((group * channels + channel) * rows + row) * taps + elements[class][tap]]
            },
        ))
    }

    /// Packs `weight(class, destination channel, source channel in its group, tap)` for these residue classes.
    fn build(
        isa: Isa,
        groups: usize,
        src: (usize, [usize; 2]),
        dst: (usize, [usize; 2]),
        lattices: Vec<Lattice>,
        weight: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Option<Self> {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        let (channels, rows) = (src.0 / groups, dst.0 / groups);
        let step = lattices.iter().map(|lattice| lattice.src_stride[1] * BLOCK).max()?;
        let depthwise = groups > 1 && channels == 1 && rows == 1;
        let mode = if depthwise { Mode::Depthwise(step) } else { Mode::Dense(step) };
        let whole = groups == 1 || depthwise || (channels % BLOCK == 0 && rows % BLOCK == 0);
        let source_pad = border(&lattices)?;
        if !mode.is_served() || !whole {
            return None;
        }
        let (classes, mut panels): (Vec<_>, _) = if depthwise {
            let mut panels = panels(1, rows * groups, channels * groups, 1);
            for panel in &mut panels {
                panel.src_block = panel.block;
            }
            (lattices.into_iter().map(Class::depthwise).collect(), panels)
        } else {
            let panels = panels(groups, rows, channels, most_blocks(isa, mode));
            (lattices.into_iter().map(|lattice| Class::blocked(lattice, channels)).collect(), panels)
        };
        let weights = pack(&mut panels, &classes, |class, row, step, place| {
            // With groups, each has whole blocks, so that channels can be numbered through all blocks.
            if row < dst.0 { weight(class, row, step.block * BLOCK + place, step.tap) } else { 0.0 }
        });
        let depth = if depthwise { 1 } else { channels.div_ceil(BLOCK) };
        let weights = Arc::new(weights);
        Some(Self {
            isa,
            mode,
            form: Form::Blocked,
            src,
            dst,
            source_pad,
            depth,
            classes,
            panels,
            weights,
            lent: None,
        })
    }

    /// Number of multiplications that direct convolution takes for one sample, whatever algorithm this convolution
    /// uses.
    pub fn products_per_sample(&self) -> usize {
        let of_class = |class: &Class| class.rows() * class.lattice.points();
        let direct = self.dst.0 * self.classes.iter().map(of_class).sum::<usize>();
        match self.form {
            Form::Winograd(_) => self.src.0 * self.dst.0 * self.dst.1[0] * self.dst.1[1] * 9,
            _ => direct,
        }
    }

    /// The least border that the source must have.
    pub fn source_pad(&self) -> [usize; 2] {
        self.source_pad
    }

    /// Runs the convolution. Writes all of `dst`, including the zeros of the border and of the padded channels.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a shape has other channels or another size than the convolution, the batches differ,
    /// or the source's border is narrower than [`BlockedConv::source_pad`]; [`KernelError::Length`] when a slice does
    /// not have the length of its shape, or lent weights do not have the length that the convolution implies.
    pub fn run(
        &self,
        src_shape: &BlockedShape,
        src: &[f32],
        epilogue: BlockedEpilogue<'_>,
        dst_shape: &BlockedShape,
        dst: &mut [f32],
    ) -> Result<()> {
        const KERNEL: &str = "blocked convolution";
        if matches!(self.form, Form::FromPlanar(_) | Form::ToPlanar(_)) {
            return Err(wrong_form(KERNEL, "forward` or `input_grad"));
        }
        self.check_source(KERNEL, dst_shape.batch, src_shape, src)?;
        self.check_destination(KERNEL, dst_shape.batch, &epilogue, dst_shape, dst)?;
        if dst_shape.batch == 0 {
            return Ok(());
        }
        if let Form::Winograd(winograd) = self.form {
            return self.run_winograd(winograd, src_shape, src, epilogue, dst_shape, dst);
        }
        if let Form::Split(unit, split) = self.form {
            self.run_split((unit, split), src_shape, src, epilogue, dst_shape, dst);
            return Ok(());
        }
        let residual_pad = epilogue.residual.map_or([0; 2], |(shape, _)| shape.pad);
        let borderless = [src_shape.pad, dst_shape.pad, residual_pad] == [[0, 0]; 3];
        let entries = self.classes.iter().map(|class| Self::entries(class, src_shape)).collect();
        let job = Job::new(self, entries, epilogue, dst_shape, dst, borderless, |lattice| {
            Source::blocked(lattice, src_shape)
        });
        let unit_bytes = src_shape.plane() * size_of::<f32>() * self.depth / job.units_per_sample.max(1);
        let work = self.work(job.units_per_sample, dst_shape.batch, unit_bytes, self.panels.len());
        run_tasks(
            work.tasks(),
            || Scratch::<f32>::new(SUMS),
            |sums, task| {
                let (units, panels) = work.task(task);
                for (sample, units) in work.samples(units.clone()) {
                    job.clear_borders(sample, units, panels.clone());
                }
                for panel in &self.panels[panels] {
                    for (index, class) in self.classes.iter().enumerate() {
                        for chain in 0..class.chains.len() {
                            for (sample, units) in work.samples(units.clone()) {
                                let at = sample * src_shape.sample() + panel.src_block * src_shape.plane();
                                // SAFETY: lengths, shapes and the border are checked; no other task has these units and
                                // panels.
                                unsafe {
                                    let (src, dst) = (src.as_ptr().add(at), job.destination(panel, sample));
                                    job.chain(index, chain, panel, sample, units, src, dst, sums.pointer());
                                }
                            }
                        }
                    }
                }
            },
        );
        Ok(())
    }

    /// Checks shape, length and border of the source.
    pub(super) fn check_source(
        &self,
        kernel: &'static str,
        batch: usize,
        shape: &BlockedShape,
        src: &[f32],
    ) -> Result<()> {
        let wanted = BlockedShape { batch, channels: self.src.0, size: self.src.1, pad: [0, 0] };
        same_tensor(kernel, "src", &wanted, shape)?;
        check_len(kernel, "src", shape.len(), src.len())?;
        if (0..2).any(|axis| shape.pad[axis] < self.source_pad[axis]) {
            return Err(KernelError::Shape {
                what: kernel,
                problem: format!(
                    "the border of `src` is {:?}, it has to be at least {:?}",
                    shape.pad, self.source_pad
                ),
            });
        }
        Ok(())
    }

    /// Checks shape and length of the destination, and the epilogue.
    pub(super) fn check_destination(
        &self,
        kernel: &'static str,
        batch: usize,
        epilogue: &BlockedEpilogue<'_>,
        shape: &BlockedShape,
        dst: &[f32],
    ) -> Result<()> {
        let wanted = BlockedShape { batch, channels: self.dst.0, size: self.dst.1, pad: [0, 0] };
        same_tensor(kernel, "dst", &wanted, shape)?;
        check_len(kernel, "dst", shape.len(), dst.len())?;
        epilogue.check(kernel, shape)
    }

    /// Where the source values of each step of a class are, relative to a tile's first pixel in a blocked source.
    pub(super) fn entries(class: &Class, shape: &BlockedShape) -> Vec<Entry> {
        let entry = |step: &Step| {
            let [row, column] = class.lattice.taps[step.tap];
            let tap = row * shape.pitch() as isize + column * BLOCK as isize;
            Entry { offset: (step.block * shape.plane()) as isize + tap, count: step.count }
        };
        class.steps.iter().map(entry).collect()
    }

    /// Divides the convolution among tasks; arguments as for [`Work::new`].
    pub(super) fn work(&self, units: usize, batch: usize, unit_bytes: usize, panels: usize) -> Work {
        let products: usize =
            self.classes.iter().map(|c| c.rows() * c.lattice.points()).sum::<usize>() * self.dst.0 * batch;
        Work::new(batch, units, unit_bytes, panels, products)
    }
}

/// Source and destination as `C×H×W`, the number of kernel elements, and the algorithm.
impl Display for BlockedConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = |(channels, [height, width]): (usize, [usize; 2])| format!("{channels}×{height}×{width}");
        write!(f, "{} → {}", image(self.src), image(self.dst))?;
        let taps: usize = self.classes.iter().map(|class| class.lattice.taps.len()).sum();
        match (self.form, self.mode) {
            (Form::Winograd(winograd), _) => write!(f, ", {winograd}"),
            (Form::Split(..), _) => write!(f, ", {taps} taps, on the matrix unit"),
            (_, Mode::Depthwise(_)) => write!(f, ", depthwise, {taps} taps"),
            (_, Mode::Dense(_)) => write!(f, ", {taps} taps"),
        }
    }
}

/// The error for a convolution that was packed for another layout; `constructor` names the right one.
pub(super) fn wrong_form(kernel: &'static str, constructor: &str) -> KernelError {
    KernelError::Shape { what: kernel, problem: format!("the convolution was not packed by `{constructor}`") }
}

/// The border that the source needs because taps reach beyond it; `None` where that is wider than [`WIDEST_BORDER`].
pub(super) fn border(lattices: &[Lattice]) -> Option<[usize; 2]> {
    let need = [0, 1].map(|axis| {
        let beyond = |lattice: &Lattice| {
            let last = (lattice.grid[axis].saturating_sub(1) * lattice.src_stride[axis]) as isize;
            let outside =
                |tap: &[isize; 2]| (-tap[axis]).max(last + tap[axis] + 1 - lattice.src[axis] as isize);
            lattice.taps.iter().map(outside).max().unwrap_or(0)
        };
        lattices.iter().map(beyond).max().unwrap_or(0).max(0) as usize
    });
    need.iter().all(|&pad| pad <= WIDEST_BORDER).then_some(need)
}
