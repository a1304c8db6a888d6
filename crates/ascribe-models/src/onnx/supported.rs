//! The operators, attributes and modes that can be loaded.

use super::attributes::Attributes;

/// An operator that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedOperator {
    /// The domain of the operator; empty for the default operator set.
    pub domain: &'static str,
    /// The name in its domain.
    pub name: &'static str,
    /// The attributes that are supported.
    pub attributes: &'static [&'static str],
    /// Attributes of which only some values are supported, with these values.
    pub values: &'static [(&'static str, &'static [&'static str])],
    /// Further restrictions; empty if there are none.
    pub limits: &'static str,
}

/// The domain of the operators of trees, linear models and the preparation of tables.
pub(super) const ML: &str = "ai.onnx.ml";
/// The domain of the operators into which onnxruntime fuses others.
pub(super) const MICROSOFT: &str = "com.microsoft";
const AUTO_PAD: (&str, &[&str]) = ("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]);
const DIRECTION: (&str, &[&str]) = ("direction", &["forward", "reverse", "bidirectional"]);
const RECURRENT: &str = "constant weights, not over the batch";
const REDUCTION: (&str, &[&str]) = ("reduction", &["none", "add", "mul", "max", "min"]);
const QUANTISED: &str = "constant scales; computed in floating point";
const CONSTANTS: &str = "only on constants and shapes";
const ONE_LENGTH: &str = "rows of numbers [N, F]";
const POST: (&str, &[&str]) = ("post_transform", &["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]);
const AGGREGATE: (&str, &[&str]) = ("aggregate_function", &["AVERAGE", "SUM", "MIN", "MAX"]);
const KERNEL: (&str, &[&str]) = ("kernel_type", &["LINEAR", "POLY", "RBF", "SIGMOID"]);

/// The first version of the default operator set of which all supported operators are.
pub(super) const FIRST_OPSET: i64 = 7;

macro_rules! table {
    ($($name:literal $(in $domain:ident)? $([$($attribute:literal),*])? $({$($value:expr),*})? $(: $limits:expr)?;)*) => {
        &[$(SupportedOperator {
            domain: value_or_empty!($($domain)?),
            name: $name,
            attributes: &[$($($attribute),*)?],
            values: &[$($($value),*)?],
            limits: value_or_empty!($($limits)?),
        }),*]
    };
}

macro_rules! value_or_empty {
    () => {
        ""
    };
    ($limits:expr) => {
        $limits
    };
}

/// The operators that can be loaded, in alphabetical order; those of the default operator set come first.
pub const SUPPORTED: &[SupportedOperator] = table! {
    "Abs";
    "Acos";
    "Acosh";
    "Add" ["axis", "broadcast"] : "no legacy broadcasting";
    "AffineGrid" ["align_corners"] : "constant sizes";
    "And";
    "ArgMax" ["axis", "keepdims", "select_last_index"] : "not along the batch";
    "ArgMin" ["axis", "keepdims", "select_last_index"] : "not along the batch";
    "Asin";
    "Asinh";
    "Atan";
    "Atanh";
    "Attention" ["is_causal", "kv_num_heads", "left_window_size", "q_num_heads", "qk_matmul_output_mode", "right_window_size", "scale", "softcap", "softmax_precision"];
    "AveragePool" ["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "one to three dimensions";
    "BatchNormalization" ["epsilon", "momentum", "spatial", "training_mode"] : "inference, one mean per channel";
    "BitwiseAnd" : CONSTANTS;
    "BitwiseOr" : CONSTANTS;
    "BitwiseXor" : CONSTANTS;
    "BlackmanWindow" ["output_datatype", "periodic"] : CONSTANTS;
    "Cast" ["round_mode", "saturate", "to"];
    "CastLike" ["round_mode", "saturate"];
    "CausalConvWithState" ["activation"];
    "Ceil";
    "Celu" ["alpha"];
    "CenterCropPad" ["axes"] : "constant sizes; not along the batch";
    "Clip" ["max", "min"];
    "Col2Im" ["dilations", "pads", "strides"] : "two dimensions";
    "Compress" ["axis"] : "constant conditions; not along the batch";
    "Concat" ["axis"] : "not along the batch";
    "ConcatFromSequence" ["axis", "new_axis"] : "not along the batch";
    "Constant" ["value", "value_float", "value_floats", "value_int", "value_ints"];
    "ConstantOfShape" ["value"];
    "Conv" ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "one to three dimensions";
    "ConvInteger" ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "constant zero points, or those of DynamicQuantizeLinear; computed in floating point";
    "ConvTranspose" ["auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape", "pads", "strides"] {AUTO_PAD} : "one to three dimensions";
    "Cos";
    "Cosh";
    "CumProd" ["exclusive", "reverse"] : "not along the batch";
    "CumSum" ["exclusive", "reverse"] : "not along the batch";
    "DFT" ["axis", "inverse", "onesided"] : "constant lengths; not along the batch";
    "DeformConv" ["dilations", "group", "kernel_shape", "offset_group", "pads", "strides"] : "two dimensions";
    "DepthToSpace" ["blocksize", "mode"] {("mode", &["DCR", "CRD"])};
    "DequantizeLinear" ["axis"] : QUANTISED;
    "Det" : "sides of up to 32";
    "Div" ["axis", "broadcast"];
    "Dropout" ["ratio", "seed", "is_test"] : "inference; the mask is not available";
    "DynamicQuantizeLinear" : "a scale for each sample";
    "Einsum" ["equation"] : "not summing over the batch";
    "Elu" ["alpha"];
    "Equal";
    "Erf";
    "Exp";
    "Expand";
    "EyeLike" ["dtype", "k"];
    "Flatten" ["axis"];
    "Floor";
    "GRU" ["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout", "linear_before_reset"] {DIRECTION} : RECURRENT;
    "Gather" ["axis"] : "constant indices, or dynamic ones into the rows of a constant table";
    "GatherElements" ["axis"] : "not along the batch";
    "GatherND" ["batch_dims"] : "each sample from itself";
    "Gelu" ["approximate"] {("approximate", &["none", "tanh"])};
    "Gemm" ["alpha", "beta", "transA", "transB", "broadcast"];
    "GlobalAveragePool";
    "GlobalLpPool" ["p"];
    "GlobalMaxPool";
    "Greater";
    "GreaterOrEqual";
    "GridSample" ["align_corners", "mode", "padding_mode"] {
        ("mode", &["linear", "nearest", "cubic", "bilinear", "bicubic"]),
        ("padding_mode", &["zeros", "border", "reflection"])
    };
    "GroupNormalization" ["epsilon", "num_groups", "stash_type"];
    "HammingWindow" ["output_datatype", "periodic"] : CONSTANTS;
    "HannWindow" ["output_datatype", "periodic"] : CONSTANTS;
    "HardSigmoid" ["alpha", "beta"];
    "HardSwish";
    "Hardmax" ["axis"] : "not along the batch; along one axis";
    "Identity";
    "If" ["else_branch", "then_branch"] : "branches with the same shapes where the condition is computed";
    "InstanceNormalization" ["epsilon"];
    "IsInf" ["detect_negative", "detect_positive"];
    "IsNaN";
    "LRN" ["alpha", "beta", "bias", "size"];
    "LSTM" ["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget", "layout"] {DIRECTION} : RECURRENT;
    "LayerNormalization" ["axis", "epsilon", "stash_type"] : "not over the batch; mean and deviation are not available";
    "LeakyRelu" ["alpha"];
    "Less";
    "LessOrEqual";
    "LinearAttention" ["chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"];
    "Log";
    "LogSoftmax" ["axis"] : "not over the batch";
    "Loop" ["body"] : "the number of iterations follows from constants and shapes";
    "LpNormalization" ["axis", "p"] : "not over the batch";
    "LpPool" ["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"] {AUTO_PAD} : "one to three dimensions";
    "MatMul";
    "MatMulInteger" : "constant zero points, or those of DynamicQuantizeLinear; computed in floating point";
    "Max";
    "MaxPool" ["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"] {AUTO_PAD} : "one to three dimensions; indices in up to two";
    "MaxUnpool" ["kernel_shape", "pads", "strides"];
    "Mean";
    "MeanVarianceNormalization" ["axes"] : "not over the batch";
    "MelWeightMatrix" ["output_datatype"] : CONSTANTS;
    "Min";
    "Mish";
    "Mod" ["fmod"];
    "Mul" ["axis", "broadcast"];
    "Neg";
    "NonZero" : CONSTANTS;
    "Not";
    "OneHot" ["axis"] : "constant depth and values";
    "Optional" ["type"];
    "OptionalGetElement";
    "OptionalHasElement";
    "Or";
    "PRelu";
    "Pad" ["mode", "pads", "value"] {("mode", &["constant", "reflect", "edge", "wrap"])} : "not along the batch";
    "Pow";
    "QLinearConv" ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD} : QUANTISED;
    "QLinearMatMul" : QUANTISED;
    "QuantizeLinear" ["axis", "output_dtype", "saturate"] : QUANTISED;
    "RMSNormalization" ["axis", "epsilon", "stash_type"] : "not over the batch";
    "RNN" ["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout"] {DIRECTION} : RECURRENT;
    "Range" ["stash_type"] : CONSTANTS;
    "Reciprocal";
    "ReduceL1" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceL2" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceLogSum" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceLogSumExp" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceMax" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceMean" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceMin" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceProd" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceSum" ["axes", "keepdims", "noop_with_empty_axes"];
    "ReduceSumSquare" ["axes", "keepdims", "noop_with_empty_axes"];
    "Relu";
    "Reshape" ["allowzero", "shape"];
    "Resize" ["antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy", "mode", "nearest_mode"] {
        ("mode", &["nearest", "linear", "cubic"]),
        ("coordinate_transformation_mode", &["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]),
        ("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
        ("keep_aspect_ratio_policy", &["stretch"])
    } : "spatial axes";
    "ReverseSequence" ["batch_axis", "time_axis"];
    "RoiAlign" ["coordinate_transformation_mode", "mode", "output_height", "output_width", "sampling_ratio", "spatial_scale"] {("coordinate_transformation_mode", &["half_pixel", "output_half_pixel"]), ("mode", &["avg", "max"])} : "the same number of regions for each sample; constant numbers of samples";
    "RotaryEmbedding" ["interleaved", "num_heads", "rotary_embedding_dim"];
    "Round";
    "STFT" ["onesided"] : "constant windows and lengths";
    "Scan" ["body", "num_scan_inputs", "scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions"] : "from operator set 9 on, not over the batch";
    "Scatter" ["axis"] : "not along the batch";
    "ScatterElements" ["axis", "reduction"] {REDUCTION} : "not along the batch";
    "ScatterND" ["reduction"] {REDUCTION} : "each sample into itself";
    "Selu" ["alpha", "gamma"];
    "SequenceAt" : "constant positions";
    "SequenceConstruct";
    "SequenceEmpty" ["dtype"];
    "SequenceErase" : "constant positions";
    "SequenceInsert" : "constant positions";
    "SequenceLength";
    "SequenceMap" ["body"];
    "Shape" ["end", "start"];
    "Shrink" ["bias", "lambd"];
    "Sigmoid";
    "Sign";
    "SimplifiedLayerNormalization" ["axis", "epsilon", "stash_type"] : "not over the batch";
    "Sin";
    "Sinh";
    "Size";
    "Slice" ["axes", "ends", "starts"] : "not along the batch";
    "Softmax" ["axis"] : "not over the batch";
    "Softplus";
    "Softsign";
    "SpaceToDepth" ["blocksize", "mode"] {("mode", &["DCR", "CRD"])};
    "Split" ["axis", "num_outputs", "split"] : "not along the batch";
    "SplitToSequence" ["axis", "keepdims"] : "not along the batch";
    "Sqrt";
    "Squeeze" ["axes"];
    "Sub" ["axis", "broadcast"];
    "Sum";
    "SwiGLU" ["alpha"];
    "Swish" ["alpha"];
    "Tan";
    "Tanh";
    "ThresholdedRelu" ["alpha"];
    "Tile";
    "TopK" ["axis", "k", "largest", "sorted"] : "constant k, not along the batch";
    "Transpose" ["perm"];
    "Trilu" ["upper"];
    "Unsqueeze" ["axes"];
    "Upsample" ["height_scale", "mode", "scales", "width_scale"] {("mode", &["nearest", "linear", "bilinear"])};
    "Where";
    "Xor";
    "ArrayFeatureExtractor" in ML;
    "Binarizer" in ML ["threshold"];
    "CategoryMapper" in ML ["cats_int64s", "cats_strings", "default_int64", "default_string"];
    "FeatureVectorizer" in ML ["inputdimensions"];
    "Imputer" in ML ["imputed_value_floats", "imputed_value_int64s", "replaced_value_float", "replaced_value_int64"];
    "LabelEncoder" in ML ["classes_strings", "default_float", "default_int64", "default_string", "default_tensor", "keys_floats", "keys_int64s", "keys_strings", "keys_tensor", "values_floats", "values_int64s", "values_strings", "values_tensor"];
    "LinearClassifier" in ML ["classlabels_ints", "classlabels_strings", "coefficients", "intercepts", "multi_class", "post_transform"] {POST} : ONE_LENGTH;
    "LinearRegressor" in ML ["coefficients", "intercepts", "post_transform", "targets"] {POST} : ONE_LENGTH;
    "Normalizer" in ML ["norm"] {("norm", &["MAX", "L1", "L2"])};
    "OneHotEncoder" in ML ["cats_int64s", "cats_strings", "zeros"];
    "SVMClassifier" in ML ["classlabels_ints", "classlabels_strings", "coefficients", "kernel_params", "kernel_type", "post_transform", "prob_a", "prob_b", "rho", "support_vectors", "vectors_per_class"] {KERNEL, POST} : ONE_LENGTH;
    "SVMRegressor" in ML ["coefficients", "kernel_params", "kernel_type", "n_supports", "one_class", "post_transform", "rho", "support_vectors"] {KERNEL, POST} : ONE_LENGTH;
    "Scaler" in ML ["offset", "scale"];
    "TreeEnsemble" in ML ["aggregate_function", "leaf_targetids", "leaf_weights", "membership_values", "n_targets", "nodes_falseleafs", "nodes_falsenodeids", "nodes_featureids", "nodes_hitrates", "nodes_missing_value_tracks_true", "nodes_modes", "nodes_splits", "nodes_trueleafs", "nodes_truenodeids", "post_transform", "tree_roots"] : ONE_LENGTH;
    "TreeEnsembleClassifier" in ML ["base_values", "base_values_as_tensor", "class_ids", "class_nodeids", "class_treeids", "class_weights", "class_weights_as_tensor", "classlabels_int64s", "classlabels_strings", "nodes_falsenodeids", "nodes_featureids", "nodes_hitrates", "nodes_hitrates_as_tensor", "nodes_missing_value_tracks_true", "nodes_modes", "nodes_nodeids", "nodes_treeids", "nodes_truenodeids", "nodes_values", "nodes_values_as_tensor", "post_transform"] {POST} : ONE_LENGTH;
    "TreeEnsembleRegressor" in ML ["aggregate_function", "base_values", "base_values_as_tensor", "n_targets", "nodes_falsenodeids", "nodes_featureids", "nodes_hitrates", "nodes_hitrates_as_tensor", "nodes_missing_value_tracks_true", "nodes_modes", "nodes_nodeids", "nodes_treeids", "nodes_truenodeids", "nodes_values", "nodes_values_as_tensor", "post_transform", "target_ids", "target_nodeids", "target_treeids", "target_weights", "target_weights_as_tensor"] {AGGREGATE, POST} : ONE_LENGTH;
    "ZipMap" in ML ["classlabels_int64s", "classlabels_strings"] : "the table of its values, with the names of the classes";
    "Attention" in MICROSOFT ["do_rotary", "mask_filter_value", "num_heads", "past_present_share_buffer", "qkv_hidden_sizes", "rotary_embedding_dim", "scale", "unidirectional"] : "constant weights; without rotary positions and shared buffers";
    "BiasGelu" in MICROSOFT;
    "DynamicQuantizeLSTM" in MICROSOFT ["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget"] {DIRECTION} : "a scale for each sample; constant weights";
    "DynamicQuantizeMatMul" in MICROSOFT : "a scale for each sample; constant scales of the weight";
    "EmbedLayerNormalization" in MICROSOFT ["epsilon"];
    "FastGelu" in MICROSOFT;
    "FusedConv" in MICROSOFT ["activation", "activation_params", "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD, ("activation", &["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid"])};
    "FusedGemm" in MICROSOFT ["activation", "activation_alpha", "alpha", "beta", "transA", "transB"] {("activation", &["Relu", "Tanh", "Sigmoid", "LeakyRelu"])};
    "FusedMatMul" in MICROSOFT ["alpha", "transA", "transB", "transBatchA", "transBatchB"] : "batches are not transposed";
    "Gelu" in MICROSOFT;
    "GroupQueryAttention" in MICROSOFT ["do_rotary", "kv_num_heads", "local_window_size", "num_heads", "rotary_interleaved", "scale", "smooth_softmax", "softcap"] : "a prompt without past state";
    "LayerNormalization" in MICROSOFT ["axis", "epsilon", "stash_type"] : "not over the batch; mean and deviation are not available";
    "MatMulIntegerToFloat" in MICROSOFT : "constant scales, or those of DynamicQuantizeLinear";
    "MultiHeadAttention" in MICROSOFT ["mask_filter_value", "num_heads", "scale", "unidirectional"];
    "NhwcConv" in MICROSOFT ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "two dimensions";
    "NhwcFusedConv" in MICROSOFT ["activation", "activation_params", "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "two dimensions";
    "NhwcMaxPool" in MICROSOFT ["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"] {AUTO_PAD} : "two dimensions";
    "QGemm" in MICROSOFT ["alpha", "transA", "transB"] : QUANTISED;
    "QLinearAdd" in MICROSOFT : QUANTISED;
    "QLinearGlobalAveragePool" in MICROSOFT ["channels_last"] : "constant scales; computed in floating point, channels first";
    "QLinearLeakyRelu" in MICROSOFT ["alpha"] : QUANTISED;
    "QLinearMul" in MICROSOFT : QUANTISED;
    "QLinearSigmoid" in MICROSOFT : QUANTISED;
    "QuickGelu" in MICROSOFT ["alpha"];
    "RotaryEmbedding" in MICROSOFT ["interleaved", "num_heads", "rotary_embedding_dim"];
    "SimplifiedLayerNormalization" in MICROSOFT ["axis", "epsilon", "stash_type"] : "not over the batch";
    "SkipLayerNormalization" in MICROSOFT ["epsilon"] : "mean and deviation are not available";
    "SkipSimplifiedLayerNormalization" in MICROSOFT ["epsilon"] : "mean and deviation are not available";
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
    SUPPORTED.iter().any(|s| s.domain.is_empty() && s.name == op && s.limits == CONSTANTS)
}

/// Why operators of the default set cannot be loaded, by name.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &[
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ],
        "draws random numbers, so that what is explained would change from run to run",
    ),
    (
        &["NonMaxSuppression", "Unique"],
        "how many rows it returns depends on the values, but a graph has results of fixed shapes; choose an output before it",
    ),
    (
        &["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"],
        "is a loss for training; choose an output before it",
    ),
    (
        &["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"],
        "works on text; prepare the text outside of the graph",
    ),
    (&["ImageDecoder"], "decodes a compressed image; decode the image outside of the graph"),
    (
        &["BitCast", "BitShift", "BitwiseNot"],
        "works on the bits of numbers, whose width is not kept: integers have 64 bits here",
    ),
    (&["MaxRoiPool"], "is not supported; RoiAlign is"),
    (&["TensorScatter"], "writes into a cache of earlier calls; export the model without a cache"),
];

/// Why a node cannot be loaded, as far as its operator and attributes tell.
pub(super) fn objection(domain: &str, op: &str, attributes: &Attributes) -> Option<String> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    if !matches!(domain, "" | MICROSOFT | ML) {
        return Some(format!("operators of the domain '{domain}' are not supported"));
    }
    let Some(found) = SUPPORTED.iter().find(|s| s.domain == domain && s.name == op) else {
        let refused = REFUSED.iter().find(|(ops, _)| domain.is_empty() && ops.contains(&op));
        return Some(refused.map_or("the operator is not supported", |(_, why)| why).into());
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

/// Why a node of the default operator set cannot be loaded from a file of before operator set 7, which only files with operators
/// of `ai.onnx.ml` may be: the operators that have changed since then are not supported.
pub(super) fn old_objection(domain: &str, op: &str, opset: i64) -> Option<String> {
    const SAME: &[&str] = &[
        "Abs",
        "ArgMax",
        "ArgMin",
        "Cast",
        "Concat",
        "Constant",
        "Exp",
        "Flatten",
        "Floor",
        "Identity",
        "Log",
        "MatMul",
        "Neg",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    ];
    let old = matches!(domain, "" | "ai.onnx") && opset < FIRST_OPSET && !SAME.contains(&op);
    old.then(|| format!("is of operator set {opset}; this operator is supported from {FIRST_OPSET} on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_without_repetitions() {
        assert!(SUPPORTED.windows(2).all(|w| (w[0].domain, w[0].name) < (w[1].domain, w[1].name)));
    }

    #[test]
    fn what_cannot_be_supported_says_why() {
        let why = |op: &str| objection("", op, &Attributes::default()).unwrap();
        assert!(why("RandomNormal").contains("random"));
        assert!(why("NonMaxSuppression").contains("fixed shapes"));
        assert_eq!(why("Unknown"), "the operator is not supported");
        assert!(REFUSED.iter().flat_map(|(ops, _)| *ops).all(|op| SUPPORTED.iter().all(|s| s.name != *op)));
    }
}
