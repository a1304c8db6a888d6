//! Translates ONNX operators to nodes of the graph, with one function per family of operators.

mod activation;
mod arithmetic;
mod conv;
mod einsum;
mod index;
mod linear;
mod norm;
mod pad;
mod pool;
mod reduce;
mod resize;
mod shape;
mod softmax;
mod window;

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
    let one = |value: Res<Value>| value.map(|v| vec![v]);
    if only_constants(call.op) {
        return Err("is supported only on constants and shapes".into());
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
        "RMSNormalization" => one(norm::rms(cx, call)),
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
        "MaxPool" | "AveragePool" => one(pool::pool(cx, call)),
        "GlobalAveragePool" | "GlobalMaxPool" => one(pool::global(cx, call)),
        op if op.starts_with("Reduce") => one(reduce::reduce(cx, call)),
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
        "Pad" => one(pad::pad(cx, call)),
        "Resize" | "Upsample" => one(resize::resize(cx, call)),
        _ => Err("the operator is not supported".into()),
    }
}

/// Checks that operands are floating-point numbers where the operators of the graph need them to be.
fn check_types(call: &Call<'_>) -> Res<()> {
    const ANY: &[&str] = &[
        "Add",
        "And",
        "Cast",
        "CastLike",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Dropout",
        "Equal",
        "Expand",
        "Flatten",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mul",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Sum",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Upsample",
        "Where",
    ];
    if ANY.contains(&call.op) {
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
