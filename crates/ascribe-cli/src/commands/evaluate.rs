//! `ascribe evaluate`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use ascribe::Model;
use ascribe::annotations::{self, Annotations};
use ascribe::catalogue;
use ascribe::core::{Boxed, Dataset, Graph, Location};
use ascribe::evaluator::{Asked, Evaluator, Overall, Row};
use ascribe::metrics::{Better, BoxedMetric, MetricCard, TruthKind};
use ascribe::pictures::Pictures;
use ascribe::viz::report::{Cell, Column, Report, Section, Table};
use serde_json::{Value, json};

use super::metrics::arrow;
use crate::args::Evaluate;
use crate::error::{Failure, Result};
use crate::output::{self, Form, json_text, table};
use crate::progress::Bar;
use crate::settings;

pub fn run(args: &Evaluate) -> Result<String> {
    let forms = output::forms(&args.output, &[Form::Json, Form::Csv, Form::Report])?;
    // A misspelt name is an error before a large model is read.
    args.methods.iter().try_for_each(|id| catalogue::method(id).map(drop))?;
    args.metrics.iter().try_for_each(|id| ascribe::metrics::find(id).map(drop))?;
    let model = settings::model(&args.model, None, &Location::Input)?;
    let (methods, metrics) = configured(args, &model)?;
    if !args.data.is_dir() {
        return Err(Failure::request(format!("--data '{}': there is no such folder", args.data.display())));
    }
    let pictures = annotations::pictures(&args.data)?;
    let evaluator =
        Evaluator { target: Asked::Words(args.target.clone()), ..Evaluator::new(&model, methods, metrics) };
    let mut data = Pictures::new(&model, pictures);
    // Annotations are read only if a metric needs them, since they may use unknown labels.
    if evaluator.asks_for_truth() {
        data = data.annotated(annotated(args, &evaluator)?);
    }
    let bar = Bar::new("evaluate");
    let run = settings::run(&args.run, &bar)?;
    let mut rows = Vec::new();
    evaluator.run(
        &data,
        &[],
        &run,
        |names, first, all| bar.label(&next(names, first, all)),
        |of_picture| {
            rows.extend(of_picture);
            Ok(())
        },
    )?;
    bar.finish();
    let summaries = evaluator.summaries(&rows, run.get_seed());
    let object = json!({
        "model": model.name, "data": args.data, "pictures": data.len(),
        "methods": evaluator.methods.iter()
            .map(|m| json!({ "id": m.id(), "config": m.config(), "score": m.score() })).collect::<Vec<_>>(),
        "metrics": evaluator.metrics.iter()
            .map(|m| json!({ "id": m.id(), "config": m.config(), "better": m.card().better })).collect::<Vec<_>>(),
        "summary": summaries, "rows": rows, "outputs": args.output,
    });
    for (path, form) in args.output.iter().zip(&forms) {
        match form {
            Form::Csv => output::write_text(path, &csv(&rows))?,
            Form::Report => report(args, &evaluator, &summaries, &rows)?.save(path)?,
            _ => output::write_text(path, &json_text(&object)?)?,
        }
    }
    if args.json {
        return json_text(&object);
    }
    Ok(text(args, &evaluator, &summaries))
}

/// What the pictures show.
fn annotated(args: &Evaluate, evaluator: &Evaluator<'_>) -> Result<Annotations> {
    let found = Annotations::beside(&args.data, evaluator.model.labels.as_ref())?;
    if !found.is_empty() {
        return Ok(found);
    }
    let asking: Vec<String> = evaluator
        .metrics
        .iter()
        .map(|metric| metric.card())
        .filter(|card| card.asks.for_truth())
        .map(|card| format!("{} needs {}", card.id, TruthKind::join(card.asks.truth, "or")))
        .collect();
    Err(Failure::request(format!(
        "{}: boxes.json or Pascal-VOC XML files beside the pictures in '{}'",
        asking.join(", "),
        args.data.display()
    )))
}

/// Which pictures are next, of how many.
fn next(names: &[String], first: usize, all: usize) -> String {
    let name = |name: &String| Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match names {
        [one] => format!("{} of {all}: {}", first + 1, name(one)),
        several => {
            format!("{} of {all} and on: {}", first + 1, several.first().map(name).unwrap_or_default())
        }
    }
}

type Configured = (Vec<Boxed<Graph>>, Vec<BoxedMetric>);

/// The methods and the metrics that the arguments name, with their settings.
fn configured(args: &Evaluate, model: &Model) -> Result<Configured> {
    let default = Value::Null;
    let methods = args.methods.iter().map(|id| catalogue::explainer_for(id, &default, model));
    let mut methods = methods.collect::<ascribe::Result<Vec<_>>>()?;
    let metrics = args.metrics.iter().map(|id| catalogue::metric(id, &default));
    let mut metrics = metrics.collect::<ascribe::Result<Vec<_>>>()?;
    let ids: Vec<&str> = methods.iter().map(|m| m.id()).chain(metrics.iter().map(|m| m.id())).collect();
    let known: Vec<Value> =
        methods.iter().map(|m| m.config()).chain(metrics.iter().map(|m| m.config())).collect();
    let configs = settings::configs(None, &ids, &args.set, &known)?;
    // Only methods and metrics with settings are rebuilt.
    for (place, config) in
        configs.iter().enumerate().filter(|(_, config)| config.as_object().is_some_and(|c| !c.is_empty()))
    {
        match place.checked_sub(methods.len()) {
            None => methods[place] = catalogue::explainer_for(ids[place], config, model)?,
            Some(metric) => metrics[metric] = catalogue::metric(ids[place], config)?,
        }
    }
    Ok((methods, metrics))
}

/// A field of a CSV file, quoted where it must be (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

fn csv(rows: &[Row]) -> String {
    let mut text = String::from("sample,target,method,metric,value\n");
    for row in rows {
        let value = row.value.map(|v| v.to_string()).unwrap_or_default();
        let fields = [&row.sample, &row.target, &row.method, &row.metric, &value].map(|field| quoted(field));
        text += &fields.join(",");
        text.push('\n');
    }
    text
}

fn heading(card: &MetricCard) -> Column {
    let column = Column::number(card.id, 4);
    match card.better {
        Better::Higher => column.higher_is_better(),
        Better::Lower | Better::Zero => column.lower_is_better(),
    }
}

fn report(args: &Evaluate, evaluator: &Evaluator<'_>, summaries: &[Overall], rows: &[Row]) -> Result<Report> {
    let mut columns = vec![Column::text("method")];
    columns.extend(evaluator.metrics.iter().map(|m| heading(m.card())));
    let mut means = Table::new(columns);
    for id in &args.methods {
        let mut cells = vec![Cell::from(id.as_str())];
        cells.extend(summaries.iter().filter(|s| s.method == *id).map(|s| Cell::from(s.summary.mean)));
        means = means.row(cells);
    }
    let columns = ["picture", "target", "method", "metric"].map(Column::text).into_iter();
    let mut each = Table::new(columns.chain([Column::number("value", 4)]));
    let mut notes = Section::new("Notes");
    let mut noted = false;
    for row in rows {
        let path = Path::new(&row.sample);
        let picture = path.strip_prefix(&args.data).unwrap_or(path).display().to_string();
        for note in &row.notes {
            noted = true;
            notes = notes.text(format!("{picture}, {}, {}: {note}.", row.method, row.metric));
        }
        each = each.row([
            Cell::from(picture),
            Cell::from(row.target.as_str()),
            Cell::from(row.method.as_str()),
            Cell::from(row.metric.as_str()),
            Cell::from(row.value),
        ]);
    }
    let configured = json!({
        "methods": evaluator.methods.iter()
            .map(|m| (m.id().to_string(), m.config())).collect::<serde_json::Map<_, _>>(),
        "metrics": evaluator.metrics.iter()
            .map(|m| (m.id().to_string(), m.config())).collect::<serde_json::Map<_, _>>(),
    });
    let pictures: BTreeSet<&str> = rows.iter().map(|r| r.sample.as_str()).collect();
    let report = Report::new("Evaluation of attributions")
        .fact("model", &*evaluator.model.name)
        .fact("pictures", format!("{} in {}", pictures.len(), args.data.display()))
        .fact("target", &*args.target)
        .section(
            Section::new("Means")
                .text(
                    "Means over the pictures, or the summary that a metric's paper defines. The best values are bold.",
                )
                .table(means),
        )
        .section(
            Section::new("Confidence intervals")
                .text("95 %, from 1000 bootstrap samples over the pictures.")
                .table(intervals(summaries)),
        )
        .section(Section::new("Each picture").table(each));
    let report = if noted { report.section(notes) } else { report };
    Ok(report.section(Section::new("Configuration").code(json_text(&configured)?)))
}

/// The means with their confidence intervals.
fn intervals(summaries: &[Overall]) -> Table {
    let columns = [Column::text("method"), Column::text("metric"), Column::number("mean", 4)].into_iter();
    let ends = ["from", "to"].map(|name| Column::number(name, 4));
    let mut table = Table::new(columns.chain(ends).chain([Column::number("values", 0)]));
    for of in summaries {
        let interval = of.summary.interval;
        table = table.row([
            Cell::from(of.method.as_str()),
            Cell::from(of.metric.as_str()),
            Cell::from(of.summary.mean),
            Cell::from(interval.map(|i| i.low)),
            Cell::from(interval.map(|i| i.high)),
            Cell::from(of.summary.count as f64),
        ]);
    }
    table
}

fn text(args: &Evaluate, evaluator: &Evaluator<'_>, summaries: &[Overall]) -> String {
    let mut head = vec!["method".to_string()];
    head.extend(evaluator.metrics.iter().map(|m| format!("{} {}", m.id(), arrow(m.card().better))));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let cell = |of: &Overall| match (of.summary.mean, of.summary.interval) {
        (Some(mean), Some(interval)) => format!("{mean:.4} ({:.4} to {:.4})", interval.low, interval.high),
        (Some(mean), None) => format!("{mean:.4}"),
        (None, _) => "-".into(),
    };
    let rows = args.methods.iter().map(|id| {
        let own = summaries.iter().filter(|s| s.method == *id).map(cell);
        std::iter::once(id.clone()).chain(own).collect()
    });
    let mut text = table(&head, rows);
    for path in &args.output {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}
