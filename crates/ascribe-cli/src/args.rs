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
    after_help = "Example:\n  ascribe explain cat.png -o why.png\n\n`ascribe COMMAND --help` describes a command."
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
    /// INPUT is a picture, which is preprocessed as the model needs it, or a tensor that is already preprocessed
    /// (.safetensors, .npy; its first axis is the batch).
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
    /// List the nodes of a model: name, operator, kind, output shape, parameters.
    #[command(after_help = "Example:\n  ascribe inspect --model resnet50.onnx")]
    Inspect(Inspect),
    /// List the methods, or describe one.
    #[command(
        after_help = "Examples:\n  ascribe methods\n  ascribe methods integrated-gradients\n  ascribe methods --timeline"
    )]
    Methods(Methods),
    /// List the metrics, or describe one.
    #[command(after_help = "Examples:\n  ascribe metrics\n  ascribe metrics insertion")]
    Metrics(Metrics),
    /// List the models that are known by name.
    #[command(after_help = "Example:\n  ascribe models --json")]
    Models(Models),
    /// Download the weights of a model into the cache, and verify them.
    #[command(after_help = "Example:\n  ascribe pull resnet50")]
    Pull(Pull),
}

/// Which model, and how its inputs are preprocessed.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct ModelArgs {
    /// Name of a known model, or a file: .onnx; .safetensors, .pth, .pth.tar, .pt, .bin or .ckpt with --arch
    #[arg(long, value_name = "M")]
    pub model: Option<String>,
    /// Architecture of a parameter file, such as resnet50
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Mean of each channel, for pixel values in [0, 1]: subtracted from pictures
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, for pixel values in [0, 1]: pictures are divided by it
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    pub std: Option<Vec<f64>>,
    /// Channels of the network's input; by default grey (luminance) for networks with one input channel
    #[arg(long, value_enum, value_name = "CHANNELS")]
    pub channels: Option<ChannelOrder>,
    /// Leave pictures as they are stored, as torchvision does, instead of turning them as their EXIF orientation says
    #[arg(long)]
    pub no_exif: bool,
    /// Shorter side after resizing, in pixels; or HEIGHT,WIDTH
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    pub resize: Option<Vec<usize>>,
    /// Side of the centre crop, in pixels; or HEIGHT,WIDTH
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    pub crop: Option<Vec<usize>>,
    /// Order of the axes of an input, as letters: n batch, c channel, f feature, d depth, h height, w width, t time, l token
    /// (nchw, nhwc, ntc, tnc, …); with several inputs NAME=LETTERS. Can be repeated
    #[arg(long, value_name = "[NAME=]LETTERS")]
    pub layout: Vec<String>,
    /// Shape of an input whose sides the file leaves open, the batch included: NAME=1,15,128. Can be repeated
    #[arg(long, value_name = "NAME=N,…")]
    pub shape: Vec<String>,
    /// An input that is a constant, such as a sampling rate: NAME=NUMBER. Can be repeated
    #[arg(long, value_name = "NAME=NUMBER")]
    pub constant: Vec<String>,
    /// What the output says: classes, labels (several may hold), binary (one logit), probabilities, number, pixels, tokens, boxes, embedding
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// The output that is explained, if not the file's first one
    #[arg(long, value_name = "NAME")]
    pub model_output: Option<String>,
    /// Names of the classes: one per line, or JSON (a list, or an object with id2label)
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Precision of all computations
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub dtype: Precision,
}

/// Channels of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luminance.
    Grey,
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
    /// Number of threads; does not change the results
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Number of rows evaluated together; does not change the results
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<usize>,
}

/// What to explain, and where.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct TargetArgs {
    /// What to explain: top1, top5 (one attribution for each class), a class number, a label, or the difference A-B of two
    /// classes. The score of a class is its logit, for RISE its probability; logit:C, prob:C and logprob:C choose.
    /// box:K (detection K, counted from 0), segment:C (pixels of a class), output:NAME[i,j] (one value), mean:NAME, sum:NAME, similarity:FILE (with an embedding)
    #[arg(long, default_value = "top1", value_name = "T", conflicts_with = "neuron")]
    pub target: String,
    /// Explain at this node instead of at the input; for Grad-CAM, the layer whose channels are weighted
    #[arg(long, value_name = "NODE")]
    pub layer: Option<String>,
    /// Explain this neuron instead of a class, with one index for each axis after the batch
    #[arg(long, value_name = "NODE:INDEX[,INDEX…]", conflicts_with = "target")]
    pub neuron: Option<String>,
    /// Reference input: zero, black, white, blur, blur:SIGMA, a number, uniform:LOW,HIGH, gaussian:STD,
    /// max-distance:LOW,HIGH, or a tensor file
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
    /// Set a field of the method's configuration (`ascribe methods ID` lists them); can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// JSON file with the method's configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File to write; its ending decides what: .png .jpg .webp picture; .safetensors .npy values; .json summary; .html
    /// report. Can be repeated
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Smooth the map in pictures by a Gaussian of this width, in pixels of the map; values are never smoothed. By
    /// default a hundredth of the side for maps with the input's resolution, 0 for coarser ones
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
    /// Set a field of a method's configuration, or without METHOD of all methods that have it; can be repeated
    #[arg(long, value_name = "[METHOD.]KEY=VALUE")]
    pub set: Vec<String>,
    /// JSON file with the configurations: an object that maps methods to their configurations
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File to write; its ending decides what: .png .jpg .webp grid; .html report; .json summary. Can be repeated
    #[arg(short, long, value_name = "FILE", required = true)]
    pub output: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Smooth the map in pictures by a Gaussian of this width, in pixels of the map; values are never smoothed. By
    /// default a hundredth of the side for maps with the input's resolution, 0 for coarser ones
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
    /// Set a field of the configuration of a method or metric, or without ID of all that have it; can be repeated
    #[arg(long, value_name = "[ID.]KEY=VALUE")]
    pub set: Vec<String>,
    /// What to explain, as for `ascribe explain`; metrics that need boxes explain the annotated classes instead
    #[arg(long, default_value = "top1", value_name = "T")]
    pub target: String,
    /// File to write: .json, .csv or .html. Can be repeated
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
    /// Describe this method
    pub id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// List the methods by year
    #[arg(long, conflicts_with = "id")]
    pub timeline: bool,
}

/// `ascribe metrics`.
#[derive(Debug, ClapArgs)]
pub struct Metrics {
    /// Describe this metric
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
    /// Download again, even if the weights are already there
    #[arg(long)]
    pub force: bool,
}
