//! Reports: HTML files with text, figures, tables and claims that can be read without network access.

mod render;
mod table;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use table::{Better, Cell, Column, Table};

use crate::write::{Picture, write_atomic};
use crate::{Error, Result};

/// A report. It can be stored as JSON (with serde) and rendered as one self-contained HTML file, which follows the
/// reader's setting for light or dark mode and can be printed.
///
/// All text is plain text and is escaped. Figures are embedded; the file refers to no other file.
///
/// ```
/// use ascribe_viz::report::{Claim, Column, Report, Section, Table, Verdict};
///
/// let scores = Table::new([Column::text("method"), Column::number("deletion", 3).lower_is_better()])
///     .row(["RISE".into(), 0.108.into()])
///     .row(["Grad-CAM".into(), 0.122.into()]);
/// let report = Report::new("Reproduction").fact("model", "EfficientNet-Lite0").section(
///     Section::new("Faithfulness")
///         .text("Pixels are removed, the most important first.")
///         .claim(Claim::new("RISE's deletion score is below Grad-CAM's", Verdict::Holds)
///             .source("Petsiuk et al. 2018, Table 1")
///             .measured("0.108 against 0.122"))
///         .table(scores.caption("Area under the deletion curve")),
/// );
/// let html = report.render()?;
/// assert!(html.contains("1 of 1 claims holds"));
/// # Ok::<(), ascribe_viz::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// A line below the heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtitle: Option<String>,
    /// Named facts at the top, such as model, date, seed and version.
    #[serde(default)]
    pub facts: Vec<(String, String)>,
    /// The sections.
    #[serde(default)]
    pub sections: Vec<Section>,
}

/// A section of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Its content, in order.
    #[serde(default)]
    pub blocks: Vec<Block>,
}

/// One element of a section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Block {
    /// A paragraph.
    Text {
        /// The text.
        text: String,
    },
    /// Preformatted text: a command, a configuration.
    Code {
        /// The text, with line breaks.
        text: String,
    },
    /// A picture.
    Figure(Figure),
    /// A table.
    Table(Table),
    /// A statement that was checked.
    Claim(Claim),
}

/// A picture with its caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The caption below the picture.
    pub caption: String,
    /// A description of the picture for readers who cannot see it (alternative text).
    pub alt: String,
    /// Width in pixels at which it is shown, if there is room.
    pub width: u32,
    /// The picture as a `data:image/…;base64,…` URI.
    pub data: String,
}

/// Whether a claim was found to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The measurement agrees.
    Holds,
    /// The measurement disagrees.
    DoesNotHold,
    /// It was not measured (in a quick run, or because data is missing).
    NotChecked,
}

/// A statement of a paper, what was measured, and whether the statement holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The statement.
    pub statement: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What was measured, with numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// The condition under which it holds, for example "gap below 10⁻³".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criterion: Option<String>,
    /// The outcome.
    pub verdict: Verdict,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Sets the line below the title.
    pub fn subtitle(mut self, subtitle: impl Into<String>) -> Self {
        self.subtitle = Some(subtitle.into());
        self
    }

    /// Adds a named fact to the top of the report.
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// Adds a section.
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// All claims, in order.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.sections.iter().flat_map(Section::claims)
    }

    /// Renders the report as one HTML page.
    ///
    /// # Errors
    /// If the rows of a table do not fit its columns, or a figure is not an embedded image.
    pub fn render(&self) -> Result<String> {
        render::html(self)
    }

    /// Renders the report to a file with the extension .html or .htm, which is written atomically.
    ///
    /// # Errors
    /// As [`Report::render`], or if the file has another extension or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if !matches!(ending.as_deref(), Some("html" | "htm")) {
            let problem = "the name of a report must end in .html".into();
            return Err(Error::Layout { what: format!("the path `{}`", path.display()), problem });
        }
        write_atomic(path, self.render()?.as_bytes())
    }
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }

    /// Adds a paragraph.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.block(Block::Text { text: text.into() })
    }

    /// Adds preformatted text.
    pub fn code(self, text: impl Into<String>) -> Self {
        self.block(Block::Code { text: text.into() })
    }

    /// Adds a figure. Consecutive figures are shown side by side if there is room.
    pub fn figure(self, figure: Figure) -> Self {
        self.block(Block::Figure(figure))
    }

    /// Adds a table.
    pub fn table(self, table: Table) -> Self {
        self.block(Block::Table(table))
    }

    /// Adds a claim.
    pub fn claim(self, claim: Claim) -> Self {
        self.block(Block::Claim(claim))
    }

    /// Adds any block.
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// The claims of the section, in order.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.blocks.iter().filter_map(|b| match b {
            Block::Claim(claim) => Some(claim),
            _ => None,
        })
    }
}

impl Figure {
    /// A figure with a picture and a caption, which is also the description of the picture.
    ///
    /// # Errors
    /// If the picture cannot be encoded.
    pub fn new(picture: &Picture, caption: impl Into<String>) -> Result<Self> {
        let caption = caption.into();
        let alt = if caption.is_empty() { picture.metadata.title.clone() } else { caption.clone() };
        Ok(Self { caption, alt, width: picture.image.width(), data: picture.data_uri()? })
    }

    /// Sets the description for readers who cannot see the picture.
    pub fn alt(mut self, alt: impl Into<String>) -> Self {
        self.alt = alt.into();
        self
    }

    /// Sets the width in pixels at which the picture is shown.
    pub fn width(mut self, pixels: u32) -> Self {
        self.width = pixels;
        self
    }
}

impl Claim {
    /// A claim with its outcome.
    pub fn new(statement: impl Into<String>, verdict: Verdict) -> Self {
        Self { statement: statement.into(), source: None, measured: None, criterion: None, verdict }
    }

    /// Sets where the statement comes from.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets what was measured.
    pub fn measured(mut self, measured: impl Into<String>) -> Self {
        self.measured = Some(measured.into());
        self
    }

    /// Sets the condition under which it holds.
    pub fn criterion(mut self, criterion: impl Into<String>) -> Self {
        self.criterion = Some(criterion.into());
        self
    }
}

impl From<bool> for Verdict {
    /// The outcome of a measurement: `Holds` for true, `DoesNotHold` for false.
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::DoesNotHold }
    }
}
