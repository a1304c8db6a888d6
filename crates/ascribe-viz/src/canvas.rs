//! The canvas on which pictures are drawn.

use image::RgbImage;
use tiny_skia::{
    FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, PremultipliedColorU8, Stroke, StrokeDash,
    Transform,
};

use crate::{Error, Result};

/// An opaque sRGB colour.
pub(crate) type Rgb = [u8; 3];

/// Colour of the background.
pub(crate) const PAPER: Rgb = [255, 255, 255];
/// Colour of titles and labels.
pub(crate) const INK: Rgb = [23, 26, 31];
/// Colour of captions and tick labels.
pub(crate) const MUTED: Rgb = [92, 99, 110];
/// Colour of axes, outlines and ticks.
pub(crate) const LINE: Rgb = [168, 174, 183];
/// Colour of the grid lines of plots.
pub(crate) const FAINT: Rgb = [230, 233, 237];
/// Colour of findings.
pub(crate) const WARNING: Rgb = [166, 69, 0];

/// Most pixels of a picture; a larger picture is an error before memory is allocated.
pub(crate) const MAX_PIXELS: u64 = 1 << 28;

/// An opaque canvas of a fixed size.
pub(crate) struct Canvas {
    pixels: Pixmap,
}

impl Canvas {
    /// A white canvas.
    ///
    /// # Errors
    /// If width or height is zero or there are more than [`MAX_PIXELS`] pixels.
    pub fn new(width: u32, height: u32) -> Result<Self> {
        let (w, h) = (u64::from(width), u64::from(height));
        let too_large = Error::TooLarge { width: w, height: h, limit: MAX_PIXELS };
        if w * h > MAX_PIXELS {
            return Err(too_large);
        }
        let mut pixels = Pixmap::new(width, height).ok_or(too_large)?;
        pixels.fill(tiny_skia::Color::WHITE);
        Ok(Self { pixels })
    }

    /// Blends a colour with one pixel, with opacity `cover`; pixels outside the canvas are ignored.
    pub fn blend(&mut self, x: i32, y: i32, color: Rgb, cover: f32) {
        let (width, height) = (self.pixels.width() as i32, self.pixels.height() as i32);
        if x < 0 || y < 0 || x >= width || y >= height {
            return;
        }
        let pixel = &mut self.pixels.pixels_mut()[(y * width + x) as usize];
        let cover = cover.clamp(0.0, 1.0);
        let mix = |below: u8, above: u8| {
            (f32::from(below) + cover * (f32::from(above) - f32::from(below))).round() as u8
        };
        let [r, g, b] =
            [mix(pixel.red(), color[0]), mix(pixel.green(), color[1]), mix(pixel.blue(), color[2])];
        // An opaque colour is the same with premultiplied alpha.
        if let Some(mixed) = PremultipliedColorU8::from_rgba(r, g, b, 255) {
            *pixel = mixed;
        }
    }

    /// Copies an image with its top left corner at (x, y).
    pub fn image(&mut self, x: u32, y: u32, image: &RgbImage) {
        for (dx, dy, p) in image.enumerate_pixels() {
            self.blend((x + dx) as i32, (y + dy) as i32, p.0, 1.0);
        }
    }

    /// Fills a rectangle.
    pub fn rect(&mut self, x: u32, y: u32, width: u32, height: u32, color: Rgb) {
        for dy in 0..height {
            for dx in 0..width {
                self.blend((x + dx) as i32, (y + dy) as i32, color, 1.0);
            }
        }
    }

    /// Draws the outline of a rectangle, one pixel wide and inside its bounds.
    pub fn outline(&mut self, x: u32, y: u32, width: u32, height: u32, color: Rgb) {
        if width == 0 || height == 0 {
            return;
        }
        self.rect(x, y, width, 1, color);
        self.rect(x, y + height - 1, width, 1, color);
        self.rect(x, y, 1, height, color);
        self.rect(x + width - 1, y, 1, height, color);
    }

    /// Draws an antialiased line through points, with an optional dash pattern (on, off, …).
    pub fn polyline(&mut self, points: &[(f32, f32)], width: f32, color: Rgb, dash: &[f32]) {
        let mut path = PathBuilder::new();
        for (i, &(x, y)) in points.iter().enumerate() {
            if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        let Some(path) = path.finish() else { return };
        let stroke = Stroke {
            width,
            line_cap: if dash.is_empty() { LineCap::Round } else { LineCap::Butt },
            line_join: LineJoin::Round,
            dash: StrokeDash::new(dash.to_vec(), 0.0),
            ..Stroke::default()
        };
        self.pixels.stroke_path(&path, &paint(color, 255), &stroke, Transform::identity(), None);
    }

    /// Fills a polygon, antialiased.
    pub fn polygon(&mut self, points: &[(f32, f32)], color: Rgb, alpha: u8) {
        let mut path = PathBuilder::new();
        for (i, &(x, y)) in points.iter().enumerate() {
            if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        path.close();
        if let Some(path) = path.finish() {
            self.pixels.fill_path(
                &path,
                &paint(color, alpha),
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }

    /// The finished picture.
    pub fn into_image(self) -> RgbImage {
        let (width, height) = (self.pixels.width(), self.pixels.height());
        let mut image = RgbImage::new(width, height);
        for (to, from) in image.pixels_mut().zip(self.pixels.pixels()) {
            to.0 = [from.red(), from.green(), from.blue()];
        }
        image
    }
}

fn paint(color: Rgb, alpha: u8) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(color[0], color[1], color[2], alpha);
    paint.anti_alias = true;
    paint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversized_canvases_are_refused() {
        assert!(matches!(Canvas::new(u32::MAX, u32::MAX), Err(Error::TooLarge { .. })));
        assert!(Canvas::new(0, 10).is_err());
    }

    #[test]
    fn drawing_outside_is_ignored_and_an_image_lands_where_asked() {
        let mut canvas = Canvas::new(4, 3).unwrap();
        canvas.blend(-1, 9, INK, 1.0);
        canvas.image(2, 1, &RgbImage::from_pixel(1, 1, image::Rgb([10, 20, 30])));
        canvas.polyline(&[], 1.0, INK, &[]);
        let image = canvas.into_image();
        assert_eq!(image.get_pixel(2, 1).0, [10, 20, 30]);
        assert_eq!(image.pixels().filter(|p| p.0 == PAPER).count(), 11);
    }
}
