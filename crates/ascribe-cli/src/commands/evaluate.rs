//! `ascribe evaluate`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ascribe::annotations::{self, Annotations};
use ascribe::core::{Explainer, Graph, Run, Target};
use ascribe::metrics::localisation::{PointingGameScore, Scene};
use ascribe::metrics::{Better, Case, Evaluation, Metric};
use ascribe::target::Score;
use ascribe::viz::report::{Cell, Column, Report, Section, Table};
use ascribe::{Loaded, Model, catalogue};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Evaluate;
use crate::error::{Failure, Result};
use crate::output::{self, Form, json_text, table};
use crate::progress::Bar;
use crate::settings;

const POINTING_GAME: &str = "pointing-game";

/// One number: a metric of a method on a picture.
#[derive(Clone, Debug, Serialize)]
struct Row {
    picture: PathBuf,
    target: String,
    method: String,
    metric: String,
    value: Option<f64>,
    detail: Value,
    notes: Vec<String>,
}

/// A metric of a method over all pictures.
#[derive(Clone, Debug, Serialize)]
struct Summary {
    method: String,
    metric: String,
    better: Better,
    /// Mean over pictures; for the pointing game the mean over classes of each class's accuracy.
    mean: Option<f64>,
    count: usize,
}

struct Methods {
    ids: Vec<String>,
    explainers: Vec<Box<dyn Explainer<Graph>>>,
    /// What scores a class in each method's paper.
    scores: Vec<Score>,
    metrics: Vec<Box<dyn Metric<Graph>>>,
}

pub fn run(args: &Evaluate) -> Result<String> {
    let forms = output::forms(&args.output, &[Form::Json, Form::Csv, Form::Report])?;
    let methods = methods(args)?;
    let model = settings::model(&args.model)?;
    if !args.data.is_dir() {
        return Err(Failure::request(format!("--data '{}': there is no such folder", args.data.display())));
    }
    let pictures = annotations::pictures(&args.data)?;
    let game = args.metrics.iter().any(|m| m == POINTING_GAME);
    // Boxes that nobody asks for may name labels that nobody knows.
    let annotations =
        if game { Annotations::beside(&args.data, model.labels.as_ref())? } else { Annotations::default() };
    if game && annotations.is_empty() {
        return Err(Failure::request(format!(
            "the pointing game needs boxes: boxes.json or Pascal-VOC XML files beside the pictures in '{}'",
            args.data.display()
        )));
    }
    let bar = Bar::new("evaluate");
    let run = settings::run(&args.run, &bar)?;
    let mut rows = Vec::new();
    for (done, picture) in pictures.iter().enumerate() {
        let name = picture.file_name().unwrap_or_default().to_string_lossy();
        bar.label(&format!("{} of {}: {name}", done + 1, pictures.len()));
        rows.extend(one_picture(args, &methods, &model, picture, &annotations, &run)?);
    }
    bar.finish();
    let summaries = summaries(&methods, &rows);
    let object = json!({
        "model": model.name, "data": args.data, "pictures": pictures.len(),
        "methods": methods.all().map(|(id, e, score)| json!({ "id": id, "config": e.config(), "score": score })).collect::<Vec<_>>(),
        "metrics": methods.metrics.iter().map(|m| json!({ "id": m.id(), "config": m.config(), "better": m.better() })).collect::<Vec<_>>(),
        "summary": summaries, "rows": rows, "outputs": args.output,
    });
    for (path, form) in args.output.iter().zip(&forms) {
        match form {
            Form::Csv => output::write_text(path, &csv(&rows))?,
            Form::Report => report(args, &model, &methods, &summaries, &rows)?.save(path)?,
            _ => output::write_text(path, &json_text(&object)?)?,
        }
    }
    if args.json {
        return json_text(&object);
    }
    Ok(text(args, &methods, &summaries))
}

fn methods(args: &Evaluate) -> Result<Methods> {
    for id in &args.methods {
        catalogue::method(id)?;
    }
    for id in &args.metrics {
        catalogue::metric(id, &json!({}))?;
    }
    let all: Vec<String> = args.methods.iter().chain(&args.metrics).cloned().collect();
    let fields = |id: &str| -> Result<Value> {
        if catalogue::metrics().contains(&id) {
            return Ok(catalogue::metric(id, &json!({}))?.config());
        }
        Ok(catalogue::fields(id)?)
    };
    let configs = settings::configs(None, &all, &args.set, fields)?;
    let (own, of_metrics) = configs.split_at(args.methods.len());
    let explainers: ascribe::Result<_> =
        args.methods.iter().zip(own).map(|(id, config)| catalogue::explainer(id, config)).collect();
    let metrics: ascribe::Result<_> =
        args.metrics.iter().zip(of_metrics).map(|(id, config)| catalogue::metric(id, config)).collect();
    let scores: ascribe::Result<_> =
        args.methods.iter().zip(own).map(|(id, config)| catalogue::score(id, config)).collect();
    Ok(Methods { ids: args.methods.clone(), explainers: explainers?, scores: scores?, metrics: metrics? })
}

impl Methods {
    fn all(&self) -> impl Iterator<Item = (&str, &dyn Explainer<Graph>, Score)> {
        let methods = self.ids.iter().zip(&self.explainers).zip(&self.scores);
        methods.map(|((id, explainer), score)| (id.as_str(), &**explainer, *score))
    }
}

fn one_picture(
    args: &Evaluate,
    methods: &Methods,
    model: &Model,
    picture: &Path,
    annotations: &Annotations,
    run: &Run,
) -> Result<Vec<Row>> {
    let loaded = model.read(picture)?;
    let outputs = run.install(|| model.graph.forward(&loaded.inputs))?;
    let scene = loaded.picture.as_ref().and_then(|p| annotations.scene(picture, &p.geometry));
    let annotated: Vec<Target> = annotations.classes(picture).into_iter().map(Target::Class).collect();
    let mut rows = Vec::new();
    for (id, explainer, score) in methods.all() {
        let targets = ascribe::target::parse(&args.target, score, model, &outputs)?;
        let targets: ascribe::core::Result<Vec<Target>> =
            targets.iter().map(|t| t.resolve(&outputs)).collect();
        let by_target =
            |game: bool| methods.metrics.iter().filter(move |m| (m.id() == POINTING_GAME) == game);
        for target in &targets? {
            rows.extend(one_target(
                model,
                &loaded,
                target,
                picture,
                id,
                explainer,
                by_target(false),
                None,
                run,
            )?);
        }
        if by_target(true).next().is_some() && scene.is_some() {
            for target in &annotated {
                let target = score.of(target.clone());
                let scene = scene.as_ref();
                rows.extend(one_target(
                    model,
                    &loaded,
                    &target,
                    picture,
                    id,
                    explainer,
                    by_target(true),
                    scene,
                    run,
                )?);
            }
        }
    }
    Ok(rows)
}

#[expect(clippy::too_many_arguments, reason = "one evaluation is about all of these")]
fn one_target<'a>(
    model: &Model,
    loaded: &Loaded,
    target: &Target,
    picture: &Path,
    id: &str,
    explainer: &dyn Explainer<Graph>,
    metrics: impl Iterator<Item = &'a Box<dyn Metric<Graph>>>,
    scene: Option<&Scene>,
    run: &Run,
) -> Result<Vec<Row>> {
    let mut metrics = metrics.peekable();
    if metrics.peek().is_none() {
        return Ok(Vec::new());
    }
    let attribution = explainer.explain(&model.graph, &loaded.inputs, target, run)?;
    let scenes: Vec<Scene> = scene.into_iter().cloned().collect();
    let mut case = Case::new(&model.graph, &loaded.inputs, target, &attribution, run).explained_by(explainer);
    if scene.is_some() {
        case = case.showing(&scenes);
    }
    metrics
        .map(|metric| {
            let found: Evaluation = run.install(|| metric.evaluate(&case))?;
            Ok(Row {
                picture: picture.to_path_buf(),
                target: output::target_words(target, 0, model),
                method: id.to_string(),
                metric: metric.id().to_string(),
                value: found.values.first().copied().flatten(),
                detail: found.details.into_iter().next().unwrap_or(Value::Null),
                notes: found.notes,
            })
        })
        .collect()
}

fn summaries(methods: &Methods, rows: &[Row]) -> Vec<Summary> {
    let mut all = Vec::new();
    for id in &methods.ids {
        for metric in &methods.metrics {
            let own: Vec<&Row> = rows.iter().filter(|r| r.method == *id && r.metric == metric.id()).collect();
            let values: Vec<f64> = own.iter().filter_map(|r| r.value).collect();
            let mean = if metric.id() == POINTING_GAME {
                let mut score = PointingGameScore::default();
                for row in &own {
                    if let (Some(value), Some(class)) =
                        (row.value, row.detail.get("class").and_then(Value::as_u64))
                    {
                        score.add(class as usize, value > 0.5);
                    }
                }
                score.mean()
            } else {
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let (method, metric, better) = (id.clone(), metric.id().to_string(), metric.better());
            all.push(Summary { method, metric, better, mean, count: values.len() });
        }
    }
    all
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
    let mut text = String::from("picture,target,method,metric,value\n");
    for row in rows {
        let value = row.value.map(|v| v.to_string()).unwrap_or_default();
        let fields =
            [&*row.picture.to_string_lossy(), &row.target, &row.method, &row.metric, &value].map(quoted);
        text += &fields.join(",");
        text.push('\n');
    }
    text
}

fn heading(metric: &dyn Metric<Graph>) -> Column {
    let column = Column::number(metric.id(), 4);
    match metric.better() {
        Better::Higher => column.higher_is_better(),
        Better::Lower | Better::Zero => column.lower_is_better(),
    }
}

fn report(
    args: &Evaluate,
    model: &Model,
    methods: &Methods,
    summaries: &[Summary],
    rows: &[Row],
) -> Result<Report> {
    let mut columns = vec![Column::text("method")];
    columns.extend(methods.metrics.iter().map(|m| heading(&**m)));
    let mut means = Table::new(columns);
    for id in &methods.ids {
        let mut cells = vec![Cell::from(id.as_str())];
        cells.extend(summaries.iter().filter(|s| s.method == *id).map(|s| Cell::from(s.mean)));
        means = means.row(cells);
    }
    let columns = ["picture", "target", "method", "metric"].map(Column::text).into_iter();
    let mut each = Table::new(columns.chain([Column::number("value", 4)]));
    let mut notes = Section::new("Notes");
    let mut noted = false;
    for row in rows {
        let picture = row.picture.strip_prefix(&args.data).unwrap_or(&row.picture).display().to_string();
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
        "methods": methods.ids.iter().zip(&methods.explainers).map(|(id, e)| (id.clone(), e.config())).collect::<serde_json::Map<_, _>>(),
        "metrics": methods.metrics.iter().map(|m| (m.id().to_string(), m.config())).collect::<serde_json::Map<_, _>>(),
    });
    let pictures: BTreeSet<&Path> = rows.iter().map(|r| r.picture.as_path()).collect();
    let report = Report::new("Evaluation of attributions")
        .fact("model", &*model.name)
        .fact("pictures", format!("{} in {}", pictures.len(), args.data.display()))
        .fact("target", &*args.target)
        .section(
            Section::new("Means")
                .text(
                    "Means over the pictures; for the pointing game over the classes. Best values are bold.",
                )
                .table(means),
        )
        .section(Section::new("Each picture").table(each));
    let report = if noted { report.section(notes) } else { report };
    Ok(report.section(Section::new("Configuration").code(json_text(&configured)?)))
}

fn text(args: &Evaluate, methods: &Methods, summaries: &[Summary]) -> String {
    let mut head = vec!["method".to_string()];
    head.extend(methods.metrics.iter().map(|m| {
        let arrow = match m.better() {
            Better::Higher => "↑",
            Better::Lower => "↓",
            Better::Zero => "→0",
        };
        format!("{} {arrow}", m.id())
    }));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let rows = methods.ids.iter().map(|id| {
        let mut cells = vec![id.clone()];
        let own = summaries.iter().filter(|s| s.method == *id);
        cells.extend(own.map(|s| s.mean.map_or_else(|| "-".into(), |m| format!("{m:.4}"))));
        cells
    });
    let mut text = table(&head, rows);
    for path in &args.output {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}
