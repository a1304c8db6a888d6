//! Maps positions between the original image and the prepared image.

use serde::{Deserialize, Serialize};

use super::{MAX_PIXELS, MAX_SIDE, Preprocessing, Resize};
use crate::error::{Error, Result};

/// A bounding box in pixels: x goes to the right, y down. Pixel i covers the interval [i, i + 1); right and lower edges
/// are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BoundingBox {
    /// Left edge.
    pub x0: f64,
    /// Upper edge.
    pub y0: f64,
    /// Right edge.
    pub x1: f64,
    /// Lower edge.
    pub y1: f64,
}

impl BoundingBox {
    /// The part of the box inside an image of this height and width; `None` if it is empty.
    pub fn clip(self, [height, width]: [usize; 2]) -> Option<Self> {
        let clipped = Self {
            x0: self.x0.max(0.0),
            y0: self.y0.max(0.0),
            x1: self.x1.min(width as f64),
            y1: self.y1.min(height as f64),
        };
        (clipped.x0 < clipped.x1 && clipped.y0 < clipped.y1).then_some(clipped)
    }
}

/// How resizing and cropping move pixels. Sizes are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Size of the original image.
    pub original: [usize; 2],
    /// Size after resizing.
    pub resized: [usize; 2],
    /// Row and column of the resized image at which the crop starts; negative where the image is padded.
    pub offset: [i64; 2],
    /// Size of the crop, and so of the network's input.
    pub output: [usize; 2],
}

impl Geometry {
    pub(super) fn new(preprocessing: &Preprocessing, original: [usize; 2]) -> Result<Self> {
        let resized = match preprocessing.resize {
            Some(Resize::Shorter(shorter)) => proportional(original, shorter),
            Some(Resize::Exact(size)) => size,
            None => original,
        };
        let output = preprocessing.crop.unwrap_or(resized);
        let too_large =
            output.iter().any(|n| *n > MAX_SIDE) || output[0].saturating_mul(output[1]) > MAX_PIXELS;
        if too_large || resized.contains(&0) {
            return Err(Error::invalid(
                "image",
                format!(
                    "of {} × {} pixels would become {} × {}",
                    original[1], original[0], output[1], output[0]
                ),
                format!(
                    "sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels; resize and crop it to a fixed size"
                ),
            ));
        }
        let offset = [0, 1].map(|axis| crop_offset(resized[axis], output[axis]));
        Ok(Self { original, resized, offset, output })
    }

    /// Converts a box in the original image to pixels of the network's input. It may extend beyond the input;
    /// [`BoundingBox::clip`] clips it.
    pub fn to_input(&self, b: BoundingBox) -> BoundingBox {
        let [sy, sx] = self.scale();
        let [oy, ox] = self.offset.map(|o| o as f64);
        BoundingBox { x0: b.x0 * sx - ox, y0: b.y0 * sy - oy, x1: b.x1 * sx - ox, y1: b.y1 * sy - oy }
    }

    /// Converts a box in the network's input to pixels of the original image.
    pub fn to_original(&self, b: BoundingBox) -> BoundingBox {
        let [sy, sx] = self.scale();
        let [oy, ox] = self.offset.map(|o| o as f64);
        BoundingBox { x0: (b.x0 + ox) / sx, y0: (b.y0 + oy) / sy, x1: (b.x1 + ox) / sx, y1: (b.y1 + oy) / sy }
    }

    /// Scale factors of the resizing.
    fn scale(&self) -> [f64; 2] {
        [0, 1].map(|axis| self.resized[axis] as f64 / self.original[axis] as f64)
    }
}

/// The size if the shorter side is resized to `shorter`. As in torchvision, the longer side is `int(shorter · long /
/// short)`.
fn proportional([height, width]: [usize; 2], shorter: usize) -> [usize; 2] {
    let longer = |long: usize, short: usize| ((shorter as u64 * long as u64) as f64 / short as f64) as usize;
    if width <= height { [longer(height, width), shorter] } else { [shorter, longer(width, height)] }
}

/// Where the crop starts. As in torchvision, a smaller image is padded with (crop − size) / 2 pixels at the start and
/// the rest at the end; otherwise the crop starts at `round((size − crop) / 2)`, with halves rounded to even.
fn crop_offset(size: usize, crop: usize) -> i64 {
    if crop > size {
        -(((crop - size) / 2) as i64)
    } else {
        ((size - crop) as f64 / 2.0).round_ties_even() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_round_half_to_even_and_padding_comes_first() {
        assert_eq!([(256, 224), (257, 224), (259, 224)].map(|(s, c)| crop_offset(s, c)), [16, 16, 18]);
        assert_eq!([(200, 224), (201, 224), (224, 224)].map(|(s, c)| crop_offset(s, c)), [-12, -11, 0]);
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        assert_eq!(proportional([300, 451], 256), [256, 384]);
        assert_eq!(proportional([451, 300], 256), [384, 256]);
        assert_eq!(proportional([7, 7], 5), [5, 5]);
    }

    #[test]
    fn an_extreme_aspect_ratio_is_fine_with_a_crop_only() {
        let with = Preprocessing::imagenet();
        assert_eq!(Geometry::new(&with, [1, 100_000]).unwrap().output, [224, 224]);
        let without = Preprocessing { crop: None, ..with };
        assert!(Geometry::new(&without, [1, 100_000]).is_err());
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        #[test]
        fn boxes_come_back(
            (h, w) in (1usize..3000, 1usize..3000), corners in proptest::array::uniform4(-50.0f64..3000.0)
        ) {
            let geometry = Geometry::new(&Preprocessing::imagenet(), [h, w]).unwrap();
            let [x0, y0, x1, y1] = corners;
            let back = geometry.to_original(geometry.to_input(BoundingBox { x0, y0, x1, y1 }));
            for (a, b) in [(back.x0, x0), (back.y0, y0), (back.x1, x1), (back.y1, y1)] {
                prop_assert!((a - b).abs() < 1e-8 * (1.0 + b.abs()) * 3000.0);
            }
        }

        #[test]
        fn the_crop_is_the_image_of_its_own_box((h, w) in (1usize..3000, 1usize..3000)) {
            let geometry = Geometry::new(&Preprocessing::imagenet(), [h, w]).unwrap();
            let all = BoundingBox { x0: 0.0, y0: 0.0, x1: w as f64, y1: h as f64 };
            let inside = geometry.to_input(all).clip(geometry.output).unwrap();
            prop_assert_eq!(inside, BoundingBox { x0: 0.0, y0: 0.0, x1: 224.0, y1: 224.0 });
        }
    }
}
