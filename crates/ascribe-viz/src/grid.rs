//! A grid of several inputs and methods: one row per image, one column per method, as in Fig. 19 of Das & Rad 2020.

mod layout;

use image::{DynamicImage, RgbImage};
use serde::{Deserialize, Serialize};

use crate::heatmap::Heatmap;
use crate::metadata::About;
use crate::paint::Region;
use crate::setters::setters;
use crate::style::Style;
use crate::write::Picture;
use crate::{Error, Result};

/// Where the colour bars of a grid are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bars {
    /// No bars. Every cell still has its own scale, which is in the metadata.
    None,
    /// A bar below every cell. Every cell has its own scale, since methods have different units.
    #[default]
    PerCell,
    /// One scale and one bar for all cells of a row.
    PerRow,
}

/// The content of a cell: a map, or the reason why there is none.
#[derive(Clone, Debug)]
enum Cell {
    Map(Heatmap),
    Missing(String),
}

/// One input with its predictions and one cell per method.
#[derive(Clone, Debug)]
pub struct GridRow {
    photo: RgbImage,
    region: Option<Region>,
    predictions: Vec<(String, Option<f64>)>,
    cells: Vec<(Cell, Option<String>)>,
}

impl GridRow {
    /// A row for this photograph.
    pub fn new(photo: impl Into<DynamicImage>) -> Self {
        Self { photo: photo.into().into_rgb8(), region: None, predictions: Vec::new(), cells: Vec::new() }
    }

    /// Sets the part of the photograph that was the network's input.
    pub fn region(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }

    /// Adds a line below the input with a predicted label and its probability. The first label is also the name of the
    /// row.
    pub fn prediction(mut self, label: impl Into<String>, probability: Option<f64>) -> Self {
        self.predictions.push((label.into(), probability));
        self
    }

    /// Adds the map of the next column.
    pub fn map(mut self, map: Heatmap) -> Self {
        self.cells.push((Cell::Map(map), None));
        self
    }

    /// Adds the map of the next column, with a line below it.
    pub fn map_with_note(mut self, map: Heatmap, note: impl Into<String>) -> Self {
        self.cells.push((Cell::Map(map), Some(note.into())));
        self
    }

    /// Leaves the next column without a map; the cell shows the reason.
    pub fn missing(mut self, reason: impl Into<String>) -> Self {
        self.cells.push((Cell::Missing(reason.into()), None));
        self
    }

    fn maps(&self) -> impl Iterator<Item = &Heatmap> + Clone {
        self.cells.iter().filter_map(|(cell, _)| match cell {
            Cell::Map(map) => Some(map),
            Cell::Missing(_) => None,
        })
    }
}

/// Builds a grid. The first column shows the inputs with predicted labels and probabilities, then follows one column
/// per method.
///
/// ```
/// use ascribe_viz::{Grid, GridRow, Heatmap};
/// use image::RgbImage;
///
/// let map = Heatmap::new(1, 2, vec![-1.0, 1.0], true)?;
/// let row = GridRow::new(RgbImage::new(40, 30))
///     .prediction("Egyptian cat", Some(0.62))
///     .map(map)
///     .missing("needs global pooling and a linear head");
/// let picture = Grid::new(["Saliency", "CAM"]).title("Why a cat?").row(row).render()?;
/// assert_eq!(picture.metadata.panels.len(), 1);
/// # Ok::<(), ascribe_viz::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Grid {
    columns: Vec<String>,
    rows: Vec<GridRow>,
    title: Option<String>,
    subtitle: Option<String>,
    about: About,
    style: Style,
    bars: Bars,
    cell: u32,
    wrap_after: Option<usize>,
    crop: bool,
}

impl Grid {
    setters!(title, subtitle, about, style);

    /// A grid with these column titles, one per method.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            title: None,
            subtitle: None,
            about: About::default(),
            style: Style::default(),
            bars: Bars::default(),
            cell: 208,
            wrap_after: None,
            crop: true,
        }
    }

    /// Adds a row.
    pub fn row(mut self, row: GridRow) -> Self {
        self.rows.push(row);
        self
    }

    /// Sets where the colour bars are.
    pub fn bars(mut self, bars: Bars) -> Self {
        self.bars = bars;
        self
    }

    /// Sets the longer side of the picture in a cell in pixels, 96 to 1024 (default 208).
    pub fn cell(mut self, pixels: u32) -> Self {
        self.cell = pixels;
        self
    }

    /// Sets whether only the part of each photograph that was the network's input is shown (the default), or the whole
    /// photograph with the rest dimmed.
    pub fn cropped(mut self, yes: bool) -> Self {
        self.crop = yes;
        self
    }

    /// Breaks rows with many methods into lines of at most this many columns. Column titles are repeated on every line.
    pub fn wrap_after(mut self, columns: usize) -> Self {
        self.wrap_after = Some(columns);
        self
    }

    /// Draws the grid.
    ///
    /// # Errors
    /// If there are no columns or no rows, a row does not have one cell per column, or a setting is out of range.
    pub fn render(&self) -> Result<Picture> {
        let (scene, metadata) = self.compose()?;
        Ok(Picture { image: scene.draw(layout::MARGIN)?, metadata })
    }

    fn check(&self) -> Result<()> {
        self.style.check()?;
        if !(96..=1024).contains(&self.cell) {
            return Err(Error::Setting {
                what: "the cell size",
                value: f64::from(self.cell),
                expected: "from 96 to 1024",
            });
        }
        let wrong = |what: String, problem: String| Err(Error::Layout { what, problem });
        if self.columns.is_empty() || self.rows.is_empty() || self.wrap_after == Some(0) {
            return wrong(
                "the grid".into(),
                "it needs at least one row, one method and one column per line".into(),
            );
        }
        for (i, row) in self.rows.iter().enumerate() {
            if row.cells.len() != self.columns.len() {
                let problem = format!("it has {} cells for {} methods", row.cells.len(), self.columns.len());
                return wrong(format!("row {} of the grid", i + 1), problem);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::layout::{COLUMN_GAP, MARGIN};
    use super::*;
    use crate::scene::Rect;

    fn photo(width: u32, height: u32) -> RgbImage {
        RgbImage::from_pixel(width, height, image::Rgb([80, 120, 160]))
    }

    fn map() -> Heatmap {
        Heatmap::new(2, 2, vec![1.0, -0.5, 0.0, 1e-5], true).unwrap()
    }

    #[test]
    fn cells_line_up_in_columns_and_rows() {
        let row = || GridRow::new(photo(40, 30)).prediction("cat", Some(0.5)).map(map()).map(map());
        let grid = Grid::new(["A", "B"]).row(row()).row(row()).cell(100);
        let (scene, metadata) = grid.compose().unwrap();
        let pictures: Vec<Rect> = scene.items.iter().map(|i| i.bounds).filter(|b| b.height == 75).collect();
        assert_eq!(pictures.len(), 6);
        for p in &pictures {
            assert_eq!(p.width, 100);
            assert_eq!((p.x - MARGIN) % (100 + COLUMN_GAP), 0);
        }
        assert!(pictures[..3].iter().all(|p| p.y == pictures[0].y) && pictures[3].y > pictures[0].bottom());
        assert_eq!(metadata.panels.len(), 4);
        assert_eq!(
            (metadata.panels[1].row.as_deref(), metadata.panels[1].column.as_deref()),
            (Some("cat"), Some("B"))
        );
    }

    #[test]
    fn a_row_shares_its_scale_when_asked() {
        let big = Heatmap::new(1, 2, vec![-8.0, 4.0], true).unwrap();
        let row = GridRow::new(photo(40, 30)).map(map()).map(big);
        let grid = Grid::new(["A", "B"]).row(row).style(Style { percentile: 100.0, ..Style::default() });
        let scales = |bars| {
            grid.clone()
                .bars(bars)
                .compose()
                .unwrap()
                .1
                .panels
                .iter()
                .map(|p| p.scale.high)
                .collect::<Vec<_>>()
        };
        assert_eq!(scales(Bars::PerRow), [8.0, 8.0]);
        assert_eq!(scales(Bars::PerCell), [1.0, 8.0]);
    }

    #[test]
    fn wrong_grids_are_errors() {
        let short = Grid::new(["A", "B"]).row(GridRow::new(photo(4, 4)).map(map()));
        assert!(
            short
                .render()
                .unwrap_err()
                .to_string()
                .contains("row 1 of the grid: it has 1 cells for 2 methods")
        );
        assert!(Grid::new(["A"]).render().is_err());
        assert!(Grid::new(["A"]).row(GridRow::new(photo(4, 4)).map(map())).cell(5000).render().is_err());
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]

        #[test]
        fn nothing_overlaps_whatever_the_words(
            columns in prop::collection::vec("\\PC{0,60}", 1..5), label in "\\PC{0,80}", note in "\\PC{0,60}",
            sizes in prop::collection::vec((8u32..60, 8u32..60), 1..3),
            cell in 96u32..200, bars in prop_oneof![Just(Bars::None), Just(Bars::PerCell), Just(Bars::PerRow)],
            wrap in prop::option::of(1usize..3), missing: bool,
        ) {
            let mut grid = Grid::new(columns.clone()).title(label.clone()).bars(bars).cell(cell);
            for (w, h) in sizes {
                let mut row = GridRow::new(photo(w, h)).prediction(label.clone(), Some(0.3)).prediction("b", None);
                for i in 0..columns.len() {
                    row = if missing && i == 0 { row.missing(note.clone()) } else { row.map_with_note(map(), note.clone()) };
                }
                grid = grid.row(row);
            }
            if let Some(n) = wrap { grid = grid.wrap_after(n); }
            let (scene, _) = grid.compose().unwrap();
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap());
        }
    }
}
