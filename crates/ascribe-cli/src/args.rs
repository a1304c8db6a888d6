//! The arguments, as clap reads them.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Explain the decisions of trained neural networks.
#[derive(Debug, Parser)]
#[command(
    name = "ascribe",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Example:\n  ascribe explain cat.png -o why.png\n\n`ascribe COMMAND --help` says more about a command."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explain one input with one method.
    ///
    /// INPUT is a picture, which the model's preprocessing is applied to, or a tensor that is already preprocessed
    /// (.safetensors, .npy; the first dimension is the batch).
    #[command(
        after_help = "Examples:\n  ascribe explain cat.png -o why.png\n  ascribe explain cat.png --model resnet50.onnx --method occlusion --set 'window=[32]' --set 'stride=[16]' \\\n    --target 'Egyptian cat' -o why.png -o values.safetensors"
    )]
    Explain(Explain),
    /// Explain inputs with several methods, as a grid: rows are inputs, columns are methods.
    #[command(
        after_help = "Example:\n  ascribe compare cat.png coffee.png --methods saliency,grad-cam,integrated-gradients -o grid.png"
    )]
    Compare(Compare),
    /// Evaluate methods by metrics on a folder of pictures.
    #[command(
        after_help = "Example:\n  ascribe evaluate --data pictures/ --methods saliency,grad-cam --metrics insertion,deletion,pointing-game \\\n    -o results.csv\n\nSome metrics need boxes or masks: boxes.json or Pascal-VOC XML files beside the pictures."
    )]
    Evaluate(Evaluate),
    /// Show the nodes of a model: name, operator, kind, output shape, parameters.
    #[command(after_help = "Example:\n  ascribe inspect --model resnet50.onnx")]
    Inspect(Inspect),
    /// Show the catalogue of methods, or one method's page.
    #[command(
        after_help = "Examples:\n  ascribe methods\n  ascribe methods integrated-gradients\n  ascribe methods --timeline"
    )]
    Methods(Methods),
    /// Show the catalogue of metrics, or one metric's page.
    #[command(after_help = "Examples:\n  ascribe metrics\n  ascribe metrics insertion")]
    Metrics(Metrics),
    /// Show the models that are known by name.
    #[command(after_help = "Example:\n  ascribe models --json")]
    Models(Models),
    /// Fetch the weights of a model into the cache, and verify them.
    #[command(after_help = "Example:\n  ascribe pull resnet50")]
    Pull(Pull),
}

/// Which model, and how its inputs are made.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct ModelArgs {
    /// Name of a known model, or a file: .onnx; .safetensors or .pth with --arch
    #[arg(long, value_name = "M")]
    pub model: Option<String>,
    /// Architecture of a parameter file
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Means that pictures are normalised with, in [0, 1]: one per channel
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    pub mean: Option<Vec<f64>>,
    /// Standard deviations that pictures are normalised with, in [0, 1]: one per channel
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    pub std: Option<Vec<f64>>,
    /// Shorter side after resizing, in pixels; or HEIGHT,WIDTH
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    pub resize: Option<Vec<usize>>,
    /// Side of the centre crop, in pixels; or HEIGHT,WIDTH
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    pub crop: Option<Vec<usize>>,
    /// Names of the classes: one per line, or a JSON list
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Precision of all arithmetic
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub dtype: Precision,
}

/// Precision of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Single.
    #[default]
    F32,
    /// Double.
    F64,
}

/// How to run.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct RunArgs {
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N", allow_negative_numbers = true)]
    pub seed: u64,
    /// Number of threads; changes no number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Rows evaluated together; changes no number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<usize>,
}

/// What to explain, and where.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct TargetArgs {
    /// top1, top5 (one attribution each), a class number, a label, or A-B; scored by the logit, by RISE as in its paper
    /// by the probability, unless written as logit:C, prob:C or logprob:C
    #[arg(long, default_value = "top1", value_name = "T", conflicts_with = "neuron")]
    pub target: String,
    /// Attribution at this node instead of at the input
    #[arg(long, value_name = "NODE", conflicts_with = "neuron")]
    pub layer: Option<String>,
    /// Explain a neuron instead of an output
    #[arg(long, value_name = "NODE:INDEX[,INDEX…]", conflicts_with = "target")]
    pub neuron: Option<String>,
    /// zero, black, white, blur, blur:SIGMA, a number, uniform:LOW,HIGH, gaussian:STD, max-distance:LOW,HIGH, or a tensor
    /// file
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub baseline: Option<String>,
}

/// `ascribe explain`.
#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// Picture or tensor file
    pub input: PathBuf,
    /// Identifier of the method (see `ascribe methods`)
    #[arg(long, default_value = ascribe::catalogue::DEFAULT_METHOD, value_name = "ID")]
    pub method: String,
    /// One field of the method's configuration; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The method's configuration as a JSON file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where results go, by ending: .png .jpg .webp picture; .safetensors .npy values; .json summary; .html report;
    /// repeatable
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Smooth the drawn map (never the values) by a Gaussian, in pixels of the map; default: a hundredth of its
    /// side for maps as fine as the input, 0 for coarser ones
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    pub smoothing: Option<f64>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The target.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `ascribe compare`.
#[derive(Debug, ClapArgs)]
pub struct Compare {
    /// Pictures
    #[arg(required = true)]
    pub input: Vec<PathBuf>,
    /// Identifiers of the methods
    #[arg(long, value_delimiter = ',', required = true, value_name = "ID,…")]
    pub methods: Vec<String>,
    /// One field of a method's configuration, as METHOD.KEY=VALUE, or KEY=VALUE for all that have it; repeatable
    #[arg(long, value_name = "[METHOD.]KEY=VALUE")]
    pub set: Vec<String>,
    /// Configurations as a JSON file: an object from methods to their configurations
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where results go, by ending: .png .jpg .webp grid; .html report; .json summary; repeatable
    #[arg(short, long, value_name = "FILE", required = true)]
    pub output: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Smooth the drawn map (never the values) by a Gaussian, in pixels of the map; default: a hundredth of its
    /// side for maps as fine as the input, 0 for coarser ones
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    pub smoothing: Option<f64>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The target.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `ascribe evaluate`.
#[derive(Debug, ClapArgs)]
pub struct Evaluate {
    /// Folder of pictures
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Identifiers of the methods
    #[arg(long, value_delimiter = ',', required = true, value_name = "ID,…")]
    pub methods: Vec<String>,
    /// Identifiers of the metrics (see `ascribe metrics`)
    #[arg(long, value_delimiter = ',', required = true, value_name = "ID,…")]
    pub metrics: Vec<String>,
    /// One field of a configuration, as METHOD.KEY=VALUE or METRIC.KEY=VALUE; repeatable
    #[arg(long, value_name = "ID.KEY=VALUE")]
    pub set: Vec<String>,
    /// What is explained; metrics that need boxes look at the annotated classes instead
    #[arg(long, default_value = "top1", value_name = "T")]
    pub target: String,
    /// Where results go, by ending: .json, .csv or .html; repeatable
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `ascribe inspect`.
#[derive(Debug, ClapArgs)]
pub struct Inspect {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `ascribe methods`.
#[derive(Debug, ClapArgs)]
pub struct Methods {
    /// Show this method's page
    pub id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the methods by year
    #[arg(long, conflicts_with = "id")]
    pub timeline: bool,
}

/// `ascribe metrics`.
#[derive(Debug, ClapArgs)]
pub struct Metrics {
    /// Show this metric's page
    pub id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `ascribe models`.
#[derive(Debug, ClapArgs)]
pub struct Models {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `ascribe pull`.
#[derive(Debug, ClapArgs)]
pub struct Pull {
    /// Name of the model (see `ascribe models`)
    pub name: String,
    /// Fetch again even if the weights are here
    #[arg(long)]
    pub force: bool,
}
