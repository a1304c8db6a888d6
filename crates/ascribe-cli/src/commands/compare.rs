//! `ascribe compare`.

use std::fmt::Write;
use std::path::Path;

use ascribe::core::{Attribution, Boxed, Graph, Location, Outputs, Run, Score, Target, explain_at};
use ascribe::picture::{self, Photograph};
use ascribe::viz::report::{Figure, Report, Section};
use ascribe::viz::{About, Grid, GridRow};
use ascribe::{Model, Prediction, catalogue};
use serde_json::{Value, json};

use crate::args::Compare;
use crate::error::{Failure, Result};
use crate::output::{self, Form, json_text};
use crate::progress::{Bar, note, warn};
use crate::settings;

/// One input with its explanations.
struct Row {
    predictions: Vec<Prediction>,
    target: String,
    cells: Vec<std::result::Result<Cell, String>>,
    picture: GridRow,
    /// Smoothing of each map that is drawn, in pixels of the map.
    smoothing: Vec<f64>,
}

/// A method, and where it explains.
struct Column {
    explainer: Boxed<Graph>,
    location: Location,
}

/// One explanation.
struct Cell {
    attribution: Attribution,
    /// The target, whose score depends on the method.
    target: String,
}

pub fn run(args: &Compare) -> Result<String> {
    settings::check_smoothing(args.smoothing)?;
    let forms = output::forms(&args.output, &[Form::Picture, Form::Json, Form::Report])?;
    let cards = args.methods.iter().map(|id| Ok(catalogue::method(id)?.card)).collect::<Result<Vec<_>>>()?;
    let known = args.methods.iter().map(|id| Ok(catalogue::explainer(id, &Value::Null)?.config()));
    let known = known.collect::<Result<Vec<Value>>>()?;
    let configs = settings::configs(args.config.as_deref(), &args.methods, &args.set, &known)?;
    let asked = settings::location(&args.target)?;
    let model = settings::model(&args.model, None, &asked)?;
    let baseline = args.target.baseline.as_ref().map(|text| settings::baseline(text, &model)).transpose()?;
    let mut methods = Vec::new();
    for (card, mut config) in cards.iter().zip(configs) {
        if let Some(baseline) = baseline.as_ref().filter(|_| card.takes.baseline) {
            settings::set_baseline(&mut config, baseline)?;
        }
        let location = settings::location_of(&asked, card, &mut config);
        methods.push(Column { explainer: catalogue::explainer_for(card.id, &config, &model)?, location });
    }
    let bar = Bar::new("compare");
    let run = settings::run(&args.run, &bar)?;
    let mut rows = Vec::new();
    for input in &args.input {
        rows.push(row(args, input, &model, &methods, &run, &bar)?);
    }
    bar.finish();
    let summary = summary(args, &model, &rows);
    let mut grid = Grid::new(cards.iter().map(|card| card.name))
        .title("Attributions compared")
        .subtitle(subtitle(&model, &rows))
        .about(About::new().model(&*model.name).extra("summary", summary.clone()));
    for row in &rows {
        grid = grid.row(row.picture.clone());
    }
    let picture = grid.render()?;
    for (path, form) in args.output.iter().zip(&forms) {
        match form {
            Form::Json => output::write_text(path, &json_text(&summary)?)?,
            Form::Report => report(args, &model, &rows, &picture)?.save(path)?,
            _ => picture.save(path)?,
        }
    }
    if args.json {
        return json_text(&summary);
    }
    Ok(text(args, &rows))
}

fn row(args: &Compare, input: &Path, model: &Model, methods: &[Column], run: &Run, bar: &Bar) -> Result<Row> {
    let loaded = model.read(input)?;
    let Some(prepared) = &loaded.picture else {
        let message = format!("INPUT {} is a tensor file; `compare` needs pictures", input.display());
        return Err(Failure::request(message));
    };
    let graph = model.graph_for(&loaded.inputs)?;
    let outputs = run.install(|| graph.forward(&loaded.inputs))?;
    let predictions = model.predictions(&outputs, 0, 3)?.unwrap_or_default();
    let target = |score: Score| target(args, score, model, &outputs);
    if let Some(text) = settings::picture_note(&loaded) {
        note(&format!("{}: {text}", input.display()));
    }
    let photo = Photograph::read(input, prepared)?;
    let mut picture = GridRow::new(photo.image);
    if let Some(region) = photo.region {
        picture = picture.region(region);
    }
    for p in predictions.iter().take(1) {
        picture =
            picture.prediction(p.label.clone().unwrap_or_else(|| p.class.to_string()), Some(p.probability));
    }
    let (mut cells, mut smoothing) = (Vec::new(), Vec::new());
    for Column { explainer, location } in methods {
        let id = explainer.id();
        bar.label(id);
        let target = target(explainer.score())?;
        match explain_at(&**explainer, &graph, &loaded.inputs, &target, location, run) {
            Ok(mut attribution) => {
                attribution.provenance.notes.extend(settings::score_note(&args.target, &target));
                for warning in &attribution.provenance.warnings {
                    warn(&format!("{id} of {}: {warning}", input.display()));
                }
                let (map, sigma) =
                    picture::smoothed(picture::heatmap(&attribution, 0)?, prepared, args.smoothing)?;
                smoothing.push(sigma);
                picture = picture.map(map);
                cells.push(Ok(Cell { attribution, target: words(&target, model) }));
            }
            // The cell of a method that is not defined for this model stays empty; any other error ends the run.
            Err(
                e @ (ascribe::core::Error::UndefinedRule { .. } | ascribe::core::Error::Unsupported { .. }),
            ) => {
                note(&format!("{id} of {}: {e}", input.display()));
                picture = picture.missing(e.to_string());
                cells.push(Err(e.to_string()));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Row { predictions, target: words(&target(Score::Logit)?, model), cells, picture, smoothing })
}

/// The target; with `--neuron`, the neuron.
fn target(args: &Compare, score: Score, model: &Model, outputs: &Outputs) -> Result<Target> {
    if let Some((_, index)) = settings::location(&args.target)?.neuron() {
        return Ok(Target::Neuron(index.to_vec()));
    }
    match ascribe::target::parse(&args.target.target, score, model, outputs)?.as_slice() {
        [target] => Ok(target.resolve(outputs)?),
        _ => Err(Failure::request(format!(
            "--target {}: `compare` explains one target per input; expected top1, a class or A-B",
            args.target.target
        ))),
    }
}

fn words(target: &Target, model: &Model) -> String {
    ascribe::target::words(target, 0, model)
}

/// The model, and how maps were smoothed.
fn subtitle(model: &Model, rows: &[Row]) -> String {
    let mut sigmas: Vec<f64> = rows.iter().flat_map(|r| &r.smoothing).copied().filter(|s| *s > 0.0).collect();
    sigmas.sort_by(f64::total_cmp);
    sigmas.dedup();
    if sigmas.is_empty() {
        return model.name.clone();
    }
    let sigmas: Vec<String> = sigmas.iter().map(|s| format!("{s:.2}")).collect();
    format!(
        "{}  ·  maps with the input's resolution are smoothed for display (Gaussian, σ = {} pixels)",
        model.name,
        sigmas.join(", ")
    )
}

fn summary(args: &Compare, model: &Model, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .zip(&args.input)
        .map(|(row, input)| {
            let cells: Vec<Value> = row
                .cells
                .iter()
                .zip(&args.methods)
                .map(|(cell, id)| match cell {
                    Ok(cell) => json!(cell.attribution.provenance),
                    Err(reason) => json!({ "method": id, "missing": reason }),
                })
                .collect();
            json!({ "input": input, "predictions": row.predictions, "target": row.target, "explanations": cells })
        })
        .collect();
    json!({ "model": model.name, "methods": args.methods, "rows": rows, "outputs": args.output })
}

fn report(args: &Compare, model: &Model, rows: &[Row], picture: &ascribe::viz::Picture) -> Result<Report> {
    use ascribe::viz::report::{Cell as ReportCell, Column as ReportColumn, Table};
    let mut table = Table::new([
        ReportColumn::text("input"),
        ReportColumn::text("target"),
        ReportColumn::text("method"),
        ReportColumn::number("score", 4),
        ReportColumn::number("completeness gap", 6),
        ReportColumn::number("forward", 0),
        ReportColumn::number("backward", 0),
        ReportColumn::number("seconds", 2),
    ]);
    let mut configs = serde_json::Map::new();
    let mut notes = Section::new("Notes");
    let mut noted = false;
    for (row, input) in rows.iter().zip(&args.input) {
        for (cell, id) in row.cells.iter().zip(&args.methods) {
            let p = cell.as_ref().ok().map(|c| &c.attribution.provenance);
            let gap = p.and_then(|p| p.completeness_gap.as_ref()).and_then(|g| g.first().copied());
            if let Some(p) = p {
                configs.insert(id.clone(), p.config.clone());
            }
            let remarks = match cell {
                Ok(cell) => cell.attribution.provenance.notes.clone(),
                Err(reason) => vec![reason.clone()],
            };
            for remark in remarks {
                noted = true;
                notes = notes.text(format!("{}, {id}: {remark}.", input.display()));
            }
            table = table.row([
                ReportCell::from(input.file_name().unwrap_or_default().to_string_lossy().into_owned()),
                ReportCell::from(cell.as_ref().map_or(row.target.as_str(), |c| c.target.as_str())),
                ReportCell::from(id.as_str()),
                ReportCell::from(p.and_then(|p| p.scores.first().copied())),
                ReportCell::from(gap),
                ReportCell::from(p.map(|p| p.cost.forward as f64)),
                ReportCell::from(p.map(|p| p.cost.backward as f64)),
                ReportCell::from(p.map(|p| p.seconds)),
            ]);
        }
    }
    let figure = Figure::new(picture, "Rows are inputs, columns are methods; each cell has its own scale.")?;
    let report = Report::new("Attributions compared")
        .fact("model", &*model.name)
        .section(Section::new("Pictures").figure(figure))
        .section(Section::new("Numbers").table(table));
    let report = if noted { report.section(notes) } else { report };
    Ok(report.section(Section::new("Configuration").code(json_text(&Value::Object(configs))?)))
}

fn text(args: &Compare, rows: &[Row]) -> String {
    let mut text = String::new();
    for (row, input) in rows.iter().zip(&args.input) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {}", input.display(), row.target);
        for (cell, id) in row.cells.iter().zip(&args.methods) {
            let _ = match cell {
                Ok(cell) => {
                    let p = &cell.attribution.provenance;
                    let other = if cell.target == row.target { "" } else { &*cell.target };
                    let line =
                        format!("  {id:<22} {:>6} rows forward, {:.2} s  {other}", p.cost.forward, p.seconds);
                    writeln!(text, "{}", line.trim_end())
                }
                Err(reason) => writeln!(text, "  {id:<22} {reason}"),
            };
        }
    }
    for path in &args.output {
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}
