//! Reads image files.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::error::{Error, Result};
use crate::files;

const FORMAT: &str = "image";

/// Options for reading image files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Whether to rotate the image as its EXIF orientation says.
    pub exif_orientation: bool,
    /// Most pixels that an image may have.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    /// Ignores the EXIF orientation, as torchvision does, and allows at most 128 megapixels.
    fn default() -> Self {
        Self { exif_orientation: false, max_pixels: 128_000_000 }
    }
}

impl DecodeOptions {
    /// Returns the options with `exif_orientation` set to this value.
    #[must_use]
    pub fn with_exif_orientation(mut self, on: bool) -> Self {
        self.exif_orientation = on;
        self
    }
}

/// Reads a PNG, JPEG, WebP, BMP, GIF (first frame), TIFF or PNM file as 8-bit RGB.
///
/// The format is detected from the contents, not from the name. As with Pillow's `convert("RGB")`, grey images get
/// three equal channels, palettes are looked up, and transparency is dropped without blending. Of 16-bit channels, the
/// upper eight bits are used.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Malformed`] when it has none of these formats, is corrupt, or
/// has more than `max_pixels` pixels.
pub fn decode(path: impl AsRef<Path>, options: DecodeOptions) -> Result<RgbImage> {
    Ok(decode_and_turn(path.as_ref(), options)?.0)
}

/// [`decode`], and whether the image was turned or mirrored.
pub(super) fn decode_and_turn(path: &Path, options: DecodeOptions) -> Result<(RgbImage, bool)> {
    let (mut file, _) = files::open(path)?;
    let bad = |problem: String| Error::malformed(path, FORMAT, problem);
    let io = |e: io::Error| Error::io("read", path)(e);
    let mut start = Vec::new();
    file.by_ref().take(1).read_to_end(&mut start).map_err(io)?;
    if start.is_empty() {
        return Err(bad("it is empty".into()));
    }
    file.seek(SeekFrom::Start(0)).map_err(io)?;

    let mut input = BufReader::new(file);
    let format = ImageReader::new(&mut input).with_guessed_format().map_err(io)?.format();
    let Some(format) = format else {
        return Err(bad("its format is unknown; expected PNG, JPEG, WebP, BMP, GIF, TIFF or PNM".into()));
    };
    input.seek(SeekFrom::Start(0)).map_err(io)?;
    if format == ImageFormat::Jpeg {
        // The decoder fills the missing part of a truncated file with grey and does not report an error.
        if !jpeg_reaches_its_end(&mut input).map_err(io)? {
            return Err(bad("it has no end marker; it is truncated".into()));
        }
        input.seek(SeekFrom::Start(0)).map_err(io)?;
    }
    let mut reader = ImageReader::with_format(input, format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(1 << 20);
    limits.max_image_height = Some(1 << 20);
    // Up to four 16-bit channels, and as much again for tables and buffers of the decoder.
    limits.max_alloc = Some(options.max_pixels.saturating_mul(16));
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|e| bad(e.to_string()))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > options.max_pixels {
        return Err(bad(format!(
            "it has {width} × {height} pixels; expected 1 to {} pixels in total",
            options.max_pixels
        )));
    }
    decoder.set_limits(limits).map_err(|e| bad(e.to_string()))?;
    let orientation = if options.exif_orientation {
        decoder.orientation().map_err(|e| bad(e.to_string()))?
    } else {
        Orientation::NoTransforms
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| bad(e.to_string()))?;
    image.apply_orientation(orientation);
    Ok((to_rgb8(image), orientation != Orientation::NoTransforms))
}

/// Whether a JPEG file contains the marker for the end of the image. Goes through all segments from the start, since a
/// search from the end could find the marker of an embedded thumbnail.
fn jpeg_reaches_its_end(input: &mut impl BufRead) -> io::Result<bool> {
    let mut byte = [0; 1];
    loop {
        // Before a marker, there may be compressed data.
        while byte != [0xff] {
            if input.read(&mut byte)? == 0 {
                return Ok(false);
            }
        }
        while byte == [0xff] {
            if input.read(&mut byte)? == 0 {
                return Ok(false);
            }
        }
        match byte[0] {
            0xd9 => return Ok(true),
            // An escaped byte 0xff of the data, the start of the image, and restart markers have no length.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let mut length = Vec::new();
                input.by_ref().take(2).read_to_end(&mut length)?;
                let Ok(length) = <[u8; 2]>::try_from(length) else { return Ok(false) };
                let rest = u64::from(u16::from_be_bytes(length)).saturating_sub(2);
                io::copy(&mut input.by_ref().take(rest), &mut io::sink())?;
            }
        }
        byte = [0];
    }
}

/// Converts to 8-bit RGB.
fn to_rgb8(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb16(wide) => high_bytes(&wide),
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => {
            high_bytes(&image.into_rgb16())
        }
        other => other.into_rgb8(),
    }
}

/// Takes the upper byte of each channel, whereas `into_rgb8` would round.
fn high_bytes(wide: &image::ImageBuffer<image::Rgb<u16>, Vec<u16>>) -> RgbImage {
    RgbImage::from_fn(wide.width(), wide.height(), |x, y| {
        image::Rgb(wide.get_pixel(x, y).0.map(|v| (v >> 8) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    fn png() -> Vec<u8> {
        let image = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 200]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn decode_bytes(bytes: &[u8], options: DecodeOptions) -> Result<RgbImage> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        decode(file.path(), options)
    }

    #[test]
    fn the_contents_decide_about_the_format() {
        let image = decode_bytes(&png(), DecodeOptions::default()).unwrap();
        assert_eq!((image.width(), image.height()), (9, 7));
        assert_eq!(image.get_pixel(2, 3).0, [40, 90, 200]);
    }

    #[test]
    fn transparency_is_dropped_not_blended() {
        let image = image::RgbaImage::from_pixel(2, 2, image::Rgba([10, 20, 30, 0]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let image = decode_bytes(bytes.get_ref(), DecodeOptions::default()).unwrap();
        assert_eq!(image.get_pixel(0, 0).0, [10, 20, 30]);
    }

    #[test]
    fn truncated_pictures_are_errors_in_every_format() {
        let image = RgbImage::from_fn(64, 48, |x, y| Rgb([x as u8 * 3, y as u8 * 5, (x * y) as u8]));
        let formats = [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
            ImageFormat::Pnm,
        ];
        for format in formats {
            let mut bytes = std::io::Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            let bytes = bytes.into_inner();
            assert!(decode_bytes(&bytes, DecodeOptions::default()).is_ok(), "{format:?}");
            for part in [3, 10, 18] {
                let cut = &bytes[..bytes.len() * part / 20];
                assert!(decode_bytes(cut, DecodeOptions::default()).is_err(), "{format:?} cut to {part}/20");
            }
        }
    }

    #[test]
    fn photographs_are_turned_upright_only_when_asked() {
        // A TIFF directory of one entry: orientation (0x0112), one short, 6 = "turn clockwise".
        let exif = [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"[..], &[0; 4]].concat();
        let image = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 250 } else { 5 }; 3]));
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
        encoder.encode_image(&image).unwrap();
        let ignored = decode_bytes(&bytes, DecodeOptions::default()).unwrap();
        assert_eq!(ignored.dimensions(), (16, 8));
        let upright = decode_bytes(&bytes, DecodeOptions::default().with_exif_orientation(true)).unwrap();
        assert_eq!(upright.dimensions(), (8, 16));
        assert!(upright.get_pixel(4, 2)[0] > 200 && upright.get_pixel(4, 13)[0] < 50);
    }

    #[test]
    fn sixteen_bits_keep_their_upper_byte() {
        let wide = image::ImageBuffer::from_pixel(2, 2, Rgb([0x12ff_u16, 0x8000, 0xffff]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        DynamicImage::ImageRgb16(wide).write_to(&mut bytes, ImageFormat::Png).unwrap();
        let image = decode_bytes(bytes.get_ref(), DecodeOptions::default()).unwrap();
        assert_eq!(image.get_pixel(1, 1).0, [0x12, 0x80, 0xff]);
    }

    #[test]
    fn unusable_files_are_errors() {
        let options = DecodeOptions::default();
        assert!(decode("no such file", options).is_err());
        assert!(decode(std::env::temp_dir(), options).is_err());
        for bytes in [
            &b""[..],
            b"hello, world",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0",
            b"GIF89a",
            b"P6\n99999999 99999999\n255\n",
        ] {
            assert!(decode_bytes(bytes, options).is_err(), "{bytes:?}");
        }
        let few = DecodeOptions { max_pixels: 62, ..options };
        assert!(decode_bytes(&png(), few).unwrap_err().to_string().contains("9 × 7"));
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        #[test]
        fn corrupt_pictures_never_panic(at in any::<usize>(), value: u8, cut in any::<usize>()) {
            let image = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 200]));
            let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif,
                ImageFormat::Tiff, ImageFormat::Pnm];
            for format in formats {
                let mut bytes = std::io::Cursor::new(Vec::new());
                image.write_to(&mut bytes, format).unwrap();
                let mut bytes = bytes.into_inner();
                let length = bytes.len();
                bytes[at % length] = value;
                let _ = decode_bytes(&bytes, DecodeOptions::default());
                bytes.truncate(cut % length);
                let _ = decode_bytes(&bytes, DecodeOptions::default());
            }
        }
    }
}
