//! What GoogLeNet and Inception-v3 share: their convolution layer, and the conversion of the input.

use ascribe_core::ops::ScaleShift;
use ascribe_core::{Device, NodeId, Tensor};

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-3;

/// Mean and standard deviation of red, green and blue in ImageNet.
const IMAGENET: [(f64, f64); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Whether a parameter belongs to an auxiliary classifier, which is only used in training.
pub(super) fn is_auxiliary(parameter: &str) -> bool {
    ["aux1.", "aux2.", "AuxLogits."].iter().any(|head| parameter.starts_with(head))
}

/// Convolution, batch norm, ReLU. The node of the ReLU has the name of the layer, since its output is that of the
/// layer.
pub(super) fn conv_norm_relu(
    net: &mut Net<'_>,
    name: &str,
    x: NodeId,
    cin: usize,
    cout: usize,
    spec: ConvSpec,
) -> Result<NodeId> {
    let x = net.conv(&format!("{name}.conv"), x, cin, cout, spec)?;
    let x = net.batch_norm(&format!("{name}.bn"), x, cout, EPSILON)?;
    net.relu(name, x)
}

/// Converts pixels that are normalised with ImageNet's mean μ and standard deviation σ to the interval \[−1, 1\] for
/// which the published weights were trained: `x_c · σ_c / 0.5 + (μ_c − 0.5) / 0.5`.
pub(super) fn transform_input(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let scale = IMAGENET.map(|(_, deviation)| deviation / 0.5);
    let shift = IMAGENET.map(|(mean, _)| (mean - 0.5) / 0.5);
    let scale = net.constant("transform_input.scale", Tensor::new(&scale, &Device::Cpu)?);
    let shift = net.constant("transform_input.shift", Tensor::new(&shift, &Device::Cpu)?);
    net.op("transform_input", ScaleShift, &[x, scale, shift])
}
