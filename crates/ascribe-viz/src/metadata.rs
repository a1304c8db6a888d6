//! Metadata in picture files: how the picture was made.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use image::{ImageDecoder, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::{Colormap, Error, Heatmap, Reduction, Result, Scale, Style, Upsampling};

/// The keyword of the PNG text chunk (iTXt, UTF-8) that holds the metadata as JSON. JPEG and WebP files contain the
/// same JSON as the Exif tag `ImageDescription`.
pub const METADATA_KEYWORD: &str = "ascribe";

/// What was explained. It is shown in captions and stored in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The model's name or file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The method's name, for example "Integrated Gradients".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The target's label, for example "Egyptian cat (285)".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The target's probability, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Other values to store with the picture, such as the configuration, the completeness gap or the seed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl About {
    /// An empty description.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name of the model.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the name of the method.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Sets the label of the target.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Sets the target's probability, 0..=1.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self
    }

    /// Adds a named value to the metadata.
    pub fn extra(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(key.into(), value.into());
        self
    }
}

/// How the colours of one map were computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PanelInfo {
    /// The row of the panel (its input), if the picture has several rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// The column of the panel (its method), if the picture has several columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Height and width of the map before upsampling, in cells.
    pub grid: [usize; 2],
    /// How channels were reduced to one value.
    pub reduction: Reduction,
    /// Whether the sign of the values has a meaning.
    pub signed: bool,
    /// Standard deviation, in cells, of the Gaussian with which the map was smoothed for display; 0 means no smoothing.
    pub smoothing: f64,
    /// How the map was resized to the size of the picture.
    pub upsampling: Upsampling,
    /// The colour map.
    pub colormap: Colormap,
    /// Smallest and largest finite value of the map itself, before smoothing.
    pub range: Option<(f64, f64)>,
    /// The scale: clip percentile, limits, range of the values, and number of clipped values.
    pub scale: Scale,
    /// What readers of the picture should know about the values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl PanelInfo {
    pub(crate) fn new(map: &Heatmap, scale: Scale, style: &Style) -> Self {
        Self {
            row: None,
            column: None,
            grid: [map.height(), map.width()],
            reduction: map.reduction(),
            signed: map.is_signed(),
            smoothing: style.smoothing,
            upsampling: style.upsampling,
            colormap: style.colormap(scale.kind),
            range: map.range(),
            scale,
            findings: map.findings().into_iter().chain(scale.finding(style.percentile)).collect(),
        }
    }
}

/// The metadata of a picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Name and version of the software.
    pub software: String,
    /// The picture's title.
    pub title: String,
    /// What was explained.
    pub about: About,
    /// One entry per attribution map in the picture.
    pub panels: Vec<PanelInfo>,
}

impl Metadata {
    pub(crate) fn new(title: &str, about: About) -> Self {
        Self {
            software: concat!("ascribe ", env!("CARGO_PKG_VERSION")).into(),
            title: title.into(),
            about,
            panels: Vec::new(),
        }
    }

    /// The metadata as one line of JSON.
    pub fn to_json(&self) -> String {
        // This cannot fail: all maps have string keys, and floats that are not finite are written as null.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the metadata back from a picture that this crate wrote (PNG, JPEG or WebP).
    ///
    /// # Errors
    /// If the file cannot be read, is not such a picture, or has no metadata.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |problem: String| Error::Metadata { path: path.to_owned(), problem };
        let read = |source| Error::Read { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(read)?;
        let json = match image::guess_format(&bytes).map_err(|e| wrong(e.to_string()))? {
            ImageFormat::Png => {
                let reader = png::Decoder::new(std::io::Cursor::new(&bytes))
                    .read_info()
                    .map_err(|e| wrong(e.to_string()))?;
                let chunk = reader.info().utf8_text.iter().find(|c| c.keyword == METADATA_KEYWORD);
                let chunk = chunk.ok_or_else(|| wrong(format!("no text chunk `{METADATA_KEYWORD}`")))?;
                chunk.get_text().map_err(|e| wrong(e.to_string()))?
            }
            format @ (ImageFormat::Jpeg | ImageFormat::WebP) => {
                let reader = ImageReader::with_format(BufReader::new(std::io::Cursor::new(&bytes)), format);
                let mut decoder = reader.into_decoder().map_err(|e| wrong(e.to_string()))?;
                let exif = decoder.exif_metadata().map_err(|e| wrong(e.to_string()))?;
                let exif = exif.ok_or_else(|| wrong("no Exif data".into()))?;
                description(&exif).ok_or_else(|| wrong("no image description in its Exif data".into()))?
            }
            other => return Err(wrong(format!("{other:?} files are not written by this crate"))),
        };
        serde_json::from_str(&json).map_err(|e| wrong(e.to_string()))
    }
}

/// The Exif tag `ImageDescription`, an ASCII string.
const IMAGE_DESCRIPTION: u16 = 0x010E;
/// The Exif type of ASCII strings.
const ASCII: u16 = 2;
/// Where the text starts: after the header (8 bytes), the number of entries (2), one entry (12) and the offset of the
/// next directory (4).
const TEXT_OFFSET: u32 = 26;

/// Exif data (a TIFF structure) with one tag, the image description, which must be ASCII.
pub(crate) fn exif(ascii: &str) -> Vec<u8> {
    let mut out = b"II*\0".to_vec();
    out.extend(8u32.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(IMAGE_DESCRIPTION.to_le_bytes());
    out.extend(ASCII.to_le_bytes());
    out.extend((ascii.len() as u32 + 1).to_le_bytes());
    out.extend(TEXT_OFFSET.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(ascii.bytes());
    out.push(0);
    out
}

/// The text in Exif data that [`exif`] wrote; other Exif data is not supported.
fn description(exif: &[u8]) -> Option<String> {
    let entry = exif.get(10..22)?;
    let known = exif.starts_with(b"II*\0\x08\0\0\0\x01\0") && entry[..2] == IMAGE_DESCRIPTION.to_le_bytes();
    let length = u32::from_le_bytes(entry[4..8].try_into().ok()?) as usize;
    let start = u32::from_le_bytes(entry[8..12].try_into().ok()?) as usize;
    let text = exif.get(start..start.checked_add(length)?.checked_sub(1)?)?;
    known.then(|| String::from_utf8(text.to_vec()).ok())?
}

/// Escapes JSON to pure ASCII: other characters become `\uXXXX`, which JSON readers decode.
pub(crate) fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.extend(format!("\\u{unit:04x}").chars());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exif_text_round_trips_beyond_ascii() {
        let json = serde_json::to_string("Kätzchen × 🐈").unwrap();
        let text = description(&exif(&ascii_json(&json))).unwrap();
        assert!(text.is_ascii());
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "Kätzchen × 🐈");
    }

    #[test]
    fn malformed_exif_is_no_panic() {
        let good = exif("text");
        for cut in 0..good.len() - 1 {
            assert_eq!(description(&good[..cut]), None);
        }
        let mut wild = good;
        wild[14..18].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(description(&wild), None);
    }
}
