//! Renders reports as HTML.

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::{Block, Claim, Figure, Report, Section, Verdict, table};
use crate::{Error, Result};

const TEMPLATE: &str = include_str!("../../templates/report.html");

/// A report in the form that the template needs.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    subtitle: Option<&'a str>,
    facts: &'a [(String, String)],
    sections: Vec<Part<'a>>,
    claims: usize,
    holds: usize,
    fails: usize,
    skipped: usize,
    version: &'a str,
}

/// A section in the form that the template needs.
#[derive(Serialize)]
struct Part<'a> {
    title: &'a str,
    id: String,
    claims: usize,
    holds: usize,
    blocks: Vec<Item<'a>>,
}

/// A block in the form that the template needs. Consecutive figures, and consecutive claims, are grouped.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Item<'a> {
    Text { text: &'a str },
    Code { text: &'a str },
    Table { table: table::Rendered },
    Figures { figures: Vec<&'a Figure> },
    Claims { claims: Vec<&'a Claim> },
}

pub(super) fn html(report: &Report) -> Result<String> {
    let mut environment = Environment::new();
    // The extension of the name turns escaping on.
    environment.add_template("report.html", TEMPLATE)?;
    let sections = report.sections.iter().enumerate().map(part).collect::<Result<Vec<_>>>()?;
    let count = |v: Verdict| report.claims().filter(|c| c.verdict == v).count();
    let page = Page {
        title: &report.title,
        subtitle: report.subtitle.as_deref(),
        facts: &report.facts,
        sections,
        claims: report.claims().count(),
        holds: count(Verdict::Holds),
        fails: count(Verdict::DoesNotHold),
        skipped: count(Verdict::NotChecked),
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(environment.get_template("report.html")?.render(Serde(&page))?)
}

fn part((index, section): (usize, &Section)) -> Result<Part<'_>> {
    let mut blocks: Vec<Item> = Vec::new();
    for block in &section.blocks {
        match (block, blocks.last_mut()) {
            (Block::Figure(figure), Some(Item::Figures { figures })) => figures.push(inline(figure)?),
            (Block::Figure(figure), _) => blocks.push(Item::Figures { figures: vec![inline(figure)?] }),
            (Block::Claim(claim), Some(Item::Claims { claims })) => claims.push(claim),
            (Block::Claim(claim), _) => blocks.push(Item::Claims { claims: vec![claim] }),
            (Block::Text { text }, _) => blocks.push(Item::Text { text }),
            (Block::Code { text }, _) => blocks.push(Item::Code { text }),
            (Block::Table(table), _) => blocks.push(Item::Table { table: table.rendered()? }),
        }
    }
    Ok(Part {
        title: &section.title,
        id: format!("section-{}", index + 1),
        claims: section.claims().count(),
        holds: section.claims().filter(|c| c.verdict == Verdict::Holds).count(),
        blocks,
    })
}

/// Checks that the data of a figure is an embedded image. The template does not escape it, and a report that was read
/// from JSON could contain anything there, such as an address of another server, or markup.
fn inline(figure: &Figure) -> Result<&Figure> {
    let base64 = ["png", "jpeg", "webp"]
        .iter()
        .find_map(|format| figure.data.strip_prefix(&format!("data:image/{format};base64,")));
    if base64.is_some_and(|b| b.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=')))
    {
        return Ok(figure);
    }
    Err(Error::Layout {
        what: format!("the figure `{}`", figure.caption),
        problem: "its data must be an inline image, `data:image/png;base64,…` (or jpeg, webp)".into(),
    })
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::metadata::Metadata;
    use crate::report::{Column, Table};
    use crate::{About, Picture};

    fn figure() -> Figure {
        let picture = Picture { image: RgbImage::new(8, 8), metadata: Metadata::new("dot", About::new()) };
        Figure::new(&picture, "a \"dot\" <b>").unwrap()
    }

    fn report() -> Report {
        let hostile = "<script>alert('x')</script> & \"quotes\"";
        Report::new(hostile).subtitle(hostile).fact(hostile, hostile).section(
            Section::new(hostile)
                .text(hostile)
                .code(hostile)
                .claim(
                    Claim::new(hostile, Verdict::Holds).source(hostile).measured(hostile).criterion(hostile),
                )
                .claim(Claim::new("other", Verdict::DoesNotHold))
                .claim(Claim::new("third", Verdict::NotChecked))
                .figure(figure().alt(hostile))
                .table(Table::new([Column::text(hostile)]).caption(hostile).row([hostile.into()])),
        )
    }

    #[test]
    fn everything_from_outside_is_escaped() {
        let html = report().render().unwrap();
        assert!(!html.contains("<script") && !html.contains("alert('x')"), "unescaped");
        assert!(!html.contains("\"dot\" <b>"));
        assert!(html.matches("&lt;script&gt;").count() >= 14, "{}", html.matches("&lt;script&gt;").count());
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let html = report().render().unwrap();
        for sign in ["http:", "https:", "url(", "@import", "<link", "<script", "<iframe"] {
            assert!(!html.contains(sign), "{sign}");
        }
        assert!(html.contains("src=\"data:image/png;base64,"));
        assert_eq!((html.matches("src=").count(), html.matches("href=").count()), (1, 0));
    }

    #[test]
    fn claims_are_counted_and_badged() {
        let html = report().render().unwrap();
        assert!(html.contains("1 of 3 claims holds"), "{html}");
        for badge in ["holds", "does not hold", "not checked"] {
            assert!(html.contains(&format!(">{badge}</span>")), "{badge}");
        }
    }

    #[test]
    fn an_outside_picture_and_an_odd_ending_are_errors() {
        for data in
            ["https://example.org/a.png", "data:image/png;base64,\"><script>", "data:text/html;base64,AAAA"]
        {
            let mut odd = figure();
            odd.data = data.into();
            assert!(Report::new("r").section(Section::new("s").figure(odd)).render().is_err(), "{data}");
        }
        assert!(Report::new("r").save("report.pdf").unwrap_err().to_string().contains("report.pdf"));
    }

    #[test]
    fn a_report_is_data_and_is_written_whole() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        report.save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), report.render().unwrap());
    }
}
