//! HTML reports.

use ascribe::core::Attribution;
use ascribe::viz::Picture;
use ascribe::viz::report::{Cell, Column, Figure, Report, Section, Table};
use ascribe::{Model, Prediction};

use crate::args::Explain;
use crate::error::{Failure, Result};

/// The report of one explanation.
pub fn explanation(
    args: &Explain,
    model: &Model,
    predictions: &[Prediction],
    target: &str,
    attribution: &Attribution,
    picture: &Picture,
) -> Result<Report> {
    let p = &attribution.provenance;
    let numbers = |values: &[f64]| values.iter().map(|v| format!("{v:.6}")).collect::<Vec<_>>().join(", ");
    let mut report = Report::new(format!("Why {target}?"))
        .subtitle(args.input.display().to_string())
        .fact("model", &*model.name)
        .fact("method", &*args.method)
        .fact("target", target)
        .fact("score", numbers(&p.scores))
        .fact("rows forward, backward", format!("{}, {}", p.cost.forward, p.cost.backward))
        .fact("seconds", format!("{:.2}", p.seconds));
    if let Some(scores) = &p.baseline_scores {
        report = report.fact("score of the baseline", numbers(scores));
    }
    if let Some(gaps) = &p.completeness_gap {
        report = report.fact("completeness gap", numbers(gaps));
    }
    let config = serde_json::to_string_pretty(&p.config).map_err(|e| Failure::Other(e.to_string()))?;
    let mut explanation =
        Section::new("Attribution").figure(Figure::new(picture, format!("{} of {target}", args.method))?);
    for warning in &p.warnings {
        explanation = explanation.text(format!("Warning: {warning}."));
    }
    if !p.details.is_empty() {
        let details = serde_json::to_string_pretty(&p.details).map_err(|e| Failure::Other(e.to_string()))?;
        explanation = explanation.code(details);
    }
    for note in &p.notes {
        explanation = explanation.text(format!("Note: {note}."));
    }
    if !predictions.is_empty() {
        let mut table =
            Table::new([Column::text("class"), Column::text("label"), Column::number("probability, %", 2)]);
        for p in predictions {
            table = table.row([
                Cell::from(p.class.to_string()),
                Cell::from(p.label.as_deref().unwrap_or("")),
                Cell::from(100.0 * p.probability),
            ]);
        }
        report = report.section(Section::new("Predictions").table(table));
    }
    Ok(report.section(explanation).section(Section::new("Configuration").code(config)))
}
