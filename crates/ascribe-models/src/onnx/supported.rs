//! The operators, attributes and modes that can be loaded.

use super::attributes::Attributes;

/// An operator that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedOperator {
    /// The name in the default operator set.
    pub name: &'static str,
    /// The attributes that are supported.
    pub attributes: &'static [&'static str],
    /// Attributes of which only some values are supported, with these values.
    pub values: &'static [(&'static str, &'static [&'static str])],
    /// Further restrictions; empty if there are none.
    pub limits: &'static str,
}

const AUTO_PAD: (&str, &[&str]) = ("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]);
const CONSTANTS: &str = "only on constants and shapes";

macro_rules! table {
    ($($name:literal $([$($attribute:literal),*])? $({$($value:expr),*})? $(: $limits:expr)?;)*) => {
        &[$(SupportedOperator {
            name: $name,
            attributes: &[$($($attribute),*)?],
            values: &[$($($value),*)?],
            limits: concat_or_empty!($($limits)?),
        }),*]
    };
}

macro_rules! concat_or_empty {
    () => {
        ""
    };
    ($limits:expr) => {
        $limits
    };
}

/// The operators that can be loaded, in alphabetical order.
pub const SUPPORTED: &[SupportedOperator] = table! {
    "Abs";
    "Add" ["axis", "broadcast"] : "no legacy broadcasting";
    "And";
    "AveragePool" ["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "one and two dimensions";
    "BatchNormalization" ["epsilon", "momentum", "spatial", "training_mode"] : "inference, one mean per channel";
    "Cast" ["round_mode", "saturate", "to"];
    "CastLike" ["round_mode", "saturate"];
    "Ceil";
    "Celu" ["alpha"];
    "Clip" ["max", "min"];
    "Concat" ["axis"] : "not along the batch";
    "Constant" ["value", "value_float", "value_floats", "value_int", "value_ints"];
    "ConstantOfShape" ["value"];
    "Conv" ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "one and two dimensions";
    "ConvTranspose" ["auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape", "pads", "strides"] {AUTO_PAD} : "one and two dimensions";
    "Cos";
    "CumSum" ["exclusive", "reverse"] : CONSTANTS;
    "DepthToSpace" ["blocksize", "mode"] {("mode", &["DCR", "CRD"])};
    "Div" ["axis", "broadcast"];
    "Dropout" ["ratio", "seed", "is_test"] : "inference; the mask is not available";
    "Einsum" ["equation"] : "one or two operands, each index once per operand";
    "Elu" ["alpha"];
    "Equal";
    "Erf";
    "Exp";
    "Expand";
    "Flatten" ["axis"];
    "Floor";
    "Gather" ["axis"] : "constant indices, or dynamic ones into the rows of a constant table";
    "GatherElements" ["axis"] : CONSTANTS;
    "GatherND" ["batch_dims"] : CONSTANTS;
    "Gelu" ["approximate"] {("approximate", &["none", "tanh"])};
    "Gemm" ["alpha", "beta", "transA", "transB", "broadcast"];
    "GlobalAveragePool";
    "GlobalMaxPool";
    "Greater";
    "GreaterOrEqual";
    "GroupNormalization" ["epsilon", "num_groups", "stash_type"];
    "HardSigmoid" ["alpha", "beta"];
    "HardSwish";
    "Identity";
    "If" ["else_branch", "then_branch"] : "constant conditions";
    "InstanceNormalization" ["epsilon"];
    "LRN" ["alpha", "beta", "bias", "size"];
    "LayerNormalization" ["axis", "epsilon", "stash_type"] : "not over the batch; mean and deviation are not available";
    "LeakyRelu" ["alpha"];
    "Less";
    "LessOrEqual";
    "Log";
    "LogSoftmax" ["axis"] : "not over the batch";
    "LpNormalization" ["axis", "p"];
    "MatMul";
    "Max";
    "MaxPool" ["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"] {AUTO_PAD} : "one and two dimensions; the indices are not available";
    "Mean";
    "Min";
    "Mish";
    "Mod" ["fmod"] : CONSTANTS;
    "Mul" ["axis", "broadcast"];
    "Neg";
    "NonZero" : CONSTANTS;
    "Not";
    "OneHot" ["axis"] : CONSTANTS;
    "Or";
    "PRelu";
    "Pad" ["mode", "pads", "value"] {("mode", &["constant", "reflect", "edge", "wrap"])} : "not along the batch";
    "Pow";
    "RMSNormalization" ["axis", "epsilon", "stash_type"] : "not over the batch";
    "Range" : CONSTANTS;
    "Reciprocal";
    "ReduceL1" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceL2" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceMax" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceMean" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceMin" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceProd" ["axes", "keepdims", "noop_with_empty_axes"] : CONSTANTS;
    "ReduceSum" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceSumSquare" ["axes", "keepdims", "noop_with_empty_axes"];
    "Relu";
    "Reshape" ["allowzero", "shape"];
    "Resize" ["antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy", "mode", "nearest_mode"] {
        ("mode", &["nearest", "linear", "cubic"]),
        ("coordinate_transformation_mode", &["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]),
        ("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
        ("keep_aspect_ratio_policy", &["stretch"])
    } : "without antialiasing, spatial axes";
    "Round";
    "ScatterElements" ["axis", "reduction"] : CONSTANTS;
    "ScatterND" ["reduction"] : CONSTANTS;
    "Selu" ["alpha", "gamma"];
    "Shape" ["end", "start"];
    "Sigmoid";
    "Sign";
    "Sin";
    "Size";
    "Slice" ["axes", "ends", "starts"] : "not along the batch";
    "Softmax" ["axis"] : "not over the batch";
    "Softplus";
    "Softsign";
    "SpaceToDepth" ["blocksize"];
    "Split" ["axis", "num_outputs", "split"] : "not along the batch";
    "Sqrt";
    "Squeeze" ["axes"];
    "Sub" ["axis", "broadcast"];
    "Sum";
    "Swish" ["alpha"];
    "Tanh";
    "ThresholdedRelu" ["alpha"];
    "Tile";
    "Transpose" ["perm"];
    "Trilu" ["upper"] : CONSTANTS;
    "Unsqueeze" ["axes"];
    "Upsample" ["height_scale", "mode", "scales", "width_scale"] {("mode", &["nearest", "linear", "bilinear"])};
    "Where";
    "Xor" : CONSTANTS;
};

/// The operators that can be loaded, in alphabetical order, with their restrictions.
///
/// ```
/// assert!(ascribe_models::onnx::supported().iter().any(|op| op.name == "Conv"));
/// ```
pub fn supported() -> &'static [SupportedOperator] {
    SUPPORTED
}

/// Whether an operator can be loaded only where its operands are constants or shapes.
pub(super) fn only_constants(op: &str) -> bool {
    SUPPORTED.iter().any(|s| s.name == op && s.limits == CONSTANTS)
}

/// Why a node cannot be loaded, as far as its operator and attributes tell.
pub(super) fn objection(domain: &str, op: &str, attributes: &Attributes) -> Option<String> {
    if !matches!(domain, "" | "ai.onnx") {
        return Some(format!("operators of the domain '{domain}' are not supported"));
    }
    let Some(found) = SUPPORTED.iter().find(|s| s.name == op) else {
        return Some("the operator is not supported".into());
    };
    for attribute in attributes.iter() {
        let name = attribute.name.as_deref().unwrap_or_default();
        if !found.attributes.contains(&name) {
            return Some(format!("attribute '{name}' is not supported"));
        }
        let allowed = found.values.iter().find(|(n, _)| *n == name);
        if let Some((_, allowed)) = allowed {
            let value =
                attribute.s.as_ref().map(|s| String::from_utf8_lossy(s).into_owned()).unwrap_or_default();
            // Some exporters write an empty string for the default.
            if !value.is_empty() && !allowed.contains(&value.as_str()) {
                return Some(format!("{name} '{value}' is not supported; expected one of {allowed:?}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_without_repetitions() {
        assert!(SUPPORTED.windows(2).all(|w| w[0].name < w[1].name));
    }
}
