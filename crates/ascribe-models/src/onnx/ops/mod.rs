//! Translates ONNX operators to nodes of the graph, with one function per family of operators.

mod activation;
mod arithmetic;
mod attention;
mod conv;
mod dynamic;
mod einsum;
mod elements;
mod fused;
mod grid;
mod index;
mod linear;
mod ml;
mod norm;
mod pad;
mod pool;
mod positions;
mod qlinear;
mod quantized;
mod recurrent;
mod reduce;
mod regions;
mod resize;
mod rotary;
mod sequential;
mod shape;
mod softmax;
mod spectrum;
mod volume;
mod window;

pub(super) use self::dynamic::Mark;
pub(super) use self::quantized::Quantization;
use super::array::axis;
use super::attributes::Attributes;
use super::context::{Context, batch_axis};
use super::supported::only_constants;
use super::value::{Elem, Res, Value};

/// A node of the file to translate.
pub(super) struct Call<'a> {
    /// The node's name, or that of its first output.
    pub name: &'a str,
    pub op: &'a str,
    /// Whether the operator is one of the domain `com.microsoft`, in which names have other meanings.
    pub microsoft: bool,
    /// Whether the operator is one of the domain `ai.onnx.ml`.
    pub ml: bool,
    pub opset: i64,
    pub attributes: &'a Attributes,
    /// The inputs; `None` where an optional one is left out.
    pub inputs: &'a [Option<Value>],
    /// Number of outputs of the node.
    pub outputs: usize,
}

impl Call<'_> {
    /// Input `i`; an error if it is missing.
    fn input(&self, i: usize) -> Res<&Value> {
        self.optional(i).ok_or_else(|| format!("input {i} is missing").into())
    }

    /// Input `i`, if it is given.
    fn optional(&self, i: usize) -> Option<&Value> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// All inputs; for operators with any number of inputs.
    fn all(&self) -> Res<Vec<&Value>> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// A list of integers: an attribute in older operator sets, an input in newer ones.
    fn list(&self, attribute: &str, input: usize) -> Res<Option<Vec<i64>>> {
        match (self.attributes.ints(attribute), self.optional(input)) {
            (Some(list), _) => Ok(Some(list.to_vec())),
            (None, Some(value)) => Ok(Some(value.array(attribute)?.as_ints()?.to_vec())),
            (None, None) => Ok(None),
        }
    }

    /// A string attribute; an empty string means the default.
    fn mode(&self, attribute: &str, default: &'static str) -> Res<&str> {
        Ok(self.attributes.string(attribute)?.filter(|s| !s.is_empty()).unwrap_or(default))
    }

    /// The axis attribute, counted from the front.
    fn axis(&self, default: i64, rank: usize) -> Res<usize> {
        axis(self.attributes.int_or("axis", default)?, rank)
    }

    /// The same node under another name.
    fn named<'b>(&'b self, name: &'b str) -> Call<'b> {
        Call {
            name,
            op: self.op,
            microsoft: self.microsoft,
            ml: self.ml,
            opset: self.opset,
            attributes: self.attributes,
            inputs: self.inputs,
            outputs: self.outputs,
        }
    }

    /// A name for an additional node.
    fn sub(&self, part: &str) -> String {
        format!("{}/{part}", self.name)
    }

    /// An error if `axis` contains the batch; `what` says what the node does with the axis.
    #[allow(clippy::unused_self)] // Reads as what the node must not do.
    fn not_batch(&self, value: &Value, axis: usize, what: &str) -> Res<()> {
        if batch_axis(&value.shapes()?) == Some(axis) {
            return Err(format!("{what} the batch (axis {axis}), which would mix samples").into());
        }
        Ok(())
    }
}

/// Translates a node.
pub(super) fn translate(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let own = |value: &Value| matches!(value, Value::Node(signal) if cx.own_indices.contains(&signal.id));
    if !matches!(call.op, "GatherND" | "ScatterND") && call.inputs.iter().flatten().any(own) {
        return Err(
            "computes with the numbers of samples, which only select samples (GatherND, ScatterND)".into()
        );
    }
    if let Some(values) = dynamic::translate(cx, call)? {
        return Ok(values);
    }
    let quantization = quantized::inherited(cx, call)?;
    let values = operator(cx, call)?;
    if let Some(quantization) = quantization {
        for value in &values {
            quantized::mark(cx, value, &quantization);
        }
    }
    Ok(values)
}

fn operator(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let one = |value: Res<Value>| value.map(|v| vec![v]);
    if only_constants(call.op) {
        return Err("is supported only on constants and shapes".into());
    }
    if call.ml {
        return ml::translate(cx, call);
    }
    check_text(call)?;
    if call.microsoft {
        return microsoft(cx, call);
    }
    check_types(call)?;
    if let Some(function) = activation::pointwise(call)? {
        return one(activation::apply(cx, call, function));
    }
    match call.op {
        "Conv" => one(conv::conv(cx, call)),
        "ConvTranspose" => one(conv::conv_transpose(cx, call)),
        "Gemm" => one(linear::gemm(cx, call)),
        "MatMul" => one(linear::matmul(cx, call)),
        "Einsum" => one(einsum::einsum(cx, call)),
        "BatchNormalization" => one(norm::batch(cx, call)),
        "LayerNormalization" => one(norm::layer(cx, call)),
        "RMSNormalization" | "SimplifiedLayerNormalization" => one(norm::rms(cx, call)),
        "GroupNormalization" => one(norm::group(cx, call)),
        "InstanceNormalization" => one(norm::instance(cx, call)),
        "LRN" => one(norm::local_response(cx, call)),
        "LpNormalization" => one(norm::lp(cx, call)),
        "Clip" => one(activation::clip(cx, call)),
        "PRelu" => one(activation::prelu(cx, call)),
        "Swish" => one(activation::swish(cx, call)),
        "ThresholdedRelu" => one(activation::thresholded(cx, call)),
        "Softmax" | "LogSoftmax" => one(softmax::softmax(cx, call)),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Sum" | "Mean" => {
            one(arithmetic::binary(cx, call))
        }
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" => {
            one(arithmetic::compare(cx, call))
        }
        "Not" => one(cx.apply(call.name, ascribe_core::ops::Compare::Not, &[call.input(0)?], Elem::Bool)),
        "Where" => one(arithmetic::select(cx, call)),
        "Cast" | "CastLike" => one(arithmetic::cast(cx, call)),
        "MaxPool" | "AveragePool" => pool::pool(cx, call),
        "GlobalAveragePool" | "GlobalMaxPool" => one(pool::global(cx, call)),
        op if op.starts_with("Reduce") => one(reduce::reduce(cx, call)),
        "LpPool" => one(pool::norm(cx, call)),
        "GlobalLpPool" => one(pool::global_norm(cx, call)),
        "IsNaN" | "IsInf" => one(arithmetic::special(cx, call)),
        "Xor" => one(arithmetic::xor(cx, call)),
        "Mod" => one(arithmetic::modulo(cx, call)),
        "CumSum" => one(positions::cum_sum(cx, call)),
        "Trilu" => one(positions::trilu(cx, call)),
        "OneHot" => one(positions::one_hot(cx, call)),
        "Hardmax" => one(positions::hardmax(cx, call)),
        "ArgMax" | "ArgMin" => one(positions::arg(cx, call)),
        "TopK" => positions::top_k(cx, call),
        "GatherElements" => one(elements::gather_elements(cx, call)),
        "GatherND" => one(elements::gather_nd(cx, call)),
        "ScatterElements" | "Scatter" => one(elements::scatter_elements(cx, call)),
        "ScatterND" => one(elements::scatter_nd(cx, call)),
        "Identity" | "Dropout" => shape::identity(cx, call),
        "Reshape" => one(shape::reshape(cx, call)),
        "Flatten" => one(shape::flatten(cx, call)),
        "Squeeze" => one(shape::squeeze(cx, call)),
        "Unsqueeze" => one(shape::unsqueeze(cx, call)),
        "Transpose" => one(shape::transpose(cx, call)),
        "Expand" => one(shape::expand(cx, call)),
        "Tile" => one(shape::tile(cx, call)),
        "ConstantOfShape" => one(shape::constant_of_shape(cx, call)),
        "Constant" => one(shape::constant(cx, call)),
        "DepthToSpace" => one(shape::depth_to_space(cx, call)),
        "SpaceToDepth" => one(shape::space_to_depth(cx, call)),
        "Concat" => one(index::concat(cx, call)),
        "Split" => index::split(cx, call),
        "Slice" => one(index::slice(cx, call)),
        "Gather" => one(index::gather(cx, call)),
        "GridSample" => one(grid::sample(cx, call)),
        "QuantizeLinear" => one(quantized::quantize(cx, call)),
        "DequantizeLinear" => one(quantized::dequantize(cx, call)),
        "DynamicQuantizeLinear" => dynamic::quantize(cx, call),
        "ConvInteger" | "MatMulInteger" => one(dynamic::integer(cx, call)),
        "QLinearConv" => one(qlinear::convolution(cx, call)),
        "QLinearMatMul" => one(qlinear::product(cx, call)),
        "Attention" => attention::standard(cx, call),
        "RotaryEmbedding" => one(rotary::rotary(cx, call)),
        "RNN" | "GRU" | "LSTM" => recurrent::recurrent(cx, call),
        "Pad" => one(pad::pad(cx, call)),
        "Resize" | "Upsample" => one(resize::resize(cx, call)),
        "DFT" => one(spectrum::dft(cx, call)),
        "STFT" => one(spectrum::stft(cx, call)),
        _ => rarer(cx, call),
    }
}

/// Translates operators that few files have.
fn rarer(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let one = |value: Res<Value>| value.map(|v| vec![v]);
    match call.op {
        "MaxUnpool" => one(pool::unpool(cx, call)),
        "Col2Im" => one(regions::blocks(cx, call)),
        "CenterCropPad" => one(regions::center(cx, call)),
        "AffineGrid" => one(regions::affine_grid(cx, call)),
        "RoiAlign" => one(regions::roi_align(cx, call)),
        "DeformConv" => one(regions::deformed(cx, call)),
        "MeanVarianceNormalization" => one(norm::mean_variance(cx, call)),
        "SwiGLU" => one(activation::gated_swish(cx, call)),
        "Det" => one(cx.apply(call.name, ascribe_core::ops::Determinant, &[call.input(0)?], Elem::Float)),
        "EyeLike" => one(positions::eye(cx, call)),
        "Compress" => one(index::compress(cx, call)),
        "CumProd" => one(sequential::products(cx, call)),
        "ReverseSequence" => one(sequential::reversed(cx, call)),
        "CausalConvWithState" => sequential::causal_conv(cx, call),
        "LinearAttention" => sequential::linear_attention(cx, call),
        _ => Err("the operator is not supported".into()),
    }
}

/// Translates an operator of the domain `com.microsoft`.
fn microsoft(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let one = |value: Res<Value>| value.map(|v| vec![v]);
    check_types(call)?;
    match call.op {
        "Attention" => attention::microsoft::projected(cx, call),
        "MultiHeadAttention" => attention::microsoft::multi_head(cx, call),
        "GroupQueryAttention" => attention::microsoft::grouped_query(cx, call),
        "RotaryEmbedding" => one(rotary::rotary(cx, call)),
        "FusedGemm" => one(fused::fused_gemm(cx, call)),
        "NhwcConv" | "NhwcFusedConv" | "NhwcMaxPool" => one(fused::channels_last(cx, call)),
        "FusedConv" => one(fused::fused_conv(cx, call)),
        "FusedMatMul" => one(fused::fused_matmul(cx, call)),
        "Gelu" | "BiasGelu" | "FastGelu" | "QuickGelu" => one(fused::gelu(cx, call)),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => fused::skip_norm(cx, call),
        "EmbedLayerNormalization" => fused::embed_norm(cx, call),
        "DynamicQuantizeMatMul" => one(dynamic::rounded_matmul(cx, call)),
        "MatMulIntegerToFloat" => one(dynamic::integer_matmul(cx, call)),
        "DynamicQuantizeLSTM" => recurrent::quantized(cx, call),
        "QGemm" => one(qlinear::gemm(cx, call)),
        "QLinearAdd" | "QLinearMul" => one(qlinear::binary(cx, call)),
        "QLinearLeakyRelu" | "QLinearSigmoid" => one(qlinear::activation(cx, call)),
        "QLinearGlobalAveragePool" => one(qlinear::global_average(cx, call)),
        "LayerNormalization" => one(norm::layer(cx, call)),
        "SimplifiedLayerNormalization" => one(norm::rms(cx, call)),
        _ => Err("the operator is not supported".into()),
    }
}

/// Checks that only operators that move or compare values have texts as operands.
fn check_text(call: &Call<'_>) -> Res<()> {
    const ANY: &[&str] = &[
        "Cast",
        "Concat",
        "Equal",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ];
    let text = |value: &Value| value.elem().is_ok_and(|elem| elem == Elem::Text);
    if !call.inputs.iter().flatten().any(text) || (ANY.contains(&call.op) && !call.microsoft) {
        return Ok(());
    }
    Err("is supported on numbers, not on text".into())
}

/// Checks that operands are floating-point numbers where the operators of the graph need them to be.
fn check_types(call: &Call<'_>) -> Res<()> {
    const ANY: &[&str] = &[
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "Attention",
        "AffineGrid",
        "Cast",
        "CastLike",
        "Clip",
        "CenterCropPad",
        "Compress",
        "Col2Im",
        "Concat",
        "ConvInteger",
        "ConstantOfShape",
        "CumProd",
        "CumSum",
        "DFT",
        "Div",
        "Dropout",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "Equal",
        "Expand",
        "EyeLike",
        "Flatten",
        "GRU",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GroupQueryAttention",
        "GreaterOrEqual",
        "Identity",
        "LSTM",
        "Less",
        "LessOrEqual",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "Max",
        "MaxUnpool",
        "Min",
        "Mod",
        "Mul",
        "MultiHeadAttention",
        "Not",
        "OneHot",
        "Or",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "RNN",
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "Reshape",
        "Resize",
        "STFT",
        "ReverseSequence",
        "RoiAlign",
        "RotaryEmbedding",
        "Scatter",
        "ScatterElements",
        "ScatterND",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Sum",
        "Tile",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Upsample",
        "Where",
        "Xor",
    ];
    if ANY.contains(&call.op) || quantized::READING.contains(&call.op) {
        return Ok(());
    }
    // The axes of a reduction are integers.
    let limit = if call.op.starts_with("Reduce") { 1 } else { call.inputs.len() };
    for (i, value) in call.inputs.iter().take(limit).enumerate() {
        let Some(value) = value.as_ref().filter(|v| v.elem().is_ok_and(|e| e != Elem::Float)) else {
            continue;
        };
        let name = value.known().map(|k| format!(" ('{}')", k.name)).unwrap_or_default();
        return Err(format!("input {i}{name} does not hold floating-point numbers").into());
    }
    Ok(())
}
