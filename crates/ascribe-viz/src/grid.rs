//! Several inputs and methods side by side: rows images, columns methods, as Fig. 19 of Das & Rad 2020.

use image::{DynamicImage, RgbImage};
use serde::{Deserialize, Serialize};

use crate::canvas::{INK, LINE, MUTED};
use crate::colorbar;
use crate::finding::Finding;
use crate::heatmap::Heatmap;
use crate::metadata::{About, Metadata, PanelInfo};
use crate::number;
use crate::overlay::{ALERT, NOTE, SUBTITLE, TITLE};
use crate::scene::{Align, Rect, Scene, fit_side};
use crate::style::{Region, Style, cropped, paint, resized};
use crate::text::TextStyle;
use crate::write::Picture;
use crate::{Error, Result};

const MARGIN: u32 = 24;
const COLUMN_GAP: u32 = 14;
const ROW_GAP: u32 = 22;
const BAR_GAP: u32 = 6;
const COLUMN: TextStyle = TextStyle::new(14.0, INK).bold();
const LABEL: TextStyle = TextStyle::new(14.0, INK);
const SMALL: TextStyle = TextStyle::new(12.0, MUTED);

/// Where a grid's colour bars stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bars {
    /// No bars; every cell still has its own scale, stated in the metadata.
    None,
    /// A bar under every cell, each with its own scale: methods differ in units.
    #[default]
    PerCell,
    /// One scale and one bar for all cells of a row.
    PerRow,
}

/// What stands in one place of a grid.
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

    /// The part of the photograph that the network saw.
    pub fn region(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }

    /// Adds a line under the input: a predicted label and its probability. The first one names the row.
    pub fn prediction(mut self, label: impl Into<String>, probability: Option<f64>) -> Self {
        self.predictions.push((label.into(), probability));
        self
    }

    /// Adds the next column's map.
    pub fn map(mut self, map: Heatmap) -> Self {
        self.cells.push((Cell::Map(map), None));
        self
    }

    /// Adds the next column's map with a line under it.
    pub fn map_with_note(mut self, map: Heatmap, note: impl Into<String>) -> Self {
        self.cells.push((Cell::Map(map), Some(note.into())));
        self
    }

    /// Leaves the next column without a map and says why in its place.
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

/// Builds a grid: at the left each input with its predicted label and probability, then one column per method.
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

    /// A title over the grid.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// A line under the title; by default the model's name.
    pub fn subtitle(mut self, subtitle: impl Into<String>) -> Self {
        self.subtitle = Some(subtitle.into());
        self
    }

    /// What was explained, for the metadata.
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// How to colour and blend.
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// Where colour bars stand.
    pub fn bars(mut self, bars: Bars) -> Self {
        self.bars = bars;
        self
    }

    /// The longer side of a cell's picture in pixels, 96 to 1024 (default 208).
    pub fn cell(mut self, pixels: u32) -> Self {
        self.cell = pixels;
        self
    }

    /// Whether only the part of each photograph that the network saw is shown (the default), or all of it with the
    /// rest dimmed.
    pub fn cropped(mut self, yes: bool) -> Self {
        self.crop = yes;
        self
    }

    /// Breaks a row of many methods into lines of at most this many columns. Titles are repeated per line.
    pub fn wrap_after(mut self, columns: usize) -> Self {
        self.wrap_after = Some(columns);
        self
    }

    /// Draws the grid.
    ///
    /// # Errors
    /// If there is no column or row, a row has not one cell per column, or a setting is out of range.
    pub fn render(&self) -> Result<Picture> {
        let (scene, metadata) = self.compose()?;
        Ok(Picture { image: scene.draw(MARGIN)?, metadata })
    }

    fn check(&self) -> Result<()> {
        self.style.check()?;
        if !(96..=1024).contains(&self.cell) {
            return Err(Error::Setting { what: "the cell size", value: f64::from(self.cell), expected: "from 96 to 1024" });
        }
        let wrong = |what: String, problem: String| Err(Error::Layout { what, problem });
        if self.columns.is_empty() || self.rows.is_empty() || self.wrap_after == Some(0) {
            return wrong("the grid".into(), "it needs at least one row, one method and one column per line".into());
        }
        for (i, row) in self.rows.iter().enumerate() {
            if row.cells.len() != self.columns.len() {
                let problem = format!("it has {} cells for {} methods", row.cells.len(), self.columns.len());
                return wrong(format!("row {} of the grid", i + 1), problem);
            }
        }
        Ok(())
    }

    fn compose(&self) -> Result<(Scene, Metadata)> {
        self.check()?;
        let mut scene = Scene::default();
        let mut metadata = Metadata::new(self.title.as_deref().unwrap_or("Comparison"), self.about.clone());
        let per_line = self.wrap_after.unwrap_or(usize::MAX).min(self.columns.len());
        let width = self.column_x(per_line) + self.cell - MARGIN;
        let mut y = MARGIN;
        if let Some(title) = &self.title {
            y += scene.paragraph(Rect::new(MARGIN, y, width, 0), title, TITLE, Align::Left, 2);
        }
        if let Some(subtitle) = self.subtitle.as_ref().or(self.about.model.as_ref()) {
            y += scene.paragraph(Rect::new(MARGIN, y + 2, width, 0), subtitle, SUBTITLE, Align::Left, 2) + 2;
        }
        if y > MARGIN {
            y += 14;
        }
        let mut notes: Vec<String> = Vec::new();
        for start in (0..self.columns.len()).step_by(per_line) {
            let shown = start..(start + per_line).min(self.columns.len());
            y = self.titles(&mut scene, y, &self.columns[shown.clone()]);
            for row in &self.rows {
                y = self.draw_row(&mut scene, y, row, shown.clone(), &mut metadata, &mut notes)? + ROW_GAP;
            }
        }
        y -= ROW_GAP - 12;
        let area = |y| Rect::new(MARGIN, y, width, 0);
        y += scene.paragraph(area(y), &self.legend(), NOTE, Align::Left, 3);
        for note in notes {
            y += scene.paragraph(area(y + 4), &format!("Note: {note}"), ALERT, Align::Left, 3) + 4;
        }
        Ok((scene, metadata))
    }

    /// The left edge of a column; 0 is the input's.
    fn column_x(&self, column: usize) -> u32 {
        MARGIN + column as u32 * (self.cell + COLUMN_GAP)
    }

    /// Column titles, standing on a common baseline; returns where the rows begin.
    fn titles(&self, scene: &mut Scene, y: u32, names: &[String]) -> u32 {
        let wrapped: Vec<_> = std::iter::once("Input")
            .chain(names.iter().map(String::as_str))
            .map(|name| COLUMN.wrap(name, self.cell, 3))
            .collect();
        let tallest = wrapped.iter().map(Vec::len).max().unwrap_or(0) as u32 * COLUMN.line_height();
        for (i, lines) in wrapped.iter().enumerate() {
            let drop = tallest - lines.len() as u32 * COLUMN.line_height();
            scene.text(Rect::new(self.column_x(i), y + drop, self.cell, 0), lines, COLUMN, Align::Centre);
        }
        y + tallest + 6
    }

    fn draw_row(
        &self,
        scene: &mut Scene,
        y: u32,
        row: &GridRow,
        shown: std::ops::Range<usize>,
        metadata: &mut Metadata,
        notes: &mut Vec<String>,
    ) -> Result<u32> {
        let (photo, region) = match row.region {
            Some(region) if self.crop => (&cropped(&row.photo, region)?, None),
            region => (&row.photo, region),
        };
        let size = fit_side(photo, self.cell, "a row of the grid")?;
        let shared = match self.bars {
            Bars::PerRow if row.maps().next().is_some() => Some(self.style.fit(row.maps())?),
            _ => None,
        };
        let x = self.column_x(0);
        scene.image(x + (self.cell - size.0) / 2, y, resized(photo, size.0, size.1));
        let mut bottom = y + size.1;
        let mut text_y = bottom + 6;
        for (i, (label, probability)) in row.predictions.iter().enumerate() {
            let style = if i == 0 { LABEL.bold() } else { LABEL };
            text_y += scene.paragraph(Rect::new(x, text_y, self.cell, 0), label, style, Align::Centre, 2);
            if let Some(p) = probability {
                let area = Rect::new(x, text_y, self.cell, 0);
                text_y += scene.paragraph(area, &number::percent(*p), SMALL, Align::Centre, 1) + 2;
            }
            bottom = bottom.max(text_y);
        }
        let name = row.predictions.first().map(|p| p.0.clone());
        let first = shown.start;
        for (place, index) in shown.enumerate() {
            let x = self.column_x(place + 1);
            let (cell, note) = &row.cells[index];
            let mut end = y + size.1;
            match cell {
                Cell::Missing(reason) => Self::draw_missing(scene, Rect::new(x, y, self.cell, size.1), reason),
                Cell::Map(map) => {
                    let scale = match shared {
                        Some(scale) => scale,
                        None => self.style.fit([map])?,
                    };
                    let painted = paint(photo, region, size, map, &scale, &self.style)?;
                    let left = x + (self.cell - size.0) / 2;
                    scene.image(left, y, painted);
                    if self.bars == Bars::PerCell {
                        end += BAR_GAP;
                        colorbar::horizontal(scene, left, end, size.0, &scale, &self.style);
                        end += colorbar::horizontal_height();
                    }
                    let mut panel = PanelInfo::new(map, scale, &self.style);
                    let column = &self.columns[index];
                    let place = name.as_ref().map_or_else(|| column.clone(), |n| format!("{column}, {n}"));
                    notes.extend(panel.findings.iter().map(|f: &Finding| format!("{place}: {f}")));
                    (panel.row, panel.column) = (name.clone(), Some(column.clone()));
                    metadata.panels.push(panel);
                }
            }
            if let Some(note) = note {
                end += 4 + scene.paragraph(Rect::new(x, end + 4, self.cell, 0), note, SMALL, Align::Centre, 3);
            }
            bottom = bottom.max(end);
        }
        if let (Some(scale), 0) = (shared, first) {
            let x = self.column_x(self.wrap_after.unwrap_or(usize::MAX).min(self.columns.len()) + 1);
            let nan = row.maps().any(|m| m.values().iter().any(|v| v.is_nan()));
            colorbar::vertical(scene, x, y, size.1.max(96), &scale, &self.style, nan);
            bottom = bottom.max(y + size.1.max(96));
        }
        Ok(bottom)
    }

    fn draw_missing(scene: &mut Scene, area: Rect, reason: &str) {
        let lines = SMALL.wrap(reason, area.width - 16, (area.height.saturating_sub(8) / SMALL.line_height()) as usize);
        let height = lines.len() as u32 * SMALL.line_height();
        let top = area.y + area.height.saturating_sub(height) / 2;
        scene.text(Rect::new(area.x + 8, top, area.width - 16, 0), &lines, SMALL, Align::Centre);
        scene.frame(area, LINE);
    }

    fn legend(&self) -> String {
        let mut reductions: Vec<&str> = Vec::new();
        for map in self.rows.iter().flat_map(GridRow::maps).filter(|m| m.has_channels()) {
            if !reductions.contains(&map.reduction().words()) {
                reductions.push(map.reduction().words());
            }
        }
        let scales = if self.bars == Bars::PerRow { "one scale per row" } else { "each map on its own scale" };
        let clip = format!("colours clip at percentile {}", self.style.percentile);
        reductions.into_iter().map(String::from).chain([scales.into(), clip]).chain(self.style.smoothing_words()).collect::<Vec<_>>().join("  ·  ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!((metadata.panels[1].row.as_deref(), metadata.panels[1].column.as_deref()), (Some("cat"), Some("B")));
    }

    #[test]
    fn a_row_shares_its_scale_when_asked() {
        let big = Heatmap::new(1, 2, vec![-8.0, 4.0], true).unwrap();
        let row = GridRow::new(photo(40, 30)).map(map()).map(big);
        let grid = Grid::new(["A", "B"]).row(row).style(Style { percentile: 100.0, ..Style::default() });
        let scales = |bars| grid.clone().bars(bars).compose().unwrap().1.panels.iter().map(|p| p.scale.high).collect::<Vec<_>>();
        assert_eq!(scales(Bars::PerRow), [8.0, 8.0]);
        assert_eq!(scales(Bars::PerCell), [1.0, 8.0]);
    }

    #[test]
    fn wrong_grids_are_errors() {
        let short = Grid::new(["A", "B"]).row(GridRow::new(photo(4, 4)).map(map()));
        assert!(short.render().unwrap_err().to_string().contains("row 1 of the grid: it has 1 cells for 2 methods"));
        assert!(Grid::new(["A"]).render().is_err());
        assert!(Grid::new(["A"]).row(GridRow::new(photo(4, 4)).map(map())).cell(5000).render().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

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
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap().map(|(a, b)| (a, b)));
        }
    }
}
