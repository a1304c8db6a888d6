//! Converts an image to the input tensor of a network, as torchvision does it, and back.
//!
//! The steps are: decode, resize, crop the centre, scale to [0, 1], and normalise each channel: x ← (pixel / 255 −
//! mean) / std. Sizes, offsets and pixels are rounded as torchvision 0.29 and Pillow round them, so that the tensor is
//! bit-identical. Only the EXIF orientation, which torchvision ignores, is applied unless `exif_orientation` is false.
//!
//! ```
//! use ascribe_models::preprocess::Preprocessing;
//! use image::RgbImage;
//!
//! # fn main() -> ascribe_models::Result<()> {
//! let photo = RgbImage::from_pixel(451, 300, image::Rgb([127, 0, 255]));
//! let preprocessing = Preprocessing::imagenet();
//! let prepared = preprocessing.apply(&photo)?;
//! assert_eq!(prepared.tensor.dims(), [1, 3, 224, 224]);
//! assert_eq!(prepared.geometry.resized, [256, 384]); // height, width
//! // Convert the input of the network back to an image.
//! assert_eq!(preprocessing.to_image(&prepared.tensor)?, prepared.image);
//! # Ok(())
//! # }
//! ```

mod apply;
mod decode;
mod geometry;
mod resample;
mod sidecar;

use serde::{Deserialize, Serialize};

pub use apply::Prepared;
pub use decode::{DecodeOptions, decode};
pub use geometry::{BoundingBox, Geometry};

use crate::error::{Error, Result};

/// Largest height or width to which images are resized or cropped.
const MAX_SIDE: usize = 16_384;
/// Most pixels of a prepared image.
const MAX_PIXELS: usize = 64 << 20;

/// The interpolation used for resizing. All except `nearest` smooth when the image gets smaller (antialiasing).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Linear interpolation in both directions (triangle filter).
    #[default]
    Bilinear,
    /// Cubic convolution with a = −1/2.
    Bicubic,
}

/// The size to which an image is resized before it is cropped.
///
/// In JSON and TOML a number is the shorter side, and an array is height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`resize`: expected a number of pixels, the shorter side, or [height, width]")]
pub enum Resize {
    /// The shorter side gets this length; the longer side keeps the aspect ratio, rounded down.
    Shorter(usize),
    /// Exactly this height and width; the aspect ratio changes.
    Exact([usize; 2]),
}

/// The channels of the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as networks from Caffe expect.
    Bgr,
    /// One channel: luma as defined by ITU-R BT.601, L = 0.299 R + 0.587 G + 0.114 B.
    Grey,
}

impl Channels {
    /// The number of channels: 3 or 1.
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// The order of the tensor's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Batch, channel, height, width, as in PyTorch.
    #[default]
    Nchw,
    /// Batch, height, width, channel, as in TensorFlow.
    Nhwc,
}

/// How an image is converted to the input of a network.
///
/// This is the JSON format, which the file `MODEL.preprocess.json` next to a model also has. Every field has a default.
///
/// ```
/// use ascribe_models::preprocess::Preprocessing;
///
/// let json = r#"{
///     "resize": 256, "interpolation": "bilinear", "crop": [224, 224],
///     "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
///     "channels": "rgb", "layout": "nchw", "exif_orientation": true
/// }"#;
/// let read: Preprocessing = serde_json::from_str(json).unwrap();
/// assert_eq!(read, Preprocessing::imagenet());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocessing {
    /// The size before the crop; `None` means no resizing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// The interpolation for resizing.
    pub interpolation: Interpolation,
    /// Height and width of the centre crop; where the image is smaller, it is padded with black. `None` means no crop.
    /// In JSON and TOML, a single number means a square.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "square_or_sides")]
    pub crop: Option<[usize; 2]>,
    /// Mean of each channel, for pixels scaled to [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, for pixels scaled to [0, 1].
    pub std: Vec<f64>,
    /// Channels of the tensor.
    pub channels: Channels,
    /// Order of the tensor's dimensions.
    pub layout: Layout,
    /// Whether to turn the image as its EXIF orientation says (default). torchvision does not do this.
    pub exif_orientation: bool,
}

/// Deserialises the crop from a number or from height and width.
fn square_or_sides<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<[usize; 2]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`crop`: expected a number of pixels or [height, width]")]
    enum Crop {
        Square(usize),
        Sides([usize; 2]),
    }
    Ok(Option::<Crop>::deserialize(deserializer)?.map(|crop| match crop {
        Crop::Square(side) => [side, side],
        Crop::Sides(sides) => sides,
    }))
}

impl Default for Preprocessing {
    /// No resizing, no crop, RGB in [0, 1], upright.
    fn default() -> Self {
        Self {
            resize: None,
            interpolation: Interpolation::Bilinear,
            crop: None,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            exif_orientation: true,
        }
    }
}

impl Preprocessing {
    /// torchvision's preprocessing for ImageNet: shorter side 256, bilinear, crop 224, mean and std of ImageNet.
    pub fn imagenet() -> Self {
        Self {
            resize: Some(Resize::Shorter(256)),
            crop: Some([224, 224]),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            ..Self::default()
        }
    }

    /// The preprocessing for Inception-v3: shorter side 342, bilinear, crop 299, scaled to [−1, 1].
    ///
    /// For Inception-v3 and GoogLeNet, torchvision normalises with ImageNet's mean and std and converts to [−1, 1]
    /// inside the network (`transform_input`). Here the preprocessing does both, and the network has no such step.
    pub fn inception_v3() -> Self {
        Self {
            resize: Some(Resize::Shorter(342)),
            crop: Some([299, 299]),
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
            ..Self::default()
        }
    }

    /// The preprocessing for an EfficientNet-Lite with inputs of `size` pixels: shorter side `size` + 32, bicubic, crop
    /// `size`, (pixel − 127) / 128.
    pub fn efficientnet_lite(size: usize) -> Self {
        Self {
            resize: Some(Resize::Shorter(size.saturating_add(32))),
            interpolation: Interpolation::Bicubic,
            crop: Some([size, size]),
            mean: vec![127.0 / 255.0; 3],
            std: vec![128.0 / 255.0; 3],
            ..Self::default()
        }
    }

    /// The preprocessing for a network with this number of input channels. With one channel, colours become luminance; a mean
    /// and a standard deviation for each colour, if they differ, are replaced by 0 and 1. With several, a single mean or
    /// standard deviation is that of all of them. Other numbers than 1 and 3 change nothing.
    #[must_use]
    pub fn for_channels(mut self, count: usize) -> Self {
        match (count, self.channels) {
            (1, _) => self.channels = Channels::Grey,
            (3, Channels::Grey) => self.channels = Channels::Rgb,
            (3, _) => {}
            _ => return self,
        }
        let fit = |values: &mut Vec<f64>, neutral: f64| match values.first() {
            Some(&first) if values.iter().all(|v| *v == first) => *values = vec![first; count],
            Some(_) if values.len() != count => *values = vec![neutral; count],
            _ => {}
        };
        fit(&mut self.mean, 0.0);
        fit(&mut self.std, 1.0);
        self
    }

    /// The preprocessing for a network whose input has this height and width: they are the crop, of a picture that is resized in
    /// the same proportion as before, or exactly to the crop if it is not square.
    #[must_use]
    pub fn for_sides(self, sides: [usize; 2]) -> Self {
        let resize = match (self.resize, self.crop) {
            (Some(Resize::Shorter(shorter)), Some([crop, _])) if sides[0] == sides[1] => {
                Resize::Shorter((sides[0] * shorter).div_ceil(crop.max(1)))
            }
            _ => Resize::Exact(sides),
        };
        Self { resize: Some(resize), crop: Some(sides), ..self }
    }

    /// Checks that all fields are valid and consistent.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the field.
    pub fn validate(&self) -> Result<()> {
        let side = |field: &str, side: usize| {
            if (1..=MAX_SIDE).contains(&side) {
                Ok(())
            } else {
                Err(Error::invalid(
                    format!("preprocessing field '{field}'"),
                    format!("is {side}"),
                    format!("1 to {MAX_SIDE} pixels"),
                ))
            }
        };
        match self.resize {
            Some(Resize::Shorter(n)) => side("resize", n)?,
            Some(Resize::Exact(sides)) => sides.iter().try_for_each(|n| side("resize", *n))?,
            None => {}
        }
        self.crop.iter().flatten().try_for_each(|n| side("crop", *n))?;
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != self.channels.count() {
                return Err(Error::invalid(
                    format!("preprocessing field '{field}'"),
                    format!("has {} values", values.len()),
                    format!("{} values, one per channel", self.channels.count()),
                ));
            }
            // The values are used in f32, where a tiny standard deviation would become zero.
            if let Some(bad) =
                values.iter().find(|v| !(**v as f32).is_finite() || (field == "std" && (**v as f32) <= 0.0))
            {
                return Err(Error::invalid(
                    format!("preprocessing field '{field}'"),
                    format!("contains {bad}"),
                    if field == "std" { "finite numbers above zero" } else { "finite numbers" },
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for preset in [
            Preprocessing::default(),
            Preprocessing::imagenet(),
            Preprocessing::inception_v3(),
            Preprocessing::efficientnet_lite(260),
        ] {
            preset.validate().unwrap();
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Preprocessing>(&json).unwrap(), preset);
        }
    }

    #[test]
    fn sides_of_the_network_are_the_crop() {
        let square = Preprocessing::imagenet().for_sides([448; 2]);
        assert_eq!((square.resize, square.crop), (Some(Resize::Shorter(512)), Some([448; 2])));
        let wide = Preprocessing::imagenet().for_sides([32, 128]);
        assert_eq!((wide.resize, wide.crop), (Some(Resize::Exact([32, 128])), Some([32, 128])));
        square.validate().and(wide.validate()).unwrap();
    }

    #[test]
    fn fields_are_checked_by_name() {
        let good = Preprocessing::imagenet;
        let bad = [
            ("std", Preprocessing { std: vec![0.0, 1.0, 1.0], ..good() }),
            ("std", Preprocessing { std: vec![1e-300, 1.0, 1.0], ..good() }),
            ("mean", Preprocessing { mean: vec![f64::NAN, 1.0, 1.0], ..good() }),
            ("mean", Preprocessing { mean: vec![0.5], ..good() }),
            ("mean", Preprocessing { channels: Channels::Grey, ..good() }),
            ("resize", Preprocessing { resize: Some(Resize::Shorter(0)), ..good() }),
            ("crop", Preprocessing { crop: Some([224, 1 << 40]), ..good() }),
        ];
        for (field, preprocessing) in bad {
            let message = preprocessing.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
        assert!(serde_json::from_str::<Preprocessing>(r#"{"means": [0.5]}"#).is_err());
        let square: Preprocessing = serde_json::from_str(r#"{"crop": 224}"#).unwrap();
        assert_eq!(square.crop, Some([224, 224]));
    }
}
