//! The layout of a grid.

use crate::Result;
use crate::canvas::{INK, LINE, MUTED};
use crate::colorbar;
use crate::finding::Finding;
use crate::metadata::{Metadata, PanelInfo};
use crate::number;
use crate::overlay::{ALERT, NOTE, SUBTITLE, TITLE};
use crate::paint::{cropped, paint, resized};
use crate::scene::{Align, Rect, Scene, fit_side};
use crate::text::TextStyle;

use super::{Bars, Cell, Grid, GridRow};

pub(super) const MARGIN: u32 = 24;
pub(super) const COLUMN_GAP: u32 = 14;
const ROW_GAP: u32 = 22;
const BAR_GAP: u32 = 6;
const COLUMN: TextStyle = TextStyle::new(14.0, INK).bold();
const LABEL: TextStyle = TextStyle::new(14.0, INK);
const SMALL: TextStyle = TextStyle::new(12.0, MUTED);

impl Grid {
    /// Computes the layout and the metadata.
    pub(super) fn compose(&self) -> Result<(Scene, Metadata)> {
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

    /// The left edge of a column; column 0 is that of the inputs.
    fn column_x(&self, column: usize) -> u32 {
        MARGIN + column as u32 * (self.cell + COLUMN_GAP)
    }

    /// Adds the column titles, aligned at the bottom; returns the y position at which rows begin.
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

    /// Adds a row with the columns `shown`; returns the y position of its end.
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
        let mut bottom = self.predictions(scene, y + size.1, row);
        let name = row.predictions.first().map(|p| p.0.clone());
        for (place, index) in shown.enumerate() {
            let x = self.column_x(place + 1);
            let (cell, note) = &row.cells[index];
            let mut end = y + size.1;
            match cell {
                Cell::Missing(reason) => {
                    Self::draw_missing(scene, Rect::new(x, y, self.cell, size.1), reason);
                }
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
                end +=
                    4 + scene.paragraph(Rect::new(x, end + 4, self.cell, 0), note, SMALL, Align::Centre, 3);
            }
            bottom = bottom.max(end);
        }
        if let Some(scale) = shared {
            let x = self.column_x(self.wrap_after.unwrap_or(usize::MAX).min(self.columns.len()) + 1);
            let nan = row.maps().any(|m| m.values().iter().any(|v| v.is_nan()));
            colorbar::vertical(scene, x, y, size.1.max(96), &scale, &self.style, nan);
            bottom = bottom.max(y + size.1.max(96));
        }
        Ok(bottom)
    }

    /// Adds labels and probabilities below the input; returns the y position of their end.
    fn predictions(&self, scene: &mut Scene, mut y: u32, row: &GridRow) -> u32 {
        for (i, (label, probability)) in row.predictions.iter().enumerate() {
            y += if i == 0 { 6 } else { 2 };
            let area = |y| Rect::new(MARGIN, y, self.cell, 0);
            let style = if i == 0 { LABEL.bold() } else { LABEL };
            y += scene.paragraph(area(y), label, style, Align::Centre, 2);
            if let Some(p) = probability {
                y += scene.paragraph(area(y), &number::percent(*p), SMALL, Align::Centre, 1);
            }
        }
        y
    }

    /// Adds a cell without a map.
    fn draw_missing(scene: &mut Scene, area: Rect, reason: &str) {
        let lines = SMALL.wrap(
            reason,
            area.width - 16,
            (area.height.saturating_sub(8) / SMALL.line_height()) as usize,
        );
        let height = lines.len() as u32 * SMALL.line_height();
        let top = area.y + area.height.saturating_sub(height) / 2;
        scene.text(Rect::new(area.x + 8, top, area.width - 16, 0), &lines, SMALL, Align::Centre);
        scene.frame(area, LINE);
    }

    /// The line below the grid.
    fn legend(&self) -> String {
        let mut reductions: Vec<&str> = Vec::new();
        for map in self.rows.iter().flat_map(GridRow::maps).filter(|m| m.has_channels()) {
            if !reductions.contains(&map.reduction().words()) {
                reductions.push(map.reduction().words());
            }
        }
        let scales =
            if self.bars == Bars::PerRow { "one scale per row" } else { "each map on its own scale" };
        let clip = format!("colours clip at percentile {}", self.style.percentile);
        reductions
            .into_iter()
            .map(String::from)
            .chain([scales.into(), clip])
            .chain(self.style.smoothing_words())
            .collect::<Vec<_>>()
            .join("  ·  ")
    }
}
