//! `ascribe metrics`.

use std::fmt::Write;

use ascribe::catalogue;
use ascribe::core::Needs;
use ascribe::metrics::{Better, MetricCard, MetricEntry, StudyEntry, TruthKind};
use serde_json::{Value, json};

use super::methods::needs;
use crate::args::Metrics;
use crate::error::Result;
use crate::output::{fields, json_text, settings, table, word};

pub fn run(args: &Metrics) -> Result<String> {
    if let Some(id) = &args.id {
        let entry = match ascribe::metrics::find_study(id) {
            Ok(study) => Listed::study(study)?,
            Err(_) => Listed::metric(ascribe::metrics::find(id)?)?,
        };
        return if args.json { json_text(&entry.json()) } else { Ok(entry.page()) };
    }
    let metrics = catalogue::metrics().iter().map(Listed::metric);
    let all = metrics.chain(catalogue::studies().iter().map(Listed::study)).collect::<Result<Vec<_>>>()?;
    if args.json {
        return json_text(&json!(all.iter().map(Listed::json).collect::<Vec<_>>()));
    }
    let rows = all.iter().map(|entry| {
        let card = entry.card;
        let cells = [card.id, &word(&card.group), better(card.better), &entry.asks(), card.summary];
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

/// A metric or a study.
struct Listed {
    card: &'static MetricCard,
    needs: Needs,
    config: Value,
}

impl Listed {
    fn metric(entry: &MetricEntry) -> Result<Self> {
        Ok(Self { card: entry.card, needs: entry.needs, config: entry.build(&Value::Null)?.config() })
    }

    fn study(entry: &StudyEntry) -> Result<Self> {
        Ok(Self { card: entry.card, needs: entry.needs, config: entry.build(&Value::Null)?.config() })
    }

    /// What an evaluation has to provide.
    fn asks(&self) -> String {
        let asks = self.card.asks;
        let mut all = vec![needs(self.needs).to_string()];
        all.extend(asks.for_truth().then(|| TruthKind::join(asks.truth, "or")));
        all.extend(asks.method.then(|| "method".into()));
        all.extend(asks.training.then(|| "training".into()));
        all.join(", ")
    }

    fn json(&self) -> Value {
        let mut value = json!(self.card);
        if let Some(object) = value.as_object_mut() {
            object.insert("needs".into(), json!(self.needs));
            object.insert("config".into(), self.config.clone());
        }
        value
    }

    fn page(&self) -> String {
        let card = self.card;
        let end = |value: Option<f64>, otherwise: &str| {
            value.map_or_else(|| otherwise.to_string(), |v| v.to_string())
        };
        let mut rows = vec![
            ("measures", card.summary.to_string()),
            ("paper", format!("{} ({})", card.paper, card.year)),
            ("group", word(&card.group)),
            ("better", better(card.better).into()),
            ("range", format!("{} to {}", end(card.range[0], "−∞"), end(card.range[1], "∞"))),
            ("limits", card.limits.into()),
            ("needs", self.asks()),
        ];
        if !card.also.is_empty() {
            rows.insert(0, ("also called", card.also.join(", ")));
        }
        if card.asks.training {
            rows.push((
                "run by",
                "the library: it trains networks, which `ascribe evaluate` does not".into(),
            ));
        }
        let mut text = format!("{} ({})\n\n", card.name, card.id);
        for (name, value) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<12} {value}");
        }
        // Those of a study are set where it is run.
        let own = if card.asks.training {
            fields("fields, with defaults", &self.config)
        } else {
            settings(&self.config)
        };
        text + &own
    }
}
