//! Generates parts of the book from the catalogue.
//!
//! Pages mark these parts: `<!-- generated: methods -->`, `<!-- generated: metrics -->`, `<!-- generated: studies
//! -->` or `<!-- generated: settings ID -->`, up to `<!-- end -->`. Every method, metric and study must have its
//! settings on a page. The table of contents lists the pages of methods below `methods/index.md`, in the order of the
//! catalogue and by their headings.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ascribe::catalogue;
use ascribe::core::{Needs, Score};
use ascribe::metrics::{Better, MetricCard};
use serde_json::Value;

use crate::paths;

const START: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

/// Rewrites the generated parts of docs/src.
#[derive(Debug, clap::Args)]
pub struct Docs {
    /// Only check whether they are up to date
    #[arg(long)]
    check: bool,
}

/// A page with its text.
struct Page {
    path: PathBuf,
    text: String,
}

pub fn run(args: &Docs) -> anyhow::Result<()> {
    let root = paths::root().join("docs/src");
    let mut pages = Vec::new();
    read(&root, &mut pages)?;
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    let contents = root.join("SUMMARY.md");
    let studies = catalogue::studies().iter().map(|entry| entry.card);
    for card in catalogue::metrics().iter().map(|entry| entry.card).chain(studies) {
        page_of(card.id, &pages)?;
    }
    let mut old = Vec::new();
    for page in &pages {
        let text = if page.path == contents { listed(page, &pages, &root) } else { rewritten(page, &pages) };
        let text = text.with_context(|| page.path.display().to_string())?;
        if text != page.text {
            old.push(page.path.display().to_string());
            if !args.check {
                std::fs::write(&page.path, text)?;
            }
        }
    }
    ensure!(
        !args.check || old.is_empty(),
        "not up to date, `cargo xtask docs` rewrites them: {}",
        old.join(", ")
    );
    for page in &old {
        println!("wrote {page}");
    }
    Ok(())
}

fn read(folder: &Path, pages: &mut Vec<Page>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, pages)?;
        } else if path.extension().is_some_and(|end| end == "md") {
            pages.push(Page { text: std::fs::read_to_string(&path)?, path });
        }
    }
    Ok(())
}

/// The page with the settings of a method or metric.
fn page_of<'a>(id: &str, pages: &'a [Page]) -> anyhow::Result<&'a Page> {
    let mark = format!("{START}settings {id} -->");
    pages.iter().find(|page| page.text.contains(&mark)).with_context(|| format!("no page has '{mark}'"))
}

/// The table of contents with an updated list of the pages of methods.
fn listed(contents: &Page, pages: &[Page], root: &Path) -> anyhow::Result<String> {
    const OVERVIEW: &str = "(methods/index.md)\n";
    let (before, after) =
        contents.text.split_once(OVERVIEW).context("the overview of methods is not listed")?;
    let rest = after.lines().skip_while(|line| line.starts_with("  - "));
    let mut lines: Vec<String> = Vec::new();
    for entry in catalogue::METHODS.entries() {
        let page = page_of(entry.card.id, pages)?;
        let title = page.text.lines().next().and_then(|line| line.strip_prefix("# "));
        let title = title.with_context(|| format!("{} has no heading", page.path.display()))?;
        let line = format!("  - [{title}]({})", page.path.strip_prefix(root)?.display());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.extend(rest.map(String::from));
    Ok(format!("{before}{OVERVIEW}{}\n", lines.join("\n")))
}

/// The text with its generated parts updated.
fn rewritten(page: &Page, pages: &[Page]) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut rest = page.text.as_str();
    while let Some((before, behind)) = rest.split_once(START) {
        let (what, old) = behind.split_once(" -->").context("a mark without an end")?;
        let (_, after) = old.split_once(END).with_context(|| format!("no '{END}' behind '{what}'"))?;
        let part = match what.split_once(' ') {
            None if what == "methods" => methods(pages)?,
            None if what == "metrics" => {
                measures("metric", catalogue::metrics().iter().map(|entry| entry.card))
            }
            None if what == "studies" => {
                measures("study", catalogue::studies().iter().map(|entry| entry.card))
            }
            Some(("settings", id)) => settings(id)?,
            _ => bail!("there is nothing called '{what}' to generate"),
        };
        let _ = write!(text, "{before}{START}{what} -->\n{part}{END}");
        rest = after;
    }
    Ok(text + rest)
}

fn methods(pages: &[Page]) -> anyhow::Result<String> {
    let mut text =
        "| method | year | needs | class score | what it computes |\n| --- | --- | --- | --- | --- |\n"
            .to_string();
    for entry in catalogue::METHODS.entries() {
        let (card, page) = (entry.card, page_of(entry.card.id, pages)?);
        let needs = match entry.needs {
            Needs::BlackBox => "outputs",
            Needs::Gradient => "gradients",
            Needs::WhiteBox => "graph",
            Needs::Inner => "what the method inside needs",
        };
        let score = match (entry.needs, card.score) {
            (Needs::Inner, _) => "that of the method inside",
            (_, Score::Logit) => "logit",
            (_, Score::Probability) => "probability",
        };
        let file = page.path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(
            text,
            "| [`{}`]({file}) | {} | {needs} | {score} | {} |",
            card.id, card.year, card.summary
        );
    }
    Ok(text)
}

/// The table of metrics or of studies.
fn measures(what: &str, cards: impl Iterator<Item = &'static MetricCard>) -> String {
    let mut text = format!("| {what} | measures | better | limits |\n| --- | --- | --- | --- |\n");
    for card in cards {
        let better = match card.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Zero => "near zero",
        };
        let _ = writeln!(text, "| `{}` | {} | {better} | {} |", card.id, card.summary, card.limits);
    }
    text
}

fn settings(id: &str) -> anyhow::Result<String> {
    let config = if catalogue::METHODS.find(id).is_ok() {
        catalogue::explainer(id, &Value::Null)?.config()
    } else if catalogue::studies().iter().any(|entry| entry.card.id == id) {
        catalogue::study(id, &Value::Null)?.config()
    } else {
        catalogue::metric(id, &Value::Null)?.config()
    };
    let fields = config.as_object().context("a configuration is an object")?;
    if fields.is_empty() {
        return Ok(format!("`{id}` has no settings.\n"));
    }
    let mut text = format!("| setting of `{id}` | default |\n| --- | --- |\n");
    for (name, value) in fields {
        let _ = writeln!(text, "| `{name}` | `{value}` |");
    }
    Ok(text)
}
