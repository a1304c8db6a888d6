//! `ascribe metrics`.

use std::fmt::Write;

use ascribe::catalogue;
use ascribe::metrics::{Better, MetricEntry};
use serde_json::{Value, json};

use super::methods::needs;
use crate::args::Metrics;
use crate::error::Result;
use crate::output::{json_text, settings, table, word};

pub fn run(args: &Metrics) -> Result<String> {
    if let Some(id) = &args.id {
        let entry = ascribe::metrics::find(id)?;
        return if args.json { json_text(&with_fields(entry)?) } else { page(entry) };
    }
    if args.json {
        let all: Result<Vec<Value>> = catalogue::metrics().iter().map(with_fields).collect();
        return json_text(&json!(all?));
    }
    let rows = catalogue::metrics().iter().map(|entry| {
        let card = entry.card;
        let cells = [card.id, &word(&card.group), better(card.better), &asks(entry), card.summary];
        cells.map(str::to_string).to_vec()
    });
    Ok(table(&["metric", "group", "better", "needs", "what it measures"], rows))
}

/// Whether higher or lower values are better, for the head of a table.
pub fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => "↑",
        Better::Lower => "↓",
        Better::Zero => "→0",
    }
}

fn better(better: Better) -> &'static str {
    match better {
        Better::Higher => "higher",
        Better::Lower => "lower",
        Better::Zero => "near zero",
    }
}

/// What the metric needs of the model and of the data.
fn asks(entry: &MetricEntry) -> String {
    let asks = entry.card.asks;
    let mut all = vec![needs(entry.needs)];
    all.extend(asks.truth.then_some("boxes"));
    all.extend(asks.method.then_some("method"));
    all.join(", ")
}

fn fields(entry: &MetricEntry) -> Result<Value> {
    Ok(entry.build(&Value::Null)?.config())
}

fn with_fields(entry: &MetricEntry) -> Result<Value> {
    let mut value = json!(entry.card);
    if let Some(object) = value.as_object_mut() {
        object.insert("needs".into(), json!(entry.needs));
        object.insert("config".into(), fields(entry)?);
    }
    Ok(value)
}

fn page(entry: &MetricEntry) -> Result<String> {
    let card = entry.card;
    let end =
        |value: Option<f64>, otherwise: &str| value.map_or_else(|| otherwise.to_string(), |v| v.to_string());
    let mut rows = vec![
        ("measures", card.summary.to_string()),
        ("paper", format!("{} ({})", card.paper, card.year)),
        ("group", word(&card.group)),
        ("better", better(card.better).into()),
        ("range", format!("{} to {}", end(card.range[0], "−∞"), end(card.range[1], "∞"))),
        ("limits", card.limits.into()),
        ("needs", asks(entry)),
    ];
    if !card.also.is_empty() {
        rows.insert(0, ("also called", card.also.join(", ")));
    }
    let mut text = format!("{} ({})\n\n", card.name, card.id);
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<12} {value}");
    }
    Ok(text + &settings(&fields(entry)?))
}
