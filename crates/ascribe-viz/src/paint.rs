//! Draws maps over photographs.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::heatmap::Heatmap;
use crate::scale::Scale;
use crate::style::Style;
use crate::{Error, Result};

/// The colour of the stripes that mark NaN. No colour map has this yellow next to black.
pub(crate) const HATCH: [u8; 3] = [255, 221, 0];

/// The part of a photograph that was the network's input and that the map covers, in pixels of the photograph.
/// Preprocessing usually crops the photograph, and the rest of it has no attribution.
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
    /// The region for preprocessing that resizes the shorter side to `resize` pixels and crops a square of `crop`
    /// pixels from the centre, as for ImageNet. It is limited to the photograph.
    pub fn centre_crop(width: u32, height: u32, resize: u32, crop: u32) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        let side = (w.min(h) * f64::from(crop) / f64::from(resize.max(1))).min(w.min(h));
        Self { x: (w - side) / 2.0, y: (h - side) / 2.0, width: side, height: side }
    }

    /// An error if the region is not within a photograph of this size.
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
            what: "the region of the network's input".into(),
            problem: format!(
                "{} × {} at ({}, {}) is not within the photograph of {width} × {height} pixels",
                self.width, self.height, self.x, self.y
            ),
        })
    }
}

/// Crops the photograph to the region.
pub(crate) fn cropped(photo: &RgbImage, region: Region) -> Result<RgbImage> {
    region.check(photo.width(), photo.height())?;
    let start = |v: f64, max: u32| (v.round() as u32).min(max - 1);
    let (x, y) = (start(region.x, photo.width()), start(region.y, photo.height()));
    let size = |v: f64, max: u32| (v.round() as u32).clamp(1, max);
    let (width, height) = (size(region.width, photo.width() - x), size(region.height, photo.height() - y));
    Ok(imageops::crop_imm(photo, x, y, width, height).to_image())
}

/// Resizes a photograph.
pub(crate) fn resized(photo: &RgbImage, width: u32, height: u32) -> RgbImage {
    if photo.dimensions() == (width, height) {
        photo.clone()
    } else {
        imageops::resize(photo, width, height, FilterType::CatmullRom)
    }
}

/// Draws the map over the photograph, at `width` × `height` pixels.
pub(crate) fn paint(
    photo: &RgbImage,
    region: Option<Region>,
    (width, height): (u32, u32),
    map: &Heatmap,
    scale: &Scale,
    style: &Style,
) -> Result<RgbImage> {
    let (sx, sy) = (
        f64::from(width) / f64::from(photo.width().max(1)),
        f64::from(height) / f64::from(photo.height().max(1)),
    );
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

/// The colour of a pixel whose value is NaN: a pattern of stripes.
pub(crate) fn hatch(x: u32, y: u32) -> [u8; 3] {
    if (x + y) % 8 < 4 { HATCH } else { [20, 20, 20] }
}

/// Draws a thin frame around the region, except at the edges of the picture.
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
    use crate::{Backdrop, Colormap, Upsampling};

    fn photo() -> RgbImage {
        RgbImage::from_fn(8, 6, |x, y| Rgb([(x * 30) as u8, (y * 40) as u8, 128]))
    }

    #[test]
    fn zero_shows_the_backdrop_and_the_extreme_shows_the_map() {
        let map = Heatmap::new(1, 3, vec![-2.0, 0.0, 2.0], true).unwrap();
        let style =
            Style { percentile: 100.0, opacity: 1.0, upsampling: Upsampling::Nearest, ..Style::default() };
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
}
