//! The layout of a plot.

use crate::canvas::{INK, MUTED};
use crate::number;
use crate::overlay::{SUBTITLE, TITLE};
use crate::scene::{Align, Rect, Scene};
use crate::text::TextStyle;
use crate::{Error, Result};

use super::{Plot, Series};

const MARGIN: u32 = 24;
const LABEL: TextStyle = TextStyle::new(12.5, INK);
const TICK: TextStyle = TextStyle::new(12.5, MUTED);
const KEY: u32 = 26;

/// The rectangle of the plot in pixels, and the data ranges that it shows.
pub(super) struct Frame {
    pub area: Rect,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Frame {
    /// The pixel position of a data point.
    pub fn at(&self, (x, y): (f64, f64)) -> (f32, f32) {
        let part = |v: f64, (low, high): (f64, f64)| ((v - low) / (high - low)).clamp(0.0, 1.0);
        let a = &self.area;
        (
            (f64::from(a.x) + part(x, self.x) * f64::from(a.width)) as f32,
            (f64::from(a.bottom()) - part(y, self.y) * f64::from(a.height)) as f32,
        )
    }
}

pub(super) fn y_tick_count(height: u32) -> usize {
    (height / 56).clamp(2, 8) as usize
}

pub(super) fn x_tick_count(width: u32) -> usize {
    (width / 80).clamp(2, 10) as usize
}

impl Plot {
    /// The ranges of the axes: those of the data, with y widened by a twentieth unless it is fixed.
    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let finite =
            || self.series.iter().flat_map(|s| &s.points).filter(|p| p.0.is_finite() && p.1.is_finite());
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            if low < high {
                (low, high)
            } else {
                (low - 0.5 * low.abs().max(1.0), high + 0.5 * high.abs().max(1.0))
            }
        };
        let x = range(&mut finite().map(|p| p.0));
        let y = self.y_range.unwrap_or_else(|| {
            let (low, high) = range(&mut finite().map(|p| p.1));
            let pad = (high - low) * 0.05;
            // If no value is negative, the axis does not start below zero.
            (if low >= 0.0 && low - pad < 0.0 { 0.0 } else { low - pad }, high + pad)
        });
        (x, y)
    }

    /// Computes the layout of all texts, and the rectangle of the plot.
    pub(super) fn compose(&self) -> Result<(Scene, Frame)> {
        let (width, height) = self.size;
        let mut scene = Scene::default();
        let inner = width.saturating_sub(2 * MARGIN);
        let mut top = MARGIN;
        let area = |y| Rect::new(MARGIN, y, inner, 0);
        if let Some(title) = &self.title {
            top += scene.paragraph(area(top), title, TITLE, Align::Left, 1);
        }
        if let Some(subtitle) = &self.subtitle {
            top += scene.paragraph(area(top + 2), subtitle, SUBTITLE, Align::Left, 1) + 2;
        }
        top += if top > MARGIN { 10 } else { 0 };
        // The label of the y axis is above the axis and horizontal, which is easier to read.
        top += scene.paragraph(area(top), &self.y, TICK, Align::Left, 1) + 8;
        let line = TICK.line_height();
        let (x, y) = self.ranges();
        if !(x.1 - x.0).is_finite() || !(y.1 - y.0).is_finite() {
            let problem = format!(
                "its values range from {} to {}, which is too wide for floating-point numbers",
                y.0, y.1
            );
            return Err(Error::Layout { what: "the plot".into(), problem });
        }
        let plot_height = height.saturating_sub(top + MARGIN + 2 * line + 14);
        let y_ticks = number::ticks(y.0, y.1, y_tick_count(plot_height));
        let (y_labels, exponent) = number::labels(&y_ticks);
        let y_labels: Vec<_> = y_labels.into_iter().map(|l| with_power(l, exponent)).collect();
        let left = MARGIN + y_labels.iter().map(|l| TICK.width(l)).max().unwrap_or(0) + 10;

        let names: Vec<_> = self.series.iter().map(|s| self.legend(s)).collect();
        let legend_width = (names.iter().map(|n| LABEL.width(n)).max().unwrap_or(0) + KEY + 8).min(width / 3);
        let right = width.saturating_sub(MARGIN + legend_width + 20);
        if plot_height < 60 || right < left + 100 {
            let problem =
                format!("{width} × {height} pixels are too few for its text; the default is 760 × 460");
            return Err(Error::Layout { what: "the plot".into(), problem });
        }
        let frame = Frame { area: Rect::new(left, top, right - left, plot_height), x, y };

        for (value, label) in y_ticks.iter().zip(&y_labels) {
            let at = frame.at((x.0, *value)).1.round() as u32;
            let width = TICK.width(label);
            scene.text(
                Rect::new(left - 8 - width, at.saturating_sub(line / 2), width, line),
                std::slice::from_ref(label),
                TICK,
                Align::Left,
            );
        }
        self.x_labels(&mut scene, &frame);
        let bottom = frame.area.bottom();
        let x_area = Rect::new(left, bottom + 10 + line, right - left, line);
        scene.paragraph(x_area, &self.x, TICK, Align::Centre, 1);

        let mut at = top;
        for name in names {
            let key = Rect::new(right + 20, at, KEY, LABEL.line_height());
            scene.frame(key, INK);
            let room = Rect::new(key.right() + 8, at, legend_width - KEY - 8, 0);
            at += scene.paragraph(room, &name, LABEL, Align::Left, 3).max(LABEL.line_height()) + 6;
        }
        Ok((scene, frame))
    }

    fn x_labels(&self, scene: &mut Scene, frame: &Frame) {
        let Frame { area, x, y } = frame;
        let ticks = number::ticks(x.0, x.1, x_tick_count(area.width));
        let (labels, exponent) = if self.percent {
            let shares: Vec<f64> = ticks.iter().map(|t| t * 100.0).collect();
            (number::labels(&shares).0.into_iter().map(|l| format!("{l} %")).collect(), 0)
        } else {
            number::labels(&ticks)
        };
        let line = TICK.line_height();
        let mut free = 0;
        for (value, label) in ticks.iter().zip(labels) {
            let label = with_power(label, exponent);
            let (at, width) = (frame.at((*value, y.0)).0.round() as u32, TICK.width(&label));
            let left = at.saturating_sub(width / 2);
            // A label that would touch the previous one is left out; its tick is still drawn.
            if left >= free {
                scene.text(Rect::new(left, area.bottom() + 8, width, line), &[label], TICK, Align::Left);
                free = left + width + 8;
            }
        }
    }

    fn legend(&self, series: &Series) -> String {
        if self.auc {
            format!("{} (AUC\u{a0}{})", series.name, number::fixed(series.auc(), 3))
        } else {
            series.name.clone()
        }
    }
}

/// A label with its power of ten, if there is one.
fn with_power(label: String, exponent: i32) -> String {
    if exponent == 0 || label == "0" { label } else { format!("{label}{}", number::power(exponent)) }
}
