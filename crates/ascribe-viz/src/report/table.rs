//! Tables of text and numbers with aligned decimals.

use serde::{Deserialize, Serialize};

use crate::number;
use crate::{Error, Result};

/// A table of text and numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The caption above the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, one cell per column.
    pub rows: Vec<Vec<Cell>>,
}

/// Whether high or low values of a column are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Higher values are better.
    Higher,
    /// Lower values are better.
    Lower,
}

/// The heading of a column, and the format of its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The heading.
    pub title: String,
    /// Number of decimals; `None` for a column of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<usize>,
    /// Whether high or low values are better. If set, the heading has an arrow and the best value is bold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
}

/// The content of a cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// No value, which is shown as a dash.
    Missing,
    /// A number, shown with the decimals of its column.
    Number(f64),
    /// Text.
    Text(String),
}

impl Column {
    /// A column of text.
    pub fn text(title: impl Into<String>) -> Self {
        Self { title: title.into(), decimals: None, better: None }
    }

    /// A column of numbers with this many decimals.
    pub fn number(title: impl Into<String>, decimals: usize) -> Self {
        Self { title: title.into(), decimals: Some(decimals), better: None }
    }

    /// Sets that higher values are better.
    pub fn higher_is_better(mut self) -> Self {
        self.better = Some(Better::Higher);
        self
    }

    /// Sets that lower values are better.
    pub fn lower_is_better(mut self) -> Self {
        self.better = Some(Better::Lower);
        self
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Missing, Self::Number)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// A table in the form that the template needs.
#[derive(Serialize)]
pub(super) struct Rendered {
    caption: Option<String>,
    head: Vec<RenderedCell>,
    rows: Vec<Vec<RenderedCell>>,
}

#[derive(Serialize)]
struct RenderedCell {
    text: String,
    number: bool,
    best: bool,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { caption: None, columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Sets the caption above the table.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    /// Adds a row, one cell per column.
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.rows.push(cells.into_iter().collect());
        self
    }

    /// The best finite value of a column, if it says whether high or low is better and has at least two finite values.
    fn best(&self, column: usize) -> Option<f64> {
        let better = self.columns[column].better?;
        let values: Vec<f64> = self
            .rows
            .iter()
            .filter_map(|row| match row.get(column) {
                Some(Cell::Number(v)) if v.is_finite() => Some(*v),
                _ => None,
            })
            .collect();
        let best = values.iter().copied().reduce(|a, b| match better {
            Better::Higher => a.max(b),
            Better::Lower => a.min(b),
        });
        best.filter(|_| values.len() > 1)
    }

    pub(super) fn rendered(&self) -> Result<Rendered> {
        let wrong = self.rows.iter().enumerate().find(|(_, r)| r.len() != self.columns.len());
        if let Some((i, row)) = wrong {
            return Err(Error::Layout {
                what: format!(
                    "row {} of the table `{}`",
                    i + 1,
                    self.caption.as_deref().unwrap_or("without caption")
                ),
                problem: format!("it has {} cells for {} columns", row.len(), self.columns.len()),
            });
        }
        let head = self.columns.iter().map(|c| {
            let arrow = match c.better {
                Some(Better::Higher) => " ↑",
                Some(Better::Lower) => " ↓",
                None => "",
            };
            RenderedCell { text: format!("{}{arrow}", c.title), number: c.decimals.is_some(), best: false }
        });
        let best: Vec<_> = (0..self.columns.len()).map(|c| self.best(c)).collect();
        let rows = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&self.columns).zip(&best);
            cells
                .map(|((cell, column), best)| {
                    let (text, value) = match cell {
                        Cell::Missing => ("–".into(), None),
                        Cell::Text(text) => (text.clone(), None),
                        Cell::Number(v) => (written(*v, column.decimals), Some(*v)),
                    };
                    RenderedCell {
                        text,
                        number: column.decimals.is_some(),
                        best: value.is_some() && value == *best,
                    }
                })
                .collect()
        });
        Ok(Rendered { caption: self.caption.clone(), head: head.collect(), rows: rows.collect() })
    }
}

/// A number with the decimals of its column, or in scientific notation if it would be shown as zero or is very large.
fn written(value: f64, decimals: Option<usize>) -> String {
    let Some(decimals) = decimals else { return number::short(value) };
    if value != 0.0 && value.abs() < 0.5 * 10f64.powi(-(decimals as i32)) || value.abs() >= 1e9 {
        return number::short(value);
    }
    number::fixed(value, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_share_decimals_the_best_stands_out_and_missing_is_a_dash() {
        let table =
            Table::new([Column::text("m"), Column::number("x", 2).lower_is_better(), Column::number("y", 1)])
                .row(["a".into(), 0.5.into(), 3.0.into()])
                .row(["b".into(), (-0.25).into(), Cell::Missing])
                .row(["c".into(), f64::NAN.into(), 1e-7.into()]);
        let rendered = table.rendered().unwrap();
        let texts: Vec<Vec<&str>> =
            rendered.rows.iter().map(|r| r.iter().map(|c| c.text.as_str()).collect()).collect();
        assert_eq!(texts, [["a", "0.50", "3.0"], ["b", "−0.25", "–"], ["c", "NaN", "1×10⁻⁷"]]);
        let best: Vec<bool> = rendered.rows.iter().map(|r| r[1].best).collect();
        assert_eq!(best, [false, true, false]);
        assert_eq!(rendered.head[1].text, "x ↓");
        assert!(rendered.rows[0][1].number && !rendered.rows[0][0].number);
    }

    #[test]
    fn ragged_rows_are_an_error() {
        let table = Table::new([Column::text("m")]).caption("scores").row(["a".into(), "b".into()]);
        let message = table.rendered().err().unwrap().to_string();
        assert!(
            message.contains("row 1 of the table `scores`") && message.contains("2 cells for 1 columns"),
            "{message}"
        );
    }

    #[test]
    fn cells_round_trip_through_json() {
        for (cell, json) in [(Cell::Missing, "null"), (1.5.into(), "1.5"), ("a".into(), "\"a\"")] {
            assert_eq!(serde_json::to_string(&cell).unwrap(), json);
            assert_eq!(serde_json::from_str::<Cell>(json).unwrap(), cell);
        }
    }
}
