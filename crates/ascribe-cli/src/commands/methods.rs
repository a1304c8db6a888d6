//! `ascribe methods`.

use std::fmt::Write;

use ascribe::catalogue;
use ascribe::core::{Entry, Needs, Score};
use serde_json::{Value, json};

use crate::args::Methods;
use crate::error::Result;
use crate::output::{json_text, settings, table, word};

pub fn run(args: &Methods) -> Result<String> {
    if let Some(id) = &args.id {
        let entry = catalogue::method(id)?;
        return if args.json { json_text(&with_fields(entry)?) } else { page(entry) };
    }
    let mut all: Vec<&Entry> = catalogue::METHODS.entries().collect();
    if args.timeline {
        all.sort_by_key(|entry| entry.card.year);
    }
    if args.json {
        let all: Result<Vec<Value>> = all.into_iter().map(with_fields).collect();
        return json_text(&json!(all?));
    }
    if args.timeline {
        return Ok(timeline(&all));
    }
    let rows = all.iter().map(|entry| {
        let card = entry.card;
        vec![
            card.id.into(),
            card.year.to_string(),
            needs(entry.needs).into(),
            format!("{}, {}", word(&card.scope), word(&card.methodology)),
            card.family.as_ref().map_or_else(|| "-".into(), word),
            word(&card.domain),
            card.summary.into(),
        ]
    });
    Ok(table(
        &["method", "year", "needs", "scope, methodology", "family", "domain", "what it computes"],
        rows,
    ))
}

fn fields(entry: &Entry) -> Result<Value> {
    Ok(catalogue::explainer(entry.card.id, &Value::Null)?.config())
}

fn with_fields(entry: &Entry) -> Result<Value> {
    let mut value = json!(entry.card);
    if let Some(object) = value.as_object_mut() {
        object.insert("needs".into(), json!(entry.needs));
        object.insert("config".into(), fields(entry)?);
    }
    Ok(value)
}

/// What a method or a metric needs of a model.
pub fn needs(needs: Needs) -> &'static str {
    match needs {
        Needs::BlackBox => "outputs",
        Needs::Gradient => "gradients",
        Needs::WhiteBox => "graph",
        Needs::Inner => "as inner",
    }
}

fn timeline(all: &[&Entry]) -> String {
    let mut text = String::new();
    let mut year = 0;
    for entry in all {
        let card = entry.card;
        let mark = if card.year == year { String::new() } else { card.year.to_string() };
        year = card.year;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark:>6} │ {:<22} {:<16} {}", card.id, word(&card.methodology), card.name);
    }
    text
}

fn page(entry: &Entry) -> Result<String> {
    let card = entry.card;
    let mut rows = vec![
        ("computes", card.summary.to_string()),
        ("paper", format!("{} ({})", card.paper, card.year)),
        (
            "needs",
            match entry.needs {
                Needs::Inner => "what the method that it wraps needs".into(),
                own => format!("the model's {}", needs(own)),
            },
        ),
        (
            "class score",
            match (card.takes.method, card.score) {
                (true, _) => "that of the method that it wraps",
                (_, Score::Logit) => "logit (--target prob:C for the probability)",
                (_, Score::Probability) => "softmax probability (--target logit:C for the logit)",
            }
            .into(),
        ),
        ("scope", word(&card.scope)),
        ("methodology", word(&card.methodology)),
        ("usage", word(&card.usage)),
        ("model", if card.agnostic { "agnostic" } else { "specific" }.into()),
        ("domain", word(&card.domain)),
    ];
    if !card.also.is_empty() {
        rows.insert(0, ("also called", card.also.join(", ")));
    }
    if !card.networks.is_empty() {
        rows.push(("applied to", card.networks.join(", ")));
    }
    if let (Some(family), Some(place)) = (&card.family, &card.place) {
        rows.push(("family", format!("{} gradients; {}", word(family), word(place))));
    }
    let mut text = format!("{} ({})\n\n", card.name, card.id);
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<12} {value}");
    }
    Ok(text + &settings(&fields(entry)?))
}
