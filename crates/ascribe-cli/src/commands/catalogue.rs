//! `ascribe methods`.

use std::fmt::Write;

use ascribe::catalogue::{self, Entry, Needs};
use ascribe::target::Score;
use serde_json::json;

use crate::args::Methods;
use crate::error::Result;
use crate::output::{json_text, table};

pub fn run(args: &Methods) -> Result<String> {
    if let Some(id) = &args.id {
        let entry = catalogue::method(id)?;
        return if args.json { json_text(&with_fields(entry)?) } else { page(entry) };
    }
    let mut all: Vec<&Entry> = catalogue::methods()?.iter().collect();
    if args.timeline {
        all.sort_by_key(|e| e.year);
    }
    if args.json {
        let all: Result<Vec<serde_json::Value>> = all.into_iter().map(with_fields).collect();
        return json_text(&json!(all?));
    }
    if args.timeline {
        return Ok(timeline(&all));
    }
    let rows = all.iter().map(|e| {
        let place = e.family.clone().unwrap_or_else(|| "-".into());
        let scope = format!("{}, {}", e.scope, e.methodology);
        vec![
            e.id.clone(),
            e.year.to_string(),
            needs(e.needs).into(),
            scope,
            place,
            e.domain.clone(),
            e.summary.clone(),
        ]
    });
    Ok(table(
        &["method", "year", "needs", "scope, methodology", "family", "domain", "what it computes"],
        rows,
    ))
}

fn with_fields(entry: &Entry) -> Result<serde_json::Value> {
    let mut value = json!(entry);
    if let Some(object) = value.as_object_mut() {
        object.insert("config".into(), catalogue::fields(&entry.id)?);
    }
    Ok(value)
}

fn needs(needs: Needs) -> &'static str {
    match needs {
        Needs::BlackBox => "outputs",
        Needs::Gradient => "gradients",
        Needs::WhiteBox => "graph",
    }
}

fn timeline(all: &[&Entry]) -> String {
    let mut text = String::new();
    let mut year = 0;
    for entry in all {
        let mark = if entry.year == year { String::new() } else { entry.year.to_string() };
        year = entry.year;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark:>6} │ {:<22} {:<16} {}", entry.id, entry.methodology, entry.name);
    }
    text
}

fn page(entry: &Entry) -> Result<String> {
    let mut rows = vec![
        ("computes", entry.summary.clone()),
        ("paper", format!("{} ({})", entry.paper, entry.year)),
        ("needs", format!("the model's {}", needs(entry.needs))),
        (
            "class score",
            match entry.score {
                Score::Logit => "logit (--target prob:C for the probability)",
                Score::Probability => "softmax probability (--target logit:C for the logit)",
            }
            .into(),
        ),
        ("scope", entry.scope.clone()),
        ("methodology", entry.methodology.clone()),
        ("usage", entry.usage.clone()),
        ("model", if entry.agnostic { "agnostic" } else { "specific" }.into()),
        ("domain", entry.domain.clone()),
    ];
    if !entry.networks.is_empty() {
        rows.push(("applied to", entry.networks.join(", ")));
    }
    if let (Some(family), Some(place)) = (&entry.family, &entry.place) {
        rows.push(("family", format!("{family} gradients; {place}")));
    }
    let mut text = format!("{} ({})\n\n", entry.name, entry.id);
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<12} {value}");
    }
    text += "\nconfiguration (--set KEY=VALUE), with defaults:\n\n";
    for (key, value) in catalogue::fields(&entry.id)?.as_object().into_iter().flatten() {
        let _ = writeln!(text, "  {key} = {value}");
    }
    Ok(text)
}
