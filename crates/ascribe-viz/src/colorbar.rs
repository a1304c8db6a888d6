//! Colour bars with labels.

use image::RgbImage;

use crate::canvas::{INK, LINE, MUTED};
use crate::number;
use crate::paint::hatch;
use crate::scale::Scale;
use crate::scene::{Align, Rect, Scene};
use crate::style::Style;
use crate::text::TextStyle;

const LABEL: TextStyle = TextStyle::new(12.5, INK);
const POWER: TextStyle = TextStyle::new(12.5, MUTED);
/// Length of a tick.
const TICK: u32 = 4;
/// Distance from the bar to its labels.
const GAP: u32 = 8;
/// Height of the triangle at a clipped end, which shows that there are values beyond it.
const ARROW: u32 = 9;

/// The colour at a fraction of the distance from the low end to the high end.
fn color(scale: &Scale, style: &Style, fraction: f64) -> [u8; 3] {
    let value = scale.low * (1.0 - fraction) + scale.high * fraction;
    style.color(scale, value, style.bar_backdrop(scale.kind))
}

/// Adds a vertical bar of `height` pixels with labels on the right and triangles at clipped ends. Returns the width
/// used.
pub(crate) fn vertical(
    scene: &mut Scene,
    x: u32,
    y: u32,
    height: u32,
    scale: &Scale,
    style: &Style,
    has_nan: bool,
) -> u32 {
    const WIDTH: u32 = 16;
    let label = LABEL.line_height();
    let (below, above) = scale.clips();
    let exponent = number::exponent(scale.low.abs().max(scale.high));
    let head = if exponent == 0 { 0 } else { POWER.line_height() + 4 };
    let foot = if has_nan { label + 8 } else { 0 };
    let half = label / 2;
    let top = y + head + if above { ARROW.max(half) } else { half };
    let bottom = (y + height - foot - if below { ARROW.max(half) } else { half }).max(top + 2);
    let length = bottom - top;
    let ticks = labelled(scale, (length / 28).clamp(1, 8) as usize, exponent);
    let bar = RgbImage::from_fn(WIDTH, length, |_, i| {
        image::Rgb(color(scale, style, 1.0 - (f64::from(i) + 0.5) / f64::from(length)))
    });
    scene.image(x, top, bar);
    let (l, r, mid) = (x as f32, (x + WIDTH) as f32, x as f32 + WIDTH as f32 / 2.0);
    if above {
        let tip = (top - ARROW) as f32;
        scene.polygon(vec![(l, top as f32), (r, top as f32), (mid, tip)], color(scale, style, 1.0));
    }
    if below {
        let tip = (bottom + ARROW) as f32;
        scene.polygon(vec![(l, bottom as f32), (r, bottom as f32), (mid, tip)], color(scale, style, 0.0));
    }
    scene.frame(Rect::new(x, top, WIDTH, length), LINE);
    let text_x = x + WIDTH + GAP;
    let mut right = x + WIDTH;
    for (fraction, text) in ticks {
        let at = (f64::from(bottom) - fraction * f64::from(length))
            .round()
            .clamp(f64::from(top), f64::from(bottom - 1)) as u32;
        scene.fill(Rect::new(x + WIDTH, at, TICK, 1), LINE);
        let width = LABEL.width(&text);
        scene.text(Rect::new(text_x, at.saturating_sub(half), width, label), &[text], LABEL, Align::Left);
        right = right.max(text_x + width);
    }
    if exponent != 0 {
        let text = number::power(exponent);
        let width = POWER.width(&text);
        scene.text(Rect::new(x, y, width, label), &[text], POWER, Align::Left);
        right = right.max(x + width);
    }
    if has_nan {
        right = right.max(nan_key(scene, x, y + height - label));
    }
    right - x
}

/// Adds a sample of the pattern for NaN with a label; returns the x position of its end.
fn nan_key(scene: &mut Scene, x: u32, y: u32) -> u32 {
    let (label, size) = (LABEL.line_height(), 12);
    scene.image(x, y + (label - size) / 2, RgbImage::from_fn(16, size, |x, y| image::Rgb(hatch(x, y))));
    let text = "not a number";
    let text_x = x + 16 + GAP;
    scene.text(Rect::new(text_x, y, LABEL.width(text), label), &[text.into()], LABEL, Align::Left);
    text_x + LABEL.width(text)
}

const SMALL: TextStyle = TextStyle::new(11.5, MUTED);

/// The height of [`horizontal`].
pub(crate) fn horizontal_height() -> u32 {
    8 + 3 + SMALL.line_height()
}

/// Adds a thin horizontal bar with labels at its ends and, if there is room, at zero. Labels are within `width`.
pub(crate) fn horizontal(scene: &mut Scene, x: u32, y: u32, width: u32, scale: &Scale, style: &Style) {
    let bar = RgbImage::from_fn(width, 8, |i, _| {
        image::Rgb(color(scale, style, (f64::from(i) + 0.5) / f64::from(width)))
    });
    scene.image(x, y, bar);
    scene.frame(Rect::new(x, y, width, 8), LINE);
    let (below, above) = scale.clips();
    let area = Rect::new(x, y + 11, width, SMALL.line_height());
    if scale.low == scale.high {
        let lines = SMALL.wrap(&format!("all {}", number::short(scale.low)), width, 1);
        scene.text(area, &lines, SMALL, Align::Centre);
        return;
    }
    let end = |value: f64, clipped: bool, sign: &str| {
        let number = number::short(value);
        if clipped { format!("{sign} {number}") } else { number }
    };
    let low = end(scale.low, below, "≤");
    let high = end(scale.high, above, "≥");
    let (low_width, high_width) = (SMALL.width(&low), SMALL.width(&high));
    if low_width + high_width + 6 > width {
        return;
    }
    scene.text(area, &[low], SMALL, Align::Left);
    scene.text(area, &[high], SMALL, Align::Right);
    let zero = x + (scale.zero() * f64::from(width)).round() as u32;
    let zero_width = SMALL.width("0");
    let fits = zero >= x + low_width + zero_width && zero + zero_width + high_width <= x + width;
    if fits && scale.low < 0.0 && scale.high > 0.0 {
        scene.text(
            Rect::new(zero - zero_width / 2, area.y, zero_width, area.height),
            &["0".into()],
            SMALL,
            Align::Left,
        );
    }
}

/// Ticks: positions as fractions of the bar, and labels in units of a power of ten.
fn labelled(scale: &Scale, wanted: usize, exponent: i32) -> Vec<(f64, String)> {
    if scale.low == scale.high {
        return vec![(scale.zero(), number::short(scale.low))];
    }
    let values = number::ticks(scale.low, scale.high, wanted);
    let labels = number::labels_at(&values, exponent);
    let fractions = values.iter().map(|v| scale.position(*v).unwrap_or(0.0));
    fractions.zip(labels).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ScaleKind;

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        #[test]
        fn nothing_overlaps_and_everything_stays_inside(
            values in prop::collection::vec(prop_oneof![-1e3..1e3f64, -1e-9..1e-9f64, -1e12..1e12f64, Just(0.0)], 1..30),
            height in 90u32..700, width in 60u32..400, diverging: bool, nan: bool, q in 60.0..=100.0f64,
        ) {
            let kind = if diverging { ScaleKind::Diverging } else { ScaleKind::Sequential };
            let scale = Scale::fit(kind, q, values).unwrap();
            let style = Style::default();
            let mut scene = Scene::default();
            let used = vertical(&mut scene, 5, 7, height, &scale, &style, nan);
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap().map(|(a, b)| (a.bounds, b.bounds)));
            prop_assert!(scene.items.iter().all(|i| i.bounds.y >= 7 && i.bounds.x >= 5), "starts inside");
            let (right, bottom) = scene.extent();
            prop_assert!(right <= 5 + used && bottom <= 7 + height, "{right} {bottom} of {used} × {height}");

            let mut scene = Scene::default();
            horizontal(&mut scene, 5, 7, width, &scale, &style);
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap().map(|(a, b)| (a.bounds, b.bounds)));
            let (right, bottom) = scene.extent();
            prop_assert!(right <= 5 + width && bottom <= 7 + horizontal_height());
        }
    }

    #[test]
    fn the_bars_centre_is_neutral_and_its_top_the_high_end() {
        let scale = Scale::fit(ScaleKind::Diverging, 100.0, [-1.0, 1.0]).unwrap();
        let style = Style { opacity: 1.0, fade: false, ..Style::default() };
        assert_eq!(color(&scale, &style, 0.5), style.diverging.neutral());
        assert_eq!(color(&scale, &style, 1.0), style.diverging.eval(1.0));
        let ticks = labelled(&scale, 4, 0);
        assert!(ticks.contains(&(0.5, "0".into())), "{ticks:?}");
    }
}
