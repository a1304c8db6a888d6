//! Generated pictures of one shape on a cluttered background, with the mask of the shape.

use ascribe::core::dataset::Sample;
use ascribe::core::{Dataset, Device, Error, Inputs, Result, Tensor, Truth, random};
use ascribe::metrics::localisation::{Mask, Masks};
use rand::Rng;

/// Height and width.
pub const SIDE: usize = 32;

/// The classes.
pub const CLASSES: [&str; 4] = ["circle", "square", "triangle", "cross"];

/// A picture with its ground truth.
#[derive(Clone, Debug)]
struct ShapePicture {
    /// Values in [0, 1]: channel, row, column.
    pixels: Vec<f32>,
    /// Whether each pixel belongs to the shape, in row-major order.
    mask: Vec<bool>,
    /// The class.
    class: usize,
}

/// Picture number `number` of the stream of `seed`: a shape of random class, place, size and colour over a gradient
/// with noise and a few short strokes that belong to no class.
fn picture(seed: u64, number: u64) -> ShapePicture {
    let mut rng = random::stream(seed, random::Domain::DATA, number);
    let class = rng.random_range(0..CLASSES.len());
    let radius = rng.random_range(5.0..9.0_f32);
    let margin = radius + 1.0;
    let at = [0, 1].map(|_| rng.random_range(margin..SIDE as f32 - margin));
    let colour = [0; 3].map(|_| rng.random_range(0.0..1.0_f32));
    let (from, to) =
        ([0; 3].map(|_| rng.random_range(0.2..0.8_f32)), [0; 3].map(|_| rng.random_range(0.2..0.8_f32)));
    let strokes: Vec<([f32; 2], [f32; 2], f32)> = (0..6)
        .map(|_| {
            let start = [0, 1].map(|_| rng.random_range(0.0..SIDE as f32));
            let angle = rng.random_range(0.0..std::f32::consts::TAU);
            (start, [angle.sin(), angle.cos()], rng.random_range(0.0..1.0_f32))
        })
        .collect();
    let mut pixels = vec![0.0; 3 * SIDE * SIDE];
    let mut mask = vec![false; SIDE * SIDE];
    for row in 0..SIDE {
        for column in 0..SIDE {
            let (y, x) = (row as f32 + 0.5, column as f32 + 0.5);
            let inside = contains(class, (y - at[0]) / radius, (x - at[1]) / radius);
            mask[row * SIDE + column] = inside;
            let stroke = strokes.iter().find(|(start, direction, _)| {
                let (dy, dx) = (y - start[0], x - start[1]);
                let along = dy * direction[0] + dx * direction[1];
                let across = dy * direction[1] - dx * direction[0];
                (0.0..6.0).contains(&along) && across.abs() < 0.7
            });
            let t = (row + column) as f32 / (2 * SIDE - 2) as f32;
            for channel in 0..3 {
                let ground = from[channel] * (1.0 - t) + to[channel] * t;
                let value = match (inside, stroke) {
                    (true, _) => colour[channel],
                    (false, Some((_, _, grey))) => *grey,
                    (false, None) => ground,
                };
                let noise = rng.random_range(-0.06..0.06_f32);
                pixels[(channel * SIDE + row) * SIDE + column] = (value + noise).clamp(0.0, 1.0);
            }
        }
    }
    ShapePicture { pixels, mask, class }
}

/// The first pictures of the random stream of `seed`, as inputs of the network: values in [0, 1] minus one half. The
/// label is the class, the ground truth is the mask of the shape.
#[derive(Clone, Copy, Debug)]
pub struct Shapes {
    /// The seed of the stream.
    pub seed: u64,
    /// Number of pictures.
    pub count: usize,
}

impl Dataset for Shapes {
    fn len(&self) -> usize {
        self.count
    }

    fn sample(&self, number: usize) -> Result<Sample> {
        if number >= self.count {
            let expected = format!("less than {}", self.count);
            return Err(Error::invalid("shapes", format!("picture {number}"), expected));
        }
        let picture = picture(self.seed, number as u64);
        let values: Vec<f32> = picture.pixels.iter().map(|value| value - 0.5).collect();
        let inputs = Inputs::single(Tensor::from_vec(values, (1, 3, SIDE, SIDE), &Device::Cpu)?)?;
        let mask = Mask::new([SIDE; 2], picture.mask)?;
        let truth = Truth::from(Masks::of(picture.class, mask));
        Ok(Sample { inputs, label: Some(picture.class), truth: Some(truth) })
    }
}

/// Whether a point belongs to a shape of this class around the origin.
fn contains(class: usize, y: f32, x: f32) -> bool {
    match class {
        0 => y.hypot(x) <= 1.0,
        1 => y.abs().max(x.abs()) <= 0.85,
        2 => y <= 0.8 && x.abs() <= (y + 1.0) * 0.55,
        _ => (y.abs() <= 0.3 && x.abs() <= 1.0) || (x.abs() <= 0.3 && y.abs() <= 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_depend_on_seed_and_number_alone() {
        assert_eq!(picture(1, 5).pixels, picture(1, 5).pixels);
        assert_ne!(picture(1, 5).pixels, picture(1, 6).pixels);
    }

    #[test]
    fn the_dataset_has_the_pictures_and_their_masks() {
        let data = Shapes { seed: 1, count: 6 };
        let (sample, picture) = (data.sample(5).unwrap(), picture(1, 5));
        let values = sample.inputs.find("").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, picture.pixels.iter().map(|value| value - 0.5).collect::<Vec<_>>());
        assert_eq!(sample.label, Some(picture.class));
        let truth = sample.truth.unwrap();
        let nearest =
            (0..SIDE * SIDE).map(|p| truth.distance(picture.class, p / SIDE, p % SIDE) == Some(0.0));
        assert_eq!(nearest.collect::<Vec<_>>(), picture.mask);
        assert!(data.sample(6).is_err());
    }

    #[test]
    fn every_class_appears_and_every_shape_lies_inside() {
        let mut seen = [0; 4];
        for number in 0..100 {
            let one = picture(0, number);
            seen[one.class] += 1;
            let area = one.mask.iter().filter(|m| **m).count();
            assert!((20..300).contains(&area), "{area}");
            let border = (0..SIDE).any(|i| one.mask[i] || one.mask[i * SIDE]);
            assert!(!border);
        }
        assert!(seen.iter().all(|&n| n > 10), "{seen:?}");
    }
}
