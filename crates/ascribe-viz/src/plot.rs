//! Line plots: insertion and deletion curves, convergence, perturbation curves.

use serde::{Deserialize, Serialize};

use crate::canvas::{Canvas, FAINT, INK, LINE, MUTED, Rgb};
use crate::metadata::{About, Metadata};
use crate::number;
use crate::overlay::{SUBTITLE, TITLE};
use crate::scene::{Align, Rect, Scene};
use crate::text::TextStyle;
use crate::write::Picture;
use crate::{Error, Result};

const MARGIN: u32 = 24;
const LABEL: TextStyle = TextStyle::new(12.5, INK);
const TICK: TextStyle = TextStyle::new(12.5, MUTED);
const KEY: u32 = 26;

/// Line colours that people with any common colour vision tell apart (Okabe & Ito 2008, the yellow left out), and a
/// dash pattern each, so that a grey print works too.
const LINES: [(Rgb, &[f32]); 7] = [
    ([0, 114, 178], &[]),
    ([213, 94, 0], &[]),
    ([0, 158, 115], &[]),
    ([204, 121, 167], &[]),
    ([86, 180, 233], &[7.0, 4.0]),
    ([230, 159, 0], &[7.0, 4.0]),
    ([60, 60, 60], &[2.5, 3.5]),
];

/// One line of a plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The points, x ascending.
    pub points: Vec<(f64, f64)>,
    /// Half the height of a band about the line per point (e.g. a standard error); empty for none.
    #[serde(default)]
    pub spread: Vec<f64>,
}

impl Series {
    /// A line through points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), spread: Vec::new() }
    }

    /// Adds a band of ± these half-heights.
    pub fn spread(mut self, half_heights: impl IntoIterator<Item = f64>) -> Self {
        self.spread = half_heights.into_iter().collect();
        self
    }

    /// The area under the line by the trapezoidal rule, divided by the width of its x range.
    pub fn auc(&self) -> f64 {
        let width = match (self.points.first(), self.points.last()) {
            (Some(a), Some(b)) if b.0 > a.0 => b.0 - a.0,
            _ => return f64::NAN,
        };
        self.points.windows(2).map(|p| (p[1].0 - p[0].0) * f64::midpoint(p[0].1, p[1].1)).sum::<f64>() / width
    }
}

/// Builds a line plot with axes, ticks and a legend.
///
/// ```
/// use ascribe_viz::{Plot, Series};
///
/// let insertion = Series::new("Integrated Gradients", [(0.0, 0.02), (0.5, 0.6), (1.0, 0.9)]);
/// let picture = Plot::new("share of pixels inserted", "probability").title("Insertion").auc(true).series(insertion).render()?;
/// assert_eq!(picture.image.width(), 760);
/// # Ok::<(), ascribe_viz::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plot {
    x: String,
    y: String,
    title: Option<String>,
    subtitle: Option<String>,
    series: Vec<Series>,
    auc: bool,
    percent: bool,
    y_range: Option<(f64, f64)>,
    size: (u32, u32),
    about: About,
}

/// The data ranges of a plot and the pixels that show them.
struct Frame {
    area: Rect,
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> (f32, f32) {
        let part = |v: f64, (low, high): (f64, f64)| ((v - low) / (high - low)).clamp(0.0, 1.0);
        let a = &self.area;
        (
            (f64::from(a.x) + part(x, self.x) * f64::from(a.width)) as f32,
            (f64::from(a.bottom()) - part(y, self.y) * f64::from(a.height)) as f32,
        )
    }
}

impl Plot {
    /// An empty plot with these axis labels.
    pub fn new(x: impl Into<String>, y: impl Into<String>) -> Self {
        Self {
            x: x.into(),
            y: y.into(),
            title: None,
            subtitle: None,
            series: Vec::new(),
            auc: false,
            percent: false,
            y_range: None,
            size: (760, 460),
            about: About::default(),
        }
    }

    /// A title over the plot.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// A line under the title.
    pub fn subtitle(mut self, subtitle: impl Into<String>) -> Self {
        self.subtitle = Some(subtitle.into());
        self
    }

    /// Adds a line.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Whether the legend states each line's area ([`Series::auc`]).
    pub fn auc(mut self, yes: bool) -> Self {
        self.auc = yes;
        self
    }

    /// Whether x is a share and its ticks are percentages.
    pub fn percent(mut self, yes: bool) -> Self {
        self.percent = yes;
        self
    }

    /// Fixes the y axis, e.g. to 0..=1 for probabilities; values beyond are drawn at its edge.
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y_range = Some((low, high));
        self
    }

    /// The picture's size in pixels (default 760 × 460).
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width, height);
        self
    }

    /// What the curves are about, for the metadata.
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// Draws the plot.
    ///
    /// # Errors
    /// If there is no line, a line has no finite point or descending x, or the picture is too small for its text.
    pub fn render(&self) -> Result<Picture> {
        self.check()?;
        let (scene, frame) = self.compose()?;
        let mut canvas = Canvas::new(self.size.0, self.size.1)?;
        self.draw_axes(&mut canvas, &frame);
        for (i, series) in self.series.iter().enumerate() {
            draw_series(&mut canvas, &frame, series, LINES[i % LINES.len()]);
        }
        scene.draw_on(&mut canvas);
        self.draw_keys(&mut canvas, &scene);
        let mut about = self.about.clone();
        let areas: serde_json::Map<_, _> = self.series.iter().map(|s| (s.name.clone(), s.auc().into())).collect();
        about.extra.entry("auc".into()).or_insert_with(|| areas.into());
        Ok(Picture { image: canvas.into_image(), metadata: Metadata::new(self.title.as_deref().unwrap_or("Curves"), about) })
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str, problem: &str| Err(Error::Layout { what: what.into(), problem: problem.into() });
        if self.series.is_empty() {
            return wrong("the plot", "it needs at least one line");
        }
        for s in &self.series {
            let what = format!("the line `{}`", s.name);
            if !s.points.iter().any(|p| p.0.is_finite() && p.1.is_finite()) {
                return wrong(&what, "it has no finite point");
            }
            if s.points.windows(2).any(|p| p[1].0 < p[0].0) {
                return wrong(&what, "its x must ascend");
            }
            if !s.spread.is_empty() && s.spread.len() != s.points.len() {
                return wrong(&what, "its spread needs one value per point");
            }
        }
        match self.y_range {
            Some((low, high)) if !(low < high && low.is_finite() && high.is_finite()) => {
                wrong("the y range", "its low end must be below its high end, both finite")
            }
            _ => Ok(()),
        }
    }

    /// The ranges of the data, y widened by a twentieth.
    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let finite = || self.series.iter().flat_map(|s| &s.points).filter(|p| p.0.is_finite() && p.1.is_finite());
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            if low < high { (low, high) } else { (low - 0.5 * low.abs().max(1.0), high + 0.5 * high.abs().max(1.0)) }
        };
        let x = range(&mut finite().map(|p| p.0));
        let y = self.y_range.unwrap_or_else(|| {
            let (low, high) = range(&mut finite().map(|p| p.1));
            let pad = (high - low) * 0.05;
            // Values that start at zero keep their foot on the axis.
            (if low >= 0.0 && low - pad < 0.0 { 0.0 } else { low - pad }, high + pad)
        });
        (x, y)
    }

    fn compose(&self) -> Result<(Scene, Frame)> {
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
        // The y label stands over its axis, level, where it can be read.
        top += scene.paragraph(area(top), &self.y, TICK, Align::Left, 1) + 8;
        let line = TICK.line_height();
        let (x, y) = self.ranges();
        let plot_height = height.saturating_sub(top + MARGIN + 2 * line + 14);
        let y_ticks = number::ticks(y.0, y.1, (plot_height / 56).clamp(2, 8) as usize);
        let (y_labels, exponent) = number::labels(&y_ticks);
        let y_labels: Vec<_> = y_labels.into_iter().map(|l| with_power(l, exponent)).collect();
        let left = MARGIN + y_labels.iter().map(|l| TICK.width(l)).max().unwrap_or(0) + 10;

        let names: Vec<_> = self.series.iter().map(|s| self.legend(s)).collect();
        let legend_width = (names.iter().map(|n| LABEL.width(n)).max().unwrap_or(0) + KEY + 8).min(width / 3);
        let right = width.saturating_sub(MARGIN + legend_width + 20);
        if plot_height < 60 || right < left + 100 {
            let problem = format!("{width} × {height} pixels are too few for its text; the default is 760 × 460");
            return Err(Error::Layout { what: "the plot".into(), problem });
        }
        let frame = Frame { area: Rect::new(left, top, right - left, plot_height), x, y };

        for (value, label) in y_ticks.iter().zip(&y_labels) {
            let at = frame.at((x.0, *value)).1.round() as u32;
            let width = TICK.width(label);
            scene.text(Rect::new(left - 8 - width, at - line / 2, width, line), &[label.clone()], TICK, Align::Left);
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
        let ticks = number::ticks(x.0, x.1, (area.width / 80).clamp(2, 10) as usize);
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
            // A label that would touch its neighbour is left out; its tick stays.
            if left >= free {
                scene.text(Rect::new(left, area.bottom() + 8, width, line), &[label], TICK, Align::Left);
                free = left + width + 8;
            }
        }
    }

    fn legend(&self, series: &Series) -> String {
        if self.auc { format!("{}\u{2002}AUC\u{a0}{}", series.name, number::fixed(series.auc(), 3)) } else { series.name.clone() }
    }

    fn draw_axes(&self, canvas: &mut Canvas, frame: &Frame) {
        let Frame { area, x, y } = frame;
        let (left, top) = (area.x as f32, area.y as f32);
        let (right, bottom) = (area.right() as f32, area.bottom() as f32);
        for value in number::ticks(y.0, y.1, (area.height / 56).clamp(2, 8) as usize) {
            let at = frame.at((x.0, value)).1.round() + 0.5;
            let color = if value == 0.0 { LINE } else { FAINT };
            canvas.polyline(&[(left, at), (right, at)], 1.0, color, &[]);
        }
        for value in number::ticks(x.0, x.1, (area.width / 80).clamp(2, 10) as usize) {
            let at = frame.at((value, y.0)).0.round() + 0.5;
            canvas.polyline(&[(at, bottom), (at, bottom + 5.0)], 1.0, LINE, &[]);
        }
        canvas.polyline(&[(left + 0.5, top), (left + 0.5, bottom + 0.5), (right, bottom + 0.5)], 1.0, LINE, &[]);
    }

    /// The legend's line samples, where the scene keeps room for them.
    fn draw_keys(&self, canvas: &mut Canvas, scene: &Scene) {
        let keys = scene.items.iter().filter(|i| i.decoration);
        for (i, key) in keys.enumerate() {
            let (color, dash) = LINES[i % LINES.len()];
            let b = key.bounds;
            let at = b.y as f32 + b.height as f32 / 2.0;
            canvas.rect(b.x, b.y, b.width, b.height, crate::canvas::PAPER);
            canvas.polyline(&[(b.x as f32 + 1.0, at), (b.right() as f32 - 1.0, at)], 2.5, color, dash);
        }
    }
}

fn with_power(label: String, exponent: i32) -> String {
    if exponent == 0 || label == "0" { label } else { format!("{label}{}", number::power(exponent)) }
}

fn draw_series(canvas: &mut Canvas, frame: &Frame, series: &Series, (color, dash): (Rgb, &[f32])) {
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
    // A point that is not finite is a gap.
    for run in series.points.split(|p| !finite(p)).filter(|r| !r.is_empty()) {
        let points: Vec<_> = run.iter().map(|p| frame.at(*p)).collect();
        if let [(x, y)] = points[..] {
            canvas.polyline(&[(x - 2.0, y), (x + 2.0, y)], 4.0, color, &[]);
        }
        canvas.polyline(&points, 2.0, color, dash);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_area_is_exact_for_straight_lines() {
        let line = Series::new("a", [(0.0, 0.0), (0.25, 0.5), (1.0, 2.0)]);
        assert!((line.auc() - 1.0).abs() < 1e-15);
        assert!((Series::new("b", [(2.0, 3.0), (6.0, 3.0)]).auc() - 3.0).abs() < 1e-15);
        assert!(Series::new("c", [(0.0, 1.0)]).auc().is_nan());
    }

    #[test]
    fn the_line_runs_where_its_points_are() {
        let plot = Plot::new("x", "y").y_range(0.0, 1.0).series(Series::new("a", [(0.0, 0.5), (1.0, 0.5)]));
        let (_, frame) = plot.compose().unwrap();
        let image = plot.render().unwrap().image;
        assert_eq!(image.dimensions(), (760, 460));
        let (x, y) = frame.at((0.4, 0.5));
        assert_eq!(image.get_pixel(x as u32, y as u32).0, LINES[0].0);
        assert_ne!(image.get_pixel(x as u32, y as u32 - 6).0, LINES[0].0);
    }

    #[test]
    fn plots_that_say_nothing_are_errors() {
        let plot = || Plot::new("x", "y");
        assert!(plot().render().is_err());
        assert!(plot().series(Series::new("nan", [(f64::NAN, 1.0)])).render().is_err());
        let back = plot().series(Series::new("back", [(1.0, 1.0), (0.0, 1.0)])).render();
        assert!(back.unwrap_err().to_string().contains("`back`: its x must ascend"));
        assert!(plot().size(80, 40).series(Series::new("a", [(0.0, 1.0)])).render().is_err());
        assert!(plot().y_range(1.0, 1.0).series(Series::new("a", [(0.0, 1.0)])).render().is_err());
    }

    #[test]
    fn areas_are_in_the_metadata() {
        let picture = Plot::new("x", "y").series(Series::new("a", [(0.0, 0.0), (1.0, 1.0)])).render().unwrap();
        assert_eq!(picture.metadata.about.extra["auc"]["a"], 0.5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn nothing_overlaps_and_everything_stays_inside(
            names in prop::collection::vec("\\PC{0,40}", 1..5), title in "\\PC{0,80}", x in "\\PC{0,40}",
            low in -1e6..1e6f64, span in 1e-9..1e9f64, auc: bool,
        ) {
            let mut plot = Plot::new(x, "probability").title(title).auc(auc);
            for name in names {
                plot = plot.series(Series::new(name, [(low, low), (low + span, low + span)]));
            }
            let (scene, _) = plot.compose().unwrap();
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap().map(|(a, b)| (a, b)));
            let (right, bottom) = scene.extent();
            prop_assert!(right <= 760 && bottom <= 460, "{right} × {bottom}");
            plot.render().unwrap();
        }
    }
}
