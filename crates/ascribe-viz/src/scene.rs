//! A picture as a list of items with bounding boxes, which tests check for overlap before they are drawn.

use image::RgbImage;

use crate::canvas::{Canvas, LINE, Rgb};
use crate::text::TextStyle;
use crate::{Error, Result};

/// A rectangle in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Rect {
    pub const fn new(x: u32, y: u32, width: u32, height: u32) -> Self {
        Self { x, y, width, height }
    }

    pub const fn right(&self) -> u32 {
        self.x + self.width
    }

    pub const fn bottom(&self) -> u32 {
        self.y + self.height
    }

    #[cfg(test)]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.x < other.right() && other.x < self.right() && self.y < other.bottom() && other.y < self.bottom()
    }
}

/// The horizontal alignment of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

/// A geometric shape.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Fill(Rgb),
    Frame(Rgb),
    Polygon(Vec<(f32, f32)>, Rgb),
}

/// What an item draws.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Image(RgbImage),
    Line(String, TextStyle),
    Shape(Shape),
}

/// One thing to draw, and its bounding box.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub bounds: Rect,
    pub content: Content,
    /// Whether it may overlap other items, as frames and curves do.
    pub decoration: bool,
}

/// Everything in a picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub items: Vec<Item>,
}

impl Scene {
    pub fn image(&mut self, x: u32, y: u32, image: RgbImage) {
        let bounds = Rect::new(x, y, image.width(), image.height());
        self.items.push(Item { bounds, content: Content::Image(image), decoration: false });
    }

    /// Adds lines of text from the top of `area` on, aligned within its width; returns the height used.
    pub fn text(&mut self, area: Rect, lines: &[String], style: TextStyle, align: Align) -> u32 {
        let height = style.line_height();
        for (i, line) in lines.iter().enumerate() {
            let width = style.width(line);
            let free = area.width.saturating_sub(width);
            let x = area.x
                + match align {
                    Align::Left => 0,
                    Align::Centre => free / 2,
                    Align::Right => free,
                };
            let bounds = Rect::new(x, area.y + i as u32 * height, width, height);
            self.items.push(Item { bounds, content: Content::Line(line.clone(), style), decoration: false });
        }
        lines.len() as u32 * height
    }

    /// Wraps text to the width of the area and at most `max_lines` lines, then adds it as [`Scene::text`] does.
    pub fn paragraph(
        &mut self,
        area: Rect,
        text: &str,
        style: TextStyle,
        align: Align,
        max_lines: usize,
    ) -> u32 {
        let lines = style.wrap(text, area.width, max_lines);
        self.text(area, &lines, style, align)
    }

    pub fn fill(&mut self, bounds: Rect, color: Rgb) {
        self.items.push(Item { bounds, content: Content::Shape(Shape::Fill(color)), decoration: false });
    }

    pub fn frame(&mut self, bounds: Rect, color: Rgb) {
        self.items.push(Item { bounds, content: Content::Shape(Shape::Frame(color)), decoration: true });
    }

    pub fn polygon(&mut self, points: Vec<(f32, f32)>, color: Rgb) {
        let low =
            |f: fn(&(f32, f32)) -> f32| points.iter().map(f).fold(f32::INFINITY, f32::min).floor().max(0.0);
        let high = |f: fn(&(f32, f32)) -> f32| points.iter().map(f).fold(0.0, f32::max).ceil();
        let (x, y) = (low(|p| p.0) as u32, low(|p| p.1) as u32);
        let bounds = Rect::new(x, y, high(|p| p.0) as u32 - x, high(|p| p.1) as u32 - y);
        self.items.push(Item {
            bounds,
            content: Content::Shape(Shape::Polygon(points, color)),
            decoration: false,
        });
    }

    /// The right and bottom edges of all items.
    pub fn extent(&self) -> (u32, u32) {
        self.items.iter().fold((0, 0), |(w, h), i| (w.max(i.bounds.right()), h.max(i.bounds.bottom())))
    }

    /// Draws everything on a canvas that ends `margin` pixels after the last item.
    pub fn draw(&self, margin: u32) -> Result<RgbImage> {
        let (width, height) = self.extent();
        let mut canvas = Canvas::new(width.saturating_add(margin), height.saturating_add(margin))?;
        self.draw_on(&mut canvas);
        Ok(canvas.into_image())
    }

    pub fn draw_on(&self, canvas: &mut Canvas) {
        for item in &self.items {
            let b = item.bounds;
            match &item.content {
                Content::Image(image) => canvas.image(b.x, b.y, image),
                Content::Line(text, style) => style.draw(canvas, text, b.x as f32, b.y as f32),
                Content::Shape(Shape::Fill(color)) => canvas.rect(b.x, b.y, b.width, b.height, *color),
                Content::Shape(Shape::Frame(color)) => canvas.outline(b.x, b.y, b.width, b.height, *color),
                Content::Shape(Shape::Polygon(points, color)) => {
                    canvas.polygon(points, *color, 255);
                    let closed: Vec<_> = points.iter().chain(points.first()).copied().collect();
                    canvas.polyline(&closed, 1.0, LINE, &[]);
                }
            }
        }
    }

    /// Two items that overlap, if there are any.
    #[cfg(test)]
    pub fn overlap(&self) -> Option<(&Item, &Item)> {
        let solid: Vec<&Item> = self.items.iter().filter(|i| !i.decoration).collect();
        solid
            .iter()
            .enumerate()
            .find_map(|(n, a)| solid[n + 1..].iter().find(|b| a.bounds.overlaps(&b.bounds)).map(|b| (*a, *b)))
    }
}

/// The size with the aspect ratio of the photograph and a longer side of `side`; an error, about `what`, if the
/// photograph is empty.
pub(crate) fn fit_side(photo: &RgbImage, side: u32, what: &str) -> Result<(u32, u32)> {
    let (w, h) = photo.dimensions();
    if w == 0 || h == 0 {
        return Err(Error::Layout {
            what: what.into(),
            problem: format!("the photograph is {w} × {h} pixels: it is empty"),
        });
    }
    let scaled = |a: u32, b: u32| ((f64::from(side) * f64::from(a) / f64::from(b)).round() as u32).max(1);
    Ok(if w >= h { (side, scaled(h, w)) } else { (scaled(w, h), side) })
}
