//! Whether ONNX files load, compute what onnxruntime computes, and can be explained.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ascribe::core::{DType, Device, Differentiable, Graph, Inputs, Keep, NodeId, Run, Target, Tensor};
use ascribe::models::tensors;
use ascribe::{Model, OpenOptions, catalogue};
use clap::Args;

/// Files that a script prepares.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Files {
    /// Trained files that Python packages ship, run in onnxruntime
    Packages,
    /// Architectures of torchvision, timm and transformers, exported with both of PyTorch's exporters
    Exports,
    /// The ONNX project's tests of operators
    NodeTests,
}

/// Arguments of `cargo xtask models`.
#[derive(Debug, Args)]
pub struct Models {
    /// Folder with .onnx files
    folder: PathBuf,
    /// Folder with their inputs and what onnxruntime computes, as the scripts in `benches/peers` write them
    references: PathBuf,
    /// First fill the two folders with these files
    #[arg(long, value_enum)]
    prepare: Option<Files>,
    /// Python with the packages of `benches/peers/requirements.txt`
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Only files whose path contains this
    #[arg(long)]
    only: Option<String>,
    /// Also run every method of the catalogue on each file
    #[arg(long)]
    methods: bool,
    /// Print the whole message of a file that does not load
    #[arg(long)]
    verbose: bool,
}

/// What was found about one file.
#[derive(Debug, Default)]
struct Found {
    task: String,
    /// Largest relative distance of an output from onnxruntime's.
    outputs: Option<f64>,
    /// Largest relative distances of outputs in single precision from ours in double precision: ours, onnxruntime's.
    rounding: [f64; 2],
    /// Relative error of the gradient in double precision, beside PyTorch's where that is known, and otherwise along its own
    /// direction beside a central difference.
    gradient: Option<f64>,
    /// Methods that explain it.
    methods: Vec<&'static str>,
    /// What went wrong.
    problems: Vec<String>,
}

impl Found {
    /// Whether the outputs are onnxruntime's: within 1e-5, or as close to ours in double precision as ours in single precision
    /// are, which says that the network amplifies rounding.
    fn agrees(&self) -> bool {
        let [ours, theirs] = self.rounding;
        self.outputs.is_some_and(|error| error < 1e-5 || theirs < 1e-5 || theirs <= 4.0 * ours)
    }
}

/// Runs a script of `benches/peers`.
fn script(args: &Models, name: &str, arguments: &[&Path]) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/peers").join(name);
    let mut command = std::process::Command::new(&args.python);
    command.arg(&path).args(arguments);
    let status = command.status().with_context(|| format!("running {}", args.python.display()))?;
    anyhow::ensure!(status.success(), "{} ended with {status}", path.display());
    Ok(())
}

/// Prints a line for each file, in Markdown.
pub fn run(args: &Models) -> anyhow::Result<()> {
    let (folder, references) = (args.folder.as_path(), args.references.as_path());
    match args.prepare {
        Some(Files::Packages) => {
            script(args, "packages.py", &[folder])?;
            script(args, "references.py", &[folder, references])?;
        }
        Some(Files::Exports) => script(args, "export.py", &[folder, references])?,
        Some(Files::NodeTests) => script(args, "node_tests.py", &[folder, references])?,
        None => {}
    }
    let mut files = Vec::new();
    onnx_files(&args.folder, &mut files)?;
    files.sort();
    println!("| file | task | outputs | gradient | methods | problems |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let (mut good, mut all) = (0, 0);
    for path in files {
        let name = path.strip_prefix(&args.folder)?.with_extension("");
        let name = name.to_string_lossy().into_owned();
        if args.only.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            continue;
        }
        let flat = name.replace('/', "__");
        let of = |kind: &str| args.references.join(format!("{flat}.{kind}.safetensors"));
        let found = one(&path, &of, args.methods)
            .unwrap_or_else(|error| Found { problems: vec![format!("{error:#}")], ..Found::default() });
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.1e}"));
        let problems: Vec<String> = found.problems.iter().map(|p| short(p, args.verbose)).collect();
        all += 1;
        good += usize::from(found.agrees());
        println!(
            "| {name} | {} | {}{} | {} | {} | {} |",
            found.task,
            number(found.outputs),
            if found.agrees() || found.outputs.is_none() { "" } else { " **differs**" },
            number(found.gradient),
            found.methods.len(),
            problems.join("; ")
        );
    }
    println!("\n{good} of {all} load and agree: within 1e-5, or as far as single precision allows");
    Ok(())
}

fn short(problem: &str, whole: bool) -> String {
    let line = problem.replace('\n', " ");
    let cut: String = line.chars().take(300).collect();
    if whole || cut.len() == line.len() { line } else { format!("{cut}…") }
}

fn onnx_files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            onnx_files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "onnx") {
            found.push(path);
        }
    }
    Ok(())
}

fn one(path: &Path, of: &dyn Fn(&str) -> PathBuf, methods: bool) -> anyhow::Result<Found> {
    let path = path.to_string_lossy();
    let (given, expected) = (&of("in"), &of("out"));
    // Without a task, a softmax at the end would be removed, and the outputs could not be compared.
    let raw = OpenOptions { task: Some(ascribe::core::OutputKind::Number), ..OpenOptions::default() };
    let model = Model::open_for(&path, &raw, given)?;
    let x = model.read(given)?.inputs;
    let graph = model.graph_for(&x)?;
    let outputs = graph.forward(&x)?;
    let references = tensors::read(expected)?;
    let mut found = Found::default();
    let mut worst: Option<f64> = None;
    for (name, value) in outputs.iter() {
        let Ok(reference) = references.get(name) else {
            found.problems.push(format!("onnxruntime has no output '{name}'"));
            continue;
        };
        match error(value, reference)? {
            Some(error) => worst = Some(worst.unwrap_or(0.0).max(error)),
            None => found.problems.push(format!(
                "output '{name}' has shape {:?}, onnxruntime {:?}",
                value.dims(),
                reference.dims()
            )),
        }
    }
    found.outputs = worst;
    // A batch gives each of its samples what it gives alone.
    let twice = x.select(&[0, 0])?;
    match model.graph_for(&twice).map_err(anyhow::Error::from).and_then(|graph| Ok(graph.forward(&twice)?)) {
        Ok(both) => {
            for ((name, one), (_, two)) in outputs.iter().zip(both.iter()) {
                for row in 0..2 {
                    let apart = error(&two.narrow(0, row, 1)?, &one.narrow(0, 0, 1)?)?;
                    if apart.is_none_or(|apart| apart > 1e-5) {
                        found.problems.push(format!(
                            "output '{name}' of a batch differs from a single sample's: {apart:?}"
                        ));
                    }
                }
            }
        }
        Err(error) => found.problems.push(format!("a batch of two: {error:#}")),
    }
    let exact = Model::open_for(&path, &OpenOptions { double: true, ..raw }, given)?;
    let double = exact.read(given)?.inputs;
    let exact = exact.graph_for(&double)?.forward(&double)?;
    for ((name, single), (_, double)) in outputs.iter().zip(exact.iter()) {
        let theirs =
            references.get(name).ok().map(|reference| error(double, reference)).transpose()?.flatten();
        let both = [error(double, single)?.unwrap_or(f64::INFINITY), theirs.unwrap_or(0.0)];
        found.rounding = [found.rounding[0].max(both[0]), found.rounding[1].max(both[1])];
    }
    let model = Model::open_for(&path, &OpenOptions { double: true, ..OpenOptions::default() }, given)?;
    let x = model.read(given)?.inputs.select(&[0])?;
    let graph = model.graph_for(&x)?;
    found.task = graph.forward(&x)?.kind().to_string();
    let known = of("grad");
    let compared = if known.exists() { torch(&graph, &x, &known) } else { gradient(&graph, &x) };
    match compared {
        Ok(error) => found.gradient = Some(error),
        Err(error) => found.problems.push(format!("gradient: {error:#}")),
    }
    for entry in catalogue::METHODS.entries().filter(|_| methods) {
        let id = entry.card.id;
        // Few rows, whatever the method calls them.
        let known = catalogue::explainer(id, &serde_json::Value::Null)?.config();
        let few = [("masks", 2.into()), ("samples", 2.into()), ("steps", 2.into()), ("max_steps", 2.into())];
        let sizes = [("window", serde_json::json!([64])), ("stride", serde_json::json!([64]))];
        let config: serde_json::Map<_, _> = few
            .into_iter()
            .chain(sizes)
            .filter(|(field, _)| known.get(field).is_some())
            .map(|(field, value)| (field.to_string(), value))
            .collect();
        let config = serde_json::Value::Object(config);
        let explained = catalogue::explainer_for(id, &config, &model)
            .and_then(|method| Ok(method.explain(&graph, &x, &any_target(&graph, &x)?, &Run::new())?));
        match explained {
            Ok(_) => found.methods.push(id),
            Err(error) => found.problems.push(format!("{id}: {error}")),
        }
    }
    Ok(found)
}

/// The most probable class, or else the mean of the first output.
fn any_target(graph: &Graph, x: &Inputs) -> ascribe::core::Result<Target> {
    let outputs = graph.forward(x)?;
    Target::Top1.resolve(&outputs).or_else(|_| Target::Mean(None).resolve(&outputs))
}

/// The L2 norm of all values.
fn norm(values: &Tensor) -> anyhow::Result<f64> {
    Ok(values.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// L2 distance relative to the reference, or to 0.01 for each of its values; `None` if the shapes cannot be matched.
fn error(value: &Tensor, reference: &Tensor) -> anyhow::Result<Option<f64>> {
    let value = value.to_dtype(DType::F64)?;
    let mut reference = reference.to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
    if value.dims() != reference.dims() {
        // The samples may have been moved to the front.
        let long = |dims: &[usize]| dims.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        let moved = (0..reference.rank()).find_map(|axis| {
            let order = std::iter::once(axis).chain((0..reference.rank()).filter(|at| *at != axis));
            let moved = reference.permute(order.collect::<Vec<_>>()).ok()?;
            (long(moved.dims()) == long(value.dims())).then_some(moved)
        });
        let Some(moved) = moved else { return Ok(None) };
        reference = moved.contiguous()?.reshape(value.shape())?;
    }
    let (distance, size) = (norm(&(&value - &reference)?)?, norm(&reference)?);
    // Probabilities far below a percent are compared by their difference: onnxruntime's sigmoid is only that accurate.
    let size = size.max(0.01 * (reference.elem_count() as f64).sqrt());
    Ok(Some(if distance == 0.0 { 0.0 } else { distance / size }))
}

/// The gradient beside PyTorch's, of the score that `benches/peers/export.py` records.
fn torch(graph: &Graph, x: &Inputs, known: &Path) -> anyhow::Result<f64> {
    let known = tensors::read(known)?;
    let class = known.get("target")?.to_vec1::<i64>()?[0];
    let target = usize::try_from(class).map_or(Target::Mean(None), Target::Class);
    let (found, expected) = if let Ok(expected) = known.get("embedding") {
        let trace = graph.trace(x, Keep::All)?;
        let embeds =
            |id: NodeId| graph.is_embedding(id) && trace.value(id).is_ok_and(|v| v.dtype().is_float());
        let words = graph.nodes().map(|(id, _)| id).find(|&id| embeds(id)).context("has no embedding")?;
        let (tail, inputs) = graph.from_node(words, &trace)?;
        (tail.gradient(&inputs, &target, &[0])?, expected)
    } else {
        (graph.gradient(x, &target, &[0])?, known.get("x")?)
    };
    let value = found.values.first().context("nothing is explained")?;
    let expected = expected.to_dtype(DType::F64)?.reshape(value.shape())?;
    let size = norm(&expected)?;
    anyhow::ensure!(size > 0.0, "PyTorch's is zero");
    Ok(norm(&(value - &expected)?)? / size)
}

/// The gradient along its own direction beside a central difference.
fn gradient(graph: &Graph, x: &Inputs) -> anyhow::Result<f64> {
    let target = any_target(graph, x)?;
    let found = graph.gradient(x, &target, &[0])?;
    let mut slope = 0.0;
    for value in &found.values {
        slope += value.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    let length = slope.sqrt();
    if length == 0.0 {
        anyhow::bail!("is zero");
    }
    let at = |step: f64| -> anyhow::Result<f64> {
        let moved: Vec<Tensor> = x
            .explained()
            .zip(&found.values)
            .map(|(input, direction)| Ok((&input.value + (direction * (step / length))?)?))
            .collect::<anyhow::Result<_>>()?;
        let outputs = graph.forward(&x.with_explained(moved)?)?;
        Ok(target.score(&outputs, &[0])?.to_vec1::<f64>()?[0])
    };
    let best = [1e-4, 1e-6].map(|step| -> anyhow::Result<f64> {
        let numeric = (at(step)? - at(-step)?) / (2.0 * step);
        Ok((numeric - length).abs() / length)
    });
    let mut smallest = f64::INFINITY;
    for error in best {
        smallest = smallest.min(error?);
    }
    Ok(smallest)
}
