//! Builds networks layer by layer, with parameters by name.

use ascribe_core::ops::{
    AdaptiveAveragePool, AveragePool, BatchNorm, Binary, Conv, Linear, MaxPool, Op, Pointwise, Reduce,
    ReduceFn, Structure, Window,
};
use ascribe_core::{DType, Device, Graph, GraphBuilder, NodeId, Tensor, check_finite};

use crate::error::{Error, Result};
use crate::weights::StateDict;

/// Number of classes that a classifier should have, for error messages if the file has no parameters of it.
const IMAGENET_CLASSES: usize = 1000;

/// Geometry of a two-dimensional convolution layer. The default has stride 1, no padding, one group and no
/// bias.
///
/// ```
/// use ascribe_models::zoo::ConvSpec;
/// let stem = ConvSpec::square(7).stride(2).padding([3, 3]);
/// assert_eq!(stem.window.kernel, [7, 7]);
/// assert!(!stem.bias);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// Kernel size, stride, dilation and padding.
    pub window: Window,
    /// Number of groups of channels.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl ConvSpec {
    /// A convolution with this kernel height and width.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { window: Window::new(kernel), groups: 1, bias: false }
    }

    /// A convolution with a square kernel.
    pub fn square(side: usize) -> Self {
        Self::new([side, side])
    }

    /// Sets the stride along both axes.
    pub fn stride(self, stride: usize) -> Self {
        Self { window: self.window.stride([stride, stride]), ..self }
    }

    /// Sets the vertical and the horizontal padding, which is the same at both ends of an axis.
    pub fn padding(self, padding: [usize; 2]) -> Self {
        Self { window: self.window.padding(padding), ..self }
    }

    /// Sets the padding so that for an odd kernel and stride 1 the output has the size of the input.
    pub fn same(self) -> Self {
        self.padding(self.window.kernel.map(|side| side / 2))
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Adds a bias.
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }
}

/// Builds a network layer by layer, with parameters from a state dict.
///
/// A layer called `layer1.0.conv1` takes the parameters `layer1.0.conv1.weight` and, if it has a bias,
/// `layer1.0.conv1.bias`. Its node has the name of the layer. If a layer is used a second time, its node is called
/// `layer1.0.relu_2`. Parameters are only checked in [`Net::finish`], which compares all names and shapes at once.
///
/// ```
/// use ascribe_core::{DType, Device, Inputs, Tensor};
/// use ascribe_models::{weights::StateDict, zoo::{ConvSpec, Net}};
///
/// # fn main() -> ascribe_models::Result<()> {
/// let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
/// let weights: StateDict =
///     [("conv.weight", ones(&[4, 3, 3, 3])?), ("fc.weight", ones(&[2, 4])?), ("fc.bias", ones(&[2])?)]
///         .into_iter()
///         .collect();
/// let mut net = Net::new(&weights);
/// let x = net.input([None, None]);
/// let x = net.conv("conv", x, 3, 4, ConvSpec::square(3).same())?;
/// let x = net.relu("relu", x)?;
/// let x = net.global_average("avgpool", x)?;
/// let x = net.flatten("flatten", x)?;
/// let x = net.linear("fc", x, 4, 2)?;
/// let graph = net.finish(x, DType::F32, |_| false)?;
/// let y = graph.forward(&Inputs::single(ones(&[1, 3, 5, 6])?)?)?;
/// assert_eq!(y.primary().dims(), [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Net<'a> {
    builder: GraphBuilder,
    weights: &'a StateDict,
    /// Names and shapes of the parameters that layers need.
    expected: Vec<(String, Vec<usize>)>,
}

impl<'a> Net<'a> {
    /// An empty network that takes its parameters from `weights`.
    pub fn new(weights: &'a StateDict) -> Self {
        Self { builder: GraphBuilder::new(), weights, expected: Vec::new() }
    }

    /// Adds the input, which is called `input`: `[N, 3, H, W]`. `None` means that any height or width is accepted.
    pub fn input(&mut self, [height, width]: [Option<usize>; 2]) -> NodeId {
        self.builder.input("input", &[Some(3), height, width])
    }

    /// Adds any operator.
    ///
    /// # Errors
    /// If an operand is a node of another network. This holds for all functions that add layers.
    pub fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[NodeId]) -> Result<NodeId> {
        Ok(self.builder.op(name, op, inputs)?)
    }

    /// Adds a constant that is not a parameter. It is converted to the data type of the network.
    pub fn constant(&mut self, name: &str, value: Tensor) -> NodeId {
        self.builder.constant(name, value)
    }

    /// Adds a parameter. [`Net::finish`] checks that it exists and has this shape.
    ///
    /// # Errors
    /// If no memory can be allocated for a placeholder.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<NodeId> {
        self.expected.push((name.to_owned(), shape.to_vec()));
        let value = match self.weights.get(name) {
            Ok(value) => value.clone(),
            // A placeholder that is never used, since `finish` returns an error.
            Err(_) => Tensor::zeros((), DType::F32, &Device::Cpu)?,
        };
        Ok(self.builder.constant(name, value))
    }

    /// Number of outputs of the classifier with the parameters `layer.weight` and `layer.bias`, from their shapes, or
    /// 1000 as for ImageNet if both are missing.
    pub fn classes(&self, layer: &str) -> usize {
        ["weight", "bias"]
            .iter()
            .find_map(|part| self.weights.get(&format!("{layer}.{part}")).ok()?.dims().first().copied())
            .unwrap_or(IMAGENET_CLASSES)
    }

    /// Convolution from `cin` to `cout` channels: `[N, cin, H, W]` → `[N, cout, H′, W′]`; `weight`
    /// `[cout, cin / groups, kh, kw]`.
    pub fn conv(&mut self, name: &str, x: NodeId, cin: usize, cout: usize, spec: ConvSpec) -> Result<NodeId> {
        let ConvSpec { window, groups, bias } = spec;
        let [kh, kw] = window.kernel;
        let shape = [cout, cin / groups.max(1), kh, kw];
        let mut operands = vec![x, self.parameter(&format!("{name}.weight"), &shape)?];
        if bias {
            operands.push(self.parameter(&format!("{name}.bias"), &[cout])?);
        }
        self.op(name, Conv { window, groups }, &operands)
    }

    /// Linear layer with bias: `[N, cin]` → `[N, cout]`; `weight` `[cout, cin]`.
    pub fn linear(&mut self, name: &str, x: NodeId, cin: usize, cout: usize) -> Result<NodeId> {
        let weight = self.parameter(&format!("{name}.weight"), &[cout, cin])?;
        let bias = self.parameter(&format!("{name}.bias"), &[cout])?;
        self.op(name, Linear, &[x, weight, bias])
    }

    /// Batch normalisation with the stored `running_mean` and `running_var`, then scaling by `weight` and adding
    /// `bias`, each of shape `[channels]`. `epsilon` is added to the variance.
    pub fn batch_norm(&mut self, name: &str, x: NodeId, channels: usize, epsilon: f64) -> Result<NodeId> {
        let mut operands = vec![x];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            operands.push(self.parameter(&format!("{name}.{part}"), &[channels])?);
        }
        self.op(name, BatchNorm { epsilon }, &operands)
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.op(name, Pointwise::Relu, &[x])
    }

    /// `min(max(x, 0), 6)`.
    pub fn relu6(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.op(name, Pointwise::Clip { low: Some(0.0), high: Some(6.0) }, &[x])
    }

    /// Maximum of each window.
    pub fn max_pool(&mut self, name: &str, x: NodeId, window: Window) -> Result<NodeId> {
        self.op(name, MaxPool { window }, &[x])
    }

    /// Mean of each window, where padding counts as zeros.
    pub fn average_pool(&mut self, name: &str, x: NodeId, window: Window) -> Result<NodeId> {
        self.op(name, AveragePool { window, count_include_pad: true }, &[x])
    }

    /// Average pooling to this height and width, for any input size.
    pub fn adaptive_average(&mut self, name: &str, x: NodeId, output: [usize; 2]) -> Result<NodeId> {
        self.op(name, AdaptiveAveragePool { output }, &[x])
    }

    /// Mean over height and width: `[N, C, H, W]` → `[N, C, 1, 1]`.
    pub fn global_average(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.op(name, Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep: true }, &[x])
    }

    /// `[N, C, H, W]` → `[N, C · H · W]`.
    pub fn flatten(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.op(name, Structure::Flatten { axis: 1 }, &[x])
    }

    /// Concatenates along the channels.
    pub fn concat(&mut self, name: &str, parts: &[NodeId]) -> Result<NodeId> {
        self.op(name, Structure::Concat { axis: 1 }, parts)
    }

    /// `a + b`.
    pub fn add(&mut self, name: &str, a: NodeId, b: NodeId) -> Result<NodeId> {
        self.op(name, Binary::Add, &[a, b])
    }

    /// Gives the value `x` an additional name: that of the block or stage whose output it is.
    pub fn output_of(&mut self, block: &str, x: NodeId) -> Result<NodeId> {
        self.op(block, Structure::Identity, &[x])
    }

    /// The finished graph with all parameters in `dtype`.
    ///
    /// # Errors
    /// [`Error::Parameters`], which lists all parameters that are missing, have an unexpected shape, or are unknown.
    /// Unknown parameters are accepted if `optional(name)` is true, and `num_batches_tracked` always is.
    /// [`Error::Graph`], which names a parameter that contains integers, NaN or infinite values (also from overflow in
    /// `dtype`), or a negative variance. [`Error::Invalid`] if `dtype` is neither f32 nor f64.
    pub fn finish(self, output: NodeId, dtype: DType, optional: impl Fn(&str) -> bool) -> Result<Graph> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::invalid("data type", format!("{dtype:?}"), "f32 or f64"));
        }
        self.weights.check_with_optional(&self.expected, optional)?;
        let graph = self.builder.finish(&[output])?;
        Ok(graph.map_constants(|id, value| convert(graph.node(id).name(), value, dtype))?)
    }
}

/// Checks the values of a parameter and converts it to `dtype`; `None` if it has that type already.
fn convert(name: &str, value: &Tensor, dtype: DType) -> ascribe_core::Result<Option<Tensor>> {
    use ascribe_core::Error;
    let what = || format!("parameter '{name}'");
    if !value.dtype().is_float() {
        return Err(Error::invalid(what(), format!("holds {:?}", value.dtype()), "floating-point numbers"));
    }
    let converted = value.to_dtype(dtype)?;
    // A sum of values with NaN or infinity is not finite, and it can be computed without a copy. If the sum is not
    // finite, it may have overflowed, so check every value.
    let sum = converted.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    if !sum.is_finite() {
        check_finite(&what(), &converted)?;
    }
    if name.ends_with(".running_var") && converted.elem_count() > 0 {
        let least = converted.flatten_all()?.min(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if least < 0.0 {
            return Err(Error::invalid(what(), format!("holds {least}"), "variances, which are at least 0"));
        }
    }
    Ok((value.dtype() != dtype).then_some(converted))
}
