//! `ascribe explain`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ascribe::core::{Attribution, Explainer, Graph, Location, Outputs, Target, explain_at};
use ascribe::picture::{self, Photograph};
use ascribe::{LabelledDetection, Loaded, Model, Prediction, catalogue};
use serde_json::{Value, json};

use crate::args::Explain;
use crate::error::{Failure, Result};
use crate::output::{self, Form, json_text};
use crate::progress::{self, Bar};
use crate::settings;

/// Everything about one explanation that is printed or written.
struct Explained {
    target: Target,
    words: String,
    /// Whether the words are about a neuron instead.
    neuron: bool,
    attribution: Attribution,
    files: Vec<PathBuf>,
}

impl Explained {
    /// The target of one sample in words.
    fn words_of(&self, sample: usize, model: &Model) -> String {
        if self.neuron { self.words.clone() } else { ascribe::target::words(&self.target, sample, model) }
    }
}

pub fn run(args: &Explain) -> Result<String> {
    settings::check_smoothing(args.smoothing)?;
    let forms = output::forms(&args.output, &[Form::Picture, Form::Values, Form::Json, Form::Report])?;
    let card = catalogue::method(&args.method)?.card;
    let mut config = settings::config(args.config.as_deref(), &args.set)?;
    let asked = settings::location(&args.target)?;
    let location = settings::location_of(&asked, card, &mut config);
    if args.target.baseline.is_some() && !card.takes.baseline {
        return Err(Failure::request(format!("--baseline: method '{}' has no baseline", card.id)));
    }
    let model = settings::model(&args.model, Some(&args.input), &asked)?;
    if let Some(text) = &args.target.baseline {
        settings::set_baseline(&mut config, &settings::baseline(text, &model)?)?;
    }
    let explainer = catalogue::explainer_for(card.id, &config, &model)?;
    let loaded = model.read(&args.input)?;
    if loaded.picture.is_none() && forms.iter().any(|f| matches!(f, Form::Picture | Form::Report)) {
        return Err(Failure::request(
            "--output: pictures and reports need a picture as INPUT, which is a tensor file",
        ));
    }
    if location == Location::Input {
        explainer.check_model(&model.graph, &loaded.inputs)?;
    }
    let bar = Bar::new(&args.method);
    let run = settings::run(&args.run, &bar)?;
    let graph = model.graph_for(&loaded.inputs)?;
    let outputs = run.install(|| graph.forward(&loaded.inputs))?;
    let seen = Seen::by(&model, &outputs)?;
    let mut all = Vec::new();
    for target in targets(args, &*explainer, &location, &model, &outputs)? {
        let mut attribution = explain_at(&*explainer, &graph, &loaded.inputs, &target, &location, &run)?;
        attribution.provenance.notes.extend(settings::score_note(&args.target, &target));
        attribution.provenance.notes.extend(settings::picture_note(&loaded));
        attribution.provenance.warnings.iter().for_each(|warning| progress::warn(warning));
        let words = match location.neuron() {
            Some((name, index)) => format!("neuron {index:?} of {name}"),
            None => ascribe::target::words(&target, 0, &model),
        };
        let neuron = location.neuron().is_some();
        all.push(Explained { target, words, neuron, attribution, files: Vec::new() });
    }
    bar.finish();
    let several = all.len() > 1;
    for (rank, explained) in all.iter_mut().enumerate() {
        // One class for a single sample; each sample of a batch has its own.
        let one = explained.target.class(0).filter(|_| explained.attribution.provenance.targets.len() == 1);
        let suffix = one.map_or_else(|| format!("top{}", rank + 1), |class| class.to_string());
        let suffix = Some(suffix).filter(|_| several);
        let name =
            |path: &PathBuf| suffix.as_ref().map_or_else(|| path.clone(), |s| output::with_suffix(path, s));
        explained.files = args.output.iter().map(name).collect();
    }
    // Everything is drawn before anything is written, so that a failure leaves no file behind.
    let mut ready = Vec::new();
    for explained in &all {
        for (path, form) in explained.files.iter().zip(&forms) {
            ready.push(prepare(args, *form, path, explained, &model, &loaded, &seen)?);
        }
    }
    for write in ready {
        write()?;
    }
    if args.json {
        return json_text(&summary(&model, args, &seen, &all));
    }
    Ok(text(&model, args, &seen, &all))
}

/// The targets; with `--neuron`, the neuron.
fn targets(
    args: &Explain,
    explainer: &dyn Explainer<Graph>,
    location: &Location,
    model: &Model,
    outputs: &Outputs,
) -> Result<Vec<Target>> {
    if let Some((_, index)) = location.neuron() {
        return Ok(vec![Target::Neuron(index.to_vec())]);
    }
    let targets = ascribe::target::parse(&args.target.target, explainer.score(), model, outputs)?;
    Ok(targets.iter().map(|target| target.resolve(outputs)).collect::<ascribe::core::Result<_>>()?)
}

/// What the model sees in each sample, best first.
#[derive(Default)]
struct Seen {
    /// Classes, if the model is a classifier.
    classes: Option<Vec<Vec<Prediction>>>,
    /// Boxes, if it is a detector whose outputs are understood.
    boxes: Option<Vec<Vec<LabelledDetection>>>,
}

impl Seen {
    fn by(model: &Model, outputs: &Outputs) -> Result<Self> {
        let samples = outputs.primary().dim(0).map_err(ascribe::core::Error::from)?;
        let classes: ascribe::Result<Option<Vec<_>>> =
            (0..samples).map(|sample| model.predictions(outputs, sample, usize::MAX)).collect();
        let boxes: ascribe::Result<Option<Vec<_>>> =
            (0..samples).map(|sample| model.detections(outputs, sample, SHOWN)).collect();
        let boxes = boxes.unwrap_or_else(|error| {
            // They are needed for targets of boxes only, which say so themselves.
            progress::warn(&format!("the boxes are not listed: {}", Failure::from(error)));
            None
        });
        Ok(Self { classes: classes?, boxes })
    }
}

/// How many predictions are shown.
const SHOWN: usize = 5;

/// Writes one file.
type Ready<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Prepares the content of a file, so that only writing it is left to fail.
fn prepare<'a>(
    args: &Explain,
    form: Form,
    path: &'a Path,
    explained: &'a Explained,
    model: &Model,
    loaded: &Loaded,
    seen: &Seen,
) -> Result<Ready<'a>> {
    Ok(match form {
        Form::Values => {
            let restored = model.in_file_order(&explained.attribution)?;
            output::check_values(&restored, path)?;
            Box::new(move || output::save_values(&restored, path))
        }
        Form::Json => {
            let summary = summary(model, args, seen, std::slice::from_ref(explained));
            let text = json_text(&summary)?;
            Box::new(move || output::write_text(path, &text))
        }
        Form::Picture | Form::Report | Form::Csv => {
            let Some(input) = &loaded.picture else {
                return Err(Failure::request("--output: pictures and reports need a picture as INPUT"));
            };
            let first = seen.classes.as_deref().and_then(<[_]>::first).map_or(&[][..], Vec::as_slice);
            let class = explained.target.class(0);
            let probability = first.iter().find(|p| Some(p.class) == class).map(|p| p.probability);
            let name = catalogue::method(&args.method)?.card.name;
            let about = picture::about(&explained.attribution, &explained.words, probability, model, name);
            let photo = Photograph::read(&args.input, input)?;
            let picture = picture::overlay(&explained.attribution, 0, photo, input, about, args.smoothing)?;
            if form == Form::Picture {
                return Ok(Box::new(move || Ok(picture.save(path)?)));
            }
            let report = crate::report::explanation(
                args,
                model,
                &first[..first.len().min(SHOWN)],
                &explained.words,
                &explained.attribution,
                &picture,
            )?;
            Box::new(move || Ok(report.save(path)?))
        }
    })
}

/// The object that `--json` prints.
fn summary(model: &Model, args: &Explain, seen: &Seen, all: &[Explained]) -> Value {
    // For a single sample a list, for a batch a list of lists.
    let best: Option<Vec<&[Prediction]>> =
        seen.classes.as_ref().map(|all| all.iter().map(|p| &p[..p.len().min(SHOWN)]).collect());
    let best = match best.as_deref() {
        Some([one]) => json!(one),
        other => json!(other),
    };
    let one = |e: &Explained| {
        let p = &e.attribution.provenance;
        // For a single sample a number, for a batch a list.
        let per_sample = |values: &[f64]| match values {
            [one] => json!(one),
            many => json!(many),
        };
        let targets: Vec<&str> = p.targets.iter().map(String::as_str).collect();
        let labels: Vec<Option<&str>> =
            (0..targets.len()).map(|sample| e.target.class(sample).and_then(|c| model.label(c))).collect();
        json!({
            "target": if let [one] = targets.as_slice() { json!(one) } else { json!(targets) },
            "target_label": if let [one] = labels.as_slice() { json!(one) } else { json!(labels) },
            "config": p.config,
            "score": per_sample(&p.scores),
            "baseline_score": p.baseline_scores.as_deref().map(per_sample),
            "completeness_gap": p.completeness_gap.as_deref().map(per_sample),
            "evaluations": p.cost.forward,
            "cost": p.cost,
            "seconds": p.seconds,
            "details": p.details,
            "notes": p.notes,
            "warnings": p.warnings,
            "outputs": e.files,
        })
    };
    let mut object = json!({ "model": model.name, "method": args.method, "predictions": best });
    if let (Some(object), Some(boxes)) = (object.as_object_mut(), &seen.boxes) {
        object.insert(
            "detections".into(),
            if let [one] = boxes.as_slice() { json!(one) } else { json!(boxes) },
        );
    }
    if let (Some(object), Some(Value::Object(first))) = (object.as_object_mut(), all.first().map(one)) {
        object.extend(first);
        if all.len() > 1 {
            object.insert("explanations".into(), all.iter().map(one).collect());
        }
    }
    object
}

fn text(model: &Model, args: &Explain, seen: &Seen, all: &[Explained]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let head = |text: &mut String, sample: usize, samples: usize| {
        let which = if samples > 1 { format!(", sample {sample}") } else { String::new() };
        let _ = writeln!(text, "{} sees in {}{which}", model.name, args.input.display());
    };
    let samples = seen.boxes.as_deref().unwrap_or_default();
    for (sample, best) in samples.iter().enumerate() {
        head(&mut text, sample, samples.len());
        for (rank, LabelledDetection { detection, label }) in best.iter().enumerate() {
            let corners = detection.corners.map(|c| format!("{c:.1}")).join(", ");
            let label = label.as_deref().unwrap_or("");
            let line = format!(
                "  box {rank}  {:8.4}  {:>4}  [{corners}]  {label}",
                detection.score, detection.class
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    let samples = seen.classes.as_deref().unwrap_or_default();
    for (sample, best) in samples.iter().enumerate() {
        head(&mut text, sample, samples.len());
        for p in best.iter().take(SHOWN) {
            let line = format!(
                "  {:6.2} %  {:>4}  {}",
                100.0 * p.probability,
                p.class,
                p.label.as_deref().unwrap_or("")
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    for e in all {
        let p = &e.attribution.provenance;
        let several = p.scores.len() > 1;
        let of = if several { String::new() } else { format!(" of {}", e.words) };
        let at = args.target.layer.as_ref().map(|node| format!(" at {node}")).unwrap_or_default();
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{}{of}{at}", args.method);
        for (sample, score) in p.scores.iter().enumerate() {
            let mut line = if several {
                format!("  sample {sample}, {}: score {score:.4}", e.words_of(sample, model))
            } else {
                format!("  score {score:.4}")
            };
            if let Some(baseline) = p.baseline_scores.as_ref().and_then(|b| b.get(sample)) {
                let _ = write!(line, ", of the baseline {baseline:.4}");
            }
            if let Some(gap) = p.completeness_gap.as_ref().and_then(|g| g.get(sample)) {
                let _ = write!(line, "; completeness gap {gap:.2e}");
            }
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "  {} rows forward, {} backward, {:.2} s",
            p.cost.forward, p.cost.backward, p.seconds
        );
        for note in &p.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        for file in &e.files {
            let _ = writeln!(text, "  wrote {}", file.display());
        }
    }
    text
}
