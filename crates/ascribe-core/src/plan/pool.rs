//! Pooling of blocked images.

use ascribe_kernels::blocked::{self, BlockedShape, Reach};
use ascribe_kernels::{PoolParams, PoolShape};

use crate::error::Result;
use crate::ops::{Op, Reduce, ReduceFn, pool_shape};

/// A pooling operation with its geometry.
#[derive(Debug)]
pub(super) struct Pool {
    shape: PoolShape,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Max,
    Average { count_include_pad: bool },
}

impl Pool {
    /// The pooling that an operator performs on an image `[C, H, W]`; `None` if the blocked kernels do not support
    /// it.
    pub(super) fn of(op: &Op, input: &[usize], output: &[usize]) -> Result<Option<Self>> {
        let &[channels, height, width] = input else { return Ok(None) };
        let image = [1, channels, height, width];
        let (shape, kind) = match op {
            Op::MaxPool(pool) => (pool_shape(&pool.window, &image)?, Kind::Max),
            Op::AveragePool(pool) => {
                let count_include_pad = pool.count_include_pad;
                (pool_shape(&pool.window, &image)?, Kind::Average { count_include_pad })
            }
            Op::Reduce(Reduce { function: ReduceFn::Mean, axes, keep: true })
                if matches!(axes.as_slice(), [2, 3] | [3, 2]) =>
            {
                let whole = PoolParams {
                    channels,
                    input: [height, width],
                    output: [1, 1],
                    kernel: [height, width],
                    ..PoolParams::default()
                };
                (PoolShape::new(whole)?, Kind::Average { count_include_pad: true })
            }
            _ => return Ok(None),
        };
        // The position of a winner is stored in one byte.
        let served = shape.kernel[0] * shape.kernel[1] <= 256 || !matches!(kind, Kind::Max);
        let fits = output == [channels, shape.output[0], shape.output[1]];
        Ok((served && fits).then_some(Self { shape, kind }))
    }

    /// Whether the gradient needs the positions of the maxima (winners).
    pub(super) fn has_winners(&self) -> bool {
        matches!(self.kind, Kind::Max)
    }

    /// Number of winners for a batch.
    pub(super) fn winners_len(&self, batch: usize) -> Result<usize> {
        Ok(blocked::winners_len(&self.shape.with_batch(batch)?))
    }

    /// The window of input pixels that an output pixel depends on.
    pub(super) fn reach(&self) -> Reach {
        let PoolParams { kernel, stride, dilation, padding, .. } = *self.shape.params();
        let extent = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis] + 1);
        Reach { stride, first: [-(padding[0] as isize), -(padding[1] as isize)], extent }
    }

    /// The value outside the image: neutral for the maximum or the sum.
    pub(super) fn outside(&self) -> f32 {
        match self.kind {
            Kind::Max => f32::NEG_INFINITY,
            Kind::Average { .. } => 0.0,
        }
    }

    /// Whether pooling for a patch of `size` at this place is the same as without the rest of the image: averages
    /// divide by fewer values where a window extends beyond the image, or beyond the image with its padding.
    pub(super) fn serves(&self, place: [usize; 2], size: [usize; 2]) -> bool {
        let Kind::Average { count_include_pad } = self.kind else { return true };
        let (reach, padding) = (self.reach(), self.shape.padding);
        let (start, window) = (reach.start(place), reach.window(size));
        (0..2).all(|axis| {
            let counted = |side: usize| if count_include_pad { padding[side] as isize } else { 0 };
            let end = start[axis] + window[axis] as isize;
            start[axis] >= -counted(axis) && end <= self.shape.input[axis] as isize + counted(axis + 2)
        })
    }

    /// The same pooling without padding, for an output patch of `size`.
    pub(super) fn for_patch(&self, size: [usize; 2]) -> Result<Self> {
        let input = self.reach().window(size);
        let shape =
            PoolShape::new(PoolParams { input, output: size, padding: [0; 4], ..*self.shape.params() })?;
        let kind = match self.kind {
            Kind::Max => Kind::Max,
            Kind::Average { .. } => Kind::Average { count_include_pad: true },
        };
        Ok(Self { shape, kind })
    }

    pub(super) fn run(
        &self,
        (x_shape, x): (&BlockedShape, &[f32]),
        (y_shape, y): (&BlockedShape, &mut [f32]),
        winners: &mut [u8],
    ) -> Result<()> {
        let shape = self.shape.with_batch(x_shape.batch)?;
        match self.kind {
            Kind::Max => blocked::max_pool(&shape, x_shape, x, y_shape, y, winners)?,
            Kind::Average { count_include_pad } => {
                blocked::avg_pool(&shape, count_include_pad, x_shape, x, y_shape, y)?;
            }
        }
        Ok(())
    }

    pub(super) fn gradient(
        &self,
        (dy_shape, dy): (&BlockedShape, &[f32]),
        winners: &[u8],
        mask: Option<&[u16]>,
        (dx_shape, dx): (&BlockedShape, &mut [f32]),
    ) -> Result<()> {
        let shape = self.shape.with_batch(dy_shape.batch)?;
        match self.kind {
            Kind::Max => blocked::max_pool_input_grad(&shape, dy_shape, dy, winners, mask, dx_shape, dx)?,
            Kind::Average { count_include_pad } => {
                blocked::avg_pool_input_grad(&shape, count_include_pad, dy_shape, dy, mask, dx_shape, dx)?;
            }
        }
        Ok(())
    }
}
