//! Writes pictures atomically as PNG, JPEG and WebP files.

use std::path::Path;

use base64::Engine;
use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use crate::finding::Finding;
use crate::metadata::{METADATA_KEYWORD, Metadata, ascii_json, exif};
use crate::{Error, Result};

/// A drawn picture with its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The pixels, in sRGB.
    pub image: RgbImage,
    /// How the picture was made.
    pub metadata: Metadata,
}

/// The supported file formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG: lossless, with metadata in an iTXt chunk.
    Png,
    /// JPEG: quality 92, with metadata in Exif.
    Jpeg,
    /// WebP: lossless, with metadata in Exif.
    WebP,
}

/// Most bytes of text in the Exif segment of a JPEG file.
const JPEG_TEXT: usize = 65_000;

impl Format {
    /// The format for the extension of a path (png, jpg, jpeg or webp, in upper or lower case).
    ///
    /// # Errors
    /// If there is another extension or none; the message lists the supported ones.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            Some("webp") => Ok(Self::WebP),
            Some(other) => Err(Error::Ending {
                path: path.to_owned(),
                found: format!("the extension .{other} is not supported"),
            }),
            None => Err(Error::Ending { path: path.to_owned(), found: "the name has no extension".into() }),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        }
    }
}

impl Picture {
    /// What readers of the picture should know about the values of its maps.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.metadata.panels.iter().flat_map(|p| &p.findings)
    }

    /// Encodes the picture. The same picture always gives the same bytes.
    ///
    /// # Errors
    /// If the format cannot hold a picture of this size.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>> {
        let failed =
            |e: &dyn std::fmt::Display| Error::Encode { format: format.name(), problem: e.to_string() };
        let (width, height) = self.image.dimensions();
        let json = self.metadata.to_json();
        let mut out = Vec::new();
        match format {
            Format::Png => {
                let mut encoder = png::Encoder::new(&mut out, width, height);
                encoder.set_color(png::ColorType::Rgb);
                encoder.set_depth(png::BitDepth::Eight);
                encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
                let text = |e: png::EncodingError| failed(&e);
                encoder.add_itxt_chunk("Title".into(), self.metadata.title.clone()).map_err(text)?;
                encoder.add_itxt_chunk("Software".into(), self.metadata.software.clone()).map_err(text)?;
                encoder.add_itxt_chunk(METADATA_KEYWORD.into(), json).map_err(text)?;
                let mut writer = encoder.write_header().map_err(text)?;
                writer.write_image_data(self.image.as_raw()).map_err(text)?;
                writer.finish().map_err(text)?;
            }
            Format::Jpeg => {
                let text = ascii_json(&json);
                if text.len() > JPEG_TEXT {
                    return Err(failed(
                        &"its metadata is too long for this format; write a .png file instead",
                    ));
                }
                let mut encoder = JpegEncoder::new_with_quality(&mut out, 92);
                encoder.set_exif_metadata(exif(&text)).map_err(|e| failed(&e))?;
                encoder
                    .write_image(self.image.as_raw(), width, height, ExtendedColorType::Rgb8)
                    .map_err(|e| failed(&e))?;
            }
            Format::WebP => {
                let mut encoder = WebPEncoder::new_lossless(&mut out);
                encoder.set_exif_metadata(exif(&ascii_json(&json))).map_err(|e| failed(&e))?;
                encoder
                    .write_image(self.image.as_raw(), width, height, ExtendedColorType::Rgb8)
                    .map_err(|e| failed(&e))?;
            }
        }
        Ok(out)
    }

    /// The picture as a `data:image/png;base64,…` URI for HTML.
    ///
    /// # Errors
    /// If the picture cannot be encoded.
    pub fn data_uri(&self) -> Result<String> {
        let png = self.encode(Format::Png)?;
        Ok(format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png)))
    }

    /// Writes the picture atomically, in the format for the extension of the path.
    ///
    /// # Errors
    /// If the extension is not supported, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.encode(Format::from_path(path)?)?;
        write_atomic(path, &bytes)
    }
}

/// Writes a file atomically, see [`ascribe_core::file::write_with`].
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    ascribe_core::file::write_with(path, |out| out.write_all(bytes)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::About;

    fn picture() -> Picture {
        let about = About::new().method("Saliency").target("кот × 🐈").probability(0.25).extra("seed", 7);
        Picture {
            image: RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 20) as u8, (y * 30) as u8, 90])),
            metadata: Metadata::new("Über <cats>", about),
        }
    }

    #[test]
    fn metadata_and_pixels_come_back_from_every_format() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.webp", "a.JPG", "a.jpeg"] {
            let path = dir.path().join(name);
            picture().save(&path).unwrap();
            assert_eq!(Metadata::read(&path).unwrap(), picture().metadata, "{name}");
            let pixels =
                image::ImageReader::open(&path).unwrap().with_guessed_format().unwrap().decode().unwrap();
            assert_eq!((pixels.width(), pixels.height()), (9, 7));
            if !name.to_lowercase().contains(".j") {
                assert_eq!(pixels.to_rgb8(), picture().image, "{name}");
            }
        }
    }

    #[test]
    fn unsupported_endings_name_the_path_and_the_choice() {
        for name in ["out/a.gif", "out/a"] {
            let message = picture().save(name).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(".png, .jpg, .jpeg and .webp"), "{message}");
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let message = picture().save(dir.path().join("none/a.png")).unwrap_err().to_string();
        assert!(message.contains("none/a.png"), "{message}");
        // There is a folder with the name of the file, so that renaming the temporary file fails.
        std::fs::create_dir_all(dir.path().join("b.png/x")).unwrap();
        assert!(picture().save(dir.path().join("b.png")).is_err());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["b.png"]);
        let path = dir.path().join("c.png");
        std::fs::write(&path, "old").unwrap();
        picture().save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn files_without_metadata_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain.png");
        picture().image.save(&path).unwrap();
        assert!(Metadata::read(&path).unwrap_err().to_string().contains("plain.png"));
        std::fs::write(&path, "no picture").unwrap();
        assert!(Metadata::read(&path).is_err());
    }
}
