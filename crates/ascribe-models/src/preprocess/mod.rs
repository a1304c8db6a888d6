//! From a photograph to the input tensor of a network, as torchvision does it, and back.
//!
//! Decode, resize, crop in the centre, scale to [0, 1], normalise each channel:
//! x ← (pixel / 255 − mean) / std. Sizes, offsets and pixels are rounded as torchvision 0.29 and
//! Pillow round them, so that networks see the same tensor bit for bit.
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
//! // What the network sees, as a picture again.
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

/// Longest side that pictures are resized or cropped to.
const MAX_SIDE: usize = 16_384;
/// Most pixels of a prepared picture.
const MAX_PIXELS: usize = 64 << 20;

/// How pixels between pixels are estimated. All but `nearest` smooth when they shrink ("antialias").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Cubic convolution with a = −1/2.
    Bicubic,
}

/// The size that a picture is brought to before the crop.
///
/// In JSON and TOML a number is the shorter side, and an array is height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
pub enum Resize {
    /// The shorter side gets this length, and the longer one in proportion, rounded down.
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
    /// One channel: luma by ITU-R BT.601, L = 0.299 R + 0.587 G + 0.114 B.
    Grey,
}

impl Channels {
    /// How many there are: 3 or 1.
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
    /// Batch, channel, height, width: PyTorch.
    #[default]
    Nchw,
    /// Batch, height, width, channel: TensorFlow.
    Nhwc,
}

/// How a picture becomes the input of a network.
///
/// The JSON form, also that of the sidecar `MODEL.preprocess.json`; every field has a default:
///
/// ```
/// use ascribe_models::preprocess::Preprocessing;
///
/// let json = r#"{
///     "resize": 256, "interpolation": "bilinear", "crop": [224, 224],
///     "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
///     "channels": "rgb", "layout": "nchw", "exif_orientation": false
/// }"#;
/// let read: Preprocessing = serde_json::from_str(json).unwrap();
/// assert_eq!(read, Preprocessing::imagenet());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocessing {
    /// Size before the crop; nothing: the picture keeps its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Filter of the resizing.
    pub interpolation: Interpolation,
    /// Height and width of the centre crop, padded with black where the picture is smaller;
    /// nothing: no crop. In JSON and TOML a single number means a square.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "square_or_sides")]
    pub crop: Option<[usize; 2]>,
    /// Mean of each channel, in units of [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, in units of [0, 1].
    pub std: Vec<f64>,
    /// Channels of the tensor.
    pub channels: Channels,
    /// Order of the tensor's dimensions.
    pub layout: Layout,
    /// Whether to turn photographs upright as their EXIF data say. torchvision does not.
    pub exif_orientation: bool,
}

fn square_or_sides<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<[usize; 2]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
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
    /// No resizing, no crop, RGB in [0, 1].
    fn default() -> Self {
        Self {
            resize: None,
            interpolation: Interpolation::Bilinear,
            crop: None,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            exif_orientation: false,
        }
    }
}

impl Preprocessing {
    /// torchvision's for ImageNet: shorter side 256, bilinear, crop 224, ImageNet's mean and std.
    pub fn imagenet() -> Self {
        Self {
            resize: Some(Resize::Shorter(256)),
            crop: Some([224, 224]),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            ..Self::default()
        }
    }

    /// Inception-v3's: shorter side 342, bilinear, crop 299, scaled to [−1, 1].
    ///
    /// torchvision's Inception-v3 and GoogLeNet normalise with ImageNet's mean and std and undo
    /// that inside the network (`transform_input`). Here the network starts after that step.
    pub fn inception_v3() -> Self {
        Self {
            resize: Some(Resize::Shorter(342)),
            crop: Some([299, 299]),
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
            ..Self::default()
        }
    }

    /// EfficientNet-Lite's for a network with inputs of `size` pixels: shorter side `size` + 32,
    /// bicubic, crop `size`, (pixel − 127) / 128.
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

    /// Checks that all fields make sense together.
    ///
    /// # Errors
    /// [`Error::Invalid`] which names the field.
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
                    format!("{} values, one a channel", self.channels.count()),
                ));
            }
            // The arithmetic is f32, where a tiny standard deviation would be zero.
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
