//! A value as a grid of positions, and back.

use candle_core::Tensor;

use super::AxisRole;
use super::axis::{Atom, Axis, Part};
use crate::error::{Error, Result};

/// How a value is a grid `[N, C, …]` with its positions as the last axes: `[N, C, H, W]` for images.
///
/// Further tokens (class token, registers) are left out, windows are put in their place, and a roll is undone.
///
/// ```
/// use ascribe_core::{Device, GraphBuilder, Inputs, Tensor};
/// use ascribe_core::ops::Structure;
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(2), Some(1), Some(2)]);
/// let y = b.op("y", Structure::Transpose { order: vec![0, 2, 3, 1] }, &[x])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[[[1_f32, 2.0]], [[3.0, 4.0]]]], &Device::Cpu)?)?;
/// let view = graph.roles(&x)?.of(graph.find("y")?).grid().unwrap();
/// let last = Tensor::new(&[[[[1_f32, 3.0], [2.0, 4.0]]]], &Device::Cpu)?; // [N, H, W, C]
/// let grid = view.to_grid(&last)?;
/// assert_eq!(grid.dims(), [1, 2, 1, 2]);
/// assert_eq!(grid.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(view.from_grid(&grid)?.flatten_all()?.to_vec1::<f32>()?, [1.0, 3.0, 2.0, 4.0]);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridView {
    /// The value's shape, with a batch of the samples that the roles were inferred for.
    shape: Vec<usize>,
    /// The axis that holds further tokens, with their numbers before and behind the grid, and the grid's length.
    narrowed: Option<(usize, usize, usize, usize)>,
    /// The parts of all axes in order, with the axis of each.
    parts: Vec<(usize, Part)>,
    /// The order of parts in the grid.
    order: Vec<usize>,
    /// Number of parts that count samples, and channels.
    leading: [usize; 2],
    spatial: Vec<(AxisRole, usize)>,
    shifts: Vec<usize>,
}

impl GridView {
    /// The view of a value with these axes for a number of samples.
    pub(super) fn of(axes: &[Axis], batch: usize) -> Option<Self> {
        let mut parts = Vec::new();
        let mut narrowed = None;
        for (i, axis) in axes.iter().enumerate() {
            for atom in &axis.0 {
                if let Atom::Sequence { before, grid, after } = atom {
                    // Other parts on the same axis would lie between the tokens.
                    if narrowed.is_some() || axis.long().count() > 1 {
                        return None;
                    }
                    narrowed = Some((i, *before, *after, super::axis::length(grid)));
                }
                parts.extend(atom.parts().iter().map(|part| (i, *part)));
            }
        }
        if parts.iter().any(|(_, p)| p.role == AxisRole::Unknown && p.len > 1) {
            return None;
        }
        let select = |test: &dyn Fn(AxisRole) -> bool| -> Vec<usize> {
            (0..parts.len()).filter(|&i| test(parts[i].1.role)).collect()
        };
        let mut samples = select(&|role| role == AxisRole::Batch);
        samples.sort_by_key(|&i| std::cmp::Reverse(parts[i].1.step));
        if samples.iter().map(|&i| parts[i].1.len).product::<usize>() != batch {
            return None;
        }
        let mut channels = select(&AxisRole::is_channel);
        let mut by_step = channels.clone();
        by_step.sort_by_key(|&i| std::cmp::Reverse(parts[i].1.step));
        if coordinate(&parts, &by_step).is_some() {
            channels = by_step;
        }
        let mut order = [samples.as_slice(), &channels].concat();
        let (mut spatial, mut shifts) = (Vec::new(), Vec::new());
        for role in AxisRole::SPATIAL {
            let mut digits = select(&|r| r == role);
            digits.sort_by_key(|&i| std::cmp::Reverse(parts[i].1.step));
            if digits.is_empty() {
                continue;
            }
            let whole = coordinate(&parts, &digits)?;
            spatial.push((role, whole.of));
            shifts.push(whole.shift);
            order.extend(digits);
        }
        order.extend(select(&|role| role == AxisRole::Unknown));
        let shape = axes.iter().map(Axis::len).collect();
        (!spatial.is_empty()).then_some(Self {
            shape,
            narrowed,
            parts,
            order,
            leading: [samples.len(), channels.len()],
            spatial,
            shifts,
        })
    }

    /// The grid's axes behind `[N, C]`, with their lengths: height and width of an image; depth, height and width of a
    /// volume; time; tokens.
    pub fn spatial(&self) -> &[(AxisRole, usize)] {
        &self.spatial
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        let [samples, channels] = self.leading;
        self.order[samples..samples + channels].iter().map(|&i| self.parts[i].1.len).product()
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.spatial.iter().map(|(_, len)| len).product()
    }

    /// Whether the axes are `[N, C, …]` already.
    pub fn is_identity(&self) -> bool {
        let axes_in_order = self.order.iter().copied().eq(0..self.parts.len());
        axes_in_order
            && self.narrowed.is_none()
            && self.shifts.iter().all(|&shift| shift == 0)
            && self.shape.len() == self.spatial.len() + 2
            && self.parts.iter().map(|(axis, _)| *axis).eq(0..self.shape.len())
    }

    /// The value as a grid `[N, C, …]`. The number of samples is free; the other sides are those that the roles were
    /// inferred for.
    ///
    /// # Errors
    /// If the value has another shape.
    pub fn to_grid(&self, value: &Tensor) -> Result<Tensor> {
        let samples = self.samples(value.dims())?;
        let narrow = match self.narrowed {
            Some((axis, before, _, len)) => value.narrow(axis, before, len)?,
            None => value.clone(),
        };
        let mut grid = narrow
            .contiguous()?
            .reshape(self.sides(samples, None))?
            .permute(self.order.clone())?
            .contiguous()?
            .reshape(self.grid_shape(samples, self.channels()))?;
        for (i, &shift) in self.shifts.iter().enumerate() {
            grid = rolled(&grid, i + 2, shift)?;
        }
        Ok(grid)
    }

    /// A grid in the value's shape; further tokens are zero. The grid has the value's number of channels, or one channel
    /// for all, where the value's channels are one axis: that axis is then of length 1.
    ///
    /// # Errors
    /// If the grid has another shape.
    pub fn from_grid(&self, grid: &Tensor) -> Result<Tensor> {
        let wrong = || {
            Error::invalid(
                "grid",
                format!("has shape {:?}", grid.dims()),
                format!("[N, {}, …] with the sides {:?}", self.channels(), self.spatial),
            )
        };
        let &[samples, channels, ref sides @ ..] = grid.dims() else { return Err(wrong()) };
        let one = channels == 1 && self.channels() != 1;
        let fits = sides.iter().eq(self.spatial.iter().map(|(_, len)| len))
            && samples % self.fixed_samples() == 0
            && (channels == self.channels() || (one && self.leading[1] == 1));
        if !fits {
            return Err(wrong());
        }
        let mut grid = grid.clone();
        for (i, &shift) in self.shifts.iter().enumerate() {
            let side = self.spatial[i].1;
            grid = rolled(&grid, i + 2, (side - shift) % side)?;
        }
        let split = self.sides(samples, one.then_some(1));
        let permuted: Vec<usize> = self.order.iter().map(|&i| split[i]).collect();
        let mut inverse = vec![0; self.order.len()];
        for (place, &part) in self.order.iter().enumerate() {
            inverse[part] = place;
        }
        let mut shape = vec![1; self.shape.len()];
        for ((axis, _), side) in self.parts.iter().zip(&split) {
            shape[*axis] *= side;
        }
        let value = grid.contiguous()?.reshape(permuted)?.permute(inverse)?.contiguous()?.reshape(shape)?;
        match self.narrowed {
            Some((axis, before, after, _)) => Ok(value.pad_with_zeros(axis, before, after)?),
            None => Ok(value),
        }
    }

    /// Samples that the parts behind the first of those that count samples tell apart.
    fn fixed_samples(&self) -> usize {
        self.order[..self.leading[0]].iter().skip(1).map(|&i| self.parts[i].1.len).product()
    }

    /// Number of samples of a value of this shape.
    fn samples(&self, shape: &[usize]) -> Result<usize> {
        let wrong = || {
            Error::invalid(
                "value",
                format!("has shape {shape:?}"),
                format!("{:?}, for any batch", self.shape),
            )
        };
        let first = self.leading[0].min(1);
        let batch_axis = self.order[..first].first().map(|&i| self.parts[i].0);
        let fits = shape.len() == self.shape.len()
            && (0..shape.len()).all(|i| Some(i) == batch_axis || shape[i] == self.shape[i]);
        let Some(axis) = batch_axis.filter(|_| fits) else { return if fits { Ok(1) } else { Err(wrong()) } };
        let own = self.parts[self.order[0]].1.len;
        let others = self.shape[axis] / own;
        if shape[axis].is_multiple_of(others) {
            Ok(shape[axis] / others * self.fixed_samples())
        } else {
            Err(wrong())
        }
    }

    /// The length of each part for a number of samples, and for one channel if asked for.
    fn sides(&self, samples: usize, channels: Option<usize>) -> Vec<usize> {
        let mut sides: Vec<usize> = self.parts.iter().map(|(_, part)| part.len).collect();
        let [first, count] = self.leading;
        if first > 0 {
            sides[self.order[0]] = samples / self.fixed_samples();
        }
        if let (Some(len), 1) = (channels, count) {
            sides[self.order[first]] = len;
        }
        sides
    }

    fn grid_shape(&self, samples: usize, channels: usize) -> Vec<usize> {
        [samples, channels].into_iter().chain(self.spatial.iter().map(|(_, len)| *len)).collect()
    }
}

/// The whole coordinate that these parts, the slowest first, are the digits of; `None` if some are missing or doubled.
fn coordinate(parts: &[(usize, Part)], digits: &[usize]) -> Option<Part> {
    let mut found: Option<Part> = None;
    // Parts of length 1 say nothing, unless there are no others.
    let long = digits.iter().any(|&i| parts[i].1.len > 1);
    for part in digits.iter().map(|&i| parts[i].1).filter(|p| p.len > 1 || !long) {
        found = Some(match found {
            None => part,
            Some(slow) => {
                let fits = (slow.of, slow.shift, slow.step) == (part.of, part.shift, part.len * part.step);
                fits.then_some(Part { len: slow.len * part.len, ..part })?
            }
        });
    }
    found.filter(|part| part.is_whole())
}

/// Moves what is at index 0 of an axis to `shift`, in a circle.
fn rolled(grid: &Tensor, axis: usize, shift: usize) -> Result<Tensor> {
    if shift == 0 {
        return Ok(grid.clone());
    }
    let side = grid.dim(axis)?;
    let (head, tail) = (grid.narrow(axis, side - shift, shift)?, grid.narrow(axis, 0, side - shift)?);
    Ok(Tensor::cat(&[head, tail], axis)?)
}
