//! Cuts windows out of images, with changed patches pasted over the image.

use std::ops::Range;

use super::layout::{BLOCK, BlockedShape};
use crate::error::{KernelError, Result, check_len};
use crate::parallel::{SharedMut, run_tasks};

/// Changed rectangles (patches) of an image, one for each sample of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Patches<'a> {
    /// The shape of the patches.
    pub shape: &'a BlockedShape,
    /// The values of the patches.
    pub values: &'a [f32],
    /// Row and column of the image at which each patch starts.
    pub places: &'a [[usize; 2]],
}

/// Cuts a window out of each of several variants of an image: y\[n\]\[p\] = image n at `starts`\[n\] + p. Image n is
/// `base` (one sample) with patch n pasted over it; beyond the sides of the image, the value is `outside`. Sets the
/// border of `y` to zero.
///
/// A window that starts at (0, 0) and is as large as the image is the whole image.
///
/// # Errors
/// [`KernelError::Shape`] when `base` is not one sample, channels differ, there are not as many windows and patches as
/// samples in `y`, or a patch does not lie within the image; [`KernelError::Length`] when a slice does not have the
/// length of its shape.
pub fn cut_windows(
    (base_shape, base): (&BlockedShape, &[f32]),
    patches: Option<Patches<'_>>,
    starts: &[[isize; 2]],
    outside: f32,
    (y_shape, y): (&BlockedShape, &mut [f32]),
) -> Result<()> {
    const KERNEL: &str = "windows of an image";
    check_len(KERNEL, "base", base_shape.len(), base.len())?;
    check_len(KERNEL, "y", y_shape.len(), y.len())?;
    let [height, width] = base_shape.size;
    let mut fits =
        base_shape.batch == 1 && base_shape.channels == y_shape.channels && starts.len() == y_shape.batch;
    if let Some(Patches { shape, values, places }) = patches {
        check_len(KERNEL, "patches", shape.len(), values.len())?;
        let inside = |place: &[usize; 2]| {
            place[0].saturating_add(shape.size[0]) <= height
                && place[1].saturating_add(shape.size[1]) <= width
        };
        fits &= (shape.batch, shape.channels) == (y_shape.batch, y_shape.channels)
            && places.len() == y_shape.batch
            && places.iter().all(inside);
    }
    if !fits {
        return Err(KernelError::Shape {
            what: KERNEL,
            problem: format!(
                "cannot cut {} windows of {base_shape:?} with patches {:?} into {y_shape:?}",
                starts.len(),
                patches.map(|patches| (patches.shape, patches.places))
            ),
        });
    }
    let (blocks, y_plane) = (y_shape.blocks(), y_shape.plane());
    let y = SharedMut::new(y);
    run_tasks(
        y_shape.batch * blocks,
        || (),
        |(), task| {
            let (sample, block) = (task / blocks, task % blocks);
            // SAFETY: each plane of the destination belongs to one task.
            let y = unsafe { y.range(task * y_plane, y_plane) };
            BlockedShape { batch: 1, channels: BLOCK, ..*y_shape }.clear_border(y);
            let base = Plane::new(base_shape, base, block);
            let patch = patches.map(|p| {
                let [top, left] = p.places[sample].map(|at| at as isize);
                let [row, column] = starts[sample];
                (Plane::new(p.shape, p.values, task), [row - top, column - left])
            });
            let [row, column] = starts[sample];
            for line in 0..y_shape.size[0] {
                let out = &mut y[y_shape.at(line, 0)..][..y_shape.size[1] * BLOCK];
                let changed = patch
                    .as_ref()
                    .map_or(0..0, |(plane, at)| plane.meets(at[0], line, at[1], y_shape.size[1]));
                if changed.len() < y_shape.size[1] {
                    let kept = base.meets(row, line, column, y_shape.size[1]);
                    out[..kept.start * BLOCK].fill(outside);
                    out[kept.end * BLOCK..].fill(outside);
                    base.copy(kept, row, line, column, out);
                }
                if let Some((plane, at)) = &patch {
                    plane.copy(changed, at[0], line, at[1], out);
                }
            }
        },
    );
    Ok(())
}

/// The plane of one block of channels.
struct Plane<'a> {
    shape: &'a BlockedShape,
    values: &'a [f32],
}

impl<'a> Plane<'a> {
    fn new(shape: &'a BlockedShape, values: &'a [f32], index: usize) -> Self {
        Self { shape, values: &values[index * shape.plane()..][..shape.plane()] }
    }

    /// For line `line` of a window that starts at (`row`, `column`) and is `width` pixels wide: which of its pixels lie
    /// within the plane.
    fn meets(&self, row: isize, line: usize, column: isize, width: usize) -> Range<usize> {
        let row = row + line as isize;
        if row < 0 || row >= self.shape.size[0] as isize {
            0..0
        } else {
            within(column, width, self.shape.size[1])
        }
    }

    /// Copies these pixels of the line from the plane.
    fn copy(&self, pixels: Range<usize>, row: isize, line: usize, column: isize, out: &mut [f32]) {
        if pixels.is_empty() {
            return;
        }
        let at = self.shape.at((row + line as isize) as usize, (column + pixels.start as isize) as usize);
        let len = pixels.len() * BLOCK;
        out[pixels.start * BLOCK..][..len].copy_from_slice(&self.values[at..][..len]);
    }
}

/// The range of i < `len` with 0 ≤ `start` + i < `side`.
fn within(start: isize, len: usize, side: usize) -> Range<usize> {
    let first = start.min(0).unsigned_abs().min(len);
    let end = (side as isize - start).clamp(first as isize, len as isize) as usize;
    first..end
}

/// Cuts a window out of each image in contiguous NCHW: y\[n\]\[c\]\[p\] = x\[n\]\[c\]\[`starts`\[n\] + p\], with zeros
/// beyond the sides of the image. `size` is the height and width of the windows.
///
/// # Errors
/// [`KernelError::Length`] when `x` or `y` does not hold `starts.len()` samples.
pub fn cut_planar(
    (channels, [height, width]): (usize, [usize; 2]),
    x: &[f32],
    starts: &[[isize; 2]],
    size: [usize; 2],
    y: &mut [f32],
) -> Result<()> {
    const KERNEL: &str = "windows of an NCHW image";
    let planes = starts.len().saturating_mul(channels);
    check_len(KERNEL, "x", planes.saturating_mul(height).saturating_mul(width), x.len())?;
    check_len(KERNEL, "y", planes.saturating_mul(size[0]).saturating_mul(size[1]), y.len())?;
    if x.is_empty() || y.is_empty() {
        return Ok(());
    }
    let pairs = x.chunks_exact(height * width).zip(y.chunks_exact_mut(size[0] * size[1]));
    for (index, (x, y)) in pairs.enumerate() {
        let [row, column] = starts[index / channels];
        let columns = within(column, size[1], width);
        for (line, out) in y.chunks_exact_mut(size[1]).enumerate() {
            let row = row + line as isize;
            out.fill(0.0);
            if (0..height as isize).contains(&row) && !columns.is_empty() {
                let at = row as usize * width + (column + columns.start as isize) as usize;
                out[columns.clone()].copy_from_slice(&x[at..][..columns.len()]);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocked::{from_blocked, to_blocked};

    #[test]
    fn lines_are_cut_at_both_ends() {
        assert_eq!(within(-2, 5, 10), 2..5);
        assert_eq!(within(7, 5, 10), 0..3);
        assert_eq!(within(-2, 20, 10), 2..12);
        assert!(within(12, 3, 10).is_empty() && within(-9, 3, 10).is_empty());
    }

    #[test]
    fn windows_see_the_patches() {
        // An image of 3 × 4 pixels with the values 1 to 12, patches of 2 × 2 pixels, and windows of 3 × 3.
        let base_shape = BlockedShape { batch: 1, channels: 1, size: [3, 4], pad: [1, 2] };
        let patch_shape = BlockedShape { batch: 2, channels: 1, size: [2, 2], pad: [0, 0] };
        let y_shape = BlockedShape { size: [3, 3], pad: [0, 1], ..patch_shape };
        let image: Vec<f32> = (1_u8..=12).map(f32::from).collect();
        let changed: Vec<f32> = (1_u8..=8).map(|v| -f32::from(v)).collect();
        let (mut base, mut patches) = (vec![0.0; base_shape.len()], vec![0.0; patch_shape.len()]);
        to_blocked(&base_shape, &image, &mut base).unwrap();
        to_blocked(&patch_shape, &changed, &mut patches).unwrap();
        let mut y = vec![f32::NAN; y_shape.len()];
        let patches = Patches { shape: &patch_shape, values: &patches, places: &[[1, 2], [0, 0]] };
        let starts = [[1, 1], [-1, -1]];
        cut_windows((&base_shape, &base), Some(patches), &starts, 0.5, (&y_shape, &mut y)).unwrap();
        let mut plain = vec![0.0; 18];
        from_blocked(&y_shape, &y, &mut plain).unwrap();
        let expected = [6.0, -1.0, -2.0, 10.0, -3.0, -4.0, 0.5, 0.5, 0.5];
        assert_eq!(plain[..9], expected);
        assert_eq!(plain[9..], [0.5, 0.5, 0.5, 0.5, -5.0, -6.0, 0.5, -7.0, -8.0]);
        let mut windows = vec![f32::NAN; 18];
        let pictures = [image.as_slice(), &image].concat();
        cut_planar((1, [3, 4]), &pictures, &starts, [3, 3], &mut windows).unwrap();
        assert_eq!(windows[..9], [6.0, 7.0, 8.0, 10.0, 11.0, 12.0, 0.0, 0.0, 0.0]);
        assert_eq!(windows[9..], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 5.0, 6.0]);
    }

    #[test]
    fn patches_have_to_lie_in_the_image() {
        let shape = BlockedShape { batch: 1, channels: 1, size: [3, 3], pad: [0, 0] };
        let image = vec![0.0; shape.len()];
        let mut y = image.clone();
        let patches = Patches { shape: &shape, values: &image, places: &[[0, 1]] };
        let found = cut_windows((&shape, &image), Some(patches), &[[0, 0]], 0.0, (&shape, &mut y));
        assert!(matches!(found, Err(KernelError::Shape { .. })));
    }
}
