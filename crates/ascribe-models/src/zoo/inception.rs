//! What both Inception networks share: their layer, and the scaling of the input.

use ascribe_core::ops::ScaleShift;
use ascribe_core::{Device, NodeId, Tensor};

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-3;

/// Mean and standard deviation of ImageNet's red, green and blue.
const IMAGENET: [(f64, f64); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Parameters of the auxiliary classifiers, which only training uses.
pub(super) fn is_auxiliary(parameter: &str) -> bool {
    ["aux1.", "aux2.", "AuxLogits."].iter().any(|head| parameter.starts_with(head))
}

/// Convolution, batch norm, ReLU; the ReLU carries the layer's name, as its output is the layer's.
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

/// From pixels that are normalised by ImageNet's mean μ and deviation σ to the interval \[−1, 1\] that the
/// published weights were trained on: `x_c · σ_c / 0.5 + (μ_c − 0.5) / 0.5`.
pub(super) fn transform_input(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let scale = IMAGENET.map(|(_, deviation)| deviation / 0.5);
    let shift = IMAGENET.map(|(mean, _)| (mean - 0.5) / 0.5);
    let scale = net.constant("transform_input.scale", Tensor::new(&scale, &Device::Cpu)?);
    let shift = net.constant("transform_input.shift", Tensor::new(&shift, &Device::Cpu)?);
    net.op("transform_input", ScaleShift, &[x, scale, shift])
}
