//! The zoo: network architectures by name, built from their parameters.
//!
//! Each architecture is a function over [`Net`], in its own file. Parameters have torchvision's names (for
//! EfficientNet-Lite, those of its published PyTorch conversions). timm's names and those of old checkpoints are
//! recognised and renamed.
//!
//! # Names of nodes
//!
//! - The node of a layer has the path of its module in PyTorch: `layer1.0.conv1`, `features.3`.
//! - The second use of a module is called `layer1.0.relu_2`, the third `layer1.0.relu_3`.
//! - Operations that are not modules have the name that torchvision's feature extraction gives them, such as `flatten`,
//!   `layer1.0.add` or `Mixed_5b.avg_pool2d`. If such an operation is the last one of a block (the concatenation of an
//!   inception module, the sum of an inverted residual block, the ReLU of an inception layer), it has the name of the
//!   block: `Mixed_5b`, `features.3`, `Conv2d_1a_3x3`.
//! - If a module is the last one of a block or a stage, it is followed by an identity with the name of the block or
//!   stage, so that `layer4.2` and `layer4`, or `features`, can be used as names. Identities compute nothing. The
//!   canonical form of the graph removes them but keeps their names ([`Graph::find`]).
//!
//! ```
//! use ascribe_models::{weights::StateDict, zoo};
//!
//! // An empty file: the error lists everything that ResNet-18 needs.
//! let error = zoo::build("resnet18", &StateDict::new(), &zoo::BuildOptions::default()).unwrap_err();
//! assert!(error.to_string().contains("missing: layer4.1.bn2.running_var [512]"));
//! ```

mod alexnet;
mod architecture;
mod densenet;
mod efficientnet_lite;
mod googlenet;
mod inception;
mod inception_v3;
mod mobilenet_v2;
mod names;
mod net;
mod resnet;
mod shapes;
mod squeezenet;
mod vgg;

use std::collections::BTreeMap;

use ascribe_core::{Body, DType, Graph};

pub use architecture::{Architecture, architecture, architectures};
pub use net::{ConvSpec, Net};

use crate::error::{Error, Result};
use crate::weights::StateDict;

/// Options for building a network.
///
/// ```
/// use ascribe_core::DType;
/// use ascribe_models::zoo::BuildOptions;
/// let options = BuildOptions::default().dtype(DType::F64).input([299, 299]).transform_input(true);
/// assert_eq!(options.input, Some([299, 299]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildOptions {
    /// Type of parameters and computation: f32 (the default) or f64.
    pub dtype: DType,
    /// Height and width of the input. By default, any size is accepted, except for EfficientNet-Lite: its padding
    /// depends on the input size, and the default is the [size](Architecture::side) it was published for. (timm
    /// evaluates Lite3 and Lite4 at 300 and 380 pixels instead of 280 and 300.)
    pub input: Option<[usize; 2]>,
    /// For GoogLeNet and Inception-v3: whether the network first converts its input from pixels normalised with
    /// ImageNet's mean and standard deviation to the interval \[−1, 1\] for which torchvision's weights were trained.
    /// Default: false; then the preprocessing has to produce that interval, as that of the [registry](crate::registry)
    /// does.
    pub transform_input: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { dtype: DType::F32, input: None, transform_input: false }
    }
}

impl BuildOptions {
    /// Sets the type of parameters and computation.
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// Sets height and width of the input.
    pub fn input(self, sides: [usize; 2]) -> Self {
        Self { input: Some(sides), ..self }
    }

    /// Sets whether the input is normalised for ImageNet and has to be converted to \[−1, 1\] first.
    pub fn transform_input(self, transform: bool) -> Self {
        Self { transform_input: transform, ..self }
    }
}

/// Builds a network from its parameters. Its input is `input` `[N, 3, H, W]`, its output the logits `[N, classes]`; the
/// number of classes is that of the classifier's parameters.
///
/// Parameters of the auxiliary classifiers of GoogLeNet and Inception-v3, and `num_batches_tracked`, are ignored. If the
/// parameters fit only without a prefix such as `model.`, which wrappers for training add, those with the prefix are used.
///
/// # Errors
/// - [`Error::UnknownArchitecture`], with similar names.
/// - [`Error::Invalid`] if parameters with several prefixes fit, such as `model.` and `ema_model.`
/// - [`Error::Parameters`], which lists all parameters that are missing, of the wrong shape, or unknown.
/// - [`Error::Graph`], which names a parameter that contains NaN, infinite values, integers or negative variances.
/// - [`Error::Invalid`] if the data type is neither f32 nor f64, the input is too small for the architecture, or
///   `transform_input` is set for an architecture that does not have it.
pub fn build(architecture: &str, weights: &StateDict, options: &BuildOptions) -> Result<Graph> {
    let architecture = self::architecture(architecture)?;
    if options.transform_input && !architecture.has_input_transform() {
        return Err(Error::invalid(
            "transform_input",
            format!("{} does not have it", architecture.name),
            "googlenet or inception-v3",
        ));
    }
    let problem = match network(architecture, weights, options) {
        Ok(graph) => return Ok(graph),
        Err(problem) => problem,
    };
    let mut fitting = Vec::new();
    for prefix in prefixes(weights) {
        if let Ok(graph) = network(architecture, &weights.below(&prefix), options) {
            fitting.push((prefix, graph));
        }
    }
    if let [(a, _), (b, _), ..] = fitting.as_slice() {
        return Err(Error::invalid(
            "parameters",
            format!("those with prefix '{a}' and those with prefix '{b}' fit {}", architecture.name),
            "a file with one of them",
        ));
    }
    fitting.pop().map(|(_, graph)| graph).ok_or(problem)
}

/// The prefixes, ending with a dot, that at least a quarter of the names have.
fn prefixes(weights: &StateDict) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in weights.names() {
        for (dot, _) in name.match_indices('.') {
            *counts.entry(&name[..=dot]).or_default() += 1;
        }
    }
    let common = counts.into_iter().filter(|(_, count)| count * 4 >= weights.len());
    common.map(|(prefix, _)| prefix.to_owned()).collect()
}

/// Builds a network from parameters that have its names, or those of [`names`].
fn network(architecture: &Architecture, weights: &StateDict, options: &BuildOptions) -> Result<Graph> {
    let weights = names::canonical(architecture.family(), weights)?;
    let default = [architecture.side; 2];
    let sides = options.input.or(architecture.needs_sides().then_some(default));
    if let Some([height, width]) = sides.filter(|sides| sides.contains(&0)) {
        return Err(too_small(architecture, [height, width], "a side of 0"));
    }

    let mut net = Net::new(&weights);
    let mut x = net.input(sides.map_or([None; 2], |sides| sides.map(Some)));
    if options.transform_input {
        x = inception::transform_input(&mut net, x)?;
    }
    let logits = architecture.layers(&mut net, x, sides.unwrap_or(default))?;
    let auxiliary = architecture.has_input_transform();
    let graph = net.finish(logits, options.dtype, |name| auxiliary && inception::is_auxiliary(name))?;
    if let Some(sides) = sides {
        check_sides(&graph, sides).map_err(|e| too_small(architecture, sides, &e.to_string()))?;
    }
    Ok(graph)
}

/// The error for an input that is too small.
fn too_small(architecture: &Architecture, [height, width]: [usize; 2], problem: &str) -> Error {
    let side = architecture.side;
    Error::invalid(
        format!("input of {height}×{width}"),
        format!("does not fit {}: {problem}", architecture.name),
        format!("a larger input; the network was published for {side}×{side}"),
    )
}

/// Infers the shapes of all nodes, so that an input that is too small for some window is an error now, not when the
/// first image is processed.
fn check_sides(graph: &Graph, [height, width]: [usize; 2]) -> ascribe_core::Result<()> {
    let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(graph.len());
    for (_, node) in graph.nodes() {
        let shape = match node.body() {
            Body::Constant(value) => value.dims().to_vec(),
            Body::Op(op) => {
                let inputs: Vec<&[usize]> =
                    node.inputs().iter().map(|id| shapes[id.index()].as_slice()).collect();
                op.operator().output_shape(&inputs).map_err(|e| e.at(node.name(), node.op_name()))?
            }
            _ => vec![1, 3, height, width],
        };
        shapes.push(shape);
    }
    Ok(())
}
