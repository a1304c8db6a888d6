//! Draws the axes, lines and bands of a plot, and the line samples of the legend.

use crate::canvas::{Canvas, FAINT, LINE, PAPER, Rgb};
use crate::number;
use crate::scene::Scene;

use super::Series;
use super::layout::{Frame, x_tick_count, y_tick_count};

/// Colours of lines that colour-blind people can distinguish, too (Okabe & Ito 2008, without yellow), each with a dash
/// pattern that helps in greyscale.
pub(super) const LINES: [(Rgb, &[f32]); 7] = [
    ([0, 114, 178], &[]),
    ([213, 94, 0], &[]),
    ([0, 158, 115], &[]),
    ([204, 121, 167], &[]),
    ([86, 180, 233], &[7.0, 4.0]),
    ([230, 159, 0], &[7.0, 4.0]),
    ([60, 60, 60], &[2.5, 3.5]),
];

/// Draws axes, ticks and grid lines.
pub(super) fn axes(canvas: &mut Canvas, frame: &Frame) {
    let Frame { area, x, y } = frame;
    let (left, top) = (area.x as f32, area.y as f32);
    let (right, bottom) = (area.right() as f32, area.bottom() as f32);
    for value in number::ticks(y.0, y.1, y_tick_count(area.height)) {
        let at = frame.at((x.0, value)).1.round() + 0.5;
        let color = if value == 0.0 { LINE } else { FAINT };
        canvas.polyline(&[(left, at), (right, at)], 1.0, color, &[]);
    }
    for value in number::ticks(x.0, x.1, x_tick_count(area.width)) {
        let at = frame.at((value, y.0)).0.round() + 0.5;
        canvas.polyline(&[(at, bottom), (at, bottom + 5.0)], 1.0, LINE, &[]);
    }
    canvas.polyline(&[(left + 0.5, top), (left + 0.5, bottom + 0.5), (right, bottom + 0.5)], 1.0, LINE, &[]);
}

/// Draws the line samples of the legend, for which the scene has items.
pub(super) fn keys(canvas: &mut Canvas, scene: &Scene) {
    let keys = scene.items.iter().filter(|i| i.decoration);
    for (i, key) in keys.enumerate() {
        let (color, dash) = LINES[i % LINES.len()];
        let b = key.bounds;
        let at = b.y as f32 + b.height as f32 / 2.0;
        canvas.rect(b.x, b.y, b.width, b.height, PAPER);
        canvas.polyline(&[(b.x as f32 + 1.0, at), (b.right() as f32 - 1.0, at)], 2.5, color, dash);
    }
}

/// Draws a line and its band, in the colour for its position in the legend.
pub(super) fn series(canvas: &mut Canvas, frame: &Frame, series: &Series, index: usize) {
    let (color, dash) = LINES[index % LINES.len()];
    let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
    if !series.spread.is_empty() {
        let band = |sign: f64| {
            let points = series.points.iter().zip(&series.spread);
            points.map(move |(p, s)| (p.0, p.1 + sign * s)).filter(finite).map(|p| frame.at(p))
        };
        let mut outline: Vec<_> = band(1.0).collect();
        let mut lower: Vec<_> = band(-1.0).collect();
        lower.reverse();
        outline.extend(lower);
        canvas.polygon(&outline, color, 45);
    }
    // Points that are not finite make gaps in the line.
    for run in series.points.split(|p| !finite(p)).filter(|r| !r.is_empty()) {
        let points: Vec<_> = run.iter().map(|p| frame.at(*p)).collect();
        if let [(x, y)] = points[..] {
            canvas.polyline(&[(x - 2.0, y), (x + 2.0, y)], 4.0, color, &[]);
        }
        canvas.polyline(&points, 2.0, color, dash);
    }
}
