//! Line plots, for insertion and deletion curves, convergence and perturbation curves.

mod draw;
mod layout;

use serde::{Deserialize, Serialize};

use crate::canvas::Canvas;
use crate::metadata::{About, Metadata};
use crate::setters::setters;
use crate::write::Picture;
use crate::{Error, Result};

/// One line of a plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The points, with ascending x.
    pub points: Vec<(f64, f64)>,
    /// For each point, half the height of a band around the line, for example the standard error; empty for no band.
    #[serde(default)]
    pub spread: Vec<f64>,
}

impl Series {
    /// A line through points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), spread: Vec::new() }
    }

    /// Adds a band with these half-heights.
    pub fn spread(mut self, half_heights: impl IntoIterator<Item = f64>) -> Self {
        self.spread = half_heights.into_iter().collect();
        self
    }

    /// The area under the line, by the trapezoidal rule and divided by the width of the x range.
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

impl Plot {
    setters!(title, subtitle, about);

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

    /// Adds a line.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Sets whether the legend shows the area under each line ([`Series::auc`]).
    pub fn auc(mut self, yes: bool) -> Self {
        self.auc = yes;
        self
    }

    /// Sets whether x is a fraction whose ticks are shown as percentages.
    pub fn percent(mut self, yes: bool) -> Self {
        self.percent = yes;
        self
    }

    /// Sets the range of the y axis, for example 0..=1 for probabilities. Values outside are drawn at its edge.
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y_range = Some((low, high));
        self
    }

    /// Sets the size of the picture in pixels (default 760 × 460).
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width, height);
        self
    }

    /// Draws the plot.
    ///
    /// # Errors
    /// If there are no lines, a line has no finite point or its x do not ascend, or the picture is too small for its
    /// text.
    pub fn render(&self) -> Result<Picture> {
        self.check()?;
        let (scene, frame) = self.compose()?;
        let mut canvas = Canvas::new(self.size.0, self.size.1)?;
        draw::axes(&mut canvas, &frame);
        for (i, series) in self.series.iter().enumerate() {
            draw::series(&mut canvas, &frame, series, i);
        }
        scene.draw_on(&mut canvas);
        draw::keys(&mut canvas, &scene);
        let mut about = self.about.clone();
        let areas: serde_json::Map<_, _> =
            self.series.iter().map(|s| (s.name.clone(), s.auc().into())).collect();
        about.extra.entry("auc".into()).or_insert_with(|| areas.into());
        Ok(Picture {
            image: canvas.into_image(),
            metadata: Metadata::new(self.title.as_deref().unwrap_or("Curves"), about),
        })
    }

    fn check(&self) -> Result<()> {
        let wrong =
            |what: &str, problem: &str| Err(Error::Layout { what: what.into(), problem: problem.into() });
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
        assert_eq!(image.get_pixel(x as u32, y as u32).0, draw::LINES[0].0);
        assert_ne!(image.get_pixel(x as u32, y as u32 - 6).0, draw::LINES[0].0);
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
        let picture =
            Plot::new("x", "y").series(Series::new("a", [(0.0, 0.0), (1.0, 1.0)])).render().unwrap();
        assert_eq!(picture.metadata.about.extra["auc"]["a"], 0.5);
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(32))]

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
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap());
            let (right, bottom) = scene.extent();
            prop_assert!(right <= 760 && bottom <= 460, "{right} × {bottom}");
            plot.render().unwrap();
        }
    }
}
