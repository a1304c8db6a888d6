//! Samples of the regions of an image.

use candle_core::{DType, Device, Tensor};

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use super::window::image_shape;
use crate::error::{Error, Result};

/// What a cell of a region holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RoiMode {
    /// The mean of its samples.
    Average,
    /// The largest of all weighted neighbours of its samples, as ONNX defines it.
    Max,
}

/// Divides regions of an image into cells and samples each cell (He et al. 2017, Mask R-CNN): inputs `x [N, C, H, W]` and
/// `rois [N·k, 4]` with the corners `x₁, y₁, x₂, y₂`, `k` regions for each image in turn; output
/// `[N·k, C, height, width]`. A cell has `samples × samples` evenly spaced samples, each interpolated between four pixels;
/// a sample outside of the image counts as 0. The regions receive no gradient.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RoiAlign {
    /// What a cell holds.
    pub mode: RoiMode,
    /// Cells along the height and the width.
    pub cells: [usize; 2],
    /// Samples along each axis of a cell; 0 for as many as the cell has pixels, rounded up.
    pub samples: usize,
    /// Factor from the coordinates of the regions to those of the image.
    pub scale: f64,
    /// Whether pixels are areas: regions move by half a pixel, and may be smaller than a pixel.
    pub half_pixel: bool,
}

/// Most samples of a cell along an axis, so that a huge region cannot take forever.
const LIMIT: f64 = 4096.0;

/// The neighbours of a sample: position in the plane and weight.
type Neighbours = [(usize, f64); 4];

/// The neighbours of a place; `None` outside of the image.
fn neighbours(y: f64, x: f64, [height, width]: [usize; 2]) -> Option<Neighbours> {
    if !(y >= -1.0 && y <= height as f64 && x >= -1.0 && x <= width as f64) {
        return None;
    }
    let axis = |at: f64, side: usize| {
        let at = at.max(0.0);
        let low = at as usize;
        if low + 1 >= side { (side - 1, side - 1, 0.0) } else { (low, low + 1, at - low as f64) }
    };
    let ((y0, y1, fy), (x0, x1, fx)) = (axis(y, height), axis(x, width));
    Some([
        (y0 * width + x0, (1.0 - fy) * (1.0 - fx)),
        (y0 * width + x1, (1.0 - fy) * fx),
        (y1 * width + x0, fy * (1.0 - fx)),
        (y1 * width + x1, fy * fx),
    ])
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

impl RoiAlign {
    /// For each cell of a region, in row-major order, the neighbours of its samples and the number of samples.
    fn plan(&self, roi: &[f64], sides: [usize; 2]) -> Result<Vec<(Vec<Neighbours>, usize)>> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let corner = |i: usize| roi[i] * self.scale - shift;
        let least = if self.half_pixel { f64::NEG_INFINITY } else { 1.0 };
        let start = [corner(1), corner(0)];
        let cell = [corner(3) - corner(1), corner(2) - corner(0)];
        let cell = [0, 1].map(|i| cell[i].max(least) / self.cells[i] as f64);
        let count =
            cell.map(|side| if self.samples > 0 { self.samples as f64 } else { side.ceil().max(0.0) });
        if count.iter().any(|count| count.is_nan() || *count > LIMIT) {
            let expected = format!("regions whose cells have at most {LIMIT} samples along an axis");
            return Err(Error::invalid("rois", format!("a region is {roi:?}"), expected));
        }
        let count = count.map(|count| count as usize);
        let place = |axis: usize, cell_at: usize, i: usize| {
            start[axis] + cell[axis] * (cell_at as f64 + (i as f64 + 0.5) / count[axis] as f64)
        };
        let of_cell = |at: usize| {
            let (row, column) = (at / self.cells[1], at % self.cells[1]);
            let samples = (0..count[0] * count[1]).filter_map(|i| {
                neighbours(place(0, row, i / count[1]), place(1, column, i % count[1]), sides)
            });
            (samples.collect(), (count[0] * count[1]).max(1))
        };
        Ok((0..self.cells[0] * self.cells[1]).map(of_cell).collect())
    }

    /// Calls `visit` with the plane of the image, the number of the output, its neighbours and its number of samples.
    fn each(
        &self,
        x: &Tensor,
        rois: &Tensor,
        mut visit: impl FnMut(usize, usize, &[Neighbours], usize),
    ) -> Result<()> {
        let [images, channels, height, width] = image_shape(x.dims())?;
        let (regions, cells) = (rois.dim(0)?, self.cells[0] * self.cells[1]);
        for (region, roi) in numbers(rois)?.chunks(4).enumerate() {
            let plan = self.plan(roi, [height, width])?;
            let image = region / (regions / images).max(1);
            for channel in 0..channels {
                for (cell, (samples, count)) in plan.iter().enumerate() {
                    let output = (region * channels + channel) * cells + cell;
                    visit((image * channels + channel) * height * width, output, samples, *count);
                }
            }
        }
        Ok(())
    }
}

/// The largest weighted neighbour of all samples, with its position and weight. Samples outside of the image count as 0.
fn largest(plane: &[f64], samples: &[Neighbours], count: usize) -> (f64, Option<(usize, f64)>) {
    let outside = (samples.len() < count).then_some((0.0, None));
    let all = samples.iter().flatten().map(|&(at, weight)| (weight * plane[at], Some((at, weight))));
    let best = outside.into_iter().chain(all).reduce(|best, new| if new.0 > best.0 { new } else { best });
    best.unwrap_or((0.0, None))
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        match self.mode {
            RoiMode::Average => Kind::Average,
            RoiMode::Max => Kind::MaxPool,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, rois] = shapes(inputs)?;
        let fits = matches!((x, rois), (&[n, _, h, w], &[r, 4]) if n > 0 && h > 0 && w > 0 && r % n == 0);
        if !fits || self.cells.contains(&0) {
            let problem = format!("have shapes {x:?} and {rois:?}");
            return Err(Error::invalid(
                "x and rois",
                problem,
                "[N, C, H, W] and [N·k, 4], with at least one cell",
            ));
        }
        Ok(vec![rois[0], x[1], self.cells[0], self.cells[1]])
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (x, rois) = (input(inputs, 0)?, input(inputs, 1)?);
        let shape = self.output_shape(&[x.dims(), rois.dims()])?;
        let values = numbers(x)?;
        let mut y = vec![0.0; shape.iter().product()];
        self.each(x, rois, |plane, output, samples, count| {
            let plane = &values[plane..];
            y[output] = match self.mode {
                RoiMode::Average => {
                    samples.iter().flatten().map(|&(at, weight)| weight * plane[at]).sum::<f64>()
                        / count as f64
                }
                RoiMode::Max => largest(plane, samples, count).0,
            };
        })?;
        Ok(Tensor::from_vec(y, shape, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None, None]);
        }
        let (x, rois) = (args.input(0)?, args.input(1)?);
        let (values, grad) = (numbers(x)?, numbers(args.grad)?);
        let mut dx = vec![0.0; values.len()];
        self.each(x, rois, |plane, output, samples, count| {
            let own = &values[plane..];
            match self.mode {
                RoiMode::Average => {
                    for &(at, weight) in samples.iter().flatten() {
                        dx[plane + at] += weight * grad[output] / count as f64;
                    }
                }
                RoiMode::Max => {
                    if let (_, Some((at, weight))) = largest(own, samples, count) {
                        dx[plane + at] += weight * grad[output];
                    }
                }
            }
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
        Ok(vec![Some(dx), None])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    proptest! {
        #![proptest_config(ascribe_proptest::config(32))]
        #[test]
        fn derivatives(
            sides in (2_usize..6, 2_usize..6), each in 1_usize..3, cells in (1_usize..4, 1_usize..3),
            samples in 0_usize..3, half_pixel: bool, average: bool, seed: u64,
        ) {
            let mode = if average { RoiMode::Average } else { RoiMode::Max };
            let op = RoiAlign { mode, cells: [cells.0, cells.1], samples, scale: 0.7, half_pixel };
            let x = random(&[2, 2, sides.0, sides.1], -1.0, 1.0, seed);
            // Corners in order, partly outside of the image.
            let low = random(&[2 * each, 2], -1.5, 3.0, seed ^ 1);
            let high = (&low + random(&[2 * each, 2], 0.1, 5.0, seed ^ 2)).unwrap();
            let rois = Tensor::cat(&[low, high], 1).unwrap();
            check(&op, &[x, rois], &[true, false], seed);
        }
    }

    #[test]
    fn the_mean_of_a_whole_cell() {
        let x = Tensor::arange(0.0, 16.0, &Device::Cpu).unwrap().reshape((1, 1, 4, 4)).unwrap();
        let rois = Tensor::new(&[[0.0, 0.0, 4.0, 4.0]], &Device::Cpu).unwrap();
        let op = RoiAlign { mode: RoiMode::Average, cells: [2, 2], samples: 2, scale: 1.0, half_pixel: true };
        let y = op.forward(&[&x, &rois], Backend::Auto).unwrap();
        assert_eq!(numbers(&y).unwrap(), [2.5, 4.5, 10.5, 12.5]);
        let many = op.output_shape(&[&[2, 1, 4, 4], &[3, 4]]).unwrap_err().to_string();
        assert!(many.contains("[N·k, 4]"), "{many}");
        let huge = Tensor::new(&[[0.0, 0.0, 1e9, 1e9]], &Device::Cpu).unwrap();
        let all = RoiAlign { samples: 0, ..op };
        assert!(all.forward(&[&x, &huge], Backend::Auto).unwrap_err().to_string().contains("samples"));
    }
}
