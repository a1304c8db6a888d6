//! How maps are coloured and laid over photographs.

use std::borrow::Cow;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::heatmap::{Heatmap, Upsampling};
use crate::oklab::Oklab;
use crate::scale::{DEFAULT_PERCENTILE, Scale, ScaleKind};
use crate::{Colormap, Error, Result};

/// What lies under the colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backdrop {
    /// The photograph in greys, pale under maps that are light at zero and dark under the others, so that no colour
    /// of the photograph can be taken for one of the map.
    #[default]
    Gray,
    /// The photograph in its colours.
    Photo,
    /// Nothing: the colour map alone.
    Plain,
}

/// How a map is coloured: scale, colour maps, blending. The defaults suit most maps.
///
/// The colour of a place is `under + α · (colour − under)`. Without `fade`, `under` is the backdrop and α the `opacity`.
/// With it, α is `opacity` times the value's distance from zero as a fraction of the scale, and `under` is the backdrop
/// tinted by the colour (multiplied where zero is light, screened where it is dark): zero leaves the backdrop as it
/// is, the ends are the map's own colours, and the photograph's structure shows between. Colour bars are blended in
/// the same way onto the backdrop's middle grey, so that a colour in the picture is found on its bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Style {
    /// The percentile at which colours are clipped, above 50 and at most 100.
    pub percentile: f64,
    /// Overrides what the map is: signed maps are diverging, magnitudes sequential.
    pub scale: Option<ScaleKind>,
    /// The colour map of magnitudes.
    pub sequential: Colormap,
    /// The colour map of signed values.
    pub diverging: Colormap,
    /// How coarse maps are brought to the picture's size.
    pub upsampling: Upsampling,
    /// Standard deviation, in cells of the map, of the Gaussian that the map is smoothed with before it is shown;
    /// 0 (the default) shows the map as it is. A sum over a region survives smoothing, single pixels do not.
    pub smoothing: f64,
    /// What lies under the colours.
    pub backdrop: Backdrop,
    /// The largest share of the map's colour, 0..=1.
    pub opacity: f64,
    /// Whether values near zero let the backdrop through.
    pub fade: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            percentile: DEFAULT_PERCENTILE,
            scale: None,
            sequential: Colormap::Inferno,
            diverging: Colormap::BlueWhiteRed,
            upsampling: Upsampling::Bilinear,
            smoothing: 0.0,
            backdrop: Backdrop::Gray,
            opacity: 0.95,
            fade: true,
        }
    }
}

impl Style {
    /// The colour map for a kind of scale.
    pub fn colormap(&self, kind: ScaleKind) -> Colormap {
        match kind {
            ScaleKind::Diverging => self.diverging,
            ScaleKind::Sequential => self.sequential,
        }
    }

    /// The map as it is shown: smoothed if asked for.
    pub(crate) fn shown<'a>(&self, map: &'a Heatmap) -> Result<Cow<'a, Heatmap>> {
        if self.smoothing == 0.0 { Ok(Cow::Borrowed(map)) } else { map.smooth(self.smoothing).map(Cow::Owned) }
    }

    /// The caption's words on smoothing.
    pub(crate) fn smoothing_words(&self) -> Option<String> {
        (self.smoothing != 0.0).then(|| format!("smoothed for display (Gaussian, σ = {} cells)", self.smoothing))
    }

    /// The scale that this style gives one map, or several that share one, after smoothing.
    ///
    /// # Errors
    /// If the style's percentile is out of range.
    pub fn fit<'a>(&self, maps: impl IntoIterator<Item = &'a Heatmap>) -> Result<Scale> {
        let maps = maps.into_iter().map(|m| self.shown(m)).collect::<Result<Vec<_>>>()?;
        Scale::shared(maps.iter().map(AsRef::as_ref), self.scale, self.percentile)
    }

    /// # Errors
    /// If a colour map is of the wrong kind, or the opacity is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(Error::Setting { what: "the opacity", value: self.opacity, expected: "from 0 to 1" });
        }
        for (map, kind, what) in [
            (self.sequential, ScaleKind::Sequential, "the sequential colour map"),
            (self.diverging, ScaleKind::Diverging, "the diverging colour map"),
        ] {
            if map.kind() != kind {
                let fitting: Vec<_> = Colormap::ALL.into_iter().filter(|m| m.kind() == kind).map(Colormap::id).collect();
                return Err(Error::Layout {
                    what: what.into(),
                    problem: format!("`{map}` is of the other kind; use one of {}", fitting.join(", ")),
                });
            }
        }
        Ok(())
    }

    /// The colour of a value over a backdrop.
    pub(crate) fn color(&self, scale: &Scale, value: f64, below: [u8; 3]) -> [u8; 3] {
        let Some(position) = scale.position(value) else { return HATCH };
        let map = self.colormap(scale.kind);
        let (above, neutral) = (map.eval(position), map.neutral());
        let alpha = match (self.backdrop, self.fade) {
            (Backdrop::Plain, _) => 1.0,
            (_, true) => self.opacity * scale.strength(value),
            (_, false) => self.opacity,
        };
        std::array::from_fn(|i| {
            let [below, above, neutral] = [below[i], above[i], neutral[i]].map(|c| f64::from(c) / 255.0);
            let under = match (self.fade, map.is_light_at_zero()) {
                (false, _) => below,
                (true, true) => below * (above / neutral).min(1.0),
                (true, false) => 1.0 - (1.0 - below) * ((1.0 - above) / (1.0 - neutral)).min(1.0),
            };
            ((under + alpha * (above - under)) * 255.0).round() as u8
        })
    }

    /// A pixel of the photograph as it looks under this style's colours.
    fn backdrop(&self, kind: ScaleKind, pixel: [u8; 3]) -> [u8; 3] {
        let map = self.colormap(kind);
        match self.backdrop {
            Backdrop::Photo => pixel,
            Backdrop::Plain => map.neutral(),
            Backdrop::Gray => {
                let l = Oklab::from_srgb8(pixel).l;
                let (from, to) = if map.is_light_at_zero() { (0.54, 1.0) } else { (0.08, 0.62) };
                Oklab { l: from + l * (to - from), a: 0.0, b: 0.0 }.to_srgb8()
            }
        }
    }

    /// The backdrop under a colour bar: that of a middle grey.
    pub(crate) fn bar_backdrop(&self, kind: ScaleKind) -> [u8; 3] {
        self.backdrop(kind, [119; 3])
    }
}

/// Stripes where a value is not a number; no colour map has this yellow beside black.
const HATCH: [u8; 3] = [255, 221, 0];

/// The part of a photograph that the network saw, in the photograph's pixels: where the map lies. Preprocessing
/// usually crops, and what was cropped away has no attribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Region {
    /// The part of a photograph that remains when its shorter side is resized to `resize` pixels and a square of
    /// `crop` pixels is cut from its centre, as ImageNet preprocessing does. Clamped to the photograph.
    pub fn centre_crop(width: u32, height: u32, resize: u32, crop: u32) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        let side = (w.min(h) * f64::from(crop) / f64::from(resize.max(1))).min(w.min(h));
        Self { x: (w - side) / 2.0, y: (h - side) / 2.0, width: side, height: side }
    }

    pub(crate) fn check(&self, width: u32, height: u32) -> Result<()> {
        let inside = self.x >= 0.0
            && self.y >= 0.0
            && self.width >= 1.0
            && self.height >= 1.0
            && self.x + self.width <= f64::from(width) + 1e-6
            && self.y + self.height <= f64::from(height) + 1e-6;
        if inside {
            return Ok(());
        }
        Err(Error::Layout {
            what: "the region that the network saw".into(),
            problem: format!(
                "{} × {} at ({}, {}) is not within the photograph of {width} × {height} pixels",
                self.width, self.height, self.x, self.y
            ),
        })
    }
}

/// What the network saw, alone.
pub(crate) fn cropped(photo: &RgbImage, region: Region) -> Result<RgbImage> {
    region.check(photo.width(), photo.height())?;
    let start = |v: f64, max: u32| (v.round() as u32).min(max - 1);
    let (x, y) = (start(region.x, photo.width()), start(region.y, photo.height()));
    let size = |v: f64, max: u32| (v.round() as u32).clamp(1, max);
    let (width, height) = (size(region.width, photo.width() - x), size(region.height, photo.height() - y));
    Ok(imageops::crop_imm(photo, x, y, width, height).to_image())
}

/// A photograph brought to a size.
pub(crate) fn resized(photo: &RgbImage, width: u32, height: u32) -> RgbImage {
    if photo.dimensions() == (width, height) {
        photo.clone()
    } else {
        imageops::resize(photo, width, height, FilterType::CatmullRom)
    }
}

/// The map over the photograph, at `width` × `height` pixels.
pub(crate) fn paint(
    photo: &RgbImage,
    region: Option<Region>,
    (width, height): (u32, u32),
    map: &Heatmap,
    scale: &Scale,
    style: &Style,
) -> Result<RgbImage> {
    let (sx, sy) =
        (f64::from(width) / f64::from(photo.width().max(1)), f64::from(height) / f64::from(photo.height().max(1)));
    let mut picture = resized(photo, width, height);
    for p in picture.pixels_mut() {
        p.0 = style.backdrop(scale.kind, p.0);
    }
    let (left, top, right, bottom) = match region {
        None => (0, 0, width, height),
        Some(r) => {
            r.check(photo.width(), photo.height())?;
            let edge = |v: f64, s: f64, max: u32| ((v * s).round() as u32).min(max);
            let (left, top) = (edge(r.x, sx, width - 1), edge(r.y, sy, height - 1));
            let (right, bottom) = (edge(r.x + r.width, sx, width), edge(r.y + r.height, sy, height));
            (left, top, right.max(left + 1), bottom.max(top + 1))
        }
    };
    let map = style.shown(map)?.resize((bottom - top) as usize, (right - left) as usize, style.upsampling)?;
    let unseen = if style.colormap(scale.kind).is_light_at_zero() { 255u16 } else { 0 };
    for (x, y, p) in picture.enumerate_pixels_mut() {
        if (left..right).contains(&x) && (top..bottom).contains(&y) {
            let value = map.values()[(y - top) as usize * map.width() + (x - left) as usize];
            p.0 = if value.is_nan() { hatch(x, y) } else { style.color(scale, value, p.0) };
        } else {
            p.0 = p.0.map(|c| ((u16::from(c) * 2 + unseen * 3) / 5) as u8);
        }
    }
    if region.is_some() {
        outline(&mut picture, (left, top, right, bottom));
    }
    Ok(picture)
}

pub(crate) fn hatch(x: u32, y: u32) -> [u8; 3] {
    if (x + y) % 8 < 4 { HATCH } else { [20, 20, 20] }
}

/// A thin frame on what the network saw, where that is not the whole.
fn outline(picture: &mut RgbImage, (left, top, right, bottom): (u32, u32, u32, u32)) {
    let (width, height) = picture.dimensions();
    let grey = Rgb([128, 132, 140]);
    for y in top..bottom {
        if left > 0 {
            picture.put_pixel(left, y, grey);
        }
        if right < width {
            picture.put_pixel(right - 1, y, grey);
        }
    }
    for x in left..right {
        if top > 0 {
            picture.put_pixel(x, top, grey);
        }
        if bottom < height {
            picture.put_pixel(x, bottom - 1, grey);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo() -> RgbImage {
        RgbImage::from_fn(8, 6, |x, y| Rgb([(x * 30) as u8, (y * 40) as u8, 128]))
    }

    #[test]
    fn zero_shows_the_backdrop_and_the_extreme_shows_the_map() {
        let map = Heatmap::new(1, 3, vec![-2.0, 0.0, 2.0], true).unwrap();
        let style = Style { percentile: 100.0, opacity: 1.0, upsampling: Upsampling::Nearest, ..Style::default() };
        let scale = style.fit([&map]).unwrap();
        let painted = paint(&photo(), None, (9, 6), &map, &scale, &style).unwrap();
        assert_eq!(painted.get_pixel(0, 0).0, Colormap::BlueWhiteRed.eval(0.0));
        assert_eq!(painted.get_pixel(8, 5).0, Colormap::BlueWhiteRed.eval(1.0));
        let [r, g, b] = painted.get_pixel(4, 3).0;
        assert!(r == g && g == b, "zero must be grey, is {r} {g} {b}");
    }

    #[test]
    fn an_all_zero_map_stays_a_grey_photograph_and_a_plain_one_neutral() {
        let map = Heatmap::new(2, 2, vec![0.0; 4], true).unwrap();
        for backdrop in [Backdrop::Gray, Backdrop::Plain] {
            let style = Style { backdrop, ..Style::default() };
            let scale = style.fit([&map]).unwrap();
            let painted = paint(&photo(), None, (8, 6), &map, &scale, &style).unwrap();
            assert!(painted.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
            if backdrop == Backdrop::Plain {
                assert!(painted.pixels().all(|p| p.0 == Colormap::BlueWhiteRed.neutral()));
            }
        }
    }

    #[test]
    fn nan_is_hatched_and_the_rest_is_not() {
        let map = Heatmap::new(1, 2, vec![f64::NAN, 0.0], true).unwrap();
        let style = Style { upsampling: Upsampling::Nearest, ..Style::default() };
        let scale = style.fit([&map]).unwrap();
        let painted = paint(&photo(), None, (8, 6), &map, &scale, &style).unwrap();
        for (x, y, p) in painted.enumerate_pixels() {
            assert_eq!(p.0 == hatch(x, y), x < 4, "at {x}, {y}");
        }
    }

    #[test]
    fn outside_the_region_nothing_is_coloured() {
        let map = Heatmap::new(1, 1, vec![1.0], true).unwrap();
        let style = Style::default();
        let scale = style.fit([&map]).unwrap();
        let region = Region { x: 2.0, y: 0.0, width: 4.0, height: 6.0 };
        let painted = paint(&photo(), Some(region), (8, 6), &map, &scale, &style).unwrap();
        for (x, _, p) in painted.enumerate_pixels() {
            assert_eq!(p.0[0] > p.0[2], (3..5).contains(&x), "at {x}: {:?}", p.0);
        }
        let wrong = Region { x: 6.0, ..region };
        assert!(paint(&photo(), Some(wrong), (8, 6), &map, &scale, &style).is_err());
    }

    #[test]
    fn centre_crop_is_that_of_imagenet() {
        let r = Region::centre_crop(451, 300, 256, 224);
        assert_eq!((r.x, r.y, r.width), (94.25, 18.75, 262.5));
        r.check(451, 300).unwrap();
    }

    #[test]
    fn settings_are_checked_and_round_trip() {
        assert!(Style { opacity: 1.5, ..Style::default() }.check().is_err());
        let message = Style { diverging: Colormap::Viridis, ..Style::default() }.check().unwrap_err().to_string();
        assert!(message.contains("viridis") && message.contains("blue-white-red"), "{message}");
        let json = serde_json::to_string(&Style::default()).unwrap();
        assert_eq!(serde_json::from_str::<Style>(&json).unwrap(), Style::default());
    }
}
