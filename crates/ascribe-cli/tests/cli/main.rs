//! Tests of the program as a process: what it prints and writes, and how it fails.
//!
//! Most runs use the small network of shapes, so that they take a fraction of a second.

mod determinism;
mod evaluation;
mod explanations;
mod failures;
mod files;
mod listings;
mod tables;
mod targets;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

type Failure = Box<dyn std::error::Error>;
type Test = Result<(), Failure>;

/// Classes of the network of shapes.
const SHAPES: [&str; 4] = ["circle", "square", "triangle", "cross"];

/// The result of a run of the program.
struct Output {
    status: Option<i32>,
    out: String,
    err: String,
}

/// A temporary folder with a picture of a square, labels and an empty cache of models.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let place = Self { folder: tempfile::tempdir()? };
        std::fs::create_dir(place.path("cache"))?;
        std::fs::write(place.path("labels.txt"), SHAPES.join("\n"))?;
        place.picture("square.png", |x, y| (14..27).contains(&x) && (9..22).contains(&y))?;
        Ok(place)
    }

    /// Writes a picture of 40 × 32 pixels: yellow where `inside`, else grey.
    fn picture(&self, name: &str, inside: impl Fn(u32, u32) -> bool) -> Test {
        let colour = |x, y| image::Rgb(if inside(x, y) { [240, 220, 20] } else { [90, 100, 110] });
        Ok(image::RgbImage::from_fn(40, 32, colour).save(self.folder.path().join(name))?)
    }

    /// Writes a mask for such a picture.
    fn mask(&self, name: &str, inside: impl Fn(u32, u32) -> bool) -> Test {
        let colour = |x, y| image::Luma([if inside(x, y) { 255 } else { 0 }]);
        Ok(image::GrayImage::from_fn(40, 32, colour).save(self.folder.path().join(name))?)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Names of the files in the folder that the tests did not put there.
    fn written(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.folder.path())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|n| !["cache", "labels.txt", "square.png"].contains(&n.as_str()));
        names.sort();
        Ok(names)
    }

    /// The command that runs the program without network access, and with none of the user's caches and settings.
    fn command(&self, args: &[&str]) -> Command {
        let nowhere = "http://127.0.0.1:9";
        let mut command = Command::new(env!("CARGO_BIN_EXE_ascribe"));
        command.args(args).current_dir(self.folder.path());
        command.env("ASCRIBE_CACHE", self.path("cache")).env("ASCRIBE_FIXTURES", fixture(""));
        for name in ["HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
            command.env(name, nowhere);
        }
        command.env("PIP_INDEX_URL", nowhere).env("PIP_CONFIG_FILE", "/dev/null");
        command
    }

    /// Runs the program.
    fn run(&self, args: &[&str]) -> Result<Output, Failure> {
        let output = self.command(args).output()?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes);
        Ok(Output { status: output.status.code(), out: text(output.stdout)?, err: text(output.stderr)? })
    }

    /// Runs the program, which must succeed and write nothing to standard error; returns what it printed.
    fn succeeds(&self, args: &[&str]) -> Result<String, Failure> {
        let Output { status, out, err } = self.run(args)?;
        if status == Some(0) && err.is_empty() {
            return Ok(out);
        }
        Err(format!("{args:?} ended with {status:?}: {err}").into())
    }

    /// Runs the program with `--json`, which must print one object and nothing else.
    fn json(&self, args: &[&str]) -> Result<Value, Failure> {
        Ok(serde_json::from_str(&self.succeeds(&[args, &["--json"]].concat())?)?)
    }

    /// Runs the program, which must fail with this status, a message that contains these words, and nothing on
    /// standard output; returns the message.
    fn fails(&self, status: i32, args: &[&str], words: &[&str]) -> Result<String, Failure> {
        let output = self.run(args)?;
        let missing: Vec<&&str> = words.iter().filter(|w| !output.err.contains(**w)).collect();
        let defect = output.err.contains("internal error") || output.err.contains("panicked");
        if output.status == Some(status) && missing.is_empty() && output.out.is_empty() && !defect {
            return Ok(output.err);
        }
        let Output { status, out, err } = output;
        Err(format!("{args:?} ended with {status:?}; {missing:?} not in: {err}{out}").into())
    }
}

/// The path of a fixture.
fn fixture(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fixtures", name].iter().collect();
    path.display().to_string()
}

/// Arguments of `COMMAND INPUT` with the network of shapes; its preprocessing is stored beside it.
fn shapes<'a>(start: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    static MODEL: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| fixture("models/shapes.safetensors"));
    [start, &["--model", MODEL.as_str(), "--arch", "shapes-cnn"], more].concat()
}

/// The tensor `attribution` of a file, or its only tensor, as f64, with its shape.
fn values(path: &str) -> Result<(Vec<f64>, Vec<usize>), Failure> {
    let file = ascribe::models::tensors::read(path)?;
    let tensor = match file.get("attribution") {
        Ok(tensor) => tensor,
        Err(_) => file.iter().next().ok_or("no tensor")?.1,
    };
    let shape = tensor.dims().to_vec();
    Ok((tensor.to_dtype(ascribe::core::DType::F64)?.flatten_all()?.to_vec1()?, shape))
}

/// ‖a − b‖∞.
fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn number(value: &Value) -> Result<f64, Failure> {
    value.as_f64().ok_or_else(|| format!("{value} is not a number").into())
}

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
