//! Converts images to tensors and back.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use super::decode::decode_and_turn;
use super::resample::{Window, resize_window};
use super::{Channels, DecodeOptions, Geometry, Layout, MAX_PIXELS, Preprocessing};
use crate::error::{Error, Result};

/// An image, ready for a network.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The network's input, in f32 and of shape [1, C, H, W], or [1, H, W, C] in the layout `nhwc`.
    pub tensor: Tensor,
    /// The same as an image, before normalisation.
    pub image: RgbImage,
    /// How to map positions between the original picture and the input.
    pub geometry: Geometry,
    /// Whether the picture was turned or mirrored as its EXIF orientation says. The geometry is that of the turned picture.
    pub turned: bool,
}

impl Preprocessing {
    /// Reads an image file and prepares it.
    ///
    /// # Errors
    /// Those of [`super::decode`] and [`Preprocessing::apply`].
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Prepared> {
        let options = DecodeOptions::default().with_exif_orientation(self.exif_orientation);
        let (picture, turned) = decode_and_turn(path.as_ref(), options)?;
        Ok(Prepared { turned, ..self.apply(&picture)? })
    }

    /// Prepares an image.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a field of the preprocessing is invalid, or the prepared image would be too large.
    pub fn apply(&self, picture: &RgbImage) -> Result<Prepared> {
        self.validate()?;
        let original = [picture.height() as usize, picture.width() as usize];
        if original.contains(&0) {
            return Err(Error::invalid("image", "has no pixels", "at least one pixel"));
        }
        let geometry = Geometry::new(self, original)?;
        let image = self.cropped(picture, &geometry)?;
        let tensor = self.normalise(&image)?;
        Ok(Prepared { tensor, image, geometry, turned: false })
    }

    /// Resizes, crops and pads.
    fn cropped(&self, picture: &RgbImage, geometry: &Geometry) -> Result<RgbImage> {
        // For each axis: the part of the resized image inside the crop, and the padding before it.
        let axis = |axis: usize| {
            let (resized, output, offset) =
                (geometry.resized[axis], geometry.output[axis], geometry.offset[axis]);
            let from = offset.max(0) as usize;
            let before = (-offset).max(0) as usize;
            (Window { full: resized, from, count: (resized - from).min(output - before) }, before)
        };
        let ((rows, top), (columns, left)) = (axis(0), axis(1));
        let [height, width] = geometry.output;
        let [original_height, original_width] = geometry.original;
        let part = resize_window(
            picture.as_raw(),
            (original_width, original_height),
            columns,
            rows,
            self.interpolation,
        );
        let pixels = if (rows.count, columns.count) == (height, width) {
            part
        } else {
            let mut padded = vec![0; 3 * width * height];
            for (row, line) in part.chunks_exact(3 * columns.count).enumerate() {
                let start = 3 * ((top + row) * width + left);
                padded[start..start + line.len()].copy_from_slice(line);
            }
            padded
        };
        RgbImage::from_raw(width as u32, height as u32, pixels)
            .ok_or_else(|| Error::invalid("image", "has the wrong number of bytes", "three bytes per pixel"))
    }

    /// Converts an image of the final size to the normalised tensor.
    fn normalise(&self, image: &RgbImage) -> Result<Tensor> {
        let (height, width) = (image.height() as usize, image.width() as usize);
        let channels = self.channels.count();
        // Computed in f32 and in this order, as in torchvision.
        let value = |byte: u8, c: usize| (f32::from(byte) / 255.0 - self.mean[c] as f32) / self.std[c] as f32;
        let tables: Vec<[f32; 256]> =
            (0..channels).map(|c| std::array::from_fn(|byte| value(byte as u8, c))).collect();
        let pixels = image.as_raw().as_chunks::<3>().0;
        let byte = |pixel: &[u8; 3], c: usize| match self.channels {
            Channels::Rgb => pixel[c],
            Channels::Bgr => pixel[2 - c],
            Channels::Grey => luma(*pixel),
        };
        let mut values = Vec::with_capacity(channels * pixels.len());
        let shape = match self.layout {
            Layout::Nchw => {
                for (c, table) in tables.iter().enumerate() {
                    values.extend(pixels.iter().map(|p| table[usize::from(byte(p, c))]));
                }
                [1, channels, height, width]
            }
            Layout::Nhwc => {
                for p in pixels {
                    values.extend(tables.iter().enumerate().map(|(c, table)| table[usize::from(byte(p, c))]));
                }
                [1, height, width, channels]
            }
        };
        Ok(Tensor::from_vec(values, &shape, &Device::Cpu)?)
    }

    /// Converts an input tensor back to an image: pixel = 255 · (x · std + mean), rounded and clipped.
    ///
    /// `tensor` has shape [1, C, H, W] or [C, H, W] ([1, H, W, C] or [H, W, C] in the layout `nhwc`) and any
    /// floating-point type. A tensor with one channel gives a grey image.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other shapes, or if a value is NaN.
    pub fn to_image(&self, tensor: &Tensor) -> Result<RgbImage> {
        self.validate()?;
        let shape_error = |found: &[usize]| {
            let expected = match self.layout {
                Layout::Nchw => format!("[1, {0}, H, W] or [{0}, H, W]", self.channels.count()),
                Layout::Nhwc => format!("[1, H, W, {0}] or [H, W, {0}]", self.channels.count()),
            };
            Error::invalid("input tensor", format!("has shape {found:?}"), expected)
        };
        let single = match tensor.dims() {
            [1, _, _, _] => tensor.squeeze(0)?,
            [_, _, _] => tensor.clone(),
            other => return Err(shape_error(other)),
        };
        let planes = match self.layout {
            Layout::Nchw => single,
            Layout::Nhwc => single.permute((2, 0, 1))?,
        };
        let (channels, height, width) = planes.dims3()?;
        if channels != self.channels.count()
            || height.saturating_mul(width) > MAX_PIXELS
            || height * width == 0
        {
            return Err(shape_error(tensor.dims()));
        }
        let values = planes.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if values.iter().any(|v| v.is_nan()) {
            return Err(Error::invalid("input tensor", "contains NaN", "numbers"));
        }
        let byte = |c: usize, at: usize| {
            let value = values[c * height * width + at] * self.std[c] + self.mean[c];
            (255.0 * value).round().clamp(0.0, 255.0) as u8
        };
        Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            image::Rgb(match self.channels {
                Channels::Rgb => [byte(0, at), byte(1, at), byte(2, at)],
                Channels::Bgr => [byte(2, at), byte(1, at), byte(0, at)],
                Channels::Grey => [byte(0, at); 3],
            })
        }))
    }
}

/// Luma as defined by ITU-R BT.601, in 16-bit fixed point and rounded to nearest, as in Pillow's mode `L`.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8]))
    }

    #[test]
    fn small_pictures_are_padded_with_black() {
        let preprocessing = Preprocessing { crop: Some([5, 4]), ..Preprocessing::default() };
        let prepared = preprocessing.apply(&RgbImage::from_pixel(2, 2, image::Rgb([9, 9, 9]))).unwrap();
        let bright: Vec<(u32, u32)> = prepared
            .image
            .enumerate_pixels()
            .filter(|(_, _, p)| p.0 == [9, 9, 9])
            .map(|(x, y, _)| (x, y))
            .collect();
        assert_eq!(bright, [(1, 1), (2, 1), (1, 2), (2, 2)]);
    }

    #[test]
    fn layouts_and_channel_orders_agree() {
        let image = gradient(6, 5);
        let rgb = Preprocessing::default().apply(&image).unwrap().tensor;
        let nhwc = Preprocessing { layout: Layout::Nhwc, ..Preprocessing::default() };
        let swapped = nhwc.apply(&image).unwrap().tensor;
        assert_eq!(swapped.dims(), [1, 5, 6, 3]);
        let back = swapped.permute((0, 3, 1, 2)).unwrap();
        let difference = (back - &rgb).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(difference, 0.0);
        let bgr = Preprocessing { channels: Channels::Bgr, ..Preprocessing::default() };
        let blue = bgr.apply(&image).unwrap().tensor.get(0).unwrap().get(0).unwrap();
        let expected = rgb.get(0).unwrap().get(2).unwrap();
        assert_eq!(blue.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn grey_networks_get_one_channel() {
        let grey = Preprocessing {
            channels: Channels::Grey,
            mean: vec![0.5],
            std: vec![0.5],
            ..Preprocessing::default()
        };
        let prepared = grey.apply(&RgbImage::from_pixel(3, 2, image::Rgb([255, 255, 255]))).unwrap();
        assert_eq!(prepared.tensor.dims(), [1, 1, 2, 3]);
        assert_eq!(prepared.tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 6]);
        assert_eq!([luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])], [76, 150, 29]);
    }

    #[test]
    fn networks_of_one_channel_get_luminance() {
        let one = Preprocessing { mean: vec![0.1307], std: vec![0.3081], ..Preprocessing::default() };
        let one = one.for_channels(1);
        assert_eq!((one.channels, one.mean.as_slice()), (Channels::Grey, &[0.1307][..]));
        let prepared = one.apply(&RgbImage::from_pixel(2, 2, image::Rgb([10, 200, 30]))).unwrap();
        assert_eq!(prepared.tensor.dims(), [1, 1, 2, 2]);
        // 0.299 · 10 + 0.587 · 200 + 0.114 · 30 = 123.81, rounded to 124.
        let values = prepared.tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|v| (v - (124.0 / 255.0 - 0.1307) / 0.3081).abs() < 1e-6), "{values:?}");
        // Means of three colours are not those of luminance.
        let imagenet = Preprocessing::imagenet().for_channels(1);
        assert_eq!((imagenet.mean, imagenet.std), (vec![0.0], vec![1.0]));
        let half = Preprocessing::inception_v3().for_channels(1);
        assert_eq!((half.mean, half.std), (vec![0.5], vec![0.5]));
        let three = Preprocessing { mean: vec![0.5], std: vec![0.25], ..Preprocessing::default() };
        assert_eq!(three.for_channels(3).mean, [0.5; 3]);
        assert_eq!(Preprocessing::imagenet().for_channels(3), Preprocessing::imagenet());
        assert_eq!(Preprocessing::imagenet().for_channels(4), Preprocessing::imagenet());
    }

    #[test]
    fn wrong_tensors_are_errors() {
        let preprocessing = Preprocessing::imagenet();
        for shape in [vec![3], vec![2, 3, 4, 4], vec![1, 4, 4, 4], vec![1, 3, 0, 4]] {
            let tensor = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            assert!(preprocessing.to_image(&tensor).is_err());
        }
        let nan = Tensor::full(f32::NAN, (1, 3, 2, 2), &Device::Cpu).unwrap();
        assert!(preprocessing.to_image(&nan).unwrap_err().to_string().contains("NaN"));
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]

        #[test]
        fn the_tensor_shows_the_picture((w, h) in (1u32..60, 1u32..60), size in 1usize..40, preset in 0usize..3) {
            let mut preprocessing = match preset {
                0 => Preprocessing::imagenet(),
                1 => Preprocessing::inception_v3(),
                _ => Preprocessing::efficientnet_lite(30),
            };
            preprocessing.crop = Some([size, size + 3]);
            preprocessing.resize = Some(super::super::Resize::Shorter(33));
            let prepared = preprocessing.apply(&gradient(w, h)).unwrap();
            prop_assert_eq!(preprocessing.to_image(&prepared.tensor).unwrap(), prepared.image);
        }
    }
}
